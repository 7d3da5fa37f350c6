//! `sidekeeper restart`: asks the fleet for new lives and tells how they come up, until all are
//! ready or one has failed. Runs on a thread of its own, which only looks.

use crate::admin::Shared;
use crate::admin::ask::{Answer, Ask, Refusal, Reply};
use crate::admin::names;
use crate::fleet::status::{Condition, WorkerStatus};
use front::as_json;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any ladder and start that is not misconfigured.
const TIME_MAX: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(20);

struct Line {
    text: String,
    worker: String,
    state: &'static str,
    pid: Option<u32>,
    seconds: f64,
}

as_json!(to struct Line { text, worker, state, pid, seconds });

pub fn act(shared: &Shared, ask: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let fleet = &shared.instance.fleet;
    let before = fleet.snapshot();
    let meant = match ask.operand() {
        Some(name) => names::workers(&before, name)?
            .into_iter()
            .cloned()
            .collect(),
        None => before,
    };
    begin(shared, meant, reply)
}

/// Asks for new lives of these workers, and tells how they come up.
pub fn begin(
    shared: &Shared,
    mut pending: Vec<WorkerStatus>,
    reply: &mut Reply,
) -> Result<Answer, Refusal> {
    let fleet = &shared.instance.fleet;
    for worker in &pending {
        fleet.restart(worker.slot);
    }
    let began = Instant::now();
    let mut failed = Vec::new();
    while !pending.is_empty() {
        if began.elapsed() >= TIME_MAX {
            return Err(Refusal::failed(format!(
                "{} not ready within {} s; see: sidekeeper status",
                list(&pending),
                TIME_MAX.as_secs()
            )));
        }
        if reply.gone() {
            // The workers are restarted all the same.
            return Ok(Answer::Elsewhere);
        }
        thread::sleep(LOOK);
        let now = fleet.snapshot();
        let mut left = Vec::new();
        for old in pending {
            let Some(new) = now.iter().find(|status| status.slot == old.slot) else {
                continue; // Its place is gone.
            };
            let Some(text) = outcome(&old, new, began.elapsed()) else {
                left.push(old);
                continue;
            };
            if new.condition != Condition::Ready {
                failed.push(names::worker(new));
            }
            reply.line(&Line {
                text,
                worker: names::worker(new),
                state: new.condition.word(),
                pid: new.pid,
                seconds: began.elapsed().as_secs_f64(),
            })?;
        }
        pending = left;
    }
    if failed.is_empty() {
        return Ok(Answer::Done);
    }
    Err(Refusal::failed(format!(
        "{} did not come up; see: sidekeeper logs {}",
        failed.join(", "),
        failed.first().map_or("", String::as_str)
    )))
}

/// What became of the restart of one worker; None: it is under way.
fn outcome(old: &WorkerStatus, new: &WorkerStatus, took: Duration) -> Option<String> {
    let name = names::worker(new);
    // The order has not been obeyed yet.
    let untouched = new.life == old.life && new.pid == old.pid;
    if untouched && (old.pid.is_some() || new.condition == old.condition) {
        return None;
    }
    // The first of its lives since then has ended by itself.
    let mut newest = new.deaths.iter().rev();
    let reason = newest.find(|death| death.life > old.life);
    let reason = reason.map(|death| death.reason.as_str());
    match (new.condition, reason) {
        (Condition::Ready, _) => {
            let pid = new.pid.unwrap_or_default();
            let seconds = took.as_secs_f64();
            Some(format!("{name} is ready after {seconds:.2} s (pid {pid})"))
        }
        (_, Some(reason)) => Some(format!("{name} failed: {reason}")),
        (Condition::Stopped, None) => Some(format!("{name} has stopped")),
        (_, None) => None,
    }
}

fn list(workers: &[WorkerStatus]) -> String {
    let names: Vec<String> = workers.iter().map(names::worker).collect();
    names.join(", ")
}
