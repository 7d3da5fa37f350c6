//! Replacing one worker by another of the same version: the successor is ready before the old one
//! leaves, which keeps those that it serves as in a reload. Runs on the supervisor thread, a step in
//! each of its turns; one worker at a time, and never beside a reload.
//!
//! How often the same place of an app may be replaced is a pace ([`Pace`]): a leak that fills a new
//! worker at once must not become an endless row of starts.

use crate::fleet::place::Standing;
use crate::fleet::reload::steps::{Trial, trial};
use crate::fleet::supervisor::Supervisor;
use front::roster::Slot;
use log::{error, info};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two replacements of the same place, when the second one follows soon; doubles each time.
const GAP_FIRST: Duration = Duration::from_secs(15);
const GAP_MAX: Duration = Duration::from_secs(300);
/// A worker that has served for so long begins a new count.
const SOON: Duration = Duration::from_secs(600);

/// The replacement that is under way, and how those before it went.
#[derive(Default)]
pub struct Replacing {
    current: Option<Replacement>,
    /// By app and instance; as many as there are, or were, workers.
    paces: HashMap<(usize, u32), Pace>,
}

struct Replacement {
    old: Slot,
    newcomer: Slot,
    why: String,
}

/// How often one place has been replaced lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    last: Instant,
    /// In a row, each soon after the one before.
    times: u32,
}

impl Pace {
    /// Notes one at `now`.
    fn after(before: Option<Pace>, now: Instant) -> Pace {
        let soon = before.filter(|pace| now.saturating_duration_since(pace.last) < SOON);
        Pace {
            last: now,
            times: soon.map_or(0, |pace| pace.times).saturating_add(1),
        }
    }

    /// When the next one may begin.
    fn next(self) -> Instant {
        let factor = 2u32.saturating_pow(self.times.saturating_sub(1));
        self.last + GAP_FIRST.saturating_mul(factor).min(GAP_MAX)
    }
}

impl Replacing {
    pub fn is_idle(&self) -> bool {
        self.current.is_none()
    }
}

impl Supervisor {
    /// Begins to replace a worker, unless one is being replaced, or a reload is under way, or it is
    /// too soon. How many times in a row it has been done, if it is begun.
    pub fn replace(&mut self, index: usize, why: &str, now: Instant) -> Option<u32> {
        if self.stopping || self.reloads() || !self.replacing.is_idle() {
            return None;
        }
        let place = self.places.get(index)?;
        if place.standing != Standing::Member {
            return None;
        }
        let (app, instance, old) = (place.app, place.instance, place.slot);
        let (name, version) = (Arc::clone(&place.name), Arc::clone(&place.version));
        let before = self.replacing.paces.get(&(app, instance)).copied();
        if before.is_some_and(|pace| now < pace.next()) {
            return None;
        }
        let pace = Pace::after(before, now);
        self.replacing.paces.insert((app, instance), pace);
        let newcomer = self.reloading.take_slot();
        match self.place_for(app, &version, newcomer, instance, now) {
            Ok(Some(place)) => {
                info!("{name} is to be replaced: {why}");
                self.places.push(place);
                let why = format!("replaced: {why}");
                self.replacing.current = Some(Replacement { old, newcomer, why });
                Some(pace.times)
            }
            Ok(None) => None,
            Err(error) => {
                error!("{name} cannot be replaced: {error}");
                None
            }
        }
    }

    /// Everything of a replacement that can be done now.
    pub fn go_on_replacing(&mut self, now: Instant) {
        if self.stopping {
            self.replacing.current = None;
        }
        let Some(current) = self.replacing.current.take() else {
            return;
        };
        let Replacement { old, newcomer, .. } = current;
        let position = |slot| self.places.iter().position(|place| place.slot == slot);
        let (old_index, newcomer_index) = (position(old), position(newcomer));
        let Some((index, place)) =
            newcomer_index.and_then(|index| Some((index, self.places.get(index)?)))
        else {
            return;
        };
        match trial(&place.worker, Duration::ZERO, now) {
            Trial::Coming | Trial::Proving { .. } => self.replacing.current = Some(current),
            Trial::Failed => {
                let reason = place.deaths.back().map(|death| death.reason.as_str());
                let reason = reason.unwrap_or("it closed its server");
                error!(
                    "{} is not replaced, because its successor failed: {reason}",
                    place.name
                );
                self.retire(newcomer, now);
            }
            Trial::Passed => {
                let member = |index: &usize| {
                    let place = self.places.get(*index);
                    place.is_some_and(|place| place.standing == Standing::Member)
                };
                match old_index.filter(member) {
                    Some(old_index) => self.succeed(index, old_index, current.why, now),
                    // It has been asked to leave meanwhile, for good.
                    None => self.retire(newcomer, now),
                }
            }
        }
    }

    fn succeed(&mut self, index: usize, old_index: usize, why: String, now: Instant) {
        let Ok([place, old]) = self.places.get_disjoint_mut([index, old_index]) else {
            return;
        };
        place.succeed(old, why);
        let slot = old.slot;
        self.retire(slot, now);
        self.tell_app_ready(index);
        self.sort_places();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_replaced_ever_more_slowly() {
        let mut now = Instant::now();
        let mut pace = Pace::after(None, now);
        let mut gaps = Vec::new();
        for _ in 0..7 {
            gaps.push(pace.next().duration_since(now).as_secs());
            now = pace.next();
            pace = Pace::after(Some(pace), now);
        }
        assert_eq!(gaps, [15, 30, 60, 120, 240, 300, 300]);
        assert_eq!(pace.times, 8);
        // A day later it begins anew.
        let pace = Pace::after(Some(pace), now + Duration::from_secs(86_400));
        assert_eq!(pace.times, 1);
    }
}
