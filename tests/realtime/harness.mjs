// What the tests of this folder share: starting sidekeeper with one Node app, talking to it in raw
// bytes, and saying what came of it in the words of tests/lib.sh (`ok - `, `not ok - `).

import { execFile, spawn } from 'node:child_process';
import crypto from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

export { delay };
export const HERE = path.dirname(new URL(import.meta.url).pathname);
const READY_MILLIS_MAX = 30_000;
const STOP_MILLIS_MAX = 30_000;
export const SOON_MILLIS_MAX = 15_000;

const [sidekeeper, scratch, ...rest] = process.argv.slice(2);
// The programs that run the workers: versions of Node.
export const nodes = rest;

// ---- verdicts

let failures = 0;

export async function test(name, run) {
  try {
    await run();
    console.log(`ok - ${name}`);
  } catch (error) {
    failures += 1;
    console.log(`not ok - ${name}: ${String(error.message).split('\n')[0]}`);
    const lines = String(error.stack).split('\n');
    const shown = lines.length > 45 ? [...lines.slice(0, 15), '...', ...lines.slice(-30)] : lines;
    for (const line of shown) console.log(`#   ${line.slice(0, 300)}`);
  }
}

export function finish() {
  process.exit(failures > 0 ? 1 : 0);
}

export async function versionOf(node) {
  const { stdout } = await promisify(execFile)(node, ['-p', 'process.versions.node.split(".")[0]']);
  return stdout.trim();
}

export async function soon(promise, what, millis = SOON_MILLIS_MAX) {
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

// Asks until the answer is true (or anything but undefined, null and false), and returns it.
export async function until(what, ask, millis = SOON_MILLIS_MAX) {
  const end = Date.now() + millis;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await delay(20);
  }
}

// ---- sidekeeper

let count = 0;

// `app`: keys of the app; `args`: options of sidekeeper.
export async function start({ script, node = process.execPath, app = {}, args = [], env = {} }) {
  const dir = path.join(scratch, String(++count));
  fs.mkdirSync(dir, { recursive: true });
  const config = path.join(dir, 'config.json');
  const entry = app.command
    ? { name: 'app', ...app }
    : { name: 'app', script: path.join(HERE, script), interpreter: node, workers: 2, ...app };
  fs.writeFileSync(config, JSON.stringify({ apps: [entry] }));
  const addressFile = path.join(dir, 'address');
  const logFile = path.join(dir, 'log');
  const log = fs.openSync(logFile, 'w');
  const child = spawn(
    sidekeeper,
    ['run', '--config', config, '--listen', '127.0.0.1:0', '--address-file', addressFile,
      '--run-dir', path.join(dir, 'run'), '--log-level', 'debug',
      // A client that has left in the middle of a long poll is not waited for.
      '--shutdown-timeout', '3', ...args],
    { cwd: HERE, env: { ...process.env, ...env }, stdio: ['ignore', log, log] },
  );
  fs.closeSync(log);
  const ended = once(child, 'exit').then(([code, signal]) => signal ?? code);
  const text = () => fs.readFileSync(logFile, 'utf8');
  const sk = {
    host: '127.0.0.1',
    child,
    pid: child.pid,
    log: text,
    count: (words) => text().split(words).length - 1,
    says: (words) => until(`the log says: ${words}`, () => text().includes(words)),
    // The processes of the workers, by instance.
    workers() {
      const pids = [];
      for (const task of fs.readdirSync(`/proc/${child.pid}/task`)) {
        const children = fs.readFileSync(`/proc/${child.pid}/task/${task}/children`, 'utf8');
        for (const pid of children.trim().split(' ').filter(Boolean)) {
          const environment = readOrNothing(`/proc/${pid}/environ`);
          const instance = /(?:^|\0)NODE_APP_INSTANCE=(\d+)/.exec(environment);
          if (instance) pids[instance[1]] = Number(pid);
        }
      }
      return pids;
    },
    async stop() {
      // Workers that a test has stopped are woken by the ladder; this is for the others.
      child.kill('SIGTERM');
      const code = await soon(ended, 'the end of sidekeeper', STOP_MILLIS_MAX).catch(() => {
        child.kill('SIGKILL');
        throw new Error('sidekeeper did not end');
      });
      if (code !== 0) throw new Error(`sidekeeper ended with ${code}`);
      if (text().includes('panicked at')) throw new Error('a panic is in the log');
    },
  };
  await until('a ready app', () => fs.existsSync(addressFile) || child.exitCode !== null,
    READY_MILLIS_MAX);
  if (child.exitCode !== null) throw new Error(`sidekeeper ended: ${text()}`);
  sk.port = Number(fs.readFileSync(addressFile, 'utf8').trim().split(':').at(-1));
  sk.url = `http://127.0.0.1:${sk.port}`;
  // The first ready worker makes the app ready.
  const wanted = app.workers ?? 2;
  await until('all workers', () => sk.count(' is ready after ') >= wanted, READY_MILLIS_MAX);
  return sk;
}

function readOrNothing(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

// Runs `body` with a sidekeeper and stops it whatever comes; what failed shows the log's end.
export async function withSidekeeper(options, body) {
  const sk = await start(options);
  let result;
  try {
    result = await body(sk);
  } catch (error) {
    const tail = sk.log().split('\n').slice(-25).join('\n');
    error.stack = `${error.stack}\n${tail}`;
    await sk.stop().catch(() => {});
    throw error;
  }
  await sk.stop();
  return result;
}

// ---- clients

// The same script without sidekeeper, on a port of this process: what `use` finds there is what is wanted elsewhere.
export async function directly(node, script, use) {
  const port = 20_000 + (process.pid % 20_000);
  const child = spawn(node, [`${HERE}/${script}`], { env: { ...process.env, PORT: String(port) }, stdio: 'inherit' });
  const sk = { host: '127.0.0.1', port };
  try {
    await until('the server', () => connect(sk).then((c) => (c.destroy(), true), () => false));
    return await use(sk);
  } finally {
    child.kill('SIGKILL');
  }
}

export async function get(sk, target, { headers = {}, method = 'GET', body, localAddress } = {}) {
  const request = http.request({
    host: sk.host, port: sk.port, path: target, method, headers, agent: false, localAddress,
  });
  request.end(body);
  // What comes behind the answer's head is said by `end`.
  request.on('error', () => {});
  const signal = AbortSignal.timeout(SOON_MILLIS_MAX);
  const [response] = await once(request, 'response', { signal });
  const chunks = [];
  response.on('data', (chunk) => chunks.push(chunk));
  await once(response, 'end', { signal });
  const text = Buffer.concat(chunks).toString();
  return { status: response.statusCode, headers: response.headers, text };
}

export const getJson = async (sk, target, options) =>
  JSON.parse((await get(sk, target, options)).text);

export function upgradeHead(target, fields = {}) {
  const key = crypto.randomBytes(16).toString('base64');
  const all = {
    Host: 'test', Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': key, ...fields,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${target} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

// A client of raw bytes. `closed` tells how it ended: 'end' or an error's code.
export async function connect(sk, { localAddress } = {}) {
  const socket = net.connect({
    host: sk.host, port: sk.port, localAddress, allowHalfOpen: true, noDelay: true,
  });
  await once(socket, 'connect');
  let got = Buffer.alloc(0);
  let ended = false;
  const waiting = new Set();
  const look = () => waiting.forEach((each) => each());
  socket.on('data', (bytes) => {
    got = got.length === 0 ? bytes : Buffer.concat([got, bytes]);
    look();
  });
  const closed = new Promise((resolve) => {
    socket.on('end', () => resolve('end'));
    socket.on('error', (error) => resolve(error.code));
    socket.on('close', () => resolve('close'));
  });
  closed.then(() => {
    ended = true;
    look();
  });
  const client = {
    socket,
    closed,
    write: (bytes) => socket.write(bytes),
    all: () => got,
    // Takes what `find` (a function of all bytes) gives the length of.
    take(what, find, millis) {
      const wait = new Promise((resolve, reject) => {
        const each = () => {
          const length = find(got);
          if (length > 0) {
            waiting.delete(each);
            const taken = got.subarray(0, length);
            got = got.subarray(length);
            resolve(taken);
          } else if (ended) {
            waiting.delete(each);
            reject(new Error(`the connection ended before ${what}; got ${got.toString('latin1')}`));
          }
        };
        waiting.add(each);
        each();
      });
      return soon(wait, what, millis);
    },
    head: (millis) =>
      client
        .take('a head', (bytes) => bytes.indexOf('\r\n\r\n') + 4 > 4 && bytes.indexOf('\r\n\r\n') + 4, millis)
        .then(String),
    destroy: () => socket.destroy(),
  };
  return client;
}

// One masked frame of a client.
export function frame(payload, { opcode = 1, fin = true, masked = true, rsv = 0 } = {}) {
  const bytes = Buffer.from(payload);
  const first = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  let head;
  if (bytes.length < 126) head = Buffer.from([first, bytes.length]);
  else if (bytes.length < 65536) head = Buffer.from([first, 126, bytes.length >> 8, bytes.length & 255]);
  else {
    head = Buffer.alloc(10);
    head[0] = first;
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(bytes.length), 2);
  }
  if (!masked) return Buffer.concat([head, bytes]);
  head[1] |= 0x80;
  const mask = crypto.randomBytes(4);
  const body = Buffer.from(bytes);
  for (let i = 0; i < body.length; i++) body[i] ^= mask[i & 3];
  return Buffer.concat([head, mask, body]);
}

// The length of the server's frame at the beginning, 0 if it is not whole.
export function frameLength(bytes) {
  if (bytes.length < 2) return 0;
  let length = bytes[1] & 127;
  let head = 2;
  if (length === 126) {
    if (bytes.length < 4) return 0;
    length = bytes.readUInt16BE(2);
    head = 4;
  } else if (length === 127) {
    if (bytes.length < 10) return 0;
    length = Number(bytes.readBigUInt64BE(2));
    head = 10;
  }
  return bytes.length >= head + length ? head + length : 0;
}

export function unframe(bytes) {
  const short = bytes[1] & 127;
  const head = short === 126 ? 4 : short === 127 ? 10 : 2;
  return {
    fin: bytes[0] >> 7 === 1, rsv: (bytes[0] >> 4) & 7, opcode: bytes[0] & 15,
    payload: bytes.subarray(head),
  };
}

export const takeFrame = async (client, millis) =>
  unframe(await client.take('a frame', frameLength, millis));

// A WebSocket that is open: its client, and what the worker has said first.
export async function openWebSocket(sk, target = '/ws', options = {}) {
  const client = await connect(sk, options);
  client.write(upgradeHead(target, options.fields));
  const head = await client.head(options.millis);
  if (!head.startsWith('HTTP/1.1 101')) throw new Error(`no upgrade: ${head}`);
  const hello = JSON.parse((await takeFrame(client, options.millis)).payload);
  return { client, hello };
}
