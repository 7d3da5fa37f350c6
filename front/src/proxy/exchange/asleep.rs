//! A request for an app that has no worker yet: it wakes the app and waits, bounded in number and
//! time, in its pool thread's set like any other. What it waits for is a worker on the roster, whose
//! socket then holds the request until the worker is up.

use super::Exchange;
use crate::gauges::AppGauges;
use crate::proxy::{Context, Own};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Requests that may wait for the first worker of one app. Beyond: 503.
const WAITING_MAX: u32 = 1024;

/// A request's place among those that wait for an app's first worker. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Queued {
    gauges: Arc<AppGauges>,
    pub(super) patience: Duration,
}

impl Queued {
    fn join(gauges: &Arc<AppGauges>, patience: Duration) -> Option<Queued> {
        let joined = Queued {
            gauges: Arc::clone(gauges),
            patience,
        };
        (gauges.waiting.fetch_add(1, Relaxed) < WAITING_MAX).then_some(joined)
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.gauges.waiting.fetch_sub(1, Relaxed);
    }
}

impl Exchange {
    /// Takes a place among those that wait, if it has none yet, and has the app woken.
    pub(super) fn wait_for_first_worker(&mut self, ctx: &Context, app: usize) -> Result<(), Own> {
        let Some(app) = ctx.router.roster().apps.get(app) else {
            return Err(Own::NoApp);
        };
        let Some(asleep) = &app.asleep else {
            return Err(Own::NoWorker);
        };
        if self.queued.is_none() {
            let queued = Queued::join(&app.gauges, asleep.patience);
            self.queued = Some(queued.ok_or(Own::AsleepMax)?);
            (asleep.waker.0)();
        }
        Ok(())
    }

    /// The app that this request waits for, and for how long it does.
    pub fn awaits(&self, ctx: &Context) -> Option<(String, Duration)> {
        let queued = self.queued.as_ref()?;
        let app = ctx.router.roster().apps.get(self.awaited_app(ctx)?)?;
        Some((app.name.to_string(), queued.patience))
    }

    /// Goes on waiting for an app that an earlier binary has begun to wake.
    pub fn go_on_waiting(&mut self, ctx: &Context, app: &str, patience: Duration) {
        let found = ctx.router.roster().apps.iter().find(|a| *a.name == *app);
        if let Some(app) = found {
            self.queued = Queued::join(&app.gauges, patience);
            if let Some(asleep) = &app.asleep {
                (asleep.waker.0)();
            }
        }
    }

    /// The app that this request waits for, by its place in the roster.
    pub(super) fn awaited_app(&self, ctx: &Context) -> Option<usize> {
        let queued = self.queued.as_ref()?;
        let mut apps = ctx.router.roster().apps.iter();
        apps.position(|app| Arc::ptr_eq(&app.gauges, &queued.gauges))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let gauges = Arc::default();
        let join = || Queued::join(&gauges, Duration::ZERO);
        let all: Vec<_> = (0..WAITING_MAX).map(|_| join()).collect();
        assert!(all.iter().all(Option::is_some));
        assert!(join().is_none());
        drop(all);
        assert_eq!(gauges.waiting.load(Relaxed), 0);
    }
}
