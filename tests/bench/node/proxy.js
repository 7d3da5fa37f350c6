// The proxy that Node users write with http-proxy: usage: node proxy.js PORT WORKER-SOCKET
'use strict';

const http = require('node:http');
const httpProxy = require('http-proxy');

const [port, socketPath] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1024, maxFreeSockets: 1024 });
const proxy = httpProxy.createProxyServer({ target: { socketPath, host: 'worker' }, agent, ws: true });
proxy.on('error', (error, request, response) => {
  if (response.writeHead) response.writeHead(502);
  response.end();
});
const server = http.createServer((request, response) => proxy.web(request, response));
server.on('upgrade', (request, socket, head) => proxy.ws(request, socket, head));
server.listen(Number(port), '127.0.0.1');
