//! A WebSocket client: says messages and prints what comes, or counts echoes over many
//! connections at once.

use crate::http::{read_answer, read_head};
use echo_wire::digest::base64;
use echo_wire::frames::{Message, Messages, Opcode, Role, accept_key, close_payload, write_frame};
use echo_wire::wire::{Address, Stream};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

pub struct Plan {
    pub address: Address,
    pub target: String,
    /// Whole header lines for the handshake.
    pub fields: String,
    /// Said one after another; each waits for one message in return unless `until` is given.
    pub messages: Vec<String>,
    pub connections: usize,
    pub count: usize,
    pub size: usize,
    pub binary: bool,
    /// Frames a message is cut into.
    pub fragments: usize,
    pub pause: Duration,
    pub print: bool,
    /// Go on listening until a message with this text has come.
    pub until: Option<String>,
    /// Half-close instead of saying goodbye.
    pub shut: bool,
    /// Send the first message together with the handshake.
    pub eager: bool,
    pub hold: bool,
    pub hold_while: Option<PathBuf>,
    pub deadline: Instant,
}

/// True if every connection did what the plan says.
pub fn run(plan: Plan) -> bool {
    let plan = Arc::new(plan);
    let barrier = Arc::new(Barrier::new(plan.connections + 1));
    let threads: Vec<_> = (0..plan.connections)
        .filter_map(|i| {
            let (plan, barrier) = (Arc::clone(&plan), Arc::clone(&barrier));
            let thread = thread::Builder::new().stack_size(256 << 10);
            thread.spawn(move || one_client(&plan, i, &barrier)).ok()
        })
        .collect();
    if plan.hold && threads.len() == plan.connections {
        barrier.wait();
        println!("held {}", plan.connections);
        let _ = io::stdout().flush();
    }
    let mut fine = 0;
    for (i, thread) in threads.into_iter().enumerate() {
        match thread.join() {
            Ok(Ok(())) => fine += 1,
            Ok(Err(error)) => eprintln!("raw: connection {i}: {error}"),
            Err(_) => eprintln!("raw: connection {i}: panic"),
        }
    }
    if plan.count > 0 || plan.connections > 1 {
        println!(
            "connections {} fine {fine} messages {}",
            plan.connections,
            fine * plan.count
        );
    }
    fine == plan.connections
}

fn one_client(plan: &Plan, index: usize, barrier: &Barrier) -> io::Result<()> {
    let talked = open(plan, index).and_then(|mut client| client.talk().map(|()| client));
    if plan.hold {
        barrier.wait();
        if talked.is_ok() {
            let wanted = || plan.hold_while.as_ref().is_none_or(|path| path.exists());
            while wanted() && Instant::now() < plan.deadline {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
    talked?.part()
}

struct Client<'a> {
    plan: &'a Plan,
    input: BufReader<Stream>,
    output: Stream,
    messages: Messages,
}

fn open(plan: &Plan, index: usize) -> io::Result<Client<'_>> {
    let stream = plan.address.connect()?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    let key = base64(format!("sixteen bytes {:02}", index % 100).as_bytes());
    let mut opening = format!(
        "GET {} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{}\r\n",
        plan.target, plan.fields
    )
    .into_bytes();
    if plan.eager
        && let Some(first) = plan.messages.first()
    {
        write_frame(
            &mut opening,
            Role::Client,
            Opcode::Text,
            true,
            first.as_bytes(),
        )?;
    }
    output.write_all(&opening)?;
    patience(plan, &input)?;
    let head = read_head(&mut input)?;
    if !head.starts_with("HTTP/1.1 101 ") {
        print!("{head}");
        let answer = read_answer(&mut head.as_bytes().chain(&mut input))?;
        println!("{}", String::from_utf8_lossy(&answer.body));
        return Err(io::Error::other(format!("refused with {}", answer.status)));
    }
    if plan.print {
        print!("{head}");
    }
    let lower = head.to_ascii_lowercase();
    let accept = format!("sec-websocket-accept: {}\r\n", accept_key(&key)).to_ascii_lowercase();
    if !lower.contains(&accept) {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "wrong Sec-WebSocket-Accept",
        ));
    }
    Ok(Client {
        plan,
        input,
        output,
        messages: Messages::new(Role::Client),
    })
}

fn patience(plan: &Plan, input: &BufReader<Stream>) -> io::Result<()> {
    let left = plan.deadline.saturating_duration_since(Instant::now());
    input
        .get_ref()
        .set_read_timeout(Some(left.max(Duration::from_millis(1))))
}

impl Client<'_> {
    fn talk(&mut self) -> io::Result<()> {
        for (i, message) in self.plan.messages.iter().enumerate() {
            if !(i == 0 && self.plan.eager) {
                self.say(message.as_bytes(), false)?;
            }
            if self.plan.until.is_none() {
                let came = self.hear()?;
                show(&came);
                if matches!(came, Message::Close(..) | Message::End) {
                    return Ok(());
                }
            }
            thread::sleep(self.plan.pause);
        }
        for i in 0..self.plan.count {
            self.echo(i)?;
            thread::sleep(self.plan.pause);
        }
        while let Some(text) = &self.plan.until {
            let came = self.hear()?;
            show(&came);
            match &came {
                Message::Text(bytes) if String::from_utf8_lossy(bytes).contains(text) => break,
                Message::Close(..) | Message::End => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        format!("ended before {text:?} came"),
                    ));
                }
                Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
        Ok(())
    }

    fn echo(&mut self, number: usize) -> io::Result<()> {
        let mut payload = format!("message {number} ").into_bytes();
        payload.resize(self.plan.size.max(payload.len()), b'.');
        self.say(&payload, self.plan.binary)?;
        let wanted = if self.plan.binary {
            Message::Binary(payload)
        } else {
            Message::Text(payload)
        };
        loop {
            let came = self.hear()?;
            if came == wanted {
                return Ok(());
            }
            if !matches!(came, Message::Ping(_) | Message::Pong(_)) {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    format!("message {number} came back different"),
                ));
            }
        }
    }

    fn say(&mut self, payload: &[u8], binary: bool) -> io::Result<()> {
        let size = payload.len().div_ceil(self.plan.fragments.max(1)).max(1);
        let mut pieces: Vec<&[u8]> = payload.chunks(size).collect();
        if pieces.is_empty() {
            pieces.push(b"");
        }
        let last = pieces.len() - 1;
        for (i, piece) in pieces.into_iter().enumerate() {
            let opcode = match (i, binary) {
                (0, true) => Opcode::Binary,
                (0, false) => Opcode::Text,
                _ => Opcode::Continuation,
            };
            write_frame(&mut self.output, Role::Client, opcode, i == last, piece)?;
        }
        Ok(())
    }

    /// The next message; pings are answered on the way.
    fn hear(&mut self) -> io::Result<Message> {
        patience(self.plan, &self.input)?;
        let message = self.messages.next(&mut self.input)?;
        if let Message::Ping(payload) = &message {
            write_frame(&mut self.output, Role::Client, Opcode::Pong, true, payload)?;
        }
        Ok(message)
    }

    /// Says goodbye (or half-closes) and listens to the end.
    fn part(mut self) -> io::Result<()> {
        let gone = if self.plan.shut {
            self.output.shutdown(Shutdown::Write)
        } else {
            write_frame(
                &mut self.output,
                Role::Client,
                Opcode::Close,
                true,
                &close_payload(1000, ""),
            )
        };
        let talkative = self.plan.print || !self.plan.messages.is_empty();
        if gone.is_err() {
            return Ok(());
        }
        loop {
            let came = self.hear()?;
            if talkative {
                show(&came);
            }
            if came == Message::End {
                return Ok(());
            }
        }
    }
}

fn show(message: &Message) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match message {
        Message::Text(bytes) => println!("{}", text(bytes)),
        Message::Binary(bytes) => println!("binary {} bytes", bytes.len()),
        Message::Ping(bytes) => println!("ping {}", text(bytes)),
        Message::Pong(bytes) => println!("pong {}", text(bytes)),
        Message::Close(code, reason) => println!("close {code} {}", text(reason)),
        Message::End => println!("end of stream"),
    }
    let _ = io::stdout().flush();
}
