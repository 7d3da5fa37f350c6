'use strict';
const http = require('http');

const server = http.createServer((req, res) => {
  const { remoteAddress, remotePort, remoteFamily } = req.socket;
  const { port } = server.address();
  const leak = req.rawHeaders.concat(Object.keys(req.headers)).find((n) => /sidekeeper/i.test(n));
  res.end(JSON.stringify({ pid: process.pid, port, remoteAddress, remotePort, remoteFamily, leak }));
});
server.listen(3001);
