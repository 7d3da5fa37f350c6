'use strict';
// A Socket.IO server whose clients come back: it keeps something in their sockets and says
// something while they are away.
const http = require('http');
const { Server } = require('socket.io');

const { pid } = process;
const server = http.createServer((req, res) => res.end(String(pid)));
const io = new Server(server, {
  connectionStateRecovery: { maxDisconnectionDuration: 60_000 },
  maxHttpBufferSize: 4e6,
});
io.on('connection', (socket) => {
  const { recovered, data, rooms } = socket;
  socket.emit('hello', { pid, recovered, data: { ...data, circle: undefined }, rooms: [...rooms].sort() });
  socket.on('who', (answer) => answer(pid));
  socket.on('keep', (value, room, answer) => {
    socket.data.kept = value;
    socket.join(room);
    answer();
  });
  socket.on('keep a circle', (answer) => {
    socket.data.circle = socket.data;
    answer();
  });
  socket.on('say', (room, millis, values) => {
    setTimeout(() => values.forEach((value) => io.to(room).emit('said', value)), millis);
  });
  // One every millisecond or so, to everybody, from this worker.
  socket.on('count', (name, to, answer) => {
    let n = 0;
    const timer = setInterval(() => {
      io.emit('counted', name, n++);
      if (n < to) return;
      clearInterval(timer);
      answer();
    }, 1);
  });
});
io.of('/other').on('connection', (socket) => {
  socket.emit('hello', { pid, recovered: socket.recovered });
  socket.on('say', (value) => io.of('/other').emit('said', value));
});
server.listen(3000);
