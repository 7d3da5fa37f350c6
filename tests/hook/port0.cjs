'use strict';
// Leaves the choice of the port to the system and tells the world what it has got.
const http = require('http');

const server = http.createServer((req, res) => {
  const { remoteAddress } = req.socket;
  const { PORT } = process.env;
  const { address, family, port } = server.address();
  res.end(JSON.stringify({ pid: process.pid, port, remoteAddress, address, family, PORT }));
});
server.listen(() => console.log(`http://localhost:${server.address().port}`));
