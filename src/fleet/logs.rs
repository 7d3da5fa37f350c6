//! What workers print: read line by line from their pipes, written to our own output as
//! `chat.0 | line`, stdout to stdout and stderr to stderr, and to files; kept for a while, and sent to
//! those who read along; the last lines of stderr kept for the report when a worker keeps dying.
//!
//! This file is the handle that others have; `thread` is what runs. A worker never waits for whoever
//! reads our output, nor for a disk: what does not fit into bounded buffers is dropped, counted, and
//! the count is told.

mod form;
mod outlet;
mod output;
mod readers;
mod recent;
mod thread;

use crate::fleet::life::LifeKey;
use crate::fleet::lines::TextCutter;
use crate::fleet::spec::LogSpec;
use crate::journal::Journal;
pub use form::Speaker;
use front::as_json;
use front::channel::{Receiver, Sender, bounded};
use front::gauges::WorkerGauges;
use front::roster::{Board, Slot};
use front::sys::carried::Baton;
use front::sys::epoll::Waker;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
pub use thread::LogsThread;

/// The answer to [`Logs::ask_tail`].
#[derive(Debug)]
pub struct Tail {
    pub key: LifeKey,
    pub lines: Vec<String>,
}

/// A life that prints.
pub struct Printer {
    pub key: LifeKey,
    pub speaker: Speaker,
    pub spec: Arc<LogSpec>,
    /// It is the only worker of its app.
    pub alone: bool,
    pub gauges: Arc<WorkerGauges>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

enum Command {
    Add(Printer),
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
    /// The beginning of a line that an earlier binary has read.
    Begun {
        key: LifeKey,
        stderr: bool,
        lines: TextCutter,
    },
    StandStill {
        tell: Sender<Vec<CarriedPipe>>,
        until: Receiver<()>,
    },
    End,
}

/// A worker's pipe, as it is left to the next binary.
#[derive(Debug)]
pub struct CarriedPipe {
    pub key: LifeKey,
    pub stderr: bool,
    pub fd: Baton,
    /// What has come of a line that is not whole.
    pub lines: TextCutter,
}

as_json!(struct CarriedPipe { key, stderr, fd, lines });

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
    /// Makes the two ends: the handle, and what the thread runs.
    pub fn new(
        tails: Sender<Tail>,
        board: Arc<Board>,
        journal: Journal,
    ) -> io::Result<(Logs, LogsThread)> {
        let (commands, orders) = front::channel::unbounded();
        let waker = Arc::new(Waker::new()?);
        let thread = LogsThread::new(Arc::clone(&waker), orders, tails, board, journal)?;
        Ok((Logs { commands, waker }, thread))
    }

    /// Takes over the pipes of a new life.
    pub fn add(&self, printer: Printer) {
        self.order(Command::Add(printer));
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

    /// Goes on with a line that an earlier binary has begun to read.
    pub fn go_on_with(&self, key: LifeKey, stderr: bool, lines: TextCutter) {
        self.order(Command::Begun { key, stderr, lines });
    }

    /// Has the thread write everything down and stand still until `until` is closed.
    pub fn stand_still(&self, until: &Receiver<()>) -> Receiver<Vec<CarriedPipe>> {
        let (tell, told) = bounded(1);
        let until = until.clone();
        self.order(Command::StandStill { tell, until });
        told
    }

    /// Something has been ordered that is not done.
    pub fn has_orders(&self) -> bool {
        !self.commands.is_empty()
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
