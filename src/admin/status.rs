//! `sidekeeper status`: the apps and workers at one moment, as values with stable names. How they
//! look on a terminal is the client's affair (`console`).

use crate::admin::Shared;
use crate::admin::alarms::{self, AlarmLine};
use crate::admin::ask::{Answer, Ask, Refusal, Reply};
use crate::admin::humane::{age_s, unix_s};
use crate::admin::{names, sessions};
use crate::fleet::status::{Condition, Death, WorkerStatus};
use front::as_json;
use front::route::Home;
use front::sys::process::Pid;
use front::sys::procfs;
use std::sync::atomic::Ordering::Relaxed;

/// A whole instance. Names of fields stay; new ones may come.
#[derive(Clone, Debug)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub uptime_s: u64,
    pub run_dir: String,
    pub addresses: Vec<String>,
    /// Where the dashboard and the metrics are; null if they were not asked for.
    pub dashboard: Option<String>,
    pub stopping: bool,
    /// Client connections open now.
    pub connections: u32,
    /// WebSockets open now that we relay.
    pub tunnels: u32,
    /// Connections ever accepted, connections refused at a limit, requests ever read.
    pub accepted: u64,
    pub refused: u64,
    pub requests: u64,
    /// Lines of log files that found no room, ever.
    pub log_lines_dropped: u64,
    /// Log files that cannot be written now, and whether that is for want of room on the disk.
    pub log_files_failing: u32,
    pub log_disk_full: bool,
    /// Those that are raised now, the oldest first.
    pub alarms: Vec<AlarmLine>,
    pub apps: Vec<AppStatus>,
    pub workers: Vec<WorkerLine>,
}

as_json!(struct Status {
    version, pid, uptime_s, run_dir, addresses, dashboard, stopping, connections, tunnels, accepted,
    refused, requests, log_lines_dropped or default, log_files_failing or default,
    log_disk_full or default, alarms or default, apps, workers
});

#[derive(Clone, Debug)]
pub struct AppStatus {
    pub app: String,
    pub workers: usize,
    pub ready: usize,
    /// Over the last ten seconds. Times are from a request's head to the head of its answer, without
    /// long polls; null if there were no answers.
    pub requests_per_s: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Answers of the app with a status of 5xx.
    pub errors_per_s: f64,
    pub restarts: u32,
    /// Between which numbers scaling keeps its workers; the same: their number is fixed.
    pub workers_min: u32,
    pub workers_max: u32,
    /// Fixed by `sidekeeper scale`.
    pub by_hand: bool,
    /// When their number was changed last, and why; null if it was not.
    pub scaled: Option<ScaledLine>,
    /// Why there are not more, although more are wanted; null if not.
    pub held: Option<String>,
}

as_json!(struct AppStatus {
    app, workers, ready, requests_per_s, p50_ms, p99_ms, errors_per_s, restarts,
    workers_min or default, workers_max or default, by_hand or default, scaled, held
});

#[derive(Clone, Debug)]
pub struct ScaledLine {
    pub ago_s: u64,
    pub at_unix_s: u64,
    pub text: String,
}

as_json!(struct ScaledLine { ago_s, at_unix_s, text });

#[derive(Clone, Debug)]
pub struct WorkerLine {
    pub app: String,
    /// `chat.0`.
    pub worker: String,
    pub instance: u32,
    pub pid: Option<u32>,
    pub state: String,
    /// Seconds in this state.
    pub state_s: u64,
    pub restarts: u32,
    /// Of one core, in the last second; null if nobody has looked at the process yet.
    pub cpu_percent: Option<f64>,
    /// Resident, with the processes that it has started.
    pub memory_bytes: Option<u64>,
    pub threads: Option<u64>,
    /// Open ones, and how many there may be, of the largest process; null if they cannot be read.
    pub descriptors: Option<u64>,
    pub descriptors_max: Option<u64>,
    /// The worst delay of the event loop in the last second; null without the hook.
    pub loop_lag_ms: Option<f64>,
    pub in_flight: u32,
    pub sessions: usize,
    /// WebSockets: relayed and handed off.
    pub sockets: u32,
    pub tunnels: u32,
    pub handed_off: u32,
    /// Of connections that were handed over, in this life: the worker counts them.
    pub handed_off_bytes_in: u64,
    pub handed_off_bytes_out: u64,
    pub requests_per_s: f64,
    /// As for an app.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub finished: u64,
    /// Exchanges that the worker broke.
    pub broken: u64,
    /// Messages of its siblings that were passed on to it.
    pub relayed: u64,
    /// Messages of its siblings that it lost because it did not read.
    pub lost: u64,
    /// Lines that it printed and that found no room on their way.
    pub log_lines_dropped: u64,
    pub last_death: Option<DeathLine>,
}

as_json!(struct WorkerLine {
    app, worker, instance, pid, state, state_s, restarts, cpu_percent, memory_bytes, threads,
    descriptors, descriptors_max, loop_lag_ms, in_flight, sessions, sockets, tunnels, handed_off,
    handed_off_bytes_in, handed_off_bytes_out, requests_per_s, p50_ms, p99_ms, finished, broken,
    relayed, lost, log_lines_dropped or default, last_death
});

#[derive(Clone, Debug)]
pub struct DeathLine {
    pub ago_s: u64,
    pub at_unix_s: u64,
    pub life: u32,
    pub pid: Option<u32>,
    pub reason: String,
    /// The file that says what it was doing, if it hung.
    pub autopsy: Option<String>,
}

as_json!(struct DeathLine { ago_s, at_unix_s, life, pid, reason, autopsy });

impl DeathLine {
    pub fn of(death: &Death) -> DeathLine {
        DeathLine {
            ago_s: age_s(death.at),
            at_unix_s: unix_s(death.at),
            life: death.life,
            pid: death.pid,
            reason: death.reason.clone(),
            autopsy: death
                .autopsy
                .as_ref()
                .map(|path| path.display().to_string()),
        }
    }
}

pub fn act(shared: &Shared, _: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    reply.line(&take(shared))?;
    Ok(Answer::Done)
}

/// The instance at this moment.
pub fn take(shared: &Shared) -> Status {
    let instance = &shared.instance;
    let statuses = instance.fleet.snapshot();
    let scales = instance.fleet.scales();
    let roster = instance.board.latest();
    let figures = shared.instance.fleet.figures();
    let counts = sessions::counts(shared);
    let health = instance.journal.health();
    let workers: Vec<WorkerLine> = statuses
        .iter()
        .map(|status| {
            let gauges = roster
                .find(status.slot)
                .map(|(_, worker)| worker.gauges.clone());
            let gauges = gauges.unwrap_or_default();
            let sample = figures
                .workers
                .get(&status.slot)
                .copied()
                .unwrap_or_default();
            let current = sample.pid.is_some() && sample.pid == status.pid;
            let memory_bytes = match current {
                true => Some(sample.resident_bytes),
                false => status
                    .pid
                    .and_then(Pid::new)
                    .and_then(procfs::family_usage)
                    .map(|usage| usage.resident_bytes),
            };
            let home = Home {
                slot: status.slot,
                life: status.life,
            };
            let (tunnels, handed_off) = (
                gauges.tunnels.load(Relaxed),
                gauges.handed_off.load(Relaxed),
            );
            WorkerLine {
                app: status.app.to_string(),
                worker: names::worker(status),
                instance: status.instance,
                pid: status.pid,
                state: status.condition.word().to_owned(),
                state_s: age_s(status.since),
                restarts: status.restarts,
                cpu_percent: current.then(|| rounded(sample.cpu_percent)),
                memory_bytes,
                threads: current.then_some(sample.threads),
                descriptors: sample.descriptors.filter(|_| current),
                descriptors_max: sample.descriptors_max.filter(|_| current),
                loop_lag_ms: status.stats.map(|stats| rounded(stats.lag_ms)),
                in_flight: gauges.in_flight.load(Relaxed),
                sessions: counts.get(&home).copied().unwrap_or(0),
                sockets: tunnels.saturating_add(handed_off),
                tunnels,
                handed_off,
                handed_off_bytes_in: status.stats.map_or(0, |stats| stats.bytes_in),
                handed_off_bytes_out: status.stats.map_or(0, |stats| stats.bytes_out),
                requests_per_s: rounded(sample.requests_per_s),
                p50_ms: sample.p50_ms.map(fine),
                p99_ms: sample.p99_ms.map(fine),
                finished: gauges.finished.load(Relaxed),
                broken: gauges.broken.load(Relaxed),
                relayed: gauges.relayed.load(Relaxed),
                lost: gauges.lost.load(Relaxed),
                log_lines_dropped: gauges.lines_dropped.load(Relaxed),
                last_death: status.deaths.last().map(DeathLine::of),
            }
        })
        .collect();
    let apps = roster.apps.iter().map(|app| {
        let of_app = || statuses.iter().filter(|status| status.app == app.name);
        let ready = |status: &&WorkerStatus| status.condition == Condition::Ready;
        let scale = scales.iter().find(|scale| scale.app == app.name);
        let point = figures.apps.get(&*app.name).copied().unwrap_or_default();
        AppStatus {
            app: app.name.to_string(),
            workers: of_app().count(),
            ready: of_app().filter(ready).count(),
            requests_per_s: rounded(point.requests_per_s),
            p50_ms: point.p50_ms.map(fine),
            p99_ms: point.p99_ms.map(fine),
            errors_per_s: rounded(point.errors_per_s),
            restarts: of_app().map(|status| status.restarts).sum(),
            workers_min: scale.map_or(0, |scale| scale.min),
            workers_max: scale.map_or(0, |scale| scale.max),
            by_hand: scale.is_some_and(|scale| scale.by_hand),
            scaled: scale
                .and_then(|scale| scale.last.as_ref())
                .map(|change| ScaledLine {
                    ago_s: age_s(change.at),
                    at_unix_s: unix_s(change.at),
                    text: change.text.clone(),
                }),
            held: scale.and_then(|scale| scale.held.clone()),
        }
    });
    let alarms = alarms::lines(&instance.fleet).into_iter();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: instance.began.elapsed().as_secs(),
        run_dir: instance.run_dir.display().to_string(),
        addresses: instance.addresses.clone(),
        dashboard: shared.dashboard.clone(),
        stopping: instance.stopping.load(Relaxed),
        connections: instance.front.connections.load(Relaxed),
        tunnels: instance.front.tunnels.load(Relaxed),
        accepted: instance.front.accepted.load(Relaxed),
        refused: instance.front.refused.load(Relaxed),
        requests: instance.front.requests.load(Relaxed),
        log_lines_dropped: health.dropped.load(Relaxed),
        log_files_failing: health.failing.load(Relaxed),
        log_disk_full: health.disk_full.load(Relaxed) > 0,
        alarms: alarms.filter(|alarm| alarm.raised).collect(),
        apps: apps.collect(),
        workers,
    }
}

/// To a tenth: more digits would only be noise.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// To a hundredth, for times in milliseconds.
fn fine(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
pub mod tests_support {
    use super::*;
    use front::json::FromJson;

    /// An instance with one app, `a`, and these workers: name and CPU.
    pub fn a_status(workers: &[(&str, f64)]) -> Status {
        let worker = |(name, cpu): &(&str, f64)| {
            serde_json::json!({
                "app": "a", "worker": name, "instance": 0, "pid": 7, "state": "ready", "state_s": 3,
                "restarts": 0, "cpu_percent": cpu, "memory_bytes": 1 << 20, "threads": 1,
                "descriptors": 5, "descriptors_max": 9, "loop_lag_ms": null, "in_flight": 0,
                "sessions": 0, "sockets": 0, "tunnels": 0, "handed_off": 0,
                "handed_off_bytes_in": 0, "handed_off_bytes_out": 0, "requests_per_s": 0.0,
                "p50_ms": null, "p99_ms": null, "finished": 0, "broken": 0, "relayed": 0, "lost": 0,
                "last_death": null
            })
        };
        let workers: Vec<_> = workers.iter().map(worker).collect();
        let app = serde_json::json!({
            "app": "a", "workers": workers.len(), "ready": workers.len(), "requests_per_s": 0.0,
            "p50_ms": null, "p99_ms": null, "errors_per_s": 0.0, "restarts": 0
        });
        let status = serde_json::json!({
            "version": "1", "pid": 1, "uptime_s": 1, "run_dir": "/r", "addresses": ["a"],
            "dashboard": null, "stopping": false, "connections": 0, "tunnels": 0, "accepted": 0,
            "refused": 0, "requests": 0, "apps": [app], "workers": workers
        });
        Status::from_json(&status).expect("a status")
    }
}
