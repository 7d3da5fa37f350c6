//! The logs thread: waits in an epoll set over all pipes, and never anywhere else.

use crate::fleet::life::LifeKey;
use crate::fleet::lines::TextCutter;
use crate::fleet::logs::form::{Stamp, Stream};
use crate::fleet::logs::outlet::Outlet;
use crate::fleet::logs::output::Output;
use crate::fleet::logs::readers::ReaderSet;
use crate::fleet::logs::recent::Recent;
use crate::fleet::logs::{CarriedPipe, Command, Printer, Tail};
use crate::journal::Journal;
use crate::journal::date::Zone;
use crate::journal::harmless::harmless;
use front::channel::{Receiver, Sender, TryRecvError};
use front::roster::{Board, Slot};
use front::sys::carried::Baton;
use front::sys::clock::unix_ms;
use front::sys::epoll::{Epoll, Interest, Waker};
use front::sys::memory;
use front::sys::socket::wait_ready;
use log::{error, warn};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of a longer line the beginning is kept.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Lines of stderr that are kept for each worker, and how much of each.
const TAIL_LINES: usize = 20;
const TAIL_LINE_BYTES_MAX: usize = 2000;
const READ_BYTES: usize = 64 << 10;
/// What is read from a dead worker's pipe before its last lines are reported: more than it holds.
const LAST_WORDS_READS_MAX: usize = 64;
/// How long the last lines may take to leave when everything ends.
const END_MILLIS_MAX: u64 = 500;
/// How long they may take when another binary takes over.
const STAND_STILL_MILLIS_MAX: u64 = 100;

const WAKER: u64 = 0;
const STDOUT: u64 = 1;
const STDERR: u64 = 2;
const FIRST_PIPE: u64 = 3;

struct Pipe {
    key: LifeKey,
    outlet: Outlet,
    file: File,
    lines: TextCutter,
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
    /// Where the last lines of stderr are left for those who answer instead of a worker.
    board: Arc<Board>,
    pipes: HashMap<u64, Pipe>,
    next_token: u64,
    kept: HashMap<Slot, Kept>,
    recent: Recent,
    readers: ReaderSet,
    stdout: Output,
    stderr: Output,
    buffer: Vec<u8>,
    journal: Journal,
    zone: Zone,
    /// Lines are composed in it.
    scratch: Vec<u8>,
}

impl LogsThread {
    pub(super) fn new(
        waker: Arc<Waker>,
        orders: Receiver<Command>,
        tails: Sender<Tail>,
        board: Arc<Board>,
        journal: Journal,
    ) -> io::Result<LogsThread> {
        let epoll = Epoll::new()?;
        epoll.add(waker.as_fd(), WAKER, Interest::READ_LEVEL)?;
        Ok(LogsThread {
            epoll,
            waker,
            orders,
            tails,
            board,
            pipes: HashMap::new(),
            next_token: FIRST_PIPE,
            kept: HashMap::new(),
            recent: Recent::default(),
            readers: ReaderSet::default(),
            stdout: Output::new(io::stdout().as_fd().try_clone_to_owned()?, STDOUT),
            stderr: Output::new(io::stderr().as_fd().try_clone_to_owned()?, STDERR),
            buffer: memory::buffer(READ_BYTES),
            journal,
            zone: Zone::default(),
            scratch: Vec::new(),
        })
    }

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
                    Ok(Command::Add(printer)) => self.begin(printer),
                    Ok(Command::Tail { key }) => self.tell_tail(key),
                    Ok(Command::Forget { slot }) => self.forget(slot),
                    Ok(Command::Read {
                        socket,
                        slots,
                        follow,
                    }) => self.begin_reading(socket, slots, follow),
                    Ok(Command::Begun { key, stderr, lines }) => self.go_on(key, stderr, lines),
                    Ok(Command::StandStill { tell, until }) => self.stand_still(&tell, &until),
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

    /// Goes on with a line that an earlier binary has begun to read.
    fn go_on(&mut self, key: LifeKey, stderr: bool, lines: TextCutter) {
        let is = |p: &&mut Pipe| p.key == key && (p.outlet.stream == Stream::Stderr) == stderr;
        if let Some(pipe) = self.pipes.values_mut().find(is) {
            pipe.lines = lines;
        }
    }

    /// Another binary takes over: what is read already is written, as far as that takes no time.
    fn stand_still(&mut self, tell: &Sender<Vec<CarriedPipe>>, until: &Receiver<()>) {
        let deadline = Instant::now() + Duration::from_millis(STAND_STILL_MILLIS_MAX);
        for output in [&mut self.stdout, &mut self.stderr] {
            output.flush_until(deadline, &self.epoll);
        }
        let carried = self.pipes.values().map(|pipe| CarriedPipe {
            key: pipe.key,
            stderr: pipe.outlet.stream == Stream::Stderr,
            fd: Baton::of(pipe.file.as_fd()),
            lines: pipe.lines.clone(),
        });
        if tell.send(carried.collect()).is_ok() {
            // Nothing is ever sent: it ends when whoever has given the order lets it go.
            let _ = until.recv();
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

    fn begin(&mut self, printer: Printer) {
        let Printer {
            key,
            speaker,
            spec,
            alone,
            gauges,
            stdout,
            stderr,
        } = printer;
        let kept = Kept {
            life: key.life,
            lines: VecDeque::new(),
        };
        self.kept.insert(key.slot, kept);
        for (stream, pipe) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
            let whose = (speaker.clone(), stream);
            let outlet = Outlet::open(&self.journal, whose, (&spec, alone), &gauges);
            self.watch(key, outlet, pipe);
        }
    }

    fn watch(&mut self, key: LifeKey, outlet: Outlet, pipe: OwnedFd) {
        let token = self.next_token;
        self.next_token += 1;
        if let Err(e) = self.epoll.add(pipe.as_fd(), token, Interest::READ_LEVEL) {
            // Closed, it makes the worker's writes fail; unread, it would make them wait for ever.
            let name = &outlet.speaker.worker;
            error!("{name}: what it prints cannot be read: {e}");
            return;
        }
        let pipe = Pipe {
            key,
            outlet,
            file: File::from(pipe),
            lines: TextCutter::default(),
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
            key, outlet, lines, ..
        } = pipe;
        let (output, mut kept) = match outlet.stream {
            Stream::Stdout => (&mut self.stdout, None),
            Stream::Stderr => {
                let kept = self.kept.get_mut(&key.slot);
                (&mut self.stderr, kept.filter(|k| k.life == key.life))
            }
        };
        let (slot, word, now_ms) = (key.slot, outlet.stream.word(), unix_ms());
        let (recent, readers, scratch) = (&mut self.recent, &mut self.readers, &mut self.scratch);
        let (words, life) = (self.board.last_words(), key.life);
        let mut stamp = Stamp::new(now_ms, &mut self.zone);
        let mut each = |line: &[u8]| {
            outlet.line(line, &mut stamp, output, scratch);
            if let Some(kept) = &mut kept {
                kept.push(line);
                let start = line.get(..TAIL_LINE_BYTES_MAX).unwrap_or(line);
                words.push(slot, life, &String::from_utf8_lossy(start));
            }
            let name = &outlet.speaker.worker;
            readers.line(slot, recent.push(slot, name, word, now_ms, line));
        };
        if count == 0 {
            lines.end(&mut each);
            self.pipes.remove(&token);
        } else {
            let bytes = self.buffer.get(..count).unwrap_or_default();
            lines.cut(bytes, LINE_BYTES_MAX, &mut each);
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
        self.board.last_words().forget(slot);
        self.recent.forget(slot);
    }

    /// Everything the dead worker has written is in the pipe by now, and may still be there.
    fn tell_tail(&mut self, key: LifeKey) {
        let of_life = |pipe: &Pipe| pipe.key == key && pipe.outlet.stream == Stream::Stderr;
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
    /// What is kept is told in our own log, and a worker may print what its clients sent.
    fn push(&mut self, line: &[u8]) {
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        let start = line.get(..TAIL_LINE_BYTES_MAX).unwrap_or(line);
        self.lines.push_back(harmless(start).into_owned());
    }
}
