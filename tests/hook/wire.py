"""What the supervisor and the Node hook say to each other, word by word, on every version of Node.

This program takes the supervisor's place: it owns the listening Unix socket, gives it to the worker
as descriptor 3 and Node's IPC channel as descriptor 4, and reads and writes the channel's lines.

    python3 wire.py HOOK NODE...

Prints a line for each version and step; ends with 1 if one failed.
"""

import concurrent.futures
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
WAIT_SECS_MAX = 15
PREFIX = "NODE_SIDEKEEPER_"
HTTP = """
const http = require('http');
const server = http.createServer((req, res) => {
  if (req.url === '/slow') setTimeout(() => res.end('slow'), 300);
  else res.end(JSON.stringify(req.socket.remoteAddress + ' ' + req.socket.remotePort));
});
server.listen(3001);
"""

# Becomes the program, with the descriptors where they belong and its own process id in LISTEN_PID.
LAUNCHER = """
import os, sys
for fd, place in zip(sys.argv[1:3], (3, 4)):
    os.dup2(int(fd), place)
    os.close(int(fd))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Worker:
    """A Node process, and the supervisor's ends of what it has got."""

    def __init__(self, bench, source, argv=None, env=None, listener=None, options="--require \"{}\""):
        self.script = bench.write(source) if source else None
        self.path = os.path.join(bench.dir, "0.sock")
        if listener is None:
            if os.path.exists(self.path):
                os.unlink(self.path)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.path)
            listener.listen(4096)
        self.listener = listener
        self.channel, theirs = socket.socketpair()
        variables = {k: v for k, v in os.environ.items() if k not in ("NODE_OPTIONS", "PORT")}
        variables.update(
            APPNAME="fixture", PORT="4321", NODE_APP_INSTANCE="0", SIDEKEEPER_SOCKET=self.path,
            SIDEKEEPER_LISTEN_FD="3", NODE_CHANNEL_FD="4", LISTEN_FDS="1", LISTEN_FDNAMES="http",
            NODE_OPTIONS=options.format(bench.hook),
            PATH=os.path.dirname(bench.node) + ":" + os.environ["PATH"],
        )
        variables.update(env or {})
        launcher = [sys.executable, "-ISc", LAUNCHER, str(listener.fileno()), str(theirs.fileno())]
        self.log = open(os.path.join(bench.dir, "log"), "a+")
        self.process = subprocess.Popen(
            launcher + [str(a) for a in argv or [bench.node, self.script]], cwd=bench.dir, env=variables,
            pass_fds=(listener.fileno(), theirs.fileno()), stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, start_new_session=True)
        theirs.close()
        self.buffer = b""
        self.messages = []
        self.ended = False
        bench.workers.append(self)

    # The channel.

    def read(self, deadline):
        """Takes in what comes before the deadline; false when nothing does."""
        left = max(0, deadline - time.monotonic())
        if self.ended or not select.select([self.channel], [], [], left)[0]:
            return False
        try:
            data = self.channel.recv(65536)
        except ConnectionResetError:
            data = b""
        self.ended = not data
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        self.messages += [json.loads(line) for line in lines]
        return True

    def wait(self, wanted, after=0):
        """The first message from number `after` on of which `wanted` is true."""
        deadline = time.monotonic() + WAIT_SECS_MAX
        while True:
            for message in self.messages[after:]:
                if wanted(message):
                    return message
            if not self.read(deadline):
                raise AssertionError(f"not told in time; told: {self.messages}")

    def told(self, cmd, after=0, **fields):
        def wanted(message):
            return (isinstance(message, dict) and message.get("cmd") == PREFIX + cmd
                    and all(message.get(k) == v for k, v in fields.items()))
        return self.wait(wanted, after)

    def has_told(self, cmd):
        while self.read(0):
            pass
        return any(isinstance(m, dict) and m.get("cmd") == PREFIX + cmd for m in self.messages)

    def tell(self, message):
        self.channel.sendall(json.dumps(message).encode() + b"\n")

    def drain(self):
        self.tell({"cmd": PREFIX + "DRAIN"})

    def give(self, cmd, descriptor, **fields):
        message = {"cmd": "NODE_HANDLE", "type": "net.Native", "msg": {"cmd": PREFIX + cmd, **fields}}
        line = json.dumps(message).encode() + b"\n"
        sent = socket.send_fds(self.channel, [line], [descriptor.fileno()])
        if sent < len(line):
            self.channel.sendall(line[sent:])

    def hand_over(self, client, seq, head, lease_millis=WAIT_SECS_MAX * 1000):
        client.setblocking(False)
        until = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000 + lease_millis
        self.give("CONN", client, seq=seq, until=until, head=head)

    def relisten(self, after=0):
        """Answers a RELISTEN. The socket must not block: one that does freezes Node 18."""
        self.told("RELISTEN", after)
        self.listener.setblocking(False)
        self.give("LISTENER", self.listener)

    # The process.

    def exit_code(self):
        return self.process.wait(WAIT_SECS_MAX)

    def runs(self):
        return self.process.poll() is None

    def end(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(WAIT_SECS_MAX)
        self.channel.close()
        self.listener.close()
        self.log.close()

    # The socket.

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(WAIT_SECS_MAX)
        client.connect(self.path)
        return client

    def get(self, path="/", client=None, fields="X-Sidekeeper-Client: 203.0.113.7 4711\r\n"):
        own = client or self.connect()
        own.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        head, body = answer(own)
        if client is None:
            own.close()
        return head, body


def answer(client):
    """One response with a Content-Length or the end of the connection behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        if not part:
            raise AssertionError(f"the connection ended after {data!r}")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    head = head.decode("latin1")
    length = None
    for line in head.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            length = int(value)
        elif name.lower() == "transfer-encoding":
            while not body.endswith(b"0\r\n\r\n"):
                body += client.recv(65536)
            return head, body
    while length is None or len(body) < length:
        part = client.recv(65536)
        if not part:
            break
        body += part
    return head, body


def same(got, wanted):
    if got != wanted:
        raise AssertionError(f"wanted {wanted!r}, got {got!r}")


def eventually(what, condition):
    deadline = time.monotonic() + WAIT_SECS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.01)


class Bench:
    """One version of Node, and a directory for one step."""

    def __init__(self, hook, node):
        self.node = node
        # A path with a space and a quote, as a user's home may have them.
        self.dir = tempfile.mkdtemp(prefix="sk wire'\"")
        self.hook = os.path.join(self.dir, "hook.cjs")
        shutil.copy(hook, self.hook)
        self.hook = self.hook.replace('"', '\\"')
        self.workers = []
        self.scripts = 0

    def write(self, source):
        self.scripts += 1
        script = os.path.join(self.dir, f"app{self.scripts}.cjs")
        with open(script, "w") as file:
            file.write(source)
        return script

    def start(self, source, **how):
        return Worker(self, source, **how)

    def serve(self, source=HTTP, **how):
        worker = self.start(source, **how)
        worker.told("LISTENING")
        return worker

    def said(self):
        with open(os.path.join(self.dir, "log")) as log:
            return log.read()

    def close(self):
        for worker in self.workers:
            worker.end()
        shutil.rmtree(self.dir)


# ---- Steps -------------------------------------------------------------------------------------


def it_says_that_it_listens(bench):
    worker = bench.start(HTTP)
    said = worker.told("LISTENING")
    same(said, {"cmd": PREFIX + "LISTENING", "type": "path", "path": worker.path, "port": 3001,
                "pid": worker.process.pid})
    with open(f"/proc/{worker.process.pid}/cmdline") as cmdline:
        same(cmdline.read().rstrip("\0"), "ProxyNodeApp: fixture")


def every_form_of_listen(bench):
    forms = """[[3001], ['3001'], [3001, '127.0.0.1'], [3001, 100], [3001, '::', 100], [], [null],
      [undefined], [0], [{ port: 3001 }], [{ port: '3001', host: 'localhost', backlog: 9 }],
      [{ port: undefined }], [{ port: 3001, exclusive: true }], [{ fd: 3 }],
      [{ port: 3001, signal: new AbortController().signal }], [process.env.SIDEKEEPER_SOCKET],
      [{ path: process.env.SIDEKEEPER_SOCKET }]]"""
    worker = bench.start(f"""
const http = require('http');
const forms = {forms};
const next = () => {{
  const form = forms.shift();
  if (!form) return process.send('done');
  const server = http.createServer();
  server.listen(...form, () => {{
    const address = server.address();
    if (![3001, 4321].includes(address.port)) throw new Error(JSON.stringify([form, address]));
    if (server._handle.constructor.name !== 'Pipe') throw new Error('not a Unix socket');
    server.close(next);
  }});
}};
next();
""")
    after = worker.messages.index(worker.told("LISTENING"))
    for _ in range(16):
        worker.relisten(after)
        said = worker.told("RELISTEN", after)
        after = worker.messages.index(said, after) + 1
    worker.wait(lambda message: message == "done")


def what_is_not_ours_stays(bench):
    worker = bench.start("""
const assert = require('assert');
const fs = require('fs');
const http = require('http');
const net = require('net');
const raw = net.createServer().listen(0, '127.0.0.1', () => {
  assert.notEqual(raw.address().port, 4321);
  assert.throws(() => http.createServer().listen(70000), { code: 'ERR_SOCKET_BAD_PORT' });
  assert.throws(() => http.createServer().listen({}), { code: 'ERR_INVALID_ARG_VALUE' });
  const own = http.createServer().listen(__dirname + '/own.sock', () => {
    assert.equal(own.address(), __dirname + '/own.sock');
    const server = http.createServer().listen(3001, () => {
      assert.throws(() => server.listen(3001), { code: 'ERR_SERVER_ALREADY_LISTEN' });
      server.on('close', () => {
        assert.equal(server.address(), null);
        process.send('done');
      });
      server.close();
    });
    assert.equal(server.address().port, 3001);
  });
});
""")
    worker.wait(lambda message: message == "done")


def nothing_leaks(bench):
    source = """
const { execFileSync } = require('child_process');
const http = require('http');
const leaks = "Object.entries(process.env).filter(([k, v]) => /^(SIDEKEEPER|LISTEN|NODE_CHANNEL)|hook/"
  + ".test(k + '=' + (k === 'NODE_OPTIONS' ? v : ''))).concat(process.env.NODE_OPTIONS || 'none')";
const child = (script) => execFileSync(process.execPath, ['-p', script], { encoding: 'utf8' }).trim();
// Before the app listens it is not known to be the one, and a child must cope with what it sees.
const early = child("process.title + '|' + typeof process.send + '|' + require('net').Server.prototype.listen.name");
http.createServer().listen(3001, () => {
  process.send({ early, mine: eval(leaks).flat().join(), child: child(leaks + '.flat().join()') });
});
"""
    for options in ('--require "{}" --no-warnings', '--no-warnings --require={}', "--require {}"):
        quoted = '"{}"' in options
        hook = bench.hook
        if not quoted:
            # Without quotes a path cannot have a space. A link's target is what Node loads.
            hook = f"/tmp/sk-wire-{os.getpid()}.cjs"
            os.symlink(bench.hook.replace('\\"', '"'), hook)
        try:
            worker = bench.start(source, options=options.replace("{}", hook))
            told = worker.wait(lambda message: "mine" in message)
        finally:
            if not quoted:
                os.unlink(hook)
        rest = "--no-warnings" if "--no-warnings" in options else "none"
        same(told["mine"], rest)
        same(told["child"], rest)
        title, send, listen = told["early"].split("|")
        same((send, listen), ("undefined", ""))
        if "ProxyNodeApp" in title:
            raise AssertionError(f"an early child is {title}")


def every_request_has_its_client(bench):
    worker = bench.serve()
    client = worker.connect()
    for address in ("203.0.113.7 4711", "2001:db8::1 80", "198.51.100.1 1"):
        same(worker.get(client=client, fields=f"X-Sidekeeper-Client: {address}\r\n")[1],
             json.dumps(address).encode())
    # Without the field: nobody rather than the one before.
    same(worker.get(client=client, fields="")[1], b'"undefined undefined"')
    client.close()


def figures_come_every_second(bench):
    worker = bench.serve(HTTP + """
setTimeout(() => { for (const end = Date.now() + 400; Date.now() < end;); }, 100);
""")
    client = worker.connect()
    worker.get(client=client)
    first = worker.told("STATS")
    same(sorted(first), ["bytes_in", "bytes_out", "cmd", "heap", "lag_ms", "rss", "sockets", "utilization"])
    same(first["sockets"], 1)
    if not 250 <= first["lag_ms"] <= 2000 or not 0.1 < first["utilization"] <= 1:
        raise AssertionError(f"a loop that was blocked for 400 ms says {first}")
    if not first["rss"] > first["heap"] > 1_000_000:
        raise AssertionError(f"unlikely figures: {first}")
    second = worker.told("STATS", len(worker.messages))
    if second["lag_ms"] > 200:
        raise AssertionError(f"a loop at rest says {second}")
    client.close()


def keep_alive_outlasts_the_proxy(bench):
    worker = bench.start("""
const http = require('http');
const server = http.createServer({ keepAliveTimeout: 1000 });
server.listen(3001, () => {
  const seen = [server.keepAliveTimeout, server.headersTimeout];
  server.keepAliveTimeout = 5000;
  server.headersTimeout = 10000;
  seen.push(server.keepAliveTimeout, server.headersTimeout);
  server.keepAliveTimeout = 0;
  server.headersTimeout = 0;
  seen.push(server.keepAliveTimeout, server.headersTimeout);
  server.keepAliveTimeout = 120000;
  server.headersTimeout = 130000;
  seen.push(server.keepAliveTimeout, server.headersTimeout);
  process.send({ seen });
});
""")
    same(worker.wait(lambda m: "seen" in m)["seen"],
         [75000, 80000, 75000, 80000, 75000, 0, 120000, 130000])


def the_queue_is_not_cut(bench):
    worker = bench.serve(HTTP + """
server.on('request', (req) => {
  if (req.url === '/block') for (const end = Date.now() + 1500; Date.now() < end;);
});
""")
    with open("/proc/sys/net/core/somaxconn") as limit:
        count = min(1000, int(limit.read()) - 10)
    clients = [worker.connect()]
    clients[0].sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
    for _ in range(count):
        client = socket.socket(socket.AF_UNIX)
        clients.append(client)
        # Node would have cut the queue to 511; more fail with EAGAIN.
        client.setblocking(False)
        client.connect(worker.path)
    for client in clients:
        client.close()


def queued_connections_survive_a_crash(bench):
    worker = bench.serve()
    os.kill(worker.process.pid, signal.SIGSTOP)
    clients = [worker.connect() for _ in range(20)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.exit_code()
    bench.serve(listener=worker.listener.dup())
    for client in clients:
        if "200 OK" not in answer(client)[0]:
            raise AssertionError("a queued request was not answered")
        client.close()


def a_drain_finishes_what_is_in_flight(bench):
    worker = bench.serve()
    idle, slow = worker.connect(), worker.connect()
    if "connection: close" in worker.get(client=idle)[0].lower():
        raise AssertionError("a connection is not kept before the drain")
    slow.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    slow_began = time.monotonic()
    time.sleep(0.05)
    worker.drain()
    same(idle.recv(1), b"")
    late = worker.connect()
    late.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head, body = answer(slow)
    same(body, b"slow")
    if "connection: close" not in head.lower() or time.monotonic() - slow_began < 0.25:
        raise AssertionError(f"the slow answer: {head}")
    same(worker.exit_code(), 0)
    if not worker.has_told("CLOSED"):
        raise AssertionError("no CLOSED")
    # What came during the drain is the next life's.
    bench.serve(listener=worker.listener.dup())
    same(answer(late)[1], b'"undefined undefined"')


def a_request_on_its_way_into_a_drain_is_answered(bench):
    worker = bench.serve()
    kept = worker.connect()
    worker.get(client=kept)
    os.kill(worker.process.pid, signal.SIGSTOP)
    worker.drain()
    kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    os.kill(worker.process.pid, signal.SIGCONT)
    same(answer(kept)[1], b'"undefined undefined"')
    same(kept.recv(1), b"")
    same(worker.exit_code(), 0)

    worker = bench.serve()
    fresh = worker.connect()
    worker.get()
    worker.drain()
    time.sleep(0.2)
    if "connection: close" not in worker.get(client=fresh)[0].lower():
        raise AssertionError("the answer to a request in a drain does not end the connection")
    same(worker.exit_code(), 0)


def a_drain_waits_for_no_tunnel(bench):
    worker = bench.serve(HTTP + """
server.on('upgrade', (req, socket) => socket.write('HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n'));
""")
    tunnel = worker.connect()
    tunnel.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n")
    if not tunnel.recv(65536).startswith(b"HTTP/1.1 101 "):
        raise AssertionError("no tunnel")
    same(worker.told("STATS")["sockets"], 1)
    worker.drain()
    same(worker.exit_code(), 0)


def an_app_with_ways_of_its_own_ends_itself(bench):
    worker = bench.serve(HTTP + """
process.on('message', (message) => {
  if (message !== 'shutdown') process.exit(9);
  server.close((error) => setTimeout(() => process.exit(error ? 8 : 7), 200));
});
""")
    kept = worker.connect()
    worker.get(client=kept)
    worker.drain()
    worker.tell("shutdown")
    same(worker.exit_code(), 7)
    if worker.has_told("CLOSED"):
        raise AssertionError("CLOSED would have brought SIGTERM into its work")

    worker = bench.serve(HTTP + """
process.on('SIGTERM', () => server.close((error) => { process.exitCode = error ? 8 : 6; }));
""")
    worker.drain()
    worker.told("CLOSED")
    time.sleep(0.2)
    if not worker.runs():
        raise AssertionError("it has ended though it waits for SIGTERM")
    os.kill(worker.process.pid, signal.SIGTERM)
    same(worker.exit_code(), 6)


def closed_is_said_when_the_app_closes(bench):
    worker = bench.serve(HTTP + "process.on('SIGUSR2', () => server.close());\n")
    slow = worker.connect()
    slow.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.05)
    os.kill(worker.process.pid, signal.SIGUSR2)
    worker.told("CLOSED")
    same(answer(slow)[1], b"slow")


def it_ends_when_the_supervisor_is_gone(bench):
    worker = bench.serve()
    worker.channel.shutdown(socket.SHUT_RDWR)
    same(worker.exit_code(), 0)


def an_app_may_leave_the_channel(bench):
    worker = bench.serve(HTTP + "setTimeout(() => process.disconnect(), 50);\n")
    deadline = time.monotonic() + WAIT_SECS_MAX
    while worker.read(deadline):
        pass
    same(worker.ended, True)
    same(worker.get()[1], b'"203.0.113.7 4711"')


def the_channel_holds_nobody(bench):
    same(bench.start("process.send('ready');").exit_code(), 0)
    # Unless the app wants to hear something, as ever.
    worker = bench.start("process.on('message', (m) => process.exit(m)); process.send('ready');")
    worker.wait(lambda message: message == "ready")
    time.sleep(0.1)
    worker.tell(5)
    same(worker.exit_code(), 5)


def a_connection_is_handed_over(bench):
    worker = bench.serve(f"""
const http = require('http');
const {{ WebSocketServer }} = require({json.dumps(os.path.join(HERE, "node_modules/ws"))});
const server = http.createServer((req, res) => res.end(req.socket.remoteAddress + ':' + req.socket.remotePort));
new WebSocketServer({{ server }}).on('connection', (socket) => {{
  socket.on('message', (data) => server.getConnections((_, count) => socket.send(data + '!' + count)));
}});
server.listen(3001);
""")
    front = socket.create_server(("127.0.0.1", 0))

    def client():
        mine = socket.create_connection(front.getsockname(), WAIT_SECS_MAX)
        return mine, front.accept()[0]

    upgrade = ("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    # The head, and a masked text frame that came in the same segment.
    mine, theirs = client()
    worker.hand_over(theirs, 17, upgrade + "\x81\x85\0\0\0\0hello")
    theirs.close()
    worker.told("TOOK", seq=17)
    data = b""
    while b"\x81\x07hello!1" not in data:
        data += mine.recv(65536)
    if not data.startswith(b"HTTP/1.1 101 "):
        raise AssertionError(f"instead of 101: {data!r}")
    after = len(worker.messages)
    same(worker.told("STATS", after)["sockets"], 1)
    mine.close()
    worker.told("GONE", seq=17)

    # An app that does not upgrade: the connection must not bypass the proxy any further.
    mine, theirs = client()
    worker.hand_over(theirs, 18, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    theirs.close()
    head, body = answer(mine)
    same(body.decode(), "%s:%d" % mine.getsockname())
    if "connection: close" not in head.lower():
        raise AssertionError(head)
    same(mine.recv(1), b"")
    worker.told("GONE", seq=18)


def a_connection_is_refused(bench):
    source = """
const http = require('http');
process.on('message', () => http.createServer((req, res) => res.end('late')).listen(3001));
process.send('ready');
"""
    worker = bench.start(source)
    worker.wait(lambda message: message == "ready")
    mine, theirs = socket.socketpair()
    request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    worker.hand_over(theirs, 1, request)
    worker.told("REFUSED", seq=1)
    worker.tell("listen")
    worker.told("LISTENING")
    # After its lease it is the supervisor's again.
    worker.hand_over(theirs, 3, request, lease_millis=0)
    worker.told("REFUSED", seq=3)
    # Nothing was read of it: it can be offered again.
    worker.hand_over(theirs, 2, request)
    theirs.close()
    same(answer(mine)[1], b"late")


CLUSTER = """
const cluster = require('cluster');
if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
  cluster.on('exit', () => cluster.fork());
} else {
  const server = require('http').createServer((req, res) => {
    if (req.url === '/slow') setTimeout(() => res.end('slow'), 300);
    else res.end(String(process.pid));
  });
  server.listen(3001);
}
"""


def an_own_cluster(bench):
    worker = bench.start(CLUSTER)
    same(worker.told("LISTENING")["pid"], worker.process.pid)
    pids = set()
    eventually("answers of both", lambda: pids.add(int(worker.get()[1])) or len(pids) == 2)
    stats = worker.told("STATS", len(worker.messages))
    stats = worker.told("STATS", worker.messages.index(stats) + 1)
    if stats["rss"] < 90_000_000:
        raise AssertionError(f"not the sum of three processes: {stats}")
    # Both at once: their descriptor is closed with the last one, and asked for again.
    after = len(worker.messages)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    worker.told("CLOSED", after)
    worker.relisten(after)
    worker.told("LISTENING", after)
    if int(worker.get()[1]) in pids:
        raise AssertionError("answered by the dead")

    mine, theirs = socket.socketpair()
    worker.hand_over(theirs, 5, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    theirs.close()
    if int(answer(mine)[1]) == worker.process.pid:
        raise AssertionError("the primary has no server")
    worker.told("TOOK", seq=5)
    worker.told("GONE", seq=5)

    slow = worker.connect()
    slow.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.05)
    worker.drain()
    same(answer(slow)[1], b"slow")
    same(worker.exit_code(), 0)


def a_feigned_cluster(bench):
    """NODE_UNIQUE_ID without a primary, as pm2 sets it."""
    worker = bench.serve(HTTP + """
const other = require('http').createServer((req, res) => res.end('other'));
other.listen(0, '127.0.0.1', () => process.send({ other: other.address().port }));
""", env={"NODE_UNIQUE_ID": "1"})
    same(worker.get()[1], b'"203.0.113.7 4711"')
    port = worker.wait(lambda message: "other" in message)["other"]
    socket.create_connection(("127.0.0.1", port), WAIT_SECS_MAX).close()


def wrappers_pass_everything_on(bench):
    app = bench.write(HTTP + """
process.on('message', (message) => process.send({ heard: message }));
process.send('ready');
""")
    with open(os.path.join(bench.dir, "package.json"), "w") as file:
        quoted = "'" + app.replace("'", "'\\''") + "'"
        json.dump({"scripts": {"start": f"node {quoted}; true", "prestart": "node -p 1"}}, file)
    tsx = os.path.join(HERE, "node_modules/.bin/tsx")
    for argv in (["npm", "start"], ["sh", "-c", 'node "$1"; true', "sh", app], [tsx, app]):
        worker = bench.start(None, argv=argv)
        worker.told("LISTENING")
        worker.wait(lambda message: message == "ready")
        same(worker.get()[1], b'"203.0.113.7 4711"')
        worker.tell("hello")
        same(worker.wait(lambda m: isinstance(m, dict) and "heard" in m), {"heard": "hello"})
        worker.end()
        bench.workers.remove(worker)


def threads_are_left_alone(bench):
    worker = bench.start("""
const { Worker } = require('worker_threads');
new Worker(`
  const server = require('http').createServer().listen(0, '127.0.0.1', () => {
    require('worker_threads').parentPort.postMessage(server.address().port);
  });
`, { eval: true }).on('message', (port) => {
  process.send({ port });
  require('http').createServer((req, res) => res.end('main')).listen(3001);
});
""")
    if worker.wait(lambda message: "port" in message)["port"] == 4321:
        raise AssertionError("a thread was given our port")
    worker.told("LISTENING")
    same(worker.get()[1], b"main")


STEPS = [
    it_says_that_it_listens,
    every_form_of_listen,
    what_is_not_ours_stays,
    nothing_leaks,
    every_request_has_its_client,
    figures_come_every_second,
    keep_alive_outlasts_the_proxy,
    the_queue_is_not_cut,
    queued_connections_survive_a_crash,
    a_drain_finishes_what_is_in_flight,
    a_request_on_its_way_into_a_drain_is_answered,
    a_drain_waits_for_no_tunnel,
    an_app_with_ways_of_its_own_ends_itself,
    closed_is_said_when_the_app_closes,
    it_ends_when_the_supervisor_is_gone,
    an_app_may_leave_the_channel,
    the_channel_holds_nobody,
    a_connection_is_handed_over,
    a_connection_is_refused,
    an_own_cluster,
    a_feigned_cluster,
    wrappers_pass_everything_on,
    threads_are_left_alone,
]


def run(hook, node, version, step):
    bench = Bench(hook, node)
    name = f"Node {version}, wire: {step.__name__.replace('_', ' ')}"
    try:
        step(bench)
        return f"ok - {name}"
    except Exception as error:
        lines = [f"not ok - {name}: {str(error)[:300]}"]
        said = (bench.said() if bench.workers else "").splitlines()
        lines += ["#   " + line for line in traceback.format_exc().splitlines() + said[-30:]]
        return "\n".join(lines)
    finally:
        bench.close()


def main():
    hook, *nodes = sys.argv[1:]
    only = os.environ.get("STEP", "")
    # So that 3 and 4, where the workers' descriptors go, are never taken by others.
    for _ in range(2):
        os.open("/dev/null", os.O_RDONLY)
    failed = False
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        runs = []
        for node in nodes:
            version = subprocess.check_output([node, "-p", "process.versions.node.split('.')[0]"], text=True)
            for step in STEPS:
                if only in step.__name__:
                    runs.append(pool.submit(run, hook, node, version.strip(), step))
        for each in runs:
            line = each.result()
            failed = failed or not line.startswith("ok")
            print(line, flush=True)
    sys.exit(failed)


main()
