//! Seeing and steering a running instance: the control socket and what is told over it. Reads what
//! the other rooms publish; asks the fleet for what is to be done; is never on the way of a request.
//!
//! `command` is the table of commands (a new one is one item there), `control` the socket, `status`
//! what `sidekeeper status` shows, `web` the dashboard's listener with
//! `metrics` and the `page`.

pub mod alarms;
pub mod ask;
pub mod command;
mod control;
mod drain;
pub mod humane;
pub mod metrics;
mod names;
mod page;
mod reload;
pub mod requests;
mod restart;
mod scale;
mod served;
pub mod sessions;
pub mod status;
mod steer;
mod upgrade;
mod web;
mod why;

use crate::fleet::{Fleet, Progress};
use crate::journal::Journal;
use control::Control;
use front::channel::{Receiver, Sender};
use front::gauges::FrontGauges;
use front::roster::Board;
use front::route::Tables;
use front::sys::carried::Baton;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use web::Web;

pub use control::socket_path;
pub use upgrade::Asker;

/// What a client asks of the process as a whole. The conductor obeys.
#[derive(Debug)]
pub enum Order {
    /// As SIGTERM.
    Stop,
    /// As SIGHUP, for one app or for all.
    Reload {
        only: Option<String>,
        /// What is told app by app, or why nothing is begun.
        answer: Sender<Result<Receiver<Progress>, String>>,
    },
    /// As SIGUSR2.
    Upgrade {
        /// None: our own binary, as it is on the disk now.
        program: Option<PathBuf>,
        asker: Asker,
    },
}

/// What commands may look at and act on.
pub struct Instance {
    pub fleet: Arc<Fleet>,
    pub board: Arc<Board>,
    pub tables: Arc<Tables>,
    pub front: Arc<FrontGauges>,
    pub journal: Journal,
    /// As bound.
    pub addresses: Vec<String>,
    pub run_dir: PathBuf,
    pub began: Instant,
    pub orders: Sender<Order>,
    /// Set by the conductor when it begins to stop.
    pub stopping: Arc<AtomicBool>,
    /// The control socket's, if an earlier binary has left it.
    pub control: Option<UnixListener>,
    /// Of the dashboard, if there is one.
    pub dashboard: Option<TcpListener>,
    /// Whoever has it may steer from the dashboard; without one nobody may.
    pub dashboard_token: Option<String>,
}

/// What all threads of this room share.
pub struct Shared {
    pub instance: Instance,
    /// Where the dashboard is, if anywhere.
    pub dashboard: Option<String>,
}

/// Why there is no control socket. The text is one line that says what to do.
#[derive(Debug)]
pub struct StartError {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, source) = (self.path.display(), &self.source);
        write!(
            f,
            "cannot listen on {path}: {source}; choose another --run-dir"
        )
    }
}

/// The running admin threads. Dropping it removes the control socket.
pub struct Admin {
    control: Control,
    web: Option<Web>,
}

impl Admin {
    /// The listeners of the control socket and of the dashboard, for the binary that takes over.
    pub fn batons(&self) -> (Baton, Option<Baton>) {
        let web = self.web.as_ref().map(Web::baton);
        (self.control.baton(), web)
    }
}

/// Begins to answer. The run directory is there, and ours.
pub fn start(mut instance: Instance) -> Result<Admin, StartError> {
    let path = socket_path(&instance.run_dir);
    let failed = |source| StartError {
        path: path.clone(),
        source,
    };
    let left = instance.control.take();
    let listener = instance.dashboard.take();
    let address = listener
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    let shared = Arc::new(Shared {
        instance,
        dashboard: address.map(|address| address.to_string()),
    });
    let web = listener.map(|listener| Web::start(listener, shared.clone()));
    let web = web.transpose().map_err(failed)?;
    let control = Control::start(&path, left, shared).map_err(failed)?;
    Ok(Admin { control, web })
}
