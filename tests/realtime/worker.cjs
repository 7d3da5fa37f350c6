'use strict';
// The worker of the tests of hand-off, relay and drain: WebSockets that echo, and some ways to be
// a difficult worker.
const fs = require('fs');
const http = require('http');
const { monitorEventLoopDelay } = require('perf_hooks');
const { WebSocketServer } = require('ws');

const { pid } = process;
const instance = Number(process.env.NODE_APP_INSTANCE);
const delay = monitorEventLoopDelay({ resolution: 5 });
delay.enable();
const server = http.createServer((req, res) => {
  const { pathname, searchParams } = new URL(req.url, 'http://a');
  const { remoteAddress, remotePort } = req.socket;
  switch (pathname) {
    case '/block': // the whole loop, for so long
      res.end(String(pid));
      setTimeout(() => {
        const end = Date.now() + Number(searchParams.get('ms'));
        while (Date.now() < end);
      }, 20);
      return;
    case '/lag': // milliseconds, since it was asked last
      res.end(JSON.stringify({ pid, ms: delay.max / 1e6 }));
      delay.reset();
      return;
    case '/disconnect':
      res.end(String(pid));
      setTimeout(() => process.disconnect(), 20);
      return;
    case '/slow':
      setTimeout(() => res.end(String(pid)), Number(searchParams.get('ms')));
      return;
    case '/bytes':
      res.end(Buffer.alloc(Number(searchParams.get('n')), 'x'));
      return;
    default:
      res.setHeader('Set-Cookie', req.url.includes('cookie') ? ['own=1'] : []);
      res.end(JSON.stringify({ pid, instance, remoteAddress, remotePort, cookie: req.headers.cookie }));
  }
});

const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
sockets.on('connection', (socket, req) => {
  const { remoteAddress, remotePort } = req.socket;
  const id = req.headers['x-request-id'];
  socket.send(JSON.stringify({ pid, instance, remoteAddress, remotePort, url: req.url, id }));
  socket.on('message', (data, isBinary) => {
    const [word, n] = isBinary ? [] : String(data).split(' ');
    if (word === 'flood') socket.send(Buffer.alloc(Number(n), 'x'));
    else socket.send(data, { binary: isBinary });
  });
  socket.on('error', () => {});
  socket.on('close', (code) => {
    if (process.env.CLOSES) fs.appendFileSync(process.env.CLOSES, `${pid} ${code}\n`);
  });
});

if (process.env.NO_UPGRADE === undefined) {
  server.on('upgrade', (req, socket, head) => {
    socket.on('error', () => {});
    if (req.url.startsWith('/refuse')) {
      const body = 'x'.repeat(Number(new URL(req.url, 'http://a').searchParams.get('n')) || 7);
      socket.end(`HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      return;
    }
    if (req.url.startsWith('/raw')) { // echoes bytes, and ends when the client does
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
      if (req.url.includes('first')) socket.end('the worker ends first\n');
      else if (req.url.includes('reset')) setTimeout(() => socket.resetAndDestroy(), 50);
      else if (req.url.includes('sink')) socket.pause();
      if (head.length > 0) socket.write(head);
      socket.on('data', (bytes) => socket.write(bytes));
      socket.on('end', () => socket.end('end seen\n'));
      return;
    }
    sockets.handleUpgrade(req, socket, head, (each) => sockets.emit('connection', each, req));
  });
}

server.listen(Number(process.env.PORT) || 0);
