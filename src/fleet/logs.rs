//! What workers print: read line by line from their pipes, written to our own output as
//! `chat.0 | line`, stdout to stdout and stderr to stderr, and the last lines of stderr kept for
//! the report when a worker keeps dying.
//!
//! One thread waits in an epoll set over all pipes. A worker never waits for whoever reads our
//! output: what does not fit into a bounded buffer is dropped, counted, and the count is told.

use crate::fleet::ipc::LifeKey;
use crate::roster::Slot;
use crate::sys::epoll::{Epoll, Interest, Waker};
use crate::sys::socket::wait_ready;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A longer line is split.
const LINE_BYTES_MAX: usize = 16 << 10;
/// What may wait for each of our two outputs.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Lines of stderr that are kept for each worker, and how much of each.
const TAIL_LINES: usize = 20;
const TAIL_LINE_BYTES_MAX: usize = 2000;
const READ_BYTES: usize = 64 << 10;
/// What is read from a dead worker's stderr before its last lines are reported.
const LAST_WORDS_READS_MAX: usize = 64;
/// A pipe that is ready for writing takes this much without blocking: PIPE_BUF of pipe(7).
const WRITE_BYTES_MAX: usize = 4096;
/// How long the last lines may take to leave when everything ends.
const END_MILLIS_MAX: u64 = 500;

const WAKER: u64 = 0;
const STDOUT: u64 = 1;
const STDERR: u64 = 2;
const FIRST_PIPE: u64 = 3;

/// The answer to [`Logs::ask_tail`].
#[derive(Debug)]
pub struct Tail {
    pub key: LifeKey,
    pub lines: Vec<String>,
}

enum Command {
    Add {
        key: LifeKey,
        name: Arc<str>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    Tail {
        key: LifeKey,
    },
    End,
}

/// The way to the thread. Its queue is unbounded and small by construction: the supervisor sends
/// two commands for each life of a worker.
pub struct Logs {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Logs {
    /// Makes the two ends: the handle, and what the thread runs. Without `print`, lines are kept
    /// for reports and printed nowhere.
    pub fn new(tails: Sender<Tail>, print: bool) -> io::Result<(Logs, LogsThread)> {
        let (commands, orders) = crossbeam_channel::unbounded();
        let waker = Arc::new(Waker::new()?);
        let epoll = Epoll::new()?;
        epoll.add(waker.as_fd(), WAKER, Interest::READ_LEVEL)?;
        let stdout = Output::new(io::stdout().as_fd().try_clone_to_owned()?, STDOUT);
        let stderr = Output::new(io::stderr().as_fd().try_clone_to_owned()?, STDERR);
        let thread = LogsThread {
            epoll,
            waker: Arc::clone(&waker),
            orders,
            tails,
            print,
            pipes: HashMap::new(),
            next_token: FIRST_PIPE,
            kept: HashMap::new(),
            stdout,
            stderr,
            buffer: vec![0; READ_BYTES],
        };
        Ok((Logs { commands, waker }, thread))
    }

    /// Takes over the pipes of a new life.
    pub fn add(&self, key: LifeKey, name: Arc<str>, stdout: OwnedFd, stderr: OwnedFd) {
        self.order(Command::Add {
            key,
            name,
            stdout,
            stderr,
        });
    }

    /// Asks for a life's last lines of stderr; the answer comes over the channel of `new`.
    pub fn ask_tail(&self, key: LifeKey) {
        self.order(Command::Tail { key });
    }

    /// Reads and writes what is there, and ends the thread.
    pub fn end(&self) {
        self.order(Command::End);
    }

    fn order(&self, command: Command) {
        // A thread that has ended has no pipes left to do anything with.
        let _ = self.commands.send(command);
        self.waker.ring();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

struct Pipe {
    key: LifeKey,
    name: Arc<str>,
    stream: Stream,
    file: File,
    lines: LineSplitter,
}

/// The last lines of the newest life of a slot.
struct Kept {
    life: u32,
    lines: VecDeque<String>,
}

pub struct LogsThread {
    epoll: Epoll,
    waker: Arc<Waker>,
    orders: Receiver<Command>,
    tails: Sender<Tail>,
    print: bool,
    pipes: HashMap<u64, Pipe>,
    next_token: u64,
    kept: HashMap<Slot, Kept>,
    stdout: Output,
    stderr: Output,
    buffer: Vec<u8>,
}

impl LogsThread {
    pub fn run(mut self) -> io::Result<()> {
        let mut tokens = Vec::new();
        loop {
            let count = self.epoll.wait(None)?;
            tokens.clear();
            tokens.extend(
                (0..count)
                    .filter_map(|i| self.epoll.event(i))
                    .map(|e| e.token),
            );
            for token in tokens.iter().copied() {
                match token {
                    WAKER => self.waker.silence(),
                    STDOUT | STDERR => {} // Flushed below.
                    pipe => self.read(pipe),
                }
            }
            loop {
                match self.orders.try_recv() {
                    Ok(Command::Add {
                        key,
                        name,
                        stdout,
                        stderr,
                    }) => {
                        self.kept.insert(
                            key.slot,
                            Kept {
                                life: key.life,
                                lines: VecDeque::new(),
                            },
                        );
                        self.watch(key, &name, Stream::Stdout, stdout)?;
                        self.watch(key, &name, Stream::Stderr, stderr)?;
                    }
                    Ok(Command::Tail { key }) => self.tell_tail(key),
                    Ok(Command::End) | Err(TryRecvError::Disconnected) => {
                        self.finish();
                        return Ok(());
                    }
                    Err(TryRecvError::Empty) => break,
                }
            }
            self.stdout.flush(&self.epoll);
            self.stderr.flush(&self.epoll);
        }
    }

    fn watch(
        &mut self,
        key: LifeKey,
        name: &Arc<str>,
        stream: Stream,
        pipe: OwnedFd,
    ) -> io::Result<()> {
        let token = self.next_token;
        self.next_token += 1;
        self.epoll.add(pipe.as_fd(), token, Interest::READ_LEVEL)?;
        let lines = LineSplitter::default();
        let pipe = Pipe {
            key,
            name: Arc::clone(name),
            stream,
            file: File::from(pipe),
            lines,
        };
        self.pipes.insert(token, pipe);
        Ok(())
    }

    /// One read of a pipe that has something, or has ended; it never blocks.
    fn read(&mut self, token: u64) {
        let Some(pipe) = self.pipes.get_mut(&token) else {
            return;
        };
        let count = match pipe.file.read(&mut self.buffer) {
            Ok(count) => count,
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => return,
            Err(_) => 0,
        };
        let Pipe {
            key,
            name,
            stream,
            lines,
            ..
        } = pipe;
        let output = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut kept = match stream {
            Stream::Stdout => None,
            Stream::Stderr => self.kept.get_mut(&key.slot).filter(|k| k.life == key.life),
        };
        let print = self.print;
        let mut each = |line: &[u8]| {
            if print {
                output.line(name, line);
            }
            if let Some(kept) = &mut kept {
                kept.push(line);
            }
        };
        if count == 0 {
            lines.end(&mut each);
            self.pipes.remove(&token);
        } else {
            lines.split(self.buffer.get(..count).unwrap_or_default(), &mut each);
        }
    }

    /// Everything the dead worker has written is in the pipe by now, and may still be there.
    fn tell_tail(&mut self, key: LifeKey) {
        let of_life = |pipe: &Pipe| pipe.key == key && pipe.stream == Stream::Stderr;
        let token = self
            .pipes
            .iter()
            .find(|(_, pipe)| of_life(pipe))
            .map(|(token, _)| *token);
        if let Some(token) = token {
            self.drain(token);
        }
        let lines = match self.kept.get(&key.slot) {
            Some(kept) if kept.life == key.life => kept.lines.iter().cloned().collect(),
            Some(_) | None => Vec::new(),
        };
        let _ = self.tails.send(Tail { key, lines });
    }

    fn drain(&mut self, token: u64) {
        for _ in 0..LAST_WORDS_READS_MAX {
            let Some(pipe) = self.pipes.get(&token) else {
                return;
            };
            if !matches!(
                wait_ready(pipe.file.as_fd(), false, Duration::ZERO),
                Ok(true)
            ) {
                return;
            }
            self.read(token);
        }
    }

    fn finish(&mut self) {
        let tokens: Vec<u64> = self.pipes.keys().copied().collect();
        for token in tokens {
            self.drain(token);
        }
        let deadline = Instant::now() + Duration::from_millis(END_MILLIS_MAX);
        for output in [&mut self.stdout, &mut self.stderr] {
            output.flush(&self.epoll);
            while output.is_stuck() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero()
                    || !matches!(wait_ready(output.file.as_fd(), true, left), Ok(true))
                {
                    break;
                }
                output.flush(&self.epoll);
            }
        }
    }
}

impl Kept {
    fn push(&mut self, line: &[u8]) {
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        let start = line.get(..TAIL_LINE_BYTES_MAX).unwrap_or(line);
        self.lines
            .push_back(String::from_utf8_lossy(start).into_owned());
    }
}

/// One of our own outputs. We cannot make it non-blocking: the flag would be everybody's who
/// shares the terminal or file. So we ask before each write, and write what fits for certain.
struct Output {
    file: File,
    token: u64,
    pending: VecDeque<u8>,
    dropped: u64,
    watched: bool,
    /// The reader is gone (EPIPE): everything is dropped without a word.
    dead: bool,
}

impl Output {
    fn new(fd: OwnedFd, token: u64) -> Output {
        Output {
            file: File::from(fd),
            token,
            pending: VecDeque::new(),
            dropped: 0,
            watched: false,
            dead: false,
        }
    }

    fn is_stuck(&self) -> bool {
        !self.pending.is_empty() && !self.dead
    }

    fn line(&mut self, name: &str, line: &[u8]) {
        const SEPARATOR: &[u8] = b" | ";
        let bytes = name.len() + SEPARATOR.len() + line.len() + 1;
        if self.dead || self.pending.len() + bytes > OUTPUT_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        self.pending.extend(name.as_bytes());
        self.pending.extend(SEPARATOR);
        self.pending.extend(line);
        self.pending.push_back(b'\n');
    }

    fn flush(&mut self, epoll: &Epoll) {
        while !self.pending.is_empty() {
            if !matches!(
                wait_ready(self.file.as_fd(), true, Duration::ZERO),
                Ok(true)
            ) {
                return self.wait_for_room(epoll);
            }
            let (front, _) = self.pending.as_slices();
            let chunk = front.get(..WRITE_BYTES_MAX).unwrap_or(front);
            match self.file.write(chunk) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return self.wait_for_room(epoll),
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                    self.dead = true;
                    self.pending.clear();
                }
                // A full disk, say: this much is lost, the next may succeed.
                Err(_) => {
                    self.dropped += 1;
                    self.pending.clear();
                }
            }
            if self.pending.is_empty() && self.dropped > 0 && !self.dead {
                let count = std::mem::take(&mut self.dropped);
                let text = format!("{count} lines of workers dropped: our output was not read");
                self.line("sidekeeper", text.as_bytes());
            }
        }
    }

    /// Regular files cannot be watched, and never have no room.
    fn wait_for_room(&mut self, epoll: &Epoll) {
        let fd = self.file.as_fd();
        let watched = if self.watched {
            epoll.modify(fd, self.token, Interest::READ_WRITE)
        } else {
            epoll.add(fd, self.token, Interest::READ_WRITE)
        };
        self.watched = watched.is_ok();
    }
}

/// Splits a stream into lines of bounded length.
#[derive(Default)]
struct LineSplitter {
    partial: Vec<u8>,
}

impl LineSplitter {
    fn split(&mut self, bytes: &[u8], each: &mut impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut text, whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            while self.partial.len() + text.len() > LINE_BYTES_MAX {
                let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
                let (now, later) = text.split_at(room.min(text.len()));
                self.partial.extend_from_slice(now);
                each(&self.partial);
                self.partial.clear();
                text = later;
            }
            if whole && self.partial.is_empty() {
                each(text);
            } else {
                self.partial.extend_from_slice(text);
                if whole {
                    self.end(each);
                }
            }
        }
    }

    /// What came without a newline is a line too.
    fn end(&mut self, each: &mut impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            each(&self.partial);
            // Most workers are silent most of the time: no buffer then.
            self.partial = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_all(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        let mut each = |line: &[u8]| lines.push(line.to_vec());
        for piece in pieces {
            splitter.split(piece, &mut each);
        }
        splitter.end(&mut each);
        lines
    }

    #[test]
    fn lines_come_whole() {
        assert_eq!(
            split_all(&[b"a\nb", b"c\n", b"\nlast"]),
            [&b"a"[..], b"bc", b"", b"last"]
        );
    }

    #[test]
    fn a_long_line_is_split() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let lines = split_all(&[&long, b"y\n", b"z\n"]);
        let lengths: Vec<usize> = lines.iter().map(Vec::len).collect();
        assert_eq!(lengths, [LINE_BYTES_MAX, 2, 1]);
    }

    #[test]
    fn a_reader_that_stands_still_costs_a_bounded_buffer() {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().expect("socketpair");
        let epoll = Epoll::new().expect("epoll");
        let mut output = Output::new(OwnedFd::from(writer), STDOUT);
        let line = [b'x'; 1000];
        for _ in 0..4000 {
            output.line("a.0", &line);
            output.flush(&epoll);
        }
        assert!(output.pending.len() <= OUTPUT_BYTES_MAX);
        assert!(output.dropped > 1000);
        // Once it reads again it gets what was kept, and is told how much was not.
        let mut seen = Vec::new();
        let mut buffer = [0; 65536];
        while output.is_stuck() {
            let count = (&reader).read(&mut buffer).expect("read");
            seen.extend_from_slice(&buffer[..count]);
            output.flush(&epoll);
        }
        drop(output);
        (&reader).read_to_end(&mut seen).expect("read");
        let text = String::from_utf8(seen).expect("ascii");
        assert!(
            text.ends_with("lines of workers dropped: our output was not read\n"),
            "{text}"
        );
    }
}
