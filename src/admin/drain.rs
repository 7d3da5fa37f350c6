//! `sidekeeper drain WORKER`: has one worker leave without haste and counts those that are still
//! there, until it has ended. Runs on a thread of its own, which only looks; whoever leaves in the
//! middle misses the end, and the worker drains on.

use crate::admin::Shared;
use crate::admin::ask::{Answer, Ask, Refusal, Reply};
use crate::admin::{names, sessions};
use crate::fleet::status::{Condition, Open, WorkerStatus};
use front::as_json;
use front::roster::Slot;
use front::route::Home;
use std::thread;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(100);
/// A count that has not changed is told again so often.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Two counts are not told faster than this.
const TELL_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    text: String,
    worker: String,
    state: &'static str,
    websockets: u32,
    requests: u32,
    sessions: usize,
}

as_json!(to struct Line { text, worker, state, websockets, requests, sessions });

pub fn act(shared: &Shared, ask: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let fleet = &shared.instance.fleet;
    let slot = chosen(&fleet.snapshot(), ask.operand().unwrap_or_default())?;
    let began = Instant::now();
    fleet.drain(slot);
    let mut last: Option<(Line, Instant)> = None;
    loop {
        if reply.gone() {
            return Ok(Answer::Elsewhere);
        }
        let found = fleet.snapshot().into_iter().find(|w| w.slot == slot);
        let name = ask.operand().unwrap_or_default().to_owned();
        let condition = found.as_ref().map(|worker| worker.condition);
        let ended = !matches!(condition, Some(Condition::Ready | Condition::Draining));
        if !ended && let Some(worker) = &found {
            let line = count(shared, worker);
            let pause = match &last {
                Some((told, at)) if *told == line => TELL_EVERY.saturating_sub(at.elapsed()),
                Some((_, at)) => TELL_PAUSE.saturating_sub(at.elapsed()),
                None => Duration::ZERO,
            };
            // Before it has heard of it, there is nothing to tell.
            if pause.is_zero() && worker.condition == Condition::Draining {
                reply.line(&line)?;
                last = Some((line, Instant::now()));
            }
        }
        if matches!(condition, None | Some(Condition::Stopped)) {
            let seconds = began.elapsed().as_secs_f64();
            reply.line(&Line {
                text: format!(
                    "{name} has left after {seconds:.1} s; to have it back: sidekeeper start {name}"
                ),
                worker: name,
                state: Condition::Stopped.word(),
                websockets: 0,
                requests: 0,
                sessions: 0,
            })?;
            return Ok(Answer::Done);
        }
        thread::sleep(LOOK);
    }
}

/// The worker of this name, if it can be spared.
fn chosen(all: &[WorkerStatus], name: &str) -> Result<Slot, Refusal> {
    let members = names::workers(all, name)?;
    let members: Vec<&WorkerStatus> = members.into_iter().filter(|w| w.member).collect();
    let worker = match members.as_slice() {
        [only] if names::worker(only) == name => only,
        several => {
            let list: Vec<String> = several.iter().map(|w| names::worker(w)).collect();
            let list = list.join(", ");
            return Err(Refusal::usage(format!(
                "one worker leaves at a time; name one of {list}"
            )));
        }
    };
    match worker.condition {
        Condition::Ready => {}
        Condition::Draining => return Ok(worker.slot),
        Condition::Waiting
        | Condition::Starting
        | Condition::Stopping
        | Condition::Errored
        | Condition::Stopped => {
            let state = worker.condition.word();
            return Err(Refusal::failed(format!(
                "{name} is {state}: it serves nobody"
            )));
        }
    }
    let serves = |w: &&WorkerStatus| w.app == worker.app && w.condition == Condition::Ready;
    if all.iter().filter(serves).count() == 1 {
        let app = &worker.app;
        return Err(Refusal::failed(format!(
            "{name} is the only ready worker of {app}; add one first: sidekeeper scale {app} +1"
        )));
    }
    Ok(worker.slot)
}

fn count(shared: &Shared, worker: &WorkerStatus) -> Line {
    let roster = shared.instance.board.latest();
    let open = roster.find(worker.slot);
    let open = open.map_or_else(Open::default, |(_, worker)| Open::of(&worker.gauges));
    let home = Home {
        slot: worker.slot,
        life: worker.life,
    };
    let sessions = sessions::counts(shared).get(&home).copied().unwrap_or(0);
    let websockets = open.relayed.saturating_add(open.handed_off);
    let name = names::worker(worker);
    Line {
        text: format!(
            "{name} drains: {websockets} WebSockets and {} requests are left, {sessions} sessions known",
            open.requests
        ),
        worker: name,
        state: worker.condition.word(),
        websockets,
        requests: open.requests,
        sessions,
    }
}
