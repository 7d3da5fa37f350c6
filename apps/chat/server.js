// A chat: rooms, names, who is here, and a clock that the server pushes each second.
// It listens on a port like any Express app and keeps what it knows in its own memory.
//
// It runs alone, and as one of several workers that share the visitors: then io.emit, rooms and
// fetchSockets reach those of all workers (`"broadcast": true` in sidekeeper.json; elsewhere any
// adapter of Socket.IO does it). Nothing here says which.
'use strict';

const { createServer } = require('node:http');
const path = require('node:path');
const express = require('express');
const { Server } = require('socket.io');

const LIMITS = { name: 24, room: 24, text: 500, history: 50, rooms: 40 };
// Several people who come at once are announced once.
const ANNOUNCE_MILLIS = 50;
// By then a new worker has heard of the others.
const ACQUAINTED_MILLIS = 500;
const ROOMS = ['lobby', 'ideas', 'music'];

const app = express();
const server = createServer(app);
const io = new Server(server);
const { adapter } = io.of('/');

const worker = {
  app: process.env.APPNAME || 'chat',
  instance: process.env.NODE_APP_INSTANCE ?? null,
  pid: process.pid,
  node: process.version,
  since: new Date().toISOString(),
};

app.disable('x-powered-by');
app.use(express.static(path.join(__dirname, 'public')));
app.get('/healthz', (req, res) => res.json({ ok: true, ...worker, clients: io.engine.clientsCount }));

/** The last messages of each room that somebody has spoken in. */
const history = new Map();
let spoken = 0;

function remember(room, ...more) {
  const messages = [...(history.get(room) ?? [])];
  messages.push(...more.filter(({ id }) => !messages.some((known) => known.id === id)));
  messages.sort((a, b) => a.at - b.at);
  messages.splice(0, messages.length - LIMITS.history);
  history.delete(room);
  history.set(room, messages);
  if (history.size > LIMITS.rooms) history.delete(history.keys().next().value);
}

function clean(text, length) {
  return typeof text === 'string' ? text.replace(/\s+/g, ' ').trim().slice(0, length) : '';
}

function roomName(text) {
  return clean(text, LIMITS.room).toLowerCase().replace(/[^\p{L}\p{N}_-]+/gu, '-') || ROOMS[0];
}

// A worker that starts later, or again, learns from the others what was said before.
io.on('said', (room, message) => remember(room, message));
io.on('what was said?', (answer) => answer([...history]));

async function tellOtherWorkers(...event) {
  if (await adapter.serverCount() > 1) io.serverSideEmit(...event);
}

function askOtherWorkers() {
  tellOtherWorkers('what was said?', (error, histories) => {
    for (const rooms of histories ?? []) {
      for (const [room, messages] of rooms) remember(room, ...messages);
    }
  });
}

/** Everybody, by room, at whatever worker. */
async function everybody() {
  // A worker that does not answer in time leaves us with those that we know ourselves.
  const sockets = await io.fetchSockets().catch(() => io.local.fetchSockets());
  const rooms = new Map(ROOMS.map((room) => [room, []]));
  for (const { id, data: { room, name, worker } } of sockets) {
    if (!room) continue;
    if (!rooms.has(room)) rooms.set(room, []);
    rooms.get(room).push({ id, name, worker });
  }
  return rooms;
}

const changed = new Set();
let announcing = null;

function announce(...rooms) {
  for (const room of rooms) if (room) changed.add(room);
  announcing ??= setTimeout(async () => {
    const due = [...changed];
    changed.clear();
    announcing = null;
    const [rooms, workers] = await Promise.all([everybody(), adapter.serverCount()]);
    const numbers = [...rooms].map(([name, people]) => ({ name, people: people.length }));
    io.emit('rooms', numbers.slice(0, LIMITS.rooms));
    for (const room of due) {
      const people = (rooms.get(room) ?? []).sort((a, b) => a.name.localeCompare(b.name));
      io.to(`room:${room}`).emit('people', { room, people, workers });
    }
  }, ANNOUNCE_MILLIS);
}

io.on('connection', (socket) => {
  socket.data.name = 'somebody';
  socket.data.room = null;
  socket.data.worker = worker.instance;
  socket.emit('welcome', { worker, limits: LIMITS, address: socket.handshake.address });

  socket.on('join', (wish, answer) => {
    if (typeof answer !== 'function') return;
    const before = socket.data.room;
    const room = roomName(wish?.room);
    socket.data.name = clean(wish?.name, LIMITS.name) || 'somebody';
    socket.data.room = room;
    if (before && before !== room) socket.leave(`room:${before}`);
    socket.join(`room:${room}`);
    answer({ room, name: socket.data.name, messages: history.get(room) ?? [] });
    announce(before, room);
  });

  socket.on('say', (text, answer) => {
    const { room, name } = socket.data;
    text = clean(text, LIMITS.text);
    if (room && text) {
      const message = { id: `${process.pid}-${++spoken}`, from: socket.id, name, text, at: Date.now() };
      remember(room, message);
      tellOtherWorkers('said', room, message);
      io.to(`room:${room}`).emit('message', { room, ...message });
    }
    if (typeof answer === 'function') answer({ ok: Boolean(room && text) });
  });

  socket.on('typing', () => {
    const { room, name } = socket.data;
    if (room) socket.to(`room:${room}`).volatile.emit('typing', { room, name });
  });

  // Answered at once: the page measures the round trip with it.
  socket.on('echo', (answer) => {
    if (typeof answer === 'function') answer();
  });

  socket.on('disconnect', () => announce(socket.data.room));
});

// Each worker to its own visitors: the others have a clock too.
setInterval(() => io.local.emit('clock', Date.now()), 1000).unref();
setTimeout(askOtherWorkers, ACQUAINTED_MILLIS).unref();

server.listen(3001, () => {
  const { port } = server.address();
  console.log(`chat: worker ${worker.instance ?? '-'} (process ${worker.pid}) listens on port ${port}`);
});

// Socket.IO keeps connections open for ever: let them go when we are asked to stop.
process.once('SIGTERM', () => io.close());
