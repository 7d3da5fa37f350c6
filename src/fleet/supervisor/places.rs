//! Who comes among the workers' places and who goes, whoever asks for it: a reload, scaling, or a worker that
//! is replaced. Runs on the supervisor thread.

use crate::fleet::StartError;
use crate::fleet::app::Version;
use crate::fleet::place::{Place, Standing};
use crate::fleet::reload::Reload;
use crate::fleet::rundir;
use crate::fleet::spawn;
use crate::fleet::supervisor::Supervisor;
use crate::fleet::worker::{Event, State};
use front::channel::unbounded;
use front::order;
use front::roster::Slot;
use log::warn;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

impl Supervisor {
    /// What somebody has removed from the run directory is there again for who is started now.
    pub fn mend_run_dir(&mut self) {
        match self.run_dir.mend() {
            Ok(false) => {}
            Ok(true) => warn!(
                "files of the run directory were gone and have been written again; let nobody sweep it, or choose another --run-dir"
            ),
            Err(error) => warn!("files of the run directory are gone: {error}"),
        }
    }

    /// Renews the workers that nobody can reach any more, because their sockets have been removed.
    pub fn renew_unreachable(&mut self) {
        if self.stopping || self.reloads() {
            return;
        }
        let mut apps: Vec<usize> = Vec::new();
        for place in &self.places {
            let serves = matches!(place.worker.state, State::Ready { .. });
            let member = place.standing == Standing::Member && place.listener.is_some();
            if serves && member && !apps.contains(&place.app) && !place.socket.exists() {
                apps.push(place.app);
            }
        }
        for app in apps.into_iter().filter_map(|index| self.apps.get(index)) {
            warn!(
                "{}: somebody has removed the sockets of its workers, which nobody can reach now; they are renewed",
                app.name
            );
            // The log says what comes of it.
            let (tell, _) = unbounded();
            self.reloading.ask(Reload {
                apps: None,
                only: Some(app.name.to_string()),
                tell,
            });
        }
    }

    /// A place with a socket of its own; None if there is no such app.
    pub fn place_for(
        &mut self,
        app: usize,
        version: &Arc<Version>,
        slot: Slot,
        instance: u32,
        now: Instant,
    ) -> Result<Option<Place>, StartError> {
        self.mend_run_dir();
        let Some(owner) = self.apps.get(app) else {
            return Ok(None);
        };
        if version.spec.confinement.user.is_some() {
            self.run_dir.let_others_pass()?;
        }
        let path = self.run_dir.newcomers_socket(&owner.name, instance, slot)?;
        let socket: Arc<Path> = Arc::from(path);
        let listener = if spawn::binds_itself(&version.spec.launch) {
            None
        } else {
            Some(rundir::listen(&socket)?)
        };
        let place = Place::new(app, owner, slot, instance, socket, listener, now);
        Ok(Some(Place {
            version: Arc::clone(version),
            standing: Standing::Newcomer,
            ..place
        }))
    }

    /// A worker goes for good.
    pub fn retire(&mut self, slot: Slot, now: Instant) {
        let Some(index) = self.index_of(slot) else {
            return;
        };
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let event = match place.standing {
            Standing::Newcomer => Event::Stop,
            Standing::Member | Standing::Leaver => Event::Drain,
        };
        place.standing = Standing::Leaver;
        self.apply(index, event, now);
    }

    /// Clears the places of those who have left.
    pub fn clear_places(&mut self) {
        let gone = |p: &Place| p.standing == Standing::Leaver && p.worker.state == State::Stopped;
        while let Some(index) = self.places.iter().position(gone) {
            let place = self.places.remove(index);
            self.logs.forget(place.slot);
            self.ipc.remove(place.key());
            // Its path is never used again.
            rundir::clear_way(&place.socket);
            self.changed = true;
        }
    }

    /// In the order of apps and instances; who came later stands behind whom it replaces.
    pub fn sort_places(&mut self) {
        let apps = &self.apps;
        order::sort_by_key(&mut self.places, |place| {
            let rank = apps.get(place.app).and_then(|app| app.rank);
            let rank = rank.unwrap_or(usize::MAX);
            (rank, place.app, place.instance, place.slot)
        });
    }

    pub fn index_of(&self, slot: Slot) -> Option<usize> {
        self.places.iter().position(|place| place.slot == slot)
    }
}
