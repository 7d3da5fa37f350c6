// A chat: rooms, names, who is here, and a clock that the server pushes each second.
// It listens on a port like any Express app and keeps what it knows in its own memory.
'use strict';

const { createServer } = require('node:http');
const path = require('node:path');
const express = require('express');
const { Server } = require('socket.io');

const LIMITS = { name: 24, room: 24, text: 500, history: 50, rooms: 40 };
const ROOMS = ['lobby', 'ideas', 'music'];

const app = express();
const server = createServer(app);
const io = new Server(server);
// To talk across workers, give every worker the same adapter here: io.adapter(...).
const scope = 'on this worker';

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

function remember(room, message) {
  const messages = history.get(room) ?? [];
  messages.push(message);
  if (messages.length > LIMITS.history) messages.shift();
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

async function peopleIn(room) {
  const sockets = await io.in(room).fetchSockets();
  return sockets
    .map(({ id, data }) => ({ id, name: data.name, worker: data.worker }))
    .sort((a, b) => a.name.localeCompare(b.name));
}

function rooms() {
  const busy = [...io.of('/').adapter.rooms.keys()].filter((key) => key.startsWith('room:'));
  const names = new Set([...ROOMS, ...busy.map((key) => key.slice('room:'.length))]);
  return [...names].slice(0, LIMITS.rooms).map((name) => ({
    name,
    people: io.of('/').adapter.rooms.get(`room:${name}`)?.size ?? 0,
  }));
}

async function announce(...changed) {
  io.emit('rooms', rooms());
  for (const room of new Set(changed)) {
    if (room) io.to(`room:${room}`).emit('people', { room, people: await peopleIn(`room:${room}`) });
  }
}

io.on('connection', (socket) => {
  socket.data.name = 'somebody';
  socket.data.room = null;
  socket.data.worker = worker.instance;
  socket.emit('welcome', { worker, scope, limits: LIMITS, address: socket.handshake.address });

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

setInterval(() => io.emit('clock', Date.now()), 1000).unref();

server.listen(3001, () => {
  const { port } = server.address();
  console.log(`chat: worker ${worker.instance ?? '-'} (process ${worker.pid}) listens on port ${port}`);
});

// Socket.IO keeps connections open for ever: let them go when we are asked to stop.
process.once('SIGTERM', () => io.close());
