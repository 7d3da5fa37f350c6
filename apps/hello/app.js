// The smallest app there is: Node's own http module and nothing else.
'use strict';

const http = require('node:http');

const server = http.createServer((request, response) => {
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.end(`Hello ${request.socket.remoteAddress}, this is process ${process.pid}.\n`);
});

server.listen(process.env.PORT || 3000, () => {
  console.log(`hello: process ${process.pid} listens on port ${server.address().port}`);
});
