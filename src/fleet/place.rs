//! A worker's place as the supervisor keeps it: the pure worker, and what of the machine belongs
//! to it over its lives. Only the supervisor thread touches it.

use crate::fleet::app::{App, Version};
use crate::fleet::hang::{Cause, Vigil};
use crate::fleet::life::LifeKey;
use crate::fleet::message::Stats;
use crate::fleet::probe::Probe;
use crate::fleet::scale::Meter;
use crate::fleet::spec::Launch;
use crate::fleet::status::{Condition, DEATHS_MAX, Death, Ending, Open, WorkerStatus};
use crate::fleet::worker::{Starting, State, Worker};
use front::as_json;
use front::channel::Sender;
use front::gauges::WorkerGauges;
use front::order;
use front::roster::{self, Availability, Door, Drain, Roster, Slot};
use front::sys::clock::monotonic_ms;
use front::sys::process::Pid;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a Node worker may take to say that it listens before we look whether it accepts: one
/// that has the hook need not see a connection that is no client's.
const NODE_PROBE_AFTER: Duration = Duration::from_secs(1);

/// A worker that drains is done when it has had neither a WebSocket nor a request for this long: the
/// next poll of a session comes at once, and Socket.IO's clients are elsewhere within 1.5 s, where what
/// they have missed may be fetched from here.
const DRAIN_QUIET: Duration = Duration::from_secs(2);

/// How long nobody may be there before a replaced worker counts as done with: the clients of a
/// reload's old workers are not sent away, so they are given time between two requests.
const REPLACED_QUIET: Duration = Duration::from_secs(3);

/// When the clients that are left of a replaced worker have been sent away, this long before its
/// `drain_timeout`, or a quarter of that: Socket.IO's come back within 1.5 s, and the worker that they come to
/// may fetch from here what they have missed.
const SEND_AWAY_SLACK: Duration = Duration::from_secs(3);

/// How a worker stands to its app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Member,
    /// It has still to prove itself: nobody but the supervisor knows of it.
    Newcomer,
    /// It goes for good, and its place with it.
    Leaver,
}

as_json!(
    enum Standing {
        Member,
        Newcomer,
        Leaver,
    }
);

/// What the roster says of a worker and what can change: a new roster is published when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    slot: Slot,
    standing: Standing,
    availability: Availability,
    life: u32,
    takes_connections: bool,
    drain: Option<Drain>,
    errored: bool,
}

/// A worker that is taken for hung, and what is being done about it.
pub struct Suspicion {
    pub cause: Cause,
    pub since: Instant,
    /// For the last lines of its stderr.
    pub words: Sender<Vec<String>>,
    pub file: Option<PathBuf>,
}

impl Suspicion {
    pub fn into_file(self) -> Option<PathBuf> {
        self.file
    }
}

/// A connection that a worker has still to take.
pub struct Knock {
    pub probe: Probe,
    pub since: Instant,
}

pub struct Place {
    /// Index of its app.
    pub app: usize,
    pub app_name: Arc<str>,
    pub slot: Slot,
    pub instance: u32,
    pub version: Arc<Version>,
    pub standing: Standing,
    /// `chat.0`, as logs say it.
    pub name: Arc<str>,
    pub socket: Arc<Path>,
    /// Kept over all lives. None for programs that bind the socket themselves.
    pub listener: Option<OwnedFd>,
    pub gauges: Arc<WorkerGauges>,
    pub worker: Worker,
    pub probe: Option<Probe>,
    /// The channel ended while the process lived on.
    pub channel_lost: bool,
    /// The hook has said that it listens, so it can take connections too.
    pub hooked: bool,
    /// The way to hand connections to this life.
    pub door: Option<Arc<dyn Door>>,
    /// How its connections are spread, if it drains.
    pub drain: Option<Drain>,
    /// When those are sent away that have not left a replaced worker by themselves.
    pub send_away_at: Option<Instant>,
    /// When one that is waited for without a deadline gets nothing any more, not even of its sessions:
    /// it only finishes. Otherwise a client with a cookie could keep it for ever.
    pub last_call: Option<Instant>,
    pub closed: bool,
    /// Since when nobody is left that it serves, while it drains.
    pub quiet_since: Option<Instant>,
    /// Why we killed it, if we did.
    pub sentence: Option<String>,
    /// What the watch remembers of this life.
    pub vigil: Vigil,
    pub suspicion: Option<Suspicion>,
    pub knock: Option<Knock>,
    /// How often this place's worker has been replaced by another of its version.
    pub renewals: u32,
    /// Since when it has held more memory than it may.
    pub over_since: Option<Instant>,
    pub condition: Condition,
    pub since: SystemTime,
    pub deaths: VecDeque<Death>,
    pub stats: Option<Stats>,
    /// What it was busy with when it was looked at last, if its app is scaled.
    pub meter: Option<Meter>,
}

impl Place {
    pub fn new(
        app: usize,
        owner: &App,
        slot: Slot,
        instance: u32,
        socket: Arc<Path>,
        listener: Option<OwnedFd>,
        now: Instant,
    ) -> Place {
        Place {
            app,
            app_name: Arc::clone(&owner.name),
            slot,
            instance,
            version: Arc::clone(&owner.version),
            standing: Standing::Member,
            name: Arc::from(format!("{}.{instance}", owner.name)),
            socket,
            listener,
            gauges: Arc::new(WorkerGauges {
                app: Arc::clone(&owner.gauges),
                ..WorkerGauges::default()
            }),
            worker: Worker::new(now),
            probe: None,
            channel_lost: false,
            hooked: false,
            door: None,
            drain: None,
            send_away_at: None,
            last_call: None,
            closed: false,
            quiet_since: None,
            sentence: None,
            vigil: Vigil::begin(now),
            suspicion: None,
            knock: None,
            renewals: 0,
            over_since: None,
            condition: Condition::Waiting,
            since: SystemTime::now(),
            deaths: VecDeque::new(),
            stats: None,
            meter: None,
        }
    }

    pub fn key(&self) -> LifeKey {
        LifeKey {
            slot: self.slot,
            life: self.worker.life,
        }
    }

    /// Whether connections can be handed to this life.
    pub fn takes_connections(&self) -> bool {
        self.hooked && !self.channel_lost
    }

    pub fn shown(&self) -> Shown {
        Shown {
            slot: self.slot,
            standing: self.standing,
            availability: self.availability(),
            life: self.worker.life,
            takes_connections: self.takes_connections(),
            drain: self.drain,
            errored: self.worker.errored(&self.version.rules),
        }
    }

    pub fn availability(&self) -> Availability {
        if self.closed {
            return Availability::Down;
        }
        let rules = &self.version.rules;
        self.worker.availability(rules, self.listener.is_some())
    }

    /// A new life has begun.
    pub fn begin_life(&mut self, now: Instant) {
        let first_look = match self.version.spec.launch {
            Launch::Node { .. } | Launch::NodeShell { .. } => now + NODE_PROBE_AFTER,
            Launch::Program { .. } => now,
        };
        self.probe = Some(Probe::new(first_look));
        self.channel_lost = false;
        self.hooked = false;
        self.door = None;
        self.drain = None;
        self.send_away_at = None;
        self.last_call = None;
        self.closed = false;
        self.quiet_since = None;
        self.sentence = None;
        self.stats = None;
        self.vigil = Vigil::begin(now);
        self.suspicion = None;
        self.knock = None;
        self.over_since = None;
        self.meter = None;
    }

    /// When the supervisor has to look at this worker next.
    pub fn deadline(&self) -> Option<Instant> {
        let look = match self.worker.state {
            State::Starting(Starting { listens: false, .. }) => self.probe.as_ref().map(Probe::due),
            State::Starting(_)
            | State::Waiting { .. }
            | State::Spawning
            | State::Ready { .. }
            | State::Closed { .. }
            | State::Draining { .. }
            | State::Condemned { .. }
            | State::Stopping { .. }
            | State::Leaving { .. }
            | State::Stopped => None,
        };
        [look, self.worker.deadline()].into_iter().flatten().min()
    }

    /// The connections that it has now are to end, spread over time; returns over how long.
    pub fn begin_drain(&mut self) -> Duration {
        self.send_away_at = None;
        let spread = self.drain_spread();
        self.drain = Some(Drain {
            began_ms: monotonic_ms(),
            spread_ms: u64::try_from(spread.as_millis()).unwrap_or(u64::MAX),
            by_relay: !self.takes_connections(),
        });
        spread
    }

    /// It has been replaced: those that it serves may stay, until those that are left have to be
    /// sent away so that nobody is there any more at `drain_timeout`.
    pub fn begin_farewell(&mut self, now: Instant) {
        let time = self.version.rules.drain_timeout;
        let ahead = self.drain_spread() + SEND_AWAY_SLACK.min(time / 4);
        self.send_away_at = Some(now + time.saturating_sub(ahead));
        if let State::Draining { until: None, .. } = self.worker.state {
            self.last_call = Some(now + time);
        }
    }

    fn drain_spread(&self) -> Duration {
        let open = Open::of(&self.gauges).count();
        self.version.rules.drain_spread(open)
    }

    /// While it drains: whether nobody has been there for a while.
    pub fn look_for_quiet(&mut self, now: Instant) -> bool {
        // Who has a session by a cookie shows nothing of it between two requests.
        let waits_on = self.send_away_at.is_some() && !self.version.spec.session_cookies.is_empty();
        if waits_on || Open::of(&self.gauges).count() > 0 {
            self.quiet_since = None;
            return false;
        }
        let since = *self.quiet_since.get_or_insert(now);
        let quiet = match self.standing {
            Standing::Leaver => REPLACED_QUIET,
            Standing::Member | Standing::Newcomer => DRAIN_QUIET,
        };
        now.duration_since(since) >= quiet
    }

    pub fn remember_death(&mut self, death: Death) {
        if self.deaths.len() == DEATHS_MAX {
            self.deaths.pop_front();
        }
        self.deaths.push_back(death);
    }

    /// Takes the place of one that has been replaced: its past goes on.
    pub fn succeed(&mut self, old: &Place, why: String) {
        self.standing = Standing::Member;
        self.renewals = old.renewals + old.worker.life;
        self.deaths = old.deaths.clone();
        self.remember_death(Death {
            at: SystemTime::now(),
            life: old.worker.life,
            pid: old.worker.pid().map(Pid::number),
            reason: why,
            ending: Ending::Outgrown,
            autopsy: None,
        });
    }

    /// Notes since when the condition is what it is; true if it has changed.
    pub fn note_condition(&mut self) -> bool {
        let errored = self.worker.errored(&self.version.rules);
        let condition = Condition::of(&self.worker.state, errored);
        if condition == self.condition {
            return false;
        }
        self.condition = condition;
        self.since = SystemTime::now();
        true
    }

    pub fn status(&self, app_was_ready: bool) -> WorkerStatus {
        WorkerStatus {
            app_was_ready,
            app: Arc::clone(&self.app_name),
            slot: self.slot,
            instance: self.instance,
            member: self.standing == Standing::Member,
            life: self.worker.life,
            condition: self.condition,
            since: self.since,
            pid: self.worker.pid().map(|pid| pid.number()),
            restarts: self.worker.life.saturating_sub(1) + self.renewals,
            deaths: self.deaths.iter().cloned().collect(),
            memory_max: self.version.rules.memory_max,
            stats: self.stats,
        }
    }

    pub fn published(&self) -> roster::Worker {
        let open = self.version.spec.hand_off && self.takes_connections();
        roster::Worker {
            slot: self.slot,
            life: self.worker.life,
            instance: self.instance,
            socket: Arc::clone(&self.socket),
            availability: self.availability(),
            drain: self.drain,
            gauges: Arc::clone(&self.gauges),
            door: self.door.clone().filter(|_| open),
        }
    }
}

/// The roster of this moment: the apps in their order, then those that were removed and still have
/// somebody to serve. `asleep` says which of them have nobody, and would get a worker if asked for.
pub fn roster(
    apps: &[App],
    places: &[Place],
    asleep: impl Fn(usize) -> Option<roster::Asleep>,
) -> Roster {
    let mut order: Vec<(usize, &App)> = apps.iter().enumerate().collect();
    order::sort_by_key(&mut order, |(_, app)| app.rank.unwrap_or(usize::MAX));
    let published = order.into_iter().filter_map(|(index, app)| {
        let known = |place: &&Place| place.app == index && place.standing != Standing::Newcomer;
        let of_app = places.iter().filter(known);
        let workers: Vec<roster::Worker> = of_app.map(Place::published).collect();
        (app.rank.is_some() || !workers.is_empty()).then(|| app.published(workers, asleep(index)))
    });
    Roster {
        apps: published.collect(),
    }
}
