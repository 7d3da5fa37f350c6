//! Figures that are rates: CPU, memory and requests of each worker, speed of each app, looked at
//! once a second by a thread of its own. A look at one worker costs two small reads of `/proc`.

use crate::admin::history::{AppPoint, History, STEP_S, WorkerPoint};
use crate::fleet::Fleet;
use crate::gauges::AppGauges;
use crate::gauges::answers::Counts;
use crate::roster::{Board, Slot};
use crate::sys::process::Pid;
use crate::sys::procfs::{self, TICKS_PER_SECOND};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);
/// Seconds over which an app's speed is taken.
const WINDOW_S: usize = 10;

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
    pub requests_per_s: f64,
}

/// The newest figures.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub workers: HashMap<Slot, Sample>,
    /// Over the last ten seconds, by name.
    pub apps: HashMap<String, AppPoint>,
}

/// What has been counted of a worker up to a look.
#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Instant,
    pid: Option<u32>,
    cpu_ticks: u64,
    finished: u64,
}

#[derive(Default)]
struct Kept {
    figures: Figures,
    history: History,
}

/// Written by its thread, read by whoever answers.
pub struct Sampler {
    kept: Arc<Mutex<Kept>>,
}

impl Sampler {
    /// The thread ends with the sampler.
    pub fn start(fleet: Arc<Fleet>, board: Arc<Board>) -> io::Result<Sampler> {
        let kept = Arc::new(Mutex::default());
        let shared = Arc::downgrade(&kept);
        let mut looks = Looks {
            fleet,
            board,
            workers: HashMap::new(),
            apps: HashMap::new(),
        };
        thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || looks.run(&shared))?;
        Ok(Sampler { kept })
    }

    pub fn figures(&self) -> Figures {
        self.lock().figures.clone()
    }

    pub fn history(&self) -> History {
        self.lock().history.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread owns.
struct Looks {
    fleet: Arc<Fleet>,
    board: Arc<Board>,
    workers: HashMap<Slot, Counted>,
    /// Looks of the last seconds, oldest first.
    apps: HashMap<String, VecDeque<(Instant, Counts)>>,
}

impl Looks {
    fn run(&mut self, kept: &Weak<Mutex<Kept>>) {
        let began = Instant::now();
        let mut steps = 0;
        while let Some(kept) = kept.upgrade() {
            let (figures, points) = self.look();
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
            drop(kept);
            thread::sleep(EVERY);
        }
    }

    fn look(&mut self) -> (Figures, Vec<(Slot, WorkerPoint)>) {
        let roster = self.board.latest();
        let mut figures = Figures::default();
        let mut points = Vec::new();
        let mut counts = HashMap::new();
        for status in self.fleet.snapshot() {
            let family = status.pid.and_then(Pid::new).and_then(procfs::family_usage);
            let usage = family.unwrap_or_default();
            let gauges = roster.find(status.slot).map(|(_, worker)| &*worker.gauges);
            let now = Counted {
                at: Instant::now(),
                pid: status.pid,
                cpu_ticks: usage.cpu_ticks,
                finished: gauges.map_or(0, |gauges| gauges.finished.load(Relaxed)),
            };
            let then = self.workers.get(&status.slot);
            let sample = Sample {
                resident_bytes: usage.resident_bytes,
                ..then.map_or_else(Sample::default, |then| rates(*then, now))
            };
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
            counts.insert(status.slot, now);
            figures.workers.insert(status.slot, sample);
        }
        self.workers = counts;
        self.apps
            .retain(|name, _| roster.apps.iter().any(|app| *app.name == **name));
        for app in &roster.apps {
            let point = match app.workers.first() {
                Some(worker) => self.speed(&app.name, &worker.gauges.app),
                None => AppPoint::default(),
            };
            figures.apps.insert(app.name.to_string(), point);
        }
        (figures, points)
    }

    /// How an app has done over the window.
    fn speed(&mut self, name: &str, gauges: &AppGauges) -> AppPoint {
        let now = (Instant::now(), gauges.answers.counts());
        let looks = self.apps.entry(name.to_owned()).or_default();
        while looks.len() > WINDOW_S {
            looks.pop_front();
        }
        let point = looks
            .front()
            .map_or_else(AppPoint::default, |(at, before)| {
                let seconds = now.0.saturating_duration_since(*at).as_secs_f64();
                app_point(&now.1.since(before), seconds)
            });
        looks.push_back(now);
        point
    }
}

fn app_point(counts: &Counts, seconds: f64) -> AppPoint {
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

/// What happened between two looks, by the second.
fn rates(then: Counted, now: Counted) -> Sample {
    let seconds = now.at.saturating_duration_since(then.at).as_secs_f64();
    if seconds <= 0.0 {
        return Sample::default();
    }
    // Another process begins to count at 0; a descendant that has ended takes its count along.
    let ticks = match now.pid == then.pid {
        true => now.cpu_ticks.saturating_sub(then.cpu_ticks),
        false => now.cpu_ticks,
    };
    let finished = now.finished.saturating_sub(then.finished);
    Sample {
        pid: now.pid,
        cpu_ticks: now.cpu_ticks,
        cpu_percent: ticks as f64 * 100.0 / TICKS_PER_SECOND as f64 / seconds,
        resident_bytes: 0,
        requests_per_s: finished as f64 / seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gauges::answers::Answers;

    #[test]
    fn rates_are_by_the_second() {
        let then = Counted {
            at: Instant::now(),
            pid: Some(7),
            cpu_ticks: 100,
            finished: 1000,
        };
        let now = Counted {
            at: then.at + Duration::from_secs(2),
            cpu_ticks: 150,
            finished: 1010,
            ..then
        };
        let sample = rates(then, now);
        assert_eq!((sample.cpu_percent, sample.requests_per_s), (25.0, 5.0));
        // A new process has not used what the one before it had.
        let other = Counted {
            pid: Some(8),
            cpu_ticks: 20,
            ..now
        };
        assert_eq!(rates(then, other).cpu_percent, 10.0);
        assert_eq!(rates(now, then), Sample::default());
    }

    #[test]
    fn an_app_without_answers_has_no_speed() {
        assert_eq!(app_point(&Counts::default(), 10.0).p99_ms, None);
        let answers = Answers::default();
        answers.count(0, 2000, 200);
        answers.count(0, 2000, 503);
        let point = app_point(&answers.counts(), 10.0);
        assert_eq!((point.requests_per_s, point.errors_per_s), (0.2, 0.1));
        assert!(point.p50_ms.is_some_and(|ms| (1.8..2.6).contains(&ms)));
    }
}
