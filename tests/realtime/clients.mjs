// Every supported Socket.IO client, over each transport: nothing lost, doubled or out of order, and
// a client stays at its worker from its first poll on.
//
//   node clients.mjs SIDEKEEPER SCRATCH_DIR NODE...

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { finish, nodes, soon, test, until, versionOf, withSidekeeper } from './harness.mjs';

const require = createRequire(import.meta.url);
const connects = {
  2: require('socket.io-client-2'),
  3: require('socket.io-client-3').io,
  4: require('socket.io-client').io,
};
const TRANSPORTS = [['polling'], ['websocket'], ['polling', 'websocket']];
const ALL_MILLIS_MAX = 100_000;
// On a busy machine all of them upgrade at once, and engine.io gives up after 10 s: it closes the
// WebSocket that the client may already have changed to.
const PATIENT = { upgradeTimeout: ALL_MILLIS_MAX, pingTimeout: ALL_MILLIS_MAX, connectTimeout: ALL_MILLIS_MAX };

const ask = (socket, ...words) => new Promise((resolve) => socket.emit(...words, resolve));

async function open(sk, version, transports) {
  const socket = connects[version](sk.url, { transports, forceNew: true, timeout: 60_000 });
  // What is lost with a connection is never answered, so the first thing that goes wrong is the end.
  socket.wrong = new Promise((_, reject) => {
    for (const event of ['connect_error', 'error', 'disconnect']) {
      socket.on(event, (error) => reject(new Error(`client ${version}, ${transports}: ${event}: ${error}`)));
    }
  });
  socket.wrong.catch(() => {});
  const hello = await Promise.race([new Promise((resolve) => socket.once('hello', resolve)), socket.wrong]);
  return { socket, hello };
}

async function visit(sk, version, transports, messages, sizes = []) {
  const { socket, hello } = await open(sk, version, transports);
  try {
    await Promise.race([talk(socket, hello, transports, messages, sizes), socket.wrong]);
  } finally {
    socket.removeAllListeners('disconnect');
    socket.close();
  }
  return hello;
}

async function talk(socket, hello, transports, messages, sizes) {
  const answers = [];
  // All under way at once; what is counted is the order in which the server sees them.
  for (let n = 0; n < messages; n++) answers.push(ask(socket, 'numbered', n));
  (await Promise.all(answers)).forEach(({ n, wanted, pid }, i) => {
    assert.deepEqual({ n, wanted, pid }, { n: i, wanted: i, pid: hello.pid });
  });
  for (const size of sizes) {
    const bytes = Buffer.alloc(size);
    for (let i = 0; i < size; i++) bytes[i] = (i * 7 + (i >> 8)) & 255;
    const back = Buffer.from(await ask(socket, 'echo', bytes));
    assert.ok(bytes.equals(back), `${size} bytes come back whole`);
  }
  if (transports.length > 1) {
    const { engine } = socket.io;
    await until('the upgrade', () => engine.transport.name === 'websocket', 60_000);
    const { pid, transport } = await ask(socket, 'who');
    assert.deepEqual({ pid, transport }, { pid: hello.pid, transport: 'websocket' });
  }
}

for (const node of nodes) {
  const name = await versionOf(node);
  for (const [version, library, options] of [
    [4, 'socket.io', {}], [3, 'socket.io', {}], [2, 'socket.io', { allowEIO3: true }], [2, 'socket.io-2', {}],
  ]) {
    const server = library === 'socket.io' ? 'server 4' : 'server 2';
    await test(`Node ${name}: client ${version} of ${server}, every transport, binary of 256 KiB`, () =>
      withSidekeeper(
        { script: 'socketio.cjs', node, app: { workers: 3 }, env: { SOCKET_IO: library, IO_OPTIONS: JSON.stringify({ ...PATIENT, ...options }) } },
        (sk) => soon(
          Promise.all(TRANSPORTS.flatMap((transports) =>
            [1, 2, 3, 4].map(() => visit(sk, version, transports, 30, [1, 1000, 256 << 10])))),
          'all of them', ALL_MILLIS_MAX,
        )));
  }
}

const COUNT = process.env.SK_FULL === '1' ? 1000 : 200;
await test(`${COUNT} clients at once with 50 acknowledgements each`, () =>
  withSidekeeper({ script: 'socketio.cjs', app: { workers: 4 }, env: { IO_OPTIONS: JSON.stringify(PATIENT) } }, async (sk) => {
    const began = Date.now();
    const visits = Array.from({ length: COUNT }, (_, i) => visit(sk, i % 3 === 2 ? 3 : 4, TRANSPORTS[i % 3], 50));
    const counts = {};
    for (const { instance } of await soon(Promise.all(visits), 'all of them', ALL_MILLIS_MAX)) {
      counts[instance] = (counts[instance] ?? 0) + 1;
    }
    assert.equal(Object.keys(counts).length, 4);
    console.log(`# ${COUNT} clients, ${COUNT * 50} acknowledgements in ${((Date.now() - began) / 1000).toFixed(1)} s, by worker: ${JSON.stringify(counts)}`);
  }));

finish();
