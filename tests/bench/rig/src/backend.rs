//! The lean worker: one thread, one epoll set, small answers at about 5 us each, so that what is in
//! front of it is the limit. It trusts its peers, which are proxies under test.
//!
//! `/small` 128 bytes · `/1m` one MiB · `/sink` takes a body · `/sleep?ms=N` a long poll ·
//! `/socket.io/` a handshake with a new sid, or a packet · `/ws` echo · `/ws-sink` · `/ws-source`

use crate::socket::{Listener, Socket, unless_blocked};
use crate::websocket::{self, BINARY};
use echo_wire::frames::accept_key;
use echo_wire::wire;
use mio::{Events, Interest, Poll, Registry, Token};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const READ_BYTES: usize = 128 << 10;
const SMALL: [u8; 128] = [b'x'; 128];
const STREAM_FRAME_BYTES: usize = 64 << 10;

enum Mode {
    Http,
    Echo,
    Sink,
    Source,
}

struct Connection {
    socket: Socket,
    number: u64,
    mode: Mode,
    /// What came of a head or a frame that is not complete.
    input: Vec<u8>,
    body_left: usize,
    /// What the peer has not taken: these bytes, then so many of the filling.
    output: Vec<u8>,
    filling_left: usize,
    watches_write: bool,
    last: bool,
}

struct Backend {
    poll: Poll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// When which long poll is answered: (time, place, number).
    sleeping: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    numbers: u64,
    sids: u64,
    filling: Vec<u8>,
    stream_frame: Vec<u8>,
    buffer: Vec<u8>,
}

pub fn serve(addresses: &[String]) -> io::Result<()> {
    let mut listeners = Vec::new();
    if let Some(listener) = wire::Listener::inherited() {
        listeners.push(Listener::from_std(listener)?);
    }
    for address in addresses {
        let listener = wire::Address::parse(address).listen()?;
        listeners.push(Listener::from_std(listener)?);
    }
    let poll = Poll::new()?;
    for (place, listener) in listeners.iter_mut().enumerate() {
        poll.registry()
            .register(listener.source(), Token(place), Interest::READABLE)?;
    }
    Backend {
        poll,
        connections: Vec::new(),
        free: Vec::new(),
        sleeping: BinaryHeap::new(),
        numbers: 0,
        sids: 0,
        filling: vec![b'x'; MIB],
        stream_frame: websocket::frame(BINARY, &vec![b'x'; STREAM_FRAME_BYTES], false),
        buffer: vec![0; READ_BYTES],
    }
    .run(&listeners)
}

impl Backend {
    fn run(mut self, listeners: &[Listener]) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let patience = self
                .sleeping
                .peek()
                .map(|Reverse((at, _, _))| at.saturating_duration_since(Instant::now()));
            // A wait is rounded down to milliseconds: one more keeps this from spinning.
            let patience = patience.map(|time| time + Duration::from_millis(1));
            match self.poll.poll(&mut events, patience) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            for event in &events {
                match listeners.get(event.token().0) {
                    Some(listener) => self.accept(listener, listeners.len()),
                    None => self.drive(event.token().0 - listeners.len(), listeners.len()),
                }
            }
            self.wake(listeners.len());
        }
    }

    fn accept(&mut self, listener: &Listener, first: usize) {
        while let Ok(mut socket) = listener.accept() {
            let place = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let token = Token(place + first);
            let registry = self.poll.registry();
            if registry
                .register(&mut socket, token, Interest::READABLE)
                .is_err()
            {
                self.free.push(place);
                continue;
            }
            self.numbers += 1;
            self.connections[place] = Some(Connection {
                socket,
                number: self.numbers,
                mode: Mode::Http,
                input: Vec::new(),
                body_left: 0,
                output: Vec::new(),
                filling_left: 0,
                watches_write: false,
                last: false,
            });
            self.drive(place, first);
        }
    }

    fn wake(&mut self, first: usize) {
        while let Some(Reverse((at, place, number))) = self.sleeping.peek().copied() {
            if at > Instant::now() {
                break;
            }
            self.sleeping.pop();
            if let Some(Some(connection)) = self.connections.get_mut(place)
                && connection.number == number
            {
                answer(&mut connection.output, b"slept", connection.last);
                self.drive(place, first);
            }
        }
    }

    fn drive(&mut self, place: usize, first: usize) {
        let Some(mut connection) = self.connections.get_mut(place).and_then(Option::take) else {
            return;
        };
        let token = Token(place + first);
        match self.go_on(&mut connection, place, token) {
            Ok(true) => self.connections[place] = Some(connection),
            Ok(false) | Err(_) => self.free.push(place),
        }
    }

    /// Reads and writes until nothing more can be done; false: the connection has ended.
    fn go_on(&mut self, at: &mut Connection, place: usize, token: Token) -> io::Result<bool> {
        loop {
            if !at.send(
                &self.filling,
                &self.stream_frame,
                self.poll.registry(),
                token,
            )? {
                return Ok(true);
            }
            if at.last {
                return Ok(false);
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = unless_blocked(at.socket.read(&mut buffer));
            let mut again = false;
            let outcome = match read {
                Ok(None) => Ok(true),
                Ok(Some(0)) | Err(_) => Ok(false),
                Ok(Some(count)) => {
                    again = count == buffer.len();
                    self.take(at, place, &buffer[..count]);
                    at.send(
                        &self.filling,
                        &self.stream_frame,
                        self.poll.registry(),
                        token,
                    )
                    .map(|whole| {
                        again &= whole;
                        !(whole && at.last)
                    })
                }
            };
            self.buffer = buffer;
            match outcome {
                Ok(true) if again => {}
                other => return other,
            }
        }
    }

    fn take(&mut self, at: &mut Connection, place: usize, new: &[u8]) {
        let held = std::mem::take(&mut at.input);
        let joined;
        let mut bytes = if held.is_empty() {
            new
        } else {
            joined = [&held, new].concat();
            &joined
        };
        while !bytes.is_empty() {
            let used = match at.mode {
                Mode::Http => self.request(at, place, bytes),
                Mode::Echo => echo(&mut at.output, bytes),
                Mode::Sink | Mode::Source => bytes.len(),
            };
            if used == 0 {
                at.input = bytes.to_vec();
                return;
            }
            bytes = &bytes[used..];
        }
    }

    /// Takes a body's bytes, or a request's head; 0: it is not complete.
    fn request(&mut self, at: &mut Connection, place: usize, bytes: &[u8]) -> usize {
        if at.body_left > 0 {
            let used = at.body_left.min(bytes.len());
            at.body_left -= used;
            if at.body_left == 0 {
                answer(&mut at.output, b"taken", at.last);
            }
            return used;
        }
        let Some(end) = websocket::head_end(bytes) else {
            return 0;
        };
        let mut lines = bytes[..end].split(|byte| *byte == b'\n');
        let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        let posts = words.next() == Some(b"POST");
        let target = words.next().unwrap_or_default();
        let mut key = None;
        for line in lines {
            match line.first() {
                Some(b'c' | b'C') => match (posts, value(line, "content-length")) {
                    (true, Some(length)) => at.body_left = number(length),
                    _ if value(line, "connection") == Some(b"close") => at.last = true,
                    _ => {}
                },
                Some(b's' | b'S') => key = key.or(value(line, "sec-websocket-key")),
                _ => {}
            }
        }
        let (path, query) = match target.iter().position(|byte| *byte == b'?') {
            Some(mark) => (&target[..mark], &target[mark + 1..]),
            None => (target, &[][..]),
        };
        match path {
            b"/1m" => {
                let _ = write!(
                    at.output,
                    "HTTP/1.1 200 OK\r\nContent-Length: {MIB}\r\n\r\n"
                );
                at.filling_left = MIB;
            }
            b"/sink" if at.body_left > 0 => {}
            b"/sleep" => {
                let time = Duration::from_millis(number(&query[3.min(query.len())..]) as u64);
                let wake = Reverse((Instant::now() + time, place, at.number));
                self.sleeping.push(wake);
            }
            b"/socket.io/" if !query.windows(4).any(|four| four == b"sid=") => {
                self.sids += 1;
                let open = format!(
                    "0{{\"sid\":\"bench{:015}\",\"upgrades\":[],\"pingInterval\":25000}}",
                    self.sids
                );
                answer(&mut at.output, open.as_bytes(), at.last);
            }
            _ => match (key, path.strip_prefix(b"/ws")) {
                (Some(key), Some(kind)) => {
                    at.mode = match kind {
                        b"-sink" => Mode::Sink,
                        b"-source" => Mode::Source,
                        _ => Mode::Echo,
                    };
                    let _ = write!(
                        at.output,
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Accept: {}\r\n\r\n",
                        accept_key(&String::from_utf8_lossy(key))
                    );
                    at.last = false;
                }
                _ => answer(&mut at.output, &SMALL, at.last),
            },
        }
        end
    }
}

impl Connection {
    /// Sends what there is; false: the peer has not taken all of it, and its room is watched for.
    fn send(
        &mut self,
        filling: &[u8],
        frame: &[u8],
        registry: &Registry,
        token: Token,
    ) -> io::Result<bool> {
        loop {
            let rest = if !self.output.is_empty() {
                &self.output[..]
            } else if self.filling_left > 0 {
                &filling[..self.filling_left.min(filling.len())]
            } else if matches!(self.mode, Mode::Source) {
                self.output.extend_from_slice(frame);
                continue;
            } else {
                if std::mem::take(&mut self.watches_write) {
                    registry.reregister(&mut self.socket, token, Interest::READABLE)?;
                }
                return Ok(true);
            };
            match unless_blocked(self.socket.write(rest))? {
                Some(sent) if !self.output.is_empty() => {
                    self.output.drain(..sent);
                }
                Some(sent) => self.filling_left -= sent,
                None => {
                    if !std::mem::replace(&mut self.watches_write, true) {
                        let both = Interest::READABLE | Interest::WRITABLE;
                        registry.reregister(&mut self.socket, token, both)?;
                    }
                    return Ok(false);
                }
            }
        }
    }
}

fn answer(out: &mut Vec<u8>, body: &[u8], last: bool) {
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{}\r\n",
        body.len(),
        if last { "Connection: close\r\n" } else { "" }
    );
    out.extend_from_slice(body);
}

/// Echoes whole frames; returns the bytes used.
fn echo(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let mut used = 0;
    while let Some(frame) = websocket::read_frame(&bytes[used..]) {
        let payload = &bytes[used..][frame.payload.clone()];
        let begin = out.len();
        websocket::push_frame(out, frame.opcode, payload, false);
        let from = out.len() - payload.len();
        debug_assert!(from > begin);
        if let Some(mask) = frame.mask {
            for (byte, mask) in out[from..].iter_mut().zip(mask.iter().cycle()) {
                *byte ^= mask;
            }
        }
        used += frame.payload.end;
    }
    used
}

/// The value of a field line, if it is of this name.
fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    if !found.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    Some(rest.strip_prefix(b":")?.trim_ascii())
}

fn number(digits: &[u8]) -> usize {
    digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number, byte| number * 10 + usize::from(byte - b'0'))
}
