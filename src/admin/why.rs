//! `sidekeeper why SID|IP|REQUEST-ID`: where a session, a client or a request goes or went, and why.
//! The tables hold no session in clear, so one can only be asked for with the session in hand, and
//! none can be found by its client's address.

use crate::admin::Shared;
use crate::admin::ask::{Answer, Ask, Refusal, Reply};
use crate::admin::requests;
use crate::admin::{humane, names};
use crate::fleet::status::{Condition, WorkerStatus};
use front::as_json;
use front::http::id::looks_like_one;
use front::roster::traffic::{Progress, Request};
use front::roster::{App, Policy};
use front::route::{Known, Sessions, balance};
use front::sys::clock::monotonic_ms;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

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

as_json!(to struct Line { text, app, worker, pid, kind, alive, age_s });

pub fn act(shared: &Shared, ask: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let asked = ask.operand().unwrap_or_default();
    if let Ok(ip) = asked.parse() {
        return client(shared, ip, reply);
    }
    if session(shared, asked, reply)? || request(shared, asked, reply)? {
        return Ok(Answer::Done);
    }
    Err(Refusal::failed(if looks_like_one(asked) {
        format!(
            "the request `{asked}` is neither under way nor among the last few hundred of a thread, nor \
             among the last hundred that went wrong there; look for it in the access log"
        )
    } else {
        format!(
            "no worker has given out `{asked}`, or it was forgotten: such a request goes where the \
             app's policy sends it"
        )
    }))
}

/// Where a session goes; false if it is none.
fn session(shared: &Shared, session: &str, reply: &mut Reply) -> Result<bool, Refusal> {
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
    Ok(found)
}

struct RequestLine {
    text: String,
    /// `request`.
    kind: &'static str,
    request_id: String,
    app: Option<String>,
    worker: Option<String>,
    why: Option<&'static str>,
    status: Option<u16>,
    end: Option<&'static str>,
    age_ms: u64,
}

as_json!(to struct RequestLine { text, kind, request_id, app, worker, why, status, end, age_ms });

/// What became of a request; false if nobody remembers it.
fn request(shared: &Shared, id: &str, reply: &mut Reply) -> Result<bool, Refusal> {
    let heard = requests::traffic(shared)?.find(id, requests::PATIENCE);
    if heard.requests.is_empty() && heard.silent > 0 {
        return Err(Refusal::failed(
            "a pool thread did not answer in time; ask again",
        ));
    }
    for request in &heard.requests {
        let worker = requests::worker(request);
        let client = match request.client {
            Some(client) => client.to_string(),
            None => "a Unix socket".to_owned(),
        };
        let chosen = match (&worker, reason(request.why)) {
            (Some(worker), Some(reason)) => format!("went to {worker}, {reason}"),
            (Some(worker), None) => format!("went to {worker}"),
            (None, _) => "went to no worker".to_owned(),
        };
        let mut status = None;
        let mut end = None;
        let outcome = match request.progress {
            Progress::UnderWay(stage) => format!(
                "it is under way for {} ({})",
                humane::time(request.age_ms / 1000),
                stage.word()
            ),
            Progress::Ended {
                status: code,
                end: word,
                took_us,
            } => {
                status = (code > 0).then_some(code);
                end = Some(word);
                let answer = status.map_or_else(String::new, |code| format!("{code}, "));
                format!(
                    "{answer}{word} after {}.{:03} ms",
                    took_us / 1000,
                    took_us % 1000
                )
            }
        };
        let (method, target) = (&request.method, &request.target);
        reply.line(&RequestLine {
            text: format!("{method} {target} from {client} {chosen}: {outcome}"),
            kind: "request",
            request_id: id.to_owned(),
            app: request.app.as_ref().map(ToString::to_string),
            why: (!request.why.is_empty()).then_some(request.why),
            worker,
            status,
            end,
            age_ms: request.age_ms,
        })?;
    }
    Ok(!heard.requests.is_empty())
}

/// The word of the access log as a sentence.
fn reason(why: &str) -> Option<&'static str> {
    Some(match why {
        "sid" => "which owns the session of its sid",
        "path" => "which owns the session of its path",
        "cookie" => "which has set its session cookie",
        "affinity" => "to which our cookie leads",
        "returning" => "where a client that looks the same has just lost its connection",
        "rr" => "whose turn it was (round-robin)",
        "least-busy" => "which was the least busy",
        "random-two" => "the less busy of two by lot",
        "ip" => "which has its address (ip-hash)",
        "moved:unreachable" => "because another one could not be reached",
        "moved:no-room" => "because another one had no room",
        "moved:worker-died" => "because another one had died before it answered",
        _ => return None,
    })
}

struct ClientLine {
    text: String,
    /// `client`.
    kind: &'static str,
    app: String,
    /// Where the policy sends it; null: to any.
    worker: Option<String>,
    policy: &'static str,
    /// Its requests and tunnels that are under way there.
    under_way: usize,
}

as_json!(to struct ClientLine { text, kind, app, worker, policy, under_way });

/// Where a client of this address goes.
fn client(shared: &Shared, ip: IpAddr, reply: &mut Reply) -> Result<Answer, Refusal> {
    let roster = shared.instance.board.latest();
    let heard = requests::traffic(shared)?.under_way(None, requests::PATIENCE);
    for app in roster.apps.iter().filter(|app| app.routes.is_some()) {
        let (policy, sentence) = match app.policy {
            Policy::RoundRobin => ("round-robin", "to each ready worker in turn"),
            Policy::LeastBusy => ("least-busy", "to the least busy worker"),
            Policy::RandomTwo => ("random-two", "to the less busy of two workers by lot"),
            Policy::IpHash => ("ip-hash", ""),
        };
        // Only this policy looks at the address; asking the others would take a turn.
        let chosen = match app.policy {
            Policy::IpHash => balance::choose(app, Some(ip), &[]),
            Policy::RoundRobin | Policy::LeastBusy | Policy::RandomTwo => None,
        };
        let worker = chosen
            .and_then(|index| app.workers.get(index))
            .map(|worker| format!("{}.{}", app.name, worker.instance));
        let mut text = match &worker {
            Some(worker) => format!("{}: {ip} goes to {worker} (ip-hash)", app.name),
            None if app.policy == Policy::IpHash => format!("{}: no worker is up", app.name),
            None => format!("{}: {ip} goes {sentence} ({policy})", app.name),
        };
        text.push_str(", unless a session or a cookie decides");
        let here: Vec<&Request> = heard
            .requests
            .iter()
            .filter(|r| is_of(r, app, ip))
            .collect();
        if !here.is_empty() {
            let workers: BTreeSet<String> =
                here.iter().filter_map(|r| requests::worker(r)).collect();
            let workers: Vec<String> = workers.into_iter().collect();
            text.push_str(&format!(
                "; {} of its requests are under way, at {}",
                here.len(),
                workers.join(", ")
            ));
        }
        reply.line(&ClientLine {
            text,
            kind: "client",
            app: app.name.to_string(),
            worker,
            policy,
            under_way: here.len(),
        })?;
    }
    Ok(Answer::Done)
}

fn is_of(request: &Request, app: &App, ip: IpAddr) -> bool {
    let same = |client: SocketAddr| client.ip().to_canonical() == ip.to_canonical();
    request.client.is_some_and(same) && request.app.as_ref() == Some(&app.name)
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
