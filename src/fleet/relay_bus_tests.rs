//! Workers 0 to 2 are of one app, 3 and 4 of another. A row is a line that one of them says, and
//! who gets it; the rows of a table follow each other on one bus.

use super::*;
use front::roster::Slot;

const fn worker(number: u32) -> LifeKey {
    LifeKey {
        slot: Slot(number),
        life: 1,
    }
}

fn two_apps() -> Bus {
    let mut bus = Bus::default();
    for number in 0..5 {
        bus.join(worker(number), usize::from(number > 2), number % 3);
    }
    bus
}

/// `None`: not for siblings.
fn said(bus: &mut Bus, from: u32, line: &str) -> Option<(String, Vec<u32>)> {
    let mut to = Vec::new();
    let text = bus.route(worker(from), line.as_bytes(), &mut to)?;
    let mut numbers: Vec<u32> = to.iter().map(|key| key.slot.0).collect();
    numbers.sort_unstable();
    Some((String::from_utf8_lossy(text).into_owned(), numbers))
}

#[track_caller]
fn all_unchanged(bus: &mut Bus, rows: &[(u32, &str, &[u32])]) {
    for (from, line, to) in rows {
        let expected = Some(((*line).to_owned(), to.to_vec()));
        assert_eq!(said(bus, *from, line), expected, "{from} said {line}");
    }
}

fn parted(bus: &mut Bus, gone: u32) -> Vec<(u32, String)> {
    let mut partings: Vec<_> = bus
        .leave(worker(gone))
        .into_iter()
        .map(|p| {
            let line = String::from_utf8(p.line).expect("JSON is UTF-8");
            (p.to.slot.0, line.trim_end().to_owned())
        })
        .collect();
    partings.sort();
    partings
}

#[test]
fn adapter_0_3_speaks_to_all_and_answers_one() {
    let mut bus = two_apps();
    #[rustfmt::skip]
    all_unchanged(&mut bus, &[
        // Who has no adapter yet is not told: Node would keep it for ever.
        (0, r#"{"type":1,"uid":"a","nsp":"/","source":"_sio_adapter"}"#, &[]),
        (1, r#"{"type":1,"uid":"b","nsp":"/","source":"_sio_adapter"}"#, &[0]),
        (2, r#"{"type":1,"uid":"c","nsp":"/","source":"_sio_adapter"}"#, &[0, 1]),
        (3, r#"{"type":1,"uid":"d","nsp":"/","source":"_sio_adapter"}"#, &[]),
        (0, r#"{"type":3,"data":{"packet":{"source":"x","uid":[1]}},"uid":"a","nsp":"/","source":"_sio_adapter"}"#, &[1, 2]),
        (1, r#"{"type":8,"data":{"sockets":[]},"uid":"b","nsp":"/","source":"_sio_adapter","requesterUid":"a"}"#, &[0]),
        (0, r#"{"type":8,"uid":"a","nsp":"/","source":"_sio_adapter","requesterUid":"a"}"#, &[]),
        // A name of another app, or of nobody.
        (1, r#"{"type":8,"uid":"b","nsp":"/","source":"_sio_adapter","requesterUid":"d"}"#, &[0, 2]),
        (1, r#"{"type":8,"uid":"b","nsp":"/","source":"_sio_adapter","requesterUid":"x"}"#, &[0, 2]),
        // Any order, blanks, escapes.
        (2, r#"{ "source" : "\u005fsio_adapter", "nsp": "/\"\u00e4", "uid": "c2", "type": 12 }"#, &[0, 1]),
    ]);
}

#[test]
fn adapter_0_2_is_known_by_its_number() {
    let mut bus = two_apps();
    #[rustfmt::skip]
    all_unchanged(&mut bus, &[
        (0, r#"{"type":1,"data":1,"source":"_sio_adapter","nsp":"/"}"#, &[]),
        (1, r#"{"type":1,"data":2,"source":"_sio_adapter","nsp":"/"}"#, &[0]),
        (0, r#"{"type":2,"data":1,"source":"_sio_adapter","nsp":"/"}"#, &[1]),
        (1, r#"{"type":8,"data":{"requestId":"r","workerId":2},"source":"_sio_adapter","nsp":"/"}"#, &[0]),
        (0, r#"{"type":9,"data":{"requestId":"r","workerId":2,"sockets":[]},"source":"_sio_adapter","nsp":"/"}"#, &[1]),
        (0, r#"{"type":11,"data":{"workerId":9},"source":"_sio_adapter","nsp":"/"}"#, &[1]),
        (0, r#"{"type":9,"data":"odd","source":"_sio_adapter","nsp":"/"}"#, &[1]),
    ]);
    let farewell = r#"{"source":"_sio_adapter","type":3,"data":2}"#;
    assert_eq!(parted(&mut bus, 1), [(0, farewell.to_owned())]);
}

#[test]
fn dialects_are_kept_apart() {
    let mut bus = two_apps();
    #[rustfmt::skip]
    all_unchanged(&mut bus, &[
        (0, r#"{"type":1,"data":1,"source":"_sio_adapter","nsp":"/"}"#, &[]),
        (1, r#"{"type":1,"uid":"b","nsp":"/","source":"_sio_adapter"}"#, &[]),
        (2, r#"{"cmd":"NODE_SIDEKEEPER_BROADCAST","type":1,"uid":"c","nsp":"/","source":"_sio_adapter"}"#, &[]),
        // In 0.2 this would disconnect everybody.
        (1, r#"{"type":7,"data":{"requestId":"r"},"uid":"b","nsp":"/","source":"_sio_adapter"}"#, &[]),
        // Two servers in one process.
        (1, r#"{"cmd":"NODE_SIDEKEEPER_BROADCAST","type":1,"uid":"b2","nsp":"/","source":"_sio_adapter"}"#, &[2]),
        (2, r#"{"cmd":"NODE_SIDEKEEPER_BROADCAST","type":3,"uid":"c","nsp":"/","source":"_sio_adapter"}"#, &[1]),
    ]);
    assert_eq!(parted(&mut bus, 0), []);
}

#[test]
fn who_looks_for_a_session_asks_all_that_may_have_it_and_one_answers() {
    let mut bus = two_apps();
    #[rustfmt::skip]
    all_unchanged(&mut bus, &[
        (0, r#"{"cmd":"NODE_SIDEKEEPER_SESSIONS","type":1,"uid":"a","source":"_sio_adapter"}"#, &[]),
        // An adapter of the same app.
        (2, r#"{"cmd":"NODE_SIDEKEEPER_BROADCAST","type":1,"uid":"c","nsp":"/","source":"_sio_adapter"}"#, &[]),
        (1, r#"{"cmd":"NODE_SIDEKEEPER_SESSIONS","type":1,"uid":"b","source":"_sio_adapter"}"#, &[0]),
        (2, r#"{"cmd":"NODE_SIDEKEEPER_SESSIONS","type":1,"uid":"d","source":"_sio_adapter"}"#, &[0, 1]),
        (1, r#"{"cmd":"NODE_SIDEKEEPER_SESSIONS","type":3,"data":{"pid":"p"},"uid":"b","source":"_sio_adapter"}"#, &[0, 2]),
        (0, r#"{"cmd":"NODE_SIDEKEEPER_SESSIONS","type":4,"requesterUid":"b","uid":"a","source":"_sio_adapter"}"#, &[1]),
    ]);
    // In the hook's other words nobody is spoken to.
    assert_eq!(
        said(
            &mut bus,
            0,
            r#"{"cmd":"NODE_SIDEKEEPER_SESSION","source":"_sio_adapter"}"#
        ),
        None
    );
    let farewell = r#"{"cmd":"NODE_SIDEKEEPER_SESSIONS","source":"_sio_adapter","type":13,"uid":"a","nsp":""}"#;
    assert_eq!(
        parted(&mut bus, 0),
        [(1, farewell.to_owned()), (2, farewell.to_owned())]
    );
}

#[test]
fn the_dead_say_farewell_for_every_name_that_they_had() {
    let mut bus = two_apps();
    #[rustfmt::skip]
    all_unchanged(&mut bus, &[
        (0, r#"{"type":1,"uid":"a","nsp":"/","source":"_sio_adapter"}"#, &[]),
        (1, r#"{"type":1,"uid":"b","nsp":"/","source":"_sio_adapter"}"#, &[0]),
        (1, r#"{"type":1,"uid":"b2","nsp":"/\"x","source":"_sio_adapter"}"#, &[0]),
        (1, r#"{"type":1,"uid":"b3","nsp":"/gone","source":"_sio_adapter"}"#, &[0]),
        (1, r#"{"type":13,"uid":"b3","nsp":"/gone","source":"_sio_adapter"}"#, &[0]),
        (2, r#"{"cmd":"NODE_SIDEKEEPER_BROADCAST","type":1,"uid":"c","nsp":"/","source":"_sio_adapter"}"#, &[]),
        (1, r#"{"cmd":"NODE_SIDEKEEPER_BROADCAST","type":1,"uid":"b4","nsp":"/","source":"_sio_adapter"}"#, &[2]),
    ]);
    let expected = [
        (
            0,
            r#"{"source":"_sio_adapter","type":13,"uid":"b","nsp":"/"}"#,
        ),
        (
            0,
            r#"{"source":"_sio_adapter","type":13,"uid":"b2","nsp":"/\"x"}"#,
        ),
        (
            2,
            r#"{"cmd":"NODE_SIDEKEEPER_BROADCAST","source":"_sio_adapter","type":13,"uid":"b4","nsp":"/"}"#,
        ),
    ];
    assert_eq!(
        parted(&mut bus, 1),
        expected.map(|(to, line)| (to, line.to_owned()))
    );
    assert_eq!(parted(&mut bus, 1), [], "only once");
    // An answer to the dead is for nobody in particular, and does no harm.
    let late = r#"{"type":8,"uid":"a","nsp":"/","source":"_sio_adapter","requesterUid":"b"}"#;
    all_unchanged(&mut bus, &[(0, late, &[])]);
}

#[test]
fn engines_find_each_other() {
    let mut bus = two_apps();
    #[rustfmt::skip]
    all_unchanged(&mut bus, &[
        (0, r#"{"requestId":1,"senderId":"aa","type":0,"data":{"sid":"s"},"_source":"_eio"}"#, &[1, 2]),
        (1, r#"{"requestId":1,"senderId":"bb","recipientId":"aa","type":1,"data":{"success":true},"_source":"_eio"}"#, &[0]),
        (0, r#"{"senderId":"aa","recipientId":"bb","type":3,"data":{},"_source":"_eio"}"#, &[1]),
        (0, r#"{"senderId":"aa","recipientId":"cc","type":3,"data":{},"_source":"_eio"}"#, &[1, 2]),
        (3, r#"{"senderId":"dd","recipientId":"aa","type":3,"data":{},"_source":"_eio"}"#, &[4]),
    ]);
    assert_eq!(parted(&mut bus, 1), []);
}

#[test]
fn letters_are_opened_on_the_way() {
    let mut bus = two_apps();
    #[rustfmt::skip]
    let rows: [(u32, &str, &str, &[u32]); 7] = [
        (0, r#"{"sidekeeper":{"to":"siblings","message":{"a": [1, "\u00e4"]}}}"#, r#"{"a": [1, "\u00e4"]}"#, &[1, 2]),
        (4, r#"{"sidekeeper":{"message":"hello","to":"siblings"}}"#, r#""hello""#, &[3]),
        (0, r#"{"sidekeeper":{"to":2,"message":null}}"#, "null", &[2]),
        (0, r#"{"sidekeeper":{"to":0,"message":0}}"#, "0", &[0]),
        (4, r#"{"sidekeeper":{"to":0,"message":true}}"#, "true", &[3]),
        (0, r#"{"sidekeeper":{"to":7,"message":0}}"#, "0", &[]),
        (0, r#"{"sidekeeper":{"to":1,"message":{"cmd":"clear"}}}"#, r#"{"cmd":"clear"}"#, &[1]),
    ];
    for (from, line, text, to) in rows {
        let expected = Some((text.to_owned(), to.to_vec()));
        assert_eq!(said(&mut bus, from, line), expected, "{line}");
    }
}

#[test]
fn everything_else_is_the_apps_own() {
    let mut bus = two_apps();
    let rows = [
        "\"ready\"",
        "",
        "{",
        "[]",
        "{}",
        r#"{"type":"process:msg","data":{"source":"_sio_adapter"}}"#,
        r#"{"source":"_sio_adapters","type":3,"uid":"a","nsp":"/"}"#,
        r#"{"source":"_sio_adapter","type":3,"uid":"a","nsp":"/""#,
        r#"{"source":"_sio_adapter","type":-3,"uid":"a","nsp":"/"}"#,
        r#"{"source":["_sio_adapter"],"type":3}"#,
        r#"{"sidekeeper":"siblings"}"#,
        r#"{"sidekeeper":{"to":"all","message":1}}"#,
        r#"{"sidekeeper":{"to":-1,"message":1}}"#,
        r#"{"sidekeeper":{"to":1.5,"message":1}}"#,
        r#"{"sidekeeper":{"to":"siblings"}}"#,
        r#"{"sidekeeper":{"to":"siblings","message":1,"more":2}}"#,
        r#"{"cmd":"NODE_SIDEKEEPER_STATS","heap":1}"#,
        r#"{"sidekeeper":{"to":"siblings","message":{"cmd":"NODE_SIDEKEEPER_DRAIN"}}}"#,
        r#"{"sidekeeper":{"to":1,"message":{"a":1,"cmd":"\u004eODE_HANDLE_ACK"}}}"#,
    ];
    for line in rows {
        assert_eq!(said(&mut bus, 0, line), None, "{line}");
    }
    assert_eq!(said(&mut bus, 9, r#"{"source":"_sio_adapter"}"#), None);
}
