//! From figures to findings: the thresholds of each alarm. Pure. Where there are two numbers, the
//! first one is bad, below the second one is good again.

use super::{Finding, Kind, Level, Subject};
use crate::fleet::figures::{AppPoint, Sample};
use crate::fleet::status::{Condition, Ending, WorkerStatus};
use std::time::{Duration, SystemTime};

/// Deaths within a minute that are a loop, and those below which it is none any more.
const CRASHES: usize = 4;
const CRASH_WINDOW: Duration = Duration::from_secs(60);
/// For so long a hang is news.
const HANG_WINDOW: Duration = Duration::from_secs(10);
/// Replacements for its memory, within this time, that are a leak too fast.
const OUTGROWN: usize = 3;
const OUTGROWN_WINDOW: Duration = Duration::from_secs(600);
/// A worker that is so much above its limit has not been replaced for long.
const OVER_FACTOR: f64 = 1.2;
/// Of the machine's memory, what must be left.
const MEMORY_LEFT: (f64, f64) = (0.05, 0.08);
const LOOP_LAG_MS: (f64, f64) = (500.0, 250.0);
/// Fewer answers in ten seconds say nothing about all of them.
const ANSWERS_MIN: f64 = 20.0;
const DESCRIPTORS_USED: (f64, f64) = (0.9, 0.8);
const THREADS: (f64, f64) = (1000.0, 800.0);
const DISK_LEFT: (f64, f64) = (0.01, 0.02);
/// A threshold that the user sets is left again at this part of it.
const BACK: f64 = 0.8;

/// Thresholds that the user may set. None: no such alarm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Of a core for a worker with an event loop, of all cores for others.
    pub cpu_percent: Option<f64>,
    /// For the p99 of an app.
    pub latency: Option<Duration>,
    /// Of an app's answers.
    pub errors_percent: Option<f64>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            cpu_percent: Some(95.0),
            latency: Some(Duration::from_secs(5)),
            errors_percent: Some(5.0),
        }
    }
}

/// What is seen of one worker.
pub struct WorkerFacts<'a> {
    pub status: &'a WorkerStatus,
    pub sample: Sample,
    /// Messages that it has lost since the look before.
    pub lost: u64,
}

/// What is seen at one moment.
pub struct Facts<'a> {
    pub now: SystemTime,
    pub cores: usize,
    /// Those that belong to their apps: not those that leave.
    pub workers: Vec<WorkerFacts<'a>>,
    /// Speed over ten seconds, and answers a second that workers have broken.
    pub apps: Vec<(&'a str, AppPoint, f64)>,
    /// Clients that were turned away since the look before.
    pub turned_away: u64,
    pub descriptors: Option<(u64, u64)>,
    /// Available and in all.
    pub memory: Option<(u64, u64)>,
    /// Of the run directory's file system.
    pub disk: Option<(u64, u64)>,
    /// Log files for which there is no room.
    pub log_files_full: u32,
}

/// Everything that there is to say.
pub fn findings(facts: &Facts<'_>, limits: Limits) -> Vec<Finding> {
    let mut all = Vec::new();
    for worker in &facts.workers {
        let status = worker.status;
        let subject = Subject::Worker(status.app.to_string(), status.instance);
        let mut say = |kind, level| {
            let subject = subject.clone();
            all.push(Finding {
                kind,
                subject,
                level,
            });
        };
        say(Kind::CrashLoop, crash_loop(status, facts.now));
        say(Kind::Hang, hang(status, facts.now));
        say(Kind::Memory, memory(status, &worker.sample, facts.now));
        say(Kind::Cpu, cpu(worker, facts.cores, limits));
        if let Some(stats) = status.stats {
            let text = |ms: f64| format!("its event loop was blocked for {ms:.0} ms");
            say(Kind::LoopLag, above(stats.lag_ms, LOOP_LAG_MS, text));
        }
        let sample = &worker.sample;
        if let (Some(open), Some(max)) = (sample.descriptors, sample.descriptors_max) {
            say(Kind::Descriptors, descriptors(open, max));
        }
        let text = |count: f64| format!("it has {count} threads");
        say(Kind::Threads, above(sample.threads as f64, THREADS, text));
        say(
            Kind::BroadcastLoss,
            bad_if(worker.lost > 0, || {
                let lost = counted(worker.lost, "message", "messages");
                format!("it lost {lost} of its siblings in a second")
            }),
        );
    }
    for (app, point, broken) in &facts.apps {
        let mut say = |kind, level| {
            let subject = Subject::App((*app).to_owned());
            all.push(Finding {
                kind,
                subject,
                level,
            });
        };
        say(Kind::Down, down(facts, app));
        say(Kind::Latency, latency(*point, limits));
        say(Kind::Errors, errors(*point, *broken, limits));
    }
    let mut say = |kind, level| {
        let subject = Subject::Instance;
        all.push(Finding {
            kind,
            subject,
            level,
        });
    };
    say(
        Kind::QueueFull,
        bad_if(facts.turned_away > 0, || {
            let clients = counted(facts.turned_away, "client was", "clients were");
            format!("{clients} turned away in a second")
        }),
    );
    if let Some((open, max)) = facts.descriptors {
        say(Kind::Descriptors, descriptors(open, max));
    }
    if let Some((available, total)) = facts.memory {
        let text = |_| format!("the machine has {} MiB of memory left", available >> 20);
        say(
            Kind::Memory,
            below(part(available, total), MEMORY_LEFT, text),
        );
    }
    let full = facts.log_files_full;
    let disk = match facts.disk {
        _ if full > 0 => Level::Bad(format!(
            "no room for {}",
            counted(u64::from(full), "log file", "log files")
        )),
        Some((free, total)) => below(part(free, total), DISK_LEFT, |_| {
            format!("{} MiB are left where the run directory is", free >> 20)
        }),
        None => Level::Good,
    };
    say(Kind::DiskFull, disk);
    all
}

fn bad_if(bad: bool, text: impl FnOnce() -> String) -> Level {
    match bad {
        true => Level::Bad(text()),
        false => Level::Good,
    }
}

/// Bad from `bad` on, good again below `good`.
fn above(value: f64, (bad, good): (f64, f64), text: impl FnOnce(f64) -> String) -> Level {
    match value {
        _ if value >= bad => Level::Bad(text(value)),
        _ if value < good => Level::Good,
        _ => Level::Between,
    }
}

/// Bad below `bad`, good again from `good` on.
fn below(value: f64, (bad, good): (f64, f64), text: impl FnOnce(f64) -> String) -> Level {
    match value {
        _ if value < bad => Level::Bad(text(value)),
        _ if value >= good => Level::Good,
        _ => Level::Between,
    }
}

fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

fn part(some: u64, all: u64) -> f64 {
    some as f64 / all.max(1) as f64
}

/// Ends of one kind within a time.
fn ends(status: &WorkerStatus, ending: Ending, now: SystemTime, within: Duration) -> usize {
    let recent = status.deaths.iter().filter(|death| {
        let age = now.duration_since(death.at).unwrap_or_default();
        death.ending == ending && age < within
    });
    recent.count()
}

fn crash_loop(status: &WorkerStatus, now: SystemTime) -> Level {
    let crashes = ends(status, Ending::Crashed, now, CRASH_WINDOW);
    let last = status.deaths.last().map_or("", |death| &death.reason);
    match (status.condition, crashes) {
        (Condition::Errored, _) => Level::Bad(format!("it keeps failing: {last}")),
        (_, CRASHES..) => Level::Bad(format!("it died {crashes} times in a minute: {last}")),
        (Condition::Ready | Condition::Draining, 0 | 1) => Level::Good,
        (_, _) => Level::Between,
    }
}

fn hang(status: &WorkerStatus, now: SystemTime) -> Level {
    let hung = ends(status, Ending::Hung, now, HANG_WINDOW) > 0;
    bad_if(hung, || {
        let hung = |death: &&crate::fleet::status::Death| death.ending == Ending::Hung;
        let last = status.deaths.iter().rev().find(hung);
        last.map_or_else(String::new, |death| death.reason.clone())
    })
}

fn memory(status: &WorkerStatus, sample: &Sample, now: SystemTime) -> Level {
    let Some(max) = status.memory_max else {
        return Level::Good;
    };
    let times = ends(status, Ending::Outgrown, now, OUTGROWN_WINDOW);
    if times >= OUTGROWN {
        return Level::Bad(format!(
            "it was replaced {times} times in ten minutes, for more than {} MiB",
            max >> 20
        ));
    }
    let (held, max) = (sample.resident_bytes as f64, max as f64);
    above(held, (max * OVER_FACTOR, max), |held| {
        let mib = f64::from(1 << 20);
        format!("it holds {:.0} MiB of {:.0}", held / mib, max / mib)
    })
}

fn cpu(worker: &WorkerFacts<'_>, cores: usize, limits: Limits) -> Level {
    let Some(percent) = limits.cpu_percent else {
        return Level::Good;
    };
    // A loop can use one core; a program with threads all of them.
    let all = if worker.status.stats.is_some() {
        1
    } else {
        cores
    };
    let bad = percent * all as f64;
    above(worker.sample.cpu_percent, (bad, bad * BACK), |used| {
        format!("it uses {used:.0} % of a core")
    })
}

fn descriptors(open: u64, max: u64) -> Level {
    above(part(open, max), DESCRIPTORS_USED, |_| {
        format!("{open} descriptors are open, of at most {max}")
    })
}

fn down(facts: &Facts<'_>, app: &str) -> Level {
    let of_app = || {
        facts
            .workers
            .iter()
            .filter(|worker| &*worker.status.app == app && worker.status.member)
    };
    let ready = of_app().any(|worker| worker.status.condition == Condition::Ready);
    // One that has no workers sleeps until somebody asks for it, and then its first one starts.
    let died = of_app().any(|worker| !worker.status.deaths.is_empty());
    let was_ready = of_app().any(|worker| worker.status.app_was_ready);
    let down = !ready && died && was_ready;
    bad_if(down, || {
        let reason = of_app()
            .filter_map(|worker| worker.status.deaths.last())
            .next_back();
        let reason = reason.map_or("nothing is known of why", |death| &death.reason);
        format!("no worker is ready: {reason}")
    })
}

fn latency(point: AppPoint, limits: Limits) -> Level {
    let (Some(limit), Some(p99_ms)) = (limits.latency, point.p99_ms) else {
        return Level::Good;
    };
    if point.requests_per_s * 10.0 < ANSWERS_MIN {
        return Level::Good;
    }
    let bad_ms = limit.as_secs_f64() * 1000.0;
    above(p99_ms, (bad_ms, bad_ms * BACK), |ms| {
        format!("one answer in a hundred takes {:.1} s or more", ms / 1000.0)
    })
}

fn errors(point: AppPoint, broken_per_s: f64, limits: Limits) -> Level {
    let Some(limit) = limits.errors_percent else {
        return Level::Good;
    };
    let all = point.requests_per_s + broken_per_s;
    if all * 10.0 < ANSWERS_MIN {
        return Level::Good;
    }
    let percent = (point.errors_per_s + broken_per_s) * 100.0 / all;
    above(percent, (limit, limit * BACK), |percent| {
        format!("{percent:.0} % of its answers are errors of the server")
    })
}
