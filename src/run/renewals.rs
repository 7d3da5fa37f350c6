//! What asks for new workers by itself: the clock (pm2's `cron_restart`) and files that change (pm2's
//! `watch`). Belongs to the conductor, which waits for both; files are watched by a thread of
//! their own (`watching`).

use super::watching::{Changed, Folders, Watching};
use crate::fleet::cron::Cron;
use crate::fleet::spec::AppSpec;
use crossbeam_channel::{after, never};
use front::channel::Receiver;
use front::sys::calendar;
use log::{info, warn};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The clock on the wall can be set while we wait, so it is looked at this often.
const LOOK: Duration = Duration::from_secs(60);

/// Written and read by the conductor alone.
#[derive(Default)]
pub struct Renewals {
    times: Vec<Time>,
    folders: Vec<Folders>,
    watching: Option<Watching>,
}

struct Time {
    app: String,
    cron: Cron,
    /// Seconds since 1970; None: never.
    next: Option<i64>,
    /// When `next` was found.
    found: i64,
}

impl Renewals {
    /// Follows what the configuration says now of all apps, or of `only` one.
    pub fn follow(&mut self, apps: &[AppSpec], only: Option<&str>) {
        let now = unix_now();
        let concerned = |name: &str| only.is_none_or(|only| only == name);
        self.times.retain(|time| !concerned(&time.app));
        let mut folders = self.folders.clone();
        folders.retain(|folders| !concerned(&folders.app));
        for spec in apps.iter().filter(|spec| concerned(&spec.name)) {
            if let Some(cron) = spec.cron {
                self.times.push(Time::new(spec.name.clone(), cron, now));
            }
            if let Some(watch) = &spec.watch {
                folders.push(Folders {
                    app: spec.name.clone(),
                    dir: spec.dir.clone(),
                    watch: watch.clone(),
                });
            }
        }
        if folders == self.folders {
            return;
        }
        self.folders = folders;
        // The old one ends with its value.
        self.watching = None;
        if !self.folders.is_empty() {
            match Watching::start(self.folders.clone()) {
                Ok(watching) => self.watching = Some(watching),
                Err(error) => warn!("no files are watched: {error}"),
            }
        }
    }

    /// Speaks when it is time to ask [`Renewals::due`].
    pub fn alarm(&self) -> crossbeam_channel::Receiver<Instant> {
        let now = unix_now();
        let soonest = self.times.iter().filter_map(|time| time.next).min();
        soonest.map_or_else(never, |next| {
            let left = u64::try_from(next.saturating_sub(now)).unwrap_or(0);
            after(Duration::from_secs(left).min(LOOK))
        })
    }

    /// The apps whose time has come.
    pub fn due(&mut self) -> Vec<String> {
        self.due_at(unix_now())
    }

    fn due_at(&mut self, now: i64) -> Vec<String> {
        let mut due = Vec::new();
        for time in &mut self.times {
            let come = time.next.is_some_and(|next| next <= now);
            if come {
                due.push(time.app.clone());
            }
            // The clock has been put back: what was far off is nearer now.
            if come || now < time.found {
                *time = Time::new(time.app.clone(), time.cron, now);
            }
        }
        due
    }

    /// Apps of which something has changed, after it has settled.
    pub fn changed(&self) -> Receiver<Changed> {
        self.watching
            .as_ref()
            .map_or_else(Receiver::never, |watching| watching.changed().clone())
    }

    /// The thread that watches files has ended, which it has told.
    pub fn unwatch(&mut self) {
        self.watching = None;
    }
}

impl Time {
    fn new(app: String, cron: Cron, now: i64) -> Time {
        let next = cron.next(now, calendar::local);
        if let Some(next) = next {
            let minutes = next.saturating_sub(now) / 60;
            info!("app {app}: its workers are renewed in {minutes} min (cron_restart)");
        }
        Time {
            app,
            cron,
            next,
            found: now,
        }
    }
}

/// The clock on the wall, which may be wrong, but not before 1970.
fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.map_or(0, |since| since.as_secs())).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_once_and_again_after_the_clock_was_put_back() {
        let cron: Cron = "*/10 * * * *".parse().expect("a time");
        let mut renewals = Renewals::default();
        renewals.times.push(Time::new("app".to_owned(), cron, 6000));
        assert!(renewals.due_at(6599).is_empty());
        assert_eq!(renewals.due_at(6600), ["app"]);
        assert!(renewals.due_at(6601).is_empty());
        assert!(renewals.due_at(3000).is_empty());
        assert_eq!(renewals.due_at(3600), ["app"]);
    }
}
