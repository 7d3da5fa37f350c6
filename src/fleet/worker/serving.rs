//! A life from its start to its end: coming up, serving, failing, and the life after it. What is asked to
//! leave goes on in `leaving`. Pure, as all of the state machine.

use super::KILL_REPEAT;
use super::{Action, Event, Next, Rung, Starting, State, Worker};
use crate::fleet::rules::Rules;
use front::sys::process::{Exit, Pid};
use std::time::{Duration, Instant};

/// How long a worker may live on with its server closed.
const CLOSED_TIME_MAX: Duration = Duration::from_secs(60);

impl Worker {
    pub(super) fn waiting(&mut self, until: Instant, event: Event, now: Instant) -> Vec<Action> {
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

    pub(super) fn spawning(&mut self, event: Event, now: Instant, rules: &Rules) -> Vec<Action> {
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

    pub(super) fn starting(
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

    pub(super) fn ready(
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

    pub(super) fn closed(
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

    pub(super) fn condemned(
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
