//! The watch: CPU, memory, threads, descriptors and speed of each worker and app, looked at once a
//! second by a thread of its own, which alone reads these figures and keeps those of the last hour.
//! Whoever tells them (`admin`) reads them here; what has to be done about them is decided by the
//! supervisor, which gets each look. A look at one worker costs four small reads of `/proc`.

mod history;
mod judge;
mod speed;
mod worker;

pub use history::{AppRows, History, WorkerPoint, WorkerRows};

use crate::fleet::alarms::{Alarm, Alarms, Limits};
use crate::fleet::figures::{Figures, Sample};
use crate::fleet::status::WorkerStatus;
use crate::journal::Journal;
use front::channel::Sender;
use front::gauges::FrontGauges;
use front::roster::{Board, Slot, Worker};
use front::sys::clock::boottime_us;
use history::STEP_S;
use judge::Slow;
use speed::Speed;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};
use worker::{Known, look_at};

const EVERY: Duration = Duration::from_secs(1);
/// A look that comes so much too late means that we were stopped, or the machine suspended.
const LATE: Duration = Duration::from_secs(2);

/// What the supervisor gets once a second.
#[derive(Clone, Debug)]
pub struct Look {
    pub at: Instant,
    /// We or the machine have stood still since the look before: nobody can be blamed for silence.
    pub stood_still: bool,
    pub workers: HashMap<Slot, Sample>,
}

#[derive(Default)]
struct Kept {
    figures: Figures,
    history: History,
    alarms: Vec<Alarm>,
}

/// The way to the figures. Written by the monitor's thread, read by whoever tells them.
pub struct Monitor {
    kept: Arc<Mutex<Kept>>,
}

/// What the thread looks at.
pub struct Views {
    pub statuses: Arc<Mutex<Vec<WorkerStatus>>>,
    pub board: Arc<Board>,
    /// To the supervisor. A look that it has not taken yet is newer than none.
    pub looks: Sender<Look>,
    pub front: Arc<FrontGauges>,
    pub journal: Journal,
    pub run_dir: PathBuf,
    pub limits: Limits,
    /// To the supervisor: alarms that were raised or cleared. It always takes them.
    pub alarms: Sender<Alarm>,
}

impl Monitor {
    /// The thread ends with the monitor.
    pub fn start(views: Views) -> io::Result<Monitor> {
        let kept = Arc::new(Mutex::default());
        let shared = Arc::downgrade(&kept);
        let mut looks = Looks {
            views,
            looked_us: boottime_us(),
            workers: HashMap::new(),
            apps: HashMap::new(),
            turned_away: None,
            slow: Slow::default(),
            looks: 0,
            alarms: Alarms::default(),
        };
        thread::Builder::new()
            .name("monitor".to_owned())
            .spawn(move || looks.run(&shared))?;
        Ok(Monitor { kept })
    }

    pub fn figures(&self) -> Figures {
        self.lock().figures.clone()
    }

    pub fn history(&self) -> History {
        self.lock().history.clone()
    }

    /// Alarms that are raised, the oldest first, then those that were, the newest first.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.lock().alarms.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether so much time has passed between two looks that we cannot have been running. The clock is
/// one that goes on while the machine is suspended.
fn stood_still(then_us: u64, now_us: u64) -> bool {
    Duration::from_micros(now_us.saturating_sub(then_us)) >= EVERY + LATE
}

/// What the thread owns.
struct Looks {
    views: Views,
    looked_us: u64,
    workers: HashMap<Slot, Known>,
    apps: HashMap<String, Speed>,
    /// Clients that were, up to the look before.
    turned_away: Option<u64>,
    slow: Slow,
    looks: u64,
    alarms: Alarms,
}

impl Looks {
    fn run(&mut self, kept: &Weak<Mutex<Kept>>) {
        let began = Instant::now();
        let mut steps = 0;
        while let Some(kept) = kept.upgrade() {
            let now_us = boottime_us();
            let stood_still = stood_still(self.looked_us, now_us);
            self.looked_us = now_us;
            let at = Instant::now();
            let (figures, points) = self.look(stood_still);
            let _ = self.views.looks.try_send(Look {
                at,
                stood_still,
                workers: figures.workers.clone(),
            });
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if began.elapsed().as_secs() / STEP_S > steps {
                steps = began.elapsed().as_secs() / STEP_S;
                let apps = figures
                    .apps
                    .iter()
                    .map(|(name, point)| (name.clone(), *point));
                kept.history.step(&apps.collect::<Vec<_>>(), &points);
            }
            kept.figures = figures;
            kept.alarms = self.alarms.all();
            drop(kept);
            thread::sleep(EVERY);
        }
    }

    fn look(&mut self, stood_still: bool) -> (Figures, Vec<(Slot, WorkerPoint)>) {
        let roster = self.views.board.latest();
        let statuses = self
            .views
            .statuses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut figures = Figures::default();
        let mut points = Vec::new();
        self.workers
            .retain(|slot, _| statuses.iter().any(|status| status.slot == *slot));
        for status in &statuses {
            let gauges = roster.find(status.slot).map(|(_, worker)| &*worker.gauges);
            let sample = look_at(&mut self.workers, status, gauges);
            let sockets = gauges.map_or(0, |gauges| {
                let relayed = gauges.tunnels.load(Relaxed);
                relayed.saturating_add(gauges.handed_off.load(Relaxed))
            });
            points.push((
                status.slot,
                WorkerPoint {
                    cpu_percent: sample.cpu_percent,
                    memory_bytes: sample.resident_bytes,
                    loop_lag_ms: status.stats.map(|stats| stats.lag_ms),
                    sockets,
                },
            ));
            figures.workers.insert(status.slot, sample);
        }
        self.apps
            .retain(|name, _| roster.apps.iter().any(|app| *app.name == **name));
        let mut broken = HashMap::new();
        for app in &roster.apps {
            let broken_by = |worker: &Worker| worker.gauges.broken.load(Relaxed);
            let broken_ever = app.workers.iter().map(broken_by).sum();
            let speed = self.apps.entry(app.name.to_string()).or_default();
            let (point, broken_per_s) = speed.point(&app.gauges.answers, broken_ever);
            figures.apps.insert(app.name.to_string(), point);
            if app.routes.is_some() {
                broken.insert(&*app.name, broken_per_s);
            }
        }
        self.judge(&statuses, &figures, &broken, stood_still);
        (figures, points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_still_is_not_being_busy() {
        for (passed_us, wanted) in [(1_000_100, false), (2_500_000, false), (9_000_000, true)] {
            assert_eq!(stood_still(7_000_000, 7_000_000 + passed_us), wanted);
        }
    }
}
