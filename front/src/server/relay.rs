//! Relay threads: a tunnel that streams, or whose reader does not keep up, is copied by two
//! threads of its own, one a direction, with `std::io::copy` under deadlines. When both directions
//! have been quiet for a moment the tunnel goes back to its pool thread and is parked.
//!
//! Threads are started on demand, kept for a while for the next tunnel, and capped in number. They
//! may block on a peer: that is their job. Nothing else in the process waits for them.

use super::connection::{Connection, Phase};
use crate::channel::{Receiver, Sender, bounded};
use crate::proxy::tunnel::Direction;
use crate::proxy::upstream::Upstream;
use crate::proxy::{CloseReason, End, MOVE_BYTES, Outbox};
use crate::roster::traffic::Request;
use crate::sys::clock::monotonic_us;
use crate::sys::socket;
use log::{debug, warn};
use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A relayed tunnel on its way back: still open, to be parked.
pub struct Returned {
    pub connection: Box<Connection>,
    pub upstream: Upstream,
}

/// Where a quiet tunnel goes: the mailbox of the pool thread that owned it.
pub type GiveBack = Box<dyn FnOnce(Returned) + Send>;

/// The relay threads of the process. Shared by all pool threads.
#[derive(Debug)]
pub struct Relays {
    threads_max: usize,
    threads: Arc<AtomicUsize>,
    idle: Arc<AtomicUsize>,
    work: Sender<Work>,
    inbox: Receiver<Work>,
    write_timeout: Duration,
    closing: Arc<AtomicBool>,
    listed: Arc<Listed>,
    /// Every tunnel is wanted back, quiet or not.
    recalled: Arc<AtomicBool>,
    /// Tunnels that are relayed now.
    tunnels: Arc<AtomicUsize>,
}

/// The tunnels that relay threads have, for those who ask.
#[derive(Debug, Default)]
struct Listed {
    tunnels: Mutex<HashMap<u64, (Instant, Request)>>,
    number: AtomicU64,
}

/// One of them, for as long as this lives.
struct Listing {
    listed: Arc<Listed>,
    number: u64,
}

impl Listed {
    fn add(listed: &Arc<Listed>, request: Request) -> Listing {
        let number = listed.number.fetch_add(1, Relaxed);
        listed.lock().insert(number, (Instant::now(), request));
        Listing {
            listed: listed.clone(),
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (Instant, Request)>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.listed.lock().remove(&self.number);
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// Both directions quiet for this long: the threads are worth more elsewhere.
const QUIET: Duration = Duration::from_millis(500);
/// How often a waiting thread looks up, to see that the other direction is quiet as well or that
/// we are closing.
const GLANCE: Duration = Duration::from_millis(200);
/// How often a recall looks whether all are back.
const RECALL_LOOK: Duration = Duration::from_millis(5);
/// How long a thread without work is kept.
const KEPT: Duration = Duration::from_secs(10);
/// A relay thread copies; it needs no deep stack.
const STACK_BYTES: usize = 128 * 1024;

impl Relays {
    /// At most `threads_max` threads; `write_timeout` bounds the wait for a reader that takes
    /// nothing, zero: no bound.
    pub fn new(threads_max: usize, write_timeout: Duration) -> Self {
        // The channel holds what idle threads are about to take, never more.
        let (work, inbox) = bounded(threads_max.max(1));
        Relays {
            threads_max,
            threads: Arc::default(),
            idle: Arc::default(),
            work,
            inbox,
            write_timeout,
            closing: Arc::default(),
            listed: Arc::default(),
            recalled: Arc::default(),
            tunnels: Arc::default(),
        }
    }

    /// The tunnels that relay threads have now.
    pub fn under_way(&self) -> Vec<Request> {
        let listed = self.listed.lock();
        let aged = listed.values().map(|(since, request)| Request {
            age_ms: request.age_ms + u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..request.clone()
        });
        aged.collect()
    }

    /// Takes a tunnel over. Gives it back at once if there are not two threads for it.
    pub fn start(
        &self,
        connection: Box<Connection>,
        upstream: Upstream,
        give_back: GiveBack,
    ) -> Result<(), Returned> {
        if self.recalled.load(Relaxed) || !self.reserve(2) {
            return Err(Returned {
                connection,
                upstream,
            });
        }
        let relayed = Arc::new(Relayed::new(self, connection, upstream, give_back));
        for side in [Side::ToWorker, Side::ToClient] {
            let relayed = relayed.clone();
            self.run(Box::new(move || {
                relayed.copy(side);
                if let Some(last) = Arc::into_inner(relayed) {
                    last.finish();
                }
            }));
        }
        Ok(())
    }

    /// Gives every tunnel back to its pool thread, and takes none until [`Relays::resume`]. False if
    /// some are not back in time.
    pub fn recall(&self, deadline: Instant) -> bool {
        self.recalled.store(true, Relaxed);
        while self.tunnels.load(Relaxed) > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(RECALL_LOOK);
        }
        true
    }

    /// Takes tunnels again.
    pub fn resume(&self) {
        self.recalled.store(false, Relaxed);
    }

    /// Ends all relayed tunnels soon.
    pub fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Makes sure that `count` threads are free or may be started.
    fn reserve(&self, count: usize) -> bool {
        // A thread that goes idle or ends in between only makes more room than was seen.
        self.idle.load(Relaxed) + self.threads_max.saturating_sub(self.threads.load(Relaxed))
            >= count
    }

    /// Gives work to an idle thread, or to a new one.
    fn run(&self, work: Work) {
        let taken = self
            .idle
            .fetch_update(Relaxed, Relaxed, |idle| idle.checked_sub(1))
            .is_ok();
        if taken {
            // An idle thread that counted itself waits for exactly this.
            if self.work.send(work).is_err() {
                warn!("a relay thread is gone");
            }
            return;
        }
        self.threads.fetch_add(1, Relaxed);
        let (threads, idle, inbox) = (self.threads.clone(), self.idle.clone(), self.inbox.clone());
        let spawned = thread::Builder::new()
            .name("relay".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                work();
                while let Some(next) = next_work(&idle, &inbox) {
                    next();
                }
                threads.fetch_sub(1, Relaxed);
            });
        if let Err(e) = spawned {
            // The closure is dropped with what it held: the tunnel ends by reset.
            self.threads.fetch_sub(1, Relaxed);
            warn!("cannot start a relay thread: {e}");
        }
    }
}

/// Waits for more work; None when none came and nobody has promised any.
fn next_work(idle: &AtomicUsize, inbox: &Receiver<Work>) -> Option<Work> {
    idle.fetch_add(1, Relaxed);
    loop {
        if let Ok(work) = inbox.recv_timeout(KEPT) {
            return Some(work);
        }
        // Uncount ourselves; if that fails, somebody has and his work is on its way.
        let left = idle.fetch_update(Relaxed, Relaxed, |idle| idle.checked_sub(1));
        if left.is_ok() {
            return None;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    ToWorker,
    ToClient,
}

/// A tunnel while two threads copy it.
struct Relayed {
    connection: Box<Connection>,
    upstream: Upstream,
    /// Behind a lock only because a closure cannot be shared; the last thread takes it.
    give_back: Mutex<GiveBack>,
    /// What each direction came to; written by its thread.
    ends: [Mutex<Half>; 2],
    began: Instant,
    /// Milliseconds since `began` when a byte last moved; written by both threads.
    active_ms: AtomicU64,
    /// One direction has left for the quiet: the other one follows.
    parking: AtomicBool,
    /// Directions whose reader takes nothing at the moment: those are not quiet.
    stuck: AtomicUsize,
    write_timeout: Duration,
    closing: Arc<AtomicBool>,
    _listing: Option<Listing>,
    recalled: Arc<AtomicBool>,
    counted: Counted,
}

/// Counts a relayed tunnel, until its pool thread has been told of it.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(gauge: &Arc<AtomicUsize>) -> Counted {
        gauge.fetch_add(1, Relaxed);
        Counted(Arc::clone(gauge))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// One direction's state, before and after.
struct Half {
    direction: Direction,
    outbox: Outbox,
    broken: bool,
    /// Sent while the threads had it.
    bytes: u64,
}

impl Relayed {
    fn new(
        relays: &Relays,
        mut connection: Box<Connection>,
        mut upstream: Upstream,
        give_back: GiveBack,
    ) -> Self {
        let (to_worker, to_client) = match &connection.phase {
            Phase::Tunnel(tunnel) => (tunnel.to_worker, tunnel.to_client),
            Phase::Idle | Phase::Head(_) | Phase::Exchange(_) | Phase::Lingering { .. } => {
                (Direction::Ended, Direction::Ended)
            }
        };
        let half = |direction, outbox: &mut Outbox| {
            Mutex::new(Half {
                direction,
                outbox: std::mem::take(outbox),
                broken: false,
                bytes: 0,
            })
        };
        let ends = [
            half(to_worker, &mut upstream.outbox),
            half(to_client, &mut connection.client.outbox),
        ];
        let listing = match &connection.phase {
            Phase::Tunnel(tunnel) => Some(Listed::add(&relays.listed, tunnel.told(monotonic_us()))),
            Phase::Idle | Phase::Head(_) | Phase::Exchange(_) | Phase::Lingering { .. } => None,
        };
        Relayed {
            connection,
            upstream,
            give_back: Mutex::new(give_back),
            ends,
            began: Instant::now(),
            active_ms: AtomicU64::new(0),
            parking: AtomicBool::new(false),
            stuck: AtomicUsize::new(0),
            write_timeout: relays.write_timeout,
            closing: relays.closing.clone(),
            _listing: listing,
            recalled: relays.recalled.clone(),
            counted: Counted::new(&relays.tunnels),
        }
    }

    fn sockets(&self, side: Side) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        let client = self.connection.client.socket.as_fd();
        let worker = self.upstream.socket.as_fd();
        match side {
            Side::ToWorker => (client, worker),
            Side::ToClient => (worker, client),
        }
    }

    /// Copies one direction until it ends, breaks, or both are quiet.
    fn copy(&self, side: Side) {
        let end = &self.ends[match side {
            Side::ToWorker => 0,
            Side::ToClient => 1,
        }];
        let mut half = end.lock().unwrap_or_else(PoisonError::into_inner);
        let (source, reader) = self.sockets(side);
        let mut bytes = 0;
        let copied = self.copy_half(&mut half, source, reader, &mut bytes);
        half.bytes = bytes;
        if let Err(e) = copied {
            debug!("relay: {e}");
            half.broken = true;
            // Wakes the other direction, which waits on the same two sockets.
            socket::shutdown(source, socket::End::Both);
            socket::shutdown(reader, socket::End::Both);
        }
    }

    fn copy_half(
        &self,
        half: &mut Half,
        source: BorrowedFd<'_>,
        reader: BorrowedFd<'_>,
        bytes: &mut u64,
    ) -> io::Result<()> {
        let mut to = DeadlineWriter {
            relayed: self,
            fd: reader,
            kept: Vec::new(),
            bytes,
        };
        let waiting = half.outbox.take();
        to.write_all(&waiting)?;
        // These were counted when they were read.
        *to.bytes = 0;
        drop(waiting);
        if half.direction == Direction::Open {
            let mut quiet = false;
            let from = DeadlineReader {
                relayed: self,
                fd: source,
                quiet: &mut quiet,
            };
            io::copy(&mut BufReader::with_capacity(MOVE_BYTES, from), &mut to)?;
            if !quiet {
                half.direction = Direction::Ending;
            }
        }
        if half.direction == Direction::Ending && to.kept.is_empty() {
            socket::shutdown(reader, socket::End::Write);
            half.direction = Direction::Ended;
        }
        half.outbox = Outbox::holding(to.kept);
        Ok(())
    }

    fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_ms.store(now, Relaxed);
    }

    /// Sends both directions home if nothing has moved for a while, in either, and nothing waits
    /// to.
    fn look_for_quiet(&self) {
        let active = Duration::from_millis(self.active_ms.load(Relaxed));
        let silent = self.began.elapsed().saturating_sub(active) >= QUIET;
        if silent && self.stuck.load(Relaxed) == 0 {
            self.parking.store(true, Relaxed);
        }
    }

    /// It is to be parked again.
    fn goes_home(&self) -> bool {
        self.parking.load(Relaxed) || self.recalled.load(Relaxed)
    }

    fn check_open(&self) -> io::Result<()> {
        if self.closing.load(Relaxed) {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        }
        Ok(())
    }

    /// Both threads have left: the tunnel ends, or goes back to its pool thread.
    fn finish(self) {
        let Relayed {
            mut connection,
            mut upstream,
            give_back,
            ends,
            counted: _counted,
            ..
        } = self;
        let [up, down] = ends.map(|e| e.into_inner().unwrap_or_else(PoisonError::into_inner));
        if let Phase::Tunnel(tunnel) = &mut connection.phase {
            tunnel.count(up.bytes, down.bytes);
            tunnel.to_worker = up.direction;
            tunnel.to_client = down.direction;
            tunnel.note_end();
            if up.broken || down.broken {
                tunnel.close(End::Tunnel(CloseReason::TunnelEnded));
            }
        }
        if up.broken || down.broken {
            socket::reset_on_close(connection.client.socket.as_fd());
            socket::reset_on_close(upstream.socket.as_fd());
            return;
        }
        if up.direction == Direction::Ended && down.direction == Direction::Ended {
            return;
        }
        upstream.intake = Default::default();
        connection.client.intake = Default::default();
        let give_back = give_back
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        give_back(Returned {
            connection,
            upstream,
        });
    }
}

/// Reads for `std::io::copy`; end of file also when both directions are quiet.
struct DeadlineReader<'a> {
    relayed: &'a Relayed,
    fd: BorrowedFd<'a>,
    quiet: &'a mut bool,
}

impl Read for DeadlineReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if self.relayed.goes_home() {
                *self.quiet = true;
                return Ok(0);
            }
            match socket::recv(self.fd, buf) {
                Ok(n) => {
                    self.relayed.touch();
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            if !socket::wait_ready(self.fd, false, GLANCE)? {
                self.relayed.check_open()?;
                self.relayed.look_for_quiet();
            }
        }
    }
}

/// Writes for `std::io::copy`, each write under the write timeout.
struct DeadlineWriter<'a> {
    relayed: &'a Relayed,
    fd: BorrowedFd<'a>,
    /// What did not fit when the tunnel was on its way back to the pool.
    kept: Vec<u8>,
    bytes: &'a mut u64,
}

impl Write for DeadlineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.take(bytes)?;
        *self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DeadlineWriter<'_> {
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match socket::send(self.fd, bytes) {
            Ok(n) => {
                self.relayed.touch();
                Ok(n)
            }
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
            Err(_) if self.relayed.goes_home() => Ok(self.keep(bytes)),
            Err(_) => {
                self.relayed.stuck.fetch_add(1, Relaxed);
                let sent = self.write_when_ready(bytes);
                self.relayed.stuck.fetch_sub(1, Relaxed);
                sent
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> usize {
        self.kept.extend_from_slice(bytes);
        bytes.len()
    }

    fn write_when_ready(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut began = Instant::now();
        let mut untaken = socket::untaken(self.fd)?;
        let timeout = self.relayed.write_timeout;
        loop {
            if !socket::wait_ready(self.fd, true, GLANCE)? {
                self.relayed.check_open()?;
                if self.relayed.recalled.load(Relaxed) {
                    return Ok(self.keep(bytes));
                }
            }
            match socket::send(self.fd, bytes) {
                Ok(n) => {
                    self.relayed.touch();
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            if !timeout.is_zero() && began.elapsed() >= timeout {
                // A slow reader frees the buffer long before the socket counts as writable.
                let now = socket::untaken(self.fd)?;
                if now < std::mem::replace(&mut untaken, now) {
                    began = Instant::now();
                    continue;
                }
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
        }
    }
}
