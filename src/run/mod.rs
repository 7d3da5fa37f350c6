//! `sidekeeper run`: the order in which everything starts, what the conductor does meanwhile, and the
//! order in which everything stops. The conductor waits for signals and for news of the fleet, and never
//! for a client or a worker. The main thread is the supervisor: workers end with the thread that started
//! them, and an exec ends all others (see `takeover`).
//!
//! ```text
//! signals -> pid file -> bind -> no root any more -> fleet -> serve -> [every app ready: address file, banner]
//! stop: no new connections -> finish what is in flight -> workers' ladder -> close what is left
//! ```
//! Addresses are bound before workers start, so that a port in use is told at once; workers are
//! stopped after the last answer, so that nobody who was let in is turned away.

mod access;
mod banner;
mod bound;
mod notify;
mod privileges;
mod renewals;
mod signals;
mod starting;
pub mod takeover;
mod traces;
mod upgrade;
pub mod voice;
mod watching;

use crate::admin::{self, Admin, Asker, Order};
use crate::config::plan::Plan;
use crate::config::{shown_command, shown_routes, shown_workers};
use crate::fleet::scale::{Bounds, CountSessions};
use crate::fleet::spec::AppSpec;
use crate::fleet::status::{Condition, WorkerStatus};
use crate::fleet::{self, Fleet, FleetEvent, Progress};
use crate::journal::Journal;
use banner::{Arrival, Banner, Row};
use bound::Bound;
use front::channel::{Receiver, bounded, select};
use front::roster::Board;
use front::route::Tables;
use front::server::Server;
use log::{debug, error, info, warn};
use notify::Notify;
use renewals::Renewals;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGTTOU, SIGUSR1, SIGUSR2};
use signal_hook::low_level::signal_name;
use signals::Heard;
use starting::Starting;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use takeover::{Found, Left};
use traces::Trace;
use upgrade::Upgrade;
use voice::{Spoken, Written};
use watching::Changed;

/// A token that can be guessed is none.
const TOKEN_BYTES_MIN: usize = 16;
/// After this the screen is shown even if an app is still coming up.
const BANNER_PATIENCE: Duration = Duration::from_secs(10);
/// Orders that wait for the conductor.
const ORDERS_MAX: usize = 4;
/// How often a waiting stop looks whether it is to hurry.
const GLANCE: Duration = Duration::from_millis(20);
/// What the workers' ladder may take beyond the longest `kill_timeout`: two rungs and the reaping.
const LADDER_SLACK: Duration = Duration::from_secs(15);
/// What the last lines of log files may take to be written.
const FLUSH: Duration = Duration::from_secs(2);

/// Reads the configuration again, as it was read for the plan that runs.
pub type ReadAnew = Box<dyn Fn() -> Result<Plan, String> + Send>;

/// Runs until it is told to stop. `found`: what an earlier binary has left, with which this one goes
/// on. The error is one line for the user.
pub fn run(
    plan: Plan,
    read_anew: ReadAnew,
    log: &mut Spoken,
    found: Option<(&Found, Left)>,
) -> Result<(), String> {
    let no_signals = |error| format!("cannot catch signals: {error}");
    let mut signals = Heard::catch().map_err(no_signals)?;
    let goes_on = found.is_some();
    let pid = format!("{}\n", std::process::id());
    let _pid_file = match &plan.pid_file {
        Some(path) => or_goes_on(leave(path, pid, "--pid-file"), goes_on)?,
        None => None,
    };
    if let Some(path) = &plan.address_file {
        if found.is_none() {
            // Whoever waits for this file must not find the one of a run that was killed.
            let _ = std::fs::remove_file(path);
        }
        // It is written last of all: that it cannot be written must be told first.
        if !goes_on && !path.parent().is_some_and(Path::is_dir) {
            return Err(format!(
                "cannot write {}: its folder is not there; choose another --address-file",
                path.display()
            ));
        }
    }
    let Bound {
        board,
        mut server,
        control,
        dashboard,
        began,
        program,
        arrived,
    } = match found {
        None => Bound::anew(&plan)?,
        Some((found, left)) => Bound::take_over(&plan, found, left)?,
    };
    let dashboard_token = match &plan.dashboard_token_file {
        Some(path) => or_goes_on(read_token(path), goes_on)?,
        None => None,
    };
    if let Some(rights) = &plan.rights {
        privileges::give_up(rights, &plan.run_dir)?;
    }
    log.begin().map_err(no_threads)?;
    signals.go_on().map_err(no_signals)?;
    let journal = Journal::start(plan.rotation.clone()).map_err(no_threads)?;
    let bounds = Bounds {
        workers_max: plan.workers_max,
        memory_reserve: plan.memory_reserve,
        count_sessions: count_sessions(server.tables()),
    };
    let access = match &plan.access_log {
        Some(wanted) => Some(access::open(wanted, &journal, goes_on)?),
        None => None,
    };
    let settings = fleet::Settings {
        front: server.front().clone(),
        alarm_limits: plan.alarm_limits,
        alarm_command: plan.alarm_command.clone(),
        ..fleet::Settings::new(plan.run_dir.clone(), journal.clone(), bounds)
    };
    let (arrived, fleet_left) = arrived.map_or((None, None), |(arrived, left)| {
        signals.hear_again(&arrived.signals);
        (Some(arrived), Some(left))
    });
    let started = match fleet_left {
        None => fleet::start(plan.apps.clone(), settings, board.clone()),
        Some(left) => fleet::take_over(left, settings, board.clone()),
    };
    let (fleet, supervisor) = started.map_err(|error| error.to_string())?;
    let fleet = Arc::new(fleet);
    let (orders_in, orders) = bounded(ORDERS_MAX);
    let stopping = Arc::new(AtomicBool::new(false));
    let admin = admin::start(admin::Instance {
        fleet: fleet.clone(),
        board: board.clone(),
        tables: server.tables().clone(),
        front: server.front().clone(),
        journal: journal.clone(),
        addresses: server.addresses().to_vec(),
        run_dir: plan.run_dir.clone(),
        began,
        orders: orders_in,
        stopping: stopping.clone(),
        control,
        dashboard,
        dashboard_token,
    })
    .map_err(|error| error.to_string())?;
    let access_log = access.as_ref().map(|access| access.log.clone());
    server.start(access_log).map_err(no_threads)?;
    let taken_over = arrived.is_some();
    if let Some(arrived) = arrived {
        arrived.tell();
    }
    let mut renewals = Renewals::default();
    renewals.follow(&plan.apps, None);
    let conductor = Conductor {
        reloads: Reloads {
            notify: Notify::new(|name| std::env::var_os(name), std::process::id()),
            read_anew,
            kill_timeout_max: longest_kill_timeout(&plan),
            renewals,
        },
        plan,
        board,
        server,
        fleet,
        journal,
        written: log.written(),
        access,
        admin,
        signals,
        orders,
        stopping,
        began,
        program,
        upgrade: None,
        taken_over,
    };
    let conducts = thread::Builder::new()
        .name("conductor".to_owned())
        .spawn(move || ends_all_if_it_panics(|| conductor.run()))
        .map_err(no_threads)?;
    // The workers end with the thread that has started them, so that is the one that is always there.
    ends_all_if_it_panics(|| supervisor.run());
    let _ = conducts.join();
    Ok(())
}

/// Neither of the two threads that lead can be done without: the other one would wait for ever.
fn ends_all_if_it_panics(lead: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(lead)).is_err() {
        std::process::abort();
    }
}

/// What leads the process, on a thread of its own: it hears signals and orders and has them obeyed.
struct Conductor {
    plan: Plan,
    board: Arc<Board>,
    server: Server,
    fleet: Arc<Fleet>,
    journal: Journal,
    /// Our own log.
    written: Written,
    access: Option<access::Access>,
    admin: Admin,
    signals: Heard,
    /// From the control socket.
    orders: Receiver<Order>,
    reloads: Reloads,
    stopping: Arc<AtomicBool>,
    began: Instant,
    /// Where our binary is found.
    program: PathBuf,
    upgrade: Option<Upgrade>,
    /// An earlier binary has shown everything already.
    taken_over: bool,
}

impl Conductor {
    fn run(mut self) {
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

/// At a start somebody is there to be told. Where an earlier binary has stopped there are workers and clients to
/// be kept, so that what is wrong is told in the log, and done without.
fn or_goes_on<T>(outcome: Result<T, String>, goes_on: bool) -> Result<Option<T>, String> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(why) if goes_on => {
            warn!("{why}");
            Ok(None)
        }
        Err(why) => Err(why),
    }
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

/// What may ask the conductor for something.
struct Asked {
    signals: Heard,
    /// From the control socket.
    orders: Receiver<Order>,
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

/// What a reload needs, and what is remembered over all of them.
struct Reloads {
    notify: Notify,
    read_anew: ReadAnew,
    /// The longest one of all apps that ever ran.
    kill_timeout_max: Duration,
    renewals: Renewals,
}

impl Reloads {
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
        for key in first.options.wait_for_a_start(&next.options) {
            warn!("reload: `{key}` has changed, and stays as it was until the next start");
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

fn stop(plan: &Plan, mut server: Server, fleet: &Fleet, asked: &Asked, reloads: &Reloads) {
    reloads.notify.stopping();
    // True if another stop signal has come. Children are reaped all the while.
    let hurried = || {
        reloads.notify.pulse();
        let is_stop = |order: &Order| matches!(order, Order::Stop);
        let mut hurried = asked.orders.try_iter().filter(is_stop).count() > 0;
        for signal in asked.signals.receiver().try_iter() {
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
