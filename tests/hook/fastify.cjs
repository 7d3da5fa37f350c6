'use strict';
// Listens on 'localhost', which Fastify takes as two servers: one for 127.0.0.1, one for ::1.
const app = require('fastify')();

app.get('/', async (req) => ({
  pid: process.pid,
  port: app.server.address().port,
  remoteAddress: req.ip,
}));
app.listen({ port: 3001 }).then(
  (address) => console.log(address),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
