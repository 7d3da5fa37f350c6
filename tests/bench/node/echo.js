// A WebSocket echo on Node's own modules, so that no library's cost hides what is in front of it.
'use strict';

const crypto = require('node:crypto');
const http = require('node:http');

const server = http.createServer((request, response) => response.end('echo\n'));

server.on('upgrade', (request, socket, head) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = crypto.createHash('sha1').update(key).digest('base64');
  socket.write(
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
      // TCP: the client's own connection. Pipe: a Unix socket, so somebody relays.
      `X-Handle: ${socket._handle?.constructor.name}\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  socket.setNoDelay?.(true);
  let held = head;
  socket.on('data', (data) => {
    held = held.length ? Buffer.concat([held, data]) : data;
    held = echo(socket, held);
  });
  // Node leaves an upgraded connection half open.
  socket.on('end', () => socket.end());
  socket.on('error', () => socket.destroy());
});

/** Echoes whole frames of up to 125 bytes, which is what the load sends; returns what is left. */
function echo(socket, bytes) {
  while (bytes.length >= 6 && bytes.length >= 6 + (bytes[1] & 0x7f)) {
    const length = bytes[1] & 0x7f;
    const frame = Buffer.allocUnsafe(2 + length);
    frame[0] = bytes[0];
    frame[1] = length;
    for (let at = 0; at < length; at += 1) frame[2 + at] = bytes[6 + at] ^ bytes[2 + (at & 3)];
    socket.write(frame);
    bytes = bytes.subarray(6 + length);
  }
  return bytes;
}

server.listen(process.env.PORT || 3000, process.env.PORT?.startsWith('/') ? undefined : '127.0.0.1');
