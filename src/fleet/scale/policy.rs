//! How many workers an app should have: a pure function of what its workers look like, over time.
//!
//! Each worker has one *load* from 0 to 1: 1 is a worker that can do no more. The sum over the
//! workers is the demand. More workers come at once when all are full and somebody waits, and
//! within seconds when the mean is above [`GROW_ABOVE`]; one less serves when the others would stay
//! below [`SHRINK_BELOW`] for the app's `cool_down`. The distance between the two, and the pauses after
//! each change, are what keeps the number from swinging.
//!
//! A worker that does not come up, or has fallen silent, is never a reason for more of them.

use front::order;
use std::time::{Duration, Instant};

/// How often an app is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A worker above this load does all it can.
const FULL: f64 = 0.95;
/// All workers full for this long, and requests that wait: a burst.
const BURST: Duration = Duration::from_millis(350);
/// The mean load, over [`MEAN_OVER`], above which there are too few workers.
const GROW_ABOVE: f64 = 0.75;
/// The load that workers have when there are enough of them.
const AIM: f64 = 0.6;
/// The load that the others may reach when one leaves.
const SHRINK_BELOW: f64 = 0.45;
/// Over how long the demand is averaged.
const MEAN_OVER: Duration = Duration::from_secs(10);
/// What a worker does right after its start is no measure: it compiles, fills caches, connects.
const SETTLE: Duration = Duration::from_secs(2);
/// Event loops that are late by this much at every worker...
const LAG_LONG_MS: f64 = 100.0;
/// ...for this long ask for one more worker, if there is work to share.
const LAG_FOR: Duration = Duration::from_secs(5);
/// How long it is not asked again whether there is room.
const HELD_PAUSE: Duration = Duration::from_secs(5);
/// A Node worker tells about itself every second: one that is late is busy...
const LATE_AFTER: Duration = Duration::from_secs(3);
/// ...and one that is silent is stuck. It is neither help nor a reason for more.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// How a worker stands to the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Serving,
    /// It serves, but has said nothing for [`SILENT_AFTER`].
    Silent,
    /// It starts, or is started again and again.
    Coming,
    /// It was taken out by hand, or has ended for good. It is there, and does nothing.
    Out,
}

/// What was measured at one worker since the last look. What is not known is None.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Share of the time that its busiest main thread ran, or wanted to.
    pub thread: Option<f64>,
    /// Share of the time that its event loop was busy, as the hook says.
    pub event_loop: Option<f64>,
    pub lag_ms: Option<f64>,
    /// Since the hook last said something, if it ever did.
    pub silent: Option<Duration>,
    /// A connection waits that it has not accepted.
    pub waits: bool,
    /// Requests that are with it, and how many it is meant to have at once, if the app says so.
    pub in_flight: u32,
    pub in_flight_target: Option<u32>,
}

/// One worker at one look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    pub role: Role,
    pub load: f64,
    pub lag_ms: f64,
    pub in_flight: u32,
}

impl Seen {
    /// A worker that does not serve.
    pub fn idle(role: Role) -> Seen {
        Seen {
            role,
            load: 0.0,
            lag_ms: 0.0,
            in_flight: 0,
        }
    }

    /// A worker that serves, by what was measured. The fullest of its measures counts.
    pub fn serving(measured: &Measured) -> Seen {
        let late = measured.silent.is_some_and(|time| time >= LATE_AFTER);
        let silent = measured.silent.is_some_and(|time| time >= SILENT_AFTER);
        let by_requests = measured
            .in_flight_target
            .map(|target| f64::from(measured.in_flight) / f64::from(target.max(1)));
        let full = (measured.waits || late).then_some(1.0);
        let load = [
            measured.thread,
            measured.event_loop.filter(|_| !late),
            by_requests,
            full,
        ];
        let load = load.into_iter().flatten().fold(0.0, f64::max);
        Seen {
            role: if silent { Role::Silent } else { Role::Serving },
            load: load.min(1.0),
            lag_ms: measured.lag_ms.unwrap_or(0.0),
            in_flight: measured.in_flight,
        }
    }
}

/// An app at one look.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    pub workers: &'a [Seen],
    /// Requests that wait for a worker to be there at all.
    pub waiting: u32,
    /// Somebody has been served since the last look, or is being served.
    pub in_use: bool,
}

/// What is asked for. `min` and `max` are the same when the number is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub min: u32,
    pub max: u32,
    /// How long there must have been one worker too many, and the pause between two that leave.
    pub cool_down: Duration,
    /// With a `min` of 0: how long nobody must have asked before the last worker leaves.
    pub idle_timeout: Duration,
}

/// What is to be done. The sentences say why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Stay,
    Grow { by: u32, why: String },
    Shrink { by: u32, why: String },
}

/// What of the machine is left for more workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Workers, up to the most over all apps.
    pub workers: u32,
    pub workers_max: u32,
    /// Memory that is free, what is not touched of it, and what one worker takes; None: unknown.
    pub memory: Option<Memory>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub available: u64,
    pub reserve: u64,
    pub worker: u64,
}

impl Room {
    /// How many of `by` workers there is room for; the error says what there is too little of.
    pub fn admit(&self, by: u32) -> Result<u32, String> {
        if self.workers == 0 {
            return Err(format!(
                "there are {} workers over all apps, as many as --workers-max allows",
                self.workers_max
            ));
        }
        let by = by.min(self.workers);
        let Some(memory) = self.memory else {
            return Ok(by);
        };
        let free = memory.available.saturating_sub(memory.reserve);
        let fit = free.checked_div(memory.worker).unwrap_or(u64::from(by));
        match u32::try_from(fit).unwrap_or(u32::MAX) {
            0 => {
                let mib = |bytes: u64| bytes >> 20;
                Err(format!(
                    "memory: {} MiB are available, {} MiB are kept free (--memory-reserve), and a worker takes {} MiB",
                    mib(memory.available),
                    mib(memory.reserve),
                    mib(memory.worker)
                ))
            }
            fit => Ok(by.min(fit)),
        }
    }
}

/// What is remembered of one app from look to look.
#[derive(Clone, Debug, Default)]
pub struct Scaler {
    looked: Option<Instant>,
    /// The mean of the demand over [`MEAN_OVER`].
    demand: f64,
    /// How many there were and served at the last look, and since when.
    there: (usize, usize),
    same_since: Option<Instant>,
    full_since: Option<Instant>,
    laggy_since: Option<Instant>,
    calm_since: Option<Instant>,
    idle_since: Option<Instant>,
    held_until: Option<Instant>,
}

impl Scaler {
    /// Takes a look and says what is to be done.
    pub fn judge(&mut self, now: Instant, limits: Limits, look: Look<'_>) -> Verdict {
        self.note(now, look);
        let there = u32::try_from(look.workers.len()).unwrap_or(u32::MAX);
        if self.held_until.is_some_and(|until| now < until) {
            return self.fewer(now, limits, there);
        }
        if there < limits.min {
            let why = format!("{} workers are asked for", limits.min);
            return Verdict::Grow {
                by: limits.min - there,
                why,
            };
        }
        if there == 0 && limits.max > 0 && look.waiting > 0 {
            let why = "a request has come".to_owned();
            return Verdict::Grow { by: 1, why };
        }
        let coming = look.workers.iter().any(|seen| seen.role == Role::Coming);
        let settled = lasts(self.same_since, SETTLE, now);
        if there < limits.max
            && !coming
            && settled
            && let Some((by, why)) = self.too_few(now, look)
        {
            let by = by.clamp(1, limits.max - there);
            return Verdict::Grow { by, why };
        }
        self.fewer(now, limits, there)
    }

    /// There was no room: it is asked for again after a while.
    pub fn hold(&mut self, now: Instant) {
        self.held_until = Some(now + HELD_PAUSE);
    }

    /// The mean load of those that serve.
    pub fn mean(&self) -> f64 {
        self.demand / as_f64(self.there.1.max(1))
    }

    fn note(&mut self, now: Instant, look: Look<'_>) {
        let serving = || {
            look.workers
                .iter()
                .filter(|seen| seen.role == Role::Serving)
        };
        let count = serving().count();
        let demand: f64 = serving().map(|seen| seen.load).sum();
        let since = self.looked.replace(now).unwrap_or(now);
        let passed = now.saturating_duration_since(since).as_secs_f64();
        // A mean that forgets, as exp(-t/T) would, without the rounding that differs by machine.
        self.demand += (demand - self.demand) * passed / (passed + MEAN_OVER.as_secs_f64());
        let there = (look.workers.len(), count);
        if there != self.there || self.same_since.is_none() {
            self.there = there;
            self.same_since = Some(now);
            self.full_since = None;
            self.laggy_since = None;
            self.calm_since = None;
        }
        let in_flight: u64 = serving().map(|seen| u64::from(seen.in_flight)).sum();
        // One request for each worker is work, more are waiting for it.
        let waits = in_flight + u64::from(look.waiting) > count as u64;
        let full = count > 0 && waits && demand >= FULL * as_f64(count);
        begin(&mut self.full_since, full, now);
        let laggy = count > 0 && serving().all(|seen| seen.lag_ms >= LAG_LONG_MS);
        begin(&mut self.laggy_since, laggy, now);
        // One that does not come up is the first to go, and takes nothing along.
        let has = |role| look.workers.iter().any(|seen| seen.role == role);
        let others = count.saturating_sub(usize::from(!has(Role::Coming)));
        let enough = others > 0 && self.demand < SHRINK_BELOW * as_f64(others);
        let calm = enough && !full && !has(Role::Silent);
        begin(&mut self.calm_since, calm, now);
        begin(&mut self.idle_since, !look.in_use && look.waiting == 0, now);
    }

    /// How many more would be right, and why.
    fn too_few(&self, now: Instant, look: Look<'_>) -> Option<(u32, String)> {
        let (_, count) = self.there;
        if count == 0 {
            return None;
        }
        // More than twice as many at once would be a guess: a full worker hides what waits behind it.
        let to_aim = |demand: f64| {
            let wanted = (demand / AIM).ceil() as u32;
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            wanted.saturating_sub(count).clamp(1, count)
        };
        if lasts(self.full_since, BURST, now) {
            let requests: u32 = look.workers.iter().map(|seen| seen.in_flight).sum();
            let all = if count == 1 {
                "the worker is".to_owned()
            } else {
                format!("all {count} workers are")
            };
            let why = format!("{all} full and {requests} requests are with them");
            return Some((to_aim(as_f64(count)), why));
        }
        let mean = self.mean();
        if mean > GROW_ABOVE {
            let why = format!(
                "the workers are busy to {:.0} % over {} s",
                mean * 100.0,
                MEAN_OVER.as_secs()
            );
            return Some((to_aim(self.demand), why));
        }
        if lasts(self.laggy_since, LAG_FOR, now) && mean > SHRINK_BELOW {
            let why = format!(
                "every event loop is more than {LAG_LONG_MS} ms late for {} s",
                LAG_FOR.as_secs()
            );
            return Some((1, why));
        }
        None
    }

    fn fewer(&self, now: Instant, limits: Limits, there: u32) -> Verdict {
        if there > limits.max {
            let why = format!("{} workers are asked for", limits.max);
            return Verdict::Shrink {
                by: there - limits.max,
                why,
            };
        }
        if limits.min == 0
            && limits.max > 0
            && there > 0
            && lasts(self.idle_since, limits.idle_timeout, now)
        {
            let why = format!("no request for {} s", limits.idle_timeout.as_secs());
            return Verdict::Shrink { by: there, why };
        }
        // The last one leaves only when nobody asks.
        if there > limits.min.max(1) && lasts(self.calm_since, limits.cool_down, now) {
            let why = format!(
                "the workers are busy to {:.0} %, and the others are enough",
                self.mean() * 100.0
            );
            return Verdict::Shrink { by: 1, why };
        }
        Verdict::Stay
    }
}

/// Those that are best spared, the first one first. `sessions` of each, and whether it serves.
/// Worker 0 is the last to go: apps give it the work of which there is only one.
pub fn spared<T: Copy>(workers: &[(T, u32, Role, usize)], by: u32) -> Vec<T> {
    let mut order: Vec<_> = workers.to_vec();
    order::sort_by_key(&mut order, |(_, instance, role, sessions)| {
        let serves = matches!(role, Role::Serving | Role::Silent);
        (
            serves,
            *instance == 0,
            *sessions,
            std::cmp::Reverse(*instance),
        )
    });
    let by = usize::try_from(by).unwrap_or(usize::MAX);
    order.into_iter().take(by).map(|(who, ..)| who).collect()
}

/// Notes since when something holds.
fn begin(since: &mut Option<Instant>, holds: bool, now: Instant) {
    *since = holds.then(|| since.unwrap_or(now));
}

fn lasts(since: Option<Instant>, time: Duration, now: Instant) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) >= time)
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
