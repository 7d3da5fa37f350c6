'use strict';
const cluster = require('cluster');
const http = require('http');

if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
  cluster.on('exit', () => cluster.fork());
} else {
  const server = http.createServer((req, res) => {
    const { remoteAddress } = req.socket;
    const { port } = server.address();
    if (req.url === '/die') res.end(() => process.exit(1));
    else if (req.url === '/die-all') process.kill(process.ppid, 'SIGUSR2');
    else res.end(JSON.stringify({ pid: process.pid, port, remoteAddress, worker: cluster.worker.id }));
  });
  server.listen(3001);
}
