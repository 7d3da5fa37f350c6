//! What can be told about workers: plain values that the supervisor fills in and others read.

use crate::fleet::message::Stats;
use crate::fleet::worker::State;
use front::as_json;
use front::gauges::WorkerGauges;
use front::roster::Slot;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

/// Deaths that are remembered for each worker.
pub const DEATHS_MAX: usize = 16;

/// A worker's state in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Waits for its next start.
    Waiting,
    Starting,
    Ready,
    /// Sends away those that it serves, one by one.
    Draining,
    Stopping,
    /// Keeps failing; tried at the slow pace.
    Errored,
    Stopped,
}

impl Condition {
    pub fn of(state: &State, errored: bool) -> Condition {
        match state {
            State::Ready { .. } => Condition::Ready,
            State::Draining { .. } => Condition::Draining,
            State::Stopping { .. } | State::Leaving { .. } => Condition::Stopping,
            State::Stopped => Condition::Stopped,
            State::Waiting { .. }
            | State::Spawning
            | State::Starting(_)
            | State::Closed { .. }
            | State::Condemned { .. }
                if errored =>
            {
                Condition::Errored
            }
            State::Waiting { .. } | State::Spawning => Condition::Waiting,
            State::Starting(_) | State::Closed { .. } => Condition::Starting,
            State::Condemned { .. } => Condition::Stopping,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Condition::Waiting => "waiting",
            Condition::Starting => "starting",
            Condition::Ready => "ready",
            Condition::Draining => "draining",
            Condition::Stopping => "stopping",
            Condition::Errored => "errored",
            Condition::Stopped => "stopped",
        }
    }
}

/// Why a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Somebody wanted it so.
    Asked,
    Crashed,
    /// Killed, because it hung.
    Hung,
    /// Replaced, because it held too much memory.
    Outgrown,
}

as_json!(
    enum Ending {
        Asked,
        Crashed,
        Hung,
        Outgrown,
    }
);

/// The end of one life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub at: SystemTime,
    pub life: u32,
    /// None if no process could be started.
    pub pid: Option<u32>,
    /// `exit code 1`, `SIGKILL: not ready within 8 s`.
    pub reason: String,
    pub ending: Ending,
    /// What it was doing, if it hung.
    pub autopsy: Option<PathBuf>,
}

as_json!(struct Death { at, life, pid, reason, ending, autopsy });

/// What a worker has to do with clients at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    pub requests: u32,
    /// WebSockets that we relay.
    pub relayed: u32,
    /// Connections that were handed to the worker's process.
    pub handed_off: u32,
}

impl Open {
    pub fn of(gauges: &WorkerGauges) -> Open {
        Open {
            requests: gauges.in_flight.load(Relaxed),
            relayed: gauges.tunnels.load(Relaxed),
            handed_off: gauges.handed_off.load(Relaxed),
        }
    }

    pub fn count(self) -> u64 {
        u64::from(self.requests) + u64::from(self.relayed) + u64::from(self.handed_off)
    }
}

/// When the number of an app's workers was changed last, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub at: SystemTime,
    pub text: String,
}

/// How many workers an app has and is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppScale {
    pub app: Arc<str>,
    /// The same as `max`: the number is fixed.
    pub min: u32,
    pub max: u32,
    /// Fixed by `sidekeeper scale`.
    pub by_hand: bool,
    /// Those that are there, whatever they do; not those that leave.
    pub workers: usize,
    pub last: Option<Change>,
    /// Why there are not more, although more are wanted.
    pub held: Option<String>,
}

/// One worker at one moment.
#[derive(Clone, Debug)]
pub struct WorkerStatus {
    pub app: Arc<str>,
    pub slot: Slot,
    pub instance: u32,
    /// False: a reload has still to decide about it, or has replaced it.
    pub member: bool,
    pub life: u32,
    pub condition: Condition,
    /// Its app has had a ready worker, be it for a moment.
    pub app_was_ready: bool,
    pub since: SystemTime,
    pub pid: Option<u32>,
    /// Lives after the first.
    pub restarts: u32,
    /// Newest last.
    pub deaths: Vec<Death>,
    /// Above this it is replaced.
    pub memory_max: Option<u64>,
    /// What the hook said last in this life.
    pub stats: Option<Stats>,
}
