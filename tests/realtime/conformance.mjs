// WebSocket conformance in the classes of the Autobahn test suite: framing, pings, reserved bits,
// opcodes, fragmentation, UTF-8, closing, and sizes. What a server is to answer is the business of the
// app's own library; ours is that through the relay and the hand-off it answers, byte for byte and to
// the way the connection ends, what it answers directly.
//
//   node conformance.mjs SIDEKEEPER SCRATCH_DIR NODE...

import assert from 'node:assert/strict';
import { connect, delay, directly, finish, frame, frameLength, nodes, test, unframe, upgradeHead, withSidekeeper } from './harness.mjs';

const T = 1, B = 2, CONT = 0, CLOSE = 8, PING = 9, PONG = 10;
const close = (code, reason = '') => {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(code);
  return frame(Buffer.concat([head, Buffer.from(reason)]), { opcode: CLOSE });
};
const f = (opcode, payload = '', more = {}) => frame(payload, { opcode, ...more });
const end = close(1000);
const hex = (text) => Buffer.from(text.replaceAll(' ', ''), 'hex');

const CASES = [];
const add = (name, ...writes) => CASES.push({ name, writes });

for (const n of [0, 1, 125, 126, 127, 128, 65535, 65536]) {
  add(`1: text of ${n}`, f(T, '*'.repeat(n)), end);
  add(`1: binary of ${n}`, f(B, Buffer.alloc(n, 0xfe)), end);
}
for (const n of [997, 1, 7]) {
  const bytes = f(T, '*'.repeat(n === 1 ? 60 : 20_000));
  const parts = [];
  for (let i = 0; i < bytes.length; i += n) parts.push(bytes.subarray(i, i + n));
  CASES.push({ name: `1: written in pieces of ${n}`, writes: [...parts, end], drip: true });
}
for (const n of [0, 4, 125, 126]) add(`2: ping of ${n}`, f(PING, Buffer.alloc(n, 0x61)), end);
add('2: ten pings', ...Array.from({ length: 10 }, (_, i) => f(PING, String(i))), end);
add('2: an unasked pong', f(PONG, 'x'), f(T, 'after'), end);
for (let rsv = 1; rsv < 8; rsv++) add(`3: reserved bits ${rsv}`, f(T, 'first'), f(T, 'x', { rsv }), end);
for (const opcode of [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]) add(`4: opcode ${opcode}`, f(T, 'first'), f(opcode, 'x'), end);
add('5: a fragmented ping', f(PING, 'a', { fin: false }), f(CONT, 'b'), end);
add('5: two fragments', f(T, 'a', { fin: false }), f(CONT, 'b'), end);
add('5: a ping between fragments', f(T, 'a', { fin: false }), f(PING, 'p'), f(CONT, 'b'), end);
add('5: a continuation of nothing', f(CONT, 'b'), end);
add('5: a message within a message', f(T, 'a', { fin: false }), f(T, 'b'), end);
add('5: many fragments', f(T, '', { fin: false }), ...Array.from({ length: 500 }, (_, i) => f(CONT, `${i},`, { fin: false })), f(CONT, 'z'), end);
for (const [name, text] of Object.entries({
  valid: 'cebae1bdb9cf83cebcceb5', 'a lone surrogate': 'eda080', 'too large': 'f4908080', overlong: 'c080',
  'a lone continuation': '80', 'cut off': 'e282', 'the last one': 'f48fbfbf', 'not a character': 'efbfbe',
})) {
  add(`6: UTF-8, ${name}`, f(T, hex(text)), end);
  const bytes = hex(text);
  add(`6: UTF-8 in fragments, ${name}`, f(T, bytes.subarray(0, 1), { fin: false }), f(CONT, bytes.subarray(1)), end);
}
for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 3000, 3999, 4000, 4999, 0, 999, 1004, 1005, 1006, 1015, 1100, 2000, 2999, 5000, 65535]) {
  add(`7: close with ${code}`, close(code, 'reason'));
}
add('7: close without a code', f(CLOSE));
add('7: close with half a code', f(CLOSE, 'x'));
add('7: close with a long reason', close(1000, 'x'.repeat(123)));
add('7: close with a reason that is too long', f(CLOSE, Buffer.concat([hex('03e8'), Buffer.alloc(124, 0x78)])));
add('7: close with a reason that is no UTF-8', f(CLOSE, hex('03e8ceba80')));
add('7: a message after close', end, f(T, 'late'));
add('7: two closes', end, end);
add('7: unmasked', f(T, 'x', { masked: false }), end);
add('7: a length with the highest bit', hex('81ff8000000000000001'), end);
for (const power of [20, 22, 24]) {
  add(`9: text of ${1 << power}`, f(T, 'x'.repeat(1 << power)), end);
  add(`9: binary of ${1 << power} in fragments`, f(B, Buffer.alloc(1 << (power - 1)), { fin: false }), f(CONT, Buffer.alloc(1 << (power - 1))), end);
}
add('10: a thousand messages at once', Buffer.concat(Array.from({ length: 1000 }, (_, i) => f(T, `message ${i}`))), end);
add('10: the client just leaves');

// What the server has said, and how it ended.
async function say(sk, { writes, drip }) {
  const client = await connect(sk);
  client.write(upgradeHead('/ws'));
  const head = await client.head(20_000);
  const said = [head.split('\r\n')[0]];
  await client.take('hello', frameLength, 20_000);
  for (const bytes of writes) {
    client.write(bytes);
    if (drip) await new Promise(setImmediate);
  }
  if (writes.length === 0) client.socket.end();
  const ending = client.closed;
  for (;;) {
    let taken;
    try {
      taken = await client.take('more', frameLength, 20_000);
    } catch (error) {
      if (!/the connection ended/.test(error.message)) throw error;
      break;
    }
    const { fin, rsv, opcode, payload } = unframe(taken);
    const short = payload.length > 64 ? `${payload.length} of ${payload[0]}` : payload.toString('hex');
    said.push(`${fin} ${rsv} ${opcode} ${short}`);
  }
  // A reset may overtake what a server says to what it does not read; either way it has ended.
  said.push((await ending) === 'end' ? 'end' : 'reset');
  client.destroy();
  return said;
}

async function all(sk) {
  const results = new Map();
  const queue = [...CASES];
  await Promise.all(Array.from({ length: 4 }, async () => {
    for (let each = queue.shift(); each; each = queue.shift()) {
      results.set(each.name, await say(sk, each).catch((error) => [`failed: ${error.message.slice(0, 100)}`]));
    }
  }));
  return results;
}

for (const node of nodes) {
  const direct = await directly(node, 'worker.cjs', all);
  await test(`directly: ${CASES.length} cases are answered`, async () => {
    for (const [name, said] of direct) assert.ok(!said[0].startsWith('failed'), `${name}: ${said[0]}`);
    assert.deepEqual(direct.get('2: ping of 4'), ['HTTP/1.1 101 Switching Protocols', 'true 0 10 61616161', 'true 0 8 03e8', 'end']);
  });
  for (const hand_off of [true, false]) {
    const how = hand_off ? 'handed off' : 'relayed';
    await test(`${how}: each is answered as directly`, () =>
      withSidekeeper({ script: 'worker.cjs', node, app: { hand_off } }, async (sk) => {
        const results = await all(sk);
        const different = [];
        for (const [name, wanted] of direct) {
          if (JSON.stringify(results.get(name)) !== JSON.stringify(wanted)) {
            different.push(`${name}: directly ${wanted.slice(-3)}, here ${results.get(name).slice(-3)}`);
          }
        }
        assert.equal(different.length, 0, different.slice(0, 12).join(' | '));
      }));
  }
}
await delay(0);
finish();
