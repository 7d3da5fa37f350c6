//! The control plane: starts, watches, restarts and stops workers. See ARCHITECTURE.md.
//!
//! [`start()`] makes four threads: the supervisor, which decides and acts; `ipc`, which speaks with
//! Node workers; `logs`, which reads what workers print; `monitor`, which looks at `/proc`. The rest of the process sees the roster
//! on the board, the events, and this handle.

pub mod alarms;
mod announce;
mod app;
mod autopsy;
mod carry;
mod channel;
mod courier;
pub mod cron;
mod figures;
pub mod guard;
mod hand_off;
mod hang;
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
mod rules;
mod rundir;
pub mod scale;
pub mod spawn;
pub mod spec;
mod start;
pub mod status;
mod supervisor;
mod worker;

pub use crate::fleet::carry::Carried;
use crate::fleet::figures::Figures;
use crate::fleet::ipc::Ipc;
use crate::fleet::logs::Readers;
use crate::fleet::monitor::{History, Monitor};
use crate::fleet::reload::Reload;
pub use crate::fleet::reload::{Progress, ProgressStage};
use crate::fleet::rundir::SOCKET_PATH_BYTES_MAX;
pub use crate::fleet::rundir::hand_over as hand_over_run_dir;
use crate::fleet::scale::{Aim, Bounds, ScaleOrder, Target};
use crate::fleet::spec::AppSpec;
pub use crate::fleet::start::{start, take_over};
use crate::fleet::status::{AppScale, WorkerStatus};
use crate::fleet::supervisor::{HandOver, Leave, Request, TryOut};
use crate::journal::Journal;
use front::channel::{Receiver, Sender, bounded, unbounded};
use front::gauges::FrontGauges;
use front::roster::Slot;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
            Err(front::channel::RecvTimeoutError::Disconnected)
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
