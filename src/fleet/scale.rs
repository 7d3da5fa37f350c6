//! What scaling is about: the policy, which is pure, what it has to keep to, what somebody may ask of it by
//! hand, and what is remembered of an app and a worker between two looks. The supervisor does it.

#[cfg(test)]
mod day;
#[cfg(test)]
mod plot;
pub mod policy;

use self::policy::Scaler;
use crate::fleet::status::Change;
use front::channel::Sender;
use front::roster::Slot;
use front::sys::process::Pid;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Counts the sessions of each life of each worker; asked only when one is to be spared.
#[derive(Clone)]
pub struct CountSessions(pub Arc<dyn Fn() -> HashMap<(Slot, u32), usize> + Send + Sync>);

impl fmt::Debug for CountSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CountSessions")
    }
}

/// What holds for all apps together.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Workers of all apps; an app without a worker counts as one, so that it can be woken.
    pub workers_max: u32,
    /// Memory that is left alone; None: a part of the machine's.
    pub memory_reserve: Option<u64>,
    pub count_sessions: CountSessions,
}

/// An app's part of it.
#[derive(Default)]
pub struct AppScaling {
    pub scaler: Scaler,
    /// By hand, until a reload.
    pub fixed: Option<u32>,
    /// Requests that its workers have finished, to see whether it is in use.
    pub finished: u64,
    /// What one worker took, when that was last known.
    pub worker_bytes: u64,
    pub last: Option<Change>,
    /// Why there are not more workers, if more are wanted.
    pub held: Option<String>,
}

/// How many workers somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Exactly(u32),
    /// So many more or fewer than there are.
    By(i64),
    /// As the configuration says.
    Auto,
}

/// `sidekeeper scale`.
#[derive(Debug)]
pub struct ScaleOrder {
    pub app: String,
    pub target: Target,
    /// What is aimed at from now on, or why that cannot be.
    pub answer: Sender<Result<Aim, String>>,
}

/// What an app's workers are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    Fixed(u32),
    Between(u32, u32),
}

/// What was read of a worker's main thread.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    /// The worker's process, and the largest one that it has started, or itself.
    pub pid: Pid,
    pub main: u32,
    pub family_at: Instant,
    pub ran_ns: u64,
    pub at: Instant,
}
