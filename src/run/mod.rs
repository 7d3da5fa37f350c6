//! `sidekeeper run`: the order in which everything starts, what the main thread does meanwhile,
//! and the order in which everything stops. The main thread waits for signals and for news of the
//! fleet, and never for a client or a worker.
//!
//! ```text
//! signals -> pid file -> bind -> no root any more -> fleet -> serve -> [every app ready: address file, banner]
//! stop: no new connections -> finish what is in flight -> workers' ladder -> close what is left
//! ```
//! Addresses are bound before workers start, so that a port in use is told at once; workers are
//! stopped after the last answer, so that nobody who was let in is turned away.

mod access;
mod banner;
mod notify;
mod privileges;
mod renewals;
mod starting;
mod traces;
pub mod voice;
mod watching;

use crate::admin::{self, Order};
use crate::config::plan::Plan;
use crate::config::{shown_command, shown_routes, shown_workers};
use crate::fleet::scale::{Bounds, CountSessions};
use crate::fleet::spec::AppSpec;
use crate::fleet::status::{Condition, WorkerStatus};
use crate::fleet::{self, Fleet, FleetEvent, Progress};
use crate::journal::Journal;
use crate::roster::Board;
use crate::route::Tables;
use crate::server::Server;
use banner::{Arrival, Banner, Row};
use crossbeam_channel::{Receiver, bounded, select};
use log::{debug, error, info, warn};
use notify::Notify;
use renewals::Renewals;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGTTOU, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;
use starting::Starting;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use traces::Trace;
use voice::Spoken;
use watching::Changed;

/// A token that can be guessed is none.
const TOKEN_BYTES_MIN: usize = 16;
/// After this the screen is shown even if an app is still coming up.
const BANNER_PATIENCE: Duration = Duration::from_secs(10);
/// Orders that wait for the main thread.
const ORDERS_MAX: usize = 4;
/// How often a waiting stop looks whether it is to hurry.
const GLANCE: Duration = Duration::from_millis(20);
/// What the workers' ladder may take beyond the longest `kill_timeout`: two rungs and the reaping.
const LADDER_SLACK: Duration = Duration::from_secs(15);
/// What the last lines of log files may take to be written.
const FLUSH: Duration = Duration::from_secs(2);
/// Signals that wait for the main thread. More than these say nothing new.
const SIGNALS_MAX: usize = 64;

/// Reads the configuration again, as it was read for the plan that runs.
pub type ReadAnew<'a> = &'a dyn Fn() -> Result<Plan, String>;

/// Runs until it is told to stop. The error is one line for the user.
pub fn run(plan: Plan, read_anew: ReadAnew<'_>, log: &mut Spoken) -> Result<(), String> {
    let no_signals = |error| format!("cannot catch signals: {error}");
    let signals = catch_signals().map_err(no_signals)?;
    let _pid_file = match &plan.pid_file {
        Some(path) => Some(leave(
            path,
            format!("{}\n", std::process::id()),
            "--pid-file",
        )?),
        None => None,
    };
    if let Some(path) = &plan.address_file {
        // Whoever waits for this file must not find the one of a run that was killed.
        let _ = std::fs::remove_file(path);
        // It is written last of all: that it cannot be written must be told first.
        if !path.parent().is_some_and(Path::is_dir) {
            return Err(format!(
                "cannot write {}: its folder is not there; choose another --address-file",
                path.display()
            ));
        }
    }
    let board = Arc::new(Board::default());
    let mut server =
        Server::bind(plan.server.clone(), board.clone()).map_err(|error| error.to_string())?;
    let dashboard = plan.dashboard.as_deref().map(bind_dashboard).transpose()?;
    let dashboard_token = plan
        .dashboard_token_file
        .as_deref()
        .map(read_token)
        .transpose()?;
    if let Some(rights) = &plan.rights {
        privileges::give_up(rights, &plan.run_dir)?;
    }
    log.begin().map_err(no_threads)?;
    let signals = forward_signals(signals).map_err(no_signals)?;
    let journal = Journal::start(plan.rotation.clone()).map_err(no_threads)?;
    let bounds = Bounds {
        workers_max: plan.workers_max,
        memory_reserve: plan.memory_reserve,
        count_sessions: count_sessions(server.tables()),
    };
    let access = match &plan.access_log {
        Some(wanted) => Some(access::open(wanted, &journal)?),
        None => None,
    };
    let settings = fleet::Settings {
        front: server.front().clone(),
        alarm_limits: plan.alarm_limits,
        alarm_command: plan.alarm_command.clone(),
        ..fleet::Settings::new(plan.run_dir.clone(), journal.clone(), bounds)
    };
    let fleet = fleet::start(plan.apps.clone(), settings, board.clone())
        .map_err(|error| error.to_string())?;
    let fleet = Arc::new(fleet);
    let (orders_in, orders) = bounded(ORDERS_MAX);
    let stopping = Arc::new(AtomicBool::new(false));
    let admin = admin::start(admin::Instance {
        fleet: fleet.clone(),
        board,
        tables: server.tables().clone(),
        front: server.front().clone(),
        journal: journal.clone(),
        addresses: server.addresses().to_vec(),
        run_dir: plan.run_dir.clone(),
        began: Instant::now(),
        orders: orders_in,
        stopping: stopping.clone(),
        dashboard,
        dashboard_token,
    })
    .map_err(|error| error.to_string())?;
    let log = access.as_ref().map(|access| access.log.clone());
    server.start(log).map_err(no_threads)?;

    let asked = Asked { signals, orders };
    let mut reloads = Reloads {
        notify: Notify::new(|name| std::env::var_os(name), std::process::id()),
        read_anew,
        kill_timeout_max: longest_kill_timeout(&plan),
        renewals: Renewals::default(),
    };
    reloads.renewals.follow(&plan.apps, None);
    let address_file = serve(&plan, &server, &fleet, &journal, &asked, &mut reloads);
    stopping.store(true, Relaxed);
    stop(&plan, server, &fleet, &asked, &reloads);
    let flushed = access.is_none_or(|access| access.flush(FLUSH));
    if !journal.flush(FLUSH) || !flushed {
        warn!("stopping: the last lines of log files could not be written in time");
    }
    drop(admin);
    drop(address_file);
    Ok(())
}

fn no_threads(error: io::Error) -> String {
    format!("cannot start threads: {error}; look at the limits of processes")
}

/// The first line of the file of `--dashboard-token-file`.
fn read_token(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!(
            "cannot read {}: {error}; --dashboard-token-file names a file with a token",
            path.display()
        )
    })?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "{}: the first line must be a token of at least {TOKEN_BYTES_MIN} letters, digits and signs; \
             make one with: openssl rand -hex 16",
            path.display()
        ));
    }
    Ok(token.to_owned())
}

/// The fleet knows nothing of sessions; who is spared depends on them.
fn count_sessions(tables: &Arc<Tables>) -> CountSessions {
    let tables = Arc::clone(tables);
    CountSessions(Arc::new(move || {
        let mut counts = HashMap::new();
        for (home, count) in tables
            .engine
            .count()
            .into_iter()
            .chain(tables.cookies.count())
        {
            *counts.entry((home.slot, home.life)).or_default() += count;
        }
        counts
    }))
}

fn bind_dashboard(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| {
        format!("cannot listen on {address}: {error}; choose another one with --dashboard")
    })
}

/// What may ask the main thread for something.
struct Asked {
    signals: Receiver<i32>,
    /// From the control socket.
    orders: Receiver<Order>,
}

/// Everything between start and stop. Returns when a stop was asked for, with what it has written.
fn serve(
    plan: &Plan,
    server: &Server,
    fleet: &Fleet,
    journal: &Journal,
    asked: &Asked,
    reloads: &mut Reloads<'_>,
) -> Option<Trace> {
    let at_first = |app: &AppSpec| match app.workers {
        0 => Arrival::Asleep,
        _ => Arrival::Coming,
    };
    let mut arrivals: Vec<Arrival> = plan.apps.iter().map(at_first).collect();
    let index_of = |app: &str| plan.apps.iter().position(|spec| spec.name == app);
    let patience = crossbeam_channel::after(BANNER_PATIENCE);
    let seconds = crossbeam_channel::tick(Duration::from_secs(1));
    let mut address_file = None;
    let (mut shown, mut told) = (false, false);
    let mut starting = Starting::new();
    loop {
        let settled = !arrivals.contains(&Arrival::Coming);
        if settled {
            starting.end();
        }
        if settled && !told {
            told = true;
            address_file = tell_addresses(plan, server);
            reloads.notify.ready();
        }
        if settled && !shown {
            shown = true;
            show(plan, server, &arrivals);
        }
        select! {
            recv(asked.orders) -> order => match order {
                Ok(Order::Stop) | Err(_) => return address_file,
                Ok(Order::Reload { only, answer }) => {
                    let begun = reloads.begin(fleet, &mut arrivals, plan, only);
                    // Whoever asked may have left; the reload goes on.
                    let _ = answer.send(begun);
                }
            },
            recv(asked.signals) -> signal => match signal {
                Ok(SIGCHLD) => fleet.child_signal(),
                Ok(SIGTERM | SIGINT) | Err(_) => return address_file,
                // A terminal that went away has nobody left to press Ctrl-C.
                Ok(SIGHUP) if io::stdin().is_terminal() => return address_file,
                // The log says what comes of it.
                Ok(SIGHUP) => drop(reloads.begin(fleet, &mut arrivals, plan, None)),
                Ok(SIGUSR1) => {
                    info!("SIGUSR1: log files are opened anew");
                    journal.reopen();
                }
                // A terminal with `stty tostop` sends it for a mere line of the log.
                Ok(SIGTTOU) if !io::stdin().is_terminal() => one_worker_less(fleet),
                Ok(other) => warn!("{} has no meaning yet", signal_name(other).unwrap_or("that signal")),
            },
            recv(fleet.events()) -> event => match event {
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
                Ok(FleetEvent::Reloaded) => reloads.notify.ready(),
                Ok(FleetEvent::Stopped) | Err(_) => return address_file,
            },
            recv(reloads.renewals.alarm()) -> _ => {
                for app in reloads.renewals.due() {
                    info!("{app}: its workers are renewed, as cron_restart says");
                    drop(fleet.renew(app));
                }
            },
            recv(reloads.renewals.changed()) -> changed => match changed {
                Ok(Changed { app, path }) => {
                    info!("{app}: {} has changed", path.display());
                    drop(reloads.begin(fleet, &mut arrivals, plan, Some(app)));
                }
                Err(_) => reloads.renewals.unwatch(),
            },
            recv(seconds) -> _ => log::logger().flush(),
            recv(reloads.notify.tick()) -> _ => reloads.notify.pulse(),
            recv(starting.clock()) -> _ => starting.tell(&fleet.snapshot()),
            recv(patience) -> _ => {
                if !shown {
                    shown = true;
                    show(plan, server, &arrivals);
                }
            },
        }
    }
}

/// What a reload needs, and what is remembered over all of them.
struct Reloads<'a> {
    notify: Notify,
    read_anew: ReadAnew<'a>,
    /// The longest one of all apps that ever ran.
    kill_timeout_max: Duration,
    renewals: Renewals,
}

impl Reloads<'_> {
    /// Reads the configuration, and has the fleet follow it. What cannot be read changes nothing.
    fn begin(
        &mut self,
        fleet: &Fleet,
        arrivals: &mut [Arrival],
        first: &Plan,
        only: Option<String>,
    ) -> Result<Receiver<Progress>, String> {
        self.notify.reloading();
        let next = (self.read_anew)().inspect_err(|why| {
            error!("reload: refused, everything stays as it is: {why}");
            self.notify.ready();
        })?;
        if let Some(name) = only.as_deref()
            && !next.apps.iter().any(|app| app.name == name)
            && !fleet.snapshot().iter().any(|worker| *worker.app == *name)
        {
            self.notify.ready();
            return Err(format!("the configuration has no app `{name}`"));
        }
        for warning in &next.warnings {
            warn!("{warning}");
        }
        for left in &next.left_out {
            warn!("left out {}: {}", left.name, left.reason);
        }
        // Who waits for the addresses does not wait for an app that is no more.
        for (app, arrival) in first.apps.iter().zip(arrivals) {
            let stays = next.apps.iter().any(|other| other.name == app.name);
            if !stays && *arrival == Arrival::Coming {
                *arrival = Arrival::Failing;
            }
        }
        self.kill_timeout_max = self.kill_timeout_max.max(longest_kill_timeout(&next));
        self.renewals.follow(&next.apps, only.as_deref());
        Ok(fleet.reload(next.apps, only))
    }
}

fn longest_kill_timeout(plan: &Plan) -> Duration {
    let timeouts = plan.apps.iter().map(|app| app.kill_timeout);
    timeouts.max().unwrap_or_default()
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

fn stop(plan: &Plan, mut server: Server, fleet: &Fleet, asked: &Asked, reloads: &Reloads<'_>) {
    reloads.notify.stopping();
    // True if another stop signal has come. Children are reaped all the while.
    let hurried = || {
        reloads.notify.pulse();
        let is_stop = |order: &Order| matches!(order, Order::Stop);
        let mut hurried = asked.orders.try_iter().filter(is_stop).count() > 0;
        for signal in asked.signals.try_iter() {
            match signal {
                SIGCHLD => fleet.child_signal(),
                SIGTERM | SIGINT => hurried = true,
                _ => {}
            }
        }
        hurried
    };
    server.begin_drain();
    let patience = plan.shutdown_timeout;
    info!(
        "stopping: no new connections; {} unfinished, given {} s (a second signal hurries)",
        server.unfinished(),
        patience.as_secs_f64()
    );
    let told_again = Cell::new(false);
    let drained = server.wait_drained(patience, &|| {
        told_again.set(told_again.get() || hurried());
        told_again.get()
    });
    match drained {
        true => info!("stopping: nothing is in flight any more; the workers are next"),
        false => warn!(
            "stopping: {} unfinished are not waited for; the workers are next",
            server.unfinished()
        ),
    }
    fleet.stop();
    if told_again.get() {
        fleet.hurry();
    }
    let end = Instant::now() + reloads.kill_timeout_max + LADDER_SLACK;
    while !fleet.wait_stopped(Instant::now() + GLANCE) {
        if hurried() {
            warn!("stopping: told again; the workers' next step is taken now");
            fleet.hurry();
        }
        if Instant::now() >= end {
            error!(
                "stopping: workers are left that SIGKILL did not end; the guard goes on killing them"
            );
            break;
        }
    }
    server.close();
    info!("stopped");
}

fn catch_signals() -> io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGCHLD, SIGHUP, SIGTTOU, SIGUSR1, SIGUSR2])
}

/// A thread turns signals into messages, so that the main thread can wait for both.
fn forward_signals(mut signals: Signals) -> io::Result<Receiver<i32>> {
    let (sender, receiver) = bounded(SIGNALS_MAX);
    let forward = move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(forward)?;
    Ok(receiver)
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

fn leave(path: &Path, text: String, option: &str) -> Result<Trace, String> {
    Trace::leave(path, text).map_err(|error| {
        format!(
            "cannot write {}: {error}; choose another {option}",
            path.display()
        )
    })
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
