'use strict';
const http = require('http');
const { Server } = require('socket.io');

const server = http.createServer((req, res) => {
  const { remoteAddress } = req.socket;
  res.end(JSON.stringify({ pid: process.pid, port: server.address().port, remoteAddress }));
});
const io = new Server(server);
io.on('connection', (socket) => {
  socket.emit('hello', { pid: process.pid, remoteAddress: socket.handshake.address });
  socket.on('echo', (value, answer) => answer(value));
});
server.listen(3001);
