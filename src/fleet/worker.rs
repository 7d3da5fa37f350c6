//! What a worker is and what becomes of it: a pure function of state, event and time. It does
//! nothing itself; the supervisor (the only thread that uses it) carries out the actions it
//! returns, and reports back what happened as events.
//!
//! ```text
//!              Clock            Spawned            listens (and said ready)
//!   Waiting ----------> Spawning ------> Starting -----------------------> Ready
//!    ^  ^                  |              |    | listen_timeout           ^  | Closed
//!    |  |    SpawnFailed   |              |    v                          |  v
//!    |  +------------------+              |  Condemned <---------------- Closed
//!    |                                    |    |        closed_secs_max     |
//!    +------------------------------------+----+----------------------------+ Died
//!
//!   Stop:  Waiting -> Stopped
//!          any state with a process -> Stopping -> (Died) -> Stopped
//!                                         |  Died, but others of its group live
//!                                         +------> Leaving -> (GroupGone) -> Stopped
//! ```
//!
//! A *life* is one process of a worker, counted from 1. Events carry the life or the process they
//! speak of; one about an earlier life changes nothing.

use crate::fleet::spec::{AppSpec, Launch, RestartPolicy};
use crate::roster::Availability;
use crate::sys::process::{Exit, Pid};
use std::time::{Duration, Instant};

/// How long a worker with a channel may take to end by itself before SIGTERM: a part of
/// `kill_timeout`, and never more than this.
const MESSAGE_MILLIS_MAX: u64 = 500;
/// How long a worker may live on with its server closed.
const CLOSED_SECS_MAX: u64 = 60;
/// How often SIGKILL is repeated and complained about.
const KILL_REPEAT_SECS: u64 = 5;

/// What an app asks for its workers.
#[derive(Clone, Debug)]
pub struct Rules {
    pub restart: RestartPolicy,
    pub wait_ready: bool,
    pub listen_timeout: Duration,
    pub kill_timeout: Duration,
    /// Workers have Node's IPC channel: they can say things and be told things.
    pub channel: bool,
}

impl Rules {
    pub fn of(app: &AppSpec) -> Rules {
        let channel = match app.launch {
            Launch::Node { .. } | Launch::NodeShell { .. } => true,
            Launch::Program { .. } => false,
        };
        Rules {
            restart: app.restart.clone(),
            // Without a channel nobody could ever say it.
            wait_ready: app.wait_ready && channel,
            listen_timeout: app.listen_timeout,
            kill_timeout: app.kill_timeout,
            channel,
        }
    }

    fn message_time(&self) -> Duration {
        (self.kill_timeout / 4).min(Duration::from_millis(MESSAGE_MILLIS_MAX))
    }

    fn delay(&self, failures: u32) -> Duration {
        let policy = &self.restart;
        if self.errored(failures) {
            return policy.errored_delay;
        }
        if !policy.restart_delay.is_zero() {
            return policy.restart_delay;
        }
        match failures {
            0 | 1 => Duration::ZERO,
            n => 2u32
                .checked_pow(n - 2)
                .and_then(|factor| policy.delay_first.checked_mul(factor))
                .map_or(policy.delay_max, |delay| delay.min(policy.delay_max)),
        }
    }

    fn errored(&self, failures: u32) -> bool {
        failures >= self.restart.max_restarts.max(1)
    }
}

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No process; the next life begins at `until`.
    Waiting {
        until: Instant,
    },
    /// The supervisor is starting a process.
    Spawning,
    /// A process runs and does not serve yet.
    Starting {
        pid: Pid,
        began: Instant,
        deadline: Instant,
        listens: bool,
        said_ready: bool,
    },
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
    /// Sent SIGKILL because it did not serve; ends any moment.
    Condemned {
        pid: Pid,
        until: Instant,
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
    /// The hook says that the app's server is closed and its connections are done.
    Closed {
        life: u32,
    },
    /// The process has ended; `group_left` if others of its group have not.
    Died {
        pid: Pid,
        exit: Exit,
        group_left: bool,
    },
    /// Nobody is left of a group.
    GroupGone {
        group: Pid,
    },
    /// We are going down.
    Stop,
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
    /// pm2's `stop_exit_codes`.
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
    /// It is ready, `took` after its start.
    TellReady {
        took: Duration,
    },
    /// It is being killed since it did not serve in time.
    Condemn {
        group: Pid,
        listens: bool,
    },
    /// It is being killed since it closed its server and stayed.
    CondemnClosed {
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub state: State,
    /// The current life; between two lives the coming one, so that the sessions of the dead one
    /// are known to be lost at once.
    pub life: u32,
    /// Failed lives in a row: those that were not ready for `min_uptime`.
    pub failures: u32,
}

impl Worker {
    /// A worker whose first life is due at once.
    pub fn new(now: Instant) -> Worker {
        Worker {
            state: State::Waiting { until: now },
            life: 1,
            failures: 0,
        }
    }

    /// The process, in states that have one.
    pub fn pid(&self) -> Option<Pid> {
        match self.state {
            State::Starting { pid, .. }
            | State::Ready { pid, .. }
            | State::Closed { pid, .. }
            | State::Condemned { pid, .. }
            | State::Stopping { pid, .. } => Some(pid),
            State::Waiting { .. } | State::Spawning | State::Leaving { .. } | State::Stopped => {
                None
            }
        }
    }

    /// The group that must be killed if we die.
    pub fn group(&self) -> Option<Pid> {
        match self.state {
            State::Leaving { group, .. } => Some(group),
            State::Waiting { .. }
            | State::Spawning
            | State::Starting { .. }
            | State::Ready { .. }
            | State::Closed { .. }
            | State::Condemned { .. }
            | State::Stopping { .. }
            | State::Stopped => self.pid(),
        }
    }

    /// Whether the rest of the group is given time when the worker itself has ended. Otherwise it
    /// is killed at once: it could take connections that the next life should have.
    pub fn leaves_politely(&self) -> bool {
        matches!(self.state, State::Stopping { .. })
    }

    pub fn errored(&self, rules: &Rules) -> bool {
        rules.errored(self.failures)
    }

    /// What requests may expect. `has_listener`: connections made now wait for the next life.
    pub fn availability(&self, rules: &Rules, has_listener: bool) -> Availability {
        match self.state {
            State::Ready { .. } => Availability::Serving,
            State::Waiting { .. }
            | State::Spawning
            | State::Starting { .. }
            | State::Closed { .. }
            | State::Condemned { .. } => {
                if has_listener && !self.errored(rules) {
                    Availability::Coming
                } else {
                    Availability::Down
                }
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
            State::Starting { deadline, .. } => Some(deadline),
            State::Spawning | State::Ready { .. } | State::Stopped => None,
        }
    }

    /// We have been asleep ourselves (suspended, stopped) for `by`: what the worker said meanwhile
    /// has not been heard yet, so it gets that time back.
    pub fn postpone(&mut self, by: Duration) {
        if let State::Starting { deadline, .. } = &mut self.state {
            *deadline += by;
        }
    }

    /// Takes an event and says what to do.
    #[must_use]
    pub fn next(&mut self, event: Event, now: Instant, rules: &Rules) -> Vec<Action> {
        use State::*;
        match (self.state, event) {
            // The next life.
            (Waiting { until }, Event::Clock) if now >= until => {
                self.state = Spawning;
                vec![Action::Spawn]
            }
            (Waiting { .. }, Event::Stop | Event::Hurry) => self.rest(Vec::new()),
            (Spawning, Event::Spawned { pid }) => {
                self.state = Starting {
                    pid,
                    began: now,
                    deadline: now + rules.listen_timeout,
                    listens: false,
                    said_ready: !rules.wait_ready,
                };
                vec![]
            }
            (Spawning, Event::SpawnFailed) => self.fail(None, None, now, rules),

            // On the way to ready.
            (
                Starting {
                    pid,
                    began,
                    deadline,
                    said_ready,
                    ..
                },
                Event::Listens { life },
            ) if life == self.life => self.come_up(
                Heard {
                    pid,
                    began,
                    deadline,
                    listens: true,
                    said_ready,
                },
                now,
            ),
            (
                Starting {
                    pid,
                    began,
                    deadline,
                    listens,
                    ..
                },
                Event::SaidReady { life },
            ) if life == self.life => self.come_up(
                Heard {
                    pid,
                    began,
                    deadline,
                    listens,
                    said_ready: true,
                },
                now,
            ),
            (
                Starting {
                    pid,
                    began,
                    deadline,
                    said_ready,
                    ..
                },
                Event::Closed { life },
            ) if life == self.life => {
                self.state = Starting {
                    pid,
                    began,
                    deadline,
                    listens: false,
                    said_ready,
                };
                vec![]
            }
            (
                Starting {
                    pid,
                    deadline,
                    listens,
                    ..
                },
                Event::Clock,
            ) if now >= deadline => {
                self.state = self.condemned(pid, now);
                vec![Action::Condemn {
                    group: pid,
                    listens,
                }]
            }

            // Serving, and the app's own closing of its server.
            (Ready { pid, since }, Event::Closed { life }) if life == self.life => {
                let until = now + Duration::from_secs(CLOSED_SECS_MAX);
                let steady = now.duration_since(since) >= rules.restart.min_uptime;
                self.state = Closed { pid, until, steady };
                vec![]
            }
            (Closed { pid, .. }, Event::Listens { life }) if life == self.life => {
                self.state = Ready { pid, since: now };
                vec![]
            }
            (Closed { pid, until, .. }, Event::Clock) if now >= until => {
                self.state = self.condemned(pid, now);
                vec![Action::CondemnClosed { group: pid }]
            }

            // Deaths.
            (
                Ready { pid, since },
                Event::Died {
                    pid: dead, exit, ..
                },
            ) if dead == pid => {
                let steady = now.duration_since(since) >= rules.restart.min_uptime;
                self.end_of_service(steady, pid, exit, now, rules)
            }
            (
                Closed { pid, steady, .. },
                Event::Died {
                    pid: dead, exit, ..
                },
            ) if dead == pid => self.end_of_service(steady, pid, exit, now, rules),
            (
                Starting { pid, .. } | Condemned { pid, .. },
                Event::Died {
                    pid: dead, exit, ..
                },
            ) if dead == pid => self.fail(Some(pid), Some(exit), now, rules),
            (Condemned { pid, until }, Event::Clock) if now >= until => {
                self.state = self.condemned(pid, now);
                vec![Action::Insist { group: pid }]
            }

            // The ladder.
            (
                Starting { pid, .. } | Ready { pid, .. } | Closed { pid, .. },
                Event::Stop | Event::Hurry,
            ) => {
                let first = if rules.channel {
                    Rung::Message
                } else {
                    Rung::Terminate
                };
                self.state = Stopping {
                    pid,
                    rung: first,
                    until: rung_end(first, now, rules),
                };
                vec![Action::Step {
                    group: pid,
                    rung: first,
                }]
            }
            (Condemned { pid, .. }, Event::Stop | Event::Hurry) => {
                let until = rung_end(Rung::Kill, now, rules);
                self.state = Stopping {
                    pid,
                    rung: Rung::Kill,
                    until,
                };
                vec![]
            }
            (Stopping { pid, rung, until }, Event::Clock) if now >= until => {
                let (rung, action) = climb(pid, rung);
                self.state = Stopping {
                    pid,
                    rung,
                    until: rung_end(rung, now, rules),
                };
                vec![action]
            }
            (
                Stopping {
                    pid,
                    rung: rung @ (Rung::Message | Rung::Terminate),
                    ..
                },
                Event::Hurry,
            ) => {
                let (rung, action) = climb(pid, rung);
                self.state = Stopping {
                    pid,
                    rung,
                    until: rung_end(rung, now, rules),
                };
                vec![action]
            }
            // It has finished what it had to finish: no reason to wait for the next rung.
            (
                Stopping {
                    pid,
                    rung: Rung::Message,
                    ..
                },
                Event::Closed { life },
            ) if life == self.life => {
                let (rung, action) = climb(pid, Rung::Message);
                self.state = Stopping {
                    pid,
                    rung,
                    until: rung_end(rung, now, rules),
                };
                vec![action]
            }
            (
                Stopping { pid, rung, until },
                Event::Died {
                    pid: dead,
                    exit,
                    group_left,
                },
            ) if dead == pid => {
                let death = Action::TellDeath {
                    pid: Some(pid),
                    exit: Some(exit),
                    next: Next::WasAsked,
                };
                if group_left {
                    self.state = Leaving {
                        group: pid,
                        rung,
                        until,
                    };
                    vec![death]
                } else {
                    self.rest(vec![death])
                }
            }
            (Leaving { group, .. }, Event::GroupGone { group: gone }) if group == gone => {
                self.rest(Vec::new())
            }
            (Leaving { group, rung, until }, Event::Clock) if now >= until => {
                let (rung, action) = climb(group, rung);
                self.state = Leaving {
                    group,
                    rung,
                    until: rung_end(rung, now, rules),
                };
                vec![action]
            }
            (
                Leaving {
                    group,
                    rung: rung @ (Rung::Message | Rung::Terminate),
                    ..
                },
                Event::Hurry,
            ) => {
                let (rung, action) = climb(group, rung);
                self.state = Leaving {
                    group,
                    rung,
                    until: rung_end(rung, now, rules),
                };
                vec![action]
            }

            // A process that was being started when everything had to stop.
            (Stopped, Event::Spawned { pid }) => {
                let until = rung_end(Rung::Kill, now, rules);
                self.state = Stopping {
                    pid,
                    rung: Rung::Kill,
                    until,
                };
                vec![Action::Step {
                    group: pid,
                    rung: Rung::Kill,
                }]
            }
            (Spawning, Event::Stop | Event::Hurry) => self.rest(Vec::new()),

            // Not due yet.
            (
                Waiting { .. }
                | Starting { .. }
                | Closed { .. }
                | Condemned { .. }
                | Stopping { .. }
                | Leaving { .. },
                Event::Clock,
            )
            | (Spawning | Ready { .. } | Stopped, Event::Clock) => vec![],
            // Already so, or already as fast as it gets.
            (Ready { .. }, Event::Listens { .. } | Event::SaidReady { .. })
            | (Closed { .. }, Event::SaidReady { .. } | Event::Closed { .. })
            | (Stopping { .. } | Leaving { .. } | Stopped, Event::Stop)
            | (Stopping { .. } | Leaving { .. } | Stopped, Event::Hurry) => vec![],
            // Said in an earlier life, or too late to matter.
            (
                Starting { .. },
                Event::Listens { .. } | Event::SaidReady { .. } | Event::Closed { .. },
            )
            | (Ready { .. }, Event::Closed { .. })
            | (Closed { .. }, Event::Listens { .. })
            | (
                Waiting { .. }
                | Spawning
                | Condemned { .. }
                | Stopping { .. }
                | Leaving { .. }
                | Stopped,
                Event::Listens { .. } | Event::SaidReady { .. } | Event::Closed { .. },
            ) => vec![],
            // Another process than ours, or one whose death has been told.
            (
                Starting { .. } | Ready { .. } | Closed { .. } | Condemned { .. } | Stopping { .. },
                Event::Died { .. },
            )
            | (Waiting { .. } | Spawning | Leaving { .. } | Stopped, Event::Died { .. })
            | (Leaving { .. }, Event::GroupGone { .. })
            | (
                Waiting { .. }
                | Spawning
                | Starting { .. }
                | Ready { .. }
                | Closed { .. }
                | Condemned { .. }
                | Stopping { .. }
                | Stopped,
                Event::GroupGone { .. },
            ) => vec![],
            // Answers to a spawn that was not asked for: the supervisor does not give them.
            (
                Waiting { .. }
                | Starting { .. }
                | Ready { .. }
                | Closed { .. }
                | Condemned { .. }
                | Stopping { .. }
                | Leaving { .. },
                Event::Spawned { .. },
            )
            | (
                Waiting { .. }
                | Starting { .. }
                | Ready { .. }
                | Closed { .. }
                | Condemned { .. }
                | Stopping { .. }
                | Leaving { .. }
                | Stopped,
                Event::SpawnFailed,
            ) => vec![],
        }
    }

    fn come_up(&mut self, heard: Heard, now: Instant) -> Vec<Action> {
        let Heard {
            pid,
            began,
            deadline,
            listens,
            said_ready,
        } = heard;
        if listens && said_ready {
            self.state = State::Ready { pid, since: now };
            vec![Action::TellReady {
                took: now.duration_since(began),
            }]
        } else {
            self.state = State::Starting {
                pid,
                began,
                deadline,
                listens,
                said_ready,
            };
            vec![]
        }
    }

    fn condemned(&self, pid: Pid, now: Instant) -> State {
        State::Condemned {
            pid,
            until: now + Duration::from_secs(KILL_REPEAT_SECS),
        }
    }

    fn rest(&mut self, actions: Vec<Action>) -> Vec<Action> {
        self.state = State::Stopped;
        actions
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

    /// A life that was not ready long enough has ended.
    fn fail(
        &mut self,
        pid: Option<Pid>,
        exit: Option<Exit>,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        let was_errored = self.failures > 0 && rules.errored(self.failures);
        self.failures = self.failures.saturating_add(1);
        if rules.errored(self.failures) && !self.stays_down(exit, rules) {
            self.next_life(pid);
            let delay = rules.restart.errored_delay;
            self.state = State::Waiting { until: now + delay };
            let next = Next::Errored {
                delay,
                first: !was_errored,
            };
            return vec![Action::TellDeath { pid, exit, next }];
        }
        self.start_again(pid, exit, now, rules)
    }

    fn start_again(
        &mut self,
        pid: Option<Pid>,
        exit: Option<Exit>,
        now: Instant,
        rules: &Rules,
    ) -> Vec<Action> {
        if self.stays_down(exit, rules) {
            return self.rest(vec![Action::TellDeath {
                pid,
                exit,
                next: Next::StaysDown,
            }]);
        }
        self.next_life(pid);
        let delay = rules.delay(self.failures);
        self.state = State::Waiting { until: now + delay };
        vec![Action::TellDeath {
            pid,
            exit,
            next: Next::Restart { delay },
        }]
    }

    /// A start that gave no process was no life.
    fn next_life(&mut self, ended: Option<Pid>) {
        if ended.is_some() {
            self.life = self.life.saturating_add(1);
        }
    }

    fn stays_down(&self, exit: Option<Exit>, rules: &Rules) -> bool {
        match exit {
            Some(Exit::Code(code)) => rules.restart.stop_exit_codes.contains(&code),
            Some(Exit::Signal(_)) | None => false,
        }
    }
}

/// What is known of a starting process.
struct Heard {
    pid: Pid,
    began: Instant,
    deadline: Instant,
    listens: bool,
    said_ready: bool,
}

fn climb(group: Pid, rung: Rung) -> (Rung, Action) {
    match rung {
        Rung::Message => (
            Rung::Terminate,
            Action::Step {
                group,
                rung: Rung::Terminate,
            },
        ),
        Rung::Terminate => (
            Rung::Kill,
            Action::Step {
                group,
                rung: Rung::Kill,
            },
        ),
        Rung::Kill => (Rung::Kill, Action::Insist { group }),
    }
}

fn rung_end(rung: Rung, now: Instant, rules: &Rules) -> Instant {
    now + match rung {
        Rung::Message => rules.message_time(),
        // With the message's time, this makes `kill_timeout` from the first word to SIGKILL.
        Rung::Terminate if rules.channel => rules.kill_timeout - rules.message_time(),
        Rung::Terminate => rules.kill_timeout,
        Rung::Kill => Duration::from_secs(KILL_REPEAT_SECS),
    }
}
