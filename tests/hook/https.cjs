'use strict';
// TLS ends in front of us: an https server gets plain HTTP and believes that it was secure.
const https = require('https');

const server = https.createServer({}, (req, res) => {
  const { remoteAddress, encrypted } = req.socket;
  const { port } = server.address();
  res.end(JSON.stringify({ pid: process.pid, port, remoteAddress, encrypted }));
});
server.listen(3001);
