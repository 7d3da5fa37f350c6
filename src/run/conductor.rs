//! The conductor: hears signals, orders and news of the fleet, and has them obeyed. It never waits for a client or
//! a worker. What it does at length is in files of its own: reloads, upgrades, the stop.

use super::access::Access;
use super::banner::{self, Arrival, Banner, Row};
use super::leave;
use super::reloads::Reloads;
use super::signals::Heard;
use super::starting::Starting;
use super::stopping::{Asked, stop};
use super::traces::Trace;
use super::upgrade::Upgrade;
use super::voice::Written;
use super::watching::Changed;
use crate::admin::{Admin, Asker, Order};
use crate::config::plan::Plan;
use crate::config::{shown_command, shown_routes, shown_workers};
use crate::fleet::spec::AppSpec;
use crate::fleet::status::{Condition, WorkerStatus};
use crate::fleet::{Fleet, FleetEvent};
use crate::journal::Journal;
use front::channel::{Receiver, select};
use front::roster::Board;
use front::server::Server;
use log::{debug, error, info, warn};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGTTOU, SIGUSR1, SIGUSR2};
use signal_hook::low_level::signal_name;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// After this the screen is shown even if an app is still coming up.
const BANNER_PATIENCE: Duration = Duration::from_secs(10);
/// What the last lines of log files may take to be written.
const FLUSH: Duration = Duration::from_secs(2);

/// What leads the process, on a thread of its own: it hears signals and orders and has them obeyed.
pub struct Conductor {
    pub plan: Plan,
    pub board: Arc<Board>,
    pub server: Server,
    pub fleet: Arc<Fleet>,
    pub journal: Journal,
    /// Our own log.
    pub written: Written,
    pub access: Option<Access>,
    pub admin: Admin,
    pub signals: Heard,
    /// From the control socket.
    pub orders: Receiver<Order>,
    pub reloads: Reloads,
    pub stopping: Arc<AtomicBool>,
    pub began: Instant,
    /// Where our binary is found.
    pub program: PathBuf,
    pub upgrade: Option<Upgrade>,
    /// An earlier binary has shown everything already.
    pub taken_over: bool,
}

impl Conductor {
    pub fn run(mut self) {
        let address_file = self.serve();
        self.stopping.store(true, Relaxed);
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.give_up("a stop has been asked for");
        }
        let Conductor {
            plan,
            server,
            fleet,
            journal,
            access,
            admin,
            signals,
            orders,
            reloads,
            ..
        } = self;
        let asked = Asked { signals, orders };
        stop(&plan, server, &fleet, &asked, &reloads);
        let flushed = access.is_none_or(|access| access.flush(FLUSH));
        if !journal.flush(FLUSH) || !flushed {
            warn!("stopping: the last lines of log files could not be written in time");
        }
        drop(admin);
        drop(address_file);
    }
}

impl Conductor {
    /// Everything between start and stop. Returns when a stop was asked for, with what it has written.
    fn serve(&mut self) -> Option<Trace> {
        let at_first = |app: &AppSpec| match app.workers {
            0 => Arrival::Asleep,
            _ => Arrival::Coming,
        };
        let mut arrivals: Vec<Arrival> = self.plan.apps.iter().map(at_first).collect();
        let names: Vec<String> = self.plan.apps.iter().map(|app| app.name.clone()).collect();
        let index_of = |app: &str| names.iter().position(|name| name == app);
        let patience = crossbeam_channel::after(BANNER_PATIENCE);
        let seconds = crossbeam_channel::tick(Duration::from_secs(1));
        let mut address_file = None;
        let (mut shown, mut told) = (self.taken_over, false);
        let mut starting = Starting::new();
        loop {
            let settled = self.taken_over || !arrivals.contains(&Arrival::Coming);
            if settled {
                starting.end();
            }
            if settled && !told {
                told = true;
                address_file = tell_addresses(&self.plan, &self.server);
                self.reloads.notify.ready();
            }
            if settled && !shown {
                shown = true;
                show(&self.plan, &self.server, &arrivals);
            }
            let (trial, changes) = (self.trial(), self.reloads.renewals.changed());
            let signals = self.signals.receiver();
            select! {
                recv(self.orders.parcels()) -> order => match self.orders.opened(order) {
                    Ok(Order::Stop) | Err(_) => return address_file,
                    Ok(Order::Reload { only, answer }) => {
                        let begun = self.reloads.begin(&self.fleet, &mut arrivals, &self.plan, only);
                        // Whoever asked may have left; the reload goes on.
                        let _ = answer.send(begun);
                    }
                    Ok(Order::Upgrade { program, asker }) => self.begin_upgrade(program, asker),
                },
                recv(signals.parcels()) -> signal => match signals.opened(signal) {
                    Ok(SIGCHLD) => self.fleet.child_signal(),
                    Ok(SIGTERM | SIGINT) | Err(_) => return address_file,
                    // A terminal that went away has nobody left to press Ctrl-C.
                    Ok(SIGHUP) if io::stdin().is_terminal() => return address_file,
                    // The log says what comes of it.
                    Ok(SIGHUP) => drop(self.reloads.begin(&self.fleet, &mut arrivals, &self.plan, None)),
                    Ok(SIGUSR1) => {
                        info!("SIGUSR1: log files are opened anew");
                        self.journal.reopen();
                    }
                    Ok(SIGUSR2) => self.begin_upgrade(None, Asker::nobody()),
                    // A terminal with `stty tostop` sends it for a mere line of the log.
                    Ok(SIGTTOU) if !io::stdin().is_terminal() => one_worker_less(&self.fleet),
                    Ok(other) => warn!("{} has no meaning yet", signal_name(other).unwrap_or("that signal")),
                },
                recv(trial.parcels()) -> said => {
                    let ended = || "it could not be tried out".to_owned();
                    self.go_on_upgrading(trial.opened(said).unwrap_or_else(|_| Err(ended())));
                }
                recv(self.fleet.events().parcels()) -> event => match self.fleet.events().opened(event) {
                    Ok(FleetEvent::Ready { app, took }) => {
                        debug!("app {app} has its first ready worker after {} ms", took.as_millis());
                        if let Some(arrival) = index_of(&app).and_then(|index| arrivals.get_mut(index)) {
                            *arrival = Arrival::Ready(took);
                        }
                    }
                    Ok(FleetEvent::Errored { app, .. }) => {
                        // One failing worker among serving ones does not make the app fail.
                        if let Some(arrival @ Arrival::Coming) = index_of(&app).and_then(|index| arrivals.get_mut(index)) {
                            *arrival = Arrival::Failing;
                        }
                    }
                    Ok(FleetEvent::AllReady) => {}
                    Ok(FleetEvent::Reloaded) => self.reloads.notify.ready(),
                    Ok(FleetEvent::Stopped) | Err(_) => return address_file,
                },
                recv(self.reloads.renewals.alarm()) -> _ => {
                    for app in self.reloads.renewals.due() {
                        info!("{app}: its workers are renewed, as cron_restart says");
                        drop(self.fleet.renew(app));
                    }
                },
                recv(changes.parcels()) -> changed => match changes.opened(changed) {
                    Ok(Changed { app, path }) => {
                        info!("{app}: {} has changed", path.display());
                        drop(self.reloads.begin(&self.fleet, &mut arrivals, &self.plan, Some(app)));
                    }
                    Err(_) => self.reloads.renewals.unwatch(),
                },
                recv(seconds) -> _ => log::logger().flush(),
                recv(self.reloads.notify.tick()) -> _ => self.reloads.notify.pulse(),
                recv(starting.clock()) -> _ => starting.tell(&self.fleet.snapshot()),
                recv(patience) -> _ => {
                    if !shown {
                        shown = true;
                        show(&self.plan, &self.server, &arrivals);
                    }
                },
            }
        }
    }
}

/// The last ready worker of each app leaves, unless it is the only one.
fn one_worker_less(fleet: &Fleet) {
    let workers = fleet.snapshot();
    let ready = |w: &&WorkerStatus| w.member && w.condition == Condition::Ready;
    let mut leavers: Vec<&WorkerStatus> = Vec::new();
    for app in workers.chunk_by(|a, b| a.app == b.app) {
        if app.iter().filter(ready).count() > 1 {
            leavers.extend(app.iter().rfind(|worker| ready(worker)));
        }
    }
    if leavers.is_empty() {
        warn!("SIGTTOU: no app has a worker to spare");
    }
    for worker in leavers {
        fleet.drain(worker.slot);
    }
}

fn tell_addresses(plan: &Plan, server: &Server) -> Option<Trace> {
    let path = plan.address_file.as_ref()?;
    let text = server
        .addresses()
        .iter()
        .map(|address| format!("{address}\n"))
        .collect();
    // We are serving already; a file that nobody can read is no reason to stop.
    leave(path, text, "--address-file")
        .inspect_err(|why| error!("{why}"))
        .ok()
}

fn show(plan: &Plan, server: &Server, arrivals: &[Arrival]) {
    let rows: Vec<Row> = plan
        .apps
        .iter()
        .zip(arrivals)
        .map(|(app, arrival)| Row {
            name: app.name.clone(),
            route: shown_routes(&app.routes),
            workers: shown_workers(app),
            command: shown_command(&app.launch),
            arrival: *arrival,
        })
        .collect();
    let banner = Banner {
        addresses: server.addresses(),
        rows: &rows,
        left_out: &plan.left_out,
    };
    let colours = io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // Nobody may be reading any more, which must not stop the service.
    let _ = io::stdout().write_all(banner::compose(&banner, colours).as_bytes());
}
