//! From what the monitor sees to alarms: gathers the facts for the rules, and tells the log and the
//! supervisor what was raised and cleared. Runs on the monitor's thread, after each look.

use super::{Looks, Views};
use crate::fleet::alarms::{self, Alarm, Facts, WorkerFacts};
use crate::fleet::figures::Figures;
use crate::fleet::status::WorkerStatus;
use front::sys::{disk, procfs};
use log::{info, warn};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Instant, SystemTime};

/// Looks between two at what changes slowly: descriptors of our own, the machine's memory, the disk.
const SLOWLY: u64 = 5;

/// What is looked at less often.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slow {
    descriptors: Option<(u64, u64)>,
    memory: Option<(u64, u64)>,
    disk: Option<(u64, u64)>,
}

impl Looks {
    /// Raises and clears alarms.
    pub(super) fn judge(
        &mut self,
        statuses: &[WorkerStatus],
        figures: &Figures,
        broken: &HashMap<&str, f64>,
        stood_still: bool,
    ) {
        if self.looks.is_multiple_of(SLOWLY) {
            self.slow = self.views.look_slowly();
        }
        self.looks += 1;
        let turned_away = self.views.turned_away();
        let before = self.turned_away.replace(turned_away);
        let members = statuses.iter().filter(|status| status.member);
        if stood_still {
            self.alarms.begin_anew();
            return;
        }
        let workers = members.map(|status| WorkerFacts {
            status,
            sample: figures
                .workers
                .get(&status.slot)
                .copied()
                .unwrap_or_default(),
            lost: self
                .workers
                .get(&status.slot)
                .map_or(0, |known| known.newly_lost),
        });
        let apps = broken.iter().map(|(name, broken_per_s)| {
            let point = figures.apps.get(*name).copied().unwrap_or_default();
            (*name, point, *broken_per_s)
        });
        let facts = Facts {
            now: SystemTime::now(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            workers: workers.collect(),
            apps: apps.collect(),
            turned_away: before.map_or(0, |before| turned_away.saturating_sub(before)),
            descriptors: self.slow.descriptors,
            memory: self.slow.memory,
            disk: self.slow.disk,
            log_files_full: self.views.journal.health().disk_full.load(Relaxed),
        };
        let found = alarms::findings(&facts, self.views.limits);
        for change in self.alarms.judge(found, Instant::now(), facts.now) {
            announce(&change);
            // Without a supervisor the process is about to end.
            let _ = self.views.alarms.send(change);
        }
    }
}

impl Views {
    fn look_slowly(&self) -> Slow {
        let descriptors = procfs::own_descriptors();
        Slow {
            descriptors: descriptors.and_then(|(open, max)| Some((u64::try_from(open).ok()?, max))),
            memory: procfs::memory(),
            disk: disk::room(&self.run_dir),
        }
    }

    /// Clients that have ever been turned away: at a limit, or with 503.
    fn turned_away(&self) -> u64 {
        let own = self.front.own.counts().find(|(status, _)| *status == 503);
        let own = own.map_or(0, |(_, count)| count);
        self.front.refused.load(Relaxed).saturating_add(own)
    }
}

fn announce(alarm: &Alarm) {
    let (kind, name) = (alarm.kind.word(), alarm.subject.name());
    match alarm.cleared {
        None => warn!("alarm: {kind} of {name}: {}", alarm.text),
        Some(cleared) => {
            let lasted = cleared.duration_since(alarm.since).unwrap_or_default();
            info!("alarm over: {kind} of {name}, after {} s", lasted.as_secs());
        }
    }
}
