//! Heads that are served, and what the worker gets of them.

use super::*;

/// (name, what the client sends, what the worker gets), lines separated by bars. What every
/// request gets from us is left out of the last column.
type Row = (&'static str, &'static str, &'static str);

fn check(rows: &[Row]) {
    for (name, sent, wanted) in rows {
        let head = format!("{}\r\n\r\n", sent.replace('|', "\r\n"));
        assert_eq!(
            fed_byte_by_byte(head.as_bytes()),
            (head.len(), Ok(())),
            "{name}"
        );
        let from = ClientSide::direct(None);
        let got = written(head.as_bytes(), &from);
        let (lines, end) = got.split_at(got.len() - 4);
        assert_eq!(end, "\r\n\r\n", "{name}");
        let ours = |line: &&str| {
            ![
                "X-Forwarded-Proto: http",
                "Via: 1.1 sidekeeper",
                "Via: 1.0 sidekeeper",
            ]
            .contains(line)
                && !line.starts_with("X-Forwarded-Host: ")
        };
        let lines: Vec<&str> = lines.split("\r\n").filter(ours).collect();
        assert_eq!(lines.join("|"), *wanted, "{name}");
        read_again(&head, &got);
    }
}

/// What the worker gets reads as the request that was decided on.
fn read_again(sent: &str, got: &str) {
    with(sent.as_bytes(), |before| {
        with(got.as_bytes(), |after| {
            assert_eq!(after.len, got.len());
            assert_eq!(after.method, before.method);
            assert_eq!((after.path, after.query), (before.path, before.query));
            assert_eq!(after.framing, before.framing);
            assert_eq!(after.websocket, before.websocket);
            assert_eq!(after.expects_continue, before.expects_continue);
            assert_eq!(after.version, Version::Http11);
            assert!(after.persistent);
            if !before.host.is_empty() {
                assert_eq!(after.host, before.host);
            }
        });
    });
}

#[rustfmt::skip]
#[test]
fn requests() {
    check(&[
        ("plain", "GET / HTTP/1.1|Host: h", "GET / HTTP/1.1|Host: h"),
        // RFC 9110 5.3 and 5.1: order and case are kept.
        ("fields", "GET /a?b HTTP/1.1|accept: x|HOST: h:80|X-a: 1|x-A: 2", "GET /a?b HTTP/1.1|Host: h:80|accept: x|X-a: 1|x-A: 2"),
        // RFC 9112 5.1: blanks around a value are not part of it.
        ("blanks", "GET / HTTP/1.1|Host:h|A:\t b \t |B:|C:  ", "GET / HTTP/1.1|Host: h|A: b|B: |C: "),
        ("a tab within", "GET / HTTP/1.1|Host: h|A: b\tc", "GET / HTTP/1.1|Host: h|A: b\tc"),
        // RFC 9110 5.6.2: all of these are token characters.
        ("a strange name", "GET / HTTP/1.1|Host: h|a_!#$%&'*+-.^`~9: b", "GET / HTTP/1.1|Host: h|a_!#$%&'*+-.^`~9: b"),
        ("UTF-8 in a value", "GET / HTTP/1.1|Host: h|A: \u{e9}", "GET / HTTP/1.1|Host: h|A: \u{e9}"),
        ("an unknown method", "M-SEARCH / HTTP/1.1|Host: h", "M-SEARCH / HTTP/1.1|Host: h"),
        ("a method in lower case", "get / HTTP/1.1|Host: h", "get / HTTP/1.1|Host: h"),
        ("the longest method", "AAAAAAAAAABBBBBBBBBBCCCCCCCCCCDD / HTTP/1.1|Host: h", "AAAAAAAAAABBBBBBBBBBCCCCCCCCCCDD / HTTP/1.1|Host: h"),
        // RFC 9112 3.2.
        ("asterisk", "OPTIONS * HTTP/1.1|Host: h", "OPTIONS * HTTP/1.1|Host: h"),
        ("absolute-form", "GET http://h/a?b HTTP/1.1|Host: h", "GET /a?b HTTP/1.1|Host: h"),
        ("absolute-form, another Host", "GET http://h:8/ HTTP/1.1|Host: i", "GET / HTTP/1.1|Host: h:8"),
        ("absolute-form without a path", "GET http://h HTTP/1.1|Host: h", "GET / HTTP/1.1|Host: h"),
        ("absolute-form without a path but a query", "GET http://h?a HTTP/1.1|Host: h", "GET /?a HTTP/1.1|Host: h"),
        ("absolute-form for the server", "OPTIONS http://h HTTP/1.1|Host: h", "OPTIONS * HTTP/1.1|Host: h"),
        ("absolute-form in 1.0", "GET http://h/ HTTP/1.0", "GET / HTTP/1.1|Host: h"),
        ("an empty query", "GET /? HTTP/1.1|Host: h", "GET /? HTTP/1.1|Host: h"),
        ("an IPv6 host", "GET / HTTP/1.1|Host: [::1]:80", "GET / HTTP/1.1|Host: [::1]:80"),
        // RFC 9112 3.2, 3.3: somebody has to name a host.
        ("1.0 without Host", "GET / HTTP/1.0", "GET / HTTP/1.1|Host: localhost"),
        ("1.0 with Host", "GET / HTTP/1.0|Host: h", "GET / HTTP/1.1|Host: h"),
    ]);
}

/// RFC 9112 6.
#[rustfmt::skip]
#[test]
fn framings() {
    check(&[
        ("a length", "POST / HTTP/1.1|Host: h|CONTENT-length: 5|A: b", "POST / HTTP/1.1|Host: h|A: b|Content-Length: 5"),
        ("zeros before", "POST / HTTP/1.1|Host: h|Content-Length: 005", "POST / HTTP/1.1|Host: h|Content-Length: 5"),
        ("blanks around", "POST / HTTP/1.1|Host: h|Content-Length:\t 5 \t", "POST / HTTP/1.1|Host: h|Content-Length: 5"),
        ("zero", "POST / HTTP/1.1|Host: h|Content-Length: 0", "POST / HTTP/1.1|Host: h|Content-Length: 0"),
        ("the largest", "POST / HTTP/1.1|Host: h|Content-Length: 9223372036854775807", "POST / HTTP/1.1|Host: h|Content-Length: 9223372036854775807"),
        ("a length in 1.0", "POST / HTTP/1.0|Host: h|Content-Length: 5", "POST / HTTP/1.1|Host: h|Content-Length: 5"),
        ("none", "POST / HTTP/1.1|Host: h", "POST / HTTP/1.1|Host: h"),
        ("chunks", "POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked", "POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked"),
        ("chunks, any case", "POST / HTTP/1.1|Host: h|transfer-ENCODING:\tChunKed ", "POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked"),
        ("chunks of a GET", "GET / HTTP/1.1|Host: h|Transfer-Encoding: chunked", "GET / HTTP/1.1|Host: h|Transfer-Encoding: chunked"),
        // A worker may read these names as the real ones only if it is broken; they are no framing.
        ("alike names", "POST / HTTP/1.1|Host: h|Content_Length: 5|X-Transfer-Encoding: chunked", "POST / HTTP/1.1|Host: h|Content_Length: 5|X-Transfer-Encoding: chunked"),
    ]);
}

/// RFC 9110 7.6.1.
#[rustfmt::skip]
#[test]
fn what_ends_here() {
    check(&[
        ("hop-by-hop", "GET / HTTP/1.1|Host: h|Connection: keep-alive|Keep-Alive: 5|Proxy-Connection: x|TE: trailers|Trailer: A|Upgrade: h2c|Proxy-Authorization: x|Proxy-Authenticate: x|HTTP2-Settings: x|A: b", "GET / HTTP/1.1|Host: h|A: b"),
        ("any case", "GET / HTTP/1.1|Host: h|CONNECTION: CLOSE|keep-ALIVE: 5|te: trailers", "GET / HTTP/1.1|Host: h"),
        ("named", "GET / HTTP/1.1|Host: h|A: 1|Connection: a, c|B: 2|C: 3|c: 4", "GET / HTTP/1.1|Host: h|B: 2"),
        ("named before and after", "GET / HTTP/1.1|Host: h|Connection: B|A: 1|B: 2|Connection: A|C: 3", "GET / HTTP/1.1|Host: h|C: 3"),
        ("named with empty members", "GET / HTTP/1.1|Host: h|Connection: , a ,,\tb,|A: 1|B: 2|C: 3", "GET / HTTP/1.1|Host: h|C: 3"),
        ("named, absent", "GET / HTTP/1.1|Host: h|Connection: x|A: 1", "GET / HTTP/1.1|Host: h|A: 1"),
        ("an empty Connection", "GET / HTTP/1.1|Host: h|Connection:|A: 1", "GET / HTTP/1.1|Host: h|A: 1"),
        ("32 options", "GET / HTTP/1.1|Host: h|Connection: a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a|Connection: a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,b|A: 1|B: 2", "GET / HTTP/1.1|Host: h"),
        // What frames and routes the message is written anew and cannot be named away.
        ("named: Host", "GET / HTTP/1.1|Host: h|Connection: host", "GET / HTTP/1.1|Host: h"),
        ("named: length", "POST / HTTP/1.1|Host: h|Connection: content-length|Content-Length: 5", "POST / HTTP/1.1|Host: h|Content-Length: 5"),
        ("named: chunks", "POST / HTTP/1.1|Host: h|Connection: transfer-encoding|Transfer-Encoding: chunked", "POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked"),
        ("named: ours", "GET / HTTP/1.1|Host: h|Connection: x-forwarded-proto, x-forwarded-host, via, x-sidekeeper-client", "GET / HTTP/1.1|Host: h"),
        ("named: expect", "POST / HTTP/1.1|Host: h|Connection: expect|Expect: 100-continue|Content-Length: 1", "POST / HTTP/1.1|Host: h|Content-Length: 1|Expect: 100-continue"),
        // Trailers do not travel, so an announcement would be a lie.
        ("trailer", "POST / HTTP/1.1|Host: h|Trailer: A|Transfer-Encoding: chunked", "POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked"),
    ]);
}

#[rustfmt::skip]
#[test]
fn what_is_not_believed() {
    check(&[
        ("forged", "GET / HTTP/1.1|Host: h|X-Forwarded-For: 1|X-Forwarded-Proto: https|X-Forwarded-Host: i|X-Forwarded-Port: 1|X-Real-IP: 1|Forwarded: for=1|X-Sidekeeper-Client: 1 1|X-Sidekeeper-Any: 1|A: b", "GET / HTTP/1.1|Host: h|A: b"),
        ("forged with underscores", "GET / HTTP/1.1|Host: h|X_Forwarded_For: 1|x_real_ip: 1|X_SIDEKEEPER_CLIENT: 1|X-Forwarded_Proto: x", "GET / HTTP/1.1|Host: h"),
        ("other X fields", "GET / HTTP/1.1|Host: h|X-Forwards: 1|X-Real-IPv6: 1|X: 1", "GET / HTTP/1.1|Host: h|X-Forwards: 1|X-Real-IPv6: 1|X: 1"),
    ]);
}

#[rustfmt::skip]
#[test]
fn upgrades() {
    check(&[
        ("websocket", "GET /w HTTP/1.1|Host: h|Connection: keep-alive, Upgrade|Upgrade: WebSocket|Sec-WebSocket-Key: x|Sec-WebSocket-Version: 13",
            "GET /w HTTP/1.1|Host: h|Sec-WebSocket-Key: x|Sec-WebSocket-Version: 13|Connection: Upgrade|Upgrade: websocket"),
        ("h2c", "GET / HTTP/1.1|Host: h|Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABkAAQAAP__", "GET / HTTP/1.1|Host: h"),
        ("TLS", "OPTIONS * HTTP/1.1|Host: h|Connection: Upgrade|Upgrade: TLS/1.0", "OPTIONS * HTTP/1.1|Host: h"),
    ]);
}

/// RFC 9110 7.6.3: the protocol that the client spoke, behind the hops before us.
#[test]
fn via() {
    let from = ClientSide::direct(None);
    let sent = written(
        b"GET / HTTP/1.0\r\nHost: h\r\nVia: 1.1 a\r\nvia: 1.0 b\r\n\r\n",
        &from,
    );
    assert_eq!(
        sent,
        "GET / HTTP/1.1\r\nHost: h\r\nVia: 1.1 a\r\nvia: 1.0 b\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: h\r\nVia: 1.0 sidekeeper\r\n\r\n"
    );
    // No host, nothing to say about it.
    assert!(!written(b"GET / HTTP/1.0\r\n\r\n", &from).contains("X-Forwarded-Host"));
}

/// RFC 9112 2.2: one CRLF too many after the last body; what follows is the next request.
#[test]
fn an_empty_line_before_and_bytes_behind() {
    with(b"\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b", |request| {
        assert_eq!((request.len, request.path), (30, "/a"));
    });
    with(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n\0\n\r", |request| {
        assert_eq!(request.len, 28);
    });
}

#[test]
fn the_output_is_appended() {
    let mut out = b"before".to_vec();
    with(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", |request| {
        request.write_for_worker(&mut out, &ClientSide::direct(None), b"");
    });
    assert!(out.starts_with(b"beforeGET / HTTP/1.1\r\n"));
}
