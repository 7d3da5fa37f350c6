// Traps that Node, engine.io and the kernel set for whoever stands in front of them. What every
// one of them is, and where the others are tested, is in tests/traps.sh.
//
//   node traps.mjs SIDEKEEPER SCRATCH_DIR NODE...

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import {
  connect, delay, finish, frame, get, getJson, nodes, soon, start, takeFrame, test, until,
  upgradeHead, versionOf, withSidekeeper,
} from './harness.mjs';

const scratch = process.argv[3];
const POLL = '/socket.io/?EIO=4&transport=polling';
const SOCKET = '/socket.io/?EIO=4&transport=websocket';

// A session that has nothing more to say: its next poll is held.
async function openSession(sk) {
  const sid = /"sid":"([^"]+)"/.exec((await get(sk, POLL)).text)[1];
  await get(sk, `${POLL}&sid=${sid}`, { method: 'POST', body: '40' });
  let text = '';
  while (!text.includes('"hello"')) text += (await get(sk, `${POLL}&sid=${sid}`)).text;
  return { sid, pid: Number(/"pid":(\d+)/.exec(text)[1]) };
}

// A WebSocket that is an engine.io session of its own.
async function openSocket(sk, millis) {
  const client = await connect(sk);
  client.write(upgradeHead(SOCKET));
  assert.match(await client.head(millis), /^HTTP\/1.1 101/);
  assert.match(String((await takeFrame(client, millis)).payload), /^0\{"sid"/);
  return client;
}

for (const node of nodes) {
  const version = await versionOf(node);
  let sk;
  const it = (name, run) => test(`Node ${version}: ${name}`, async () => {
    try {
      sk ??= await start({ script: 'traps.cjs', node });
      await run(sk);
    } catch (error) {
      if (sk) error.stack += `\n${sk.log().split('\n').slice(-25).join('\n')}`;
      throw error;
    }
  });

  await it('malformed lines in the channel harm nobody', async () => {
    const before = sk.workers();
    const spoken = new Set();
    while (spoken.size < 2) spoken.add(Number((await get(sk, '/malformed')).text));
    const clients = await Promise.all(Array.from({ length: 6 }, () => openSocket(sk)));
    clients.forEach((client) => client.destroy());
    await sk.says('bytes was skipped');
    // What was not meant for siblings, or was cut off, has not reached them either.
    for (let i = 0; i < 4; i++) assert.equal((await get(sk, '/')).status, 200);
    assert.deepEqual(sk.workers(), before, 'the workers live on');
    assert.equal(sk.count('its channel is closed'), 0);
  });

  await it('hand-offs that pile up in a channel arrive, each with its own descriptor', async () => {
    const pids = sk.workers();
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    const opening = Array.from({ length: 60 }, () => openSocket(sk, 20_000));
    await delay(150);
    for (const pid of pids) process.kill(pid, 'SIGCONT');
    const clients = await Promise.all(opening);
    for (const client of clients) client.write(frame('40'));
    for (const client of clients) assert.match(String((await takeFrame(client)).payload), /^40\{"sid"/);
    clients.forEach((client) => client.destroy());
  });

  await it('overlapping polls: 400 for the second, the end for the session, nothing sent again', async () => {
    const { sid } = await openSession(sk);
    const first = get(sk, `${POLL}&sid=${sid}&id=first-${sid}`);
    first.catch(() => {});
    const counts = async () => {
      const all = {};
      const missing = new Set(sk.workers());
      await until('every worker has spoken', async () => {
        const { pid, heard } = await getJson(sk, '/heard');
        missing.delete(pid);
        Object.assign(all, heard);
        return missing.size === 0;
      });
      return all;
    };
    await until('the first poll has arrived', async () => (await counts())[`first-${sid}`]);
    const second = await get(sk, `${POLL}&sid=${sid}&id=second-${sid}`);
    assert.deepEqual([second.status, second.text], [400, '']);
    await soon(first.catch(() => {}), 'the end of the first poll');
    const third = await get(sk, `${POLL}&sid=${sid}`);
    assert.deepEqual([third.status, JSON.parse(third.text).code], [400, 1]);
    const all = await counts();
    assert.deepEqual([all[`first-${sid}`], all[`second-${sid}`]], [1, 1]);
  });

  await it('a hundred connections queued at killed workers are served by their next life', async () => {
    const pids = sk.workers();
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    const asked = Array.from({ length: 100 }, () => get(sk, '/'));
    await delay(200);
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    for (const { status, text } of await Promise.all(asked)) {
      assert.equal(status, 200);
      assert.ok(!pids.includes(Number(text)));
    }
  });

  await it('SIGTERM during a long poll', async () => {
    const { sid } = await openSession(sk);
    const workers = sk.workers();
    const poll = get(sk, `${POLL}&sid=${sid}`).then(({ status }) => status, ({ code, name }) => code ?? name);
    await delay(200);
    await sk.stop();
    // An answer, or an end: not silence.
    assert.match(String(await soon(poll, 'the end of the poll')), /^(200|400|50[23]|ECONNRESET)$/);
    for (const pid of workers) assert.ok(!fs.existsSync(`/proc/${pid}`), `worker ${pid} has ended`);
  });
  if (sk) await sk.stop().catch(() => {});
}

const REQUESTS = 12;
const CLIENTS = 30;
const IDLE_MILLIS = 50;
await test('a worker that closes idle connections: GETs never fail, POSTs are never sent twice', async () => {
  const notes = path.join(scratch, 'notes');
  fs.mkdirSync(scratch, { recursive: true });
  fs.writeFileSync(notes, '');
  const app = { workers: 1 };
  await withSidekeeper({ script: 'traps.cjs', app, env: { IDLE_MILLIS, NOTES: notes } }, async (sk) => {
    const answers = {};
    const client = async (_, n) => {
      for (let i = 0; i < REQUESTS; i++) {
        assert.equal((await get(sk, '/')).status, 200);
        const { status } = await get(sk, `/note?id=${n}-${i}`, { method: 'POST', body: 'x' });
        answers[`${n}-${i}`] = status;
        // About as long as the worker waits, so that both act at the same moment.
        await delay(IDLE_MILLIS - 3 + Math.random() * 6);
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    const noted = fs.readFileSync(notes, 'utf8').split('\n').filter(Boolean);
    assert.equal(new Set(noted).size, noted.length, 'none came twice');
    for (const [id, status] of Object.entries(answers)) {
      // One that met the end of a connection is told so.
      assert.match(String(status), /^(200|502)$/);
      if (status === 200) assert.ok(noted.includes(id), `${id} was served`);
    }
    const refused = Object.values(answers).filter((status) => status !== 200).length;
    console.log(`# ${noted.length} POSTs served, ${refused} met a connection that was just being closed`);
  });
});

finish();
