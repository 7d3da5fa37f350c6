//! The control socket: one line of JSON in, lines of JSON out, the last of them `{"end":CODE}`.
//!
//! The admin thread accepts and answers quick commands itself, one client at a time, each under a
//! deadline. A command that takes its time gets a thread of its own, of which there are few. The
//! socket lives in the 0700 run directory, has mode 0600, and answers its own user and root only.

use crate::admin::Shared;
use crate::admin::command::{self, Answer, Ask, Command, Pace, Refusal};
use crate::sys::carried::Baton;
use crate::sys::process::user;
use crate::sys::socket::{self, End};
use log::{debug, warn};
use serde::Serialize;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A longer request is refused.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// For a whole request, and for the client to take each line of the answer.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(2);
const LINE_TIME_MAX: Duration = Duration::from_secs(5);
/// Commands at once that take their time.
const SLOW_MAX: usize = 8;
/// After an accept that failed.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Where an instance with this run directory listens.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("control")
}

/// The running thread.
pub struct Control {
    listener: Arc<UnixListener>,
    closing: Arc<AtomicBool>,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// `left`: what an earlier binary has listened on. Else what lies at `path` was left by a run that
    /// was killed: the run directory is locked.
    pub fn start(
        path: &Path,
        left: Option<UnixListener>,
        shared: Arc<Shared>,
    ) -> io::Result<Control> {
        let listener = match left {
            Some(listener) => listener,
            None => {
                let _ = fs::remove_file(path);
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, Permissions::from_mode(0o600))?;
                listener
            }
        };
        let listener = Arc::new(listener);
        let closing = Arc::new(AtomicBool::new(false));
        let (theirs, end) = (listener.clone(), closing.clone());
        let thread = thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || serve(&theirs, &shared, &end))?;
        Ok(Control {
            listener,
            closing,
            path: path.to_owned(),
            thread: Some(thread),
        })
    }
}

impl Control {
    pub fn baton(&self) -> Baton {
        Baton::of(self.listener.as_fd())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.closing.store(true, Relaxed);
        // Wakes the accept(2) that the thread waits in.
        socket::shutdown(self.listener.as_fd(), End::Both);
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            warn!("the admin thread panicked");
        }
        let _ = fs::remove_file(&self.path);
    }
}

fn serve(listener: &UnixListener, shared: &Arc<Shared>, closing: &AtomicBool) {
    let slow = Arc::new(AtomicUsize::new(0));
    while !closing.load(Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                // A client that has left is no trouble of ours.
                if let Err(e) = answer(stream, shared, &slow) {
                    debug!("control: {e}");
                }
            }
            Err(_) if closing.load(Relaxed) => break,
            Err(e) => {
                warn!("cannot accept on the control socket: {e}; trying again");
                thread::sleep(BACK_OFF);
            }
        }
    }
}

fn answer(stream: UnixStream, shared: &Arc<Shared>, slow: &Arc<AtomicUsize>) -> io::Result<()> {
    let peer = socket::peer_user(stream.as_fd())?;
    stream.set_write_timeout(Some(LINE_TIME_MAX))?;
    let mut reply = Reply::new(stream);
    let line = reply.read_line(Instant::now() + REQUEST_TIME_MAX)?;
    // Only now, so that the client is there to hear it.
    if peer != 0 && peer != user() {
        return reply.refuse(&Refusal::failed("this instance belongs to another user"));
    }
    let (item, ask) = match command::understand(&line) {
        Ok(understood) => understood,
        Err(refusal) => return reply.refuse(&refusal),
    };
    match item.pace {
        Pace::Quick => reply.run(item, shared, &ask),
        Pace::Slow => {
            let Some(place) = Place::take(slow) else {
                let why = format!("{SLOW_MAX} such commands are under way; try again later");
                return reply.refuse(&Refusal::failed(why));
            };
            let shared = Arc::clone(shared);
            let body = move || {
                let _place = place;
                if let Err(e) = reply.run(item, &shared, &ask) {
                    debug!("control: {e}");
                }
            };
            thread::Builder::new()
                .name(format!("admin-{}", item.name))
                .spawn(body)?;
            Ok(())
        }
    }
}

/// One of the few slow commands; given back when it is over.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(slow: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(Arc::clone(slow));
        (place.0.fetch_add(1, Relaxed) < SLOW_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The way back to one client.
pub struct Reply {
    stream: UnixStream,
}

#[derive(Serialize)]
struct EndLine {
    end: u8,
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    error: &'a Refusal,
}

impl Reply {
    pub fn new(stream: UnixStream) -> Reply {
        Reply { stream }
    }

    /// Sends one line. An error means that the client has left, or does not read.
    pub fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(value)?;
        text.push(b'\n');
        self.stream.write_all(&text)
    }

    /// The socket itself, for whoever goes on writing to it.
    pub fn socket(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Whether the client has gone. It says nothing after its request.
    pub fn gone(&self) -> bool {
        let mut byte = [0];
        match socket::recv(self.stream.as_fd(), &mut byte) {
            Ok(count) => count == 0,
            Err(e) => e.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Understands and answers, on this thread however long it takes.
    pub fn answer(&mut self, shared: &Shared, ask: &Ask) -> io::Result<()> {
        match command::admitted(ask) {
            Ok(item) => self.run(item, shared, ask),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn run(&mut self, item: &Command, shared: &Shared, ask: &Ask) -> io::Result<()> {
        match (item.act)(shared, ask, self) {
            Ok(Answer::Done) => self.end(),
            Ok(Answer::Elsewhere) => Ok(()),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// The last line of an answer that is as it was hoped.
    pub fn end(&mut self) -> io::Result<()> {
        self.line(&EndLine { end: 0 })
    }

    pub fn refuse(&mut self, refusal: &Refusal) -> io::Result<()> {
        self.line(&ErrorLine { error: refusal })?;
        self.line(&EndLine { end: refusal.code })
    }

    /// The request, without its newline.
    fn read_line(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(ErrorKind::TimedOut));
            }
            self.stream.set_read_timeout(Some(left))?;
            let got = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof)),
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if let Some(end) = got.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(got.get(..end).unwrap_or_default());
                return Ok(line);
            }
            line.extend_from_slice(got);
            if line.len() > REQUEST_BYTES_MAX {
                return Err(io::Error::from(ErrorKind::InvalidData));
            }
        }
    }
}
