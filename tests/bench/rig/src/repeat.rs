//! Closed-loop load: every connection sends its message again as soon as it has the answer. For
//! WebSocket echoes, for requests whose path or host varies, and for an exact number of requests.

use crate::latency::Latencies;
use crate::options::{Options, wrong};
use crate::socket::{Socket, unless_blocked};
use crate::websocket::{self, BINARY, head_end};
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

const CONNECT_SECS_MAX: u64 = 30;
/// Handshakes, or first requests, under way at once, so that no backlog overflows: what is measured
/// begins when all are through.
const OPENING_MAX: usize = 64;

struct Line {
    socket: Socket,
    input: Vec<u8>,
    sent_at: Instant,
    open: bool,
}

struct Load {
    websocket: bool,
    frame: Vec<u8>,
    path: String,
    host: String,
    range: u64,
    random: u64,
    request: Vec<u8>,
    latencies: Latencies,
    errors: u64,
    count_max: u64,
    sent: u64,
    sending: bool,
}

pub fn run(options: &Options) -> io::Result<()> {
    let connections = options.number("connections", 64)?;
    let websocket = options.text("kind", "http") == "ws";
    let mut load = Load {
        websocket,
        frame: websocket::frame(BINARY, &vec![b'm'; options.number("bytes", 64)?], true),
        path: options.text("path", "/small").to_owned(),
        host: options.text("host", "bench").to_owned(),
        range: options.number("range", 1)?,
        random: 0x9e37_79b9_7f4a_7c15,
        request: Vec::new(),
        latencies: Latencies::default(),
        errors: 0,
        count_max: options.number("count", u64::MAX)?,
        sent: 0,
        sending: false,
    };
    let mut poll = Poll::new()?;
    let mut lines: Vec<Line> = Vec::with_capacity(connections);
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 << 10];
    let give_up = Instant::now() + Duration::from_secs(CONNECT_SECS_MAX);
    while lines.len() < connections || lines.iter().any(|line| !line.open) {
        if Instant::now() > give_up {
            return Err(wrong("the connections were not opened in time"));
        }
        let opening = lines.iter().filter(|line| !line.open).count();
        for _ in opening..OPENING_MAX.min(opening + connections - lines.len()) {
            let mut socket = Socket::connect(options.to()?)?;
            poll.registry()
                .register(&mut socket, Token(lines.len()), Interest::READABLE)?;
            let first = if websocket {
                websocket::handshake(&load.path, &load.host)
            } else {
                let host = load.host.replace("{n}", "0");
                format!("GET /small HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
            };
            socket.write_all(&first)?;
            lines.push(Line {
                socket,
                input: Vec::new(),
                sent_at: Instant::now(),
                open: false,
            });
        }
        step(&mut poll, &mut events, &mut lines, &mut load, &mut buffer)?;
    }
    load.sending = true;
    for line in &mut lines {
        load.send(line)?;
    }
    let warm = Duration::from_secs_f64(options.number("warm", 0.0)?);
    let begun = Instant::now();
    while begun.elapsed() < warm {
        step(&mut poll, &mut events, &mut lines, &mut load, &mut buffer)?;
    }
    if !warm.is_zero() {
        load.latencies = Latencies::default();
        println!("{{\"ready\": {connections}}}");
        io::stdout().flush()?;
    }
    let begun = Instant::now();
    let time = if load.count_max == u64::MAX {
        options.time()?
    } else {
        Duration::from_secs(options.number("seconds", 600)?)
    };
    while begun.elapsed() < time && (load.latencies.count() as u64) < load.count_max {
        step(&mut poll, &mut events, &mut lines, &mut load, &mut buffer)?;
    }
    let took = begun.elapsed().as_secs_f64();
    let count = load.latencies.count();
    println!(
        "{{\"count\": {count}, \"seconds\": {took:.4}, \"errors\": {}, {}}}",
        load.errors,
        load.latencies.json()
    );
    Ok(())
}

fn step(
    poll: &mut Poll,
    events: &mut Events,
    lines: &mut [Line],
    load: &mut Load,
    buffer: &mut [u8],
) -> io::Result<()> {
    match poll.poll(events, Some(Duration::from_millis(100))) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
        _ => {}
    }
    for event in events.iter() {
        let Some(line) = lines.get_mut(event.token().0) else {
            continue;
        };
        while let Some(count) = unless_blocked(line.socket.read(buffer))? {
            if count == 0 {
                return Err(wrong("a connection was closed"));
            }
            load.take(line, &buffer[..count])?;
            if count < buffer.len() {
                break;
            }
        }
    }
    Ok(())
}

impl Load {
    fn take(&mut self, line: &mut Line, bytes: &[u8]) -> io::Result<()> {
        // Nearly always an answer comes whole, and is looked at where it lies.
        let held = std::mem::take(&mut line.input);
        let joined;
        let all = if held.is_empty() {
            bytes
        } else {
            joined = [&held, bytes].concat();
            &joined
        };
        if !line.open && !self.websocket {
            line.open = self.answered(all);
            if !line.open {
                line.input = all.to_vec();
            }
            return Ok(());
        }
        if !line.open {
            match head_end(all) {
                Some(_) if all.starts_with(b"HTTP/1.1 101") => line.open = true,
                Some(_) => return Err(wrong("the upgrade was refused")),
                None => line.input = all.to_vec(),
            }
            return Ok(());
        }
        let whole = if self.websocket {
            websocket::read_frame(all).is_some()
        } else {
            self.answered(all)
        };
        if !whole {
            line.input = all.to_vec();
            return Ok(());
        }
        self.latencies.add(line.sent_at.elapsed());
        self.send(line)
    }

    fn answered(&mut self, bytes: &[u8]) -> bool {
        let Some(end) = head_end(bytes) else {
            return false;
        };
        let head = &bytes[..end];
        let length = head.split(|byte| *byte == b'\n').find_map(|line| {
            let (name, value) = line.split_at_checked(15)?;
            if !name.eq_ignore_ascii_case(b"content-length:") {
                return None;
            }
            std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()
        });
        let whole = bytes.len() >= end + length.unwrap_or(0usize);
        if whole && !head.starts_with(b"HTTP/1.1 200") {
            self.errors += 1;
        }
        whole
    }

    fn send(&mut self, line: &mut Line) -> io::Result<()> {
        if !self.sending || self.sent >= self.count_max {
            return Ok(());
        }
        self.sent += 1;
        line.sent_at = Instant::now();
        if self.websocket {
            return line.socket.write_all(&self.frame);
        }
        if self.range > 1 || self.request.is_empty() {
            let number = (self.random() % self.range.max(1)).to_string();
            let padded = format!("{:0>15}", number);
            let fill = |text: &str| text.replace("{n}", &number).replace("{sid}", &padded);
            self.request.clear();
            write!(
                self.request,
                "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
                fill(&self.path),
                fill(&self.host)
            )?;
        }
        line.socket.write_all(&self.request)
    }

    /// Xorshift: any number will do, as long as it is quick.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 8
    }
}
