"""The two ends that the tests play: clients on TCP, and the worker behind sidekeeper's Unix socket.

Every step of a case is one method here; `Wrong` says what was expected and what came. One thread
plays both ends in the order of the steps, so a case is deterministic: a step that waits for
something waits `PATIENCE` at most.
"""

import select
import socket
import struct
import time

import wire

PATIENCE = 15
# As long as something that must not come is waited for, where no later event shows its absence.
SILENCE = 0.15
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Wrong(Exception):
    """A step did not go as it must."""


class End:
    """One end of a connection, with what it has received and not yet used."""

    def __init__(self, connection, name):
        self.connection, self.name = connection, name
        self.data = b""
        # None: open; 'end' or 'reset', and how the connection ended.
        self.ended = None
        # It leaves what it reads unread, so that its close is a reset.
        self.peeks = False
        self.closed = False
        connection.setblocking(False)

    def send(self, data, pieces=1):
        size = max(1, -(-len(data) // pieces))
        for at in range(0, len(data), size):
            self.send_all(data[at : at + size])

    def send_all(self, data):
        """Sends. Who is refused early does not know yet, so an error here is no fault."""
        give_up = time.monotonic() + PATIENCE
        while data:
            try:
                data = data[self.connection.send(data) :]
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise Wrong(f"{self.name}: nobody takes its bytes") from None
                select.select([], [self.connection], [], 0.1)
            except OSError:
                return

    def stuff(self):
        """Sends until nobody takes more for a moment. An error is what a later step looks for."""
        try:
            while select.select([], [self.connection], [], 0.3)[1]:
                self.connection.send(b"a" * 65536)
        except OSError:
            pass

    def readable(self, patience):
        return bool(select.select([self.connection], [], [], patience)[0])

    def receive(self):
        """Takes what is there. False: nothing was."""
        flags = socket.MSG_PEEK if self.peeks else 0
        try:
            got = self.connection.recv(1 << 20, flags)
        except BlockingIOError:
            return False
        except OSError:
            self.ended = "reset"
            return True
        if self.peeks:
            self.data = got
        else:
            self.data += got
        if not got:
            self.ended = "end"
        return True

    def until(self, ready, what):
        """Receives until `ready` gives something."""
        give_up = time.monotonic() + PATIENCE
        while True:
            found = ready()
            if found is not None:
                return found
            if self.ended:
                raise Wrong(f"{self.name}: {self.ended} before {what}; it has {self.data[:300]!r}")
            left = give_up - time.monotonic()
            if left < 0:
                raise Wrong(f"{self.name}: no {what}; it has {self.data[:300]!r}")
            if self.readable(left):
                self.receive()

    def sees(self, how):
        """Waits for the connection to have ended like that, without a further byte."""
        self.until(lambda: self.ended, how)
        if self.data:
            raise Wrong(f"{self.name}: bytes before the {how}: {self.data[:300]!r}")
        if how != "close" and self.ended != how:
            raise Wrong(f"{self.name}: {self.ended} instead of {how}")

    def sees_nothing(self, seconds=SILENCE):
        if self.ended or self.data or (self.readable(seconds) and self.receive()):
            raise Wrong(f"{self.name}: {self.ended or ''} {self.data[:300]!r} instead of nothing")

    def sees_soon(self, seconds):
        """The connection ends before any of our own deadlines could have ended it."""
        begun = time.monotonic()
        self.sees("close")
        if time.monotonic() - begun > seconds:
            raise Wrong(f"{self.name}: the end took {time.monotonic() - begun:.2f} s")

    def takes(self, wanted):
        """These bytes come next."""
        self.until(lambda: True if len(self.data) >= len(wanted) else None, f"{wanted!r}")
        if not self.data.startswith(wanted):
            raise Wrong(f"{self.name}: {self.data[:300]!r} instead of {wanted!r}")
        self.data = self.data[len(wanted) :]

    def drains(self):
        """Reads whatever comes until the connection ends."""
        self.until(lambda: self.ended, "end")
        self.data = b""

    def half_close(self):
        self.connection.shutdown(socket.SHUT_WR)

    def close(self):
        self.closed = True
        self.connection.close()

    def reset(self):
        # What a TCP socket says with its linger option, a Unix socket says with unread bytes.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


class Client(End):
    def answer(self, method="GET"):
        """The next response. A cut one is told from a complete one."""

        def ready():
            return wire.response(self.data, method == "HEAD", self.ended == "end")

        message = self.until(ready, "the end of an answer")
        self.data = self.data[message.used :]
        return message

    def begun(self, status):
        """The head of an answer has come, while its body is still to end."""
        head = self.until(lambda: wire.head(self.data), "head of an answer")
        if int(head.start.split(b" ")[1]) != status:
            raise Wrong(f"{self.name}: {head.start!r} instead of {status}")

    def cut(self):
        """Sees an answer that nobody could take for complete; gives what came of it."""
        self.until(lambda: self.ended, "the end of a cut answer")
        head = wire.head(self.data)
        if wire.response(self.data, False, self.ended == "end"):
            raise Wrong(f"{self.name}: the cut answer looks complete: {self.data[:300]!r}")
        came, self.data = self.data, b""
        return wire.Message(head, came[head.length :] if head else b"", len(came))


class Worker(End):
    def request(self):
        message = self.until(lambda: wire.request(self.data), "complete request")
        if not self.peeks:
            self.data = self.data[message.used :]
        return message

    def begins(self, start):
        """The head of a request has come, while its body is still to come."""
        head = self.until(lambda: wire.head(self.data), "head of a request")
        if not head.start.startswith(start.encode() + b" "):
            raise Wrong(f"{self.name}: {head.start!r} instead of {start}")

    def begun(self):
        """Sees a request that never becomes complete, and the connection closed behind it."""
        self.until(lambda: self.ended, "end of an incomplete request")
        if wire.request(self.data):
            raise Wrong(f"{self.name}: a complete request: {self.data[:300]!r}")
        self.data = b""


class Stage:
    """Everything of one case: the clients it makes, the connections that reach the worker."""

    def __init__(self, address, listener):
        self.address, self.listener = address, listener
        self.clients, self.workers = {}, []
        # The connection on which the worker got its last request.
        self.current = None

    def client(self, name="client"):
        if name not in self.clients:
            connection = socket.create_connection(self.address, PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.clients[name] = Client(connection, name)
        return self.clients[name]

    def worker(self, number):
        """The connection with that number, counted from 1 in the order of their coming."""
        give_up = time.monotonic() + PATIENCE
        while len(self.workers) < number:
            if time.monotonic() > give_up:
                raise Wrong(f"worker: {len(self.workers)} connections instead of {number}")
            if select.select([self.listener], [], [], 0.1)[0]:
                self.accept()
        return self.workers[number - 1]

    def accept(self):
        self.workers.append(Worker(self.listener.accept()[0], f"worker {len(self.workers) + 1}"))

    def accept_all(self):
        while select.select([self.listener], [], [], 0)[0]:
            self.accept()

    def next_request(self, number=None):
        """The next request: on that connection, or on whichever it comes."""
        if number is not None:
            self.current = self.worker(number)
            return self.current.request()
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            for worker in self.workers:
                if wire.request(worker.data):
                    self.current = worker
                    return worker.request()
            ends = [w for w in self.workers if not w.ended and not w.peeks and not w.closed]
            ready = select.select([self.listener, *(w.connection for w in ends)], [], [], 0.1)[0]
            for worker in ends:
                if worker.connection in ready:
                    worker.receive()
            if self.listener in ready:
                self.accept()
        raise Wrong(f"worker: no request; it has {[w.data[:300] for w in self.workers]}")

    def nothing_else(self):
        """Nobody has bytes that no step asked for."""
        self.accept_all()
        for end in [*self.clients.values(), *self.workers]:
            if not end.peeks and not end.closed:
                end.receive()
                if end.data:
                    raise Wrong(f"{end.name}: bytes too many: {end.data[:300]!r}")

    def strike(self):
        """Closes everything, so that the next case begins with connections of its own."""
        self.accept_all()
        for client in self.clients.values():
            client.close()
        for worker in self.workers:
            worker.close()
