'use strict';
// A Socket.IO server of the version that SOCKET_IO names, and routes that need one worker.
const http = require('http');

const name = process.env.SOCKET_IO || 'socket.io';
const library = require(name);
const { pid } = process;
const instance = Number(process.env.NODE_APP_INSTANCE);
const options = { maxHttpBufferSize: 4e6, ...JSON.parse(process.env.IO_OPTIONS || '{}') };

const server = http.createServer();
const io = library.Server && name === 'socket.io' ? new library.Server(server, options) : library(server, options);
io.on('connection', (socket) => {
  const { recovered, conn, handshake } = socket;
  socket.emit('hello', { pid, instance, recovered, address: handshake.address, transport: conn.transport.name });
  socket.on('who', (answer) => answer({ pid, instance, transport: conn.transport.name }));
  socket.on('echo', (value, answer) => answer(value));
  let next = 0;
  // Counts what comes in its order, once each.
  socket.on('numbered', (n, answer) => {
    answer({ n, pid, wanted: next });
    next = n + 1;
  });
  // To be found after a recovery: said while the client is away.
  socket.on('say later', (millis) => {
    const room = socket.id;
    setTimeout(() => io.to(room).emit('late', pid), millis);
  });
});
server.listen(Number(process.env.PORT) || 0);
