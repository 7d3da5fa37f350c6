'use strict';
// The part of sidekeeper that runs inside a Node worker. NODE_OPTIONS=--require loads it before the
// app, in CommonJS, ESM and TypeScript apps alike. It makes the app's own `listen(3000)` accept on
// the Unix socket that the supervisor holds for this worker, shows the app its real clients, reports
// how the process does, and lets it finish its work when it has to go. The app knows nothing of it.
//
// Several processes may load this file: a wrapper (npm, tsx), the app, a cluster that the app forks,
// any Node program that the app starts. So nothing is decided at load. The first HTTP server that
// listens claims the socket; from then on the environment is clean and later children see nothing
// of us. A process that does not hold the socket is left alone.
//
// Environment from the supervisor: SIDEKEEPER_LISTEN_FD (a listening Unix socket), SIDEKEEPER_SOCKET
// (its path), SIDEKEEPER_BROADCAST (Socket.IO's default adapter is to reach all workers), PORT,
// APPNAME, and NODE_CHANNEL_FD, which Node itself turns into process.send.
//
// To the supervisor, each one line of JSON, `cmd` shortened by NODE_SIDEKEEPER_:
//   LISTENING {type, path, port, pid}   the app listens
//   CLOSED                              it does not any more; in a drain: and its requests are done
//   RELISTEN                            it listens again, but close() has closed the descriptor
//   STATS {lag_ms, utilization, heap, rss, sockets, bytes_in, bytes_out}   every second
//   TOOK / REFUSED / GONE {seq, looks}  about a connection that was handed over
// From the supervisor:
//   DRAIN                               take nothing new, finish, go
//   TRICKLE {spread_ms}                 end the WebSockets one by one, over so long; serve on
//   LISTENER + descriptor               the answer to RELISTEN
//   CONN {seq, until, looks, cookie, head} + descriptor
//                                       a client's connection, and what was read from it (latin1);
//                                       REFUSED from `until` on, in milliseconds of process.hrtime;
//                                       `cookie` is to be set with the answer
// `NODE_` makes these messages invisible to the app's own process.on('message').

const { isMainThread } = require('worker_threads');
const env = process.env;
// Worker threads load preloads too, and share descriptors and environment with the main thread.
if (!isMainThread || env.SIDEKEEPER_LISTEN_FD === undefined) return;

const fs = require('fs');
const net = require('net');
const path = require('path');
const cluster = require('cluster');

const nativeListen = net.Server.prototype.listen;
const nativeSend = process.send;

// Node would call listen(2) with 511 and so cut the queue that the supervisor has made.
const BACKLOG = 4096;
// The proxy drops its idle connections after 60 s. Ours must last longer, or it may send a request
// into a connection that is just being closed.
const KEEP_ALIVE_MILLIS_MIN = 75_000;
const HEADERS_MILLIS_MIN = 80_000;
const STATS_MILLIS = 1_000;
const LAG_RESOLUTION_MILLIS = 20;
// Idle connections are closed only after this, for a request may be on its way in them.
const DRAIN_CHECK_MILLIS = 50;
// A peer that has been told the end of its WebSocket has so long to say its own.
const FAREWELL_MILLIS_MAX = 2_000;
// Moments at which WebSockets end, so far apart: Node keeps a list of timers for each duration.
const TRICKLE_STEP_MILLIS = 20;
// Connections whose bytes are counted for one report.
const BYTES_LOOKS_MAX = 1_000;
const RELISTEN_MILLIS_MAX = 5_000;
const SIGNAL_MILLIS_MAX = 60_000; // by then the supervisor has long gone on to SIGKILL
const CMD = 'NODE_SIDEKEEPER_';
const CLIENT_FIELD = 'x-sidekeeper-client';
const HANDED_OVER = Symbol('sidekeeper.handedOver');
const CLIENT = Symbol('sidekeeper.client');
const WEBSOCKET = Symbol('sidekeeper.webSocket');

const listenFd = Number(env.SIDEKEEPER_LISTEN_FD);
const socketPath = env.SIDEKEEPER_SOCKET || '';
const defaultPort = Number(env.SIDEKEEPER_PORT || env.PORT) || 80;
const appName = env.APPNAME || 'app';

const holdsSocket = findSocket();
// The app's own cluster: its primary holds the socket, and descriptor numbers are the primary's.
const inAppCluster = !holdsSocket && cluster.isWorker;
// Somebody set NODE_UNIQUE_ID to make the app believe that it is a cluster worker, as pm2 does.
// There is no primary to ask.
const feignedCluster = holdsSocket && cluster.isWorker;

if (!holdsSocket && !inAppCluster) {
  cleanEnvironment();
} else if (holdsSocket && isWrapper()) {
  passOn();
} else {
  process.title = `ProxyNodeApp: ${appName}`;
  net.Server.prototype.listen = listen;
  followChannel();
  if (holdsSocket && process.channel) joinSiblings();
  if (cluster.isPrimary) followOwnCluster();
}

// ---- Which process is this?

// A descriptor number proves nothing in a grandchild: Node closes what it inherited when it starts
// a program, and the number may be another file by then.
function findSocket() {
  try {
    const { ino } = fs.fstatSync(listenFd);
    if (env.LISTEN_PID === String(process.pid)) return true;
    const LISTENS = '00010000';
    for (const line of fs.readFileSync('/proc/net/unix', 'latin1').split('\n')) {
      const [, , , flags, , , inode, ...rest] = line.split(/ +/);
      if (inode !== String(ino)) continue;
      return flags === LISTENS && path.basename(rest.join(' ')) === path.basename(socketPath);
    }
  } catch {
    // No such descriptor, or no /proc.
  }
  return false;
}

// Programs whose only work is to start the app as a child of their own. Known by name, for an
// app may well start helpers before it listens, and those must not get its socket.
function isWrapper() {
  if (!process.argv[1]) return false;
  const file = realPath(process.argv[1]);
  const parts = file.split(path.sep);
  const owner = parts.lastIndexOf('node_modules') + 1;
  const scope = owner > 0 && parts[owner].startsWith('@') ? 2 : 1;
  const name = owner > 0 ? parts.slice(owner, owner + scope).join('/') : '';
  return (
    /^(npm|npx|pnpm|pnpx|yarn)(-cli)?(-\d[\d.]*)?\.c?js$/.test(path.basename(file)) ||
    ['tsx', 'nodemon', 'cross-env', 'dotenv-cli', '@dotenvx/dotenvx', 'env-cmd'].includes(name)
  );
}

function realPath(file) {
  try {
    return fs.realpathSync(file);
  } catch {
    return file;
  }
}

// A wrapper's children get the socket and the channel. The wrapper itself must not read from the
// channel, or it would swallow what is meant for the app.
function passOn() {
  const { ChildProcess } = require('child_process');
  const { spawn } = ChildProcess.prototype;
  const passed = [['SIDEKEEPER_LISTEN_FD', listenFd]];
  const key = Object.getOwnPropertySymbols(process).find((s) => s.description === 'kChannelHandle');
  if (process.channel && process[key]) {
    process[key].readStop();
    passed.push(['NODE_CHANNEL_FD', process.channel.fd]);
  }
  ChildProcess.prototype.spawn = function (options) {
    const { stdio } = options;
    const slots = Array.isArray(stdio) ? [...stdio] : Array(3).fill(stdio || 'pipe');
    while (slots.length < 3) slots.push('pipe');
    const names = passed.map(([name]) => `${name}=`);
    const pairs = (options.envPairs || []).filter((p) => !names.some((name) => p.startsWith(name)));
    for (const [name, fd] of passed) {
      // If the wrapper wants a channel to its child too, Node adds a second NODE_CHANNEL_FD behind
      // ours; the first one counts.
      pairs.push(`${name}=${slots.length}`);
      slots.push(fd);
    }
    options.stdio = slots;
    options.envPairs = pairs;
    return spawn.call(this, options);
  };
}

function cleanEnvironment() {
  for (const name of Object.keys(env)) if (name.startsWith('SIDEKEEPER_')) delete env[name];
  for (const name of ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES']) delete env[name];
  if (env.NODE_OPTIONS === undefined) return;
  const rest = env.NODE_OPTIONS.replace(
    /(?:^|\s+)--require[= ]("(?:[^"\\]|\\.)*"|\S+)/g,
    (option, word) => {
      const file = word[0] === '"' ? word.slice(1, -1).replace(/\\(.)/g, '$1') : word;
      return file === __filename || realPath(file) === __filename ? '' : option;
    },
  ).trim();
  if (rest) env.NODE_OPTIONS = rest;
  else delete env.NODE_OPTIONS;
}

// ---- Listening

let claimed = null; // { server, port }: the server that has the socket, or had it last
let socketUsed = false; // the descriptor belongs to a handle now, and close() will close it

function listen(...args) {
  const asked = understand(args);
  if (asked === null || this._handle) return nativeListen.apply(this, args);
  if (!isHttp(this)) {
    if (!asked.ours) return listenApart(this, asked, args);
    // The round-robin listener of the app's own cluster, on behalf of its workers, who announce
    // themselves; or an app that says itself that it wants our socket, whatever it serves there.
    if (Object.keys(cluster.workers || {}).length === 0) announce(this, asked);
    return take(this, asked);
  }
  if (claimed === null || claimed.server === this || !claimed.server._handle) {
    return claim(this, asked);
  }
  // One app, one port, two servers: Fastify has one for 127.0.0.1 and one for ::1.
  if (asked.ours || asked.number === claimed.port) return park(this, asked);
  return listenBeside(this, asked, args);
}

// What net.Server's listen() was asked for; null for what is not ours to change (another path,
// descriptor or handle) and for what Node must refuse in its own words.
function understand(args) {
  const last = args[args.length - 1];
  const cb = typeof last === 'function' ? last : null;
  const first = args[0];
  let options = {};
  if (first === undefined || first === null || typeof first === 'function') {
    options.port = 0;
  } else if (typeof first === 'object') {
    options = first;
  } else if (typeof first === 'string' && !(Number(first) >= 0)) {
    options.path = first;
  } else {
    options.port = first;
    if (typeof args[1] === 'string') options.host = args[1];
  }
  const asked = { options, cb, number: 0, port: defaultPort, host: options.host, ours: true };
  if (options._handle || options.handle) return null;
  // systemd's way, and the way of programs that know our socket's path.
  if (options.fd === listenFd || (socketPath && options.path === socketPath)) return asked;
  if (typeof options.fd === 'number' || options.path) return null;
  if (!('port' in options)) return null;
  const port = options.port ?? 0;
  if (typeof port !== 'number' && (typeof port !== 'string' || port.trim() === '')) return null;
  const number = Number(port);
  if (!Number.isInteger(number) || number < 0 || number > 65535) return null;
  return { ...asked, number, port: number || defaultPort, ours: false };
}

function isHttp(server) {
  // Neither module is loaded for the sake of a program that does not use it.
  if (typeof server.closeIdleConnections !== 'function') return false;
  return server instanceof require('http').Server || isHttps(server);
}

function isHttps(server) {
  return typeof server.setSecureContext === 'function' && server instanceof require('https').Server;
}

function claim(server, asked) {
  claimed = { server, port: asked.port };
  cleanEnvironment();
  disguise(server, asked);
  prepare(server);
  announce(server, asked);
  return take(server, asked);
}

function announce(server, { port }) {
  server.once('listening', () => {
    send('LISTENING', { type: 'path', path: socketPath, port, pid: process.pid });
    startStats();
    if (holdsSocket) recoverFromSiblings();
  });
}

function take(server, { options, cb }) {
  if (inAppCluster || (!socketUsed && !feignedCluster)) {
    socketUsed = true;
    const { signal } = options;
    const args = [signal ? { fd: listenFd, signal } : { fd: listenFd }, BACKLOG];
    if (cb) args.push(cb);
    return nativeListen.apply(server, args);
  }
  if (cb) server.once('listening', cb);
  if (!socketUsed) {
    // listen({fd}) would ask the cluster's primary.
    socketUsed = true;
    server._listen2(null, null, null, BACKLOG, listenFd);
    return server;
  }
  relisten(server);
  return server;
}

const relistening = [];

// The supervisor keeps the listener, with all connections that wait in it, and can give us another
// descriptor of it.
function relisten(server) {
  const fail = () => {
    server.emit('error', Object.assign(new Error('sidekeeper did not give the socket back'), {
      code: 'EADDRNOTAVAIL', syscall: 'listen', port: claimed && claimed.port,
    }));
  };
  if (!send('RELISTEN')) {
    process.nextTick(fail);
    return;
  }
  // The timer also keeps a process alive that has nothing else to wait for.
  const timer = setTimeout(() => {
    relistening.splice(relistening.indexOf(adopt), 1);
    fail();
  }, RELISTEN_MILLIS_MAX);
  const adopt = (handle) => {
    clearTimeout(timer);
    server._handle = handle;
    server._listen2(null, null, null, BACKLOG);
  };
  relistening.push(adopt);
}

// A server that shall believe that it listens, where nobody will ever connect.
function park(server, asked) {
  const { signal } = asked.options;
  if (asked.cb) server.once('listening', asked.cb);
  disguise(server, asked);
  server._handle = { close() {}, ref() {}, unref() {}, hasRef: () => false };
  if (signal) {
    if (signal.aborted) process.nextTick(() => server.close());
    else signal.addEventListener('abort', () => server.close(), { once: true });
  }
  process.nextTick(() => {
    if (server._handle) server.emit('listening');
  });
  return server;
}

// Another port, say for metrics, is the app's own affair and really opened. But all workers of an
// app ask for the same one and only the first can have it; the others live on without it.
function listenBeside(server, asked, args) {
  const { emit } = server;
  server.emit = function (event, error) {
    if (event !== 'error' && event !== 'listening') return Reflect.apply(emit, this, arguments);
    if (emit === Object.getPrototypeOf(server).emit) delete server.emit;
    else server.emit = emit;
    if (event === 'listening' || error?.code !== 'EADDRINUSE' || error.syscall !== 'listen') {
      return Reflect.apply(emit, this, arguments);
    }
    process.emitWarning(
      `port ${asked.port} is in use, perhaps by another worker of ${appName}: ` +
        'this worker does without',
      { type: 'SidekeeperWarning' },
    );
    park(server, { ...asked, cb: null });
    return true;
  };
  return listenApart(server, asked, args);
}

function listenApart(server, { options, cb }, args) {
  if (!feignedCluster) return nativeListen.apply(server, args);
  // Node would wait for ever for the answer of a primary.
  const own = { ...options, exclusive: true };
  return nativeListen.apply(server, cb ? [own, cb] : [own]);
}

// Node's address() of an inherited Unix socket is null, and apps print address().port.
function disguise(server, { host, port }) {
  const name = host === 'localhost' ? '127.0.0.1' : host;
  const address = net.isIP(name || '') ? name : '::';
  const family = net.isIPv4(address) ? 'IPv4' : 'IPv6';
  server.address = function () {
    return this._handle ? { address, family, port } : null;
  };
}

// ---- The claimed server

const prepared = new WeakSet();
const plain = new Set(); // connections that speak HTTP
const upgraded = new Set(); // WebSockets and other tunnels
let draining = false;

function prepare(server) {
  if (prepared.has(server)) return;
  prepared.add(server);
  const { emit, close } = server;
  const secure = isHttps(server);
  // The server's own emit is replaced and no listener is added: a listener for 'upgrade' would
  // change what Node does, and monitoring tools that wrap the prototype must see the real client.
  server.emit = function (event, subject, response) {
    switch (event) {
      case 'request':
      case 'checkContinue':
      case 'checkExpectation':
        showClient(subject);
        // Of a connection that bypasses the proxy only the first request has been routed.
        if (draining || subject.socket[HANDED_OVER]) response.shouldKeepAlive = false;
        break;
      case 'upgrade':
      case 'connect':
        showClient(subject);
        if (plain.delete(subject.socket)) {
          upgraded.add(subject.socket);
          const { upgrade } = subject.headers;
          subject.socket[WEBSOCKET] = /^websocket$/i.test(upgrade);
          if (trickleUntil > 0) endWithin(subject.socket, trickleUntil - Date.now());
        }
        break;
      case 'dropRequest':
        showClient(subject);
        break;
      case 'connection':
        track(subject);
        if (secure) {
          // The proxy has ended TLS, if there was any; an https server gets plain HTTP.
          subject.encrypted = true;
          return emit.call(this, 'secureConnection', subject);
        }
        break;
    }
    return Reflect.apply(emit, this, arguments);
  };
  server.close = function (cb) {
    if (draining && !this._handle) {
      // We have closed it. The app that does so too, and in time, must not get an error.
      if (typeof cb === 'function') {
        if (this._connections > 0) this.once('close', () => cb());
        else process.nextTick(cb);
      }
      return this;
    }
    const was = this._handle;
    const result = Reflect.apply(close, this, arguments);
    if (was && !this._handle && !draining) send('CLOSED');
    return result;
  };
  atLeast(server, 'keepAliveTimeout', KEEP_ALIVE_MILLIS_MIN, false);
  atLeast(server, 'headersTimeout', HEADERS_MILLIS_MIN, true);
}

// Apps set these before listen(), after it, or both.
function atLeast(server, name, min, zeroIsNone) {
  let value = server[name];
  Object.defineProperty(server, name, {
    configurable: true,
    enumerable: true,
    get: () => (zeroIsNone && value === 0) || !(value < min) ? value : min,
    set: (to) => {
      value = to;
    },
  });
}

function track(socket) {
  plain.add(socket);
  socket.on('close', forget);
}

function forget() {
  if (!plain.delete(this)) upgraded.delete(this);
  if (draining) finish();
}

let headersCount;

// Every request says whose it is, for one connection of the proxy carries those of many clients.
// The proxy has removed the field from what the client itself had sent.
function showClient(req) {
  const { rawHeaders, socket } = req;
  let client;
  for (let i = rawHeaders.length - 2; i >= 0; i -= 2) {
    if (rawHeaders[i].length !== CLIENT_FIELD.length) continue;
    if (rawHeaders[i].toLowerCase() !== CLIENT_FIELD) continue;
    client = rawHeaders[i + 1];
    // `headers` and `headersDistinct` are made of this many words of rawHeaders when somebody asks.
    headersCount ??= Object.getOwnPropertySymbols(req).find((s) => s.description === 'kHeadersCount');
    if (headersCount === undefined) continue;
    // The proxy writes it last, and V8 takes away what was added last without more ado.
    if (i === rawHeaders.length - 2) rawHeaders.length = i;
    else rawHeaders.splice(i, 2);
    req[headersCount] -= 2;
    delete req.headers[CLIENT_FIELD];
  }
  if (!socket || socket[CLIENT] === client) return;
  socket[CLIENT] = client;
  // Where the getters of net.Socket look. Never left as it was: that would be another client.
  socket._peername = undefined;
  if (client === undefined) return;
  const space = client.indexOf(' ');
  const address = client.slice(0, space);
  const family = address.includes(':') ? 'IPv6' : 'IPv4';
  socket._peername = { address, family, port: Number(client.slice(space + 1)) };
}

// What has come and gone through connections that the proxy does not see any more. Looked at in
// turn, so that a second's figures cost the same however many there are.
const handedOver = new Map(); // socket -> what of its bytes is in the sums
const bytes = { in: 0, out: 0 };
let inTurn = handedOver.entries();

function countBytes() {
  for (let looks = Math.min(handedOver.size, BYTES_LOOKS_MAX); looks > 0; looks--) {
    let { value, done } = inTurn.next();
    if (done) {
      inTurn = handedOver.entries();
      ({ value, done } = inTurn.next());
      if (done) break;
    }
    countAnew(...value);
  }
  return { bytes_in: bytes.in, bytes_out: bytes.out };
}

function countAnew(socket, counted) {
  const { bytesRead, bytesWritten } = socket;
  bytes.in += bytesRead - counted.in;
  bytes.out += bytesWritten - counted.out;
  counted.in = bytesRead;
  counted.out = bytesWritten;
}

// A connection that the proxy gives us whole, with what it has read from it. Done as net.Server
// does it, so that close(), getConnections() and the app see an ordinary connection.
function takeOver(handle, { seq, head, until, looks, cookie }) {
  const server = claimed && claimed.server;
  const full = server && server.maxConnections && server._connections >= server.maxConnections;
  // After its lease the supervisor takes the connection for its own again.
  const late = Number(process.hrtime.bigint() / 1_000_000n) >= until;
  if (!handle || !server || !server._handle || draining || full || late) {
    if (handle) handle.close();
    send('REFUSED', { seq });
    return;
  }
  const { allowHalfOpen } = server;
  const socket = new net.Socket({ handle, allowHalfOpen, readable: true, writable: true });
  if (server.noDelay) socket.setNoDelay(true);
  server._connections++;
  socket.server = socket._server = server;
  socket[HANDED_OVER] = true;
  const counted = { in: 0, out: 0 };
  handedOver.set(socket, counted);
  socket.on('close', () => {
    countAnew(socket, counted);
    handedOver.delete(socket);
    send('GONE', { seq, looks });
  });
  if (cookie) addToAnswer(socket, Buffer.from(`Set-Cookie: ${cookie}\r\n`, 'latin1'));
  socket.unshift(Buffer.from(head, 'latin1'));
  send('TOOK', { seq });
  server.emit('connection', socket);
}

const STATUS_LINE = /^HTTP\/1\.1 (\d\d\d)[^\r\n]*\r\n/;
const STATUS_LINE_BYTES_MAX = 256;

// A field for the head of the answer, which whoever serves the connection writes first, and in one
// piece: Node, and libraries that take an upgrade themselves.
function addToAnswer(socket, field) {
  for (const name of ['write', 'end']) {
    socket[name] = function (chunk, encoding, ...rest) {
      const isData = typeof chunk === 'string' || chunk instanceof Uint8Array;
      if (!isData) return Reflect.apply(net.Socket.prototype[name], this, arguments);
      const coded = typeof encoding === 'string' && typeof chunk === 'string';
      const bytes = Buffer.from(chunk, coded ? encoding : undefined);
      const line = STATUS_LINE.exec(bytes.toString('latin1', 0, STATUS_LINE_BYTES_MAX));
      // Interim answers have heads of their own.
      const isInterim = line && line[1][0] === '1' && line[1] !== '101';
      if (!isInterim) for (const each of ['write', 'end']) delete this[each];
      if (!line || isInterim) return Reflect.apply(net.Socket.prototype[name], this, arguments);
      const whole = Buffer.concat([bytes.subarray(0, line[0].length), field, bytes.subarray(line[0].length)]);
      const further = typeof encoding === 'string' ? rest : [encoding, ...rest];
      return Reflect.apply(net.Socket.prototype[name], this, [whole, ...further]);
    };
  }
}

// ---- Leaving

let trickleUntil = 0; // WebSockets end one by one until then, by Date.now()

// Each socket gets a moment of its own, so that the clients come back to other workers one by one.
function trickle(spreadMillis) {
  if (trickleUntil > 0) return;
  trickleUntil = Date.now() + spreadMillis;
  for (const worker of listeners.keys()) tellToTrickle(worker, spreadMillis);
  for (const socket of upgraded) endWithin(socket, spreadMillis);
}

function endWithin(socket, millis) {
  const steps = Math.max(millis, TRICKLE_STEP_MILLIS) / TRICKLE_STEP_MILLIS;
  const at = Math.ceil(Math.random() * steps) * TRICKLE_STEP_MILLIS;
  setTimeout(bidFarewell, at, socket).unref();
}

// 1012, "service restart": a clean end that tells the client to come back. Between two turns of the
// event loop an app's frames are whole, so one more does not break into another. The app's own
// WebSocket library finds the client's answer and ends the connection.
const SERVICE_RESTART = Buffer.from([0x88, 0x02, 1012 >> 8, 1012 & 0xff]);

function bidFarewell(socket) {
  if (socket.destroyed) return;
  if (socket[WEBSOCKET] && socket.writable) socket.write(SERVICE_RESTART, ignore);
  else socket.end();
  setTimeout(() => socket.destroy(), FAREWELL_MILLIS_MAX).unref();
}

function drain() {
  if (draining) return;
  draining = true;
  for (const worker of listeners.keys()) tellToDrain(worker);
  if (claimed === null) return;
  const { server } = claimed;
  for (const { _httpMessage: response } of plain) {
    if (response && !response.headersSent) response.shouldKeepAlive = false;
  }
  // Not the http module's close(): that would cut idle connections at once. Connections that have
  // not been accepted wait in the supervisor's listener for the worker's next life.
  if (server._handle) net.Server.prototype.close.call(server);
  const check = setInterval(() => {
    server.closeIdleConnections();
    if (finish()) clearInterval(check);
  }, DRAIN_CHECK_MILLIS);
}

let finished = false;

// No request is in flight any more. An app that has ways of its own to end (pm2's 'shutdown'
// message, a signal) is left to them, any other one has nothing left to do.
function finish() {
  if (finished) return true;
  if (plain.size > 0 || listeners.size > 0) return false;
  finished = true;
  if (inAppCluster) {
    send('CLOSED');
    return true;
  }
  // CLOSED lets the supervisor take its next step at once, so not while the app may be
  // working on the 'shutdown' message.
  if (process.listenerCount('message') > 0) return true;
  send('CLOSED');
  const awaited = ['SIGTERM', 'SIGINT'].filter((name) => process.listenerCount(name) > 0);
  if (awaited.length > 0) {
    // Without a server the process might just end, before the app's own farewell at that signal.
    const hold = setTimeout(() => {}, SIGNAL_MILLIS_MAX);
    for (const name of awaited) process.once(name, () => clearTimeout(hold));
  } else {
    // After the answers that have just been written.
    setImmediate(() => process.exit());
  }
  return true;
}

// ---- The channel

// A callback makes a channel that has just closed no error of the app's.
function ignore() {}

function send(cmd, fields, sent = ignore) {
  if (!process.connected) return false;
  nativeSend.call(process, { cmd: CMD + cmd, ...fields }, sent);
  return true;
}

function followChannel() {
  if (!process.channel) return;
  process.on('internalMessage', (message, handle) => {
    switch (message && message.cmd) {
      case `${CMD}DRAIN`:
        drain();
        break;
      case `${CMD}TRICKLE`:
        trickle(message.spread_ms);
        break;
      case `${CMD}LISTENER`: {
        const adopt = relistening.shift();
        if (adopt && handle) adopt(handle);
        else if (handle) handle.close();
        break;
      }
      case `${CMD}CONN`:
        if (listeners.size > 0) handDown(message, handle);
        else takeOver(handle, message);
        break;
    }
  });
  // A cluster worker ends by itself when its channel does.
  if (cluster.isWorker) return;
  const { disconnect } = process;
  let byApp = false;
  process.disconnect = function ours() {
    byApp = byApp || !calledByNode(ours);
    return disconnect.call(process);
  };
  // Not once(): a listener that goes would be counted out a second time.
  process.on('disconnect', () => {
    if (!byApp) setImmediate(() => process.exit(0));
  });
  // Node holds the process for the sake of this listener; an app without a server must be able
  // to end, and one that listens for messages must not.
  process.channel.unrefCounted();
}

// Node itself calls process.disconnect() when the other end has closed the channel.
function calledByNode(called) {
  return callerOf(called) === 'node:internal/child_process';
}

// The file of the function that has called this one.
function callerOf(called) {
  const { prepareStackTrace, stackTraceLimit } = Error;
  const trace = {};
  Error.prepareStackTrace = (_, frames) => frames;
  Error.stackTraceLimit = 1;
  Error.captureStackTrace(trace, called);
  const [caller] = trace.stack;
  Error.prepareStackTrace = prepareStackTrace;
  Error.stackTraceLimit = stackTraceLimit;
  return caller?.getFileName() ?? '';
}

// ---- Siblings: the app's other workers
//
// Socket.IO's adapters speak to them with process.send, and sidekeeper passes it on. What they need
// of us is in a file of its own, which is loaded by the first who needs it.

function siblings() {
  return require('./broadcast.cjs');
}

function isOfAdapter(message) {
  return message?.source === '_sio_adapter' || message?._source === '_eio';
}

// Lost connections that Socket.IO can recover (connectionStateRecovery) are looked for at all
// workers. By the time that the app listens it has loaded what it serves with; a Socket.IO that comes
// later looks at its own worker only, as it does without us.
function recoverFromSiblings() {
  if (!process.connected) return;
  for (const file of Object.keys(require.cache)) {
    if (!/[\\/]socket\.io-adapter[\\/]dist[\\/]/.test(file)) continue;
    const { exports } = require.cache[file];
    if (typeof exports?.SessionAwareAdapter !== 'function') continue;
    require('./recovery.cjs').share(exports.SessionAwareAdapter, nativeSend);
  }
}

function joinSiblings() {
  const { emit } = process;
  process.send = function (message) {
    if (isOfAdapter(message)) arguments[0] = siblings().pack(message);
    return Reflect.apply(nativeSend, this, arguments);
  };
  // Before any listener, in whatever order adapters and app have added theirs.
  process.emit = function (event, message) {
    if (event === 'message' && isOfAdapter(message)) siblings().unpack(message);
    return Reflect.apply(emit, this, arguments);
  };
  if (!cluster.worker) {
    let value;
    Object.defineProperty(cluster, 'worker', {
      configurable: true,
      enumerable: true,
      get: function worker() {
        return value ?? siblings().workerFor(callerOf(worker));
      },
      set: (to) => {
        value = to;
      },
    });
  }
  if (env.SIDEKEEPER_BROADCAST) siblings().shareByDefault(nativeSend);
}

// ---- Figures

let statsStarted = false;

function startStats() {
  if (statsStarted || !process.connected) return;
  statsStarted = true;
  const { monitorEventLoopDelay, performance } = require('perf_hooks');
  const delay = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MILLIS });
  delay.enable();
  let before = performance.eventLoopUtilization();
  let waiting = false;
  const timer = setInterval(() => {
    const now = performance.eventLoopUtilization();
    const { heapUsed, rss } = process.memoryUsage();
    const mine = {
      // The worst one since the last report. The histogram holds whole intervals.
      lag_ms: Math.max(0, Math.round(delay.max / 1e6 - LAG_RESOLUTION_MILLIS)),
      utilization: performance.eventLoopUtilization(now, before).utilization,
      heap: heapUsed,
      rss,
      sockets: plain.size + upgraded.size,
      ...countBytes(),
    };
    delay.reset();
    before = now;
    const stats = summed(mine);
    stats.utilization = Math.round(stats.utilization * 1000) / 1000;
    // A supervisor that does not read must not make us hoard figures.
    if (waiting) return;
    waiting = send('STATS', stats, () => {
      waiting = false;
    });
  }, STATS_MILLIS);
  timer.unref();
}

// ---- A cluster that the app forks itself
//
// Its workers ask the primary for our descriptor as they would ask it for a port, and the primary
// shares out the connections. What the workers have to say to the supervisor goes through it.

const listeners = new Map(); // the app's workers that listen -> their last figures
const handed = new Map(); // seq of a connection handed down -> its worker
let turn = 0;

function followOwnCluster() {
  cluster.on('fork', (worker) => {
    worker.process.on('internalMessage', (message) => {
      if (typeof message?.cmd === 'string' && message.cmd.startsWith(CMD)) hear(worker, message);
    });
  });
  cluster.on('exit', (worker) => {
    for (const [seq, owner] of handed) {
      if (owner === worker) hear(worker, { cmd: `${CMD}GONE`, seq });
    }
    hear(worker, { cmd: `${CMD}CLOSED` });
  });
}

function hear(worker, { cmd, ...fields }) {
  switch (cmd.slice(CMD.length)) {
    case 'LISTENING':
      if (listeners.size === 0) send('LISTENING', { ...fields, pid: process.pid });
      listeners.set(worker, null);
      startStats();
      // A replacement that the app has forked while it was told to go.
      if (draining) tellToDrain(worker);
      break;
    case 'CLOSED':
      if (!listeners.delete(worker) || listeners.size > 0) break;
      if (draining) finish();
      else send('CLOSED');
      break;
    case 'STATS':
      if (listeners.has(worker)) listeners.set(worker, fields);
      break;
    case 'REFUSED':
    case 'GONE':
      if (handed.delete(fields.seq)) send(cmd.slice(CMD.length), fields);
      break;
    case 'TOOK':
      send('TOOK', fields);
      break;
  }
}

function tellToDrain(worker) {
  worker.process.send({ cmd: `${CMD}DRAIN` }, ignore);
}

function tellToTrickle(worker, spreadMillis) {
  worker.process.send({ cmd: `${CMD}TRICKLE`, spread_ms: spreadMillis }, ignore);
}

const SUMMED = ['heap', 'rss', 'sockets', 'bytes_in', 'bytes_out'];

// The worst lag, the mean utilization, and sums of the rest.
function summed(mine) {
  if (listeners.size === 0) return mine;
  const total = { ...mine, utilization: 0 };
  for (const stats of listeners.values()) {
    if (stats === null) continue;
    total.lag_ms = Math.max(total.lag_ms, stats.lag_ms);
    total.utilization += stats.utilization / listeners.size;
    for (const name of SUMMED) total[name] += stats[name];
  }
  return total;
}

function handDown(message, handle) {
  const workers = [...listeners.keys()];
  const worker = workers[turn++ % workers.length];
  handed.set(message.seq, worker);
  worker.process.send(message, handle, (error) => {
    if (handle) handle.close();
    if (error) hear(worker, { cmd: `${CMD}REFUSED`, seq: message.seq });
  });
}
