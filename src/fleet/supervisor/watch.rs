//! What the supervisor does about what the monitor sees: a worker that hangs is looked into and
//! killed, one that holds too much memory is replaced. Runs on the supervisor thread, once a second;
//! whether a worker hangs is judged in `fleet::hang`.
//!
//! ```text
//! hung -> [autopsy, in a thread of its own] -> killed, and the next life begins as after a crash
//!            \-> it is heard again meanwhile: nothing has happened
//! ```

use crate::fleet::autopsy::{self, Case, Finding};
use crate::fleet::figures::Sample;
use crate::fleet::hang::{Cause, Signs, Verdict, Vigil};
use crate::fleet::logs::Tail;
use crate::fleet::monitor::Look;
use crate::fleet::place::{Knock, Place, Suspicion};
use crate::fleet::probe::Probe;
use crate::fleet::status::Open;
use crate::fleet::supervisor::Supervisor;
use crate::fleet::worker::{Event, State};
use front::channel::{Receiver, Sender, bounded};
use front::sys::clock::monotonic_ms;
use log::{info, warn};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A worker is killed without its autopsy if that takes longer.
const AUTOPSY_TIME_MAX: Duration = Duration::from_secs(5);
/// Autopsies at once: when everything hangs, the first ones say why.
const AUTOPSIES_MAX: usize = 8;
/// How long a connection may wait to be taken before the worker counts as deaf.
const KNOCK_TIME: Duration = Duration::from_secs(5);

/// A worker may hold too much memory for a moment.
const OVER_TIME: Duration = Duration::from_secs(3);

/// The way from autopsies to the supervisor.
pub struct Autopsies {
    pub sender: Sender<Finding>,
    pub receiver: Receiver<Finding>,
}

impl Default for Autopsies {
    fn default() -> Self {
        // As many as there may be at once: none of them waits.
        let (sender, receiver) = bounded(AUTOPSIES_MAX);
        Autopsies { sender, receiver }
    }
}

impl Supervisor {
    /// Takes what the monitor has seen.
    pub fn watch(&mut self, look: Look) {
        self.renew_unreachable();
        if look.stood_still {
            info!("this process or the machine has stood still; no worker is judged by that time");
            for place in &mut self.places {
                place.vigil = Vigil::begin(look.at);
                place.over_since = None;
            }
        }
        for index in 0..self.places.len() {
            let Some(place) = self.places.get_mut(index) else {
                continue;
            };
            let sample = look.workers.get(&place.slot);
            let pid = place.worker.pid().map(|pid| pid.number());
            let sample = sample.filter(|sample| sample.pid.is_some() && sample.pid == pid);
            // In all other states it has a deadline of its own.
            let serves = matches!(
                place.worker.state,
                State::Ready { .. } | State::Draining { .. }
            );
            match sample.copied().filter(|_| serves) {
                Some(sample) => {
                    self.watch_for_hanging(index, &sample, look.at);
                    self.watch_memory(index, &sample, look.at);
                }
                None => {
                    place.vigil = Vigil::begin(look.at);
                    place.over_since = None;
                }
            }
        }
    }

    fn watch_for_hanging(&mut self, index: usize, sample: &Sample, at: Instant) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let signs = Signs {
            reports: place.takes_connections(),
            doing: sample.doing,
            open: place.gauges.in_flight.load(Relaxed),
            progress: (
                place.gauges.finished.load(Relaxed),
                place.gauges.heard_ms.load(Relaxed),
            ),
        };
        let verdict = place.vigil.look(signs, at, place.version.rules.hang);
        let verdict = match verdict {
            Verdict::Doubtful(time) => place.knock(time, at),
            Verdict::Well | Verdict::Hung(_) => {
                place.knock = None;
                verdict
            }
        };
        let since = place.suspicion.as_ref().map(|suspicion| suspicion.since);
        match (verdict, since) {
            (Verdict::Hung(cause), None) => self.suspect(index, cause, at),
            (Verdict::Hung(cause), Some(since))
                if at.saturating_duration_since(since) >= AUTOPSY_TIME_MAX =>
            {
                let why = format!("hung: {cause}; its autopsy takes too long");
                self.kill_hung(index, why, at);
            }
            (Verdict::Hung(_), Some(_)) | (Verdict::Well | Verdict::Doubtful(_), None) => {}
            (Verdict::Well | Verdict::Doubtful(_), Some(_)) => {
                info!("{} does something again; it is not killed", place.name);
                place.suspicion = None;
            }
        }
    }

    /// A worker hangs: what it is doing is looked into, and then it is killed.
    fn suspect(&mut self, index: usize, cause: Cause, at: Instant) {
        let suspected = self.places.iter().filter(|place| place.suspicion.is_some());
        let crowded = suspected.count() >= AUTOPSIES_MAX;
        let dir = self.run_dir.autopsies();
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let Some(pid) = place.worker.pid() else {
            return;
        };
        let (words, words_in) = bounded(1);
        warn!("{} (pid {pid}) hangs: {cause}", place.name);
        place.suspicion = Some(Suspicion {
            cause,
            since: at,
            words,
            file: None,
        });
        let key = place.key();
        let open = Open::of(&place.gauges);
        let case = Case {
            key,
            name: place.name.clone(),
            pid,
            cause,
            open,
            waiting: place.vigil.waiting(open.requests, at),
            stats: place.stats,
            silence: place.vigil.silence(at),
            traffic: self.board.traffic().cloned(),
            words: words_in,
            dir,
        };
        if crowded {
            let why = format!("hung: {cause}; no autopsy, because many others hang too");
            return self.kill_hung(index, why, at);
        }
        match autopsy::begin(case, self.autopsies.sender.clone()) {
            Ok(()) => self.logs.ask_tail(key),
            Err(error) => {
                let why = format!("hung: {cause}; no thread for its autopsy: {error}");
                self.kill_hung(index, why, at);
            }
        }
    }

    /// Takes the last lines of a worker that hangs; gives others back.
    pub fn hear_last_words(&mut self, tail: Tail) -> Option<Tail> {
        let place = self.places.iter().find(|place| place.key() == tail.key);
        let Some(suspicion) = place.and_then(|place| place.suspicion.as_ref()) else {
            return Some(tail);
        };
        let _ = suspicion.words.try_send(tail.lines);
        None
    }

    /// An autopsy is done.
    pub fn hear_finding(&mut self, finding: Finding, now: Instant) {
        let Some(index) = self
            .places
            .iter()
            .position(|place| place.key() == finding.key)
        else {
            return;
        };
        let suspicion = self
            .places
            .get_mut(index)
            .and_then(|place| place.suspicion.as_mut());
        // Without a suspicion it has been heard meanwhile.
        let Some(suspicion) = suspicion else {
            return;
        };
        let mut why = format!("hung: {}; {}", suspicion.cause, finding.summary);
        if let Some(file) = &finding.file {
            why.push_str(&format!("; see {}", file.display()));
        }
        suspicion.file = finding.file;
        self.kill_hung(index, why, now);
    }

    fn kill_hung(&mut self, index: usize, why: String, now: Instant) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        place.sentence = Some(why);
        if let Some(suspicion) = &place.suspicion {
            let ago = place.vigil.blameless(suspicion.cause, now);
            let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            let until_ms = monotonic_ms().saturating_sub(ago_ms);
            place.gauges.suspects_until_ms.store(until_ms, Relaxed);
        }
        let life = place.worker.life;
        self.apply(index, Event::Hung { life }, now);
    }

    fn watch_memory(&mut self, index: usize, sample: &Sample, at: Instant) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let max = place
            .version
            .rules
            .memory_max
            .filter(|max| sample.resident_bytes > *max);
        let Some(max) = max else {
            place.over_since = None;
            return;
        };
        let since = *place.over_since.get_or_insert(at);
        if at.saturating_duration_since(since) < OVER_TIME {
            return;
        }
        let why = format!(
            "it holds {} MiB, more than its max_memory_restart of {} MiB",
            sample.resident_bytes >> 20,
            max >> 20
        );
        self.replace(index, &why, at);
    }
}

impl Place {
    /// Asks whether it takes connections; a verdict when that is known.
    fn knock(&mut self, waited: Duration, at: Instant) -> Verdict {
        let knock = self.knock.get_or_insert_with(|| Knock {
            probe: Probe::new(at),
            since: at,
        });
        let listener = self.listener.as_ref().map(AsFd::as_fd);
        if knock.probe.look(at, &self.socket, listener) {
            self.vigil.excuse(at);
            self.knock = None;
            return Verdict::Well;
        }
        match at.saturating_duration_since(knock.since) >= KNOCK_TIME {
            true => Verdict::Hung(Cause::Deaf(waited)),
            false => Verdict::Doubtful(waited),
        }
    }
}
