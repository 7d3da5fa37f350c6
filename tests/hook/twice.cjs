'use strict';
// Two servers on one port, as of an app whose start has run twice. The first one serves.
const http = require('http');

const serve = (name) => {
  const server = http.createServer((req, res) => {
    const { remoteAddress } = req.socket;
    res.end(JSON.stringify({ pid: process.pid, port: server.address().port, remoteAddress, name }));
  });
  server.on('error', (error) => {
    console.error(error);
    process.exit(1);
  });
  server.listen({ port: 3001, host: '127.0.0.1' }, () => console.log(name, server.address()));
};
serve('first');
serve('second');
