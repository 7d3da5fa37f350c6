//! Users of the sample chat over Socket.IO's WebSocket transport: they join rooms, then some of
//! them speak at a constant rate. A message carries the time it was said, so every delivery tells
//! how long it took.

use crate::latency::Latencies;
use crate::options::{Options, wrong};
use crate::socket::{Socket, unless_blocked};
use crate::websocket::{self, TEXT, head_end};
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

const PATH: &str = "/socket.io/?EIO=4&transport=websocket";
const JOIN_SECS_MAX: u64 = 60;
/// Users that join at once: everyone is told of everyone's coming.
const JOINING_MAX: usize = 50;
/// With more of them gone it is not the same load any more.
const GONE_MAX: usize = 20;
const SETTLE: Duration = Duration::from_secs(1);

struct User {
    socket: Socket,
    input: Vec<u8>,
    upgraded: bool,
    joined: bool,
    /// Thrown out; an error, but not the end of the others.
    gone: bool,
}

struct Chat {
    poll: Poll,
    users: Vec<User>,
    begun: Instant,
    latencies: Latencies,
    measuring: bool,
    rooms: usize,
    errors: usize,
}

pub fn run(options: &Options) -> io::Result<()> {
    let users: usize = options.number("users", 1000)?;
    let rate: f64 = options.number("rate", 300.0)?;
    let mut chat = Chat {
        poll: Poll::new()?,
        users: Vec::with_capacity(users),
        begun: Instant::now(),
        latencies: Latencies::default(),
        measuring: false,
        rooms: options.number("rooms", 40)?,
        errors: 0,
    };
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 256 << 10];
    let give_up = Instant::now() + Duration::from_secs(JOIN_SECS_MAX);
    loop {
        let joined = chat
            .users
            .iter()
            .filter(|user| user.joined || user.gone)
            .count();
        if joined == users {
            break;
        }
        if Instant::now() > give_up {
            return Err(wrong(format!("only {joined} users could join in time")));
        }
        while chat.users.len() < users.min(joined + JOINING_MAX) {
            chat.enter(options.to()?)?;
        }
        chat.step(&mut events, &mut buffer, Duration::from_millis(100))?;
    }
    // What the coming of so many has caused is to be over.
    let settled = Instant::now() + SETTLE;
    while Instant::now() < settled {
        chat.step(&mut events, &mut buffer, Duration::from_millis(100))?;
    }
    println!("{{\"joined\": {users}}}");
    io::stdout().flush()?;
    chat.measuring = true;
    let begun = Instant::now();
    let time = options.time()?;
    let mut said = 0u32;
    while begun.elapsed() < time {
        while f64::from(said) < begun.elapsed().as_secs_f64() * rate {
            let now = chat.begun.elapsed().as_micros();
            // A step that has no divisor with the number of users: neighbours share no room.
            let speaker = said as usize * 7 % users;
            said += 1;
            chat.say(speaker, &format!("42[\"say\",\"{now}\"]"))?;
        }
        chat.step(&mut events, &mut buffer, Duration::from_millis(1))?;
    }
    println!(
        "{{\"count\": {}, \"said\": {said}, \"errors\": {}, \"seconds\": {:.4}, {}}}",
        chat.latencies.count(),
        chat.errors,
        begun.elapsed().as_secs_f64(),
        chat.latencies.json()
    );
    Ok(())
}

impl Chat {
    fn enter(&mut self, to: &str) -> io::Result<()> {
        let mut socket = Socket::connect(to)?;
        let token = Token(self.users.len());
        self.poll
            .registry()
            .register(&mut socket, token, Interest::READABLE)?;
        socket.write_all(&websocket::handshake(PATH, "bench"))?;
        self.users.push(User {
            socket,
            input: Vec::new(),
            upgraded: false,
            joined: false,
            gone: false,
        });
        Ok(())
    }

    fn say(&mut self, place: usize, text: &str) -> io::Result<()> {
        match self.users.get_mut(place) {
            Some(user) if !user.gone => {
                user.socket
                    .write_all(&websocket::frame(TEXT, text.as_bytes(), true))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn step(&mut self, events: &mut Events, buffer: &mut [u8], wait: Duration) -> io::Result<()> {
        match self.poll.poll(events, Some(wait)) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        for event in events.iter() {
            let place = event.token().0;
            while let Some(user) = self.users.get_mut(place) {
                let Some(count) = unless_blocked(user.socket.read(buffer)).unwrap_or(Some(0))
                else {
                    break;
                };
                if count == 0 {
                    self.errors += usize::from(!std::mem::replace(&mut user.gone, true));
                    if self.errors > GONE_MAX {
                        return Err(wrong(format!("{} users were thrown out", self.errors)));
                    }
                    break;
                }
                user.input.extend_from_slice(&buffer[..count]);
                self.take(place)?;
                if count < buffer.len() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, place: usize) -> io::Result<()> {
        let Some(user) = self.users.get_mut(place) else {
            return Ok(());
        };
        let mut input = std::mem::take(&mut user.input);
        let mut used = 0;
        if !user.upgraded {
            match head_end(&input) {
                Some(end) if input.starts_with(b"HTTP/1.1 101") => {
                    user.upgraded = true;
                    used = end;
                }
                Some(_) => return Err(wrong("the upgrade was refused")),
                None => {
                    user.input = input;
                    return Ok(());
                }
            }
        }
        while let Some(frame) = websocket::read_frame(&input[used..]) {
            self.packet(place, &input[used..][frame.payload.clone()])?;
            used += frame.payload.end;
        }
        input.drain(..used);
        if let Some(user) = self.users.get_mut(place) {
            user.input = input;
        }
        Ok(())
    }

    fn packet(&mut self, place: usize, packet: &[u8]) -> io::Result<()> {
        match packet {
            [b'0', ..] => self.say(place, "40"),
            [b'2', ..] => self.say(place, "3"),
            [b'4', b'0', ..] => {
                let room = place % self.rooms;
                let join =
                    format!("420[\"join\",{{\"name\":\"user {place}\",\"room\":\"room-{room}\"}}]");
                self.say(place, &join)
            }
            [b'4', b'3', ..] => {
                if let Some(user) = self.users.get_mut(place) {
                    user.joined = true;
                }
                Ok(())
            }
            _ if self.measuring && packet.starts_with(b"42[\"message\"") => {
                if let Some(said_us) = said(packet) {
                    let now = self.begun.elapsed().as_micros() as u64;
                    self.latencies
                        .add_us(u32::try_from(now.saturating_sub(said_us)).unwrap_or(u32::MAX));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The time in `"text":"..."`.
fn said(packet: &[u8]) -> Option<u64> {
    let key = b"\"text\":\"";
    let at = packet.windows(key.len()).position(|part| part == key)?;
    let rest = packet.get(at + key.len()..)?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
}
