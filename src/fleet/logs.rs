//! What workers print: read line by line from their pipes, written to our own output as
//! `chat.0 | line`, stdout to stdout and stderr to stderr; kept for a while, and sent to those who
//! read along; the last lines of stderr kept for the report when a worker keeps dying.
//!
//! One thread waits in an epoll set over all pipes. A worker never waits for whoever reads our
//! output: what does not fit into a bounded buffer is dropped, counted, and the count is told.

use crate::fleet::life::LifeKey;
use crate::fleet::lines::LineSplitter;
use crate::fleet::output::Output;
use crate::fleet::readers::ReaderSet;
use crate::fleet::recent::Recent;
use crate::roster::Slot;
use crate::sys::clock::unix_ms;
use crate::sys::epoll::{Epoll, Interest, Waker};
use crate::sys::socket::wait_ready;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use log::{error, warn};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A longer line is split.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Lines of stderr that are kept for each worker, and how much of each.
const TAIL_LINES: usize = 20;
const TAIL_LINE_BYTES_MAX: usize = 2000;
const READ_BYTES: usize = 64 << 10;
/// What is read from a dead worker's stderr before its last lines are reported.
const LAST_WORDS_READS_MAX: usize = 64;
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
    Forget {
        slot: Slot,
    },
    Read {
        socket: UnixStream,
        slots: Vec<Slot>,
        follow: bool,
    },
    End,
}

/// The way to the thread for those who want to read along.
#[derive(Clone)]
pub struct Readers {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Readers {
    pub fn add(&self, socket: UnixStream, slots: Vec<Slot>, follow: bool) {
        let order = Command::Read {
            socket,
            slots,
            follow,
        };
        // A thread that has ended closes the socket, and the reader knows.
        let _ = self.commands.send(order);
        self.waker.ring();
    }
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
            recent: Recent::default(),
            readers: ReaderSet::default(),
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

    /// This worker's place is gone: its lines need not be kept any more.
    pub fn forget(&self, slot: Slot) {
        self.order(Command::Forget { slot });
    }

    /// The way for those who want to read along.
    pub fn readers(&self) -> Readers {
        Readers {
            commands: self.commands.clone(),
            waker: Arc::clone(&self.waker),
        }
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
    recent: Recent,
    readers: ReaderSet,
    stdout: Output,
    stderr: Output,
    buffer: Vec<u8>,
}

impl LogsThread {
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Vec::new();
        loop {
            let count = self.epoll.wait(None)?;
            events.clear();
            events.extend((0..count).filter_map(|i| self.epoll.event(i)));
            for event in events.iter().copied() {
                match event.token {
                    WAKER => self.waker.silence(),
                    STDOUT | STDERR => {} // Flushed below.
                    reader if self.readers.contains(reader) => self.readers.event(event),
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
                        self.watch(key, &name, Stream::Stdout, stdout);
                        self.watch(key, &name, Stream::Stderr, stderr);
                    }
                    Ok(Command::Tail { key }) => self.tell_tail(key),
                    Ok(Command::Forget { slot }) => self.forget(slot),
                    Ok(Command::Read {
                        socket,
                        slots,
                        follow,
                    }) => self.begin_reading(socket, slots, follow),
                    Ok(Command::End) | Err(TryRecvError::Disconnected) => {
                        self.finish();
                        return Ok(());
                    }
                    Err(TryRecvError::Empty) => break,
                }
            }
            self.stdout.flush(&self.epoll);
            self.stderr.flush(&self.epoll);
            self.readers.flush();
        }
    }

    fn begin_reading(&mut self, socket: UnixStream, slots: Vec<Slot>, follow: bool) {
        let token = self.next_token;
        self.next_token += 1;
        let recent = self.recent.of(&slots);
        let whom = (slots, follow);
        if let Err(e) = self.readers.add(&self.epoll, token, socket, whom, &recent) {
            warn!("cannot send the logs to a reader: {e}");
        }
    }

    fn watch(&mut self, key: LifeKey, name: &Arc<str>, stream: Stream, pipe: OwnedFd) {
        let token = self.next_token;
        self.next_token += 1;
        if let Err(e) = self.epoll.add(pipe.as_fd(), token, Interest::READ_LEVEL) {
            // Closed, it makes the worker's writes fail; unread, it would make them wait for ever.
            error!("{name}: what it prints cannot be read: {e}");
            return;
        }
        let lines = LineSplitter::default();
        let pipe = Pipe {
            key,
            name: Arc::clone(name),
            stream,
            file: File::from(pipe),
            lines,
        };
        self.pipes.insert(token, pipe);
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
        let (print, slot) = (self.print, key.slot);
        let word = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let (recent, readers, now_ms) = (&mut self.recent, &mut self.readers, unix_ms());
        let mut each = |line: &[u8]| {
            if print {
                output.line(name, line);
            }
            if let Some(kept) = &mut kept {
                kept.push(line);
            }
            readers.line(slot, recent.push(slot, name, word, now_ms, line));
        };
        if count == 0 {
            lines.end(&mut each);
            self.pipes.remove(&token);
        } else {
            lines.split(
                self.buffer.get(..count).unwrap_or_default(),
                LINE_BYTES_MAX,
                &mut each,
            );
        }
    }

    /// The pipes of a worker whose place is gone may still hold its last words.
    fn forget(&mut self, slot: Slot) {
        let of_slot = |(token, pipe): (&u64, &Pipe)| (pipe.key.slot == slot).then_some(*token);
        let tokens: Vec<u64> = self.pipes.iter().filter_map(of_slot).collect();
        for token in tokens {
            self.drain(token);
            // Whoever has taken the other end along writes to nobody.
            self.pipes.remove(&token);
        }
        self.kept.remove(&slot);
        self.recent.forget(slot);
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
            output.flush_until(deadline, &self.epoll);
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
