//! Figures that are rates: CPU, memory and requests of each worker, looked at once a second by a
//! thread of its own. A look at one worker costs two small reads of `/proc`.

use crate::fleet::Fleet;
use crate::roster::{Board, Slot};
use crate::sys::process::Pid;
use crate::sys::procfs::{self, TICKS_PER_SECOND};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);

/// One worker in the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// The process that it speaks of.
    pub pid: Option<u32>,
    /// Of one core; more than 100 is possible.
    pub cpu_percent: f64,
    pub resident_bytes: u64,
    pub requests_per_s: f64,
}

/// What has been counted up to a look.
#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Instant,
    pid: Option<u32>,
    cpu_ticks: u64,
    finished: u64,
}

/// The newest samples. Written by its thread, read by whoever answers.
pub struct Sampler {
    samples: Arc<Mutex<HashMap<Slot, Sample>>>,
}

impl Sampler {
    /// The thread ends with the sampler.
    pub fn start(fleet: Arc<Fleet>, board: Arc<Board>) -> io::Result<Sampler> {
        let samples = Arc::new(Mutex::default());
        let shared = Arc::downgrade(&samples);
        thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || run(&fleet, &board, &shared))?;
        Ok(Sampler { samples })
    }

    pub fn latest(&self) -> HashMap<Slot, Sample> {
        self.samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn run(fleet: &Fleet, board: &Board, samples: &Weak<Mutex<HashMap<Slot, Sample>>>) {
    let mut before: HashMap<Slot, Counted> = HashMap::new();
    while let Some(samples) = samples.upgrade() {
        let (counted, new) = look(fleet, board, &before);
        before = counted;
        *samples.lock().unwrap_or_else(PoisonError::into_inner) = new;
        drop(samples);
        thread::sleep(EVERY);
    }
}

fn look(
    fleet: &Fleet,
    board: &Board,
    before: &HashMap<Slot, Counted>,
) -> (HashMap<Slot, Counted>, HashMap<Slot, Sample>) {
    let roster = board.latest();
    let (mut counted, mut samples) = (HashMap::new(), HashMap::new());
    for status in fleet.snapshot() {
        let usage = status
            .pid
            .and_then(Pid::new)
            .and_then(procfs::family_usage)
            .unwrap_or_default();
        let gauges = roster.find(status.slot).map(|(_, worker)| &worker.gauges);
        let now = Counted {
            at: Instant::now(),
            pid: status.pid,
            cpu_ticks: usage.cpu_ticks,
            finished: gauges.map_or(0, |gauges| gauges.finished.load(Relaxed)),
        };
        let sample = Sample {
            resident_bytes: usage.resident_bytes,
            ..before
                .get(&status.slot)
                .map_or_else(Sample::default, |then| rates(*then, now))
        };
        counted.insert(status.slot, now);
        samples.insert(status.slot, sample);
    }
    (counted, samples)
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
        cpu_percent: ticks as f64 * 100.0 / TICKS_PER_SECOND as f64 / seconds,
        resident_bytes: 0,
        requests_per_s: finished as f64 / seconds,
    }
}
