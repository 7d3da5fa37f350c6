//! `sidekeeper scale` and `sidekeeper start`: say what is wanted, and tell how workers come, until
//! all are ready or one has failed. Run on threads of their own, which only look; whoever leaves in
//! the middle misses the end, and nothing else changes.

use crate::admin::Shared;
use crate::admin::ask::{Answer, Ask, Refusal, Reply};
use crate::admin::{names, restart};
use crate::fleet::scale::{Aim, Target};
use crate::fleet::status::{Condition, WorkerStatus};
use front::as_json;
use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any start that is not misconfigured.
const TIME_MAX: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(50);
/// More than any machine carries is a slip.
const WORKERS_MAX: u32 = 512;

struct Line {
    text: String,
    app: String,
    worker: Option<String>,
}

as_json!(to struct Line { text, app, worker });

pub fn act(shared: &Shared, ask: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let fleet = &shared.instance.fleet;
    let [name, number] = ask.operands.as_slice() else {
        return Err(Refusal::usage("scale needs APP N|+N|-N|auto"));
    };
    let target = target(number)?;
    names::app(&fleet.scales(), name)?;
    let before: HashSet<_> = fleet.snapshot().iter().map(|w| w.slot).collect();
    let told = |text: String, worker| Line {
        text,
        app: name.clone(),
        worker,
    };
    let wanted = match fleet.scale(name.clone(), target).map_err(Refusal::failed)? {
        Aim::Fixed(wanted) => wanted,
        Aim::Between(min, max) => {
            let text = format!("{name}: {min} to {max} workers from now on, as its load asks for");
            reply.line(&told(text, None))?;
            return Ok(Answer::Done);
        }
    };
    let began = Instant::now();
    let mut said = HashSet::new();
    while began.elapsed() < TIME_MAX {
        if reply.gone() {
            return Ok(Answer::Elsewhere);
        }
        let of_app = |w: &WorkerStatus| *w.app == *name;
        let all: Vec<WorkerStatus> = fleet.snapshot().into_iter().filter(of_app).collect();
        for worker in &all {
            let text = match worker.condition {
                Condition::Ready if worker.member && !before.contains(&worker.slot) => "is ready",
                Condition::Draining if !worker.member => {
                    "gets nothing new, and leaves when nobody is left that it serves"
                }
                Condition::Ready
                | Condition::Draining
                | Condition::Waiting
                | Condition::Starting
                | Condition::Stopping
                | Condition::Errored
                | Condition::Stopped => continue,
            };
            if said.insert((worker.slot, text)) {
                let name = names::worker(worker);
                reply.line(&told(format!("{name} {text}"), Some(name)))?;
            }
        }
        let members: Vec<&WorkerStatus> = all.iter().filter(|worker| worker.member).collect();
        let ready = |worker: &&&WorkerStatus| worker.condition == Condition::Ready;
        let count = u32::try_from(members.iter().filter(ready).count()).unwrap_or(u32::MAX);
        let there = u32::try_from(members.len()).unwrap_or(u32::MAX);
        if there == wanted && count == wanted {
            let workers = if wanted == 1 { "worker" } else { "workers" };
            let text = format!(
                "{name}: {wanted} {workers} from now on, until a reload or: sidekeeper scale {name} auto"
            );
            reply.line(&told(text, None))?;
            return Ok(Answer::Done);
        }
        let scales = fleet.scales();
        let scale = scales.iter().find(|scale| *scale.app == *name);
        if let Some(held) = scale.and_then(|scale| scale.held.as_ref()) {
            let text = format!("{name} has {there} workers and gets no more: {held}");
            return Err(Refusal::failed(text));
        }
        if let Some(failed) = members.iter().find(|worker| fails(worker)) {
            let (worker, state) = (names::worker(failed), failed.condition.word());
            let reason = failed.deaths.last().map_or("", |death| &death.reason);
            let text = match failed.condition {
                Condition::Stopped => {
                    format!("{worker} is {state}; see: sidekeeper start {worker}")
                }
                _ => format!("{worker} does not come up: {reason}; see: sidekeeper logs {worker}"),
            };
            return Err(Refusal::failed(text));
        }
        thread::sleep(LOOK);
    }
    Err(Refusal::failed(format!(
        "{name} does not have {wanted} ready workers after {} s; see: sidekeeper status",
        TIME_MAX.as_secs()
    )))
}

/// It will not be ready by itself soon.
fn fails(worker: &WorkerStatus) -> bool {
    let started = worker.restarts > 0 && worker.condition != Condition::Ready;
    started || matches!(worker.condition, Condition::Errored | Condition::Stopped)
}

fn target(text: &str) -> Result<Target, Refusal> {
    let wrong = || {
        Refusal::usage(format!(
            "`{text}` is no number of workers: give one up to {WORKERS_MAX}, +N or -N for more or fewer, or auto"
        ))
    };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if text == "auto" {
        return Ok(Target::Auto);
    }
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u32 = digits.parse().map_err(|_| wrong())?;
    if number > WORKERS_MAX {
        return Err(wrong());
    }
    Ok(match text.chars().next() {
        Some('+') => Target::By(i64::from(number)),
        Some('-') => Target::By(-i64::from(number)),
        Some(_) | None => Target::Exactly(number),
    })
}

/// `sidekeeper start`: what is stopped, errored or waits for its next try is started now.
pub fn start(shared: &Shared, ask: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let fleet = &shared.instance.fleet;
    let (all, scales) = (fleet.snapshot(), fleet.scales());
    let without = |name: &str| {
        let scale = scales.iter().find(|scale| *scale.app == *name)?;
        (scale.workers == 0).then_some(scale)
    };
    if let Some(scale) = ask.operand().and_then(without) {
        let app = scale.app.to_string();
        if scale.by_hand {
            // Somebody has scaled it to nothing.
            fleet
                .scale(app.clone(), Target::Auto)
                .map_err(Refusal::failed)?;
        }
        let text = format!("{app} has no worker; it gets one as soon as it is asked for");
        let text = match scale.by_hand {
            true => format!("{app} gets as many workers as the configuration says"),
            false => text,
        };
        let worker = None;
        reply.line(&Line { text, app, worker })?;
        return Ok(Answer::Done);
    }
    let meant: Vec<WorkerStatus> = match ask.operand() {
        Some(name) => names::workers(&all, name)?.into_iter().cloned().collect(),
        None => all,
    };
    let rests = |worker: &WorkerStatus| {
        let rests = matches!(
            worker.condition,
            Condition::Stopped | Condition::Errored | Condition::Waiting
        );
        worker.member && rests
    };
    let pending: Vec<WorkerStatus> = meant.iter().filter(|w| rests(w)).cloned().collect();
    if pending.is_empty() {
        let (text, app) = match meant.as_slice() {
            [only] => (
                format!(
                    "{} is {} already",
                    names::worker(only),
                    only.condition.word()
                ),
                only.app.to_string(),
            ),
            _ => ("nothing is stopped".to_owned(), String::new()),
        };
        let worker = None;
        reply.line(&Line { text, app, worker })?;
        return Ok(Answer::Done);
    }
    restart::begin(shared, pending, reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_strictly() {
        let table = [
            ("3", Some(Target::Exactly(3))),
            ("0", Some(Target::Exactly(0))),
            ("+2", Some(Target::By(2))),
            ("-1", Some(Target::By(-1))),
            ("auto", Some(Target::Auto)),
            ("", None),
            ("+", None),
            ("+-1", None),
            ("3x", None),
            ("513", None),
            ("max", None),
        ];
        for (text, wanted) in table {
            assert_eq!(target(text).ok(), wanted, "{text}");
        }
    }
}
