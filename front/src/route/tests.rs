//! Which worker a request goes to, and why, as tables: what was learned, what the request says, and
//! how the workers are.

use super::*;
use crate::gauges::WorkerGauges;
use crate::http::head::{HeadLimits, fields, read_request};
use crate::roster::{Board, Drain, Routes};
use std::path::Path;

const NOW: u64 = 1_000_000;
const BROWSER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn worker(slot: u32, availability: Availability) -> Worker {
    Worker {
        slot: Slot(slot),
        life: 1,
        instance: slot,
        socket: Arc::from(Path::new("/s")),
        availability,
        drain: None,
        gauges: Arc::new(WorkerGauges::default()),
        door: None,
    }
}

/// Three workers of one app, the second of which is looked at.
fn app(second: Worker) -> App {
    App {
        name: "app".into(),
        routes: Some(Routes::default()),
        policy: Default::default(),
        session_cookies: Arc::new(["connect.sid".to_owned()]),
        affinity_cookie: Some("at".into()),
        answer_timeout: None,
        body_bytes_max: None,
        asleep: None,
        gauges: Default::default(),
        workers: vec![
            worker(0, Availability::Serving),
            second,
            worker(2, Availability::Serving),
        ],
        turn: Arc::default(),
    }
}

fn router(app: App) -> Router {
    let board = Board::default();
    board.publish(Roster { apps: vec![app] });
    Router::new(View::new(Arc::new(board)), Arc::new(Tables::new(1000)))
}

/// A router that knows one session of each kind, all of them at the worker in slot 1.
fn learned(second: Worker) -> (Router, String) {
    let router = router(app(second));
    let roster = router.roster().clone();
    let (app, home) = (&roster.apps[0], worker(1, Availability::Serving));
    let looks = looks_of(&router, "/socket.io/?EIO=4&transport=polling", "Firefox");
    router.learn_engine(app, &home, b"SID", looks, NOW);
    router.learn_engine(app, &home, b"/chat/123/abc", Looks::UNKNOWN, NOW);
    router.learn_cookie(app, &home, b"s%3Aabc.def", NOW);
    router.returning().left(looks, Slot(1), 1, NOW);
    let cookie = router.tables.affinity.value("app", Slot(1));
    (router, cookie)
}

fn with<R>(head: &str, act: impl FnOnce(&Request<'_, '_>) -> R) -> R {
    let mut storage = fields();
    let request = read_request(head.as_bytes(), &mut storage, &HeadLimits::default())
        .expect("acceptable")
        .expect("complete");
    act(&request)
}

fn head(method: &str, target: &str, more: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{more}\r\n")
}

fn looks_of(router: &Router, target: &str, browser: &str) -> Looks {
    let head = head("GET", target, &format!("User-Agent: {browser}\r\n"));
    with(&head, |request| router.looks(request, Some(BROWSER)))
}

/// Where a request goes, if it is to slot 1 for another reason than its turn; and why.
fn decided(router: &Router, head: &str) -> Result<Option<Why>, &'static str> {
    let decision = with(head, |request| {
        let asker = Asker {
            address: Some(BROWSER),
            looks: router.looks(request, Some(BROWSER)),
        };
        router.decide(request, asker, &[], NOW)
    });
    match decision {
        Decision::Worker {
            why: Why::Policy, ..
        } => Ok(None),
        Decision::Worker { worker: 1, why, .. } => Ok(Some(why)),
        Decision::Worker { .. } => Err("another worker for a reason"),
        Decision::SessionGone => Err("gone"),
        Decision::NoApp | Decision::NoWorker | Decision::Asleep { .. } => Err("nobody"),
    }
}

const POLL: &str = "/socket.io/?EIO=4&transport=polling";

#[rustfmt::skip]
#[test]
fn sessions_and_what_only_looks_like_one() {
    let (router, at) = learned(worker(1, Availability::Serving));
    let looks = looks_of(&router, POLL, "Firefox");
    let own = format!("Cookie: a=b; at={at}\r\n");
    let sid = format!("{POLL}&sid=SID");
    for (name, method, target, more, wanted) in [
        ("a poll", "GET", &*sid, "", Some(Why::Sid(looks))),
        ("a post", "POST", &sid, "Content-Length: 0\r\n", Some(Why::Sid(looks))),
        ("a preflight, which has no cookie", "OPTIONS", &sid, "Origin: http://a\r\nAccess-Control-Request-Method: POST\r\n", Some(Why::Sid(looks))),
        ("the oldest clients", "GET", "/socket.io/?transport=polling&sid=SID", "", Some(Why::Sid(looks))),
        ("another path", "GET", "/my/engine/?EIO=3&transport=polling&sid=SID", "", Some(Why::Sid(looks))),
        ("an upgrade", "GET", "/socket.io/?EIO=4&transport=websocket&sid=SID", "Connection: Upgrade\r\nUpgrade: websocket\r\n", Some(Why::Sid(looks))),
        ("an unknown sid", "GET", "/socket.io/?EIO=4&transport=polling&sid=OTHER", "", None),
        ("the query beats the cookies", "GET", &sid, &*own, Some(Why::Sid(looks))),
        ("an unknown sid beside a cookie", "GET", "/socket.io/?EIO=4&transport=polling&sid=OTHER", &own, Some(Why::Affinity)),
        ("not engine.io", "GET", "/?sid=SID", "", None),
        ("a sid that is not one", "GET", "/socket.io/?EIO=4&transport=polling&xsid=SID", "", None),
        ("connect.sid is no sid", "GET", "/", "Cookie: connect.sid=SID\r\n", None),
        ("nor is the referrer's", "GET", "/", "Referer: http://h/socket.io/?EIO=4&transport=polling&sid=SID\r\n", None),
        ("a cookie of the app's session", "GET", "/", "Cookie: x=y; connect.sid=s%3Aabc.def\r\n", Some(Why::Cookie)),
        ("and with our own", "GET", "/", &format!("Cookie: connect.sid=s%3Aabc.def; at={at}\r\n"), Some(Why::Cookie)),
        ("our own cookie", "GET", "/", &own, Some(Why::Affinity)),
        ("made up", "GET", "/", "Cookie: at=0123456789abcdef0123456789abcdef\r\n", None),
        ("SockJS", "POST", "/chat/123/abc/xhr", "Content-Length: 0\r\n", Some(Why::Path)),
        ("SockJS, the other direction", "POST", "/chat/123/abc/xhr_send", "Content-Length: 0\r\n", Some(Why::Path)),
        ("SockJS of somebody else", "POST", "/chat/123/abd/xhr", "Content-Length: 0\r\n", None),
        ("no SockJS", "GET", "/chat/123/abc/other", "", None),
        // This one takes the memory: it comes last.
        ("a handshake of another browser", "GET", POLL, "User-Agent: Chrome\r\n", None),
        ("no handshake", "GET", "/", "User-Agent: Firefox\r\n", None),
        ("one that is back", "GET", POLL, "User-Agent: Firefox\r\n", Some(Why::Returned)),
        ("the next one that looks like it", "GET", POLL, "User-Agent: Firefox\r\n", None),
    ] {
        assert_eq!(decided(&router, &head(method, target, more)), Ok(wanted), "{name}");
    }
}

/// The five requests that know the worker, in the order of the tables.
fn all_kinds(router: &Router, at: &str) -> [Result<Option<Why>, &'static str>; 5] {
    [
        head("GET", &format!("{POLL}&sid=SID"), ""),
        head("GET", "/chat/123/abc/eventsource", ""),
        head("GET", "/", "Cookie: connect.sid=s%3Aabc.def\r\n"),
        head("GET", "/", &format!("Cookie: at={at}\r\n")),
        head("GET", POLL, "User-Agent: Firefox\r\n"),
    ]
    .map(|head| decided(router, &head))
}

#[test]
fn what_becomes_of_sessions_when_their_worker_changes() {
    let serving = worker(1, Availability::Serving);
    let (router, at) = learned(serving.clone());
    let looks = looks_of(&router, POLL, "Firefox");
    assert_eq!(
        all_kinds(&router, &at),
        [
            Why::Sid(looks),
            Why::Path,
            Why::Cookie,
            Why::Affinity,
            Why::Returned
        ]
        .map(|why| Ok(Some(why)))
    );
    // Another life: what lived in memory is lost, the browser still belongs there.
    let (router, at) = learned(Worker {
        life: 2,
        ..serving.clone()
    });
    let [sid, path, cookie, affinity, returned] = all_kinds(&router, &at);
    assert_eq!(sid, Err("gone"));
    assert_eq!([path, cookie, returned], [Ok(None); 3]);
    assert_eq!(affinity, Ok(Some(Why::Affinity)));
    // Down: nothing leads there.
    for availability in [Availability::Down, Availability::Coming] {
        let (router, at) = learned(worker(1, availability));
        let [sid, path, cookie, affinity, returned] = all_kinds(&router, &at);
        assert_eq!(sid, Err("gone"));
        assert_eq!([path, cookie, affinity, returned], [Ok(None); 4]);
    }
    // It leaves: sessions stay, nothing new comes.
    let leaving = |began_ms, spread_ms| Worker {
        drain: Some(Drain {
            began_ms,
            spread_ms,
            by_relay: false,
        }),
        ..worker(1, Availability::Draining)
    };
    let (router, at) = learned(leaving(NOW + 1, 1000));
    let looks = looks_of(&router, POLL, "Firefox");
    let [sid, path, cookie, affinity, returned] = all_kinds(&router, &at);
    assert_eq!(
        [sid, path, cookie],
        [Why::Sid(looks), Why::Path, Why::Cookie].map(|why| Ok(Some(why)))
    );
    assert_eq!([affinity, returned], [Ok(None); 2]);
    // Its time has come.
    let (router, at) = learned(leaving(NOW - 1000, 1000));
    let [sid, path, ..] = all_kinds(&router, &at);
    assert_eq!((sid, path), (Err("gone"), Ok(Some(Why::Path))));
}

#[test]
fn our_own_cookie_says_nothing_and_is_not_seen_by_scripts() {
    let mut app = app(worker(1, Availability::Serving));
    let field = |app: &App, secure| {
        let router = router(app.clone());
        let field = router.affinity_field(app, &app.workers[1], secure);
        field.expect("the app has one")
    };
    let text = field(&app, false);
    let value = text.strip_prefix("at=").and_then(|text| text.get(..32));
    assert!(value.is_some_and(|v| v.bytes().all(|b| b.is_ascii_hexdigit())));
    assert_eq!(text.get(35..), Some("; Path=/; HttpOnly; SameSite=Lax"));
    assert!(field(&app, true).ends_with("; SameSite=Lax; Secure"));
    app.routes = Some(Routes {
        path: "/chat".into(),
        hosts: Vec::new(),
    });
    assert!(field(&app, false).contains("; Path=/chat; "));
    app.affinity_cookie = None;
    let router = router(app.clone());
    assert_eq!(router.affinity_field(&app, &app.workers[1], false), None);
}
