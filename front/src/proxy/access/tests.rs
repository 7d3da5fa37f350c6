//! Lines of the access log, whole, in each format; and what must not get into one.

use super::*;
use crate::http::head::{ClientSide, HeadLimits, fields, read_request};
use crate::http::id::{Counter, Run};
use crate::proxy::record::{End, Ids};
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl Sink for Kept {
    fn line(&self, line: &[u8]) {
        let line = String::from_utf8(line.to_vec()).expect("UTF-8");
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }
}

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 4096,
    head_fields_max: 20,
    target_bytes_max: 2000,
};

/// A request that began at 3,000 us on a clock that showed 784111777.000 then.
fn record(head: &str) -> Record {
    let run = Run::begin();
    let mut ids = Ids {
        counter: Counter::new(&run, 0),
        run,
    };
    let head = format!("{head}\r\n\r\n");
    let mut storage = fields();
    let request = read_request(head.as_bytes(), &mut storage, &LIMITS);
    let request = request.expect("a good head").expect("a whole head");
    let from = ClientSide::direct("192.0.2.7:4711".parse().ok());
    let mut record = Record::default();
    record.begin(&mut ids, 3000, &from, &request, None);
    record
}

fn line(record: &Record, format: Format, query: bool) -> String {
    let kept = Arc::new(Kept::default());
    let log = AccessLog {
        format,
        query,
        sink: kept.clone(),
    };
    let mut wall = Wall {
        offset_us: 784_111_777_000_000 - 3000,
        second: 0,
        date: *Date::from_unix_secs(0).text(),
    };
    let names = Names {
        app: Some("chat"),
        instance: Some(1),
    };
    log.write(&mut Vec::new(), &mut wall, record, names, 10_500);
    let id = String::from_utf8_lossy(record.id_text()).into_owned();
    let lines = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
    lines.concat().replace(&id, "ID")
}

const HEAD: &str =
    "GET /a?b=c HTTP/1.1\r\nHost: h\r\nReferer: http://h/x\r\nUser-Agent: a \"browser\"";

fn completed() -> Record {
    let mut record = record(HEAD);
    record.why = "rr";
    record.sent_us = 3004;
    record.connect_us = 1;
    record.first_us = 8123;
    record.bytes_out = 600;
    record.head_out = 100;
    record.status = 200;
    record.end = End::Completed;
    record
}

#[test]
fn lines_say_all_that_is_known() {
    let record = completed();
    let bytes_in = HEAD.len() + 4;
    assert_eq!(
        line(&record, Format::Text, true),
        format!(
            "1994-11-06T08:49:37.000Z 192.0.2.7:4711 ID chat.1 rr 200 completed \"GET /a?b=c HTTP/1.1\" \
             queue=0.004 connect=0.001 first=5.123 total=7.500 in={bytes_in} out=600"
        )
    );
    assert_eq!(
        line(&record, Format::Common, true),
        "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=c HTTP/1.1\" 200 500"
    );
    assert_eq!(
        line(&record, Format::Combined, true),
        "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=c HTTP/1.1\" 200 500 \
         \"http://h/x\" \"a \\\"browser\\\"\""
    );
    let json = line(&record, Format::Json, true);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let wanted = serde_json::json!({
        "time": "1994-11-06T08:49:37.000Z", "client": "192.0.2.7", "port": 4711, "request_id": "ID",
        "app": "chat", "worker": "chat.1", "why": "rr", "method": "GET", "target": "/a?b=c",
        "version": "1.1", "status": 200, "end": "completed", "queue_ms": 0.004, "connect_ms": 0.001,
        "first_ms": 5.123, "total_ms": 7.5, "bytes_in": bytes_in, "bytes_out": 600,
        "referer": "http://h/x", "user_agent": "a \"browser\"",
    });
    assert_eq!(value, wanted);
}

#[test]
fn what_was_not_reached_is_not_invented() {
    let mut record = Record::default();
    let run = Run::begin();
    let mut ids = Ids {
        counter: Counter::new(&run, 0),
        run,
    };
    record.clear(&mut ids, 3000, None, None);
    assert_eq!(
        line(&record, Format::Text, true),
        "1994-11-06T08:49:37.000Z unix: ID chat.1 - - closed \"-\" queue=- connect=- first=- \
         total=7.500 in=0 out=0"
    );
    let json = line(&record, Format::Json, true);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    for name in [
        "client", "port", "why", "method", "target", "status", "first_ms", "referer",
    ] {
        assert!(value[name].is_null(), "{name} in {json}");
    }
}

#[test]
fn sessions_cannot_be_taken_over_from_the_log() {
    let table = [
        (
            "/socket.io/?EIO=4&sid=abcdefgh12&t=1",
            "/socket.io/?EIO=4&sid=abcd***&t=1",
        ),
        ("/x?sid=abcdefgh", "/x?sid=abcd***"),
        ("/x?sid=abc", "/x?sid=abc"),
        ("/x?side=abcdefgh", "/x?side=abcdefgh"),
        ("/x", "/x"),
    ];
    for (target, wanted) in table {
        let record = record(&format!("GET {target} HTTP/1.1\r\nHost: h"));
        for format in [Format::Text, Format::Common, Format::Json] {
            assert!(line(&record, format, true).contains(wanted), "{target}");
            let bare = wanted.split('?').next().unwrap_or_default();
            let dropped = line(&record, format, false);
            assert!(
                dropped.contains(bare) && !dropped.contains('?'),
                "{dropped}"
            );
        }
    }
}

#[test]
fn nobody_writes_lines_of_his_own() {
    let mut out = Vec::new();
    let all: Vec<u8> = (0..=255).collect();
    push_escaped(&mut out, &all);
    assert!(out.iter().all(|byte| (b' '..=b'~').contains(byte)));
    let text = String::from_utf8(out).expect("ASCII");
    assert!(text.starts_with("\\x00\\x01") && text.contains("!\\\"#") && text.ends_with("\\xff"));
    assert!(text.contains("[\\\\]"));
    let mut json = Vec::new();
    push_json(&mut json, &all);
    let value: String = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(
        value.chars().map(u32::from).collect::<Vec<_>>(),
        (0..=255).collect::<Vec<_>>()
    );
}

/// A measurement, in a release build alone: `cargo test --release -- --nocapture a_line_costs`.
#[test]
#[cfg(not(debug_assertions))]
fn a_line_costs() {
    struct Nowhere(std::sync::atomic::AtomicUsize);
    impl Sink for Nowhere {
        fn line(&self, line: &[u8]) {
            self.0
                .fetch_add(line.len(), std::sync::atomic::Ordering::Relaxed);
        }
    }
    const ROUNDS: u32 = 1_000_000;
    let record = completed();
    for format in [Format::Text, Format::Combined, Format::Json] {
        let log = AccessLog {
            format,
            query: true,
            sink: Arc::new(Nowhere(Default::default())),
        };
        let (mut out, mut wall) = (Vec::new(), Wall::look(3000));
        let names = Names {
            app: Some("chat"),
            instance: Some(1),
        };
        let began = std::time::Instant::now();
        for round in 0..ROUNDS {
            log.write(
                &mut out,
                &mut wall,
                &record,
                names,
                10_500 + u64::from(round % 7),
            );
        }
        println!(
            "{format:?}: {} ns",
            began.elapsed().as_nanos() / u128::from(ROUNDS)
        );
    }
}
