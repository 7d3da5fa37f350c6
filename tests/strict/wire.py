"""A strict reader of HTTP/1.1 messages, for both ends of the tests.

It shares no code with sidekeeper and forgives nothing: whatever sidekeeper writes to a worker or
to a client is read here, and what cannot be read in exactly one way is `Malformed`. It knows bytes
only; sockets are `play`'s.
"""

import re

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.1\Z")
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)\Z")
# Nothing but one blank between colon and value is what a proxy that writes heads anew has to send.
FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*)\Z")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})\Z")


class Malformed(Exception):
    """The bytes are no message, or more than one message could be read from them."""


class Head:
    """A start line and its fields."""

    def __init__(self, start, fields, length):
        self.start, self.fields, self.length = start, fields, length

    def values(self, name):
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def one(self, name):
        values = self.values(name)
        if len(values) > 1:
            raise Malformed(f"{name} {len(values)} times")
        return values[0] if values else None

    def options(self):
        return [o.strip().lower() for value in self.values("Connection") for o in value.split(",")]


def head(data):
    """The head at the beginning of `data`, or None as long as it is incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = data[:end].split(b"\r\n")
    fields = []
    for line in lines[1:]:
        match = FIELD_LINE.match(line)
        if not match:
            raise Malformed(f"field line {line!r}")
        name, value = match.groups()
        if value != value.strip(b" \t"):
            raise Malformed(f"blanks behind {line!r}")
        fields.append((name.decode("latin-1"), value.decode("latin-1")))
    return Head(lines[0], fields, end + 4)


def chunked(data, at):
    """The body that begins at `at`, and where it ends; None as long as it is incomplete."""
    body = b""
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = CHUNK_LINE.match(data[at:end])
        if not size:
            raise Malformed(f"chunk line {data[at:end]!r}")
        size, at = int(size[1], 16), end + 2
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise Malformed("a chunk without its CRLF")
        body, at = body + data[at : at + size], at + size + 2
        if size == 0:
            return body, at


def framing(message):
    """'chunked', a length, or None where neither field is."""
    coding, length = message.one("Transfer-Encoding"), message.one("Content-Length")
    if coding is not None:
        if length is not None:
            raise Malformed("Content-Length beside Transfer-Encoding")
        if coding != "chunked":
            raise Malformed(f"Transfer-Encoding: {coding}")
        return "chunked"
    if length is not None and not re.fullmatch("[0-9]{1,18}", length):
        raise Malformed(f"Content-Length: {length}")
    return None if length is None else int(length)


class Message:
    """A complete message: its head, its body, the bytes it took."""

    def __init__(self, message, body, used):
        self.head, self.body, self.used = message, body, used


def body(data, message, how):
    if how == "chunked":
        found = chunked(data, message.length)
        return None if found is None else Message(message, *found)
    end = message.length + (how or 0)
    return Message(message, data[message.length : end], end) if len(data) >= end else None


def request(data):
    """The request at the beginning of `data`, or None as long as it is incomplete."""
    message = head(data)
    if message is None:
        return None
    match = REQUEST_LINE.match(message.start)
    if not match:
        raise Malformed(f"request line {message.start!r}")
    message.method, message.target = (part.decode() for part in match.groups())
    if message.one("Host") is None:
        raise Malformed("a request without Host")
    return body(data, message, framing(message))


def response(data, asked_head, ended):
    """The response at the beginning of `data`, or None as long as it is incomplete. `ended`: the
    connection has ended cleanly behind these bytes."""
    message = head(data)
    if message is None:
        return None
    match = STATUS_LINE.match(message.start)
    if not match:
        raise Malformed(f"status line {message.start!r}")
    message.status = int(match[1])
    how = framing(message)
    if message.status < 200 or message.status == 204:
        if how is not None:
            raise Malformed(f"a framing field in a {message.status}")
        return Message(message, b"", message.length)
    if asked_head or message.status == 304:
        return Message(message, b"", message.length)
    if how is None:
        return Message(message, data[message.length :], len(data)) if ended else None
    return body(data, message, how)
