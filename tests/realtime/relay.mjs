// The relay: what ends on one side ends on the other in the same way, silence and standstill have
// their bounds, and a silent tunnel costs next to nothing.
//
//   node relay.mjs SIDEKEEPER SCRATCH_DIR NODE...

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { connect, delay, finish, test, until, upgradeHead, withSidekeeper } from './harness.mjs';

const app = { hand_off: false };
const open = async (sk, target) => {
  const client = await connect(sk);
  client.write(upgradeHead(target));
  assert.match(await client.head(), /^HTTP\/1.1 101/);
  return client;
};
const line = (bytes) => bytes.indexOf('\n') + 1;

await test('half-closing, each way, and a reset', () =>
  withSidekeeper({ script: 'worker.cjs', app }, async (sk) => {
    const ours = await open(sk, '/raw');
    ours.write('before\n');
    assert.equal(String(await ours.take('the echo', line)), 'before\n');
    ours.socket.end();
    assert.equal(String(await ours.take('what comes after our end', line)), 'end seen\n');
    assert.equal(await ours.closed, 'end');
    const theirs = await open(sk, '/raw?first');
    assert.equal(String(await theirs.take('the farewell', line)), 'the worker ends first\n');
    assert.equal(await theirs.closed, 'end');
    theirs.socket.end('still open on our side\n');
    const reset = await open(sk, '/raw?reset');
    assert.match(await reset.closed, /end|ECONNRESET/);
    for (const client of [ours, theirs, reset]) client.destroy();
  }));

await test('a silent tunnel ends after its time, one that stands still as well', () => {
  const args = ['--tunnel-idle-timeout', '2', '--write-timeout', '2', '--relay-threads-max', '2'];
  return withSidekeeper({ script: 'worker.cjs', app, args }, async (sk) => {
    const silent = await open(sk, '/raw');
    const began = Date.now();
    assert.ok(await silent.closed);
    assert.ok(Date.now() - began > 1500);
    // Three that stream with threads for one: the pool moves the others.
    const streams = await Promise.all([1, 2, 3].map(() => open(sk, '/raw')));
    const chunk = Buffer.alloc(1 << 20, 'y');
    for (const stream of streams) stream.write(chunk);
    for (const stream of streams) {
      const whole = await stream.take('the echo', (bytes) => bytes.length >= chunk.length && chunk.length);
      assert.ok(whole.equals(chunk));
    }
    const stuck = await open(sk, '/raw?sink');
    for (let i = 0; i < 16; i++) stuck.write(chunk);
    assert.ok(await stuck.closed);
    [silent, stuck, ...streams].forEach((client) => client.destroy());
  });
});

const COUNT = 4000; // with both ends in this machine, what 20,000 descriptors carry
await test(`${COUNT} silent tunnels: under 1 KiB each, no thread, and awake at once`, () =>
  withSidekeeper({ app: { command: [process.env.ECHO_APP], workers: 2 } }, async (sk) => {
    const heap = () => Number(/RssAnon:\s+(\d+)/.exec(fs.readFileSync(`/proc/${sk.pid}/status`))[1]);
    const threads = () => Number(/Threads:\s+(\d+)/.exec(fs.readFileSync(`/proc/${sk.pid}/status`))[1]);
    const tunnels = [];
    const some = async (count) => {
      for (let i = 0; i < count; i += 50) {
        tunnels.push(...(await Promise.all(Array.from({ length: 50 }, () => open(sk, '/tunnel')))));
      }
    };
    await some(200); // buffers that every thread has once
    await delay(200);
    const before = { heap: heap(), threads: threads() };
    await some(COUNT);
    await delay(500);
    const each = ((heap() - before.heap) * 1024) / COUNT;
    console.log(`# ${COUNT} silent tunnels: ${each.toFixed(0)} bytes each (RssAnon), ${threads() - before.threads} threads more`);
    assert.equal(threads(), before.threads);
    const began = Date.now();
    for (const tunnel of tunnels.slice(-100)) tunnel.write('awake\n');
    for (const tunnel of tunnels.slice(-100)) {
      assert.equal(String(await tunnel.take('the echo', line)), 'awake\n');
    }
    assert.ok(Date.now() - began < 5000);
    tunnels.forEach((tunnel) => tunnel.destroy());
    await until('they are gone', () => sk.count('closed: TunnelEnded') + sk.count('reset: ') > COUNT / 2);
    assert.ok(each < 1024, `${each} bytes`);
  }));

finish();
