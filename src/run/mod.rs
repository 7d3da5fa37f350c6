//! `sidekeeper run`: the order in which everything starts. From then on the conductor leads (`conductor`), on a
//! thread of its own, until it has everything stop (`stopping`). The main thread is the supervisor: workers
//! end with the thread that started them, and an exec ends all others (see `takeover`).
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
mod conductor;
mod notify;
mod privileges;
mod reloads;
mod renewals;
mod signals;
mod starting;
mod stopping;
pub mod takeover;
mod traces;
mod upgrade;
pub mod voice;
mod watching;

use crate::admin;
use crate::config::plan::Plan;
use crate::fleet;
use crate::fleet::scale::{Bounds, CountSessions};
use crate::journal::Journal;
use bound::Bound;
use conductor::Conductor;
use front::channel::bounded;
use front::route::Tables;
use log::warn;
use notify::Notify;
use reloads::Reloads;
use renewals::Renewals;
use signals::Heard;
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use takeover::{Found, Left};
use traces::Trace;
use voice::Spoken;

/// A token that can be guessed is none.
const TOKEN_BYTES_MIN: usize = 16;
/// Orders that wait for the conductor.
const ORDERS_MAX: usize = 4;
/// Runs until it is told to stop. `found`: what an earlier binary has left, with which this one goes
/// on. The error is one line for the user.
pub fn run(
    plan: Plan,
    read_anew: reloads::ReadAnew,
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
            kill_timeout_max: reloads::longest_kill_timeout(&plan),
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

fn leave(path: &Path, text: String, option: &str) -> Result<Trace, String> {
    Trace::leave(path, text).map_err(|error| {
        format!(
            "cannot write {}: {error}; choose another {option}",
            path.display()
        )
    })
}
