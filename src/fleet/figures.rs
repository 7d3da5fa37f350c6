//! What the monitor measures, as everybody else reads it. Values only.

use front::roster::Slot;
use front::sys::procfs::Doing;
use std::collections::HashMap;

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

/// Figures of one app.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AppPoint {
    pub requests_per_s: f64,
    /// None: no answers.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub errors_per_s: f64,
}

/// The newest figures.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub workers: HashMap<Slot, Sample>,
    /// Over the last ten seconds, by name.
    pub apps: HashMap<String, AppPoint>,
}
