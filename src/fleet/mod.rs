//! The control plane: starts, watches, restarts and stops workers. See ARCHITECTURE.md.
//!
//! [`start`] makes four threads: the supervisor, which decides and acts; `ipc`, which speaks with
//! Node workers; `logs`, which reads what workers print; `monitor`, which looks at `/proc`. The rest of the process sees the roster
//! on the board, the events, and this handle.

pub mod alarms;
mod announce;
mod autopsy;
mod carry;
mod channel;
mod courier;
pub mod cron;
pub mod guard;
mod hand_off;
pub mod ipc;
mod life;
mod lines;
mod logs;
pub mod message;
pub mod monitor;
mod place;
mod probe;
mod relay_bus;
mod reload;
mod replace;
mod rules;
mod rundir;
pub mod scale;
pub mod spawn;
pub mod spec;
pub mod status;
mod supervisor;
mod watch;
mod worker;

use crate::fleet::announce::Steps;
pub use crate::fleet::carry::Carried;
use crate::fleet::courier::Courier;
use crate::fleet::guard::Guard;
use crate::fleet::ipc::Ipc;
use crate::fleet::logs::{Logs, Readers};
use crate::fleet::monitor::{Figures, History, Monitor, Views};
use crate::fleet::place::{App, Place, Version};
use crate::fleet::relay_bus::Bus;
pub use crate::fleet::reload::{Progress, ProgressStage};
use crate::fleet::reload::{Reload, Reloading};
use crate::fleet::replace::Replacing;
pub use crate::fleet::rundir::hand_over as hand_over_run_dir;
use crate::fleet::rundir::{RunDir, SOCKET_PATH_BYTES_MAX};
use crate::fleet::scale::{Aim, Bounds, ScaleOrder, Scaling, Target};
use crate::fleet::spec::AppSpec;
use crate::fleet::status::{AppScale, WorkerStatus};
pub use crate::fleet::supervisor::Supervisor;
use crate::fleet::supervisor::{HandOver, Inbox, Leave, Press, Request, TryOut};
use crate::fleet::watch::Autopsies;
use crate::journal::Journal;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use front::gauges::FrontGauges;
use front::roster::{Board, Slot};
use front::sys::process::Pid;
use front::sys::{identity, procfs};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What workers have said and the supervisor has not heard yet.
const NOTICES_MAX: usize = 1024;

/// How the fleet is run.
#[derive(Clone)]
pub struct Settings {
    /// Sockets, lock and hook; made if it is missing, mode 0700.
    pub run_dir: PathBuf,
    /// The sidekeeper binary, started again as the guard and on the way to each worker.
    pub executable: PathBuf,
    /// Writes the workers' log files.
    pub journal: Journal,
    /// What scaling has to keep to.
    pub bounds: Bounds,
    /// What is counted at the front door.
    pub front: Arc<FrontGauges>,
    pub alarm_limits: alarms::Limits,
    /// A shell line that is told of alarms.
    pub alarm_command: Option<String>,
}

impl Settings {
    pub fn new(run_dir: PathBuf, journal: Journal, bounds: Bounds) -> Settings {
        // The link and not what it says: it stays right when the file is replaced or removed.
        let executable = PathBuf::from("/proc/self/exe");
        Settings {
            run_dir,
            executable,
            journal,
            bounds,
            front: Arc::default(),
            alarm_limits: alarms::Limits::default(),
            alarm_command: None,
        }
    }
}

/// What happens to apps as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetEvent {
    /// An app has its first ready worker, `took` after the start of the fleet.
    Ready { app: Arc<str>, took: Duration },
    /// Every app has had a ready worker.
    AllReady,
    /// A reload has come to its end, and none waits.
    Reloaded,
    /// A worker keeps failing; its last lines of stderr.
    Errored {
        app: Arc<str>,
        worker: u32,
        lines: Vec<String>,
    },
    /// No process is left.
    Stopped,
}

/// Why the fleet cannot start. Shown as one line that says what to do.
#[derive(Debug)]
pub enum StartError {
    /// The run directory cannot be made or used.
    RunDir {
        path: PathBuf,
        source: io::Error,
    },
    /// Another sidekeeper holds the run directory.
    InUse {
        path: PathBuf,
        pid: String,
    },
    SocketPathTooLong {
        path: PathBuf,
    },
    /// A worker's socket cannot be bound.
    Socket {
        path: PathBuf,
        source: io::Error,
    },
    /// No guard process, thread or descriptor.
    Resources {
        source: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::RunDir { path, source } => {
                write!(
                    f,
                    "cannot use {}: {source}; choose another --run-dir",
                    path.display()
                )
            }
            StartError::InUse { path, pid } => write!(
                f,
                "the run directory {} is in use by sidekeeper {pid}; stop that one or choose another --run-dir",
                path.display()
            ),
            StartError::SocketPathTooLong { path } => write!(
                f,
                "the socket path {} is longer than {SOCKET_PATH_BYTES_MAX} bytes; choose a shorter --run-dir",
                path.display()
            ),
            StartError::Socket { path, source } => {
                write!(
                    f,
                    "cannot listen on {}: {source}; remove it or choose another --run-dir",
                    path.display()
                )
            }
            // Our own binary is found by the one, the standard streams of a child by the other.
            StartError::Resources { source } if source.kind() == io::ErrorKind::NotFound => {
                write!(
                    f,
                    "cannot start: {source}; /proc must be mounted and /dev/null be there"
                )
            }
            StartError::Resources { source } => write!(
                f,
                "cannot start: {source}; look at the limits of processes and open files"
            ),
        }
    }
}

impl std::error::Error for StartError {}

/// A running fleet. Dropping it stops the workers as [`Fleet::stop`] does, without waiting.
pub struct Fleet {
    requests: Sender<Request>,
    children: Sender<()>,
    events: Receiver<FleetEvent>,
    statuses: Arc<Mutex<Vec<WorkerStatus>>>,
    scales: Arc<Mutex<Vec<AppScale>>>,
    monitor: Monitor,
    readers: Readers,
    /// The way to those who hand connections over.
    doors: Ipc,
    /// Closed when the supervisor and the logs have ended.
    done: Receiver<()>,
}

impl Fleet {
    pub fn events(&self) -> &Receiver<FleetEvent> {
        &self.events
    }

    /// SIGCHLD came.
    pub fn child_signal(&self) {
        // Full means that one is waiting already, and it will reap them all.
        let _ = self.children.try_send(());
    }

    /// Begins to stop all workers: message, SIGTERM, SIGKILL, each after its time.
    pub fn stop(&self) {
        let _ = self.requests.send(Request::Stop);
    }

    /// Has a worker leave without haste: it gets no new sessions, its clients are sent away one by
    /// one, and when none is left, or `drain_timeout` is over, it is stopped and stays so.
    pub fn drain(&self, slot: Slot) {
        let _ = self.requests.send(Request::Drain(slot));
    }

    /// Stops a worker and starts it again at once, whatever state it is in. Requests that find no
    /// other worker wait for it.
    pub fn restart(&self, slot: Slot) {
        let _ = self.requests.send(Request::Restart(slot));
    }

    /// Brings the workers to what the configuration says now, one after the other: each new worker is
    /// ready before the old one leaves. `only` one app, or all. What comes of it is told app by app;
    /// when nothing is left to tell, the channel is closed.
    pub fn reload(&self, apps: Vec<AppSpec>, only: Option<String>) -> Receiver<Progress> {
        let (tell, told) = unbounded();
        let _ = self.requests.send(Request::Reload(Reload {
            apps: Some(apps),
            only,
            tell,
        }));
        told
    }

    /// Replaces an app's workers as a reload does, by workers of the version that serves.
    pub fn renew(&self, app: String) -> Receiver<Progress> {
        let (tell, told) = unbounded();
        let _ = self.requests.send(Request::Reload(Reload {
            apps: None,
            only: Some(app),
            tell,
        }));
        told
    }

    /// Has an app have so many workers from now on, or as many as its load asks for. What is aimed at,
    /// or why that cannot be, is told at once; the workers come and go by and by.
    pub fn scale(&self, app: String, target: Target) -> Result<Aim, String> {
        let (answer, answered) = bounded(1);
        let order = ScaleOrder {
            app,
            target,
            answer,
        };
        let _ = self.requests.send(Request::Scale(order));
        let ending = |_| Err("sidekeeper is stopping".to_owned());
        answered.recv().unwrap_or_else(ending)
    }

    /// Sends what workers have printed lately, and with `follow` what they print from now on, to a
    /// socket; `slots` empty: all workers.
    pub fn send_logs(&self, to: UnixStream, slots: Vec<Slot>, follow: bool) {
        self.readers.add(to, slots, follow);
    }

    /// Takes the next step of a stop at once.
    pub fn hurry(&self) {
        let _ = self.requests.send(Request::Hurry);
    }

    /// Starts another binary with these words, to see whether it ends well, and what it says.
    /// `without`: a variable that it is not to see.
    pub fn try_out(
        &self,
        program: PathBuf,
        words: Vec<OsString>,
        without: &'static str,
    ) -> Receiver<Result<String, String>> {
        let (answer, answered) = bounded(1);
        let _ = self.requests.send(Request::TryOut(TryOut {
            program,
            words,
            without,
            answer,
        }));
        answered
    }

    /// Hands no more connections to workers; told when each that is on its way has arrived or is back.
    pub fn shut_doors(&self) -> Receiver<()> {
        self.doors.settle()
    }

    /// After [`Fleet::shut_doors`].
    pub fn open_doors(&self) {
        self.doors.open();
    }

    /// Stands still, writes everything down, and has `leave` become another binary with it. Told why
    /// that has not come about; then everything goes on.
    pub fn hand_over(&self, leave: Leave) -> Receiver<String> {
        let (answer, answered) = bounded(1);
        let order = HandOver { leave, answer };
        let _ = self.requests.send(Request::HandOver(order));
        answered
    }

    /// Waits until no process is left and all output is written; false if that takes longer.
    pub fn wait_stopped(&self, deadline: Instant) -> bool {
        matches!(
            self.done.recv_deadline(deadline),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected)
        )
    }

    /// All workers at this moment, in the order of apps and instances.
    pub fn snapshot(&self) -> Vec<WorkerStatus> {
        self.statuses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many workers each app has and is to have, in the order of the configuration.
    pub fn scales(&self) -> Vec<AppScale> {
        self.scales
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What the monitor has seen last.
    pub fn figures(&self) -> Figures {
        self.monitor.figures()
    }

    /// What it has seen in the last hour.
    pub fn history(&self) -> History {
        self.monitor.history()
    }

    /// Alarms that are raised, the oldest first, then those that were, the newest first.
    pub fn alarms(&self) -> Vec<alarms::Alarm> {
        self.monitor.alarms()
    }
}

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
    let (apps, places) = lay_out(specs, &run_dir)?;
    let next_slot = places.iter().map(|place| place.slot.0 + 1).max();
    let beginning = Beginning {
        apps,
        places,
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
    let beginning = Beginning {
        run_dir: RunDir::take_over(&settings.run_dir, carried.lock)?,
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
    let hook = beginning.run_dir.write_hook()?;
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
        hook,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_jail_is_told_what_it_lacks() {
        let source = io::ErrorKind::NotFound.into();
        let said = StartError::Resources { source }.to_string();
        assert!(
            said.contains("/proc") && said.contains("/dev/null"),
            "{said}"
        );
    }
}
