//! Tables of response heads. Rows are (name, bytes, what must happen) under their RFC section.

use super::*;
use crate::http::head::fields;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 1024,
    head_fields_max: 20,
    target_bytes_max: 0,
};
const GET: Asked = Asked {
    head: false,
    upgrade: false,
};
const HEAD: Asked = Asked {
    head: true,
    upgrade: false,
};
const UPGRADE: Asked = Asked {
    head: false,
    upgrade: true,
};
const STAYS: Delivery = Delivery {
    version: Version::Http11,
    close: false,
    head: false,
    date: None,
};
const CLOSES: Delivery = Delivery {
    close: true,
    ..STAYS
};
const OLD: Delivery = Delivery {
    version: Version::Http10,
    ..STAYS
};

/// Makes a head of lines separated by bars.
fn head_of(lines: &str) -> String {
    format!("{}\r\n\r\n", lines.replace('|', "\r\n"))
}

/// Reads a head that must be acceptable, whole and byte by byte, and hands it on.
fn with<T>(head: &str, asked: Asked, look: impl FnOnce(&Response) -> T) -> T {
    for len in 0..head.len() {
        let mut storage = fields();
        let part = read_response(&head.as_bytes()[..len], &mut storage, &LIMITS, asked);
        assert!(matches!(part, Ok(None)), "{head:?} up to {len}: {part:?}");
    }
    let mut storage = fields();
    match read_response(head.as_bytes(), &mut storage, &LIMITS, asked) {
        Ok(Some(response)) => {
            assert_eq!(response.len, head.len());
            look(&response)
        }
        other => panic!("{head:?}: {other:?}"),
    }
}

fn written(head: &str, asked: Asked, delivery: &Delivery) -> String {
    with(head, asked, |response| {
        let mut out = Vec::new();
        response.write_for_client(&mut out, delivery);
        String::from_utf8_lossy(&out).into_owned()
    })
}

#[rustfmt::skip]
#[test]
fn heads_that_are_refused() {
    for (name, head, fault) in [
        // RFC 9112 4.
        ("not HTTP", &b"ICY 200 OK\r\n\r\n"[..], Fault::StatusLine),
        ("no version", b"200 OK\r\n\r\n", Fault::StatusLine),
        ("lower case", b"http/1.1 200 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/2.0", b"HTTP/2.0 200 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.2", b"HTTP/1.2 200 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/0.9", b"HTTP/0.9 200 OK\r\n\r\n", Fault::StatusLine),
        ("a body at once", b"<html>", Fault::StatusLine),
        ("no status", b"HTTP/1.1\r\n\r\n", Fault::StatusLine),
        ("two digits", b"HTTP/1.1 20 OK\r\n\r\n", Fault::StatusLine),
        ("four digits", b"HTTP/1.1 2000 OK\r\n\r\n", Fault::StatusLine),
        ("letters", b"HTTP/1.1 abc OK\r\n\r\n", Fault::StatusLine),
        ("a sign", b"HTTP/1.1 +20 OK\r\n\r\n", Fault::StatusLine),
        ("two spaces", b"HTTP/1.1  200 OK\r\n\r\n", Fault::StatusLine),
        ("tab", b"HTTP/1.1\t200 OK\r\n\r\n", Fault::StatusLine),
        ("no space", b"HTTP/1.1 200OK\r\n\r\n", Fault::StatusLine),
        ("control in the reason", b"HTTP/1.1 200 O\x01K\r\n\r\n", Fault::Control),
        ("NUL in the reason", b"HTTP/1.1 200 O\0K\r\n\r\n", Fault::Control),
        // RFC 9110 15.
        ("status 099", b"HTTP/1.1 099 OK\r\n\r\n", Fault::Status),
        ("status 600", b"HTTP/1.1 600 OK\r\n\r\n", Fault::Status),
        ("status 999", b"HTTP/1.1 999 OK\r\n\r\n", Fault::Status),
        // RFC 9112 2.2, 5.1, 5.2 and RFC 9110 5.5.
        ("an empty line before", b"\r\nHTTP/1.1 200 OK\r\n\r\n", Fault::StatusLine),
        ("LF", b"HTTP/1.1 200 OK\n\n", Fault::LineEnd),
        ("LF after a field", b"HTTP/1.1 200 OK\r\nA: b\n\r\n", Fault::LineEnd),
        ("CR", b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", Fault::LineEnd),
        ("folding", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Fault::Folding),
        ("blank before the first field", b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n", Fault::Folding),
        ("blank before the colon", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Fault::FieldSyntax),
        ("no colon", b"HTTP/1.1 200 OK\r\nA\r\n\r\n", Fault::FieldSyntax),
        ("no name", b"HTTP/1.1 200 OK\r\n: a\r\n\r\n", Fault::FieldSyntax),
        ("a name that is no token", b"HTTP/1.1 200 OK\r\nA(: b\r\n\r\n", Fault::FieldSyntax),
        ("NUL in a value", b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", Fault::Control),
        ("control in a value", b"HTTP/1.1 200 OK\r\nA: \x1f\r\n\r\n", Fault::Control),
        // RFC 9112 6.1 and 6.3.
        ("length with a sign", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", Fault::ContentLength),
        ("negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", Fault::ContentLength),
        ("empty length", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", Fault::ContentLength),
        ("list of lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", Fault::ContentLength),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Fault::ContentLength),
        ("length twice", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Fault::ContentLength),
        ("endless length", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", Fault::ContentLength),
        ("length that is none", b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n", Fault::ContentLength),
        ("both", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::FramingConflict),
        ("chunks in 1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::TransferEncoding),
        ("gzip", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Fault::TransferEncoding),
        ("gzip first", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Fault::TransferEncoding),
        ("identity", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", Fault::TransferEncoding),
        ("chunked twice", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Fault::TransferEncoding),
        ("unknown coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n", Fault::TransferEncoding),
        ("empty coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n", Fault::TransferEncoding),
        ("an option that is no token", b"HTTP/1.1 200 OK\r\nConnection: a b\r\n\r\n", Fault::Connection),
        // RFC 9110 15.2.2.
        ("101 that nobody asked for", b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", Fault::UnaskedUpgrade),
    ] {
        let mut storage = fields();
        let outcome = read_response(head, &mut storage, &LIMITS, GET);
        assert_eq!(outcome.map(|_| ()), Err(fault), "{name}");
        assert!(!fault.reason().is_empty());
        // The framing of an answer without a body is checked all the same.
        let outcome = read_response(head, &mut storage, &LIMITS, HEAD);
        assert_eq!(outcome.map(|_| ()), Err(fault), "{name}, HEAD");
    }
}

/// RFC 6455 4.1.
#[rustfmt::skip]
#[test]
fn upgrades() {
    for (name, lines, fault) in [
        ("proper", "HTTP/1.1 101 X|Connection: Upgrade|Upgrade: websocket", None),
        ("any case", "HTTP/1.1 101 X|connection: x, UPGRADE|upgrade: WebSocket", None),
        ("no Connection", "HTTP/1.1 101 X|Upgrade: websocket", Some(Fault::WrongUpgrade)),
        ("no Upgrade", "HTTP/1.1 101 X|Connection: upgrade", Some(Fault::WrongUpgrade)),
        ("bare", "HTTP/1.1 101 X", Some(Fault::WrongUpgrade)),
        ("another protocol", "HTTP/1.1 101 X|Connection: upgrade|Upgrade: h2c", Some(Fault::WrongUpgrade)),
        ("two protocols", "HTTP/1.1 101 X|Connection: upgrade|Upgrade: websocket, h2c", Some(Fault::WrongUpgrade)),
        ("in 1.0", "HTTP/1.0 101 X|Connection: upgrade|Upgrade: websocket", Some(Fault::WrongUpgrade)),
        ("accept withheld", "HTTP/1.1 101 X|Connection: upgrade, Sec-WebSocket-Accept|Upgrade: websocket|Sec-WebSocket-Accept: x", Some(Fault::WrongUpgrade)),
    ] {
        let head = head_of(lines);
        let mut storage = fields();
        let outcome = read_response(head.as_bytes(), &mut storage, &LIMITS, UPGRADE);
        assert_eq!(outcome.map(|_| ()).err(), fault, "{name}");
    }
    let head = head_of(
        "HTTP/1.1 101 Switching Protocols|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Accept: x|Sec-WebSocket-Protocol: y",
    );
    let sent = "HTTP/1.1 101 Switching Protocols|Sec-WebSocket-Accept: x|Sec-WebSocket-Protocol: y|Via: 1.1 sidekeeper|Connection: Upgrade|Upgrade: websocket";
    assert_eq!(written(&head, UPGRADE, &CLOSES), head_of(sent));
    // A refused upgrade is an ordinary answer.
    let head = head_of("HTTP/1.1 400 X|Content-Length: 0");
    with(&head, UPGRADE, |response| {
        assert_eq!(response.framing, Framing::Length(0))
    });
}

/// RFC 9112 6.3 and 9.3.
#[rustfmt::skip]
#[test]
fn framings() {
    let rows = [
        ("a length", "HTTP/1.1 200 OK|Content-Length: 5", GET, Framing::Length(5), true),
        ("zero", "HTTP/1.1 200 OK|Content-Length: 0", GET, Framing::Length(0), true),
        ("chunks", "HTTP/1.1 200 OK|Transfer-Encoding: Chunked", GET, Framing::Chunked, true),
        ("nothing", "HTTP/1.1 200 OK", GET, Framing::UntilClose, false),
        ("an error", "HTTP/1.1 500 X|Content-Length: 5", GET, Framing::Length(5), true),
        ("closing", "HTTP/1.1 200 OK|Content-Length: 5|Connection: close", GET, Framing::Length(5), false),
        ("1.0", "HTTP/1.0 200 OK|Content-Length: 5", GET, Framing::Length(5), false),
        ("1.0 kept alive", "HTTP/1.0 200 OK|Content-Length: 5|Connection: keep-alive", GET, Framing::Length(5), true),
        ("1.0 until the close", "HTTP/1.0 200 OK|Connection: keep-alive", GET, Framing::UntilClose, false),
        ("HEAD", "HTTP/1.1 200 OK|Content-Length: 5", HEAD, Framing::Empty, true),
        ("HEAD of chunks", "HTTP/1.1 200 OK|Transfer-Encoding: chunked", HEAD, Framing::Empty, true),
        ("HEAD of nothing", "HTTP/1.1 200 OK", HEAD, Framing::Empty, true),
        ("204", "HTTP/1.1 204 X", GET, Framing::Empty, true),
        ("204 with zero", "HTTP/1.1 204 X|Content-Length: 0", GET, Framing::Empty, true),
        ("204 with a length", "HTTP/1.1 204 X|Content-Length: 5", GET, Framing::Empty, false),
        ("204 with chunks", "HTTP/1.1 204 X|Transfer-Encoding: chunked", GET, Framing::Empty, false),
        ("304", "HTTP/1.1 304 X|Content-Length: 5", GET, Framing::Empty, true),
        ("304 with chunks", "HTTP/1.1 304 X|Transfer-Encoding: chunked", GET, Framing::Empty, true),
        ("100", "HTTP/1.1 100 X", GET, Framing::Empty, true),
        ("103", "HTTP/1.1 103 X|Link: a", GET, Framing::Empty, true),
        ("100 with a length", "HTTP/1.1 100 X|Content-Length: 5", GET, Framing::Empty, false),
    ];
    for (name, lines, asked, framing, persistent) in rows {
        with(&head_of(lines), asked, |response| {
            assert_eq!((response.framing, response.persistent), (framing, persistent), "{name}");
        });
    }
}

#[rustfmt::skip]
#[test]
fn what_the_client_gets() {
    let rows = [
        ("a length", GET, STAYS, "HTTP/1.1 200 OK|content-LENGTH: 05|A: b", "HTTP/1.1 200 OK|A: b|Content-Length: 5|Via: 1.1 sidekeeper"),
        ("chunks", GET, STAYS, "HTTP/1.1 200 OK|transfer-encoding: CHUNKED|A: b", "HTTP/1.1 200 OK|A: b|Transfer-Encoding: chunked|Via: 1.1 sidekeeper"),
        ("chunks to 1.0", GET, OLD, "HTTP/1.1 200 OK|Transfer-Encoding: chunked", "HTTP/1.1 200 OK|Via: 1.1 sidekeeper|Connection: close"),
        ("until the close", GET, STAYS, "HTTP/1.1 200 OK", "HTTP/1.1 200 OK|Via: 1.1 sidekeeper|Connection: close"),
        ("until the close to 1.0", GET, OLD, "HTTP/1.0 200 OK", "HTTP/1.1 200 OK|Via: 1.0 sidekeeper|Connection: close"),
        ("kept open for 1.0", GET, OLD, "HTTP/1.1 200 OK|Content-Length: 5", "HTTP/1.1 200 OK|Content-Length: 5|Via: 1.1 sidekeeper|Connection: keep-alive"),
        ("closed", GET, CLOSES, "HTTP/1.1 200 OK|Content-Length: 5", "HTTP/1.1 200 OK|Content-Length: 5|Via: 1.1 sidekeeper|Connection: close"),
        ("the worker closes, we do not", GET, STAYS, "HTTP/1.1 200 OK|Content-Length: 5|Connection: close", "HTTP/1.1 200 OK|Content-Length: 5|Via: 1.1 sidekeeper"),
        // RFC 9110 8.6 and 15.3.5.
        ("HEAD", HEAD, Delivery { head: true, ..STAYS }, "HTTP/1.1 200 OK|Content-Length: 5", "HTTP/1.1 200 OK|Content-Length: 5|Via: 1.1 sidekeeper"),
        ("HEAD of nothing", HEAD, Delivery { head: true, ..STAYS }, "HTTP/1.1 200 OK", "HTTP/1.1 200 OK|Via: 1.1 sidekeeper"),
        ("HEAD of chunks", HEAD, Delivery { head: true, ..STAYS }, "HTTP/1.1 200 OK|Transfer-Encoding: chunked", "HTTP/1.1 200 OK|Via: 1.1 sidekeeper"),
        ("304", GET, STAYS, "HTTP/1.1 304 Not Modified|Content-Length: 5|ETag: x", "HTTP/1.1 304 Not Modified|ETag: x|Content-Length: 5|Via: 1.1 sidekeeper"),
        ("204", GET, STAYS, "HTTP/1.1 204 No Content|Content-Length: 0", "HTTP/1.1 204 No Content|Via: 1.1 sidekeeper"),
        ("204 with chunks", GET, STAYS, "HTTP/1.1 204 X|Transfer-Encoding: chunked", "HTTP/1.1 204 X|Via: 1.1 sidekeeper"),
        // RFC 9110 15.2: interim answers say nothing about the connection.
        ("100", GET, CLOSES, "HTTP/1.1 100 Continue|Content-Length: 0", "HTTP/1.1 100 Continue|Via: 1.1 sidekeeper"),
        ("103", GET, CLOSES, "HTTP/1.1 103 Early Hints|Link: </a>|Connection: x|X: y", "HTTP/1.1 103 Early Hints|Link: </a>|Via: 1.1 sidekeeper"),
        // RFC 9110 7.6.1.
        ("hop-by-hop", GET, STAYS, "HTTP/1.1 200 OK|Content-Length: 0|Connection: keep-alive, A|Keep-Alive: timeout=5|Proxy-Connection: x|TE: x|Trailer: x|Upgrade: h2c|Proxy-Authenticate: x|Proxy-Authentication-Info: x|A: b|C: d", "HTTP/1.1 200 OK|C: d|Content-Length: 0|Via: 1.1 sidekeeper"),
        ("named: the framing", GET, STAYS, "HTTP/1.1 200 OK|Content-Length: 5|Connection: content-length, via", "HTTP/1.1 200 OK|Content-Length: 5|Via: 1.1 sidekeeper"),
        ("fields kept", GET, STAYS, "HTTP/1.1 200 OK|Set-Cookie: a|Date: x|set-cookie: b|Host: x|Expect: x|Via: 1.1 w|Content-Length: 0", "HTTP/1.1 200 OK|Set-Cookie: a|Date: x|set-cookie: b|Host: x|Expect: x|Via: 1.1 w|Content-Length: 0|Via: 1.1 sidekeeper"),
        // RFC 9112 4: the reason may be empty; our version.
        ("no reason", GET, STAYS, "HTTP/1.1 200 |Content-Length: 0", "HTTP/1.1 200 |Content-Length: 0|Via: 1.1 sidekeeper"),
        ("no reason and no space", GET, STAYS, "HTTP/1.1 200|Content-Length: 0", "HTTP/1.1 200 |Content-Length: 0|Via: 1.1 sidekeeper"),
        ("a long reason", GET, STAYS, "HTTP/1.0 200 It is\tall right|Content-Length: 0", "HTTP/1.1 200 It is\tall right|Content-Length: 0|Via: 1.0 sidekeeper"),
        ("a reason above ASCII", GET, STAYS, "HTTP/1.1 200 \u{e9}|Content-Length: 0", "HTTP/1.1 200 |Content-Length: 0|Via: 1.1 sidekeeper"),
        // RFC 9110 15.5.22.
        ("426", GET, STAYS, "HTTP/1.1 426 X|Upgrade: websocket|Connection: upgrade|Content-Length: 0", "HTTP/1.1 426 X|Content-Length: 0|Via: 1.1 sidekeeper|Connection: Upgrade|Upgrade: websocket"),
        ("426 closing", GET, CLOSES, "HTTP/1.1 426 X|Upgrade: websocket|Content-Length: 0", "HTTP/1.1 426 X|Content-Length: 0|Via: 1.1 sidekeeper|Connection: close, Upgrade|Upgrade: websocket"),
        ("426 for something else", GET, STAYS, "HTTP/1.1 426 X|Upgrade: h2c|Content-Length: 0", "HTTP/1.1 426 X|Content-Length: 0|Via: 1.1 sidekeeper"),
    ];
    for (name, asked, delivery, sent, wanted) in rows {
        assert_eq!(written(&head_of(sent), asked, &delivery), head_of(wanted), "{name}");
    }
    // RFC 9110 15.2: HTTP/1.0 knows no interim answers.
    assert_eq!(written(&head_of("HTTP/1.1 100 Continue"), GET, &OLD), "");
}

/// RFC 9110 6.6.1.
#[rustfmt::skip]
#[test]
fn dates() {
    let dated = Delivery {
        date: Some(Date::from_unix_secs(784_111_777)),
        ..STAYS
    };
    let date = "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (lines, added) in [
        ("HTTP/1.1 200 OK|Content-Length: 0", true),
        ("HTTP/1.1 200 OK|date: x|Content-Length: 0", false),
        ("HTTP/1.1 200 OK|Date: x|Connection: date|Content-Length: 0", true),
        ("HTTP/1.1 100 Continue", false),
    ] {
        assert_eq!(
            written(&head_of(lines), GET, &dated).contains(date),
            added,
            "{lines}"
        );
    }
}

#[rustfmt::skip]
#[test]
fn encodings() {
    for (lines, new, old) in [
        ("HTTP/1.1 200 OK|Content-Length: 5", Framing::Length(5), Framing::Length(5)),
        ("HTTP/1.1 200 OK|Transfer-Encoding: chunked", Framing::Chunked, Framing::UntilClose),
        ("HTTP/1.1 200 OK", Framing::UntilClose, Framing::UntilClose),
        ("HTTP/1.1 304 X", Framing::Empty, Framing::Empty),
    ] {
        with(&head_of(lines), GET, |response| {
            assert_eq!(response.encoding(Version::Http11), new, "{lines}");
            assert_eq!(response.encoding(Version::Http10), old, "{lines}");
            assert_eq!(
                response.ends_connection(Version::Http10),
                old == Framing::UntilClose
            );
        });
    }
}

#[test]
fn limits_and_what_comes_behind() {
    let fault = |head: &str| {
        let mut storage = fields();
        read_response(head.as_bytes(), &mut storage, &LIMITS, GET).map(|_| ())
    };
    let fields_of = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(fault(&fields_of(20)), Ok(()));
    assert_eq!(fault(&fields_of(21)), Err(Fault::TooManyFields));
    let long = |pad| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(pad));
    assert_eq!(fault(&long(1024 - 24)), Ok(()));
    assert_eq!(fault(&long(1024 - 23)), Err(Fault::HeadTooLarge));
    assert_eq!(
        fault(&"HTTP/1.1 200 OKOKOK".repeat(60)),
        Err(Fault::HeadTooLarge)
    );
    let mut storage = super::super::head::fields();
    let bytes = b"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let first = read_response(bytes, &mut storage, &LIMITS, GET);
    assert_eq!(first.ok().flatten().map(|response| response.len), Some(18));
}
