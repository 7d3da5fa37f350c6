// Preloaded into a sample app that names its port: without sidekeeper it would be the same port in
// every contestant. BENCH_LISTEN takes its place.
'use strict';

const net = require('node:net');

const { listen } = net.Server.prototype;
net.Server.prototype.listen = function listenElsewhere(port, ...rest) {
  const asked = process.env.BENCH_LISTEN;
  return listen.call(this, asked && typeof port === 'number' ? asked : port, ...rest);
};
