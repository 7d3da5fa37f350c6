//! A reload: the workers of each app are replaced, one after the other, by workers of the version
//! that the configuration describes now. Runs on the supervisor thread, a step in each of its turns.
//!
//! ```text
//! for each app:   [newcomer starts] -> proves itself -> takes over, the old worker gets nothing new
//!                                  \-> dies, or is not ready in time: refused, what was replaced
//!                                      before it is replaced again by the old version
//! then:           the workers of apps that are not in the configuration any more leave
//! ```
//! A newcomer is in nobody's roster until it has proved itself: it is ready, and the first one of an
//! app has stayed so for `min_uptime`. The roster that shows it shows the old worker as leaving, so
//! there is no moment without a worker. An old worker has a socket of its own, so what waits in it
//! is served by it.

use crate::fleet::FleetEvent;
use crate::fleet::announce::seconds;
use crate::fleet::app::{App, Version};
use crate::fleet::life::LifeKey;
use crate::fleet::logs::Tail;
use crate::fleet::place::Standing;
use crate::fleet::reload::steps::{Present, Step, Trial, steps, trial};
use crate::fleet::reload::{Progress, ProgressStage, Reload};
use crate::fleet::spec::AppSpec;
use crate::fleet::supervisor::Supervisor;
use front::channel::Sender;
use front::order;
use front::roster::Slot;
use log::{error, info, warn};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The reload that is under way, and those that wait for its end.
pub struct Reloading {
    current: Option<Course>,
    waiting: VecDeque<Reload>,
    next_slot: Slot,
}

/// A reload under way.
struct Course {
    tell: Sender<Progress>,
    /// The configuration was read, and not only new workers of the same one asked for.
    read_anew: bool,
    tasks: VecDeque<Task>,
    work: Option<Work>,
    refused: Vec<Arc<str>>,
}

/// One app's part of a reload.
struct Task {
    app: usize,
    /// The version to come and its rank; None: the app is removed.
    next: Option<(Arc<Version>, usize)>,
}

/// The app that is being worked on.
struct Work {
    app: usize,
    version: Arc<Version>,
    rank: Option<usize>,
    /// What served when it began, to go back to; None when we are going back already.
    before: Option<(Arc<Version>, Option<usize>)>,
    /// How many workers there were then.
    present: usize,
    steps: VecDeque<Step>,
    stage: Stage,
    /// Newcomers that have taken over.
    accepted: u32,
    began: Instant,
}

/// What is being waited for.
#[derive(Debug)]
enum Stage {
    /// Nothing: the next step can be taken.
    Free,
    /// A newcomer, and whom it replaces.
    Trial { newcomer: Slot, old: Option<Slot> },
    /// The last words of a newcomer that has failed, and why it has.
    Failed { newcomer: Slot, reason: String },
}

impl Reloading {
    pub fn new(next_slot: Slot) -> Reloading {
        Reloading {
            current: None,
            waiting: VecDeque::new(),
            next_slot,
        }
    }

    /// One that comes while another is under way waits for its end; of
    /// those that wait for the same apps, the last one knows best.
    pub fn ask(&mut self, order: Reload) {
        self.waiting.retain(|older| {
            let covered = order.apps.is_some() || older.apps.is_none();
            let stays = !covered || order.only.is_some() && order.only != older.only;
            if !stays {
                let text = "a later reload takes its place".to_owned();
                let _ = older.tell.send(Progress {
                    text,
                    stage: ProgressStage::Refused,
                });
            }
            stays
        });
        self.waiting.push_back(order);
    }

    fn work(&mut self) -> Option<&mut Work> {
        self.current.as_mut()?.work.as_mut()
    }

    /// What the next newcomer gets.
    pub fn next_slot(&self) -> Slot {
        self.next_slot
    }

    pub fn take_slot(&mut self) -> Slot {
        let slot = self.next_slot;
        self.next_slot = Slot(slot.0 + 1);
        slot
    }
}

impl Course {
    fn tell(&self, text: String, stage: ProgressStage) {
        // Whoever asked may have left.
        let _ = self.tell.send(Progress { text, stage });
    }
}

impl Supervisor {
    /// Takes an order to reload.
    pub fn reload(&mut self, order: Reload) {
        self.reloading.ask(order);
    }

    /// Whether one is under way, or about to begin.
    pub fn reloads(&self) -> bool {
        self.reloading.current.is_some() || !self.reloading.waiting.is_empty()
    }

    /// Whether it is an app's turn.
    pub fn reloads_app(&self, app: usize) -> bool {
        let work = self
            .reloading
            .current
            .as_ref()
            .and_then(|course| course.work.as_ref());
        work.is_some_and(|work| work.app == app)
    }

    /// Everything of a reload that can be done now.
    pub fn go_on_reloading(&mut self, now: Instant) {
        if self.stopping {
            self.reloading.current = None;
            self.reloading.waiting.clear();
            return;
        }
        while self.advance(now) {}
    }

    /// When a newcomer will have proved itself.
    pub fn reload_deadline(&self) -> Option<Instant> {
        let work = self.reloading.current.as_ref()?.work.as_ref()?;
        let Stage::Trial { newcomer, .. } = work.stage else {
            return None;
        };
        let place = self.places.iter().find(|place| place.slot == newcomer)?;
        match trial(&place.worker, work.proof(), Instant::now()) {
            Trial::Proving { until } => Some(until),
            Trial::Coming | Trial::Passed | Trial::Failed => None,
        }
    }

    /// Takes the last words of a newcomer that has failed; gives others back.
    pub fn hear_why_refused(&mut self, tail: Tail) -> Option<Tail> {
        let Some(work) = self.reloading.work() else {
            return Some(tail);
        };
        match &mut work.stage {
            Stage::Failed { newcomer, reason } if *newcomer == tail.key.slot => {
                let reason = std::mem::take(reason);
                self.refuse(&reason, &tail.lines);
                None
            }
            Stage::Failed { .. } | Stage::Trial { .. } | Stage::Free => Some(tail),
        }
    }

    /// One step; false if there is nothing that could be done now.
    fn advance(&mut self, now: Instant) -> bool {
        let Some(course) = &mut self.reloading.current else {
            return self.begin_course();
        };
        let Some(work) = &mut course.work else {
            return self.begin_task(now);
        };
        match &work.stage {
            Stage::Failed { .. } => false,
            Stage::Trial { newcomer, old } => {
                let (newcomer, old, proof) = (*newcomer, *old, work.proof());
                let Some(index) = self.index_of(newcomer) else {
                    return false; // Cannot be: its place goes only when it has failed.
                };
                let place = self.places.get(index);
                match place.map(|place| trial(&place.worker, proof, now)) {
                    Some(Trial::Passed) => self.accept(index, old, now),
                    Some(Trial::Failed) => self.fail(index, now),
                    Some(Trial::Coming | Trial::Proving { .. }) | None => return false,
                }
                true
            }
            Stage::Free => {
                match work.steps.pop_front() {
                    Some(Step::Replace { instance, old }) => self.try_out(instance, Some(old), now),
                    Some(Step::Add { instance }) => self.try_out(instance, None, now),
                    Some(Step::Retire { old }) => self.retire(old, now),
                    None => self.end_work(),
                }
                true
            }
        }
    }

    /// Turns the order that waits into tasks.
    fn begin_course(&mut self) -> bool {
        if !self.replacing.is_idle() {
            return false; // Its successor is soon ready, or has failed.
        }
        let Some(Reload { apps, only, tell }) = self.reloading.waiting.pop_front() else {
            return false;
        };
        let read_anew = apps.is_some();
        let apps = apps.unwrap_or_else(|| self.serving_specs());
        let concerned = |name: &str| only.as_deref().is_none_or(|only| only == name);
        let mut removed: Vec<usize> = (0..self.apps.len()).collect();
        removed.retain(|index| {
            self.apps.get(*index).is_some_and(|app| {
                let stays = apps.iter().any(|spec| spec.name == *app.name);
                app.rank.is_some() && !stays && concerned(&app.name)
            })
        });
        let mut tasks = VecDeque::new();
        for (rank, spec) in apps.into_iter().enumerate() {
            if !concerned(&spec.name) {
                continue;
            }
            let known = self.apps.iter().position(|app| *app.name == *spec.name);
            let version = Version::new(spec);
            let app = known.unwrap_or_else(|| {
                self.apps.push(App::new(Arc::clone(&version), None));
                self.apps.len() - 1
            });
            let next = Some((version, rank));
            tasks.push_back(Task { app, next });
        }
        tasks.extend(removed.into_iter().map(|app| Task { app, next: None }));
        match tasks.len() {
            1 => info!("reload: 1 app, one worker after the other"),
            apps => info!("reload: {apps} apps, one worker after the other"),
        }
        self.reloading.current = Some(Course {
            tell,
            read_anew,
            tasks,
            work: None,
            refused: Vec::new(),
        });
        true
    }

    fn serving_specs(&self) -> Vec<AppSpec> {
        let mut apps: Vec<&App> = self.apps.iter().filter(|app| app.rank.is_some()).collect();
        order::sort_by_key(&mut apps, |app| app.rank);
        apps.iter().map(|app| app.version.spec.clone()).collect()
    }

    fn begin_task(&mut self, now: Instant) -> bool {
        let Some(course) = &mut self.reloading.current else {
            return false;
        };
        let Some(task) = course.tasks.pop_front() else {
            match course.refused.as_slice() {
                [] => info!("reload: done"),
                refused => error!("reload: done, but refused for {}", refused.join(", ")),
            }
            self.reloading.current = None;
            if self.reloading.waiting.is_empty() {
                self.send(FleetEvent::Reloaded);
            }
            return true;
        };
        match task.next {
            Some((version, rank)) => self.begin_work(task.app, version, rank, now),
            None => self.remove_app(task.app, now),
        }
        true
    }

    fn begin_work(&mut self, app: usize, version: Arc<Version>, rank: usize, now: Instant) {
        let present = self.present(app, &version);
        let known = self.apps.get(app).filter(|app| app.rank.is_some());
        // An app that is scaled keeps as many workers as it has, if it may have them.
        let wanted = match known {
            Some(app) => {
                let count = u32::try_from(present.len()).unwrap_or(u32::MAX);
                let read_anew = self.reloading.current.as_ref().is_none_or(|c| c.read_anew);
                app.wanted_after_reload(&version.spec.scale, read_anew, count)
            }
            None => version.spec.workers,
        };
        let steps = steps(&present, wanted);
        let before = self
            .apps
            .get(app)
            .map(|app| (Arc::clone(&app.version), app.rank));
        if let Some(course) = &mut self.reloading.current {
            course.work = Some(Work {
                app,
                version,
                rank: Some(rank),
                before,
                present: present.len(),
                steps,
                stage: Stage::Free,
                accepted: 0,
                began: now,
            });
        }
    }

    /// The workers of an app, but for those that leave or have still to prove themselves.
    fn present(&self, app: usize, version: &Arc<Version>) -> Vec<Present> {
        let members = self
            .places
            .iter()
            .filter(|place| place.app == app && place.standing == Standing::Member);
        let present = members.map(|place| Present {
            slot: place.slot,
            instance: place.instance,
            outdated: !Arc::ptr_eq(&place.version, version),
        });
        present.collect()
    }

    fn remove_app(&mut self, app: usize, now: Instant) {
        let Some(entry) = self.apps.get_mut(app) else {
            return;
        };
        entry.rank = None;
        let text = format!("{}: removed", entry.name);
        info!("reload: {text}");
        let slots: Vec<Slot> = self
            .places
            .iter()
            .filter(|place| place.app == app)
            .map(|place| place.slot)
            .collect();
        for slot in slots {
            self.retire(slot, now);
        }
        if let Some(course) = &self.reloading.current {
            course.tell(text, ProgressStage::Done);
        }
    }

    /// Starts a newcomer.
    fn try_out(&mut self, instance: u32, old: Option<Slot>, now: Instant) {
        let newcomer = self.reloading.take_slot();
        let Some(work) = self.reloading.work() else {
            return;
        };
        work.stage = Stage::Trial { newcomer, old };
        let text = match old {
            Some(_) => format!("the successor of worker {instance} starts"),
            None => format!("worker {instance} starts"),
        };
        self.tell_passing(&text);
        let Some(work) = self.reloading.work() else {
            return;
        };
        let (app, version) = (work.app, Arc::clone(&work.version));
        match self.place_for(app, &version, newcomer, instance, now) {
            Ok(Some(place)) => self.places.push(place),
            Ok(None) => {}
            Err(error) => self.refuse(&error.to_string(), &[]),
        }
    }

    /// A newcomer takes over.
    fn accept(&mut self, index: usize, old: Option<Slot>, now: Instant) {
        let Some(work) = self.reloading.work() else {
            return;
        };
        work.stage = Stage::Free;
        work.accepted += 1;
        if work.accepted == 1
            && let (version, rank) = (Arc::clone(&work.version), work.rank)
            && let Some(app) = self.places.get(index).map(|place| place.app)
        {
            self.adopt(app, &version, rank);
        }
        if let Some(place) = self.places.get_mut(index) {
            place.standing = Standing::Member;
        }
        if let Some(old) = old {
            self.retire(old, now);
        }
        self.tell_app_ready(index);
        self.sort_places();
        self.tell_passing("it serves");
    }

    /// Where the app that is being worked on stands, for who watches.
    fn tell_passing(&self, text: &str) {
        let Some(course) = &self.reloading.current else {
            return;
        };
        let Some(work) = &course.work else { return };
        let Some(app) = self.apps.get(work.app) else {
            return;
        };
        let to_come = work.steps.iter().filter(|step| match step {
            Step::Replace { .. } | Step::Add { .. } => true,
            Step::Retire { .. } => false,
        });
        let coming = u32::from(matches!(work.stage, Stage::Trial { .. }));
        let done = work.accepted;
        let all = done + coming + u32::try_from(to_come.count()).unwrap_or(0);
        let text = format!("{}: {done} of {all} done; {text}", app.name);
        course.tell(text, ProgressStage::Passing);
    }

    fn adopt(&mut self, app: usize, version: &Arc<Version>, rank: Option<usize>) {
        if let Some(app) = self.apps.get_mut(app) {
            app.adopt(version, rank);
        }
        // What the roster says of the app as a whole has changed.
        self.published.clear();
    }

    /// A newcomer has failed: its last words are asked for.
    fn fail(&mut self, index: usize, now: Instant) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let (slot, last) = (place.slot, place.deaths.back());
        let reason = last.map_or("it closed its server", |death| &death.reason);
        let reason = reason.to_owned();
        let life = last.map_or(place.worker.life, |death| death.life);
        if let Some(work) = self.reloading.work() {
            work.stage = Stage::Failed {
                newcomer: slot,
                reason,
            };
        }
        self.logs.ask_tail(LifeKey { slot, life });
        self.retire(slot, now);
    }

    /// The new version is not what serves: back to the one before.
    fn refuse(&mut self, reason: &str, lines: &[String]) {
        let Some(course) = &mut self.reloading.current else {
            return;
        };
        let Some(work) = &mut course.work else {
            return;
        };
        let Some(name) = self.apps.get(work.app).map(|app| Arc::clone(&app.name)) else {
            return;
        };
        for line in lines {
            error!("{name} ! {line}");
        }
        let Some((version, rank)) = work.before.take() else {
            // We were going back already.
            error!(
                "reload: {name}: the version before does not come up either: {reason}; the workers stay as they are"
            );
            work.stage = Stage::Free;
            work.steps.clear();
            return;
        };
        let serves_on = match rank {
            Some(_) => "the version before serves on",
            None => "the app is not added",
        };
        let mut text = format!("{name}: refused, {serves_on}: {reason}");
        error!("reload: {text}");
        for line in lines {
            text.push_str("\n  ! ");
            text.push_str(line);
        }
        // Whoever asked may have left.
        let _ = course.tell.send(Progress {
            text,
            stage: ProgressStage::Refused,
        });
        course.refused.push(Arc::clone(&name));
        let (app, accepted, present) = (work.app, work.accepted, work.present);
        work.version = Arc::clone(&version);
        work.rank = rank;
        work.stage = Stage::Free;
        work.steps.clear();
        if accepted == 0 {
            return;
        }
        warn!("reload: {name}: what was replaced goes back to the version before");
        self.adopt(app, &version, rank);
        let present = u32::try_from(present).unwrap_or(u32::MAX);
        let wanted = rank.map_or(0, |_| present);
        let steps = steps(&self.present(app, &version), wanted);
        if let Some(work) = self.reloading.work() {
            work.steps = steps;
        }
    }

    fn end_work(&mut self) {
        let Some(work) = self.reloading.current.as_mut().and_then(|c| c.work.take()) else {
            return;
        };
        // What was refused has been told.
        if work.before.is_none() {
            return;
        }
        if work.accepted == 0 {
            // It has no workers, so that nobody could speak for the new version.
            self.adopt(work.app, &work.version, work.rank);
        }
        let Some(app) = self.apps.get_mut(work.app) else {
            return;
        };
        if self.reloading.current.as_ref().is_some_and(|c| c.read_anew) {
            app.forget_hand();
        }
        let text = format!(
            "{}: {} {} after {} s",
            app.name,
            work.accepted,
            match work.accepted {
                1 => "worker of the new version serves",
                _ => "workers of the new version serve",
            },
            seconds(work.began.elapsed())
        );
        info!("reload: {text}");
        if let Some(course) = &self.reloading.current {
            course.tell(text, ProgressStage::Done);
        }
    }
}

impl Work {
    /// How long a newcomer has to stay ready: the first one speaks for the version.
    fn proof(&self) -> Duration {
        match self.accepted {
            0 => self.version.rules.restart.min_uptime,
            _ => Duration::ZERO,
        }
    }
}
