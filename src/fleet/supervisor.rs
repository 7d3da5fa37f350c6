//! The supervisor: the only thread that starts, signals and reaps processes, and that publishes
//! the roster. It waits in one place, with one deadline, for orders, for what workers say (`ipc`)
//! and for children that end; what becomes of a worker is decided in `worker`.
//!
//! It never waits for a worker, nor for a thread that may wait for it. It lives as long as the
//! process: workers get SIGKILL when it ends.

mod act;
mod finish;
mod hand_over;
mod hear;
mod places;
mod press;
mod reload;
mod replace;
mod scale;
mod watch;

use crate::fleet::FleetEvent;
use crate::fleet::alarms::Alarm;
use crate::fleet::announce::Steps;
use crate::fleet::app::App;
use crate::fleet::courier::Courier;
use crate::fleet::guard::Guard;
use crate::fleet::ipc::Ipc;
use crate::fleet::logs::{Logs, Tail};
use crate::fleet::message::Notice;
use crate::fleet::monitor::Look;
use crate::fleet::place::{Place, Shown, Standing, roster};
use crate::fleet::reload::Reload;
use crate::fleet::rundir::RunDir;
use crate::fleet::scale::ScaleOrder;
use crate::fleet::status::{AppScale, WorkerStatus};
use crate::fleet::worker::{Event, Starting, State};
use crate::journal::{Job, Journal};
use crossbeam_channel::{at, never};
use front::channel::{Receiver, Sender, select};
use front::roster::{Board, Slot};
use front::sys::identity;
use front::sys::process::{self, Pid};
pub use hand_over::{HandOver, Leave, Trial, TryOut};
use log::{info, warn};
pub use press::Press;
pub use reload::Reloading;
pub use replace::Replacing;
pub use scale::Scaling;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
pub use watch::Autopsies;

/// How often a dead worker's group is looked at, when the kernel may not tell us of its end.
const GROUP_LOOK: Duration = Duration::from_millis(50);
/// How often a draining worker is looked at, whose connections end elsewhere.
const DRAIN_LOOK: Duration = Duration::from_millis(200);
/// Waking up this late means that we were stopped or suspended.
const LATE: Duration = Duration::from_secs(2);

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
    /// An app is to have so many workers.
    Scale(ScaleOrder),
    /// See whether another binary could take over.
    TryOut(TryOut),
    /// Let it.
    HandOver(HandOver),
}

/// The ends of the channels that the supervisor waits on.
pub struct Inbox {
    pub requests: Receiver<Request>,
    /// SIGCHLD came; one is as good as many.
    pub children: Receiver<()>,
    pub notices: Receiver<Notice>,
    pub tails: Receiver<Tail>,
    /// What the monitor sees, once a second.
    pub looks: Receiver<Look>,
    /// Alarms that were raised or cleared.
    pub alarms: Receiver<Alarm>,
    /// What is to be compressed, one at a time.
    pub jobs: Receiver<Job>,
    /// A request waits for an app that has no worker.
    pub wakes: Receiver<()>,
}

pub struct Supervisor {
    pub apps: Vec<App>,
    pub places: Vec<Place>,
    pub inbox: Inbox,
    pub events: Sender<FleetEvent>,
    pub board: Arc<Board>,
    /// Written by this thread after each change, read by whoever asks for a status.
    pub statuses: Arc<Mutex<Vec<WorkerStatus>>>,
    pub scales: Arc<Mutex<Vec<AppScale>>>,
    pub ipc: Ipc,
    pub logs: Logs,
    pub journal: Journal,
    pub press: Press,
    pub trial: Option<Trial>,
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
    pub autopsies: Autopsies,
    pub replacing: Replacing,
    pub scaling: Scaling,
    pub courier: Courier,
    /// Taken in this turn.
    pub steps: Steps,
    pub changed: bool,
    /// Dropped when all is over.
    pub _done: Sender<()>,
}

impl Supervisor {
    /// Runs until every worker has been stopped. On the thread that lives as long as the process does.
    pub fn run(mut self) {
        process::adopt_orphans();
        // Of the capabilities that this thread has, it keeps those for starting workers of other users.
        identity::pass_capabilities_on(true);
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
        let (inbox, findings) = (&self.inbox, &self.autopsies.receiver);
        select! {
            recv(inbox.requests.parcels()) -> request => {
                // Whoever could ask is gone: the process is ending.
                let request = inbox.requests.opened(request);
                self.obey(request.unwrap_or(Request::Stop), Instant::now());
            }
            recv(inbox.notices.parcels()) -> notice => {
                if let Ok(notice) = inbox.notices.opened(notice) { self.hear(notice, Instant::now()); }
            }
            recv(inbox.tails.parcels()) -> tail => {
                if let Ok(tail) = inbox.tails.opened(tail) { self.report(tail); }
            }
            recv(findings.parcels()) -> finding => {
                if let Ok(finding) = findings.opened(finding) { self.hear_finding(finding, Instant::now()); }
            }
            recv(inbox.alarms.parcels()) -> alarm => {
                if let Ok(alarm) = inbox.alarms.opened(alarm) { self.courier.push(alarm); }
            }
            recv(inbox.looks.parcels()) -> look => {
                if let Ok(look) = inbox.looks.opened(look) { self.watch(look); }
            }
            recv(inbox.jobs.parcels()) -> job => {
                if let Ok(job) = inbox.jobs.opened(job) { self.compress(job); }
            }
            recv(inbox.wakes.parcels()) -> _ => self.wake(),
            recv(inbox.children.parcels()) -> _ => {}
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
            self.measure_anew();
        }
    }

    /// Has the alarm command run.
    fn go_on_telling(&mut self, now: Instant) {
        if self.stopping {
            self.courier.forget_all();
        }
        if let Some(group) = self.courier.go_on(now) {
            self.guard.add(group);
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
            .chain(self.scaling_deadline())
            .chain(self.courier.deadline())
            .chain(self.trial_deadline())
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
        self.go_on_telling(now);
        self.go_on_replacing(now);
        self.go_on_reloading(now);
        self.go_on_scaling(now);
        for index in 0..self.places.len() {
            self.look(index, now);
            self.apply(index, Event::Clock, now);
        }
        self.look_at_trial(now);
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
            Request::Scale(order) => return self.scale(order, now),
            Request::TryOut(order) => return self.begin_trial(order),
            Request::HandOver(order) => return self.hand_over(order),
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
                place.closed |= place.last_call.is_some_and(|at| at <= now);
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

    /// The queue is unbounded and small by construction: one event for a change of state.
    pub(super) fn send(&self, event: FleetEvent) {
        // Nobody listens any more when the process is ending.
        let _ = self.events.send(event);
    }

    /// Publishes what has changed.
    fn publish(&mut self) {
        let shown: Vec<Shown> = self.places.iter().map(Place::shown).collect();
        if shown != self.published {
            let asleep = |app| self.asleep(app);
            self.board.publish(roster(&self.apps, &self.places, asleep));
            self.published = shown;
            self.changed = true;
        }
        if std::mem::take(&mut self.changed) {
            let statuses = self.places.iter().map(|place| {
                let app = self.apps.get(place.app);
                place.status(app.is_some_and(|app| app.was_ready))
            });
            let statuses = statuses.collect();
            *self.statuses.lock().unwrap_or_else(PoisonError::into_inner) = statuses;
            *self.scales.lock().unwrap_or_else(PoisonError::into_inner) = self.scales();
        }
    }
}
