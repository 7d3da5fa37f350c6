'use strict';
const app = require('express5')();

app.get('/', (req, res) => {
  res.json({ pid: process.pid, port: server.address().port, remoteAddress: req.ip });
});
const server = app.listen(3001, '0.0.0.0');
