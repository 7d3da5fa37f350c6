//! What the supervisor does when a worker's state machine asks for it: starts, signals, tells.
//! `worker` decides, this file obeys; every change of a worker's state goes through `apply`.

use super::Supervisor;
use super::hand_over::{new_life, printer};
use crate::fleet::FleetEvent;
use crate::fleet::announce;
use crate::fleet::life::LifeKey;
use crate::fleet::message;
use crate::fleet::place::{Place, Standing, Suspicion};
use crate::fleet::rundir;
use crate::fleet::spawn::{self, Order};
use crate::fleet::status::{Death, Ending};
use crate::fleet::worker::{Action, Event, Next, Rung, State};
use front::sys::process::{self, Exit, Pid, Signal};
use log::{debug, warn};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

impl Supervisor {
    pub fn apply(&mut self, index: usize, event: Event, now: Instant) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let (group, key) = (place.worker.group(), place.key());
        let actions = place.worker.next(event, now, &place.version.rules);
        self.changed |= place.note_condition();
        let new_group = place.worker.group();
        if group != new_group {
            if let Some(old) = group {
                self.guard.remove(old);
            }
            if let Some(new) = new_group {
                self.guard.add(new);
            }
        }
        if place.key() != key {
            self.ipc.remove(key);
        }
        for action in actions {
            self.act(index, key, action, now);
        }
    }

    pub(super) fn act(&mut self, index: usize, key: LifeKey, action: Action, now: Instant) {
        match action {
            Action::Spawn => self.spawn(index, now),
            Action::Step { group, rung } => self.step(key, group, rung),
            Action::Drain => self.drain(index, now),
            Action::TellReady { took } => self.tell_ready(index, took),
            Action::Condemn { group, listens } => {
                self.condemn(index, group, |place| announce::never_ready(place, listens));
            }
            Action::CondemnClosed { group } => self.condemn(index, group, |_| {
                "it closed its server and neither listened again nor ended".to_owned()
            }),
            Action::CondemnHung { group } => self.condemn(index, group, |place| {
                place
                    .sentence
                    .clone()
                    .unwrap_or_else(|| "it hung".to_owned())
            }),
            Action::Insist { group } => {
                process::signal_group(group, Signal::Kill);
                let name = self.places.get(index).map_or("", |place| &place.name);
                warn!("{name} (group {group}) has not ended by SIGKILL yet; sent again");
            }
            Action::TellDeath { pid, exit, next } => self.tell_death(index, key, pid, exit, next),
        }
    }

    fn spawn(&mut self, index: usize, now: Instant) {
        self.mend_run_dir();
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        match &place.listener {
            None => rundir::clear_way(&place.socket),
            // Nobody could connect to what has lost its name.
            Some(_) if !place.socket.exists() => match rundir::listen(&place.socket) {
                Ok(listener) => place.listener = Some(listener),
                Err(error) => warn!("{}: {error}", place.name),
            },
            Some(_) => {}
        }
        let order = Order {
            executable: &self.executable,
            app: &place.version.spec,
            instance: place.instance,
            socket: &place.socket,
            listener: place.listener.as_ref().map(AsFd::as_fd),
            hook: &self.hook,
        };
        let event = match spawn::spawn(&order) {
            Ok(spawned) => {
                place.begin_life(now);
                let (key, name) = (place.key(), &place.name);
                debug!("{name} (pid {}) started, life {}", spawned.pid, key.life);
                if let Some(channel) = spawned.channel {
                    let life = new_life(place, channel, self.board.returning());
                    place.door = Some(self.ipc.add(life, None));
                }
                self.logs
                    .add(printer(place, spawned.stdout, spawned.stderr));
                Event::Spawned { pid: spawned.pid }
            }
            Err(e) => {
                place.sentence = Some(format!("no process could be started: {e}"));
                Event::SpawnFailed
            }
        };
        self.apply(index, event, now);
    }

    pub(super) fn drain(&mut self, index: usize, now: Instant) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        match place.standing {
            Standing::Leaver => {
                place.begin_farewell(now);
                if let State::Draining { until: None, .. } = place.worker.state {
                    announce::spared(place);
                } else {
                    announce::farewell(place);
                }
            }
            Standing::Member | Standing::Newcomer => self.send_away(index),
        }
    }

    /// Has the clients of a leaving worker go, one by one.
    pub(super) fn send_away(&mut self, index: usize) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let spread = place.begin_drain();
        announce::drains(place, spread);
        self.ipc.send(place.key(), &message::trickle(spread));
    }

    fn step(&mut self, key: LifeKey, group: Pid, rung: Rung) {
        match rung {
            Rung::Message => {
                self.ipc.send(key, message::SHUTDOWN);
                self.ipc.send(key, message::DRAIN);
            }
            Rung::Terminate => {
                process::signal_group(group, Signal::Terminate);
                // One that is stopped would not hear it.
                process::signal_group(group, Signal::Continue);
            }
            Rung::Kill => {
                process::signal_group(group, Signal::Kill);
            }
        }
        self.steps.count(rung);
    }

    fn tell_ready(&mut self, index: usize, took: Duration) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        place.probe = None;
        announce::ready(place, took);
        if place.standing == Standing::Member {
            self.tell_app_ready(index);
        }
    }

    /// Somebody of the app serves: the first time, that is news.
    pub fn tell_app_ready(&mut self, index: usize) {
        let Some(app) = self
            .places
            .get(index)
            .and_then(|place| self.apps.get_mut(place.app))
        else {
            return;
        };
        if app.was_ready {
            return;
        }
        app.was_ready = true;
        // Published first: who hears of it may send a request at once.
        self.publish();
        let Some(app) = self
            .places
            .get(index)
            .and_then(|place| self.apps.get(place.app))
        else {
            return;
        };
        self.send(FleetEvent::Ready {
            app: Arc::clone(&app.name),
            took: self.began.elapsed(),
        });
        if self
            .apps
            .iter()
            .all(|app| app.was_ready || app.rank.is_none())
        {
            self.send(FleetEvent::AllReady);
        }
    }

    fn condemn(&mut self, index: usize, group: Pid, why: impl FnOnce(&Place) -> String) {
        process::signal_group(group, Signal::Kill);
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let why = why(place);
        warn!("{} (pid {group}) is killed: {why}", place.name);
        place.sentence = Some(why);
    }

    fn tell_death(
        &mut self,
        index: usize,
        key: LifeKey,
        pid: Option<Pid>,
        exit: Option<Exit>,
        next: Next,
    ) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let reason = announce::death(place, pid, exit, next);
        if let Next::Errored { first: true, .. } = next {
            self.logs.ask_tail(key);
        }
        place.sentence = None;
        let ending = match next {
            _ if place.suspicion.is_some() => Ending::Hung,
            Next::Restart { .. } | Next::Errored { .. } => Ending::Crashed,
            Next::StaysDown | Next::WasAsked => Ending::Asked,
        };
        let autopsy = place.suspicion.take().and_then(Suspicion::into_file);
        place.remember_death(Death {
            at: SystemTime::now(),
            life: key.life,
            pid: pid.map(Pid::number),
            reason,
            ending,
            autopsy,
        });
        self.changed = true;
    }
}
