'use strict';
const Koa = require('koa');

const app = new Koa();
app.use((ctx) => {
  ctx.body = { pid: process.pid, port: server.address().port, remoteAddress: ctx.ip };
});
const server = app.listen(3001);
