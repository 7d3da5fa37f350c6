//! `sidekeeper why SID`: where a session goes, and why. The tables hold no session in clear, so the
//! question can only be asked with the session in hand.

use crate::admin::Shared;
use crate::admin::command::{Answer, Ask, Refusal};
use crate::admin::control::Reply;
use crate::admin::{humane, names};
use crate::fleet::status::{Condition, WorkerStatus};
use crate::route::{Known, Sessions};
use crate::sys::clock::monotonic_ms;
use serde::Serialize;

#[derive(Serialize)]
struct Line {
    text: String,
    app: String,
    worker: String,
    pid: Option<u32>,
    /// `sid` or `cookie`.
    kind: &'static str,
    /// Whether the life that owns the session still serves it.
    alive: bool,
    age_s: u64,
}

pub fn act(shared: &Shared, ask: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let session = ask.operand().unwrap_or_default();
    let instance = &shared.instance;
    let (roster, statuses) = (instance.board.latest(), instance.fleet.snapshot());
    let now_s = monotonic_ms() / 1000;
    let kinds: [(&'static str, &Sessions); 2] = [
        ("sid", &instance.tables.engine),
        ("cookie", &instance.tables.cookies),
    ];
    let mut found = false;
    for app in &roster.apps {
        for (kind, table) in kinds {
            let Some(known) = table.look(&app.name, session.as_bytes()) else {
                continue;
            };
            found = true;
            let status = statuses
                .iter()
                .find(|status| status.slot == known.home.slot);
            let age_s = now_s.saturating_sub(u64::from(known.learned_s));
            reply.line(&line(kind, &app.name, known, status, age_s))?;
        }
    }
    if found {
        return Ok(Answer::Done);
    }
    Err(Refusal::failed(format!(
        "no worker has given out `{session}`, or it was forgotten: such a request goes where the \
         app's policy sends it"
    )))
}

fn line(
    kind: &'static str,
    app: &str,
    known: Known,
    status: Option<&WorkerStatus>,
    age_s: u64,
) -> Line {
    let worker = status.map_or_else(|| app.to_owned(), names::worker);
    let alive = status.is_some_and(|status| {
        status.life == known.home.life
            && !matches!(status.condition, Condition::Stopping | Condition::Stopped)
    });
    let given = match kind {
        "sid" => "gave this sid to a client in an engine.io handshake",
        _ => "set a session cookie to this value",
    };
    let pid = status.and_then(|status| status.pid).filter(|_| alive);
    let then = match (alive, kind) {
        (true, "sid") => format!("requests with it in their query go to {worker} alone"),
        (true, _) => format!("requests with it go to {worker} while it lives"),
        (false, "sid") => "that life has ended; requests with it get 400 (Session ID unknown), upon which clients begin anew".to_owned(),
        (false, _) => "that life has ended; requests with it go where the app's policy sends them".to_owned(),
    };
    let process = pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
    let life = known.home.life;
    Line {
        text: format!(
            "{worker} (life {life}{process}) {given} {} ago: {then}",
            humane::time(age_s)
        ),
        app: app.to_owned(),
        worker,
        pid,
        kind,
        alive,
        age_s,
    }
}
