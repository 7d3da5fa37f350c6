// connectionStateRecovery, wherever a client comes back to: what it had and what it missed are
// fetched from the worker that it was at. With `broadcast: true` nothing is lost, doubled or out of
// order, whoever says it meanwhile.
//
//   node recovery.mjs SIDEKEEPER SCRATCH_DIR NODE...

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { delay, finish, nodes, soon, test, until, versionOf, withSidekeeper } from './harness.mjs';

const require = createRequire(import.meta.url);
const { io } = require('socket.io-client');
const sidekeeper = process.argv[2];
const WORKERS = 4;

let strangers = 0;
const stranger = () => ({ 'User-Agent': `browser ${++strangers}` });

class Client {
  constructor(sk, options = {}) {
    this.socket = io(sk.url, {
      transports: ['websocket'], forceNew: true, reconnectionDelay: 150, randomizationFactor: 0,
      extraHeaders: stranger(), ...options,
    });
    this.said = [];
    this.counted = {};
    this.socket.on('said', (value) => this.said.push(value));
    this.socket.on('counted', (name, n) => (this.counted[name] ??= []).push(n));
    this.ready = this.hello();
  }

  hello() {
    return soon(new Promise((resolve) => this.socket.once('hello', resolve)), 'hello');
  }

  ask(...words) {
    return soon(new Promise((resolve) => this.socket.emit(...words, resolve)), words[0]);
  }

  // Loses the connection and comes back as somebody whom nobody has seen before.
  comeBack({ as = stranger() } = {}) {
    const hello = this.hello();
    if (as) this.socket.io.opts.extraHeaders = as;
    this.socket.io.engine.close();
    return hello;
  }

  // A first broadcast: it has what a client names when it comes back.
  async begin() {
    await this.ready;
    this.socket.emit('say', this.socket.id, 0, ['first']);
    await until('the first broadcast', () => this.said.includes('first'));
    this.said = [];
    return this;
  }
}

const reload = (sk) => {
  const runDir = sk.child.spawnargs[sk.child.spawnargs.indexOf('--run-dir') + 1];
  execFileSync(sidekeeper, ['reload', '--run-dir', runDir], { encoding: 'utf8' });
};

for (const node of nodes) {
  const version = await versionOf(node);
  const isEnd = node === nodes[0] || node === nodes.at(-1);
  for (const broadcast of isEnd ? [false, true] : [true]) {
    const how = `Node ${version}, ${broadcast ? 'broadcast: true' : 'Socket.IO alone'}`;
    const it = (name, run, app = {}) =>
      test(`${how}: ${name}`, () =>
        withSidekeeper({ script: 'recovery.cjs', node, app: { workers: WORKERS, broadcast, ...app } }, run));

    await it('a stranger is recovered at any worker: id, rooms, data, and what it missed', async (sk) => {
      for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
        const client = new Client(sk, { transports });
        const { pid, recovered } = await client.ready;
        assert.equal(recovered, false);
        const { id } = client.socket;
        await client.ask('keep', { list: [1, 'two'], bytes: Buffer.from([0, 255]) }, 'blue');
        await client.begin();
        const moved = new Set([pid]);
        for (let round = 0; round < 4; round++) {
          const bytes = Buffer.from([round, 128, 255]);
          client.socket.emit('say', 'blue', 50, [`${round} a`, { bytes }, `${round} c`]);
          client.socket.emit('say', 'red', 50, ['not for it']);
          await client.ask('who');
          const hello = await client.comeBack();
          moved.add(hello.pid);
          assert.equal(hello.recovered, true, `${transports}, round ${round}`);
          assert.equal(client.socket.recovered, true);
          assert.equal(client.socket.id, id);
          assert.deepEqual(hello.rooms, ['blue', id].sort());
          assert.deepEqual(hello.data.kept.list, [1, 'two']);
          assert.deepEqual(Buffer.from(hello.data.kept.bytes), Buffer.from([0, 255]));
          assert.deepEqual(client.said, [`${round} a`, { bytes }, `${round} c`]);
          client.said = [];
        }
        assert.ok(moved.size > 1, 'it was at several workers');
        client.socket.close();
      }
    });

    await it('who hears nothing at its new worker is recovered by the next one all the same', async (sk) => {
      const client = await new Client(sk).begin();
      for (let round = 0; round < 6; round++) {
        assert.equal((await client.comeBack()).recovered, true, `round ${round}`);
      }
      assert.deepEqual(client.said, []);
      client.socket.emit('say', client.socket.id, 50, ['after all']);
      await client.ask('who');
      assert.equal((await client.comeBack()).recovered, true);
      assert.deepEqual(client.said, ['after all']);
      client.socket.close();
    });

    await it('a crowd of lookalikes is recovered', async (sk) => {
      const as = stranger();
      const crowd = Array.from({ length: 24 }, () => new Client(sk, { extraHeaders: as }));
      await Promise.all(crowd.map((client) => client.begin()));
      crowd.forEach(({ socket }) => socket.emit('say', socket.id, 30, [socket.id]));
      await Promise.all(crowd.map((client) => client.ask('who')));
      const hellos = await Promise.all(crowd.map((client) => client.comeBack({ as: null })));
      assert.deepEqual(hellos.map(({ recovered }) => recovered), crowd.map(() => true));
      for (const { said, socket } of crowd) assert.deepEqual(said, [socket.id]);
      crowd.forEach(({ socket }) => socket.close());
    });

    // The last ones have a quarter of the drain to come back.
    if (isEnd) await it('a reload: everybody is recovered at the new workers', async (sk) => {
      const before = sk.workers();
      const clients = Array.from({ length: 12 }, () => new Client(sk));
      await Promise.all(clients.map((client) => client.begin()));
      const ids = clients.map(({ socket }) => socket.id);
      const arrivals = clients.map(({ socket }) => {
        const hellos = [];
        socket.on('hello', (hello) => hellos.push(hello));
        return hellos;
      });
      reload(sk);
      // Some may be sent away twice.
      const isThere = (hellos) => hellos.length > 0 && !before.includes(hellos.at(-1).pid);
      await until('all at new workers', () => arrivals.every(isThere), 40_000);
      for (const { recovered } of arrivals.flat()) assert.equal(recovered, true);
      assert.deepEqual(clients.map(({ socket }) => socket.id), ids);
      clients.forEach(({ socket }) => socket.close());
    }, { drain_rate: 50, drain_timeout: 10 });

    await it('what is not there is not waited for', async (sk) => {
      const client = new Client(sk, { auth: { pid: 'nobody has it', offset: 'x' } });
      const begun = Date.now();
      assert.equal((await client.ready).recovered, false);
      const lost = await new Client(sk).begin();
      process.kill((await lost.ready).pid, 'SIGKILL');
      const hello = await lost.hello();
      assert.equal(hello.recovered, false, 'it died with its worker');
      console.log(`# ${Date.now() - begun} ms`);
      client.socket.close();
      lost.socket.close();
    });

    await it('a sibling that stands still holds nobody up for long', async (sk) => {
      const clients = Array.from({ length: WORKERS }, () => new Client(sk));
      const pids = (await Promise.all(clients.map((client) => client.ready))).map(({ pid }) => pid);
      await Promise.all(clients.map((client) => client.begin()));
      const [stopped] = pids;
      process.kill(stopped, 'SIGSTOP');
      try {
        const others = clients.filter((_, i) => pids[i] !== stopped);
        const hellos = await Promise.all(others.map((client) => client.comeBack()));
        for (const { recovered } of hellos) assert.equal(recovered, true);
        // Its own are lost, and connected.
        const hello = await clients[0].comeBack();
        assert.equal(hello.recovered, false);
        assert.notEqual(hello.pid, stopped);
      } finally {
        process.kill(stopped, 'SIGCONT');
      }
      clients.forEach(({ socket }) => socket.close());
    });

    await it('what cannot travel stays, and the client is connected anew', async (sk) => {
      const [large, circle] = [new Client(sk), new Client(sk)];
      await Promise.all([large.ready, circle.ready]);
      await large.ask('keep', 'x'.repeat(1 << 20), 'a');
      await circle.ask('keep a circle');
      for (const client of [large, circle]) {
        await client.begin();
        const { pid } = await client.ready;
        const hello = await client.comeBack();
        // Unless it comes back to where it is.
        assert.equal(hello.recovered, hello.pid === pid);
        client.socket.close();
      }
    });

    await it('a namespace has sessions of its own', async (sk) => {
      const { socket } = new Client(sk);
      const other = socket.io.socket('/other');
      const said = [];
      other.on('said', (value) => said.push(value));
      await soon(new Promise((resolve) => other.once('hello', resolve)), 'hello');
      other.emit('say', 'one');
      await until('it', () => said.length === 1);
      const again = new Promise((resolve) => other.once('hello', resolve));
      socket.io.opts.extraHeaders = stranger();
      socket.io.engine.close();
      assert.equal((await soon(again, 'hello')).recovered, true);
      socket.io.engine.close();
    });
  }

  await test(`Node ${version}, broadcast: true: who comes and goes misses nothing of what all say, and gets nothing twice`, () =>
    withSidekeeper({ script: 'recovery.cjs', node, app: { workers: WORKERS, broadcast: true } }, async (sk) => {
      const speakers = Array.from({ length: WORKERS }, () => new Client(sk));
      await Promise.all(speakers.map((client) => client.ready));
      const movers = Array.from({ length: 6 }, () => new Client(sk));
      await Promise.all(movers.map((client) => client.ready));
      const COUNT = 1_500;
      let counting = true;
      const done = Promise.all(speakers.map((client, i) => client.ask('count', i, COUNT)))
        .then(() => (counting = false));
      let moves = 0;
      await Promise.all(movers.map(async (client) => {
        await until('a beginning', () => Object.keys(client.counted).length === WORKERS);
        while (counting) {
          assert.equal((await client.comeBack()).recovered, true);
          moves += 1;
          await delay(Math.random() * 60);
        }
      }));
      await done;
      const wanted = Array.from({ length: COUNT }, (_, n) => n);
      for (const client of [...movers, ...speakers]) {
        for (const [name, numbers] of Object.entries(client.counted)) {
          await until(`all of ${name}`, () => numbers.length >= COUNT).catch(() => {});
          assert.deepEqual(numbers.length, COUNT);
          assert.deepEqual(numbers, wanted);
        }
      }
      assert.ok(moves >= movers.length, `${moves} moves`);
      console.log(`# ${moves} moves while ${WORKERS * COUNT} were said`);
      [...movers, ...speakers].forEach(({ socket }) => socket.close());
    }));
}

finish();
