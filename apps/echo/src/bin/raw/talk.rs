//! One conversation: a script is sent, what arrives is gathered (and printed) by a second thread,
//! so that neither side ever waits for the other by accident.

use crate::script::Step;
use echo_wire::wire::{Address, Stream};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The peer ended its stream.
    EndOfStream,
    Reset,
    /// The awaited bytes arrived.
    Found,
    /// We closed, as the script said.
    Closed,
    Timeout,
}

/// How arriving bytes are read.
#[derive(Clone, Copy, Default)]
pub struct Reading {
    pub print: bool,
    /// Do not read at all.
    pub deaf: bool,
    /// Bytes a read; 0 means as many as there are.
    pub bite: usize,
    pub pause: Duration,
}

#[derive(Default)]
struct Arrived {
    bytes: Vec<u8>,
    ended: Option<Ending>,
}

#[derive(Default)]
struct Inbox {
    arrived: Mutex<Arrived>,
    news: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Conversation {
    stream: Stream,
    inbox: Arc<Inbox>,
    /// How far earlier waits have matched.
    matched: usize,
    deadline: Instant,
}

impl Conversation {
    pub fn open(
        address: &Address,
        reading: Reading,
        deadline: Instant,
    ) -> io::Result<Conversation> {
        let stream = address.connect()?;
        let inbox = Arc::new(Inbox::default());
        if !reading.deaf {
            let (from, to) = (stream.try_clone()?, Arc::clone(&inbox));
            let thread = thread::Builder::new().stack_size(128 << 10);
            thread.spawn(move || listen(from, &to, reading))?;
        }
        Ok(Conversation {
            stream,
            inbox,
            matched: 0,
            deadline,
        })
    }

    /// Runs the script. `Some` when the conversation is over before or with its last step.
    pub fn play(&mut self, script: &[Step]) -> io::Result<Option<Ending>> {
        let mut times = 1;
        let mut drip = Duration::ZERO;
        for step in script {
            match step {
                Step::Send(bytes) => {
                    for _ in 0..std::mem::replace(&mut times, 1) {
                        self.send(bytes, drip)?;
                    }
                }
                Step::Times(count) => times = *count,
                Step::Stdin => self.copy(&mut io::stdin().lock(), drip)?,
                Step::File(path) => self.copy(&mut std::fs::File::open(path)?, drip)?,
                Step::Sleep(time) => thread::sleep(*time),
                Step::Drip(time) => drip = *time,
                Step::Until(pattern) => match self.wait_for(pattern) {
                    Ending::Found => {}
                    ending => return Ok(Some(ending)),
                },
                Step::End => return Ok(Some(self.wait_for_end())),
                Step::Shut => self.stream.shutdown(Shutdown::Write)?,
                Step::Close => return Ok(Some(Ending::Closed)),
            }
        }
        Ok(None)
    }

    fn copy(&mut self, from: &mut impl Read, drip: Duration) -> io::Result<()> {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let got = from.read(&mut bytes)?;
            if got == 0 {
                return Ok(());
            }
            self.send(&bytes[..got], drip)?;
        }
    }

    fn send(&mut self, bytes: &[u8], drip: Duration) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.stream
            .set_write_timeout(Some(left.max(Duration::from_millis(1))))?;
        if drip.is_zero() {
            return self.stream.write_all(bytes);
        }
        for byte in bytes {
            self.stream.write_all(&[*byte])?;
            thread::sleep(drip);
        }
        Ok(())
    }

    pub fn wait_for(&mut self, pattern: &[u8]) -> Ending {
        let from = self.matched;
        let find = |arrived: &Arrived| {
            position(&arrived.bytes[from..], pattern).map(|at| from + at + pattern.len())
        };
        let (ending, end) = self.wait(|arrived| find(arrived).map(|end| (Ending::Found, end)));
        self.matched = end;
        ending
    }

    pub fn wait_for_end(&mut self) -> Ending {
        self.wait(|_| None).0
    }

    fn wait(&self, done: impl Fn(&Arrived) -> Option<(Ending, usize)>) -> (Ending, usize) {
        let mut arrived = self.inbox.lock();
        loop {
            if let Some(found) = done(&arrived) {
                return found;
            }
            if let Some(ending) = arrived.ended {
                return (ending, self.matched);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return (Ending::Timeout, self.matched);
            }
            let waited = self.inbox.news.wait_timeout(arrived, left);
            arrived = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn received(&self) -> usize {
        self.inbox.lock().bytes.len()
    }

    pub fn has_ended(&self) -> bool {
        self.inbox.lock().ended.is_some()
    }
}

fn listen(mut from: Stream, to: &Inbox, reading: Reading) {
    let mut bytes = vec![
        0;
        if reading.bite == 0 {
            16 << 10
        } else {
            reading.bite
        }
    ];
    loop {
        let ended = match from.read(&mut bytes) {
            Ok(0) => Some(Ending::EndOfStream),
            Ok(got) => {
                if reading.print {
                    let mut out = io::stdout().lock();
                    // Nobody reads what we print: nothing is left to do.
                    if out
                        .write_all(&bytes[..got])
                        .and_then(|()| out.flush())
                        .is_err()
                    {
                        std::process::exit(0);
                    }
                }
                to.lock().bytes.extend_from_slice(&bytes[..got]);
                None
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => None,
            Err(_) => Some(Ending::Reset),
        };
        let over = ended.is_some();
        to.lock().ended = ended;
        to.news.notify_all();
        if over {
            return;
        }
        if !reading.pause.is_zero() {
            thread::sleep(reading.pause);
        }
    }
}

fn position(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    if pattern.is_empty() {
        return Some(0);
    }
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}
