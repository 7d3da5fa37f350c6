import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Answer {
  pid: number;
  port: number;
  remoteAddress: string | undefined;
}

const server = createServer((req: IncomingMessage, res: ServerResponse) => {
  const { port } = server.address() as AddressInfo;
  const answer: Answer = { pid: process.pid, port, remoteAddress: req.socket.remoteAddress };
  res.end(JSON.stringify(answer));
});
server.listen(3001);
