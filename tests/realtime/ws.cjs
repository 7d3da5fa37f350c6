'use strict';
// A server of the `ws` package. The query says with what options a WebSocket is opened.
const http = require('http');
const { WebSocketServer, createWebSocketStream } = require('ws');

const server = http.createServer((req, res) => res.end(String(process.pid)));
const servers = new Map();

function serverFor(search) {
  if (!servers.has(search)) {
    const options = JSON.parse(decodeURIComponent(search.slice(1)) || '{}');
    const { refuse } = options;
    const verifyClient = refuse && ((info, done) => done(false, refuse, 'x'.repeat(options.length ?? 20), { 'X-Why': 'not you' }));
    const handleProtocols = (offered) => (offered.has('second') ? 'second' : false);
    const each = new WebSocketServer({ noServer: true, maxPayload: 32 << 20, ...options, verifyClient, handleProtocols });
    each.on('connection', (socket) => {
      socket.on('error', () => {});
      if (options.stream) {
        const stream = createWebSocketStream(socket);
        stream.on('error', () => {});
        return stream.pipe(stream);
      }
      socket.on('message', (data, binary) => {
        const text = binary ? '' : String(data);
        if (text.startsWith('close ')) return socket.close(Number(text.slice(6)), 'as asked');
        if (text === 'terminate') return socket.terminate();
        if (text === 'ping') return socket.ping('from the server');
        socket.send(data, { binary });
      });
    });
    servers.set(search, each);
  }
  return servers.get(search);
}

server.on('upgrade', (req, socket, head) => {
  const each = serverFor(new URL(req.url, 'http://a').search);
  each.handleUpgrade(req, socket, head, (opened) => each.emit('connection', opened, req));
});
server.listen(Number(process.env.PORT) || 0);
