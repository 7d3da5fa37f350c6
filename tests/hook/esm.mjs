import { createServer } from 'node:http';
import { setTimeout } from 'node:timers/promises';

const greeting = await setTimeout(10, 'late');
const server = createServer((req, res) => {
  const { remoteAddress } = req.socket;
  const { port } = server.address();
  res.end(JSON.stringify({ pid: process.pid, port, remoteAddress, greeting }));
});
await new Promise((listening) => server.listen(3001, listening));
