//! One look at one worker: what `/proc` says of its processes, and what has changed since the look
//! before. Used by the monitor's thread.

use super::speed::Speed;
use crate::fleet::figures::{AppPoint, Sample};
use crate::fleet::status::WorkerStatus;
use front::gauges::WorkerGauges;
use front::roster::Slot;
use front::sys::process::Pid;
use front::sys::procfs::{self, TICKS_PER_SECOND};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How often a worker's limit of descriptors is read again: hardly anybody changes it.
const LIMIT_EVERY: Duration = Duration::from_secs(60);

/// What was read of a worker before.
pub(super) struct Known {
    at: Instant,
    pid: Option<u32>,
    cpu_ticks: u64,
    finished: u64,
    /// Messages of siblings, ever, and since the look before.
    lost: u64,
    pub(super) newly_lost: u64,
    descriptors_max: Option<u64>,
    limit_at: Instant,
    speed: Speed,
}

pub(super) fn look_at(
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
}
