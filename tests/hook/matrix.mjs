// Runs every app of this folder under sidekeeper, on every version of Node that is asked for, and
// looks at it through the proxy. An app that a plain `node app` would serve must be served; it must
// see its real client; and two workers of it must run side by side.
//
//   node matrix.mjs SIDEKEEPER SCRATCH_DIR NODE...
//
// Prints one line for each version and app (`ok - ` or `not ok - `); ends with 1 if one
// failed. The logs of what failed stay in SCRATCH_DIR.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

const require = createRequire(import.meta.url);
const HERE = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const READY_MILLIS_MAX = 30_000;
const ANSWER_MILLIS_MAX = 10_000;
const STOP_MILLIS_MAX = 15_000;
const AT_ONCE = 3;
// Not 127.0.0.1, which an app would also see if it saw the proxy.
const CLIENT = '127.0.0.7';

const [sidekeeper, scratch, ...nodes] = process.argv.slice(2);
const { io: connect4 } = require('socket.io-client');
const connect2 = require('socket.io-client2');
const WebSocket = require('ws');

// ---- What is looked at

const served = async (app, port = 3001) => {
  const answers = await ask(app, 2);
  for (const answer of answers) {
    assert.equal(answer.port, port, 'server.address().port is what was asked for');
    assert.equal(answer.remoteAddress, CLIENT, 'remoteAddress is the client');
  }
  return answers;
};

const CASES = [
  {
    name: 'http',
    script: 'http.cjs',
    async look(app) {
      for (const answer of await served(app)) {
        assert.equal(answer.remotePort, answer.clientPort);
        assert.equal(answer.remoteFamily, 'IPv4');
        assert.equal(answer.leak, undefined, 'our own field is not shown to the app');
      }
    },
  },
  { name: 'Express 4', script: 'express4.cjs' },
  { name: 'Express 5', script: 'express5.cjs' },
  { name: 'Koa', script: 'koa.cjs' },
  { name: 'Fastify, which listens twice', script: 'fastify.cjs' },
  { name: 'Socket.IO 4', script: 'socketio4.cjs', look: (app) => socketIo(app, connect4) },
  { name: 'Socket.IO 2', script: 'socketio2.cjs', look: (app) => socketIo(app, connect2) },
  { name: 'ws', script: 'ws.cjs', look: webSocket },
  {
    name: 'ESM with top-level await',
    script: 'esm.mjs',
    async look(app) {
      for (const answer of await served(app)) assert.equal(answer.greeting, 'late');
    },
  },
  // Older versions do not read TypeScript by themselves; tsx, below, does it for all.
  { name: 'TypeScript', script: 'typescript.mts', since: [22, 18] },
  {
    name: 'npm start with a shell line',
    package: { start: `node ${JSON.stringify(path.join(HERE, 'http.cjs'))}; true` },
    command: ['npm', 'start'],
  },
  { name: 'tsx', command: [path.join(HERE, 'node_modules/.bin/tsx'), 'typescript.mts'] },
  {
    name: 'two servers on one port',
    script: 'twice.cjs',
    async look(app) {
      for (const answer of await served(app)) assert.equal(answer.name, 'first');
    },
  },
  {
    name: 'a port of its own for metrics',
    script: 'metrics.cjs',
    async look(app) {
      await served(app);
      const answer = await fetch(`http://127.0.0.1:${app.metricsPort}/`);
      assert.equal(await answer.text(), 'up 1\n');
    },
  },
  {
    name: 'its own cluster',
    script: 'cluster.cjs',
    async look(app) {
      for (const { worker } of await served(app)) assert.ok(worker > 0);
      // Two of ours with two of its own each. At the same time, for a connection of the proxy
      // stays where it is and is used again.
      const pids = new Set();
      const end = Date.now() + ANSWER_MILLIS_MAX;
      for (let many = 8; pids.size < 4 && Date.now() < end; many = Math.min(2 * many, 64)) {
        const answers = await Promise.all(Array.from({ length: many }, () => getJson(app)));
        for (const answer of answers) pids.add(answer.pid);
        await delay(20);
      }
      assert.equal(pids.size, 4);
    },
  },
  {
    name: 'reads server.address().port',
    script: 'port0.cjs',
    async look(app) {
      const [{ PORT }] = await ask(app, 1);
      for (const answer of await served(app, Number(PORT))) assert.equal(answer.address, '::');
      await app.says(`http://localhost:${PORT}`);
    },
  },
  {
    name: 'closes and listens again',
    script: 'relisten.cjs',
    async look(app) {
      for (const answer of await served(app)) assert.equal(answer.rounds, 2);
    },
  },
  { name: 'an https server', script: 'https.cjs' },
  { name: 'a script without a server ends', script: 'script.cjs', ready: false, look: scriptEnds },
];

// Asks until `count` processes have answered, each time over a new connection. The first worker that
// is ready makes the app ready; the others may take a moment longer.
async function ask(app, count) {
  const answers = [];
  const pids = new Set();
  const end = Date.now() + READY_MILLIS_MAX;
  for (;;) {
    const answer = await getJson(app);
    answers.push(answer);
    pids.add(answer.pid);
    if (pids.size === count) return answers;
    assert.ok(Date.now() < end, `only ${pids.size} of ${count} processes have answered`);
    await delay(5);
  }
}

async function getJson({ host, port }) {
  const request = http.get({ host, port, agent: false, localAddress: CLIENT });
  const signal = AbortSignal.timeout(ANSWER_MILLIS_MAX);
  const [response] = await once(request, 'response', { signal });
  const clientPort = request.socket.localPort;
  let body = '';
  response.setEncoding('utf8');
  response.on('data', (text) => (body += text));
  await once(response, 'end', { signal });
  assert.equal(response.statusCode, 200, body);
  return { ...JSON.parse(body), clientPort };
}

async function socketIo(app, connect) {
  await served(app);
  const bytes = Buffer.alloc(100_000, 'sidekeeper');
  const agent = new http.Agent({ localAddress: CLIENT });
  for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
    const socket = connect(`http://${app.host}:${app.port}`, {
      transports,
      forceNew: true,
      reconnection: false,
      agent,
    });
    try {
      const refused = new Promise((_, reject) => {
        for (const event of ['connect_error', 'error', 'disconnect']) {
          socket.on(event, (error) => reject(new Error(`${transports}: ${event}: ${error}`)));
        }
      });
      const hello = new Promise((resolve) => socket.on('hello', resolve));
      const { remoteAddress } = await soon(Promise.race([hello, refused]), `${transports}: hello`);
      assert.equal(remoteAddress, CLIENT);
      if (transports.length > 1) {
        const { engine } = socket.io;
        const upgraded = new Promise((resolve) => {
          if (engine.transport.name === 'websocket') resolve();
          else engine.on('upgrade', resolve);
        });
        await soon(Promise.race([upgraded, refused]), 'the upgrade');
      }
      assert.equal(socket.io.engine.transport.name, transports.at(-1));
      for (const value of ['text', bytes]) {
        const echoed = new Promise((resolve) => socket.emit('echo', value, resolve));
        const echo = await soon(Promise.race([echoed, refused]), `${transports}: an echo`);
        if (value === bytes) assert.ok(bytes.equals(Buffer.from(echo)), 'binary comes back whole');
        else assert.equal(echo, value);
      }
    } finally {
      socket.close();
    }
  }
}

async function webSocket(app) {
  await served(app);
  const socket = new WebSocket(`ws://${app.host}:${app.port}/`, { localAddress: CLIENT });
  const next = () => soon(once(socket, 'message'), 'a message');
  try {
    const [hello] = await next();
    assert.equal(JSON.parse(hello).remoteAddress, CLIENT);
    for (const value of ['text', Buffer.alloc(300_000, 'sidekeeper')]) {
      const echo = next();
      socket.send(value);
      assert.ok(Buffer.from(value).equals((await echo)[0]), 'the echo is what was sent');
    }
  } finally {
    socket.terminate();
  }
}

// It ends by itself though it has a channel, and so it is started again.
async function scriptEnds(app) {
  const lines = () => (fs.existsSync(app.file) ? fs.readFileSync(app.file, 'utf8').split('\n') : []);
  const end = Date.now() + READY_MILLIS_MAX;
  while (lines().length < 4) {
    assert.ok(Date.now() < end, `the script has run only ${lines().length} times`);
    await delay(20);
  }
  assert.equal(lines()[0], 'channel');
}

// ---- How it is run

async function run(node, version, { name, script, command, package: scripts, ...rest }, dir) {
  fs.mkdirSync(dir, { recursive: true });
  const app = { host: '127.0.0.1', file: path.join(dir, 'file'), metricsPort: await freePort() };
  const env = {
    ...process.env,
    PATH: `${path.dirname(node)}:${process.env.PATH}`,
    METRICS_PORT: String(app.metricsPort),
    SCRIPT_FILE: app.file,
  };
  let cwd = HERE;
  if (scripts) {
    cwd = path.join(dir, 'app');
    fs.mkdirSync(cwd);
    fs.writeFileSync(path.join(cwd, 'package.json'), JSON.stringify({ scripts }));
  }
  const addressFile = path.join(dir, 'address');
  const logFile = path.join(dir, 'log');
  const log = fs.openSync(logFile, 'w');
  const args = ['run', '--listen', '127.0.0.1:0', '--address-file', addressFile];
  args.push('--run-dir', path.join(dir, 'run'), '--workers', '2');
  args.push('--', ...(command ?? [node, script]));
  const child = spawn(sidekeeper, args, { cwd, env, stdio: ['ignore', log, log] });
  const ended = once(child, 'exit').then(([code, signal]) => signal ?? code);
  app.says = async (text) => {
    const end = Date.now() + ANSWER_MILLIS_MAX;
    while (!fs.readFileSync(logFile, 'utf8').includes(text)) {
      assert.ok(Date.now() < end, `the log has: ${text}`);
      await delay(20);
    }
  };
  try {
    if (rest.ready !== false) {
      await ready(addressFile, child);
      app.port = Number(fs.readFileSync(addressFile, 'utf8').trim().split(':').at(-1));
    }
    await (rest.look ?? served)(app);
    child.kill('SIGTERM');
    assert.equal(await soon(ended, 'the end of sidekeeper', STOP_MILLIS_MAX), 0, 'exit code');
  } catch (error) {
    error.log = fs.readFileSync(logFile, 'utf8').split('\n').slice(-15);
    throw error;
  } finally {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await Promise.race([ended, delay(STOP_MILLIS_MAX, undefined, { ref: false })]);
      child.kill('SIGKILL');
    }
    fs.closeSync(log);
  }
  fs.rmSync(dir, { recursive: true });
}

async function ready(addressFile, child) {
  const end = Date.now() + READY_MILLIS_MAX;
  while (!fs.existsSync(addressFile)) {
    assert.equal(child.exitCode, null, 'sidekeeper ended before it was ready');
    assert.ok(Date.now() < end, 'no ready worker in time');
    await delay(20);
  }
}

async function soon(promise, what, millis = ANSWER_MILLIS_MAX) {
  const timeout = new AbortController();
  const late = delay(millis, undefined, { signal: timeout.signal }).then(() => {
    throw new Error(`waited in vain for ${what}`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    timeout.abort();
  }
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

const jobs = [];
for (const node of nodes) {
  const { stdout } = await promisify(execFile)(node, ['-p', 'process.versions.node']);
  const version = stdout.trim().split('.').map(Number);
  for (const each of CASES) {
    const [major, minor] = each.since ?? [0, 0];
    const since = version[0] > major || (version[0] === major && version[1] >= minor);
    if (since) jobs.push({ node, version, each });
  }
}

let failures = 0;
const work = async () => {
  for (let job = jobs.shift(); job; job = jobs.shift()) {
    const { node, version, each } = job;
    const name = `Node ${version[0]}: ${each.name}`;
    const dir = path.join(scratch, `${version[0]}-${each.name.replace(/\W+/g, '-')}`);
    try {
      await run(node, version, each, dir);
      console.log(`ok - ${name}`);
    } catch (error) {
      failures += 1;
      const lines = [`not ok - ${name}: ${error.message.split('\n')[0]}`];
      for (const line of [error.stack, ...(error.log ?? [])].join('\n').split('\n')) {
        lines.push(`#   ${line.slice(0, 300)}`);
      }
      console.log(lines.join('\n'));
    }
  }
};
await Promise.all(Array.from({ length: AT_ONCE }, work));
process.exit(failures > 0 ? 1 : 0);
