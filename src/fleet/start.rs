//! How a fleet begins: sockets, roster, guard and threads, made anew or taken over from an earlier binary. Runs
//! on the main thread, which then becomes the supervisor.

use crate::fleet::announce::Steps;
use crate::fleet::app::{App, Version};
use crate::fleet::carry::Carried;
use crate::fleet::courier::Courier;
use crate::fleet::guard::Guard;
use crate::fleet::ipc::Ipc;
use crate::fleet::logs::Logs;
use crate::fleet::monitor::{Monitor, Views};
use crate::fleet::place::{self, Place};
use crate::fleet::relay_bus::Bus;
use crate::fleet::rundir::{self, RunDir};
use crate::fleet::spawn;
use crate::fleet::spec::AppSpec;
use crate::fleet::status::{AppScale, WorkerStatus};
use crate::fleet::supervisor::{
    Autopsies, Inbox, Press, Reloading, Replacing, Scaling, Supervisor,
};
use crate::fleet::{Fleet, Settings, StartError};
use front::channel::{Sender, bounded, unbounded};
use front::roster::{Board, Slot};
use front::sys::process::Pid;
use front::sys::{identity, procfs};
use log::warn;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

/// What workers have said and the supervisor has not heard yet.
const NOTICES_MAX: usize = 1024;

/// Binds the workers' sockets, publishes the roster, and starts guard and threads. The workers are
/// started by the supervisor, which the caller runs on the thread that lives as long as the process
/// and that becomes another binary, if one takes over: the workers end with the thread that started
/// them.
pub fn start(
    specs: Vec<AppSpec>,
    settings: Settings,
    board: Arc<Board>,
) -> Result<(Fleet, Supervisor), StartError> {
    let resources = |source| StartError::Resources { source };
    let run_dir = RunDir::open(&settings.run_dir)?;
    run_dir.write_hook()?;
    let (apps, places) = lay_out(specs, &run_dir)?;
    let next_slot = places.iter().map(|place| place.slot.0 + 1).max();
    let beginning = Beginning {
        apps,
        places,
        hook: run_dir.hook(),
        run_dir,
        strangers: procfs::children().into_iter().collect(),
        guard: start_guard(&settings.executable).map_err(resources)?,
        began: Instant::now(),
        next_slot: Slot(next_slot.unwrap_or(0)),
        bus: Bus::default(),
    };
    assemble(beginning, settings, board)
}

/// Goes on with the workers that an earlier binary has left, which notice nothing of it.
pub fn take_over(
    mut carried: Carried,
    settings: Settings,
    board: Arc<Board>,
) -> Result<(Fleet, Supervisor), StartError> {
    let resources = |source| StartError::Resources { source };
    let (apps, places) = carried.claim_apps()?;
    let groups = places.iter().filter_map(|place| place.worker.group());
    let guard = Guard::take_over(&settings.executable, carried.guard, groups.collect());
    let run_dir = RunDir::take_over(&settings.run_dir, carried.lock)?;
    // There are workers and clients to be kept, and the hook of the binary before is there.
    if let Err(error) = run_dir.write_hook() {
        warn!("workers that are started get the hook of the binary before: {error}");
    }
    let beginning = Beginning {
        hook: run_dir.hook(),
        run_dir,
        strangers: carried.strangers,
        guard: guard.map_err(resources)?,
        began: carried.began,
        next_slot: carried.next_slot,
        bus: carried.bus,
        apps,
        places,
    };
    let (fleet, mut supervisor) = assemble(beginning, settings, board)?;
    let (channels, pipes) = (carried.channels, carried.pipes);
    supervisor.go_on_with(channels, pipes).map_err(resources)?;
    Ok((fleet, supervisor))
}

/// It has to end workers of other users too.
fn start_guard(executable: &Path) -> io::Result<Guard> {
    identity::pass_capabilities_on(true);
    let guard = Guard::start(executable);
    identity::pass_capabilities_on(false);
    guard
}

/// What a fleet begins with, be it its own or an earlier binary's.
struct Beginning {
    apps: Vec<App>,
    places: Vec<Place>,
    hook: PathBuf,
    run_dir: RunDir,
    guard: Guard,
    strangers: BTreeSet<Pid>,
    began: Instant,
    next_slot: Slot,
    bus: Bus,
}

fn assemble(
    beginning: Beginning,
    settings: Settings,
    board: Arc<Board>,
) -> Result<(Fleet, Supervisor), StartError> {
    let resources = |source| StartError::Resources { source };
    let (requests, requests_in) = unbounded();
    let (children, children_in) = bounded(1);
    let (notices, notices_in) = bounded(NOTICES_MAX);
    let (tails, tails_in) = unbounded();
    let (looks, looks_in) = bounded(1);
    let (wakes, wakes_in) = bounded(1);
    let (alarms, alarms_in) = unbounded();
    let (events, events_out) = unbounded();
    let (done_holder, done) = bounded(0);
    let (ipc, ipc_thread) = Ipc::new(notices, beginning.bus).map_err(resources)?;
    let journal = settings.journal.clone();
    let (logs, logs_thread) = Logs::new(tails, Arc::clone(&board), journal).map_err(resources)?;
    let readers = logs.readers();
    let doors = ipc.clone();
    let statuses: Arc<Mutex<Vec<WorkerStatus>>> = Arc::default();
    let scales: Arc<Mutex<Vec<AppScale>>> = Arc::default();
    // Whoever comes before the supervisor's first turn finds workers, or waits a moment.
    board.publish(place::roster(&beginning.apps, &beginning.places, |_| None));
    let views = Views {
        statuses: Arc::clone(&statuses),
        board: Arc::clone(&board),
        looks,
        front: settings.front,
        journal: settings.journal.clone(),
        run_dir: settings.run_dir.clone(),
        limits: settings.alarm_limits,
        alarms,
    };
    start_vital_thread("ipc", move || ipc_thread.run()).map_err(resources)?;
    let logs_done = done_holder.clone();
    start_vital_thread("logs", move || {
        let _logs_done: Sender<()> = logs_done;
        logs_thread.run()
    })
    .map_err(resources)?;
    let supervisor = Supervisor {
        apps: beginning.apps,
        places: beginning.places,
        inbox: Inbox {
            requests: requests_in,
            children: children_in,
            notices: notices_in,
            tails: tails_in,
            looks: looks_in,
            alarms: alarms_in,
            jobs: settings.journal.jobs().clone(),
            wakes: wakes_in,
        },
        events,
        board,
        statuses: Arc::clone(&statuses),
        scales: Arc::clone(&scales),
        ipc,
        logs,
        journal: settings.journal,
        press: Press::default(),
        trial: None,
        guard: beginning.guard,
        run_dir: beginning.run_dir,
        hook: beginning.hook,
        executable: settings.executable,
        began: beginning.began,
        stopping: false,
        strangers: beginning.strangers,
        published: Vec::new(),
        reloading: Reloading::new(beginning.next_slot),
        autopsies: Autopsies::default(),
        replacing: Replacing::default(),
        scaling: Scaling::new(settings.bounds, wakes),
        courier: Courier::new(settings.alarm_command, settings.run_dir),
        steps: Steps::default(),
        changed: true,
        _done: done_holder,
    };
    let monitor = Monitor::start(views).map_err(resources)?;
    let fleet = Fleet {
        requests,
        children,
        events: events_out,
        statuses,
        scales,
        monitor,
        readers,
        doors,
        done,
    };
    Ok((fleet, supervisor))
}

/// Gives every worker of every app its slot, socket and listener.
fn lay_out(specs: Vec<AppSpec>, run_dir: &RunDir) -> Result<(Vec<App>, Vec<Place>), StartError> {
    let now = Instant::now();
    let mut apps = Vec::new();
    let mut places: Vec<Place> = Vec::new();
    let mut slots = (0..).map(Slot);
    for (index, spec) in specs.into_iter().enumerate() {
        let app = App::new(Version::new(spec), Some(index));
        let spec = &app.version.spec;
        if spec.confinement.user.is_some() {
            run_dir.let_others_pass()?;
        }
        for (instance, slot) in (0..spec.workers).zip(&mut slots) {
            let socket: Arc<Path> = Arc::from(run_dir.socket(&spec.name, instance)?);
            let listener = if spawn::binds_itself(&spec.launch) {
                None
            } else {
                Some(rundir::listen(&socket)?)
            };
            places.push(Place::new(
                index, &app, slot, instance, socket, listener, now,
            ));
        }
        apps.push(app);
    }
    Ok((apps, places))
}

/// Starts a thread without which the process must not go on: workers would die with the
/// supervisor, or stand still on pipes that nobody reads.
fn start_vital_thread(
    name: &'static str,
    body: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        let complaint = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => return,
            Ok(Err(e)) => e.to_string(),
            Err(_) => "a bug (see above)".to_owned(),
        };
        let _ = writeln!(
            io::stderr(),
            "sidekeeper: the {name} thread has ended: {complaint}"
        );
        std::process::abort();
    };
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(())
}
