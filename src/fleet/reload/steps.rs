//! What a reload decides: which workers are replaced, added and retired, and whether a newcomer has
//! proved itself. Pure; the rest of `reload` does it.

use crate::fleet::worker::{State, Worker};
use front::roster::Slot;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is to be done with one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Replace { instance: u32, old: Slot },
    Add { instance: u32 },
    Retire { old: Slot },
}

/// A worker of the app that is there now.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    pub slot: Slot,
    pub instance: u32,
    /// Of another version than the one that is to serve.
    pub outdated: bool,
}

/// The way from the workers that are there to `wanted` ones of the right version.
pub fn steps(present: &[Present], wanted: u32) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    for instance in 0..wanted {
        match present.iter().find(|p| p.instance == instance) {
            Some(p) if p.outdated => steps.push_back(Step::Replace {
                instance,
                old: p.slot,
            }),
            Some(_) => {}
            None => steps.push_back(Step::Add { instance }),
        }
    }
    let surplus = present.iter().filter(|p| p.instance >= wanted);
    steps.extend(surplus.map(|p| Step::Retire { old: p.slot }));
    steps
}

/// How a newcomer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    Coming,
    /// Ready; it has to stay so until then.
    Proving {
        until: Instant,
    },
    Passed,
    Failed,
}

/// One failed life is enough: the old version serves, so nothing is gained by trying again.
pub fn trial(worker: &Worker, proof: Duration, now: Instant) -> Trial {
    if worker.failures > 0 || worker.life > 1 {
        return Trial::Failed;
    }
    match worker.state {
        State::Ready { since, .. } if now >= since + proof => Trial::Passed,
        State::Ready { since, .. } => Trial::Proving {
            until: since + proof,
        },
        State::Waiting { .. } | State::Spawning | State::Starting(_) | State::Condemned { .. } => {
            Trial::Coming
        }
        // It ended with a code that says that it is done, or has closed its server by itself.
        State::Stopped
        | State::Closed { .. }
        | State::Draining { .. }
        | State::Stopping { .. }
        | State::Leaving { .. } => Trial::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use front::sys::process::Pid;

    fn present(slot: u32, instance: u32, outdated: bool) -> Present {
        Present {
            slot: Slot(slot),
            instance,
            outdated,
        }
    }

    #[test]
    fn the_way_from_what_is_there_to_what_is_wanted() {
        let replace = |instance, old| Step::Replace {
            instance,
            old: Slot(old),
        };
        let add = |instance| Step::Add { instance };
        let retire = |old| Step::Retire { old: Slot(old) };
        let two = [present(7, 0, true), present(8, 1, true)];
        let table: [(&[Present], u32, &[Step]); 8] = [
            (&[], 0, &[]),
            (&[], 2, &[add(0), add(1)]),
            (&two, 2, &[replace(0, 7), replace(1, 8)]),
            (&two, 3, &[replace(0, 7), replace(1, 8), add(2)]),
            (&two, 1, &[replace(0, 7), retire(8)]),
            (&two, 0, &[retire(7), retire(8)]),
            // One that has been stopped for good comes back.
            (&[present(8, 1, true)], 2, &[add(0), replace(1, 8)]),
            // Going back: what has been replaced, and nothing else.
            (
                &[present(9, 0, true), present(8, 1, false)],
                2,
                &[replace(0, 9)],
            ),
        ];
        for (present, wanted, steps_wanted) in table {
            assert_eq!(steps(present, wanted), steps_wanted, "{present:?} {wanted}");
        }
    }

    #[test]
    fn a_newcomer_is_judged_by_its_first_life() {
        let now = Instant::now();
        let proof = Duration::from_secs(1);
        let pid = Pid::new(7).expect("a number of a process");
        let ready_for = |millis| State::Ready {
            pid,
            since: now - Duration::from_millis(millis),
        };
        let waiting = State::Waiting { until: now };
        let table = [
            (waiting, 1, 0, Trial::Coming),
            (State::Spawning, 1, 0, Trial::Coming),
            (
                ready_for(400),
                1,
                0,
                Trial::Proving {
                    until: now + Duration::from_millis(600),
                },
            ),
            (ready_for(1000), 1, 0, Trial::Passed),
            // It has died after it had been ready for long enough not to count as a failure.
            (waiting, 2, 0, Trial::Failed),
            // No process could be started.
            (waiting, 1, 1, Trial::Failed),
            (State::Stopped, 1, 0, Trial::Failed),
        ];
        for (state, life, failures, wanted) in table {
            let worker = Worker {
                state,
                life,
                failures,
                ..Worker::new(now)
            };
            assert_eq!(trial(&worker, proof, now), wanted, "{worker:?}");
        }
    }
}
