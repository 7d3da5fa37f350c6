//! One worker's channel as the ipc thread has it: lines that come are cut and understood, lines
//! that go wait in two bounded queues until the worker reads them. Nothing here waits.
//!
//! What we say ourselves goes first; what siblings say has a queue and a bound of its own, so that a
//! flood of broadcasts keeps no order from a worker. A worker that does not read loses what siblings
//! say to it, is counted, and costs nobody else anything.

use crate::fleet::hand_off::{CarriedOffers, Offers};
use crate::fleet::life::LifeKey;
use crate::fleet::lines::LineCutter;
use crate::fleet::message::{Heard, News, Notice, understand};
use crate::fleet::relay_bus::Bus;
use front::as_json;
use front::channel::Sender;
use front::gauges::WorkerGauges;
use front::sys::carried::Baton;
use front::sys::clock::monotonic_ms;
use front::sys::epoll::{Epoll, Interest};
use front::sys::passing::send_with_fd;
use front::sys::socket::untaken;
use log::{debug, info, warn};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A whole message with its newline, shared by all channels that it goes to.
pub type Line = Arc<[u8]>;

/// The longest line that a worker may send. Longer ones are skipped, with a warning.
const LINE_BYTES_MAX: usize = 4 << 20;
/// What of ours may wait for one worker that does not read its channel. The rest is dropped.
const OWN_BYTES_MAX: usize = 1 << 20;
/// What of its siblings may wait for it. The memory is shared: a broadcast that waits for several
/// workers is there once.
const RELAYED_BYTES_MAX: usize = 8 << 20;
/// What is read from one worker before the others have their turn.
const TURN_BYTES_MAX: usize = 256 << 10;
/// Lines of siblings that are written at once.
const BATCH_MAX: usize = 64;
/// What Node takes from its channel in one read. The kernel ends a read behind a descriptor and not before it: if a line
/// with a descriptor were cut by the end of a read, its rest would come together with the next descriptor, and
/// Node, which keeps one at a time, would give that one to it: somebody else's connection.
const READ_BYTES: usize = 64 << 10;
/// A worker that loses messages is complained about only so often.
const COMPLAINT_EVERY_MS: u64 = 10_000;

/// One line on its way to a worker. A descriptor goes with the line's first byte; each needs a line
/// of its own, because Node takes one for each line.
pub struct Message {
    pub line: Line,
    pub passed: Passed,
}

/// The descriptor that goes with a message.
pub enum Passed {
    Nothing,
    Own(OwnedFd),
    /// The socket of the offer with this number, which [`Offers`] holds.
    Offered(u64),
}

/// A sibling's line and a worker that it is for.
pub struct Letter {
    pub to: LifeKey,
    pub line: Line,
}

/// What reading needs besides the channel. `letters` is where lines for siblings are put.
pub struct Reading<'a> {
    pub buffer: &'a mut [u8],
    pub notices: &'a Sender<Notice>,
    pub bus: &'a mut Bus,
    pub letters: &'a mut Vec<Letter>,
}

#[derive(Clone, Copy, Debug)]
enum Lane {
    Own,
    Relayed,
}

as_json!(
    enum Lane {
        Own,
        Relayed,
    }
);

/// What a worker that does not read has lost.
#[derive(Default)]
struct Losses {
    count: u64,
    complained: bool,
    complained_ms: Option<u64>,
}

/// A channel as it is left to the next binary.
#[derive(Debug)]
pub struct CarriedChannel {
    pub key: LifeKey,
    pub stream: Baton,
    pub said: Said,
}

as_json!(struct CarriedChannel { key, stream, said });

/// What is on its way through a channel, and what has been said of it.
#[derive(Debug)]
pub struct Said {
    offers: CarriedOffers,
    lines: LineCutter,
    own: Vec<(Bytes, Option<Baton>)>,
    relayed: Vec<Bytes>,
    begun: Option<(Lane, usize)>,
}

as_json!(struct Said { offers, lines, own, relayed, begun });

#[derive(Debug)]
struct Bytes(Vec<u8>);

as_json!(struct Bytes(_));

/// Bytes without a descriptor that the worker may not have read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    /// At most so many.
    Bytes(usize),
    /// Among them the rest of a line whose descriptor has gone before it.
    Rest,
}

impl Ahead {
    fn add(&mut self, bytes: usize) {
        match self {
            Ahead::Bytes(ahead) => *ahead = ahead.saturating_add(bytes),
            Ahead::Rest => {}
        }
    }

    /// Whether a line with a descriptor comes whole with one read, and nothing of another one's with it.
    /// `unread`: what the worker has not read at all, overheads included.
    fn lets_pass(self, bytes: usize, unread: impl FnOnce() -> usize) -> bool {
        let fits = |ahead: usize| ahead.saturating_add(bytes) <= READ_BYTES;
        match self {
            Ahead::Bytes(ahead) => fits(ahead) || fits(unread()),
            Ahead::Rest => fits(0) && unread() == 0,
        }
    }

    /// A descriptor has gone; whether its line comes whole with one read.
    fn passed(&mut self, comes_whole: bool) {
        *self = match comes_whole {
            true => Ahead::Bytes(0),
            false => Ahead::Rest,
        };
    }
}

/// One worker's channel.
pub struct Channel {
    pub key: LifeKey,
    pub offers: Offers,
    name: Arc<str>,
    stream: UnixStream,
    gauges: Arc<WorkerGauges>,
    lines: LineCutter,
    own: VecDeque<Message>,
    own_bytes: usize,
    relayed: VecDeque<Line>,
    relayed_bytes: usize,
    /// The first line of this queue is written in part: so much of it.
    begun: Option<(Lane, usize)>,
    /// What was written since the last descriptor and may come before the next one in the same read.
    ahead: Ahead,
    /// The kernel tells when there is room.
    awaits_room: bool,
    dropped: u64,
    losses: Losses,
}

impl Channel {
    pub fn new(
        key: LifeKey,
        name: Arc<str>,
        stream: UnixStream,
        gauges: Arc<WorkerGauges>,
        offers: Offers,
    ) -> Channel {
        Channel {
            key,
            offers,
            name,
            stream,
            gauges,
            lines: LineCutter::default(),
            own: VecDeque::new(),
            own_bytes: 0,
            relayed: VecDeque::new(),
            relayed_bytes: 0,
            begun: None,
            ahead: Ahead::Bytes(0),
            awaits_room: false,
            dropped: 0,
            losses: Losses::default(),
        }
    }

    /// Everything that the next binary goes on with. No offer waits.
    pub fn carried(&self) -> CarriedChannel {
        let bytes = |line: &Line| Bytes(line.to_vec());
        let own = self.own.iter().filter_map(|message| {
            let passed = match &message.passed {
                Passed::Nothing => None,
                Passed::Own(fd) => Some(Baton::of(fd.as_fd())),
                Passed::Offered(_) => return None,
            };
            Some((bytes(&message.line), passed))
        });
        CarriedChannel {
            key: self.key,
            stream: Baton::of(self.stream.as_fd()),
            said: Said {
                offers: self.offers.carried(),
                lines: self.lines.clone(),
                own: own.collect(),
                relayed: self.relayed.iter().map(bytes).collect(),
                begun: self.begun,
            },
        }
    }

    /// Goes on with what an earlier binary has left.
    pub fn take_over(&mut self, carried: Said, epoll: &Epoll) -> io::Result<()> {
        self.offers.take_over(carried.offers);
        self.lines = carried.lines;
        for (Bytes(line), passed) in carried.own {
            let passed = match passed.map(Baton::claim).transpose()? {
                Some(fd) => Passed::Own(fd),
                None => Passed::Nothing,
            };
            self.own_bytes += line.len();
            self.own.push_back(Message {
                line: Line::from(line),
                passed,
            });
        }
        for Bytes(line) in carried.relayed {
            self.relayed_bytes += line.len();
            self.relayed.push_back(Line::from(line));
        }
        self.begun = carried.begun;
        self.ahead = Ahead::Rest;
        self.flush(epoll);
        Ok(())
    }

    /// Reads a turn's worth; false at the end of the channel.
    pub fn read(&mut self, reading: &mut Reading<'_>) -> bool {
        let mut taken = 0;
        let mut recipients = Vec::new();
        while taken < TURN_BYTES_MAX {
            let count = match self.stream.read(reading.buffer) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            taken += count;
            let (key, name, offers) = (self.key, &self.name, &mut self.offers);
            let bytes = reading.buffer.get(..count).unwrap_or_default();
            let (bus, letters) = (&mut *reading.bus, &mut *reading.letters);
            let skipped = self.lines.cut(bytes, LINE_BYTES_MAX, |line| {
                // Before the rest: what siblings say may be long, and is not to be read twice.
                if let Some(text) = bus.route(key, line, &mut recipients) {
                    post(text, &mut recipients, letters);
                    return;
                }
                match understand(line) {
                    Some(Heard::News(news)) => tell(reading.notices, key, news),
                    Some(Heard::Word(word)) => offers.hear(word),
                    None => debug!("{name}: message of {} bytes, not for us", line.len()),
                }
            });
            if skipped > 0 {
                warn!("{name}: a message of more than {LINE_BYTES_MAX} bytes was skipped");
            }
        }
        true
    }

    /// Sends what we have to say ourselves.
    pub fn send(&mut self, message: Message, epoll: &Epoll) {
        if self.own_bytes + message.line.len() > OWN_BYTES_MAX {
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
        self.own_bytes += message.line.len();
        self.own.push_back(message);
        if !self.awaits_room {
            self.flush(epoll);
        }
    }

    /// Takes a line of a sibling; true if it now needs to be flushed. Several lines that come
    /// together are so written at once.
    pub fn relay(&mut self, line: Line) -> bool {
        if self.relayed_bytes + line.len() > RELAYED_BYTES_MAX {
            self.lose();
            return false;
        }
        self.relayed_bytes += line.len();
        self.relayed.push_back(line);
        self.gauges.relayed.fetch_add(1, Relaxed);
        !self.awaits_room
    }

    fn lose(&mut self) {
        self.gauges.lost.fetch_add(1, Relaxed);
        self.losses.count += 1;
        let now_ms = monotonic_ms();
        let last_ms = self.losses.complained_ms;
        if last_ms.is_none_or(|last| now_ms.saturating_sub(last) >= COMPLAINT_EVERY_MS) {
            self.losses.complained_ms = Some(now_ms);
            self.losses.complained = true;
            warn!(
                "{}: does not read its channel and loses what its siblings say, {} so far",
                self.name, self.losses.count
            );
        }
    }

    fn note_caught_up(&mut self) {
        if self.losses.complained {
            info!(
                "{}: reads its channel again; {} messages of its siblings were lost",
                self.name, self.losses.count
            );
            self.losses.complained = false;
            self.losses.count = 0;
        }
    }

    /// Writes what fits. What remains is written when the kernel says that there is room.
    pub fn flush(&mut self, epoll: &Epoll) {
        while let Some(lane) = self.lane() {
            let written = match lane {
                Lane::Own => self.write_own(),
                Lane::Relayed => self.write_relayed(),
            };
            match written {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                // The reading side finds the end of file and says so.
                Err(_) => self.forget_all(),
            }
        }
        let awaits_room = self.lane().is_some();
        if awaits_room != self.awaits_room {
            self.awaits_room = awaits_room;
            let interest = if awaits_room {
                Interest::READ_WRITE_LEVEL
            } else {
                Interest::READ_LEVEL
            };
            // A failure means that the descriptor is not in the set, and then nothing comes anyway.
            let _ = epoll.modify(self.stream.as_fd(), self.key.token(), interest);
        }
    }

    /// Which queue is written from next: a line that is begun comes before any other.
    fn lane(&self) -> Option<Lane> {
        match self.begun {
            Some((lane, _)) => Some(lane),
            None if !self.own.is_empty() => Some(Lane::Own),
            None if !self.relayed.is_empty() => Some(Lane::Relayed),
            None => None,
        }
    }

    fn begun_bytes(&self) -> usize {
        self.begun.map_or(0, |(_, bytes)| bytes)
    }

    fn write_own(&mut self) -> io::Result<()> {
        let begun = self.begun_bytes();
        let Some(message) = self.own.front_mut() else {
            self.begun = None;
            return Ok(());
        };
        let rest = message.line.get(begun..).unwrap_or_default();
        let channel = self.stream.as_fd();
        let unread = || untaken(channel).unwrap_or(usize::MAX);
        let fits = match &message.passed {
            Passed::Nothing => true,
            Passed::Own(_) | Passed::Offered(_) => self.ahead.lets_pass(rest.len(), unread),
        };
        let written = match &message.passed {
            Passed::Nothing => (&self.stream).write(rest),
            Passed::Own(passed) => send_with_fd(channel, rest, passed.as_fd()),
            Passed::Offered(seq) => match self.offers.socket(*seq) {
                Some(_) if !fits => {
                    // The worker is behind: others take it, or it is relayed.
                    let seq = *seq;
                    self.drop_first_own();
                    self.offers.unsent(seq);
                    return Ok(());
                }
                Some(passed) => send_with_fd(channel, rest, passed),
                None => {
                    // Its lease was over before there was room for it.
                    self.drop_first_own();
                    return Ok(());
                }
            },
        };
        match written {
            Ok(count) => {
                match std::mem::replace(&mut message.passed, Passed::Nothing) {
                    Passed::Nothing => self.ahead.add(count),
                    // Ours must arrive, and waits for nothing; what follows then has to.
                    Passed::Own(_) => {
                        self.ahead.passed(fits && count == rest.len());
                        self.offers.note_sent(None);
                    }
                    Passed::Offered(seq) => {
                        self.ahead.passed(fits && count == rest.len());
                        self.offers.note_sent(Some(seq));
                    }
                }
                if begun + count >= message.line.len() {
                    self.drop_first_own();
                } else {
                    self.begun = Some((Lane::Own, begun + count));
                }
                Ok(())
            }
            Err(e) if must_wait(&e) || is_hung_up(&e) => Err(e),
            Err(e) => match message.passed {
                Passed::Offered(seq) => {
                    // Too many descriptors of this user are under way (unix(7), ETOOMANYREFS).
                    debug!("{}: a connection cannot be handed off: {e}", self.name);
                    self.drop_first_own();
                    self.offers.unsent(seq);
                    Ok(())
                }
                Passed::Nothing | Passed::Own(_) => Err(e),
            },
        }
    }

    fn drop_first_own(&mut self) {
        if let Some(message) = self.own.pop_front() {
            self.own_bytes -= message.line.len();
        }
        self.begun = None;
    }

    fn write_relayed(&mut self) -> io::Result<()> {
        let begun = self.begun_bytes();
        let mut parts = [IoSlice::new(&[]); BATCH_MAX];
        let mut from = begun;
        // A begun line has to end before a word of ours; the next ones would only be begun again.
        let batch = if self.own.is_empty() { BATCH_MAX } else { 1 };
        for (part, line) in parts.iter_mut().zip(self.relayed.iter().take(batch)) {
            *part = IoSlice::new(line.get(from..).unwrap_or_default());
            from = 0;
        }
        let written = (&self.stream).write_vectored(&parts)?;
        self.ahead.add(written);
        let mut left = begun + written;
        self.begun = None;
        while let Some(line) = self.relayed.front() {
            if left < line.len() {
                self.begun = (left > 0).then_some((Lane::Relayed, left));
                return Ok(());
            }
            left -= line.len();
            self.relayed_bytes -= line.len();
            self.relayed.pop_front();
        }
        self.note_caught_up();
        Ok(())
    }

    fn forget_all(&mut self) {
        self.own.clear();
        self.own_bytes = 0;
        self.relayed.clear();
        self.relayed_bytes = 0;
        self.begun = None;
    }
}

/// A line for siblings gets its newline back, once, and belongs to all of them.
fn post(text: &[u8], recipients: &mut Vec<LifeKey>, letters: &mut Vec<Letter>) {
    if recipients.is_empty() {
        return;
    }
    let line: Line = Arc::from([text, b"\n"].concat());
    letters.extend(recipients.drain(..).map(|to| Letter {
        to,
        line: Arc::clone(&line),
    }));
}

fn must_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected
    )
}

/// The supervisor never waits for this thread, so this thread may wait for the supervisor. Only
/// figures are left out when it is behind: there are new ones in a second.
pub fn tell(notices: &Sender<Notice>, key: LifeKey, news: News) {
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

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
