'use strict';
// A second server on a port of its own. All workers ask for that port; one can have it.
const http = require('http');

const server = http.createServer((req, res) => {
  const { remoteAddress } = req.socket;
  res.end(JSON.stringify({ pid: process.pid, port: server.address().port, remoteAddress }));
});
const metrics = http.createServer((req, res) => res.end('up 1\n'));
server.listen(3001, () => metrics.listen(Number(process.env.METRICS_PORT), '127.0.0.1'));
