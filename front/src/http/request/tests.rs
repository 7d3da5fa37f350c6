//! Tables of request heads. Rows are (name, bytes, what must happen) under their RFC section; each
//! head is also fed byte by byte.

use super::*;
use crate::http::head::fields;

mod forwarded;
mod refused;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 1024,
    head_fields_max: 20,
    target_bytes_max: 200,
};

/// What became of a head, and how many of its bytes were enough to know.
fn fed_byte_by_byte(head: &[u8]) -> (usize, Result<(), Refusal>) {
    for len in 0..=head.len() {
        let mut storage = fields();
        match read_request(&head[..len], &mut storage, &LIMITS) {
            Ok(None) => {}
            Ok(Some(request)) => {
                assert_eq!(request.len, len, "a head ends with its last byte");
                return (len, Ok(()));
            }
            Err(refusal) => return (len, Err(refusal)),
        }
    }
    panic!(
        "neither accepted nor refused: {:?}",
        head.escape_ascii().to_string()
    );
}

/// Reads a head that must be acceptable and hands it on.
fn with<T>(head: &[u8], look: impl FnOnce(&Request) -> T) -> T {
    let mut storage = fields();
    match read_request(head, &mut storage, &LIMITS) {
        Ok(Some(request)) => look(&request),
        other => panic!("{}: {other:?}", head.escape_ascii()),
    }
}

fn written(head: &[u8], from: &ClientSide) -> String {
    with(head, |request| {
        let mut out = Vec::new();
        request.write_for_worker(&mut out, from, b"");
        String::from_utf8_lossy(&out).into_owned()
    })
}

#[test]
fn every_refusal_has_a_status_and_a_reason() {
    for (refusal, status) in [
        (Refusal::LineEnd, 400),
        (Refusal::TargetTooLong, 414),
        (Refusal::Expectation, 417),
        (Refusal::HeadTooLarge, 431),
        (Refusal::TooManyFields, 431),
        (Refusal::Connect, 501),
        (Refusal::MethodTooLong, 501),
        (Refusal::TransferCoding, 501),
        (Refusal::Version, 505),
    ] {
        assert_eq!(refusal.status(), status);
        assert!(!refusal.reason().is_empty());
    }
}

#[test]
fn cookies_are_parsed_and_not_searched() {
    let head = b"GET / HTTP/1.1\r\nHost: h\r\nCookie: a=1; connect.sid=s%3Ax ;b\r\ncookie: sid=2;a=3;q=\"v\"; \xff=1; e=\r\n\r\n";
    for (name, value) in [
        ("a", Some("1")),
        ("connect.sid", Some("s%3Ax")),
        ("sid", Some("2")),
        ("q", Some("\"v\"")),
        ("e", Some("")),
        ("A", None),
        ("b", None),
        ("id", None),
        ("", None),
    ] {
        with(head, |request| {
            assert_eq!(request.cookie(name), value, "{name}")
        });
    }
}

#[test]
fn queries_are_parsed_and_not_searched() {
    let head = b"GET /sid=p?xsid=1&sid=2&sid=3&t&=4&EIO=4=5& HTTP/1.1\r\nHost: h\r\nReferer: /?ref=1\r\n\r\n";
    for (key, value) in [
        ("sid", Some("2")),
        ("xsid", Some("1")),
        ("t", Some("")),
        ("EIO", Some("4=5")),
        ("ref", None),
        ("SID", None),
        ("id", None),
    ] {
        with(head, |request| {
            assert_eq!(request.query_value(key), value, "{key}")
        });
    }
    with(b"GET /?? HTTP/1.1\r\nHost: h\r\n\r\n", |request| {
        assert_eq!((request.path, request.query), ("/", Some("?")));
    });
}

#[test]
fn what_may_be_sent_again() {
    for (start, again) in [
        ("GET / HTTP/1.1", true),
        ("HEAD / HTTP/1.1", true),
        ("OPTIONS * HTTP/1.1", true),
        ("TRACE / HTTP/1.1", true),
        ("GET / HTTP/1.1\r\nContent-Length: 0", true),
        ("GET / HTTP/1.1\r\nContent-Length: 1", false),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked", false),
        ("POST / HTTP/1.1", false),
        ("PUT / HTTP/1.1", false),
        ("DELETE / HTTP/1.1", false),
        ("PATCH / HTTP/1.1", false),
        ("get / HTTP/1.1", false),
    ] {
        let head = format!("{start}\r\nHost: h\r\n\r\n");
        with(head.as_bytes(), |request| {
            assert_eq!(request.is_idempotent_and_bodyless(), again, "{start}");
        });
    }
}

/// RFC 9112 9.3.
#[rustfmt::skip]
#[test]
fn who_wants_to_stay() {
    for (head, persistent) in [
        (&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..], true),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Close\r\n\r\n", false),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: x\r\nConnection: CLOSE\r\n\r\n", false),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: closed\r\n\r\n", true),
        (b"GET / HTTP/1.0\r\n\r\n", false),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false),
    ] {
        with(head, |request| {
            assert_eq!(request.persistent, persistent, "{}", head.escape_ascii());
        });
    }
}

/// RFC 9110 7.8, RFC 6455 4.1 and 4.2.1.
#[rustfmt::skip]
#[test]
fn only_websocket_upgrades_are_upgrades() {
    for (name, start, fields, websocket) in [
        ("plain", "GET / HTTP/1.1", "Connection: Upgrade|Upgrade: websocket", true),
        ("any case", "GET / HTTP/1.1", "connection: keep-alive, upgrade|UPGRADE: WebSocket", true),
        ("one of several", "GET / HTTP/1.1", "Connection: upgrade|Upgrade: h2c, websocket", true),
        ("two fields", "GET / HTTP/1.1", "Connection: upgrade|Upgrade: h2c|Upgrade: websocket", true),
        ("empty body", "GET / HTTP/1.1", "Connection: upgrade|Upgrade: websocket|Content-Length: 0", true),
        ("1.0", "GET / HTTP/1.0", "Connection: Upgrade|Upgrade: websocket", false),
        ("POST", "POST / HTTP/1.1", "Connection: Upgrade|Upgrade: websocket", false),
        ("HEAD", "HEAD / HTTP/1.1", "Connection: Upgrade|Upgrade: websocket", false),
        ("no Connection", "GET / HTTP/1.1", "Upgrade: websocket", false),
        ("Connection without it", "GET / HTTP/1.1", "Connection: close|Upgrade: websocket", false),
        ("no Upgrade", "GET / HTTP/1.1", "Connection: upgrade", false),
        ("h2c", "GET / HTTP/1.1", "Connection: upgrade, http2-settings|Upgrade: h2c|HTTP2-Settings: AA", false),
        ("a version", "GET / HTTP/1.1", "Connection: upgrade|Upgrade: websocket/13", false),
        ("another word", "GET / HTTP/1.1", "Connection: upgrade|Upgrade: websockets", false),
        ("a body", "GET / HTTP/1.1", "Connection: upgrade|Upgrade: websocket|Content-Length: 1", false),
        ("chunks", "GET / HTTP/1.1", "Connection: upgrade|Upgrade: websocket|Transfer-Encoding: chunked", false),
        ("key withheld", "GET / HTTP/1.1", "Connection: upgrade, sec-websocket-key|Upgrade: websocket|Sec-WebSocket-Key: x", false),
    ] {
        let head = format!(
            "{start}\r\nHost: h\r\n{}\r\n\r\n",
            fields.replace('|', "\r\n")
        );
        with(head.as_bytes(), |request| {
            assert_eq!(request.websocket, websocket, "{name}")
        });
        let from = ClientSide::direct(None);
        let sent = written(head.as_bytes(), &from);
        assert_eq!(
            sent.contains("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"),
            websocket,
            "{name}"
        );
        assert_eq!(
            sent.to_ascii_lowercase().matches("upgrade:").count(),
            usize::from(websocket),
            "{name}"
        );
    }
}

/// RFC 9110 10.1.1.
#[rustfmt::skip]
#[test]
fn who_waits_for_a_100() {
    for (name, head, waits) in [
        ("1.1", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n", true),
        ("chunks", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n", true),
        ("no body", "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n", false),
        ("1.0", "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", false),
        ("empty list", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: ,\r\n\r\n", false),
    ] {
        with(head.as_bytes(), |request| {
            assert_eq!(request.expects_continue, waits, "{name}")
        });
        let from = ClientSide::direct(None);
        assert_eq!(
            written(head.as_bytes(), &from).contains("Expect"),
            waits,
            "{name}"
        );
    }
}

/// RFC 9110 7.6.2.
#[rustfmt::skip]
#[test]
fn forwards_are_counted() {
    for (start, ends_here, sent) in [
        ("OPTIONS * HTTP/1.1\r\nMax-Forwards: 0", true, "Max-Forwards: 0"),
        ("TRACE / HTTP/1.1\r\nMax-Forwards: 0", true, "Max-Forwards: 0"),
        ("OPTIONS * HTTP/1.1\r\nMax-Forwards: 10", false, "Max-Forwards: 9"),
        ("TRACE / HTTP/1.1\r\nMax-Forwards: 1", false, "Max-Forwards: 0"),
        ("GET / HTTP/1.1\r\nMax-Forwards: 0", false, "Max-Forwards: 0"),
        ("GET / HTTP/1.1\r\nMax-Forwards: x", false, "Max-Forwards: x"),
    ] {
        let head = format!("{start}\r\nHost: h\r\n\r\n");
        with(head.as_bytes(), |request| {
            assert_eq!(request.ends_here, ends_here, "{start}")
        });
        let from = ClientSide::direct(None);
        let line = format!("\r\n{sent}\r\n");
        assert!(written(head.as_bytes(), &from).contains(&line), "{start}");
    }
}

#[rustfmt::skip]
#[test]
fn workers_learn_who_the_client_is() {
    for (address, forwarded, client) in [
        ("192.0.2.1:50000", "192.0.2.1", "192.0.2.1 50000"),
        ("[2001:db8::1]:1", "2001:db8::1", "2001:db8::1 1"),
        ("[::ffff:10.0.0.255]:65535", "10.0.0.255", "10.0.0.255 65535"),
    ] {
        let head = b"GET / HTTP/1.1\r\nHost: h:1\r\nA: b\r\n\r\n";
        let from = ClientSide::direct(Some(address.parse().expect("an address")));
        assert_eq!(
            written(head, &from),
            format!(
                "GET / HTTP/1.1\r\nHost: h:1\r\nA: b\r\nX-Forwarded-For: {forwarded}\r\nX-Forwarded-Proto: http\r\n\
                     X-Forwarded-Host: h:1\r\nVia: 1.1 sidekeeper\r\nX-Sidekeeper-Client: {client}\r\n\r\n"
            )
        );
    }
}

#[test]
fn what_a_trusted_proxy_says_goes_on_and_is_added_to() {
    let peer = "10.0.0.1:9".parse().expect("an address");
    let trusted = ClientSide {
        client: Some("203.0.113.9:0".parse().expect("an address")),
        secure: true,
        trusted: true,
        ..ClientSide::direct(Some(peer))
    };
    let said = "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\nX-Forwarded-For:\r\n\
        X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\nX-Sidekeeper-Client: 6.6.6.6 1\r\n";
    let table = [
        (
            said,
            trusted,
            "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.1\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n",
            "203.0.113.9 0",
        ),
        (
            "",
            trusted,
            "X-Forwarded-For: 10.0.0.1\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\n",
            "203.0.113.9 0",
        ),
        // A proxy on a Unix socket has no address to add.
        (
            said,
            ClientSide {
                peer: None,
                ..trusted
            },
            "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n",
            "203.0.113.9 0",
        ),
        (
            said,
            ClientSide::direct(Some(peer)),
            "X-Forwarded-For: 10.0.0.1\r\n\
             X-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n",
            "10.0.0.1 9",
        ),
    ];
    for (said, from, lines, client) in table {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{said}\r\n");
        assert_eq!(
            written(head.as_bytes(), &from),
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\n{lines}Via: 1.1 sidekeeper\r\nX-Sidekeeper-Client: {client}\r\n\r\n"
            )
        );
    }
}
