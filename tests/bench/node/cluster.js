// What people start without a proxy: Node's cluster, as many processes as asked.
// usage: node cluster.js WORKERS SCRIPT
'use strict';

const cluster = require('node:cluster');
const path = require('node:path');

const [workers, script] = process.argv.slice(2);
cluster.setupPrimary({ exec: path.resolve(script), args: [], execArgv: process.execArgv });
for (let count = 0; count < Number(workers); count += 1) cluster.fork();
// The benchmark ends the primary; no worker is to outlive it.
process.on('SIGTERM', () => {
  for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGKILL');
  process.exit();
});
