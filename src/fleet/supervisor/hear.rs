//! What the supervisor hears: the news of workers' channels, the ends of children, the last lines
//! that the logs thread has kept. All of it becomes an event of a worker's state machine.

use super::Supervisor;
use crate::fleet::FleetEvent;
use crate::fleet::announce;
use crate::fleet::life::LifeKey;
use crate::fleet::logs::Tail;
use crate::fleet::message::{self, News, Notice};
use crate::fleet::worker::Event;
use front::sys::process::{self, Signal};
use log::{debug, warn};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

impl Supervisor {
    pub(super) fn hear(&mut self, notice: Notice, now: Instant) {
        let Notice { key, news } = notice;
        let Some(index) = self.places.iter().position(|place| place.key() == key) else {
            return; // An earlier life.
        };
        let life = key.life;
        match news {
            News::Listening => {
                if let Some(place) = self.places.get_mut(index) {
                    place.hooked = true;
                }
                self.apply(index, Event::Listens { life }, now);
            }
            News::Ready => self.apply(index, Event::SaidReady { life }, now),
            News::Closed => self.apply(index, Event::Closed { life }, now),
            News::Stats(stats) => {
                if let Some(place) = self.places.get_mut(index) {
                    place.stats = Some(stats);
                    place.vigil.hear(now);
                    self.changed = true;
                }
            }
            News::WantsListener => self.give_listener(index, key),
            News::ChannelGone => {
                if let Some(place) = self.places.get_mut(index) {
                    place.channel_lost = true;
                    self.changed = true;
                    debug!("{}: its channel is closed", place.name);
                }
            }
        }
    }

    /// A copy of the worker's own listener: what waits in it is not lost.
    fn give_listener(&self, index: usize, key: LifeKey) {
        let listener = self
            .places
            .get(index)
            .and_then(|place| place.listener.as_ref());
        match listener.map(OwnedFd::try_clone) {
            Some(Ok(copy)) => self.ipc.send_with(key, message::LISTENER, copy),
            Some(Err(e)) => warn!("no descriptor for a worker that listens again: {e}"),
            None => {}
        }
    }

    /// Takes the ends of all children that have ended: workers, the guard, adopted orphans.
    pub(super) fn reap(&mut self, now: Instant) {
        while let Some(pid) = process::peek_ended_child() {
            let index = self
                .places
                .iter()
                .position(|place| place.worker.pid() == Some(pid));
            if let Some(place) = index.and_then(|index| self.places.get(index))
                && !place.worker.leaves_politely()
            {
                // Before the worker is reaped its number cannot be anybody else's.
                process::signal_group(pid, Signal::Kill);
            }
            if self.courier.pid() == Some(pid) {
                // What the command has left running would be nobody's.
                process::signal_group(pid, Signal::Kill);
            }
            let Some(exit) = process::reap(pid) else {
                return; // Cannot be; but it must not be an endless loop either.
            };
            if let Some(index) = index {
                let group_left = process::group_exists(pid);
                self.apply(
                    index,
                    Event::Died {
                        pid,
                        exit,
                        group_left,
                    },
                    now,
                );
            } else if self.courier.pid() == Some(pid) {
                self.guard.remove(pid);
                self.courier.ended(exit);
            } else if self.guard.pid() == Some(pid) {
                self.guard.died();
            } else if self.trial_pid() == Some(pid) {
                self.trial_ended(exit);
            } else if self.press.pid() == Some(pid) {
                self.press_ended(exit);
            } else {
                debug!("orphan {pid} ended: {exit}");
            }
        }
    }

    /// The last words of a worker that has become errored.
    pub(super) fn report(&mut self, tail: Tail) {
        let Some(tail) = self.hear_why_refused(tail) else {
            return;
        };
        let Some(tail) = self.hear_last_words(tail) else {
            return;
        };
        let Some(place) = self.places.iter().find(|place| place.slot == tail.key.slot) else {
            return;
        };
        announce::last_words(place, &tail.lines);
        self.send(FleetEvent::Errored {
            app: Arc::clone(&place.app_name),
            worker: place.instance,
            lines: tail.lines,
        });
    }
}
