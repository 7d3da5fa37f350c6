'use strict';
// Closes its server once and opens it again before it serves.
const http = require('http');

let rounds = 0;
const server = http.createServer((req, res) => {
  const { remoteAddress } = req.socket;
  res.end(JSON.stringify({ pid: process.pid, port: server.address().port, remoteAddress, rounds }));
});
server.on('listening', () => {
  rounds += 1;
  if (rounds === 1) server.close(() => server.listen(3001));
});
server.listen(3001);
