//! Node's IPC channel: lines of JSON between us and each worker, over a socket pair.
//!
//! One thread waits in an epoll set over all channels. It always reads what workers send (a
//! worker's own queue grows without bound otherwise), tells the supervisor what concerns it, and
//! writes what others ask it to write, from a bounded queue for each worker: nobody who sends ever
//! waits for a worker. It knows nothing of processes; an end of file is only reported.

use crate::fleet::hand_off::Offers;
use crate::fleet::lines::LineCutter;
use crate::fleet::message::{Heard, News, understand};
use crate::gauges::WorkerGauges;
use crate::roster::{Door, Offer, Slot, Verdict};
use crate::sys::clock::monotonic_ms;
use crate::sys::epoll::{Epoll, Event, Interest, Waker};
use crate::sys::passing::send_with_fd;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use log::{debug, warn};
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// The longest line that a worker may send. Longer ones are skipped, with a warning.
const LINE_BYTES_MAX: usize = 4 << 20;
/// What may wait for one worker that does not read its channel. What comes on top is dropped.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// What is read from one worker before the others have their turn.
const TURN_BYTES_MAX: usize = 256 << 10;
const READ_BYTES: usize = 64 << 10;
/// The token that is no worker's: lives begin at 1.
const WAKER: u64 = 0;

/// One life of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LifeKey {
    pub slot: Slot,
    pub life: u32,
}

impl LifeKey {
    fn token(self) -> u64 {
        (u64::from(self.slot.0) << 32) | u64::from(self.life)
    }
}

/// A whole message with its newline, shared by all channels that it goes to.
pub type Line = Arc<[u8]>;

/// What the supervisor is told.
#[derive(Debug)]
pub struct Notice {
    pub key: LifeKey,
    pub news: News,
}

/// One line on its way to a worker. A descriptor goes with the line's first byte; each needs a line
/// of its own, because Node takes one for each line.
struct Message {
    line: Line,
    passed: Passed,
}

/// The descriptor that goes with a message.
enum Passed {
    Nothing,
    Own(OwnedFd),
    /// The socket of the offer with this number, which [`Offers`] holds.
    Offered(u64),
}

enum Command {
    Add {
        key: LifeKey,
        name: Arc<str>,
        stream: UnixStream,
        offers: Offers,
    },
    Offer {
        key: LifeKey,
        offer: Offer,
    },
    Send {
        key: LifeKey,
        message: Message,
    },
    Remove {
        key: LifeKey,
    },
    End,
}

/// The way to the thread. Its queue is unbounded and small by construction: the supervisor sends
/// a few commands for each change of a worker's state.
#[derive(Clone)]
pub struct Ipc {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Ipc {
    /// Makes the two ends: the handle, and what the thread runs.
    pub fn new(notices: Sender<Notice>) -> io::Result<(Ipc, IpcThread)> {
        let (commands, orders) = crossbeam_channel::unbounded();
        let waker = Arc::new(Waker::new()?);
        let epoll = Epoll::new()?;
        epoll.add(waker.as_fd(), WAKER, Interest::READ_LEVEL)?;
        let thread = IpcThread {
            epoll,
            waker: Arc::clone(&waker),
            orders,
            notices,
            channels: HashMap::new(),
            buffer: vec![0; READ_BYTES],
        };
        Ok((Ipc { commands, waker }, thread))
    }

    /// Takes over our end of a new life's channel; returns the way to hand connections to it.
    pub fn add(
        &self,
        key: LifeKey,
        name: Arc<str>,
        stream: UnixStream,
        gauges: Arc<WorkerGauges>,
    ) -> Arc<dyn Door> {
        let offers = Offers::new(gauges);
        let door = offers.door(self, key);
        self.order(Command::Add {
            key,
            name,
            stream,
            offers,
        });
        door
    }

    /// Offers a client's connection; it goes back if that life's channel is gone.
    pub fn offer(&self, key: LifeKey, offer: Offer) {
        self.order(Command::Offer { key, offer });
    }

    /// Sends a line; nothing happens if that life's channel is gone.
    pub fn send(&self, key: LifeKey, line: &[u8]) {
        self.send_message(key, line, Passed::Nothing);
    }

    /// Sends a line and with it a descriptor.
    pub fn send_with(&self, key: LifeKey, line: &[u8], passed: OwnedFd) {
        self.send_message(key, line, Passed::Own(passed));
    }

    fn send_message(&self, key: LifeKey, line: &[u8], passed: Passed) {
        let message = Message {
            line: Arc::from(line),
            passed,
        };
        self.order(Command::Send { key, message });
    }

    pub fn remove(&self, key: LifeKey) {
        self.order(Command::Remove { key });
    }

    pub fn end(&self) {
        self.order(Command::End);
    }

    fn order(&self, command: Command) {
        // A thread that has ended has no channels left to do anything with.
        let _ = self.commands.send(command);
        self.waker.ring();
    }
}

pub struct IpcThread {
    epoll: Epoll,
    waker: Arc<Waker>,
    orders: Receiver<Command>,
    notices: Sender<Notice>,
    channels: HashMap<u64, Channel>,
    buffer: Vec<u8>,
}

/// One worker's channel.
struct Channel {
    key: LifeKey,
    name: Arc<str>,
    stream: UnixStream,
    lines: LineCutter,
    queue: VecDeque<Message>,
    /// Bytes of the queue's first line that are written.
    written: usize,
    queued_bytes: usize,
    dropped: u64,
    offers: Offers,
}

impl IpcThread {
    pub fn run(mut self) -> io::Result<()> {
        loop {
            let count = self.epoll.wait(self.patience())?;
            for index in 0..count {
                let Some(event) = self.epoll.event(index) else {
                    break;
                };
                if event.token == WAKER {
                    self.waker.silence();
                } else {
                    self.serve(event);
                }
            }
            loop {
                match self.orders.try_recv() {
                    Ok(Command::End) | Err(TryRecvError::Disconnected) => return Ok(()),
                    Ok(command) => self.obey(command)?,
                    Err(TryRecvError::Empty) => break,
                }
            }
            let now_ms = monotonic_ms();
            for channel in self.channels.values_mut() {
                channel.offers.expire(now_ms);
            }
        }
    }

    /// Until the next offer's lease is over.
    fn patience(&self) -> Option<Duration> {
        let deadlines = self.channels.values().map(|c| c.offers.deadline_ms());
        let next_ms = deadlines.flatten().min()?;
        Some(Duration::from_millis(
            next_ms.saturating_sub(monotonic_ms()),
        ))
    }

    fn obey(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Add {
                key,
                name,
                stream,
                offers,
            } => {
                stream.set_nonblocking(true)?;
                self.epoll
                    .add(stream.as_fd(), key.token(), Interest::READ_LEVEL)?;
                self.channels
                    .insert(key.token(), Channel::new(key, name, stream, offers));
            }
            Command::Offer { key, offer } => match self.channels.get_mut(&key.token()) {
                Some(channel) => {
                    let (seq, line) = channel.offers.begin(offer);
                    let message = Message {
                        line: Arc::from(line),
                        passed: Passed::Offered(seq),
                    };
                    channel.send(message, &self.epoll);
                }
                None => (offer.answer)(Verdict::Back(offer.socket)),
            },
            Command::Send { key, message } => {
                if let Some(channel) = self.channels.get_mut(&key.token()) {
                    channel.send(message, &self.epoll);
                }
            }
            Command::Remove { key } => {
                self.channels.remove(&key.token());
            }
            Command::End => {}
        }
        Ok(())
    }

    fn serve(&mut self, event: Event) {
        let Some(channel) = self.channels.get_mut(&event.token) else {
            return; // Removed earlier in this batch.
        };
        if event.writable() {
            channel.flush(&self.epoll);
        }
        if event.readable() && !channel.read(&mut self.buffer, &self.notices) {
            let key = channel.key;
            self.channels.remove(&event.token);
            tell(&self.notices, key, News::ChannelGone);
        }
    }
}

impl Channel {
    fn new(key: LifeKey, name: Arc<str>, stream: UnixStream, offers: Offers) -> Channel {
        Channel {
            key,
            name,
            stream,
            lines: LineCutter::default(),
            queue: VecDeque::new(),
            written: 0,
            queued_bytes: 0,
            dropped: 0,
            offers,
        }
    }

    /// Reads a turn's worth; false at the end of the channel.
    fn read(&mut self, buffer: &mut [u8], notices: &Sender<Notice>) -> bool {
        let mut taken = 0;
        while taken < TURN_BYTES_MAX {
            let count = match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            taken += count;
            let (key, name, offers) = (self.key, &self.name, &mut self.offers);
            let bytes = buffer.get(..count).unwrap_or_default();
            let skipped = self
                .lines
                .cut(bytes, LINE_BYTES_MAX, |line| match understand(line) {
                    Some(Heard::News(news)) => tell(notices, key, news),
                    Some(Heard::Word(word)) => offers.hear(word),
                    None => debug!("{name}: message of {} bytes, not for us", line.len()),
                });
            if skipped > 0 {
                warn!("{name}: a message of more than {LINE_BYTES_MAX} bytes was skipped");
            }
        }
        true
    }

    fn send(&mut self, message: Message, epoll: &Epoll) {
        let was_empty = self.queue.is_empty();
        if self.queued_bytes + message.line.len() > QUEUE_BYTES_MAX {
            if let Passed::Offered(seq) = message.passed {
                return self.offers.unsent(seq);
            }
            self.dropped += 1;
            // At 1, 2, 4, 8 ...: a worker that is stuck must not fill the log as well.
            if self.dropped.is_power_of_two() {
                warn!(
                    "{}: does not read its channel, {} messages dropped",
                    self.name, self.dropped
                );
            }
            return;
        }
        self.queued_bytes += message.line.len();
        self.queue.push_back(message);
        if was_empty {
            self.flush(epoll);
        }
    }

    /// Writes what fits. What remains is written when the kernel says that there is room.
    fn flush(&mut self, epoll: &Epoll) {
        while let Some(message) = self.queue.front_mut() {
            let rest = message.line.get(self.written..).unwrap_or_default();
            let channel = self.stream.as_fd();
            let written = match &message.passed {
                Passed::Nothing => (&self.stream).write(rest),
                Passed::Own(passed) => send_with_fd(channel, rest, passed.as_fd()),
                Passed::Offered(seq) => match self.offers.socket(*seq) {
                    Some(passed) => send_with_fd(channel, rest, passed),
                    None => {
                        // Its lease was over before there was room for it.
                        self.queued_bytes -= message.line.len();
                        self.queue.pop_front();
                        continue;
                    }
                },
            };
            match written {
                Ok(count) => {
                    match std::mem::replace(&mut message.passed, Passed::Nothing) {
                        Passed::Nothing => {}
                        Passed::Own(_) => self.offers.note_sent(None),
                        Passed::Offered(seq) => self.offers.note_sent(Some(seq)),
                    }
                    self.written += count;
                    let line = &message.line;
                    if self.written >= line.len() {
                        self.queued_bytes -= line.len();
                        self.written = 0;
                        self.queue.pop_front();
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if matches!(message.passed, Passed::Offered(_)) && !is_hung_up(&e) => {
                    // Too many descriptors of this user are under way (unix(7), ETOOMANYREFS).
                    if let Passed::Offered(seq) = message.passed {
                        debug!("{}: a connection cannot be handed off: {e}", self.name);
                        self.queued_bytes -= message.line.len();
                        self.queue.pop_front();
                        self.offers.unsent(seq);
                    }
                }
                Err(_) => {
                    // The reading side finds the end of file and says so.
                    self.queue.clear();
                    self.queued_bytes = 0;
                    self.written = 0;
                }
            }
        }
        let interest = if self.queue.is_empty() {
            Interest::READ_LEVEL
        } else {
            Interest::READ_WRITE_LEVEL
        };
        // A failure means that the descriptor is not in the set, and then nothing comes anyway.
        let _ = epoll.modify(self.stream.as_fd(), self.key.token(), interest);
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected
    )
}

/// The supervisor never waits for this thread, so this thread may wait for the supervisor. Only
/// figures are left out when it is behind: there are new ones in a second.
fn tell(notices: &Sender<Notice>, key: LifeKey, news: News) {
    let notice = Notice { key, news };
    match notice.news {
        News::Stats(_) => {
            let _ = notices.try_send(notice);
        }
        News::Listening | News::Ready | News::Closed | News::WantsListener | News::ChannelGone => {
            // Without a supervisor the process is about to end.
            let _ = notices.send(notice);
        }
    }
}
