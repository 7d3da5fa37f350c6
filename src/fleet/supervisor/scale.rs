//! Scaling: looks at the apps whose number of workers may change, asks `fleet::scale::policy`, and starts or spares
//! workers. Runs on the supervisor thread, in its turns; while a reload is under way it only wakes
//! who sleeps.
//!
//! A worker that is added is one like any other: it waits for its first life, is on the roster as
//! coming, and serves when it is ready. One that is spared keeps those that it serves until they
//! leave by themselves or, late in `drain_timeout`, are asked to; its end has no deadline.

mod hand;
mod meter;

use crate::fleet::announce;
use crate::fleet::app::App;
use crate::fleet::place::{Place, Standing};
use crate::fleet::scale::Bounds;
use crate::fleet::scale::policy::{
    LOOK_EVERY, Limits, Look, Memory, Role, Room, Scaler, Verdict, spared,
};
use crate::fleet::status::{AppScale, Change, Open};
use crate::fleet::supervisor::Supervisor;
use crate::fleet::worker::{Event, State};
use front::channel::Sender;
use front::order;
use front::roster::{Asleep, Slot, Waker};
use front::sys::procfs;
use log::{info, warn};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

/// Of the machine's memory, what scaling leaves alone unless the user says otherwise.
const RESERVE_PART: u64 = 20;
/// Beyond the worker's own patience: from the request to the start of the worker.
const WAKE_SLACK: Duration = Duration::from_secs(5);

/// The supervisor's part of it.
pub struct Scaling {
    pub bounds: Bounds,
    due: Instant,
    /// Wakes this thread.
    waker: Waker,
}

impl Scaling {
    pub fn new(bounds: Bounds, wake: Sender<()>) -> Scaling {
        let wake = move || {
            // Full: it will look at all apps anyway.
            let _ = wake.try_send(());
        };
        Scaling {
            bounds,
            due: Instant::now(),
            waker: Waker(Arc::new(wake)),
        }
    }
}

impl Supervisor {
    /// A request waits for an app that has no worker.
    pub fn wake(&mut self) {
        self.scaling.due = Instant::now();
    }

    /// We have stood still: what was measured before says nothing.
    pub fn measure_anew(&mut self) {
        for app in &mut self.apps {
            app.scaling.scaler = Scaler::default();
        }
    }

    pub fn scaling_deadline(&self) -> Option<Instant> {
        let elastic = |app| self.is_elastic(app);
        (!self.stopping && (0..self.apps.len()).any(elastic)).then_some(self.scaling.due)
    }

    /// Looks at all apps, if it is time to.
    pub fn go_on_scaling(&mut self, now: Instant) {
        if self.stopping || now < self.scaling.due {
            return;
        }
        self.scaling.due = now + LOOK_EVERY;
        for app in 0..self.apps.len() {
            if self.is_elastic(app) {
                self.look_at_app(app, now);
            }
        }
    }

    /// Whether something could be done about the number of an app's workers.
    fn is_elastic(&self, index: usize) -> bool {
        let Some(app) = self.apps.get(index).filter(|app| app.rank.is_some()) else {
            return false;
        };
        let (limits, count) = (app.limits(), self.members(index).count());
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // A reload may take its time; who sleeps is woken all the same, unless it is its turn.
        if self.reloads() && (count > 0 || self.reloads_app(index)) {
            return false;
        }
        match count {
            0 => limits.min > 0 || limits.max > 0 && app.gauges.waiting.load(Relaxed) > 0,
            count => limits.min < limits.max || count < limits.min || count > limits.max,
        }
    }

    fn members(&self, app: usize) -> impl Iterator<Item = &Place> {
        let member = move |p: &&Place| p.app == app && p.standing == Standing::Member;
        self.places.iter().filter(member)
    }

    fn look_at_app(&mut self, index: usize, now: Instant) {
        let (mut workers, mut in_use, mut finished) = (Vec::new(), false, 0u64);
        for place in &mut self.places {
            if place.app == index && place.standing == Standing::Member {
                workers.push(meter::see(place, now));
                in_use |= Open::of(&place.gauges).count() > 0;
                finished = finished.wrapping_add(place.gauges.finished.load(Relaxed));
            }
        }
        let Some(app) = self.apps.get_mut(index) else {
            return;
        };
        in_use |= std::mem::replace(&mut app.scaling.finished, finished) != finished;
        let look = Look {
            workers: &workers,
            waiting: app.gauges.waiting.load(Relaxed),
            in_use,
        };
        let limits = app.limits();
        match app.scaling.scaler.judge(now, limits, look) {
            Verdict::Stay => {}
            Verdict::Grow { by, why } => self.grow(index, by, &why, now),
            Verdict::Shrink { by, why } => self.shrink(index, by, &why, now),
        }
    }

    fn grow(&mut self, index: usize, by: u32, why: &str, now: Instant) {
        let worker_bytes = self.worker_bytes(index);
        let room = self.room(index, worker_bytes);
        let Some(app) = self.apps.get_mut(index) else {
            return;
        };
        app.scaling.worker_bytes = worker_bytes;
        let by = match room.admit(by) {
            Ok(by) => by,
            Err(too_little) => {
                app.scaling.scaler.hold(now);
                if app.scaling.held.as_ref() != Some(&too_little) {
                    warn!(
                        "{}: no more workers, although {why}: {too_little}",
                        app.name
                    );
                    app.scaling.held = Some(too_little);
                    self.changed = true;
                }
                return;
            }
        };
        for _ in 0..by {
            if let Err(error) = self.add_member(index, now) {
                warn!("no worker can be added: {error}");
                if let Some(app) = self.apps.get_mut(index) {
                    app.scaling.scaler.hold(now);
                }
                return;
            }
        }
        self.tell_change(index, &format!("{by} more"), why);
    }

    /// A worker more, with the lowest number that is free.
    fn add_member(&mut self, index: usize, now: Instant) -> Result<(), crate::fleet::StartError> {
        let Some(app) = self.apps.get(index) else {
            return Ok(());
        };
        let version = Arc::clone(&app.version);
        let taken: Vec<u32> = self.members(index).map(|place| place.instance).collect();
        let free = (0..).find(|instance| !taken.contains(instance));
        let slot = self.reloading.take_slot();
        let place = self.place_for(index, &version, slot, free.unwrap_or(0), now)?;
        self.places.extend(place.map(|place| Place {
            standing: Standing::Member,
            ..place
        }));
        self.sort_places();
        Ok(())
    }

    fn shrink(&mut self, index: usize, by: u32, why: &str, now: Instant) {
        let sessions = (self.scaling.bounds.count_sessions.0)();
        let known: Vec<_> = self
            .members(index)
            .map(|place| {
                let key = (place.slot, place.worker.life);
                let sessions = sessions.get(&key).copied().unwrap_or(0);
                let open = usize::try_from(Open::of(&place.gauges).count()).unwrap_or(usize::MAX);
                let role = match place.worker.state {
                    State::Ready { .. } => Role::Serving,
                    State::Stopped => Role::Out,
                    State::Waiting { .. }
                    | State::Spawning
                    | State::Starting(_)
                    | State::Closed { .. }
                    | State::Draining { .. }
                    | State::Condemned { .. }
                    | State::Stopping { .. }
                    | State::Leaving { .. } => Role::Coming,
                };
                let sessions = sessions.saturating_add(open);
                (place.slot, place.instance, role, sessions)
            })
            .collect();
        for slot in spared(&known, by) {
            self.spare(slot, now);
        }
        self.tell_change(index, &format!("{by} fewer"), why);
    }

    fn spare(&mut self, slot: Slot, now: Instant) {
        let Some(index) = self.places.iter().position(|place| place.slot == slot) else {
            return;
        };
        if let Some(place) = self.places.get_mut(index) {
            place.standing = Standing::Leaver;
        }
        self.apply(index, Event::Spare, now);
    }

    fn tell_change(&mut self, index: usize, what: &str, why: &str) {
        let count = self.members(index).count();
        let Some(app) = self.apps.get_mut(index) else {
            return;
        };
        let Limits { min, max, .. } = app.limits();
        let text = format!("{what}, {count} of {}: {why}", announce::range(min, max));
        info!("{}: workers: {text}", app.name);
        app.scaling.held = None;
        app.scaling.last = Some(Change {
            at: SystemTime::now(),
            text,
        });
        self.changed = true;
    }

    /// What is left for more workers of this app.
    fn room(&self, index: usize, worker_bytes: u64) -> Room {
        let lives = |p: &&Place| p.worker.state != State::Stopped;
        let there = self.places.iter().filter(lives).count();
        // Each app that sleeps has a place kept for it.
        let asleep = self.apps.iter().enumerate().filter(|(other, app)| {
            let awake = self.members(*other).count() > 0;
            *other != index && app.rank.is_some() && app.limits().max > 0 && !awake
        });
        let there = u32::try_from(there + asleep.count()).unwrap_or(u32::MAX);
        let bounds = &self.scaling.bounds;
        let memory = procfs::memory().map(|(available, total)| Memory {
            available,
            reserve: bounds.memory_reserve.unwrap_or(total / RESERVE_PART),
            worker: worker_bytes,
        });
        Room {
            workers: bounds.workers_max.saturating_sub(there),
            workers_max: bounds.workers_max,
            memory,
        }
    }

    /// What one worker of the app takes, or took when there last was one.
    fn worker_bytes(&self, index: usize) -> u64 {
        let pids = self.members(index).filter_map(|p| p.worker.pid());
        let taken: Vec<u64> = pids
            .filter_map(|pid| Some(procfs::family_usage(pid)?.resident_bytes))
            .collect();
        let sum: u64 = taken.iter().sum();
        let count = u64::try_from(taken.len()).unwrap_or(0);
        let known = self
            .apps
            .get(index)
            .map_or(0, |app| app.scaling.worker_bytes);
        sum.checked_div(count).unwrap_or(known)
    }

    /// What the roster says of an app without a worker.
    pub fn asleep(&self, index: usize) -> Option<Asleep> {
        let app = self.apps.get(index).filter(|app| app.rank.is_some())?;
        let limits = app.limits();
        // A worker that starts has no socket of ours to wait in if its program makes it.
        let coming = |p: &Place| {
            let rules = &p.version.rules;
            match p.worker.state {
                State::Waiting { .. } | State::Spawning | State::Starting(_) => {
                    !p.worker.errored(rules)
                }
                State::Ready { .. }
                | State::Closed { .. }
                | State::Draining { .. }
                | State::Condemned { .. }
                | State::Stopping { .. }
                | State::Leaving { .. }
                | State::Stopped => false,
            }
        };
        let may_come = limits.min == 0 && limits.max > 0 && self.members(index).all(coming);
        may_come.then(|| Asleep {
            waker: self.scaling.waker.clone(),
            patience: app.version.rules.listen_timeout + WAKE_SLACK,
        })
    }

    /// How the apps stand, in the order of the configuration.
    pub fn scales(&self) -> Vec<AppScale> {
        let mut order: Vec<(usize, &App)> = self.apps.iter().enumerate().collect();
        order.retain(|(_, app)| app.rank.is_some());
        order::sort_by_key(&mut order, |(_, app)| app.rank);
        let told = order.into_iter().map(|(index, app)| {
            let Limits { min, max, .. } = app.limits();
            AppScale {
                app: Arc::clone(&app.name),
                min,
                max,
                by_hand: app.scaling.fixed.is_some(),
                workers: self.members(index).count(),
                last: app.scaling.last.clone(),
                held: app.scaling.held.clone(),
            }
        });
        told.collect()
    }
}
