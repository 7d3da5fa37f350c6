// WebSockets on their way to the worker's own process, and back when it does not take them.
//
//   node handoff.mjs SIDEKEEPER SCRATCH_DIR NODE...

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import {
  connect, delay, finish, frame, frameLength, get, getJson, nodes, openWebSocket, soon, takeFrame,
  test, unframe, until, upgradeHead, versionOf, withSidekeeper,
} from './harness.mjs';

const CLIENT = '127.0.0.7'; // not the proxy's own address
const sidekeeper = process.argv[2];

const status = (sk) => {
  const runDir = sk.child.spawnargs[sk.child.spawnargs.indexOf('--run-dir') + 1];
  const text = execFileSync(sidekeeper, ['status', '--json', '--run-dir', runDir], { encoding: 'utf8' });
  return JSON.parse(text).workers;
};
const handedOff = (sk) => status(sk).map((worker) => worker.handed_off);

for (const node of nodes) {
  const version = await versionOf(node);
  const options = { script: 'worker.cjs', node };
  const it = (name, run, more = {}) =>
    test(`Node ${version}: ${name}`, () => withSidekeeper({ ...options, ...more }, run));

  await it('the app sees the real client, and what came behind the head, in order', async (sk) => {
    const { client, hello } = await openWebSocket(sk, '/ws?a=b', { localAddress: CLIENT });
    assert.equal(hello.remoteAddress, CLIENT);
    assert.equal(hello.remotePort, client.socket.localPort);
    assert.equal(hello.url, '/ws?a=b');
    client.destroy();
    for (let round = 0; round < 20; round++) {
      const early = await connect(sk);
      const texts = Array.from({ length: 10 }, (_, i) => `early ${i} ${'x'.repeat(i * 300)}`);
      const bytes = Buffer.concat([Buffer.from(upgradeHead('/ws')), ...texts.map((t) => frame(t))]);
      // All at once, or cut somewhere behind the head.
      const cut = round === 0 ? bytes.length : Math.floor((bytes.length * round) / 20);
      early.write(bytes.subarray(0, cut));
      if (cut < bytes.length) {
        await delay(5);
        early.write(bytes.subarray(cut));
      }
      assert.match(await early.head(), /^HTTP\/1.1 101/);
      await takeFrame(early);
      for (const text of texts) assert.equal(String((await takeFrame(early)).payload), text);
      early.destroy();
    }
    assert.equal(sk.count('is relayed'), 0, 'none of them was relayed');
  });

  await it('a refusal reaches the client whole', async (sk) => {
    for (const [target, size] of [['/refuse?n=7', 7], ['/refuse?n=300000', 300_000]]) {
      const client = await connect(sk);
      client.write(upgradeHead(target));
      assert.match(await client.head(), /^HTTP\/1.1 404 Not Found/);
      await client.take('the whole answer', (bytes) => bytes.length >= size && size);
      assert.equal(await client.closed, 'end');
      client.destroy();
    }
  });

  await it('the counts of connections and bytes are right', async (sk) => {
    const open = [];
    for (let i = 0; i < 10; i++) open.push(await openWebSocket(sk));
    assert.deepEqual(handedOff(sk), [5, 5]);
    const { client } = open[0];
    client.write(frame('x'.repeat(10_000)));
    await takeFrame(client);
    await until('the bytes are told', () => {
      const { handed_off_bytes_in, handed_off_bytes_out } = status(sk)[open[0].hello.instance];
      // Frames and handshakes come on top.
      return handed_off_bytes_in > 10_000 && handed_off_bytes_in < 12_000
        && handed_off_bytes_out > 10_000 && handed_off_bytes_out < 15_000;
    });
    const [at0, at1] = [0, 1].map((n) => open.filter(({ hello }) => hello.instance === n));
    for (const each of at0.slice(0, 2)) each.client.destroy();
    await until('two are gone', () => handedOff(sk)[0] === 3);
    process.kill(at1[0].hello.pid, 'SIGKILL');
    await until('a dead worker has none', () => handedOff(sk)[1] === 0);
    assert.equal(handedOff(sk)[0], 3);
    for (const each of at1) assert.ok(await each.client.closed);
    open.forEach((each) => each.client.destroy());
    await until('none is left', () => handedOff(sk).every((n) => n === 0));
  });

  await it('a worker that stands still: another one serves, nobody is lost, none doubled', async (sk) => {
    const [first] = sk.workers();
    process.kill(first, 'SIGSTOP');
    const opening = Array.from({ length: 8 }, () => openWebSocket(sk, '/ws', { millis: 12_000 }));
    const open = await Promise.all(opening);
    assert.ok(open.every(({ hello }) => hello.pid !== first));
    process.kill(first, 'SIGCONT');
    await delay(300);
    for (const { client } of open) {
      client.write(frame('still here'));
      assert.equal(String((await takeFrame(client)).payload), 'still here');
      assert.equal(client.all().length, 0, 'nobody else writes into it');
      client.destroy();
    }
    const { hello } = await openWebSocket(sk);
    assert.ok(hello.pid > 0);
  });

  await it('what was not taken keeps its id and is one request', async (sk) => {
    const [full, other] = sk.workers();
    const used = fs.readdirSync(`/proc/${full}/fd`).map(Number);
    execFileSync('prlimit', ['--pid', String(full), `--nofile=${Math.max(...used)}:`]);
    const open = await Promise.all(Array.from({ length: 4 }, () => openWebSocket(sk)));
    const noticed = () => sk.log().split('\n').filter((line) => line.startsWith('{') && line.includes('/ws'));
    const lines = await until('all are noted', () => noticed().length >= 4 && noticed());
    assert.equal(lines.length, 4);
    const shown = open.map(({ hello }) => hello.id).sort();
    const noted = lines.map((line) => JSON.parse(line).request_id).sort();
    assert.deepEqual(noted, shown);
    const offered = [...sk.log().matchAll(/(\w+): a connection was not taken/g)];
    assert.ok(offered.length >= 1);
    for (const [, id] of offered) assert.ok(shown.includes(id), 'the id of the first offer');
    for (const { hello } of open) assert.equal(hello.pid, other);
    open.forEach(({ client }) => client.destroy());
  }, { args: ['--access-log', '-', '--access-log-format', 'json'] });

  await it('the affinity cookie comes with the answer of the worker itself', async (sk) => {
    const opened = await connect(sk);
    opened.write(upgradeHead('/ws'));
    const head = await opened.head();
    assert.match(head, /^HTTP\/1\.1 101 [^\r]*\r\nSet-Cookie: where=[0-9a-f]{32}; Path=\/; HttpOnly; SameSite=Lax\r\n/);
    const { pid } = JSON.parse((await takeFrame(opened)).payload);
    const cookie = /where=[0-9a-f]+/.exec(head)[0];
    for (let i = 0; i < 4; i++) {
      const again = await connect(sk);
      again.write(upgradeHead('/ws', { Cookie: cookie }));
      assert.doesNotMatch(await again.head(), /set-cookie/i, 'it has it already');
      assert.equal(JSON.parse((await takeFrame(again)).payload).pid, pid);
      again.destroy();
    }
    // An answer that is no upgrade, and one that is served as a plain request.
    const refused = await connect(sk);
    refused.write(upgradeHead('/refuse'));
    assert.match(await refused.head(), /^HTTP\/1\.1 404 Not Found\r\nSet-Cookie: where=/);
    assert.equal(sk.count('is relayed'), 0);
    [opened, refused].forEach((client) => client.destroy());
  }, { app: { affinity_cookie: 'where' } });

  await it('a killed worker with fifty on their way: all of them are served', async (sk) => {
    const [first, second] = sk.workers();
    for (const pid of [first, second]) process.kill(pid, 'SIGSTOP');
    const opening = Array.from({ length: 50 }, () => openWebSocket(sk, '/ws', { millis: 20_000 }));
    await delay(200);
    process.kill(first, 'SIGKILL');
    process.kill(second, 'SIGKILL');
    const open = await Promise.all(opening);
    assert.equal(open.length, 50);
    for (const { client, hello } of open) {
      assert.ok(hello.pid !== first && hello.pid !== second);
      client.destroy();
    }
  });

  await it('a worker that is out of descriptors: another one is offered it and has it', async (sk) => {
    const [full, other] = sk.workers();
    const used = fs.readdirSync(`/proc/${full}/fd`).map(Number);
    execFileSync('prlimit', ['--pid', String(full), `--nofile=${Math.max(...used)}:`]);
    const open = await Promise.all(Array.from({ length: 8 }, () => openWebSocket(sk)));
    assert.ok(open.every(({ hello }) => hello.pid === other));
    assert.ok(sk.count('a connection was not taken') >= 1);
    assert.equal(sk.count('is relayed'), 0);
    assert.deepEqual(handedOff(sk), [0, 8]);
    assert.equal(sk.workers()[0], full, 'it lives on');
    open.forEach(({ client }) => client.destroy());
  });

  await it('an app that has closed the channel is served by the relay', async (sk) => {
    const pids = new Set();
    while (pids.size < 2) pids.add(Number((await get(sk, '/disconnect')).text));
    await until('the channels are closed', () => sk.count('its channel is closed') >= 2);
    const open = await Promise.all(Array.from({ length: 6 }, () => openWebSocket(sk, '/ws', { localAddress: CLIENT })));
    for (const { client, hello } of open) {
      assert.ok(pids.has(hello.pid), 'it lives on');
      assert.equal(hello.remoteAddress, CLIENT);
      client.destroy();
    }
    assert.deepEqual(handedOff(sk), [0, 0]);
  });

  await it('hand_off: false', async (sk) => {
    const { client, hello } = await openWebSocket(sk, '/ws', { localAddress: CLIENT });
    assert.equal(hello.remoteAddress, CLIENT);
    const [{ tunnels: a }, { tunnels: b }] = status(sk);
    assert.deepEqual([a + b, ...handedOff(sk)], [1, 0, 0]);
    client.destroy();
  }, { app: { hand_off: false } });

  await it('an app without WebSockets answers an upgrade as it does without us', async (sk) => {
    const client = await connect(sk);
    client.write(upgradeHead('/'));
    const head = await client.head();
    // Node leaves the upgrade unanswered or serves the request, which it does depends on its version;
    // here nobody listens for it, so it is served as a plain request.
    assert.match(head, /^HTTP\/1.1 200/);
    client.destroy();
  }, { env: { NO_UPGRADE: '1' } });

  await it('a slow reader does not stop the worker', async (sk) => {
    const { client, hello } = await openWebSocket(sk);
    client.socket.pause();
    client.write(frame(`flood ${16 << 20}`));
    await delay(300);
    await get(sk, '/lag');
    for (let i = 0; i < 10; i++) {
      assert.ok((await getJson(sk, '/')).pid);
      await delay(20);
    }
    let lag;
    do lag = await getJson(sk, '/lag'); while (lag.pid !== hello.pid);
    assert.ok(lag.ms < 1500, `its loop stood still for ${lag.ms} ms`);
    client.socket.resume();
    const whole = await client.take('all of it', frameLength, 30_000);
    assert.equal(unframe(whole).payload.length, 16 << 20);
    client.destroy();
  });
}

await test('a session waits for its own worker, and finds it', () =>
  withSidekeeper({ script: 'socketio.cjs' }, async (sk) => {
    const poll = '/socket.io/?EIO=4&transport=polling';
    const sid = /"sid":"([^"]+)"/.exec((await get(sk, poll)).text)[1];
    await get(sk, `${poll}&sid=${sid}`, { method: 'POST', body: '40' });
    const hello = JSON.parse(/\["hello",(\{.*?\})\]/.exec((await hear(sk, `${poll}&sid=${sid}`)))[1]);
    process.kill(hello.pid, 'SIGSTOP');
    const client = await connect(sk);
    client.write(upgradeHead(`/socket.io/?EIO=4&transport=websocket&sid=${sid}`));
    await sk.says('that was not taken is relayed');
    process.kill(hello.pid, 'SIGCONT');
    assert.match(await client.head(), /^HTTP\/1.1 101/);
    client.write(frame('2probe'));
    assert.equal(String((await takeFrame(client)).payload), '3probe');
    client.destroy();
    // Of a dead worker: engine.io's own words, and the end.
    process.kill(hello.pid, 'SIGKILL');
    await until('it has died', () => sk.count('ended: SIGKILL') > 0);
    const late = await connect(sk);
    late.write(upgradeHead(`/socket.io/?EIO=4&transport=websocket&sid=${sid}`));
    assert.match(await late.head(), /^HTTP\/1.1 400 Bad Request/);
    assert.equal(await soon(late.closed, 'the end'), 'end');
    late.destroy();
  }));

async function hear(sk, target) {
  let text = '';
  while (!text.includes('"hello"')) text += (await get(sk, target)).text;
  return text;
}

finish();
