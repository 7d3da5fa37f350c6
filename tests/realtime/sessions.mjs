// Clients that find their worker again: by what a browser sends, by what an app sets, and by nothing
// at all after a lost connection.
//
//   node sessions.mjs SIDEKEEPER SCRATCH_DIR NODE...

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { delay, finish, get, getJson, nodes, soon, test, until, versionOf, withSidekeeper } from './harness.mjs';

const require = createRequire(import.meta.url);
const { io } = require('socket.io-client');
const SockJS = require('sockjs-client');

const cookieOf = (answer, name) => {
  const fields = answer.headers['set-cookie'] ?? [];
  return fields.map((field) => field.split(';')[0]).find((pair) => pair.startsWith(`${name}=`));
};

for (const node of nodes) {
  const version = await versionOf(node);
  const isEnd = node === nodes[0] || node === nodes.at(-1);
  for (const hand_off of node === nodes[0] ? [true, false] : isEnd ? [true] : []) {
    const how = hand_off ? 'handed off' : 'relayed';
    const options = {
      script: 'socketio.cjs',
      node,
      app: { workers: 4, hand_off },
      env: { IO_OPTIONS: JSON.stringify({ connectionStateRecovery: {} }) },
    };
    await test(`Node ${version}: connectionStateRecovery recovers (${how})`, () =>
      withSidekeeper(options, async (sk) => {
        for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
          await recover(sk, transports, `one after the other, ${transports}`);
          await recover(sk, transports, `one after the other, ${transports}`);
          // At once, from browsers that can be told apart.
          const browsers = Array.from({ length: 6 }, (_, i) => `browser ${transports} ${i}`);
          await Promise.all(browsers.map((browser) => recover(sk, transports, browser)));
        }
      }));
  }
}

// Loses the connection and comes back: to the same worker, as the same socket, and with what was
// said meanwhile.
async function recover(sk, transports, browser) {
  const socket = io(sk.url, {
    transports, forceNew: true, reconnectionDelay: 300, extraHeaders: { 'User-Agent': browser },
  });
  try {
    const first = await soon(new Promise((resolve) => socket.once('hello', resolve)), 'hello');
    assert.equal(first.recovered, false);
    if (transports.length > 1) {
      await until('the upgrade', () => socket.io.engine.transport.name === 'websocket');
    }
    const { id } = socket;
    // An offset is what the client asks from; it comes with the first broadcast.
    const told = new Promise((resolve) => socket.once('late', resolve));
    socket.emit('say later', 0);
    await soon(told, 'the first broadcast');
    const late = new Promise((resolve) => socket.once('late', resolve));
    socket.emit('say later', 100);
    await new Promise((resolve) => socket.emit('who', resolve));
    const again = new Promise((resolve) => socket.once('connect', resolve));
    socket.io.engine.close();
    await soon(again, 'the reconnection');
    const { pid } = await new Promise((resolve) => socket.emit('who', resolve));
    assert.equal(pid, first.pid, `${transports} ${browser}: the same worker`);
    assert.equal(socket.recovered, true, `${transports} ${browser}: recovered`);
    assert.equal(socket.id, id);
    assert.equal(await soon(late, 'what was said meanwhile'), first.pid);
  } finally {
    socket.close();
  }
}

await test('a crowd that looks the same and comes back is balanced', () =>
  withSidekeeper({ script: 'socketio.cjs', app: { workers: 4 } }, async (sk) => {
    const sockets = Array.from({ length: 24 }, () =>
      io(sk.url, { transports: ['websocket'], forceNew: true, reconnectionDelay: 200 }));
    const spread = async (event) => {
      const hellos = sockets.map((socket) => new Promise((resolve) => socket.once(event, resolve)));
      const counts = {};
      for (const { instance } of await soon(Promise.all(hellos), 'all of them')) {
        counts[instance] = (counts[instance] ?? 0) + 1;
      }
      return counts;
    };
    const before = await spread('hello');
    assert.deepEqual(before, { 0: 6, 1: 6, 2: 6, 3: 6 });
    for (const socket of sockets) socket.io.engine.close();
    // A storm from one address does not go to one worker.
    assert.deepEqual(await spread('hello'), before);
    sockets.forEach((socket) => socket.close());
  }));

await test('the affinity cookie: set once, found again, and moved when its worker is gone', () => {
  const app = { workers: 3, affinity_cookie: 'where' };
  return withSidekeeper({ script: 'worker.cjs', app }, async (sk) => {
    const first = await get(sk, '/?cookie');
    const cookie = cookieOf(first, 'where');
    assert.equal(first.headers['set-cookie'][0], 'own=1', "the app's own cookies stay");
    assert.match(first.headers['set-cookie'][1], /^where=[0-9a-f]{32}; Path=\/; HttpOnly; SameSite=Lax$/);
    const { pid, instance } = JSON.parse(first.text);
    for (let i = 0; i < 6; i++) {
      const next = await get(sk, '/', { headers: { Cookie: `a=b; ${cookie}` } });
      assert.equal(JSON.parse(next.text).pid, pid);
      assert.equal(next.headers['set-cookie'], undefined, 'it has it already');
    }
    const pids = new Set();
    for (let i = 0; i < 6; i++) pids.add((await getJson(sk, '/')).pid);
    assert.equal(pids.size, 3, 'without it every worker has its turn');
    const made = await get(sk, '/', { headers: { Cookie: `where=${'0'.repeat(32)}` } });
    assert.ok(cookieOf(made, 'where'), 'a made-up one is replaced');
    // The worker's next life is the same place to a cookie.
    process.kill(pid, 'SIGKILL');
    await until('its next life', () => sk.workers()[instance] && sk.workers()[instance] !== pid);
    await until('the cookie leads there again', async () => {
      const next = await getJson(sk, '/', { headers: { Cookie: cookie } });
      return next.instance === instance && next.pid !== pid;
    });
    // A WebSocket that is not handed off, and polling, get it with the handshake.
    process.kill(sk.pid, 'SIGTTOU');
    await until('the last worker is gone', () => sk.workers()[2] === undefined);
  });
});

await test('the affinity cookie leads an engine.io handshake, and its sid beats it afterwards', () => {
  const app = { workers: 4, affinity_cookie: 'where', policy: 'random-two' };
  return withSidekeeper({ script: 'socketio.cjs', app }, async (sk) => {
    const poll = '/socket.io/?EIO=4&transport=polling';
    const first = await get(sk, poll);
    const cookie = cookieOf(first, 'where');
    const sid = (answer) => /"sid":"([^"]+)"/.exec(answer.text)[1];
    const headers = { Cookie: cookie };
    const known = await Promise.all(Array.from({ length: 8 }, () => get(sk, poll, { headers })));
    known.forEach((answer) => assert.equal(cookieOf(answer, 'where'), undefined));
    const strangers = await Promise.all(Array.from({ length: 8 }, () => get(sk, poll)));
    for (const answer of [...known, ...strangers]) {
      const post = { method: 'POST', body: '40', headers };
      const posted = await get(sk, `${poll}&sid=${sid(answer)}`, post);
      assert.equal(posted.text, 'ok');
      assert.equal(cookieOf(posted, 'where'), undefined, 'a session does not move the cookie');
    }
  });
});

for (const node of nodes) {
  const version = await versionOf(node);
  await test(`Node ${version}: a preflight with a sid and no cookie finds its worker`, () => {
    const env = { IO_OPTIONS: JSON.stringify({ cors: { origin: 'http://other' } }) };
    return withSidekeeper({ script: 'socketio.cjs', node, app: { workers: 4 }, env }, async (sk) => {
      const poll = '/socket.io/?EIO=4&transport=polling';
      for (let i = 0; i < 4; i++) {
        const sid = /"sid":"([^"]+)"/.exec((await get(sk, poll)).text)[1];
        const preflight = await get(sk, `${poll}&sid=${sid}`, {
          method: 'OPTIONS',
          headers: {
            Origin: 'http://other',
            'Access-Control-Request-Method': 'POST',
            'Access-Control-Request-Headers': 'x-own',
          },
        });
        assert.equal(preflight.status, 204);
        assert.equal(preflight.headers['access-control-allow-origin'], 'http://other');
        const post = await get(sk, `${poll}&sid=${sid}`, { method: 'POST', body: '40' });
        assert.equal(post.text, 'ok');
      }
    });
  });

  await test(`Node ${version}: express-session's memory store works, and connect.sid is no sid`, () => {
    const app = { workers: 4, session_cookies: ['connect.sid'] };
    return withSidekeeper({ script: 'sessions.cjs', node, app }, async (sk) => {
      const first = await get(sk, '/store');
      const cookie = cookieOf(first, 'connect.sid');
      const { pid } = JSON.parse(first.text);
      for (let count = 2; count < 9; count++) {
        const next = await getJson(sk, '/store', { headers: { Cookie: cookie } });
        assert.deepEqual(next, { pid, count });
      }
    });
  });
}

await test('without being told its name nobody takes connect.sid for a session', () =>
  withSidekeeper({ script: 'sessions.cjs', app: { workers: 4 } }, async (sk) => {
    const cookie = cookieOf(await get(sk, '/store'), 'connect.sid');
    const pids = new Set();
    for (let i = 0; i < 8; i++) pids.add((await getJson(sk, '/', { headers: { Cookie: cookie } })).pid);
    assert.equal(pids.size, 4);
  }));

for (const transport of ['xhr-polling', 'xhr-streaming', 'eventsource', 'websocket']) {
  await test(`SockJS: ${transport}`, () =>
    withSidekeeper({ script: 'sessions.cjs', app: { workers: 4 } }, async (sk) => {
      const pids = new Set();
      for (let i = 0; i < 8; i++) {
        const socket = new SockJS(`${sk.url}/echo`, null, { transports: [transport] });
        const messages = [];
        socket.onmessage = ({ data }) => messages.push(data);
        const closed = new Promise((resolve) => (socket.onclose = resolve));
        await soon(new Promise((resolve) => (socket.onopen = resolve)), 'it to open');
        await until('hello', () => messages.length === 1);
        pids.add(JSON.parse(messages[0]).pid);
        for (let n = 1; n <= 10; n++) {
          socket.send(`message ${n}`);
          if (n % 3 === 0) await delay(5);
        }
        await until('all of them back', () => messages.length === 11);
        assert.equal(messages.at(-1), 'message 10');
        socket.close();
        await soon(closed, 'the end');
      }
      // Each client asks for /info first, which takes every second turn.
      assert.ok(pids.size >= 2);
    }));
}

finish();
