//! The supervisor: the only thread that starts, signals and reaps processes, and that publishes
//! the roster. It waits in one place, with one deadline, for orders, for what workers say (`ipc`)
//! and for children that end; what becomes of a worker is decided in `worker`.
//!
//! It never waits for a worker, nor for a thread that may wait for it. It lives as long as the
//! process: workers get SIGKILL when it ends.

use crate::fleet::FleetEvent;
use crate::fleet::announce::{self, Steps};
use crate::fleet::guard::Guard;
use crate::fleet::ipc::{Ipc, LifeKey, NewLife, Notice};
use crate::fleet::logs::{Logs, Tail};
use crate::fleet::message::{self, News};
use crate::fleet::place::{App, Place, Shown, Standing, roster};
use crate::fleet::reload::{Reload, Reloading};
use crate::fleet::rundir::{self, RunDir};
use crate::fleet::spawn::{self, Order};
use crate::fleet::status::WorkerStatus;
use crate::fleet::worker::{Action, Event, Next, Rung, Starting, State};
use crate::roster::{Board, Slot};
use crate::sys::process::{self, Exit, Pid, Signal};
use crate::sys::procfs;
use crossbeam_channel::{Receiver, Sender, at, never, select};
use log::{debug, info, warn};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a dead worker's group is looked at, when the kernel may not tell us of its end.
const GROUP_LOOK: Duration = Duration::from_millis(50);
/// How often a draining worker is looked at, whose connections end elsewhere.
const DRAIN_LOOK: Duration = Duration::from_millis(200);
/// Waking up this late means that we were stopped or suspended.
const LATE: Duration = Duration::from_secs(2);
/// How long the last processes may take to be gone after SIGKILL, and the guard after its pipe.
const SWEEP: Duration = Duration::from_secs(1);
/// A pause between looks during the sweep, when there is nothing else to do.
const SWEEP_LOOK: Duration = Duration::from_millis(5);

/// What others ask of the supervisor.
#[derive(Debug)]
pub enum Request {
    Stop,
    Hurry,
    /// This worker leaves without haste, and is not started again.
    Drain(Slot),
    /// A new life in place of the one that this worker has.
    Restart(Slot),
    /// The configuration has been read anew.
    Reload(Reload),
}

/// The ends of the channels that the supervisor waits on.
pub struct Inbox {
    pub requests: Receiver<Request>,
    /// SIGCHLD came; one is as good as many.
    pub children: Receiver<()>,
    pub notices: Receiver<Notice>,
    pub tails: Receiver<Tail>,
}

pub struct Supervisor {
    pub apps: Vec<App>,
    pub places: Vec<Place>,
    pub inbox: Inbox,
    pub events: Sender<FleetEvent>,
    pub board: Arc<Board>,
    /// Written by this thread after each change, read by whoever asks for a status.
    pub statuses: Arc<Mutex<Vec<WorkerStatus>>>,
    pub ipc: Ipc,
    pub logs: Logs,
    pub guard: Guard,
    pub run_dir: RunDir,
    pub hook: PathBuf,
    /// Our own binary.
    pub executable: PathBuf,
    pub began: Instant,
    pub stopping: bool,
    /// Children that were there before us: not ours to end.
    pub strangers: BTreeSet<Pid>,
    pub published: Vec<Shown>,
    pub reloading: Reloading,
    /// Taken in this turn.
    pub steps: Steps,
    pub changed: bool,
}

impl Supervisor {
    /// Runs until every worker has been stopped.
    pub fn run(mut self) {
        process::adopt_orphans();
        loop {
            self.turn(Instant::now());
            if self.stopping && self.places.iter().all(|p| p.worker.state == State::Stopped) {
                break;
            }
            self.wait();
        }
        self.finish();
    }

    /// Waits for anything, and hears one thing of each kind; the rest is heard in the turn.
    fn wait(&mut self) {
        let deadline = self.deadline();
        let alarm = deadline.map_or_else(never, at);
        select! {
            recv(self.inbox.requests) -> request => {
                // Whoever could ask is gone: the process is ending.
                self.obey(request.unwrap_or(Request::Stop), Instant::now());
            }
            recv(self.inbox.notices) -> notice => {
                if let Ok(notice) = notice { self.hear(notice, Instant::now()); }
            }
            recv(self.inbox.tails) -> tail => {
                if let Ok(tail) = tail { self.report(tail); }
            }
            recv(self.inbox.children) -> _ => {}
            recv(alarm) -> _ => {}
        }
        let late = deadline.map_or(Duration::ZERO, |d| {
            Instant::now().saturating_duration_since(d)
        });
        if late >= LATE {
            warn!(
                "this process stood still for {:.1} s; workers get that time back",
                late.as_secs_f64()
            );
            for place in &mut self.places {
                place.worker.postpone(late);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let leaving = |p: &Place| matches!(p.worker.state, State::Leaving { .. });
        let look = self
            .places
            .iter()
            .any(leaving)
            .then(|| Instant::now() + GROUP_LOOK);
        let draining = |p: &Place| matches!(p.worker.state, State::Draining { .. });
        let drain_look = self
            .places
            .iter()
            .any(draining)
            .then(|| Instant::now() + DRAIN_LOOK);
        self.places
            .iter()
            .filter_map(Place::deadline)
            .chain(look)
            .chain(drain_look)
            .chain(self.reload_deadline())
            .min()
    }

    /// Everything that is due. News before deaths before deadlines: who has said in time that it
    /// is ready is not killed for silence.
    fn turn(&mut self, now: Instant) {
        for _ in 0..self.inbox.notices.len() {
            if let Ok(notice) = self.inbox.notices.try_recv() {
                self.hear(notice, now);
            }
        }
        // Rungs are told before the deaths that follow from them.
        self.steps.tell();
        self.reap(now);
        // Before the clock: a newcomer that has failed is not started again.
        self.go_on_reloading(now);
        for index in 0..self.places.len() {
            self.look(index, now);
            self.apply(index, Event::Clock, now);
        }
        self.clear_places();
        self.steps.tell();
        self.publish();
    }

    fn obey(&mut self, request: Request, now: Instant) {
        let event = match request {
            Request::Stop => Event::Stop,
            Request::Hurry if self.stopping => Event::Hurry,
            Request::Hurry => return,
            Request::Drain(slot) => {
                if let Some(index) = self.member(slot) {
                    self.apply(index, Event::Drain, now);
                }
                return;
            }
            Request::Restart(slot) => return self.restart(slot, now),
            Request::Reload(reload) => return self.reload(reload),
        };
        self.stopping = true;
        for index in 0..self.places.len() {
            self.apply(index, event, now);
        }
    }

    /// The worker in a slot, unless a reload has still to decide about it, or has decided.
    fn member(&self, slot: Slot) -> Option<usize> {
        let wanted = |p: &Place| p.slot == slot && p.standing == Standing::Member;
        self.places.iter().position(wanted)
    }

    fn restart(&mut self, slot: Slot, now: Instant) {
        // Nothing is begun any more when all is to end.
        let Some(index) = self.member(slot).filter(|_| !self.stopping) else {
            return;
        };
        if let Some(place) = self.places.get_mut(index) {
            info!("{} is restarted, as somebody asked", place.name);
            place.sentence = Some("restarted on request".to_owned());
        }
        self.apply(index, Event::Restart, now);
    }

    fn hear(&mut self, notice: Notice, now: Instant) {
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

    /// Probes a starting worker if it is time to.
    fn look(&mut self, index: usize, now: Instant) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let life = place.worker.life;
        let event = match place.worker.state {
            State::Starting(Starting { listens: false, .. }) => {
                let listener = place.listener.as_ref().map(AsFd::as_fd);
                match &mut place.probe {
                    Some(probe) if now >= probe.due() => probe
                        .look(now, &place.socket, listener)
                        .then_some(Event::Listens { life }),
                    Some(_) | None => None,
                }
            }
            State::Leaving { group, .. } if !process::group_exists(group) => {
                Some(Event::GroupGone { group })
            }
            State::Draining { .. } => {
                // Its counts are written by others.
                self.changed = true;
                let quiet = place.look_for_quiet(now);
                if place.send_away_at.is_some_and(|at| at <= now) {
                    self.send_away(index);
                }
                quiet.then_some(Event::Drained { life })
            }
            State::Starting(_)
            | State::Leaving { .. }
            | State::Waiting { .. }
            | State::Spawning
            | State::Ready { .. }
            | State::Closed { .. }
            | State::Condemned { .. }
            | State::Stopping { .. }
            | State::Stopped => None,
        };
        if let Some(event) = event {
            self.apply(index, event, now);
        }
    }

    /// Takes the ends of all children that have ended: workers, the guard, adopted orphans.
    fn reap(&mut self, now: Instant) {
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
            } else if self.guard.pid() == Some(pid) {
                self.guard.died();
            } else {
                debug!("orphan {pid} ended: {exit}");
            }
        }
    }

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

    fn act(&mut self, index: usize, key: LifeKey, action: Action, now: Instant) {
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
            Action::Insist { group } => {
                process::signal_group(group, Signal::Kill);
                let name = self.places.get(index).map_or("", |place| &place.name);
                warn!("{name} (group {group}) has not ended by SIGKILL yet; sent again");
            }
            Action::TellDeath { pid, exit, next } => self.tell_death(index, key, pid, exit, next),
        }
    }

    fn spawn(&mut self, index: usize, now: Instant) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        if place.listener.is_none() {
            rundir::clear_way(&place.socket);
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
                    let life = NewLife {
                        key,
                        app: place.app,
                        instance: place.instance,
                        name: Arc::clone(name),
                        stream: channel,
                        gauges: Arc::clone(&place.gauges),
                        returning: Arc::clone(self.board.returning()),
                    };
                    place.door = Some(self.ipc.add(life));
                }
                self.logs
                    .add(key, Arc::clone(name), spawned.stdout, spawned.stderr);
                Event::Spawned { pid: spawned.pid }
            }
            Err(e) => {
                place.sentence = Some(format!("no process could be started: {e}"));
                Event::SpawnFailed
            }
        };
        self.apply(index, event, now);
    }

    fn drain(&mut self, index: usize, now: Instant) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        match place.standing {
            Standing::Leaver => {
                place.begin_farewell(now);
                announce::farewell(place);
            }
            Standing::Member | Standing::Newcomer => self.send_away(index),
        }
    }

    /// Has the clients of a leaving worker go, one by one.
    fn send_away(&mut self, index: usize) {
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
        place.remember_death(key.life, pid.map(Pid::number), reason);
        self.changed = true;
    }

    /// The last words of a worker that has become errored.
    fn report(&mut self, tail: Tail) {
        let Some(tail) = self.hear_why_refused(tail) else {
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

    /// The queue is unbounded and small by construction: one event for a change of state.
    fn send(&self, event: FleetEvent) {
        // Nobody listens any more when the process is ending.
        let _ = self.events.send(event);
    }

    /// Publishes what has changed.
    fn publish(&mut self) {
        let shown: Vec<Shown> = self.places.iter().map(Place::shown).collect();
        if shown != self.published {
            self.board.publish(roster(&self.apps, &self.places));
            self.published = shown;
            self.changed = true;
        }
        if std::mem::take(&mut self.changed) {
            let statuses = self.places.iter().map(Place::status).collect();
            *self.statuses.lock().unwrap_or_else(PoisonError::into_inner) = statuses;
        }
    }

    /// All workers are gone. What they have left behind in groups of its own, if anything, has
    /// become our child; then the guard may go.
    fn finish(mut self) {
        let guard = self.guard.pid();
        let deadline = Instant::now() + SWEEP;
        let mut told = BTreeSet::new();
        loop {
            self.reap(Instant::now());
            let mut left = procfs::children();
            left.retain(|pid| Some(*pid) != guard && !self.strangers.contains(pid));
            if left.is_empty() || Instant::now() >= deadline {
                break;
            }
            for pid in left {
                if told.insert(pid) {
                    info!("killing process {pid}, left behind by a worker");
                }
                process::kill_child(pid);
            }
            thread::sleep(SWEEP_LOOK);
        }
        self.ipc.end();
        self.logs.end();
        if let Some(pid) = self.guard.dismiss() {
            while process::reap(pid).is_none() && Instant::now() < deadline {
                thread::sleep(SWEEP_LOOK);
            }
        }
        self.run_dir.remove_sockets();
        self.run_dir.remove_hook();
        let _ = self.events.send(FleetEvent::Stopped);
    }
}
