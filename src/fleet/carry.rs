//! The fleet's part of what one binary leaves to the next: the apps as they run, each worker with its
//! sockets and how far it has come, the guard, and the lock of the run directory. The supervisor
//! writes it down when the threads beside it stand still, and the next binary's goes on with it.
//! A field that an older binary did not know has a default here.

use crate::fleet::StartError;
use crate::fleet::app::{App, Version};
use crate::fleet::channel::CarriedChannel;
use crate::fleet::life::LifeKey;
use crate::fleet::lines::TextCutter;
use crate::fleet::logs::CarriedPipe;
use crate::fleet::message::Stats;
use crate::fleet::place::{Place, Standing};
use crate::fleet::probe::Probe;
use crate::fleet::relay_bus::Bus;
use crate::fleet::spec::AppSpec;
use crate::fleet::status::Death;
use crate::fleet::worker::{Starting, State, Worker};
use front::as_json;
use front::gauges::WorkerGauges;
use front::json;
use front::roster::{Drain, Slot};
use front::sys::carried::Baton;
use front::sys::process::Pid;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Everything that the next binary's fleet begins with.
#[derive(Debug)]
pub struct Carried {
    /// The run directory's.
    pub lock: Baton,
    pub guard: Option<(Pid, Baton)>,
    pub began: Instant,
    pub next_slot: Slot,
    pub strangers: BTreeSet<Pid>,
    /// Each is of an app or of a worker, by its place here.
    versions: Vec<AppSpec>,
    apps: Vec<CarriedApp>,
    pub places: Vec<CarriedPlace>,
    pub channels: Vec<CarriedChannel>,
    pub bus: Bus,
    pub pipes: Vec<CarriedPipe>,
}

as_json!(struct Carried {
    lock, guard, began, next_slot, strangers, versions, apps, places, channels, bus, pipes
});

#[derive(Debug)]
struct CarriedApp {
    version: usize,
    rank: Option<usize>,
    was_ready: bool,
    /// How many workers somebody has asked for.
    fixed: Option<u32>,
}

as_json!(struct CarriedApp { version, rank, was_ready, fixed });

#[derive(Debug)]
pub struct CarriedPlace {
    app: usize,
    version: usize,
    slot: Slot,
    instance: u32,
    standing: Standing,
    socket: PathBuf,
    listener: Option<Baton>,
    gauges: WorkerGauges,
    worker: Worker,
    channel_lost: bool,
    hooked: bool,
    drain: Option<Drain>,
    send_away_at: Option<Instant>,
    sentence: Option<String>,
    since: SystemTime,
    deaths: Vec<Death>,
    stats: Option<Stats>,
}

as_json!(struct CarriedPlace {
    app, version, slot, instance, standing, socket, listener, gauges or default, worker,
    channel_lost, hooked, drain, send_away_at, sentence, since, deaths, stats
});

/// The threads beside the supervisor, as they stand.
pub struct Beside {
    pub channels: Vec<CarriedChannel>,
    pub bus: Bus,
    pub pipes: Vec<CarriedPipe>,
}

/// What the supervisor has of its own besides apps and places.
pub struct Own {
    pub lock: Baton,
    pub guard: Option<(Pid, Baton)>,
    pub began: Instant,
    pub next_slot: Slot,
    pub strangers: BTreeSet<Pid>,
}

impl Carried {
    pub fn of(apps: &[App], places: &[Place], own: Own, beside: Beside) -> Carried {
        let mut versions = Versions::default();
        let apps = apps.iter().map(|app| CarriedApp {
            version: versions.number(&app.version),
            rank: app.rank,
            was_ready: app.was_ready,
            fixed: app.scaling.fixed,
        });
        let apps = apps.collect();
        let places = places.iter();
        let places = places.map(|place| CarriedPlace::of(place, versions.number(&place.version)));
        Carried {
            places: places.collect(),
            apps,
            versions: versions.0.iter().map(|known| known.spec.clone()).collect(),
            lock: own.lock,
            guard: own.guard,
            began: own.began,
            next_slot: own.next_slot,
            strangers: own.strangers,
            channels: beside.channels,
            bus: beside.bus,
            pipes: beside.pipes,
        }
    }

    /// The apps' and workers' descriptors become ours.
    pub fn claim_apps(&mut self) -> Result<(Vec<App>, Vec<Place>), StartError> {
        let torn = || io::Error::new(io::ErrorKind::InvalidData, "what was left is incomplete");
        let torn = || StartError::Resources { source: torn() };
        let versions = std::mem::take(&mut self.versions).into_iter();
        let versions: Vec<_> = versions.map(Version::new).collect();
        let version = |number: usize| versions.get(number).cloned().ok_or_else(torn);
        let mut apps = Vec::new();
        for carried in std::mem::take(&mut self.apps) {
            let mut app = App::new(version(carried.version)?, carried.rank);
            app.was_ready = carried.was_ready;
            app.scaling.fixed = carried.fixed;
            apps.push(app);
        }
        let mut places = Vec::new();
        for carried in std::mem::take(&mut self.places) {
            let app = apps.get(carried.app).ok_or_else(torn)?;
            let version = version(carried.version)?;
            let place = carried.claim(app, version);
            places.push(place.map_err(|source| StartError::Resources { source })?);
        }
        Ok((apps, places))
    }
}

/// The versions met so far.
#[derive(Default)]
struct Versions(Vec<Arc<Version>>);

impl Versions {
    fn number(&mut self, version: &Arc<Version>) -> usize {
        let known = self.0.iter().position(|known| Arc::ptr_eq(known, version));
        known.unwrap_or_else(|| {
            self.0.push(Arc::clone(version));
            self.0.len() - 1
        })
    }
}

impl CarriedPlace {
    fn of(place: &Place, version: usize) -> CarriedPlace {
        // Counters only, read one by one; nobody writes to them now.
        let gauges = json::read(json::text(&*place.gauges).as_bytes());
        CarriedPlace {
            app: place.app,
            version,
            slot: place.slot,
            instance: place.instance,
            standing: place.standing,
            socket: place.socket.to_path_buf(),
            listener: place.listener.as_ref().map(|fd| Baton::of(fd.as_fd())),
            gauges: gauges.unwrap_or_default(),
            worker: place.worker.clone(),
            channel_lost: place.channel_lost,
            hooked: place.hooked,
            drain: place.drain,
            send_away_at: place.send_away_at,
            sentence: place.sentence.clone(),
            since: place.since,
            deaths: place.deaths.iter().cloned().collect(),
            stats: place.stats,
        }
    }

    fn claim(self, owner: &App, version: Arc<Version>) -> io::Result<Place> {
        let now = Instant::now();
        let listener: Option<OwnedFd> = self.listener.map(Baton::claim).transpose()?;
        let (slot, instance) = (self.slot, self.instance);
        let socket = Arc::from(self.socket);
        let place = Place::new(self.app, owner, slot, instance, socket, listener, now);
        let gauges = WorkerGauges {
            app: Arc::clone(&owner.gauges),
            ..self.gauges
        };
        let starting = matches!(
            self.worker.state,
            State::Starting(Starting { listens: false, .. })
        );
        let mut place = Place {
            version,
            standing: self.standing,
            gauges: Arc::new(gauges),
            worker: self.worker,
            probe: starting.then(|| Probe::new(now)),
            channel_lost: self.channel_lost,
            hooked: self.hooked,
            drain: self.drain,
            send_away_at: self.send_away_at,
            sentence: self.sentence,
            deaths: self.deaths.into(),
            stats: self.stats,
            ..place
        };
        place.note_condition();
        place.since = self.since;
        Ok(place)
    }
}

/// Whether a life's pipe or channel is among those that were left.
pub fn take_of<T>(from: &mut Vec<T>, is: impl Fn(&T) -> bool) -> Option<T> {
    let place = from.iter().position(is)?;
    Some(from.swap_remove(place))
}

/// Both pipes of a life; one that has ended is an end of file.
pub fn take_pipes(
    pipes: &mut Vec<CarriedPipe>,
    key: LifeKey,
) -> io::Result<[(OwnedFd, TextCutter); 2]> {
    let mut take = |stderr: bool| -> io::Result<(OwnedFd, TextCutter)> {
        let found = take_of(pipes, |pipe| pipe.key == key && pipe.stderr == stderr);
        match found {
            Some(pipe) => Ok((pipe.fd.claim()?, pipe.lines)),
            None => {
                let (ours, _) = std::os::unix::net::UnixStream::pair()?;
                Ok((OwnedFd::from(ours), TextCutter::default()))
            }
        }
    };
    Ok([take(false)?, take(true)?])
}
