//! The roster: the published list of apps and of their workers that can serve. No I/O.
//!
//! The supervisor builds a whole new [`Roster`] at every change and publishes it on the
//! [`Board`]. Request threads keep a [`View`] each, which looks at one atomic number a batch and
//! takes the lock only when that number has moved; nothing is ever changed in place.

mod key;
mod last_words;
mod returning;
pub mod traffic;

pub use key::Key;
pub use last_words::LastWords;
pub use returning::{Carried as CarriedReturning, Looks, Returning};
pub use traffic::Traffic;

use crate::as_json;
use crate::gauges::{AppGauges, WorkerGauges};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Identifies a worker's place for the whole run of sidekeeper: unique over all apps, kept over
/// the worker's series of lives, never used again for another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

as_json!(struct Slot(_));

/// Whether a worker may be given requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Ready: it may get anything.
    Serving,
    /// Its sessions are served, new sessions go elsewhere (reload, scale-down).
    Draining,
    /// Not ready yet, but its listener exists: a connection waits in the backlog and is served
    /// when the worker is up. Used only when no worker of the app is `Serving`.
    Coming,
    /// Has no listener, or keeps dying: nothing is sent to it.
    Down,
}

/// A client's connection that is offered to a worker's own process.
pub struct Offer {
    pub socket: OwnedFd,
    /// By what the client is known again when it has lost this connection.
    pub looks: Looks,
    /// The request's head as the worker is to see it, and the bytes that came behind it.
    pub head: Vec<u8>,
    /// What the worker is to add to its answer, as the value of a `Set-Cookie`.
    pub cookie: Option<String>,
    /// Called once, on a thread that must not be held up.
    pub answer: Box<dyn FnOnce(Verdict) + Send>,
}

/// What became of an offer.
#[derive(Debug)]
pub enum Verdict {
    /// The worker has the connection; our copy is closed.
    Taken,
    /// The worker has not taken it and will not: nothing has been read from it or written to it.
    Back(OwnedFd),
}

/// The way to hand connections to one life of a worker. The fleet makes it, the data plane uses
/// it; neither knows the other.
pub trait Door: Send + Sync + fmt::Debug {
    /// Passes an offer on, without waiting. It is given back at once if the worker does not keep
    /// up with those before it, or has gone.
    fn offer(&self, offer: Offer) -> Result<(), Offer>;
}

/// How the connections of a worker that leaves are spread over time: each has a moment of its own, so
/// that their clients come back one by one and not all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When it began, in milliseconds of `CLOCK_MONOTONIC`.
    pub began_ms: u64,
    /// Over how long it is spread.
    pub spread_ms: u64,
    /// The worker cannot end its WebSockets itself: whoever relays them does.
    pub by_relay: bool,
}

as_json!(struct Drain { began_ms, spread_ms, by_relay });

impl Drain {
    /// When a connection or session has to go; `lot` is any number that is its own.
    pub fn due_ms(&self, lot: u64) -> u64 {
        // The high half of a product of two 64-bit numbers: `lot` scaled to the spread.
        let part = (u128::from(mixed(lot)) * u128::from(self.spread_ms)) >> 64;
        self.began_ms
            .saturating_add(u64::try_from(part).unwrap_or(self.spread_ms))
    }
}

/// The finalizer of SplitMix64: every input bit changes half of the output bits.
pub fn mixed(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Tells the supervisor that a request waits for a worker of an app that has none. Must not wait.
#[derive(Clone)]
pub struct Waker(pub Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// An app without a worker, which gets one as soon as it is asked for.
#[derive(Clone, Debug)]
pub struct Asleep {
    pub waker: Waker,
    /// How long a request may wait for it.
    pub patience: std::time::Duration,
}

/// One worker as the request threads see it.
#[derive(Clone, Debug)]
pub struct Worker {
    pub slot: Slot,
    /// Counts the lives of the slot, from 1. A session belongs to one life.
    pub life: u32,
    /// pm2's instance number: 0-based within the app.
    pub instance: u32,
    /// Path of the worker's Unix socket.
    pub socket: Arc<Path>,
    pub availability: Availability,
    /// Some if it is `Draining`.
    pub drain: Option<Drain>,
    pub gauges: Arc<WorkerGauges>,
    /// None: WebSockets are relayed.
    pub door: Option<Arc<dyn Door>>,
}

/// How a worker is chosen when no session decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    #[default]
    RoundRobin,
    LeastBusy,
    /// Two by lot, then the less busy one.
    RandomTwo,
    IpHash,
}

as_json!(
    enum Policy {
        RoundRobin,
        LeastBusy,
        RandomTwo,
        IpHash,
    }
);

/// Which requests belong to an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Path prefix that begins with `/` and does not end in one; empty: the default app.
    pub path: String,
    /// Host names, lower case, without port; empty: any.
    pub hosts: Vec<String>,
}

as_json!(struct Routes { path, hosts });

/// One app as the request threads see it.
#[derive(Clone, Debug)]
pub struct App {
    pub name: Arc<str>,
    /// None: it has been removed, and its workers only finish what they have begun.
    pub routes: Option<Routes>,
    pub policy: Policy,
    /// Names of cookies that the app sets and that bind a client to a worker.
    pub session_cookies: Arc<[String]>,
    /// Name of the cookie that we set to bind a browser to a worker; None: none is set.
    pub affinity_cookie: Option<Arc<str>>,
    /// Seconds that a worker may be silent before the first byte of an answer; None: the default.
    pub answer_timeout: Option<std::time::Duration>,
    /// Bytes of a request's body, 0: any; None: the default.
    pub body_bytes_max: Option<u64>,
    pub workers: Vec<Worker>,
    /// Some: no worker is there that takes new requests, but one comes if a request waits for it.
    pub asleep: Option<Asleep>,
    pub gauges: Arc<AppGauges>,
    /// The round-robin cursor; shared by all rosters that hold this app.
    pub turn: Arc<AtomicUsize>,
}

/// A whole state of the fleet. Apps stand in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    pub apps: Vec<App>,
}

impl Roster {
    /// The app and the worker that hold `slot`.
    pub fn find(&self, slot: Slot) -> Option<(&App, &Worker)> {
        self.apps.iter().find_map(|app| {
            app.workers
                .iter()
                .find(|w| w.slot == slot)
                .map(|w| (app, w))
        })
    }
}

/// Wakes one that waits and would not look at the board otherwise. Must not wait itself.
pub type Bell = Box<dyn Fn() + Send>;

/// Where the supervisor publishes and the request threads look.
#[derive(Default)]
pub struct Board {
    version: AtomicU64,
    current: Mutex<Arc<Roster>>,
    bells: Mutex<Vec<Bell>>,
    returning: Arc<Returning>,
    last_words: LastWords,
    traffic: OnceLock<Arc<dyn Traffic>>,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Board(version {})", self.version.load(Ordering::Relaxed))
    }
}

impl Board {
    /// A board that nothing has been published on, with what an earlier one knew of clients.
    pub fn knowing(returning: CarriedReturning) -> Board {
        Board {
            returning: Arc::new(Returning::from(returning)),
            ..Board::default()
        }
    }

    /// Replaces the roster. Called by the supervisor only.
    pub fn publish(&self, roster: Roster) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(roster);
        self.version.fetch_add(1, Ordering::Release);
        for bell in self.bells().iter() {
            bell();
        }
    }

    /// Clients that have just lost their connection.
    pub fn returning(&self) -> &Arc<Returning> {
        &self.returning
    }

    /// What workers have said last.
    pub fn last_words(&self) -> &LastWords {
        &self.last_words
    }

    /// Who knows of requests; set once, by whoever serves.
    pub fn set_traffic(&self, traffic: Arc<dyn Traffic>) {
        // A second server on one board would be a mistake that no request suffers from.
        let _ = self.traffic.set(traffic);
    }

    /// Who can be asked about requests; None before anything is served.
    pub fn traffic(&self) -> Option<&Arc<dyn Traffic>> {
        self.traffic.get()
    }

    /// Has `bell` called after each change from now on.
    pub fn ring_at_change(&self, bell: Bell) {
        self.bells().push(bell);
    }

    fn bells(&self) -> std::sync::MutexGuard<'_, Vec<Bell>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The roster of this moment.
    pub fn latest(&self) -> Arc<Roster> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// One thread's copy of the roster.
#[derive(Debug)]
pub struct View {
    board: Arc<Board>,
    version: u64,
    roster: Arc<Roster>,
}

impl View {
    pub fn new(board: Arc<Board>) -> Self {
        // The version is read first: a roster published in between is then taken again.
        let version = board.version.load(Ordering::Acquire);
        let roster = board.latest();
        View {
            board,
            version,
            roster,
        }
    }

    /// Takes the newest roster if there is one; true if there was.
    pub fn refresh(&mut self) -> bool {
        let version = self.board.version.load(Ordering::Acquire);
        if version == self.version {
            return false;
        }
        self.version = version;
        self.roster = self.board.latest();
        true
    }

    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// See [`Board::last_words`].
    pub fn last_words(&self) -> &LastWords {
        self.board.last_words()
    }

    /// See [`Board::returning`].
    pub fn returning(&self) -> &Arc<Returning> {
        self.board.returning()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_spread_over_its_time() {
        let drain = Drain {
            began_ms: 1000,
            spread_ms: 400,
            by_relay: true,
        };
        let mut quarters = [0; 4];
        for lot in 0..4000 {
            let due_ms = drain.due_ms(lot);
            assert!((1000..1400).contains(&due_ms));
            quarters[usize::try_from(due_ms - 1000).expect("small") / 100] += 1;
        }
        assert!(
            quarters.iter().all(|n| (900..1100).contains(n)),
            "{quarters:?}"
        );
    }

    #[test]
    fn a_view_takes_a_new_roster_once() {
        let board = Arc::new(Board::default());
        let mut view = View::new(board.clone());
        assert!(!view.refresh());
        board.publish(Roster::default());
        assert!(view.refresh());
        assert!(!view.refresh());
    }
}
