'use strict';
// A Socket.IO server with some ways to be a difficult worker, and counts of what has reached it.
const fs = require('fs');
const http = require('http');
const { Server } = require('socket.io');

const { pid } = process;
// A kept connection that stays silent for so long is closed: within the time in which its next
// request may be on the way.
const idleMillis = Number(process.env.IDLE_MILLIS);
const MALFORMED = [
  '{"cmd":"NODE_SIDEKEEPER_TOOK","seq":',
  '{"cmd":"NODE_SIDEKEEPER_TOOK","seq":-1}',
  '{"cmd":"NODE_SIDEKEEPER_GONE","seq":18446744073709551615}',
  '{"cmd":"NODE_SIDEKEEPER_STATS","lag_ms":"much"}',
  '{"cmd":"NODE_HANDLE_NACK"',
  '{"source":"_sio_adapter","uid":"a","nsp":"/","type":3,"data":{"packet":',
  '{"_source":"_eio","type":3,',
  '{"sidekeeper":{"to":"siblings","message":{"a":',
  '{"sidekeeper":{"to":"siblings","message":}}',
  '"ready', 'null', '[]', '{}', '', '\0\xff\xfe', '['.repeat(100_000), 'x'.repeat(5 << 20),
];

const heard = {}; // requests, by what their query says
const server = http.createServer((req, res) => {
  const { socket } = req;
  const { pathname, searchParams } = new URL(req.url, 'http://a');
  if (idleMillis > 0) {
    clearTimeout(socket.idle);
    res.on('finish', () => {
      socket.idle = setTimeout(() => socket.destroy(), idleMillis);
    });
  }
  switch (pathname) {
    case '/malformed':
      for (const line of MALFORMED) say(Buffer.from(`${line}\n`, 'latin1'));
      break;
    case '/heard':
      return res.end(JSON.stringify({ pid, heard }));
    case '/note': // what must not come twice
      fs.appendFileSync(process.env.NOTES, `${searchParams.get('id')}\n`);
      break;
  }
  res.end(String(pid));
});

// Into the channel itself, past everything that Node and the hook do.
function say(bytes) {
  for (let at = 0; at < bytes.length;) {
    try {
      at += fs.writeSync(process.channel.fd, bytes, at);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

const { emit } = server;
server.emit = function (event, req) {
  const id = event === 'request' && /[?&]id=([^&]*)/.exec(req.url);
  if (id) heard[id[1]] = (heard[id[1]] || 0) + 1;
  return Reflect.apply(emit, this, arguments);
};
new Server(server, { maxHttpBufferSize: 4e6 }).on('connection', (socket) => {
  socket.emit('hello', { pid });
});
server.listen(Number(process.env.PORT) || 0);
