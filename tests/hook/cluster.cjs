'use strict';
// Forks a cluster of its own, as apps do that know nothing of a supervisor.
const cluster = require('cluster');
const http = require('http');

if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
  cluster.on('exit', () => cluster.fork());
} else {
  const server = http.createServer((req, res) => {
    const { remoteAddress } = req.socket;
    const { port } = server.address();
    const answer = { pid: process.pid, port, remoteAddress, worker: cluster.worker.id };
    setTimeout(() => res.end(JSON.stringify(answer)), 20);
  });
  server.listen(3001);
}
