// The client of the `ws` package, with all it can do, and compression as the Autobahn suite looks at it (its classes
// 9, 12 and 13): through the relay and the hand-off everything goes as it goes directly.
//
//   node ws.mjs SIDEKEEPER SCRATCH_DIR NODE...

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { connect, directly, finish, nodes, soon, test, withSidekeeper } from './harness.mjs';

const { WebSocket, createWebSocketStream } = createRequire(import.meta.url)('ws');
const LARGE_MILLIS_MAX = 60_000;

const urlOf = (sk, options = {}) =>
  `ws://${sk.host}:${sk.port}/ws?${encodeURIComponent(JSON.stringify(options))}`;

async function open(sk, server, client = {}, protocols = []) {
  const socket = new WebSocket(urlOf(sk, server), protocols, { perMessageDeflate: false, maxPayload: 32 << 20, ...client });
  socket.queue = [];
  socket.on('message', (data, binary) => {
    socket.queue.push({ data, binary });
    socket.emit('queued');
  });
  await soon(once(socket, 'open'), 'the opening');
  return socket;
}

async function next(socket, millis) {
  if (socket.queue.length === 0) await soon(once(socket, 'queued'), 'a message', millis);
  return socket.queue.shift();
}

async function close(socket) {
  const closed = once(socket, 'close');
  socket.close(1000, 'done');
  const [code, reason] = await soon(closed, 'the end');
  return [code, String(reason)];
}

// Words that compress, and bytes that do not.
const words = (length) => 'the quick brown fox, {"a": [1, 2, 3]} '.repeat(length / 38 + 1).slice(0, length);
function noise(length) {
  const bytes = Buffer.alloc(length);
  let state = 88172645463325252n & 0xffffffffn;
  for (let i = 0; i < length; i++) {
    state = (state * 1664525n + 1013904223n) & 0xffffffffn;
    bytes[i] = Number(state >> 24n);
  }
  return bytes;
}
const NOISE = noise(1 << 16);
const sum = (data) => createHash('sha256').update(data).digest('hex').slice(0, 16);

const SCENES = {};
const OFFERS = {
  'as it comes': [{}, {}],
  'no context on the server': [{ serverNoContextTakeover: true }, {}],
  'no context at the client': [{ clientNoContextTakeover: true }, {}],
  'no context at all': [{ serverNoContextTakeover: true, clientNoContextTakeover: true }, {}],
  'a small window on the server': [{ serverMaxWindowBits: 9 }, {}],
  'a small window at the client': [{ clientMaxWindowBits: 10 }, { clientMaxWindowBits: 10 }],
  'both small': [{ serverMaxWindowBits: 9, clientMaxWindowBits: 9 }, { serverMaxWindowBits: 9, clientMaxWindowBits: 9 }],
};
for (const [name, [server, client]] of Object.entries(OFFERS)) {
  SCENES[`12, 13: compression, ${name}`] = async (sk) => {
    const perMessageDeflate = { threshold: 0, ...server };
    const socket = await open(sk, { perMessageDeflate }, { perMessageDeflate: { threshold: 0, ...client } });
    const said = [socket.extensions];
    for (const size of [0, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072]) {
      for (let i = 0; i < 10; i++) socket.send(words(size + i));
      socket.send(NOISE.subarray(0, size % 65537));
      for (let i = 0; i < 11; i++) {
        const { data, binary } = await next(socket);
        said.push(`${binary} ${data.length} ${sum(data)}`);
      }
    }
    return [...said, await close(socket)];
  };
}
SCENES['9: messages of 1, 4 and 16 MiB, text and binary'] = async (sk) => {
  const socket = await open(sk);
  const said = [];
  for (const mib of [1, 4, 16]) {
    for (const data of [words(mib << 20), Buffer.alloc(mib << 20, NOISE)]) {
      socket.send(data);
      const back = await next(socket, LARGE_MILLIS_MAX);
      said.push(`${back.binary} ${back.data.length} ${sum(back.data)}`);
    }
  }
  return [...said, await close(socket)];
};
SCENES['9: a message of 4 MiB in fragments of 64 to 64 Ki bytes'] = async (sk) => {
  const said = [];
  for (const size of [64, 1024, 65536]) {
    const socket = await open(sk);
    const whole = Buffer.alloc(size === 64 ? 256 << 10 : 4 << 20, NOISE);
    for (let at = 0; at < whole.length; at += size) {
      socket.send(whole.subarray(at, at + size), { fin: at + size >= whole.length, binary: true });
    }
    const { data } = await next(socket, LARGE_MILLIS_MAX);
    said.push(sum(data), await close(socket));
  }
  return said;
};
SCENES['a thousand messages at once come back in order'] = async (sk) => {
  const socket = await open(sk);
  for (let i = 0; i < 1000; i++) socket.send(`${i} ${words(i)}`);
  const numbers = [];
  for (let i = 0; i < 1000; i++) numbers.push(parseInt(String((await next(socket)).data), 10));
  return [numbers.every((n, i) => n === i), await close(socket)];
};
SCENES['subprotocols'] = async (sk) => {
  const socket = await open(sk, {}, {}, ['first', 'second']);
  return [socket.protocol, await close(socket)];
};
SCENES['ping and pong, both ways'] = async (sk) => {
  const socket = await open(sk);
  const pong = once(socket, 'pong');
  socket.ping('hello');
  const [answer] = await soon(pong, 'the pong');
  const ping = once(socket, 'ping');
  socket.send('ping');
  const [asked] = await soon(ping, 'the ping');
  return [String(answer), String(asked), await close(socket)];
};
SCENES['the server closes'] = async (sk) => {
  const said = [];
  for (const code of [1000, 1001, 1011, 3000, 4999]) {
    const socket = await open(sk);
    const closed = once(socket, 'close');
    socket.send(`close ${code}`);
    const [got, reason] = await soon(closed, 'the end');
    said.push(`${got} ${reason}`);
  }
  return said;
};
SCENES['one side is torn off'] = async (sk) => {
  const socket = await open(sk);
  const closed = once(socket, 'close');
  socket.send('terminate');
  const [code] = await soon(closed, 'the end');
  const other = await open(sk);
  const gone = once(other, 'close');
  other.terminate();
  return [code, (await soon(gone, 'the end'))[0]];
};
SCENES['more than the server takes'] = async (sk) => {
  const socket = await open(sk, { maxPayload: 1000 });
  const closed = once(socket, 'close');
  socket.on('error', () => {});
  socket.send('x'.repeat(1001));
  return (await soon(closed, 'the end')).map(String);
};
SCENES['a stream of 8 MiB'] = async (sk) => {
  const socket = await open(sk, { stream: true });
  socket.removeAllListeners('message');
  const stream = createWebSocketStream(socket);
  const hash = createHash('sha256');
  let length = 0;
  const all = new Promise((resolve, reject) => {
    stream.on('error', reject);
    stream.on('data', (bytes) => {
      hash.update(bytes);
      length += bytes.length;
      if (length >= 8 << 20) resolve();
    });
  });
  for (let i = 0; i < 128; i++) {
    if (!stream.write(NOISE)) await soon(once(stream, 'drain'), 'room', LARGE_MILLIS_MAX);
  }
  await soon(all, 'all of it', LARGE_MILLIS_MAX);
  stream.destroy();
  return [length, hash.digest('hex').slice(0, 16)];
};
for (const [name, refuse, length] of [['401', 401, 20], ['403 with a long answer', 403, 200_000]]) {
  SCENES[`the app refuses: ${name}`] = async (sk) => {
    const socket = new WebSocket(urlOf(sk, { refuse, length }), { perMessageDeflate: false });
    socket.on('error', () => {});
    const [, response] = await soon(once(socket, 'unexpected-response'), 'the answer');
    const chunks = [];
    response.on('data', (chunk) => chunks.push(chunk));
    await soon(once(response, 'end'), 'its end');
    // Whether the connection goes on is between those who share it.
    const { 'x-why': why, 'content-type': type, 'content-length': size } = response.headers;
    socket.terminate();
    return [response.statusCode, why, type, size, Buffer.concat(chunks).length];
  };
}
SCENES['what is no WebSocket'] = async (sk) => {
  const said = [];
  for (const lines of [['Sec-WebSocket-Version: 12'], ['Sec-WebSocket-Key: short'], []]) {
    const client = await connect(sk);
    client.write(`GET /ws?%7B%7D HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${lines.map((l) => `${l}\r\n`).join('')}\r\n`);
    said.push((await client.head()).split('\r\n')[0]);
    client.destroy();
  }
  return said;
};

async function all(sk) {
  const results = {};
  for (const [name, run] of Object.entries(SCENES)) {
    results[name] = await run(sk).catch((error) => [`failed: ${error.message}`]);
  }
  return results;
}

for (const node of nodes) {
  const direct = await directly(node, 'ws.cjs', all);
  await test("ws's client, directly: every scene ends well", async () => {
    for (const [name, said] of Object.entries(direct)) assert.ok(!String(said[0]).startsWith('failed'), `${name}: ${said[0]}`);
    assert.deepEqual(direct['the app refuses: 401'].slice(0, 2), [401, 'not you']);
    assert.match(direct['12, 13: compression, both small'][0], /permessage-deflate/);
    assert.ok(Object.values(OFFERS).length > 5);
  });
  for (const hand_off of [true, false]) {
    await test(`ws's client, ${hand_off ? 'handed off' : 'relayed'}: every scene as directly`, () =>
      withSidekeeper({ script: 'ws.cjs', node, app: { hand_off } }, async (sk) => {
        const results = await all(sk);
        for (const [name, wanted] of Object.entries(direct)) assert.deepEqual(results[name], wanted, name);
        if (hand_off) assert.equal(sk.count('is relayed'), 0);
      }));
  }
}
finish();
