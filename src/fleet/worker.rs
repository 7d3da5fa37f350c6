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

#[cfg(test)]
mod tests;

use crate::fleet::rules::Rules;
use front::roster::Availability;
use front::sys::carried::{maybe_moment, moment};
use front::sys::process::{Exit, Pid};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How long a worker may live on with its server closed.
const CLOSED_TIME_MAX: Duration = Duration::from_secs(60);
/// How often SIGKILL is repeated and complained about.
const KILL_REPEAT: Duration = Duration::from_secs(5);

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rung {
    /// Asked over the channel.
    Message,
    /// SIGTERM to the group.
    Terminate,
    /// SIGKILL to the group.
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// No process; the next life begins at `until`.
    Waiting {
        #[serde(with = "moment")]
        until: Instant,
    },
    /// The supervisor is starting a process.
    Spawning,
    /// A process runs and does not serve yet.
    Starting(Starting),
    Ready {
        pid: Pid,
        #[serde(with = "moment")]
        since: Instant,
    },
    /// The app has closed its server by itself. It may listen again, or is about to end.
    /// `steady`: it had served for `min_uptime`.
    Closed {
        pid: Pid,
        #[serde(with = "moment")]
        until: Instant,
        steady: bool,
    },
    /// It serves those that it has, who are sent away one by one; then it is stopped, and at `until`
    /// in any case, if there is one.
    Draining {
        pid: Pid,
        #[serde(with = "maybe_moment")]
        until: Option<Instant>,
    },
    /// Sent SIGKILL because it did not serve; ends any moment. `steady`: it had served before.
    Condemned {
        pid: Pid,
        #[serde(with = "moment")]
        until: Instant,
        steady: bool,
    },
    Stopping {
        pid: Pid,
        rung: Rung,
        #[serde(with = "moment")]
        until: Instant,
    },
    /// The worker has ended while it was stopping, others of its group have not yet.
    Leaving {
        group: Pid,
        rung: Rung,
        #[serde(with = "moment")]
        until: Instant,
    },
    /// No process, and none will be started.
    Stopped,
}

/// A process that does not serve yet, and what it still owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starting {
    pub pid: Pid,
    #[serde(with = "moment")]
    pub began: Instant,
    #[serde(with = "moment")]
    pub deadline: Instant,
    pub listens: bool,
    /// Always so unless the app asked for `wait_ready`.
    pub said_ready: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Spawned {
        pid: Pid,
    },
    SpawnFailed,
    /// It listens: the hook says so, or a probe was accepted.
    Listens {
        life: u32,
    },
    /// The app has sent `"ready"`.
    SaidReady {
        life: u32,
    },
    /// The hook says that the app's server is closed and its requests are done.
    Closed {
        life: u32,
    },
    /// The process has ended; `group_left` if others of its group have not.
    Died {
        pid: Pid,
        exit: Exit,
        group_left: bool,
    },
    /// It has been silent for too long, whatever it does.
    Hung {
        life: u32,
    },
    /// Nobody is left of a group.
    GroupGone {
        group: Pid,
    },
    /// It is to leave without haste.
    Drain,
    /// It is not needed: it is to leave when nobody is left that it serves.
    Spare,
    /// Nobody is left that it serves.
    Drained {
        life: u32,
    },
    /// We are going down.
    Stop,
    /// A new life is wanted in place of this one.
    Restart,
    /// Next rung, at once.
    Hurry,
    /// Time has passed.
    Clock,
}

/// What happens after a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Restart {
        delay: Duration,
    },
    /// It keeps failing: tried at the slow pace. `first` when it was not errored before.
    Errored {
        delay: Duration,
        first: bool,
    },
    /// As the app wants it: pm2's `stop_exit_codes`, or no `autorestart`.
    StaysDown,
    /// It was asked to end.
    WasAsked,
}

/// What the supervisor has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Spawn,
    /// Take this rung with the group.
    Step {
        group: Pid,
        rung: Rung,
    },
    /// Begin to send away those that it serves.
    Drain,
    /// It is ready, `took` after its start.
    TellReady {
        took: Duration,
    },
    /// Kill it: it did not serve in time.
    Condemn {
        group: Pid,
        listens: bool,
    },
    /// Kill it: it closed its server and stayed.
    CondemnClosed {
        group: Pid,
    },
    /// Kill it: it hangs.
    CondemnHung {
        group: Pid,
    },
    /// SIGKILL has not ended it; repeat it.
    Insist {
        group: Pid,
    },
    TellDeath {
        pid: Option<Pid>,
        exit: Option<Exit>,
        next: Next,
    },
}

/// A worker over its series of lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

    /// The stop is over.
    fn stopped(&mut self, now: Instant) {
        if std::mem::take(&mut self.again) {
            self.begin_anew(now);
        } else {
            self.state = State::Stopped;
        }
    }

    /// The next life is due at once, whatever the lives before it were like.
    fn begin_anew(&mut self, now: Instant) {
        self.life = self.life.saturating_add(1);
        self.failures = 0;
        self.state = State::Waiting { until: now };
    }

    fn waiting(&mut self, until: Instant, event: Event, now: Instant) -> Vec<Action> {
        match event {
            Event::Clock if now >= until => {
                self.state = State::Spawning;
                vec![Action::Spawn]
            }
            Event::Drain | Event::Spare | Event::Stop | Event::Hurry => {
                self.state = State::Stopped;
                vec![]
            }
            // Without its delay, and as if it had never failed.
            Event::Restart => {
                self.failures = 0;
                self.state = State::Waiting { until: now };
                vec![]
            }
            // What a dead life had still to say counts for nothing: the life is a new one.
            Event::Listens { .. } | Event::SaidReady { .. } | Event::Closed { .. } => vec![],
            Event::Drained { .. } | Event::Hung { .. } => vec![],
            Event::Clock
            | Event::Spawned { .. }
            | Event::SpawnFailed
            | Event::Died { .. }
            | Event::GroupGone { .. } => vec![],
        }
    }

    fn spawning(&mut self, event: Event, now: Instant, rules: &Rules) -> Vec<Action> {
        match event {
            Event::Spawned { pid } => {
                self.state = State::Starting(Starting {
                    pid,
                    began: now,
                    deadline: now + rules.listen_timeout,
                    listens: false,
                    said_ready: !rules.wait_ready,
                });
                vec![]
            }
            Event::SpawnFailed => self.fail(None, None, now, rules),
            // The supervisor answers the spawn before it does anything else.
            Event::Drain
            | Event::Spare
            | Event::Stop
            | Event::Restart
            | Event::Hurry
            | Event::Clock => vec![],
            Event::Drained { .. } | Event::Hung { .. } => vec![],
            Event::Listens { .. }
            | Event::SaidReady { .. }
            | Event::Closed { .. }
            | Event::Died { .. }
            | Event::GroupGone { .. } => vec![],
        }
    }

    fn starting(
        &mut self,
        known: Starting,
        event: Event,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        match event {
            Event::Listens { .. } => self.come_up(
                Starting {
                    listens: true,
                    ..known
                },
                now,
            ),
            Event::SaidReady { .. } => self.come_up(
                Starting {
                    said_ready: true,
                    ..known
                },
                now,
            ),
            Event::Closed { .. } => self.come_up(
                Starting {
                    listens: false,
                    ..known
                },
                now,
            ),
            Event::Died { exit, .. } => self.fail(Some(known.pid), Some(exit), now, rules),
            Event::Clock if now >= known.deadline => {
                self.state = State::Condemned {
                    pid: known.pid,
                    until: now + KILL_REPEAT,
                    steady: false,
                };
                vec![Action::Condemn {
                    group: known.pid,
                    listens: known.listens,
                }]
            }
            Event::Drain | Event::Spare | Event::Stop | Event::Restart | Event::Hurry => {
                self.begin_stop(known.pid, now, rules)
            }
            // A start has a deadline of its own.
            Event::Drained { .. } | Event::Hung { .. } => vec![],
            Event::Clock | Event::Spawned { .. } | Event::SpawnFailed | Event::GroupGone { .. } => {
                vec![]
            }
        }
    }

    fn ready(
        &mut self,
        pid: Pid,
        since: Instant,
        event: Event,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        let steady = now.duration_since(since) >= rules.restart.min_uptime;
        match event {
            Event::Closed { .. } => {
                self.state = State::Closed {
                    pid,
                    until: now + CLOSED_TIME_MAX,
                    steady,
                };
                vec![]
            }
            Event::Died { exit, .. } => self.end_of_service(steady, pid, exit, now, rules),
            Event::Drain | Event::Spare => {
                let until = (event == Event::Drain).then(|| now + rules.drain_timeout);
                self.state = State::Draining { pid, until };
                vec![Action::Drain]
            }
            Event::Stop | Event::Restart | Event::Hurry => self.begin_stop(pid, now, rules),
            Event::Hung { .. } => {
                self.state = State::Condemned {
                    pid,
                    until: now + KILL_REPEAT,
                    steady,
                };
                vec![Action::CondemnHung { group: pid }]
            }
            Event::Drained { .. }
            | Event::Listens { .. }
            | Event::SaidReady { .. }
            | Event::Clock
            | Event::Spawned { .. }
            | Event::SpawnFailed
            | Event::GroupGone { .. } => vec![],
        }
    }

    fn closed(
        &mut self,
        pid: Pid,
        until: Instant,
        steady: bool,
        event: Event,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        match event {
            Event::Listens { .. } => {
                self.state = State::Ready { pid, since: now };
                vec![]
            }
            Event::Clock if now >= until => {
                self.state = State::Condemned {
                    pid,
                    until: now + KILL_REPEAT,
                    steady: false,
                };
                vec![Action::CondemnClosed { group: pid }]
            }
            Event::Died { exit, .. } => self.end_of_service(steady, pid, exit, now, rules),
            Event::Drain | Event::Spare | Event::Stop | Event::Restart | Event::Hurry => {
                self.begin_stop(pid, now, rules)
            }
            Event::SaidReady { .. }
            | Event::Drained { .. }
            | Event::Hung { .. }
            | Event::Closed { .. }
            | Event::Clock
            | Event::Spawned { .. }
            | Event::SpawnFailed
            | Event::GroupGone { .. } => vec![],
        }
    }

    fn draining(
        &mut self,
        pid: Pid,
        until: Option<Instant>,
        event: Event,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        match event {
            Event::Clock if until.is_some_and(|until| now >= until) => {
                self.begin_stop(pid, now, rules)
            }
            // An app that closes its server by itself takes nothing any more.
            Event::Drained { .. }
            | Event::Closed { .. }
            | Event::Stop
            | Event::Restart
            | Event::Hurry => self.begin_stop(pid, now, rules),
            // To ask it would be in vain.
            Event::Hung { .. } => {
                let rung = Rung::Kill;
                self.state = State::Stopping {
                    pid,
                    rung,
                    until: now + KILL_REPEAT,
                };
                vec![Action::Step { group: pid, rung }]
            }
            // It was to leave anyway.
            Event::Died {
                exit, group_left, ..
            } => {
                self.state = if group_left {
                    State::Leaving {
                        group: pid,
                        rung: Rung::Message,
                        until: now,
                    }
                } else {
                    State::Stopped
                };
                vec![Action::TellDeath {
                    pid: Some(pid),
                    exit: Some(exit),
                    next: Next::WasAsked,
                }]
            }
            Event::Clock
            | Event::Drain
            | Event::Spare
            | Event::Listens { .. }
            | Event::SaidReady { .. }
            | Event::Spawned { .. }
            | Event::SpawnFailed
            | Event::GroupGone { .. } => vec![],
        }
    }

    fn condemned(
        &mut self,
        pid: Pid,
        until: Instant,
        steady: bool,
        event: Event,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        match event {
            Event::Died { exit, .. } => self.end_of_service(steady, pid, exit, now, rules),
            Event::Clock if now >= until => {
                self.state = State::Condemned {
                    pid,
                    until: now + KILL_REPEAT,
                    steady,
                };
                vec![Action::Insist { group: pid }]
            }
            Event::Drain | Event::Spare | Event::Stop | Event::Restart | Event::Hurry => {
                self.state = State::Stopping {
                    pid,
                    rung: Rung::Kill,
                    until,
                };
                vec![]
            }
            // Too late.
            Event::Listens { .. } | Event::SaidReady { .. } | Event::Closed { .. } => vec![],
            Event::Drained { .. } | Event::Hung { .. } => vec![],
            Event::Clock | Event::Spawned { .. } | Event::SpawnFailed | Event::GroupGone { .. } => {
                vec![]
            }
        }
    }

    fn stopping(
        &mut self,
        pid: Pid,
        rung: Rung,
        until: Instant,
        event: Event,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        let due = match event {
            Event::Clock => now >= until,
            Event::Hurry => rung != Rung::Kill,
            // It has finished what it had to finish: no reason to wait for the next rung.
            Event::Closed { .. } => rung == Rung::Message,
            Event::Died {
                exit, group_left, ..
            } => {
                if group_left {
                    self.state = State::Leaving {
                        group: pid,
                        rung,
                        until,
                    };
                } else {
                    self.stopped(now);
                }
                let next = Next::WasAsked;
                return vec![Action::TellDeath {
                    pid: Some(pid),
                    exit: Some(exit),
                    next,
                }];
            }
            Event::Stop
            | Event::Drain
            | Event::Spare
            | Event::Drained { .. }
            | Event::Hung { .. }
            | Event::Restart
            | Event::Listens { .. }
            | Event::SaidReady { .. }
            | Event::Spawned { .. }
            | Event::SpawnFailed
            | Event::GroupGone { .. } => false,
        };
        if !due {
            return vec![];
        }
        let (rung, until, action) = climb(pid, rung, now, rules);
        self.state = State::Stopping { pid, rung, until };
        vec![action]
    }

    fn leaving(
        &mut self,
        group: Pid,
        rung: Rung,
        until: Instant,
        event: Event,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        let due = match event {
            Event::Clock => now >= until,
            Event::Hurry => rung != Rung::Kill,
            Event::GroupGone { .. } => {
                self.stopped(now);
                return vec![];
            }
            Event::Stop
            | Event::Drain
            | Event::Spare
            | Event::Drained { .. }
            | Event::Hung { .. }
            | Event::Restart
            | Event::Listens { .. }
            | Event::SaidReady { .. }
            | Event::Closed { .. }
            | Event::Spawned { .. }
            | Event::SpawnFailed
            | Event::Died { .. } => false,
        };
        if !due {
            return vec![];
        }
        let (rung, until, action) = climb(group, rung, now, rules);
        self.state = State::Leaving { group, rung, until };
        vec![action]
    }

    fn begin_stop(&mut self, pid: Pid, now: Instant, rules: &Rules) -> Vec<Action> {
        let (rung, time) = if rules.channel {
            (Rung::Message, rules.message_time())
        } else {
            (Rung::Terminate, rules.terminate_time())
        };
        self.state = State::Stopping {
            pid,
            rung,
            until: now + time,
        };
        vec![Action::Step { group: pid, rung }]
    }

    /// Something more is known of a starting process.
    fn come_up(&mut self, known: Starting, now: Instant) -> Vec<Action> {
        if !(known.listens && known.said_ready) {
            self.state = State::Starting(known);
            return vec![];
        }
        self.state = State::Ready {
            pid: known.pid,
            since: now,
        };
        vec![Action::TellReady {
            took: now.duration_since(known.began),
        }]
    }

    /// A life that was ready has ended; `steady` if it was so for `min_uptime`.
    fn end_of_service(
        &mut self,
        steady: bool,
        pid: Pid,
        exit: Exit,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        if !steady {
            return self.fail(Some(pid), Some(exit), now, rules);
        }
        self.failures = 0;
        self.start_again(Some(pid), Some(exit), now, rules)
    }

    /// A life that was not ready long enough has ended, or could not even begin.
    fn fail(
        &mut self,
        pid: Option<Pid>,
        exit: Option<Exit>,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        self.failures = self.failures.saturating_add(1);
        self.start_again(pid, exit, now, rules)
    }

    fn start_again(
        &mut self,
        pid: Option<Pid>,
        exit: Option<Exit>,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        if rules.restart.stays_down(exit) {
            self.state = State::Stopped;
            return vec![Action::TellDeath {
                pid,
                exit,
                next: Next::StaysDown,
            }];
        }
        // A start that gave no process was no life.
        if pid.is_some() {
            self.life = self.life.saturating_add(1);
        }
        let delay = rules.delay(self.failures);
        self.state = State::Waiting { until: now + delay };
        let next = if self.errored(rules) {
            let first = self.failures == 1 || !rules.errored(self.failures - 1);
            Next::Errored { delay, first }
        } else {
            Next::Restart { delay }
        };
        vec![Action::TellDeath { pid, exit, next }]
    }
}

/// The next rung, when the one after it is due, and what to do.
fn climb(group: Pid, rung: Rung, now: Instant, rules: &Rules) -> (Rung, Instant, Action) {
    match rung {
        Rung::Message => {
            let rung = Rung::Terminate;
            (
                rung,
                now + rules.terminate_time(),
                Action::Step { group, rung },
            )
        }
        Rung::Terminate => {
            let rung = Rung::Kill;
            (rung, now + KILL_REPEAT, Action::Step { group, rung })
        }
        Rung::Kill => (rung, now + KILL_REPEAT, Action::Insist { group }),
    }
}
