//! Upgrades as fast as they go: every line connects, shakes hands, closes, and begins anew. The
//! worker says in `X-Handle` what it holds; a `Pipe` is a relayed connection.

use crate::latency::Latencies;
use crate::options::{Options, wrong};
use crate::socket::{Socket, unless_blocked};
use crate::websocket::{self, head_end};
use mio::event::Source;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

struct Line {
    socket: Socket,
    input: Vec<u8>,
    begun: Instant,
}

#[derive(Default)]
struct Counts {
    latencies: Latencies,
    relayed: u64,
    errors: u64,
}

pub fn run(options: &Options) -> io::Result<()> {
    let connections = options.number("connections", 64)?;
    let to = options.to()?;
    let handshake = websocket::handshake(options.text("path", "/ws"), "bench");
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 4096];
    let mut lines = (0..connections)
        .map(|place| begin(&poll, to, &handshake, Token(place)))
        .collect::<io::Result<Vec<Line>>>()?;
    let mut counts = Counts::default();
    let begun = Instant::now();
    let time = options.time()?;
    while begun.elapsed() < time {
        match poll.poll(&mut events, Some(Duration::from_millis(100))) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        for event in &events {
            let token = event.token();
            let Some(line) = lines.get_mut(token.0) else {
                continue;
            };
            if line.ended(&mut buffer, &mut counts)? {
                line.socket.deregister(poll.registry())?;
                *line = begin(&poll, to, &handshake, token)?;
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let count = counts.latencies.count();
    if count == 0 {
        return Err(wrong("not one upgrade was answered"));
    }
    println!(
        "{{\"count\": {count}, \"seconds\": {took:.4}, \"errors\": {}, \"relayed\": {}, {}}}",
        counts.errors,
        counts.relayed,
        counts.latencies.json()
    );
    Ok(())
}

fn begin(poll: &Poll, to: &str, handshake: &[u8], token: Token) -> io::Result<Line> {
    let mut socket = Socket::connect(to)?;
    poll.registry()
        .register(&mut socket, token, Interest::READABLE)?;
    socket.write_all(handshake)?;
    Ok(Line {
        socket,
        input: Vec::new(),
        begun: Instant::now(),
    })
}

impl Line {
    /// Whether this connection has been answered, or has broken off.
    fn ended(&mut self, buffer: &mut [u8], counts: &mut Counts) -> io::Result<bool> {
        match unless_blocked(self.socket.read(buffer)) {
            Ok(None) => Ok(false),
            Ok(Some(0)) | Err(_) => {
                counts.errors += 1;
                Ok(true)
            }
            Ok(Some(count)) => {
                self.input.extend_from_slice(&buffer[..count]);
                if head_end(&self.input).is_none() {
                    return Ok(false);
                }
                if !self.input.starts_with(b"HTTP/1.1 101") {
                    counts.errors += 1;
                    return Ok(true);
                }
                if self.input.windows(4).any(|four| four == b"Pipe") {
                    counts.relayed += 1;
                }
                counts.latencies.add(self.begun.elapsed());
                Ok(true)
            }
        }
    }
}
