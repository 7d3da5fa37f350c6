// Corners of hand-off and sessions: a worker that is busy while many come, one that closes Socket.IO,
// posts under way in a reload, compression, cookies.
//
//   node corners.mjs SIDEKEEPER SCRATCH_DIR NODE...

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import http from 'node:http';
import { createRequire } from 'node:module';
import { connect, delay, finish, get, nodes, soon, takeFrame, test, until, upgradeHead, versionOf, withSidekeeper } from './harness.mjs';

const require = createRequire(import.meta.url);
const clients = {
  2: require('socket.io-client-2'),
  3: require('socket.io-client-3').io,
  4: require('socket.io-client').io,
};
const sidekeeper = process.argv[2];
const POLL = '/socket.io/?EIO=4&transport=polling';
const SOCKET = '/socket.io/?EIO=4&transport=websocket';
const BLOCKED_MILLIS = 3_000;

function reload(sk) {
  const runDir = sk.child.spawnargs[sk.child.spawnargs.indexOf('--run-dir') + 1];
  execFileSync(sidekeeper, ['reload', '--run-dir', runDir]);
}

async function openSocket(sk) {
  const client = await connect(sk);
  client.write(upgradeHead(SOCKET));
  assert.match(await client.head(20_000), /^HTTP\/1.1 101/);
  assert.match(String((await takeFrame(client, 20_000)).payload), /^0\{"sid"/);
  assert.equal(client.all().length, 0, 'one worker has spoken, and no other');
  return client;
}

for (const node of nodes) {
  const version = await versionOf(node);
  const it = (name, run, { app, io = {} } = {}) =>
    test(`Node ${version}: ${name}`, () =>
      withSidekeeper({ script: 'corners.cjs', node, app: { workers: 2, ...app }, env: { IO_OPTIONS: JSON.stringify(io) } }, run));

  for (const workers of [1, 2]) {
    await it(`50 upgrades while one of ${workers} stands still for 3 s: none is lost`, async (sk) => {
      await get(sk, `/block?ms=${BLOCKED_MILLIS}`);
      await delay(50);
      const began = Date.now();
      const open = await Promise.all(Array.from({ length: 50 }, () => openSocket(sk)));
      for (const client of open) {
        client.destroy();
      }
      console.log(`# after ${Date.now() - began} ms, ${sk.count('was not taken')} not taken, ${sk.count('is relayed')} relayed`);
    }, { app: { workers } });
  }

  await it('posts that are under way in a reload arrive, and their session goes on', async (sk) => {
    const sessions = await Promise.all(Array.from({ length: 4 }, async () => {
      const sid = /"sid":"([^"]+)"/.exec((await get(sk, POLL)).text)[1];
      assert.equal((await get(sk, `${POLL}&sid=${sid}`, { method: 'POST', body: '40' })).text, 'ok');
      let text = '';
      while (!text.includes('"hello"')) text += (await get(sk, `${POLL}&sid=${sid}`)).text;
      return sid;
    }));
    const before = sk.workers();
    // Their bodies have begun and not ended.
    const bodies = sessions.map((sid, i) => `42${i}["echo","${sid}"]`);
    const posts = sessions.map((sid, i) => {
      const request = http.request({
        host: sk.host, port: sk.port, path: `${POLL}&sid=${sid}`, method: 'POST', agent: false,
        headers: { 'Content-Length': bodies[i].length, 'Content-Type': 'text/plain;charset=UTF-8' },
      });
      request.write(bodies[i].slice(0, 5));
      const answered = new Promise((resolve, reject) => {
        request.on('response', (response) => response.on('data', (data) => resolve(String(data))));
        request.on('error', reject);
      });
      return { request, answered };
    });
    reload(sk);
    assert.equal(new Set([...before, ...sk.workers()]).size, 4, 'new workers serve');
    posts.forEach(({ request }, i) => request.end(bodies[i].slice(5)));
    for (const { answered } of posts) assert.equal(await soon(answered, 'an answer'), 'ok');
    for (const [i, sid] of sessions.entries()) {
      assert.match((await get(sk, `${POLL}&sid=${sid}`)).text, new RegExp(`43${i}\\["${sid}",`));
    }
  });

  await it('io.close() at one worker: its clients go to another one, new ones as well', async (sk) => {
    const open = Array.from({ length: 6 }, (_, i) =>
      clients[4](sk.url, { forceNew: true, transports: [['websocket'], ['polling']][i % 2], reconnectionDelay: 200 }));
    const pids = await Promise.all(open.map((socket) => soon(new Promise((resolve) => socket.once('hello', resolve)), 'hello')));
    assert.equal(new Set(pids).size, 2);
    // 'io server disconnect' is an order to stay away, which an app's own client would follow.
    for (const socket of open) socket.on('disconnect', (why) => why === 'io server disconnect' && socket.connect());
    const again = new Map(open.map((socket, i) => [i, new Promise((resolve) => socket.on('hello', resolve))]));
    const closed = Number((await get(sk, '/close')).text);
    for (const [i, hello] of again) if (pids[i] === closed) assert.ok(await soon(hello, 'another hello'));
    for (let i = 0; i < 4; i++) assert.equal((await get(sk, '/')).status, 200);
    open.forEach((socket) => socket.close());
  });

  for (const [name, io] of [['with a cookie', { cookie: true }], ['with compression', { perMessageDeflate: { threshold: 0 }, httpCompression: { threshold: 0 } }]]) {
    await it(`${name}: clients 2, 3 and 4, every transport`, async (sk) => {
      await Promise.all([2, 3, 4].flatMap((number) => [['polling'], ['websocket'], ['polling', 'websocket']].map(async (transports) => {
        const socket = clients[number](sk.url, { forceNew: true, transports, perMessageDeflate: { threshold: 0 } });
        const pid = await soon(new Promise((resolve) => socket.once('hello', resolve)), `hello ${number} ${transports}`);
        for (const value of ['x'.repeat(30_000), { deep: [1, 2, { three: 'ü' }] }, Buffer.alloc(70_000, 7)]) {
          const [back, from] = await soon(new Promise((resolve) => socket.emit('echo', value, (...all) => resolve(all))), 'an echo');
          assert.equal(from, pid);
          assert.deepEqual(Buffer.isBuffer(value) ? Buffer.from(back) : back, value);
        }
        if (transports.length > 1) await until('the upgrade', () => socket.io.engine.transport.name === 'websocket');
        socket.close();
      })));
    }, { io: { allowEIO3: true, ...io } });
  }
}

finish();
