//! Whole connections against the real binary, with a differential oracle. The worker is this
//! process: what reaches it is read by `naive` alone and compared with what the HTTP room, asked
//! about the same bytes, decides. Each request says by `X-Sidekeeper-Client` which client it is
//! from, so that nothing can be taken for another's.

use crate::heads::{DICTIONARY, request_seeds, response_seeds};
use crate::http::framing::{Decoder, Framing, transfer};
use crate::http::head::{Asked, HeadLimits, Version, fields, read_request, read_response};
use crate::naive::{self, Head, Message, Read as Parsed};
use crate::{Target, Verdict};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// As sidekeeper is started with.
const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 2048,
    head_fields_max: 20,
    target_bytes_max: 256,
};
const PATIENCE: Duration = Duration::from_secs(10);

pub fn requests(sidekeeper: &Path) -> Result<Box<dyn Target>, String> {
    Ok(Box::new(Requests(Bench::start(sidekeeper)?)))
}

pub fn answers(sidekeeper: &Path) -> Result<Box<dyn Target>, String> {
    Ok(Box::new(Answers(Bench::start(sidekeeper)?)))
}

/// A request as the worker saw it: method, target, body.
type Seen = (String, String, Vec<u8>);

#[derive(Default)]
struct Worker {
    /// By the client's port.
    seen: HashMap<u16, Vec<Seen>>,
    violations: Vec<String>,
    /// What `/fuzz` is answered, and whether the connection then goes on.
    answer: Vec<u8>,
    goes_on: bool,
}

type Shared = Arc<Mutex<Worker>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Worker> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sidekeeper whose only worker is this process.
struct Bench {
    sidekeeper: Child,
    dir: PathBuf,
    address: SocketAddr,
    worker: Shared,
}

impl Bench {
    fn start(program: &Path) -> Result<Bench, String> {
        let id = std::process::id();
        let number = Instant::now();
        let dir = std::env::temp_dir().join(format!(
            "sk-fuzz-{id}-{:x}",
            hash(format!("{number:?}").as_bytes())
        ));
        let begin = || -> std::io::Result<(Child, Shared)> {
            fs::create_dir_all(&dir)?;
            let socket = dir.join("worker.sock");
            let listener = UnixListener::bind(&socket)?;
            let worker = Shared::default();
            let shared = worker.clone();
            thread::spawn(move || accept(&listener, &shared));
            // The worker's socket is a link to ours; the process only holds the place.
            let line = format!("ln -sf {} {{socket}}; exec sleep 100000", socket.display());
            let config = format!(
                r#"{{"apps": [{{"name": "w", "path": "/", "workers": 1, "command": ["sh", "-c", "{line}"]}}]}}"#
            );
            fs::write(dir.join("config.json"), config)?;
            let log = File::create(dir.join("log"))?;
            let child = Command::new(program)
                .args([
                    "run",
                    "--listen",
                    "127.0.0.1:0",
                    "--head-bytes-max",
                    "2048",
                    "--head-fields-max",
                    "20",
                ])
                .args([
                    "--target-bytes-max",
                    "256",
                    "--answer-timeout",
                    "5",
                    "--log-level",
                    "warn",
                ])
                .arg("--config")
                .arg(dir.join("config.json"))
                .arg("--run-dir")
                .arg(dir.join("run"))
                .arg("--address-file")
                .arg(dir.join("address"))
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?;
            Ok((child, worker))
        };
        let (sidekeeper, worker) =
            begin().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut bench = Bench {
            sidekeeper,
            dir,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            worker,
        };
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            let text = fs::read_to_string(bench.dir.join("address")).unwrap_or_default();
            if let Some(Ok(address)) = text.lines().next().map(str::parse) {
                bench.address = address;
                return Ok(bench);
            }
            thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(bench.dir.join("log")).unwrap_or_default();
        Err(format!("sidekeeper does not start: {log}"))
    }

    /// Sends `bytes` in pieces, ends the stream, and reads to the end. Gives the client's port,
    /// what came, and whether the end was orderly.
    fn talk(&self, bytes: &[u8]) -> Result<(u16, Vec<u8>, bool), String> {
        let problem = |error: std::io::Error| format!("no connection: {error}");
        let mut stream = TcpStream::connect(self.address).map_err(problem)?;
        let port = stream.local_addr().map_err(problem)?.port();
        let before = lock(&self.worker).seen.remove(&port);
        if before.is_some_and(|seen| !seen.is_empty()) {
            return Err("something was forwarded after the end of a connection".to_owned());
        }
        stream.set_nodelay(true).map_err(problem)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(problem)?;
        let mut rest = bytes;
        let cuts = hash(bytes);
        let piece = match cuts % 4 {
            0 => bytes.len() / 2 + 1,
            1 => (cuts >> 8) as usize % 40 + 1,
            _ => bytes.len().max(1),
        };
        while !rest.is_empty() {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            // It may have been refused already.
            if stream.write_all(now).is_err() {
                break;
            }
            rest = later;
            if !rest.is_empty() {
                thread::sleep(Duration::from_micros(cuts % 300));
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut came = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok((port, came, true)),
                Ok(n) => came.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Ok((port, came, false));
                }
                Err(error) => return Err(format!("no end after {} bytes: {error}", came.len())),
            }
        }
    }

    fn complaints(&self) -> Result<(), String> {
        match lock(&self.worker).violations.pop() {
            Some(violation) => Err(violation),
            None => Ok(()),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.sidekeeper.id().to_string())
            .status();
        let _ = self.sidekeeper.wait();
        if thread::panicking() {
            return;
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

// ---- the worker ----------------------------------------------------------------------------------

fn accept(listener: &UnixListener, shared: &Shared) {
    for stream in listener.incoming().flatten() {
        let shared = shared.clone();
        thread::spawn(move || {
            let mut stream = stream;
            if let Err(violation) = serve(&mut stream, &shared) {
                lock(&shared).violations.push(violation);
            }
        });
    }
}

fn serve(stream: &mut UnixStream, shared: &Shared) -> Result<(), String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let got = match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(got) => got,
        };
        bytes.extend_from_slice(&buffer[..got]);
        loop {
            match naive::message(&bytes) {
                Parsed::Part => break,
                Parsed::Bad(what) => {
                    return Err(format!("a worker got {what}: {}", bytes.escape_ascii()));
                }
                Parsed::Whole(message) => {
                    bytes.drain(..message.len);
                    if !respond(stream, shared, message)? {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Answers one request. False: and closes.
fn respond(stream: &mut UnixStream, shared: &Shared, message: Message) -> Result<bool, String> {
    let (method, target) = naive::request_line(&message.head.start)?;
    let port = port_of(&message.head)?;
    let answer = {
        let mut worker = lock(shared);
        let body = message.body.clone();
        worker
            .seen
            .entry(port)
            .or_default()
            .push((method.clone(), target.clone(), body));
        (target == "/fuzz").then(|| (worker.answer.clone(), worker.goes_on))
    };
    if let Some((answer, goes_on)) = answer {
        let _ = stream.write_all(&answer);
        return Ok(goes_on);
    }
    let body = description(port, &method, &target, &message.body);
    let old = message
        .head
        .values("via")
        .last()
        .is_some_and(|via| via.ends_with(b"1.0 sidekeeper"));
    let mut answer = match hash(target.as_bytes()) % 3 {
        0 if !old => format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ),
        1 => format!(
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        _ => format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    };
    if method == "HEAD" {
        answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    }
    let _ = stream.write_all(answer.as_bytes());
    Ok(true)
}

fn port_of(head: &Head) -> Result<u16, String> {
    let from = head.values("x-sidekeeper-client");
    let [from] = from.as_slice() else {
        return Err(format!("{} fields that name the client", from.len()));
    };
    let text = String::from_utf8_lossy(from);
    let port = text
        .strip_prefix("127.0.0.1 ")
        .and_then(|port| port.parse().ok());
    port.ok_or_else(|| format!("a forged client: {text}"))
}

fn description(port: u16, method: &str, target: &str, body: &[u8]) -> String {
    format!("{port} {method} {target} {} {:x}", body.len(), hash(body))
}

// ---- requests ------------------------------------------------------------------------------------

/// What has to be answered.
struct Expected {
    method: String,
    target: String,
    body: Vec<u8>,
    /// Answered by sidekeeper itself.
    own: bool,
}

enum End {
    /// Nothing more is answered.
    Silence,
    /// One more answer, to a request with this method, if it was read that far.
    Refused(u16, bool),
    /// A body is incomplete: a reset, or nothing.
    Cut,
}

/// What the HTTP room decides about a client's bytes.
fn decide(input: &[u8]) -> (Vec<Expected>, End) {
    let mut expected = Vec::new();
    let mut rest = input;
    loop {
        let mut storage = fields();
        let request = match read_request(rest, &mut storage, &LIMITS) {
            Ok(Some(request)) => request,
            Ok(None) => return (expected, End::Silence),
            Err(refusal) => return (expected, End::Refused(refusal.status(), false)),
        };
        let method = request.method.as_str().to_owned();
        let behind = rest.get(request.len..).unwrap_or_default();
        let mut decoder = Decoder::new(request.framing);
        let mut body = Vec::new();
        let used = transfer(&mut decoder, Framing::UntilClose, behind, &mut body);
        let bodyless = matches!(request.framing, Framing::Empty | Framing::Length(0));
        let target = match request.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.to_owned(),
        };
        let one = Expected {
            method: method.clone(),
            target,
            body,
            own: request.ends_here,
        };
        if request.ends_here && !bodyless {
            expected.push(one);
            return (expected, End::Silence);
        }
        match used {
            Err(_) => return (expected, End::Refused(400, method == "HEAD")),
            Ok(_) if !decoder.is_done() => return (expected, End::Cut),
            Ok(used) => {
                expected.push(one);
                if !request.persistent {
                    return (expected, End::Silence);
                }
                rest = behind.get(used..).unwrap_or_default();
            }
        }
    }
}

struct Requests(Bench);

impl Target for Requests {
    fn seeds(&self) -> Vec<Vec<u8>> {
        request_seeds()
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        DICTIONARY
    }

    fn run(&mut self, input: &[u8]) -> Verdict {
        let (expected, end) = decide(input);
        let (port, came, orderly) = self.0.talk(input)?;
        let seen = lock(&self.0.worker).seen.remove(&port).unwrap_or_default();
        self.0.complaints()?;
        let forwarded = expected.iter().filter(|one| !one.own);
        let forwarded: Vec<Seen> = forwarded
            .map(|one| (one.method.clone(), one.target.clone(), one.body.clone()))
            .collect();
        if seen != forwarded {
            return Err(format!("a worker saw {seen:?}, decided was {forwarded:?}"));
        }
        let mut rest = came.as_slice();
        for one in &expected {
            let answer = next_answer(&mut rest, &one.method)?;
            let body = description(port, &one.method, &one.target, &one.body);
            let fine = match (one.own, one.method.as_str()) {
                (true, _) => answer.status == 200 || answer.status == 405,
                (false, "HEAD") => answer.status == 200,
                (false, _) => answer.status == 200 && answer.body == body.as_bytes(),
            };
            if !fine {
                return Err(format!(
                    "{body} is answered {} {}",
                    answer.status,
                    answer.body.escape_ascii()
                ));
            }
        }
        match end {
            End::Silence if rest.is_empty() && orderly => {}
            End::Cut if rest.is_empty() => {}
            End::Refused(status, head) if orderly => {
                let method = if head { "HEAD" } else { "GET" };
                let answer = next_answer(&mut rest, method)?;
                // A head that breaks two rules may be refused for the one that is seen first.
                let refused = [400, 414, 417, 431, 501, 505].contains(&answer.status);
                if !refused || !answer.closes || !rest.is_empty() {
                    return Err(format!(
                        "refused with {}, not {status}; then {}",
                        answer.status,
                        rest.escape_ascii()
                    ));
                }
            }
            End::Silence | End::Cut | End::Refused(..) => {
                return Err(format!(
                    "at the end (orderly: {orderly}) came {}",
                    rest.escape_ascii()
                ));
            }
        }
        let last = match end {
            End::Silence => 0,
            End::Cut => 1,
            End::Refused(status, _) => status,
        };
        Ok(format!(
            "{} {last} {}",
            expected.len(),
            expected.iter().filter(|one| !one.body.is_empty()).count()
        ))
    }
}

// ---- answers -------------------------------------------------------------------------------------

struct Answer {
    status: u16,
    body: Vec<u8>,
    closes: bool,
}

/// The next final answer in what a client got.
fn next_answer(rest: &mut &[u8], method: &str) -> Result<Answer, String> {
    loop {
        let head = match naive::head(rest) {
            Parsed::Whole(head) => head,
            other => {
                return Err(format!(
                    "no answer to {method} in {}: {other:?}",
                    rest.escape_ascii()
                ));
            }
        };
        let status = head
            .start
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse::<u16>().ok());
        let status = status.filter(|_| head.start.starts_with("HTTP/1.1 "));
        let status = status.ok_or_else(|| format!("a status line: {}", head.start))?;
        let closes = head
            .values("connection")
            .iter()
            .any(|v| v.eq_ignore_ascii_case(b"close"));
        let behind = rest.get(head.len..).unwrap_or_default();
        if (100..200).contains(&status) {
            *rest = behind;
            continue;
        }
        if method == "HEAD" || status == 204 || status == 304 {
            *rest = behind;
            return Ok(Answer {
                status,
                body: Vec::new(),
                closes,
            });
        }
        let unframed =
            head.values("content-length").is_empty() && head.values("transfer-encoding").is_empty();
        if unframed {
            *rest = &[];
            return Ok(Answer {
                status,
                body: behind.to_vec(),
                closes,
            });
        }
        return match naive::message(rest) {
            Parsed::Whole(message) => {
                *rest = rest.get(message.len..).unwrap_or_default();
                Ok(Answer {
                    status,
                    body: message.body,
                    closes,
                })
            }
            other => Err(format!("an answer that reads {other:?}")),
        };
    }
}

enum Decided {
    /// Nothing of it can be passed on: 502.
    Broken,
    /// It is passed on whole. `until_close`: its end is the connection's.
    Whole {
        status: u16,
        body: Vec<u8>,
        until_close: bool,
        goes_on: bool,
    },
    /// It begins well and does not end.
    Cut,
}

/// What the HTTP room decides about a worker's bytes, after which the worker closes.
fn decide_answer(input: &[u8]) -> Decided {
    const INTERIM_HEADS_MAX: usize = 32;
    let mut rest = input;
    for _ in 0..=INTERIM_HEADS_MAX {
        let mut storage = fields();
        let response = match read_response(rest, &mut storage, &LIMITS, Asked::default()) {
            Ok(Some(response)) => response,
            Ok(None) | Err(_) => return Decided::Broken,
        };
        let behind = rest.get(response.len..).unwrap_or_default();
        if response.status < 200 {
            rest = behind;
            continue;
        }
        let mut decoder = Decoder::new(response.framing);
        let mut body = Vec::new();
        let used = transfer(&mut decoder, Framing::UntilClose, behind, &mut body);
        let Ok(used) = used else { return Decided::Cut };
        if !decoder.is_done() && !decoder.is_until_close() {
            return Decided::Cut;
        }
        return Decided::Whole {
            status: response.status,
            body,
            until_close: response.encoding(Version::Http11) == Framing::UntilClose,
            goes_on: decoder.is_done() && response.persistent && used == behind.len(),
        };
    }
    Decided::Broken
}

struct Answers(Bench);

impl Target for Answers {
    fn seeds(&self) -> Vec<Vec<u8>> {
        response_seeds()
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        DICTIONARY
    }

    fn run(&mut self, input: &[u8]) -> Verdict {
        let decided = decide_answer(input);
        {
            let mut worker = lock(&self.0.worker);
            worker.answer = input.to_vec();
            worker.goes_on = matches!(decided, Decided::Whole { goes_on: true, .. });
        }
        let two = b"GET /fuzz HTTP/1.1\r\nHost: h\r\n\r\nGET /other HTTP/1.1\r\nHost: h\r\n\r\n";
        let (port, came, orderly) = self.0.talk(two)?;
        lock(&self.0.worker).seen.remove(&port);
        self.0.complaints()?;
        let mut rest = came.as_slice();
        let first = next_answer(&mut rest, "GET");
        let (sentence, ends) = match (decided, first) {
            (Decided::Broken, Ok(answer)) if answer.status == 502 => ("broken".to_owned(), false),
            (
                Decided::Whole {
                    status,
                    body,
                    until_close,
                    ..
                },
                Ok(answer),
            ) if (answer.status, &answer.body) == (status, &body) => (
                format!("{status} {} {until_close}", body.len().min(9)),
                until_close,
            ),
            (Decided::Cut, Err(_)) if !orderly => return Ok("cut".to_owned()),
            (decided, first) => {
                let decided = match decided {
                    Decided::Broken => "broken".to_owned(),
                    Decided::Cut => "cut".to_owned(),
                    Decided::Whole { status, body, .. } => {
                        format!("{status} {}", body.escape_ascii())
                    }
                };
                let first =
                    first.map(|answer| format!("{} {}", answer.status, answer.body.escape_ascii()));
                return Err(format!(
                    "decided was {decided}, the client got (orderly: {orderly}) {first:?}"
                ));
            }
        };
        if ends {
            return if rest.is_empty() && orderly {
                Ok(sentence)
            } else {
                Err("something follows the end".to_owned())
            };
        }
        let second = next_answer(&mut rest, "GET")?;
        let own = description(port, "GET", "/other", b"");
        if second.status != 200 || second.body != own.as_bytes() || !rest.is_empty() || !orderly {
            return Err(format!(
                "the next request got {} {}",
                second.status,
                second.body.escape_ascii()
            ));
        }
        Ok(sentence)
    }
}
