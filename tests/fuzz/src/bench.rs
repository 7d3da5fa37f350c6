//! A sidekeeper whose only worker is this process: what it forwards is read here by `naive` alone,
//! noted by the client that it is from, and answered. A thread a connection.

use crate::naive::{self, Head, Message, Read as Parsed};
use front::http::head::HeadLimits;
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
pub const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 2048,
    head_fields_max: 20,
    target_bytes_max: 256,
};
const PATIENCE: Duration = Duration::from_secs(10);

/// A request as the worker saw it: method, target, body.
pub type Seen = (String, String, Vec<u8>);

#[derive(Default)]
pub struct Worker {
    /// By the client's port.
    pub seen: HashMap<u16, Vec<Seen>>,
    violations: Vec<String>,
    /// What `/fuzz` is answered, and whether the connection then goes on.
    pub answer: Vec<u8>,
    pub goes_on: bool,
}

pub type Shared = Arc<Mutex<Worker>>;

pub fn lock(shared: &Shared) -> MutexGuard<'_, Worker> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sidekeeper whose only worker is this process.
pub struct Bench {
    sidekeeper: Child,
    dir: PathBuf,
    address: SocketAddr,
    pub worker: Shared,
}

impl Bench {
    pub fn start(program: &Path) -> Result<Bench, String> {
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
    pub fn talk(&self, bytes: &[u8]) -> Result<(u16, Vec<u8>, bool), String> {
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

    pub fn complaints(&self) -> Result<(), String> {
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

pub fn description(port: u16, method: &str, target: &str, body: &[u8]) -> String {
    format!("{port} {method} {target} {} {:x}", body.len(), hash(body))
}
