'use strict';
// The part of the hook that lets the workers of one app speak with each other. hook.cjs loads it
// when a worker first does so, or at once if the app's `broadcast` key asks for it; other workers
// never see it. sidekeeper passes the messages on; this file
//
// 1. carries binary data through the channel, which speaks JSON, for whatever adapter the app uses;
// 2. gives @socket.io/cluster-adapter 0.2 the number that it finds nowhere else;
// 3. makes Socket.IO's default adapter one that reaches all workers, if asked to.

const Module = require('module');
const { isAnyArrayBuffer } = require('util').types;

// ---- Binary data
//
// JSON.stringify would make {"type":"Buffer","data":[1,2,...]} of it, and nobody makes a Buffer of
// that again. So it is taken out of the message and sent beside it: a list of places and base64.
// Nothing in the app's data can be taken for such a list, for that is looked for in one place only.

const BINARY = 'sidekeeper_binary';

// The message itself when there is nothing binary in it, else a copy: it belongs to the app.
function pack(message) {
  const found = [];
  const rest = takeOut(message, [], [], found);
  return found.length === 0 ? message : { ...rest, [BINARY]: found };
}

// `above` are the objects that we are inside of: JSON.stringify is to complain of a circle, not we.
function takeOut(value, path, above, found) {
  const bytes = bytesOf(value);
  if (bytes !== null) {
    found.push([[...path], bytes.toString('base64')]);
    return null;
  }
  // What has a JSON form of its own (a Date) keeps it.
  if (typeof value.toJSON === 'function' || above.includes(value)) return value;
  above.push(value);
  let copy = null;
  const look = (key) => {
    const inner = value[key];
    if (typeof inner !== 'object' || inner === null) return;
    path.push(key);
    const left = takeOut(inner, path, above, found);
    path.pop();
    if (left === inner) return;
    copy ??= Array.isArray(value) ? [...value] : { ...value };
    copy[key] = left;
  };
  if (Array.isArray(value)) for (let i = 0; i < value.length; i++) look(i);
  else for (const key of Object.keys(value)) look(key);
  above.pop();
  return copy ?? value;
}

function bytesOf(value) {
  if (Buffer.isBuffer(value)) return value;
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return isAnyArrayBuffer(value) ? Buffer.from(value) : null;
}

// In place: a message that has just come belongs to nobody yet.
function unpack(message) {
  const found = message[BINARY];
  if (!Array.isArray(found)) return;
  delete message[BINARY];
  for (const [path, text] of found) {
    const last = path.pop();
    const holder = path.reduce((at, key) => (at && Object.hasOwn(at, key) ? at[key] : null), message);
    if (holder && Object.hasOwn(holder, last)) holder[last] = Buffer.from(text, 'base64');
  }
}

// ---- cluster-adapter 0.2
//
// It signs with cluster.worker.id, which exists only in a cluster's worker. Making the process one
// (NODE_UNIQUE_ID) would change what listen() does, in the app's other servers too, so it alone
// gets to see a worker. The process id is as good a number as any, and no other worker has it.

const standIn = { id: process.pid, process };

function workerFor(file) {
  return /[\\/]cluster-adapter[^\\/]*[\\/]dist[\\/]/.test(file) ? standIn : undefined;
}

// ---- An adapter for apps that choose none
//
// The messages are those of cluster-adapter 0.3, for they are socket.io-adapter's own. `cmd` keeps
// them out of the app's process.on('message'), and spares us a listener for it, which would keep
// the process alive.

const CMD = 'NODE_SIDEKEEPER_BROADCAST';
const SOURCE = '_sio_adapter';

// On a keeper of packets that have the same numbers at all workers: of each speaker the last one.
const SEEN = Symbol('sidekeeper.seen');
const SPEAKERS_MAX = 1_000;
const SPEAKER_LENGTH = 8;
const EVENT = 2; // of socket.io-parser's PacketType

const adapters = new Set();

// `send` is the process.send of before the hook.
function shareByDefault(send) {
  const say = (message) => {
    if (process.connected) send.call(process, { cmd: CMD, ...pack(message), source: SOURCE }, () => {});
    return Promise.resolve('');
  };
  process.on('internalMessage', (message) => {
    if (message?.cmd !== CMD) return;
    unpack(message);
    for (const adapter of adapters) {
      if (adapter.nsp.name === message.nsp) adapter.onMessage(message);
    }
  });
  // Socket.IO asks socket.io-adapter for its default. Only that request gets another answer: other
  // adapters, which extend the classes of that package, find it as it is.
  const facades = new Map();
  const { _load: load } = Module;
  Module._load = function (request, parent) {
    const loaded = Reflect.apply(load, this, arguments);
    const asker = parent?.filename ?? '';
    if (request !== 'socket.io-adapter' || !/[\\/]socket\.io[^\\/]*[\\/](dist|lib)[\\/]index\.js$/.test(asker)) {
      return loaded;
    }
    if (!facades.has(loaded)) facades.set(loaded, withSharedDefault(loaded, say));
    return facades.get(loaded);
  };
}

function withSharedDefault(original, say) {
  if (typeof original.ClusterAdapterWithHeartbeat !== 'function') {
    process.emitWarning(
      'broadcast needs socket.io-adapter 2.5.3 or newer, which Socket.IO brings from 4.6 on: ' +
        'here each worker reaches only its own clients',
      { type: 'SidekeeperWarning' },
    );
    return original;
  }
  const properties = Object.getOwnPropertyDescriptors(original);
  const Adapter = shared(original, say);
  properties.Adapter = { value: Adapter, enumerable: true };
  properties.SessionAwareAdapter = { value: recovering(original, Adapter), enumerable: true };
  return Object.create(Object.getPrototypeOf(original), properties);
}

function shared({ ClusterAdapterWithHeartbeat }, say) {
  return class SharedAdapter extends ClusterAdapterWithHeartbeat {
    constructor(nsp) {
      super(nsp, {});
      // An app whose server is closed must be able to end.
      this.cleanupTimer.unref();
      adapters.add(this);
      // Older versions of Socket.IO do not call it. Twice does no harm.
      this.init();
    }

    scheduleHeartbeat() {
      super.scheduleHeartbeat();
      this.heartbeatTimer.unref();
    }

    doPublish(message) {
      return say(message);
    }

    doPublishResponse(requesterUid, response) {
      return say({ ...response, requesterUid });
    }

    close() {
      adapters.delete(this);
      return super.close();
    }
  };
}

// With connectionStateRecovery: what a client has missed is kept by every worker, under the same
// number everywhere, so that the one that it comes back to can make up its list from its own and from
// that of the worker it was at (recovery.cjs). The keeper is Socket.IO's own adapter for it.
function recovering({ Adapter, SessionAwareAdapter, MessageType }, SharedAdapter) {
  return class RecoveringAdapter extends SharedAdapter {
    constructor(nsp) {
      super(nsp);
      this.keeper = new SessionAwareAdapter(nsp);
      this.keeper.rooms = this.rooms;
      this.keeper.sids = this.sids;
      this.keeper[SEEN] = new Map();
      this.speaker = this.uid.slice(0, SPEAKER_LENGTH);
      this.said = 0;
    }

    persistSession(session) {
      return this.keeper.persistSession(session);
    }

    restoreSession(id, offset) {
      return this.keeper.restoreSession(id, offset);
    }

    broadcast(packet, opts) {
      const { rooms, except, flags } = opts;
      const isKept = packet.type === EVENT && packet.id === undefined && !flags?.volatile;
      const number = isKept ? ++this.said : undefined;
      if (!flags?.local) {
        const spread = { rooms: [...rooms], except: [...(except ?? [])], flags };
        // Serialised before the number is added.
        this.publish({ type: MessageType.BROADCAST, data: { packet, opts: spread, number } });
      }
      this.deliver(packet, opts, this.speaker, number);
    }

    onMessage(message, offset) {
      const { type, uid, data } = message;
      if (type !== MessageType.BROADCAST || data.requestId !== undefined || uid === this.uid) {
        return super.onMessage(message, offset);
      }
      this.nodesMap.set(uid, Date.now());
      const { rooms, except, flags } = data.opts;
      const opts = { rooms: new Set(rooms), except: new Set(except), flags };
      this.deliver(data.packet, opts, uid.slice(0, SPEAKER_LENGTH), data.number);
    }

    deliver(packet, opts, speaker, number) {
      // Not to be kept; or from a worker with an older hook, and then it gets one of the keeper's.
      if (number === undefined) return this.keeper.broadcast(packet, opts);
      const { packets, [SEEN]: seen } = this.keeper;
      if (seen.size >= SPEAKERS_MAX && !seen.has(speaker)) seen.delete(seen.keys().next().value);
      seen.set(speaker, number);
      const id = speaker + number.toString(36);
      packet.data.push(id);
      packets.push({ id, speaker, number, opts, data: packet.data, emittedAt: Date.now() });
      Adapter.prototype.broadcast.call(this.keeper, packet, opts);
    }
  };
}

module.exports = { SEEN, pack, unpack, workerFor, shareByDefault };
