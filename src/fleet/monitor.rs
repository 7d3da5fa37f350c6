//! The watch: CPU, memory, threads, descriptors and speed of each worker and app, looked at once a
//! second by a thread of its own, which alone reads these figures and keeps those of the last hour.
//! Whoever tells them (`admin`) reads them here; what has to be done about them is decided by the
//! supervisor, which gets each look. A look at one worker costs four small reads of `/proc`.

mod history;

pub use history::{AppPoint, AppRows, History, WorkerPoint, WorkerRows};

use crate::fleet::alarms::{self, Alarm, Alarms, Facts, Limits, WorkerFacts};
use crate::fleet::status::{Condition, WorkerStatus};
use crate::gauges::answers::{Answers, Counts};
use crate::gauges::{FrontGauges, WorkerGauges};
use crate::journal::Journal;
use crate::roster::{Board, Slot, Worker};
use crate::sys::clock::boottime_us;
use crate::sys::disk;
use crate::sys::process::Pid;
use crate::sys::procfs::{self, Doing, TICKS_PER_SECOND};
use crossbeam_channel::Sender;
use history::STEP_S;
use log::{info, warn};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const EVERY: Duration = Duration::from_secs(1);
/// A look that comes so much too late means that we were stopped, or the machine suspended.
const LATE: Duration = Duration::from_secs(2);
/// Seconds over which a speed is taken.
const WINDOW_S: usize = 10;
/// Looks between two at what changes slowly: descriptors of our own, the machine's memory, the disk.
const SLOWLY: u64 = 5;
/// How often a worker's limit of descriptors is read again: hardly anybody changes it.
const LIMIT_EVERY: Duration = Duration::from_secs(60);

/// One worker in the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// The process that it speaks of.
    pub pid: Option<u32>,
    /// Of its process so far.
    pub cpu_ticks: u64,
    /// Of one core; more than 100 is possible.
    pub cpu_percent: f64,
    pub resident_bytes: u64,
    pub threads: u64,
    /// Of the largest of its processes; None: they cannot be read.
    pub descriptors: Option<u64>,
    pub descriptors_max: Option<u64>,
    pub doing: Doing,
    pub requests_per_s: f64,
    /// Times from a request's head to its answer's, over ten seconds; None: no answers.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// The newest figures.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub workers: HashMap<Slot, Sample>,
    /// Over the last ten seconds, by name.
    pub apps: HashMap<String, AppPoint>,
}

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
            was_ready: HashSet::new(),
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

/// What was read of a worker before.
struct Known {
    at: Instant,
    pid: Option<u32>,
    cpu_ticks: u64,
    finished: u64,
    /// Messages of siblings, ever, and since the look before.
    lost: u64,
    newly_lost: u64,
    descriptors_max: Option<u64>,
    limit_at: Instant,
    speed: Speed,
}

/// Counts of the last seconds, oldest first: answers, and exchanges that were broken.
#[derive(Default)]
struct Speed(VecDeque<(Instant, Counts, u64)>);

/// What is looked at less often.
#[derive(Clone, Copy, Debug, Default)]
struct Slow {
    descriptors: Option<(u64, u64)>,
    memory: Option<(u64, u64)>,
    disk: Option<(u64, u64)>,
}

/// What the thread owns.
struct Looks {
    views: Views,
    looked_us: u64,
    workers: HashMap<Slot, Known>,
    apps: HashMap<String, Speed>,
    /// Apps that have had a ready worker.
    was_ready: HashSet<Arc<str>>,
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

    /// Raises and clears alarms.
    fn judge(
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
        for status in members.clone() {
            if status.condition == Condition::Ready && !self.was_ready.contains(&status.app) {
                self.was_ready.insert(Arc::clone(&status.app));
            }
        }
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
            was_ready: self.was_ready.iter().map(|name| &**name).collect(),
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

fn look_at(
    all: &mut HashMap<Slot, Known>,
    status: &WorkerStatus,
    gauges: Option<&WorkerGauges>,
) -> Sample {
    let family = status.pid.and_then(Pid::new).and_then(procfs::family_usage);
    let usage = family.unwrap_or_default();
    let at = Instant::now();
    let finished = gauges.map_or(0, |gauges| gauges.finished.load(Relaxed));
    let lost = gauges.map_or(0, |gauges| gauges.lost.load(Relaxed));
    let fresh = || Known {
        at,
        pid: None,
        cpu_ticks: 0,
        finished,
        lost,
        newly_lost: 0,
        descriptors_max: None,
        limit_at: at,
        speed: Speed::default(),
    };
    let first = !all.contains_key(&status.slot);
    let known = all.entry(status.slot).or_insert_with(fresh);
    let same = status.pid.is_some() && known.pid == status.pid;
    if family.is_none() {
        known.descriptors_max = None;
    } else if !same || known.descriptors_max.is_none() || at - known.limit_at >= LIMIT_EVERY {
        known.descriptors_max = procfs::descriptors_max(usage.main);
        known.limit_at = at;
    }
    // The first look at a worker has nothing to compare with.
    let (cpu_percent, requests_per_s) = match first {
        true => (0.0, 0.0),
        false => known.rates(at, status.pid, usage.cpu_ticks, finished),
    };
    let point = gauges.map_or_else(AppPoint::default, |gauges| {
        known.speed.point(&gauges.answers, 0).0
    });
    known.newly_lost = lost.saturating_sub(known.lost);
    known.lost = lost;
    known.at = at;
    known.pid = status.pid;
    known.cpu_ticks = usage.cpu_ticks;
    known.finished = finished;
    Sample {
        pid: status.pid,
        cpu_ticks: usage.cpu_ticks,
        cpu_percent,
        resident_bytes: usage.resident_bytes,
        threads: usage.threads,
        descriptors: family.and_then(|usage| procfs::open_descriptors(usage.main)),
        descriptors_max: known.descriptors_max,
        doing: usage.doing,
        requests_per_s,
        p50_ms: point.p50_ms,
        p99_ms: point.p99_ms,
    }
}

impl Known {
    /// CPU in percent of a core, and requests, by the second since the look before.
    fn rates(&self, at: Instant, pid: Option<u32>, cpu_ticks: u64, finished: u64) -> (f64, f64) {
        let seconds = at.saturating_duration_since(self.at).as_secs_f64();
        if seconds <= 0.0 {
            return (0.0, 0.0);
        }
        // Another process begins to count at 0; a descendant that has ended takes its count along.
        let ticks = match pid == self.pid {
            true => cpu_ticks.saturating_sub(self.cpu_ticks),
            false => cpu_ticks,
        };
        let finished = finished.saturating_sub(self.finished);
        (
            ticks as f64 * 100.0 / TICKS_PER_SECOND as f64 / seconds,
            finished as f64 / seconds,
        )
    }
}

impl Speed {
    /// How these answers were over the window, and how many exchanges a second were broken.
    fn point(&mut self, answers: &Answers, broken: u64) -> (AppPoint, f64) {
        let now = (Instant::now(), answers.counts(), broken);
        while self.0.len() > WINDOW_S {
            self.0.pop_front();
        }
        let before = self.0.front();
        let point = before.map_or((AppPoint::default(), 0.0), |(at, counts, broken)| {
            let seconds = now.0.saturating_duration_since(*at).as_secs_f64();
            let broken = now.2.saturating_sub(*broken) as f64;
            (
                point(&now.1.since(counts), seconds),
                broken / seconds.max(0.001),
            )
        });
        self.0.push_back(now);
        point
    }
}

fn point(counts: &Counts, seconds: f64) -> AppPoint {
    if seconds <= 0.0 {
        return AppPoint::default();
    }
    let [.., errors] = counts.classes;
    AppPoint {
        requests_per_s: counts.total() as f64 / seconds,
        p50_ms: counts.quantile_us(0.5).map(|us| us / 1000.0),
        p99_ms: counts.quantile_us(0.99).map(|us| us / 1000.0),
        errors_per_s: errors as f64 / seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_by_the_second() {
        let then = Instant::now();
        let known = Known {
            at: then,
            pid: Some(7),
            cpu_ticks: 100,
            finished: 1000,
            lost: 0,
            newly_lost: 0,
            descriptors_max: None,
            limit_at: then,
            speed: Speed::default(),
        };
        let now = then + Duration::from_secs(2);
        assert_eq!(known.rates(now, Some(7), 150, 1010), (25.0, 5.0));
        // A new process has not used what the one before it had.
        assert_eq!(known.rates(now, Some(8), 20, 1010), (10.0, 5.0));
        assert_eq!(known.rates(then, Some(7), 150, 1010), (0.0, 0.0));
    }

    #[test]
    fn an_app_without_answers_has_no_speed() {
        assert_eq!(point(&Counts::default(), 10.0).p99_ms, None);
        let answers = Answers::default();
        answers.count(0, Some(2000), 200);
        answers.count(0, Some(2000), 503);
        let point = point(&answers.counts(), 10.0);
        assert_eq!((point.requests_per_s, point.errors_per_s), (0.2, 0.1));
        assert!(point.p50_ms.is_some_and(|ms| (1.8..2.6).contains(&ms)));
    }

    #[test]
    fn standing_still_is_not_being_busy() {
        for (passed_us, wanted) in [(1_000_100, false), (2_500_000, false), (9_000_000, true)] {
            assert_eq!(stood_still(7_000_000, 7_000_000 + passed_us), wanted);
        }
    }
}
