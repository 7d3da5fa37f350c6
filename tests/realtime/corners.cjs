'use strict';
// A Socket.IO server whose worker can be held up, closed, and asked for a slow answer.
const http = require('http');
const { Server } = require('socket.io');

const { pid } = process;
const server = http.createServer((req, res) => {
  const { pathname, searchParams } = new URL(req.url, 'http://a');
  res.end(String(pid));
  if (pathname === '/block') {
    setTimeout(() => {
      const end = Date.now() + Number(searchParams.get('ms'));
      while (Date.now() < end);
    }, 20);
  } else if (pathname === '/close') {
    setTimeout(() => io.close(), 20);
  }
});
const io = new Server(server, JSON.parse(process.env.IO_OPTIONS || '{}'));
io.on('connection', (socket) => {
  socket.emit('hello', pid);
  socket.on('echo', (value, answer) => answer(value, pid));
});
server.listen(3000);
