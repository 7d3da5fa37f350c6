//! `sidekeeper requests`: what is under way, the oldest first. The pool threads tell; what they know of
//! one request is also what `why` answers with.

use crate::admin::Shared;
use crate::admin::ask::{Answer, Ask, Refusal, Reply};
use crate::admin::names;
use front::as_json;
use front::roster::Slot;
use front::roster::traffic::{Heard, Progress, Request, Traffic};
use std::sync::Arc;
use std::time::Duration;

/// For the pool threads' answers. They come within a batch, unless the machine is out of breath.
pub const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct RequestLine {
    pub request_id: String,
    /// Null: a client on a Unix socket.
    pub client: Option<String>,
    pub app: Option<String>,
    pub worker: Option<String>,
    pub method: String,
    pub target: String,
    /// Why this worker.
    pub why: Option<String>,
    pub age_ms: u64,
    /// `waiting` for a worker, `sent` to it, `answering`, `upgraded`.
    pub phase: String,
}

as_json!(struct RequestLine {
    request_id, client, app, worker, method, target, why, age_ms, phase
});

#[derive(Debug)]
pub struct Requests {
    /// The oldest first.
    pub requests: Vec<RequestLine>,
    /// Younger ones that are not listed.
    pub more: usize,
    /// Threads that did not answer in time, whose requests are not listed.
    pub silent_threads: usize,
}

as_json!(struct Requests { requests, more, silent_threads });

pub fn act(shared: &Shared, ask: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let workers = shared.instance.fleet.snapshot();
    let of: Option<Vec<Slot>> = match ask.operand() {
        Some(name) => Some(
            names::workers(&workers, name)?
                .iter()
                .map(|w| w.slot)
                .collect(),
        ),
        None => None,
    };
    let single = match of.as_deref() {
        Some([slot]) => Some(*slot),
        Some(_) | None => None,
    };
    let heard = traffic(shared)?.under_way(single, PATIENCE);
    let Heard {
        requests,
        more,
        silent,
    } = heard;
    let wanted = |request: &Request| match (&of, request.slot) {
        (None, _) => true,
        (Some(slots), Some(slot)) => slots.contains(&slot),
        (Some(_), None) => false,
    };
    let requests = requests.into_iter().filter(wanted);
    reply.line(&Requests {
        requests: requests.map(line).collect(),
        more,
        silent_threads: silent,
    })?;
    Ok(Answer::Done)
}

/// Who can be asked.
pub fn traffic(shared: &Shared) -> Result<&Arc<dyn Traffic>, Refusal> {
    let traffic = shared.instance.board.traffic();
    traffic.ok_or_else(|| Refusal::failed("the instance does not serve yet; ask again"))
}

/// `chat.0`, as far as it is known.
pub fn worker(request: &Request) -> Option<String> {
    let app = request.app.as_ref()?;
    request.instance.map(|instance| format!("{app}.{instance}"))
}

fn line(request: Request) -> RequestLine {
    RequestLine {
        worker: worker(&request),
        client: request.client.map(|client| client.to_string()),
        app: request.app.map(|app| app.to_string()),
        why: (!request.why.is_empty()).then(|| request.why.to_owned()),
        request_id: request.id,
        method: request.method,
        target: request.target,
        age_ms: request.age_ms,
        phase: match request.progress {
            Progress::UnderWay(stage) => stage.word(),
            Progress::Ended { end, .. } => end,
        }
        .to_owned(),
    }
}
