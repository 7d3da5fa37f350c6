'use strict';
const http = require('http');
const { WebSocketServer } = require('ws');

const server = http.createServer((req, res) => {
  const { remoteAddress } = req.socket;
  res.end(JSON.stringify({ pid: process.pid, port: server.address().port, remoteAddress }));
});
const sockets = new WebSocketServer({ server });
sockets.on('connection', (socket, req) => {
  socket.send(JSON.stringify({ pid: process.pid, remoteAddress: req.socket.remoteAddress }));
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
server.listen(3001);
