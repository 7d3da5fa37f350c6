// Preloaded into Node's cluster, primary and workers alike: what one writes by hand so that rooms
// span the workers without sidekeeper.
'use strict';

const cluster = require('node:cluster');
const Module = require('node:module');
const { createAdapter, setupPrimary } = require('@socket.io/cluster-adapter');

if (cluster.isPrimary) setupPrimary();

const { _load: load } = Module;
Module._load = function loadWithAdapter(request, ...rest) {
  const found = load.call(this, request, ...rest);
  if (request !== 'socket.io' || cluster.isPrimary) return found;
  class Server extends found.Server {
    constructor(server, options) {
      super(server, { adapter: createAdapter(), ...options });
    }
  }
  return { ...found, Server };
};
