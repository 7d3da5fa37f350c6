'use strict';
// Sessions that live in a worker's memory: express-session's default store, and SockJS.
const express = require('express');
const session = require('express-session');
const sockjs = require('sockjs');

const { pid } = process;
const app = express();
// The memory store warns that it is no store for production; that is why it is tested.
app.use('/store', session({ secret: 'secret', resave: false, saveUninitialized: true }));
app.get('/store', (req, res) => {
  req.session.count = (req.session.count || 0) + 1;
  res.json({ pid, count: req.session.count });
});
app.get('/', (req, res) => res.json({ pid }));
const server = app.listen(Number(process.env.PORT) || 0);

const echo = sockjs.createServer({ log: () => {} });
echo.on('connection', (connection) => {
  connection.write(JSON.stringify({ pid }));
  connection.on('data', (message) => connection.write(message));
});
echo.installHandlers(server, { prefix: '/echo' });
