//! Random, valid traffic against the echo app's `/soak` and `/ws`, in which every body describes
//! itself, while workers are killed. Nothing that looks complete may be wrong, no answer may be
//! another's, and an exchange may fail only if a worker was killed while it was under way, and
//! only if it could not be repeated.

use crate::http::{Answer, read_answer, read_head};
use echo_wire::digest::Sha1;
use echo_wire::filler::{Dice, filler};
use echo_wire::frames::{Message, Messages, Opcode, Role, write_frame};
use echo_wire::wire::{Address, Stream};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub struct Soak {
    pub address: Address,
    pub clients: usize,
    pub end: Instant,
    pub seed: u64,
    pub kill_every: Option<Duration>,
}

/// Longest wait for any one thing: it is a failure by itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a kill began goes on for a while: the process dies, its sockets close, we are told.
const KILL_LASTS: Duration = Duration::from_millis(500);

/// What clients and the killer tell each other.
#[derive(Default)]
struct Board {
    /// Processes that have answered.
    workers: BTreeSet<String>,
    /// When each kill began and when it was done.
    kills: Vec<(Instant, Instant)>,
    counts: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

struct Shared {
    soak: Soak,
    board: Mutex<Board>,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, what: &'static str) {
        *self.board().counts.entry(what).or_default() += 1;
    }

    fn violation(&self, what: String) {
        self.board().violations.push(what);
    }
}

/// True if nothing was seen that must not be.
pub fn run(soak: Soak) -> bool {
    let clients = soak.clients;
    let shared = Arc::new(Shared {
        soak,
        board: Mutex::default(),
    });
    let mut threads: Vec<_> = (0..clients)
        .map(|number| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || Client::new(&shared, number).run())
        })
        .collect();
    if let Some(every) = shared.soak.kill_every {
        let shared = Arc::clone(&shared);
        threads.push(thread::spawn(move || kill_workers(&shared, every)));
    }
    for thread in threads {
        if thread.join().is_err() {
            shared.violation("a client panicked".to_owned());
        }
    }
    let board = shared.board();
    for (what, count) in &board.counts {
        println!("{what} {count}");
    }
    println!(
        "kills {} violations {}",
        board.kills.len(),
        board.violations.len()
    );
    for violation in board.violations.iter().take(20) {
        eprintln!("raw: VIOLATION: {violation}");
    }
    board.violations.is_empty()
}

fn kill_workers(shared: &Shared, every: Duration) {
    let mut dice = Dice::new(shared.soak.seed ^ 0xdead);
    while Instant::now() + every + Duration::from_secs(2) < shared.soak.end {
        thread::sleep(every);
        let victim = {
            let mut board = shared.board();
            let place = dice.roll(board.workers.len());
            let victim = board.workers.iter().nth(place).cloned();
            if let Some(victim) = &victim {
                board.workers.remove(victim);
                let now = Instant::now();
                // Open until it is known how long it took.
                board.kills.push((now, now + PATIENCE));
            }
            victim
        };
        let Some(victim) = victim else { continue };
        let _ = Command::new("kill").args(["-KILL", &victim]).status();
        if let Some(kill) = shared.board().kills.last_mut() {
            kill.1 = Instant::now() + KILL_LASTS;
        }
    }
}

/// How one exchange failed.
struct Failure {
    what: String,
    /// Nothing of the answer had come.
    silent: bool,
}

type Outcome = Result<(), Failure>;

/// What was asked, and so what must be answered.
#[derive(Clone)]
struct Asked {
    id: u64,
    method: &'static str,
    how: &'static str,
    size: usize,
    body: Vec<u8>,
    bytes: Vec<u8>,
}

struct Client<'a> {
    shared: &'a Shared,
    dice: Dice,
    next_id: u64,
    kept: Option<BufReader<Stream>>,
}

impl<'a> Client<'a> {
    fn new(shared: &'a Shared, number: usize) -> Client<'a> {
        let number = number as u64 + 1;
        Client {
            shared,
            dice: Dice::new(shared.soak.seed.wrapping_mul(1000) + number),
            next_id: number << 32,
            kept: None,
        }
    }

    fn run(&mut self) {
        while Instant::now() < self.shared.soak.end {
            let begun = Instant::now();
            // Idempotent, without a body, alone on its connection: to be repeated by the proxy.
            let (what, repeatable, outcome) = match self.dice.roll(20) {
                0..=5 => ("get", true, self.single("GET", 0)),
                6 => ("head", true, self.single("HEAD", 0)),
                7 => ("long_poll", true, self.single("GET", 1500)),
                8..=10 => ("post", false, self.single("POST", 0)),
                11..=13 => ("pipeline", false, self.pipeline()),
                14..=15 => ("websocket", false, self.websocket()),
                16 => ("half_close", true, self.half_close()),
                17 => ("abort_request", false, self.abort_request()),
                18 => ("abort_answer", false, self.abort_answer()),
                _ => ("slow_reader", false, self.slow_reader()),
            };
            self.shared.count(what);
            if let Err(failure) = outcome {
                self.kept = None;
                self.judge(what, repeatable && failure.silent, begun, failure);
            }
        }
    }

    /// A failure is allowed if a kill explains it: one, or two where the proxy has to try twice.
    fn judge(&self, what: &str, repeatable: bool, begun: Instant, failure: Failure) {
        let ended = Instant::now();
        let kills = self
            .shared
            .board()
            .kills
            .iter()
            .filter(|(from, to)| *from <= ended && *to >= begun)
            .count();
        let needed = if repeatable { 2 } else { 1 };
        if kills >= needed {
            self.shared.count("failed_by_a_kill");
            return;
        }
        let took = ended.duration_since(begun).as_millis();
        self.shared.violation(format!(
            "{what}: {} after {took} ms, with {kills} kills meanwhile, repeatable: {repeatable}",
            failure.what
        ));
    }

    fn ask(&mut self, method: &'static str, wait_max: usize, last: bool) -> Asked {
        self.next_id += 1;
        let id = self.next_id;
        let how = ["length", "chunked", "length", "chunked", "close"][self.dice.roll(5)];
        let size = self.size();
        let wait = match wait_max {
            0 if self.dice.once_in(4) => self.dice.roll(30),
            0 => 0,
            max => max / 4 + self.dice.roll(max),
        };
        let gap = if self.dice.once_in(4) {
            self.dice.roll(60)
        } else {
            0
        };
        let body = match method {
            "POST" => {
                let length = self.size();
                filler(!id, length)
            }
            _ => Vec::new(),
        };
        let mut head = format!(
            "{method} /soak?id={id}&n={size}&how={how}&ms={wait}&gap={gap} HTTP/1.1\r\n\
             Host: soak\r\nX-Length: {}\r\nX-Sum: {}\r\n",
            body.len(),
            sum(&body)
        );
        if last {
            head += "Connection: close\r\n";
        }
        let bytes = if method != "POST" {
            (head + "\r\n").into_bytes()
        } else if self.dice.once_in(2) {
            let mut bytes = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
            bytes.extend_from_slice(&body);
            bytes
        } else {
            let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            self.chunks(&body, &mut bytes);
            bytes
        };
        Asked {
            id,
            method,
            how,
            size,
            body,
            bytes,
        }
    }

    fn chunks(&mut self, mut body: &[u8], out: &mut Vec<u8>) {
        while !body.is_empty() {
            let most = if self.dice.once_in(3) { 20 } else { 20_000 };
            let (chunk, rest) = body.split_at(body.len().min(1 + self.dice.roll(most)));
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
            body = rest;
        }
        out.extend_from_slice(b"0\r\n\r\n");
    }

    /// Mostly small, sometimes larger than any buffer on the way.
    fn size(&mut self) -> usize {
        match self.dice.roll(12) {
            0 => 0,
            1..=7 => self.dice.roll(2000),
            8..=10 => self.dice.roll(70_000),
            _ => self.dice.roll(600_000),
        }
    }

    fn connection(&mut self) -> Result<BufReader<Stream>, Failure> {
        match self.kept.take() {
            Some(kept) => Ok(kept),
            None => self.connect(),
        }
    }

    fn connect(&self) -> Result<BufReader<Stream>, Failure> {
        let open = || {
            let stream = self.shared.soak.address.connect()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(BufReader::new(stream))
        };
        open().map_err(|error: io::Error| failure("connect", &error, true))
    }

    /// Sends in pieces of random sizes, sometimes with pauses.
    fn send(&mut self, to: &mut BufReader<Stream>, mut bytes: &[u8]) -> io::Result<()> {
        let dawdles = self.dice.once_in(6);
        while !bytes.is_empty() {
            let most = if dawdles {
                1 + bytes.len() / 3
            } else {
                bytes.len()
            };
            let (piece, rest) = bytes.split_at(most.min(bytes.len()));
            to.get_mut().write_all(piece)?;
            bytes = rest;
            if dawdles {
                thread::sleep(Duration::from_millis(self.dice.roll(15) as u64));
            }
        }
        Ok(())
    }

    fn single(&mut self, method: &'static str, wait_max: usize) -> Outcome {
        let asked = self.ask(method, wait_max, false);
        let mut connection = self.connection()?;
        // The answer may come, and the connection end, before all of the request was sent.
        let sent = self.send(&mut connection, &asked.bytes);
        let keeps = self.read(&mut connection, &asked)?;
        if keeps && sent.is_ok() && !self.dice.once_in(8) {
            self.kept = Some(connection);
        }
        Ok(())
    }

    fn pipeline(&mut self) -> Outcome {
        let count = 2 + self.dice.roll(5);
        let mut all = Vec::new();
        for _ in 0..count {
            let method = ["GET", "GET", "POST", "HEAD"][self.dice.roll(4)];
            let mut asked = self.ask(method, 0, false);
            // A close would end the pipeline, as it should.
            if asked.how == "close" {
                asked = self.ask("GET", 0, false);
            }
            let ends = asked.how == "close";
            all.push(asked);
            if ends {
                break;
            }
        }
        let mut connection = self.connection()?;
        let bytes: Vec<u8> = all.iter().flat_map(|asked| asked.bytes.clone()).collect();
        let to = connection.get_ref().try_clone();
        let writer = to.map(|mut to| thread::spawn(move || to.write_all(&bytes)));
        let mut keeps = true;
        for asked in &all {
            keeps = self.read(&mut connection, asked)?;
        }
        if let Ok(writer) = writer {
            let _ = writer.join();
        }
        if keeps {
            self.kept = Some(connection);
        }
        Ok(())
    }

    fn half_close(&mut self) -> Outcome {
        let asked = self.ask("GET", 0, false);
        let mut connection = self.connect()?;
        let sent = self.send(&mut connection, &asked.bytes);
        let shut = sent.and_then(|()| connection.get_ref().shutdown(Shutdown::Write));
        shut.map_err(|error| failure("send", &error, true))?;
        self.read(&mut connection, &asked).map(|_| ())
    }

    fn abort_request(&mut self) -> Outcome {
        let asked = self.ask("POST", 0, false);
        let mut connection = self.connection()?;
        let most = self.dice.roll(asked.bytes.len());
        let _ = self.send(&mut connection, &asked.bytes[..most]);
        if self.dice.once_in(2) {
            thread::sleep(Duration::from_millis(self.dice.roll(20) as u64));
        }
        Ok(())
    }

    fn abort_answer(&mut self) -> Outcome {
        let asked = self.ask("GET", 0, false);
        let mut connection = self.connection()?;
        let _ = self.send(&mut connection, &asked.bytes);
        let mut some = vec![0; 1 + self.dice.roll(5000)];
        let _ = connection.read(&mut some);
        Ok(())
    }

    fn slow_reader(&mut self) -> Outcome {
        let mut asked = self.ask("GET", 0, true);
        asked.bytes = String::from_utf8_lossy(&asked.bytes)
            .replace(&format!("&n={}&", asked.size), "&n=3000000&")
            .into_bytes();
        asked.size = 3_000_000;
        let mut connection = self.connect()?;
        let _ = self.send(&mut connection, &asked.bytes);
        thread::sleep(Duration::from_millis(200 + self.dice.roll(300) as u64));
        self.read(&mut connection, &asked).map(|_| ())
    }

    /// Reads one answer and checks all that it says. True if the connection can be used again.
    fn read(&self, from: &mut BufReader<Stream>, asked: &Asked) -> Result<bool, Failure> {
        let first = io::BufRead::fill_buf(from).map(|bytes| bytes.is_empty());
        match first {
            Ok(false) => {}
            Ok(true) => {
                return Err(Failure {
                    what: format!("request {}: closed without an answer", asked.id),
                    silent: true,
                });
            }
            Err(error) => return Err(failure("answer", &error, true)),
        }
        let answer = if asked.method == "HEAD" {
            read_head(from).and_then(|head| read_answer(&mut without_body(&head).as_bytes()))
        } else {
            read_answer(from)
        };
        let answer = answer.map_err(|error| failure("answer", &error, false))?;
        if let 502..=504 = answer.status {
            return Err(Failure {
                what: format!("request {}: status {}", asked.id, answer.status),
                silent: true,
            });
        }
        if let Some(worker) = answer.field("x-worker-pid") {
            self.shared.board().workers.insert(worker.to_owned());
        }
        // The end of the connection is all that says where such an answer ends.
        let cut = answer.field("x-length") != Some(&answer.body.len().to_string());
        if asked.how == "close" && asked.method != "HEAD" && cut {
            return Err(Failure {
                what: format!("request {}: cut", asked.id),
                silent: false,
            });
        }
        if let Some(wrong) = wrong(asked, &answer) {
            self.shared.violation(wrong);
        }
        Ok(answer.keeps_alive)
    }

    fn websocket(&mut self) -> Outcome {
        let lost = |error: &io::Error| failure("websocket", error, false);
        let mut connection = self.connect()?;
        let opening = "GET /ws HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let sent = connection.get_mut().write_all(opening.as_bytes());
        sent.map_err(|error| lost(&error))?;
        let head = read_head(&mut connection).map_err(|error| lost(&error))?;
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(Failure {
                what: head.lines().next().unwrap_or_default().to_owned(),
                silent: true,
            });
        }
        let mut messages = Messages::new(Role::Client);
        for _ in 0..1 + self.dice.roll(8) {
            self.next_id += 1;
            let payload = filler(self.next_id, self.size());
            let to = connection.get_mut();
            write_frame(to, Role::Client, Opcode::Binary, true, &payload)
                .map_err(|error| lost(&error))?;
            match messages.next(&mut connection) {
                Ok(Message::Binary(came)) if came == payload => {}
                Ok(Message::End) => return Err(lost(&ErrorKind::UnexpectedEof.into())),
                Ok(other) => {
                    let what = format!("{other:?}");
                    let what: String = what.chars().take(80).collect();
                    self.shared
                        .violation(format!("a WebSocket echoed something else: {what}"));
                }
                Err(error) => return Err(lost(&error)),
            }
            if self.dice.once_in(3) {
                thread::sleep(Duration::from_millis(self.dice.roll(100) as u64));
            }
        }
        Ok(())
    }
}

fn failure(what: &str, error: &io::Error, silent: bool) -> Failure {
    Failure {
        what: format!("{what}: {error}"),
        silent,
    }
}

/// An answer to HEAD as `read_answer` can read it: the framing fields describe no body.
fn without_body(head: &str) -> String {
    head.replace("Content-Length:", "X-Said-Length:")
        .replace("Transfer-Encoding:", "X-Said-Coding:")
}

fn sum(bytes: &[u8]) -> String {
    let mut sum = Sha1::default();
    sum.update(bytes);
    sum.finish_hex()
}

/// What of a complete answer is not as it must be.
fn wrong(asked: &Asked, answer: &Answer) -> Option<String> {
    let id = asked.id;
    if answer.status != 200 {
        return Some(format!("request {id}: status {}", answer.status));
    }
    let expected = [
        ("x-id", id.to_string()),
        ("x-length", asked.size.to_string()),
        ("x-got-length", asked.body.len().to_string()),
        ("x-got-sum", sum(&asked.body)),
    ];
    for (name, value) in expected {
        if answer.field(name) != Some(&value) {
            let said = answer.field(name);
            return Some(format!("request {id}: {name} is {said:?}, not {value}"));
        }
    }
    if asked.method == "HEAD" {
        return (!answer.body.is_empty()).then(|| format!("request {id}: HEAD with a body"));
    }
    if answer.body != filler(id, asked.size) || answer.field("x-sum") != Some(&sum(&answer.body)) {
        return Some(format!(
            "request {id} ({}): {} bytes that are not its own {}",
            asked.how,
            answer.body.len(),
            asked.size
        ));
    }
    None
}
