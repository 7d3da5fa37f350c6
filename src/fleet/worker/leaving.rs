//! How a worker leaves: it drains, or is stopped rung by rung, and what it leaves behind in its group is
//! seen off as well; then nothing follows, or a new life. Pure, as all of the state machine.

use super::KILL_REPEAT;
use super::{Action, Event, Next, Rung, State, Worker};
use crate::fleet::rules::Rules;
use front::sys::process::Pid;
use std::time::Instant;

impl Worker {
    pub(super) fn draining(
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

    pub(super) fn stopping(
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

    pub(super) fn leaving(
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

    pub(super) fn begin_stop(&mut self, pid: Pid, now: Instant, rules: &Rules) -> Vec<Action> {
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

    /// The stop is over.
    fn stopped(&mut self, now: Instant) {
        if std::mem::take(&mut self.again) {
            self.begin_anew(now);
        } else {
            self.state = State::Stopped;
        }
    }

    /// The next life is due at once, whatever the lives before it were like.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.life = self.life.saturating_add(1);
        self.failures = 0;
        self.state = State::Waiting { until: now };
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
