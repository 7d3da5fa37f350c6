// A worker that leaves: no new sessions, its connections end one by one, and then it is stopped.
//
//   node drain.mjs SIDEKEEPER SCRATCH_DIR NODE...

import assert from 'node:assert/strict';
import {
  connect, delay, finish, getJson, nodes, openWebSocket, soon, takeFrame, test, until,
  upgradeHead, versionOf, withSidekeeper,
} from './harness.mjs';

const COUNT = 40;
const RATE = 20; // a second: COUNT / 2 of them are at the leaving worker, which makes a second

// Opens WebSockets, has the last worker leave, and says when each of its clients was told what.
async function leave(sk, read) {
  const open = [];
  for (let i = 0; i < COUNT; i++) open.push(await openWebSocket(sk));
  const leaver = sk.workers()[1];
  const staying = open.filter(({ hello }) => hello.instance === 0);
  const leaving = open.filter(({ hello }) => hello.instance === 1);
  assert.equal(leaving.length, COUNT / 2, 'half of the clients are at each worker');
  const began = Date.now();
  process.kill(sk.pid, 'SIGTTOU');
  await sk.says('app.1 leaves: 20 WebSockets and 0 requests');
  const times = [];
  const ends = leaving.map(async ({ client }) => {
    await read(client);
    times.push(Date.now() - began);
    client.destroy();
  });
  // New clients go to the other worker, all the while.
  for (let i = 0; i < 6; i++) assert.equal((await getJson(sk, '/')).instance, 0);
  const later = await openWebSocket(sk);
  assert.equal(later.hello.instance, 0);
  await soon(Promise.all(ends), 'the end of every connection of the leaving worker');
  await until('the leaving worker has ended', () => sk.workers()[1] !== leaver);
  assert.equal(sk.workers()[1], undefined, 'it is not started again');
  for (const { client } of [...staying, later]) {
    assert.equal(client.socket.readyState, 'open', 'the others stay');
    client.destroy();
  }
  times.sort((a, b) => a - b);
  const [first, last] = [times[0], times.at(-1)];
  assert.ok(last - first > 400, `they end one by one, not within ${last - first} ms`);
  const together = Math.max(...times.map((t) => times.filter((u) => u >= t && u < t + 50).length));
  assert.ok(together < 10, `${together} within 50 ms`);
}

const closeFrame = async (client) => {
  const { opcode, payload } = await takeFrame(client);
  assert.equal(opcode, 8);
  assert.equal(payload.readUInt16BE(0), 1012);
};
const plainEnd = async (client) => assert.equal(await client.closed, 'end');

for (const node of nodes) {
  const version = await versionOf(node);
  for (const hand_off of [true, false]) {
    const how = hand_off ? 'handed off' : 'relayed';
    await test(`Node ${version}: clients of a leaving worker are sent away one by one (${how})`, () =>
      withSidekeeper({ script: 'worker.cjs', node, app: { hand_off, drain_rate: RATE } }, async (sk) => {
        await leave(sk, closeFrame);
      }));
  }
}

await test('a worker without the hook: whoever relays its tunnels ends them', async () => {
  const app = { command: [process.env.ECHO_APP], workers: 2, drain_rate: RATE };
  await withSidekeeper({ app }, async (sk) => {
    const open = [];
    for (let i = 0; i < COUNT; i++) {
      const client = await connect(sk);
      client.write(upgradeHead('/tunnel'));
      await client.head();
      open.push(client);
    }
    process.kill(sk.pid, 'SIGTTOU');
    const began = Date.now();
    const times = [];
    open.forEach((client) => client.closed.then((how) => times.push([how, Date.now() - began])));
    await until('half of the tunnels end', () => times.length >= COUNT / 2);
    await delay(300);
    assert.equal(times.length, COUNT / 2);
    assert.ok(times.every(([how]) => how === 'end'), JSON.stringify(times));
    assert.ok(times.at(-1)[1] - times[0][1] > 400, JSON.stringify(times));
    await until('it has ended', () => sk.workers()[1] === undefined);
    open.forEach((client) => client.destroy());
  });
});

await test('a request that is under way is finished; the timeout ends what does not end', async () => {
  const app = { drain_rate: RATE, drain_timeout: 3 };
  await withSidekeeper({ script: 'worker.cjs', app }, async (sk) => {
    const clients = [];
    for (const ms of [1500, 1500, 60_000, 60_000]) {
      const client = await connect(sk);
      client.write(`GET /slow?ms=${ms} HTTP/1.1\r\nHost: a\r\n\r\n`);
      clients.push(client);
      await delay(100);
    }
    const began = Date.now();
    process.kill(sk.pid, 'SIGTTOU');
    for (const client of clients.slice(0, 2)) {
      assert.match(await client.head(), /^HTTP\/1.1 200/);
      client.destroy();
    }
    assert.notEqual(sk.workers()[1], undefined, 'it is there as long as it has a request');
    await until('the timeout is over', () => sk.workers()[1] === undefined);
    const took = Date.now() - began;
    assert.ok(took > 2800, `it was given its time: ${took}`);
    clients.forEach((client) => client.destroy());
  });
});

await test('one that has nobody leaves at once, and the last one stays', () =>
  withSidekeeper({ script: 'worker.cjs' }, async (sk) => {
    const began = Date.now();
    process.kill(sk.pid, 'SIGTTOU');
    await until('it has ended', () => sk.workers()[1] === undefined);
    assert.ok(Date.now() - began < 10_000);
    process.kill(sk.pid, 'SIGTTOU');
    await sk.says('no app has a worker to spare');
    assert.equal((await getJson(sk, '/')).instance, 0);
  }));

finish();
