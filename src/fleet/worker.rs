//! What a worker is and what becomes of it: a pure function of state, event and time. It does
//! nothing itself; the supervisor (the only thread that uses it) carries out the actions it
//! returns, and reports back what happened as events.
//!
//! ```text
//!              Clock            Spawned            listens (and said ready)
//!   Waiting ----------> Spawning ------> Starting -----------------------> Ready
//!    ^  ^                  |              |    | listen_timeout           ^  | Closed
//!    |  |    SpawnFailed   |              |    v                  Listens |  v
//!    |  +------------------+              |  Condemned <---------------- Closed
//!    |                                    |    |        CLOSED_TIME_MAX     |
//!    +------------------------------------+----+----------------------------+ Died
//!
//!   Hung:  Ready -> Condemned, as a life that had served; Draining -> Stopping, by SIGKILL
//!   Drain: Ready -> Draining -> (Drained, drain_timeout) -> Stopping; any other state as with Stop
//!   Spare: as Drain, without drain_timeout: whoever still serves is waited for
//!   Stop:  Waiting -> Stopped
//!          any state with a process -> Stopping -> (Died) -> Stopped
//!                                         |  Died, but others of its group live
//!                                         +------> Leaving -> (GroupGone) -> Stopped
//! ```
//!
//! Restart: as Stop, but a new life follows: what would be Stopped is Waiting, due at once.
//!
//! A *life* is one process of a worker, counted from 1. Events carry the life or the process they
//! speak of; one about an earlier life changes nothing.

mod event;
mod leaving;
mod serving;
#[cfg(test)]
mod tests;

pub use event::{Action, Event, Next};

use crate::fleet::rules::Rules;
use front::as_json;
use front::roster::Availability;
use front::sys::process::Pid;
use std::time::{Duration, Instant};

/// How often SIGKILL is repeated and complained about.
const KILL_REPEAT: Duration = Duration::from_secs(5);

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Asked over the channel.
    Message,
    /// SIGTERM to the group.
    Terminate,
    /// SIGKILL to the group.
    Kill,
}

as_json!(
    enum Rung {
        Message,
        Terminate,
        Kill,
    }
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No process; the next life begins at `until`.
    Waiting {
        until: Instant,
    },
    /// The supervisor is starting a process.
    Spawning,
    /// A process runs and does not serve yet.
    Starting(Starting),
    Ready {
        pid: Pid,
        since: Instant,
    },
    /// The app has closed its server by itself. It may listen again, or is about to end.
    /// `steady`: it had served for `min_uptime`.
    Closed {
        pid: Pid,
        until: Instant,
        steady: bool,
    },
    /// It serves those that it has, who are sent away one by one; then it is stopped, and at `until`
    /// in any case, if there is one.
    Draining {
        pid: Pid,
        until: Option<Instant>,
    },
    /// Sent SIGKILL because it did not serve; ends any moment. `steady`: it had served before.
    Condemned {
        pid: Pid,
        until: Instant,
        steady: bool,
    },
    Stopping {
        pid: Pid,
        rung: Rung,
        until: Instant,
    },
    /// The worker has ended while it was stopping, others of its group have not yet.
    Leaving {
        group: Pid,
        rung: Rung,
        until: Instant,
    },
    /// No process, and none will be started.
    Stopped,
}

as_json!(enum State {
    Waiting { until }, Spawning, Starting(a), Ready { pid, since }, Closed { pid, until, steady },
    Draining { pid, until }, Condemned { pid, until, steady }, Stopping { pid, rung, until },
    Leaving { group, rung, until }, Stopped
});

/// A process that does not serve yet, and what it still owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starting {
    pub pid: Pid,
    pub began: Instant,
    pub deadline: Instant,
    pub listens: bool,
    /// Always so unless the app asked for `wait_ready`.
    pub said_ready: bool,
}

as_json!(struct Starting { pid, began, deadline, listens, said_ready });

/// A worker over its series of lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub state: State,
    /// The current life; between two lives the coming one, so that the sessions of the dead one
    /// are known to be lost at once.
    pub life: u32,
    /// Failed lives in a row: those that were not ready for `min_uptime`.
    pub failures: u32,
    /// A new life follows the stop that is under way.
    pub again: bool,
}

as_json!(struct Worker { state, life, failures, again });

impl Worker {
    /// A worker whose first life is due at once.
    pub fn new(now: Instant) -> Worker {
        Worker {
            state: State::Waiting { until: now },
            life: 1,
            failures: 0,
            again: false,
        }
    }

    /// The process, in states that have one.
    pub fn pid(&self) -> Option<Pid> {
        match self.state {
            State::Starting(Starting { pid, .. })
            | State::Ready { pid, .. }
            | State::Closed { pid, .. }
            | State::Draining { pid, .. }
            | State::Condemned { pid, .. }
            | State::Stopping { pid, .. } => Some(pid),
            State::Waiting { .. } | State::Spawning | State::Leaving { .. } | State::Stopped => {
                None
            }
        }
    }

    /// The group that must be killed if we die.
    pub fn group(&self) -> Option<Pid> {
        if let State::Leaving { group, .. } = self.state {
            Some(group)
        } else {
            self.pid()
        }
    }

    /// Whether the rest of the group is given time when the worker itself has ended. Otherwise it
    /// is killed at once: it could take connections that the next life should have.
    pub fn leaves_politely(&self) -> bool {
        matches!(self.state, State::Stopping { .. } | State::Draining { .. })
    }

    pub fn errored(&self, rules: &Rules) -> bool {
        rules.errored(self.failures)
    }

    /// What requests may expect. `has_listener`: connections made now wait for the next life.
    pub fn availability(&self, rules: &Rules, has_listener: bool) -> Availability {
        match self.state {
            State::Ready { .. } => Availability::Serving,
            State::Draining { .. } => Availability::Draining,
            State::Waiting { .. }
            | State::Spawning
            | State::Starting(_)
            | State::Closed { .. }
            | State::Condemned { .. } => {
                if has_listener && !self.errored(rules) {
                    Availability::Coming
                } else {
                    Availability::Down
                }
            }
            State::Stopping { .. } | State::Leaving { .. } if self.again && has_listener => {
                Availability::Coming
            }
            State::Stopping { .. } | State::Leaving { .. } | State::Stopped => Availability::Down,
        }
    }

    /// When [`Event::Clock`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until }
            | State::Closed { until, .. }
            | State::Condemned { until, .. }
            | State::Stopping { until, .. }
            | State::Leaving { until, .. } => Some(until),
            State::Draining { until, .. } => until,
            State::Starting(Starting { deadline, .. }) => Some(deadline),
            State::Spawning | State::Ready { .. } | State::Stopped => None,
        }
    }

    /// We have stood still ourselves (suspended, stopped) for `by`: what the worker said meanwhile
    /// has not been heard yet, so it gets that time back.
    pub fn postpone(&mut self, by: Duration) {
        if let State::Starting(Starting { deadline, .. }) = &mut self.state {
            *deadline += by;
        }
    }

    /// Takes an event and says what to do.
    #[must_use]
    pub fn next(&mut self, event: Event, now: Instant, rules: &Rules) -> Vec<Action> {
        if !self.concerns(event) {
            return vec![];
        }
        match event {
            Event::Restart => self.again = self.group().is_some(),
            Event::Stop | Event::Drain | Event::Spare => self.again = false,
            Event::Spawned { .. }
            | Event::SpawnFailed
            | Event::Listens { .. }
            | Event::SaidReady { .. }
            | Event::Closed { .. }
            | Event::Died { .. }
            | Event::Hung { .. }
            | Event::GroupGone { .. }
            | Event::Drained { .. }
            | Event::Hurry
            | Event::Clock => {}
        }
        match self.state {
            State::Waiting { until } => self.waiting(until, event, now),
            State::Spawning => self.spawning(event, now, rules),
            State::Starting(starting) => self.starting(starting, event, now, rules),
            State::Ready { pid, since } => self.ready(pid, since, event, now, rules),
            State::Closed { pid, until, steady } => {
                self.closed(pid, until, steady, event, now, rules)
            }
            State::Draining { pid, until } => self.draining(pid, until, event, now, rules),
            State::Condemned { pid, until, steady } => {
                self.condemned(pid, until, steady, event, now, rules)
            }
            State::Stopping { pid, rung, until } => {
                self.stopping(pid, rung, until, event, now, rules)
            }
            State::Leaving { group, rung, until } => {
                self.leaving(group, rung, until, event, now, rules)
            }
            State::Stopped => {
                if event == Event::Restart {
                    self.begin_anew(now);
                }
                vec![]
            }
        }
    }

    /// Whether an event speaks of this life, this process, this group.
    fn concerns(&self, event: Event) -> bool {
        match event {
            Event::Listens { life }
            | Event::SaidReady { life }
            | Event::Closed { life }
            | Event::Hung { life }
            | Event::Drained { life } => life == self.life,
            Event::Died { pid, .. } => self.pid() == Some(pid),
            Event::GroupGone { group } => self.group() == Some(group),
            Event::Spawned { .. } | Event::SpawnFailed => self.state == State::Spawning,
            Event::Drain
            | Event::Spare
            | Event::Stop
            | Event::Restart
            | Event::Hurry
            | Event::Clock => true,
        }
    }
}
