//! Heads that must be refused.

use super::*;

type Row = (&'static str, &'static [u8], Refusal);

/// A row's head must be refused for its reason when it is read whole, and byte by byte at the
/// latest with its last byte.
fn check(rows: &[Row]) {
    for (name, head, refusal) in rows {
        let mut storage = fields();
        let whole = read_request(head, &mut storage, &LIMITS);
        assert_eq!(whole.map(|_| ()), Err(*refusal), "{name}");
        let (_, bytewise) = fed_byte_by_byte(head);
        assert_eq!(bytewise, Err(*refusal), "{name}, byte by byte");
    }
}

#[rustfmt::skip]
#[test]
fn start_lines() {
    check(&[
        // RFC 9112 2.2: one empty line may come before, no more, and only CRLF.
        ("two empty lines", b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", Refusal::LineEnd),
        ("bare LF before", b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", Refusal::LineEnd),
        ("bare CR before", b"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", Refusal::LineEnd),
        ("blank before", b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", Refusal::RequestLine),
        ("tab before", b"\tGET / HTTP/1.1\r\nHost: h\r\n\r\n", Refusal::RequestLine),
        // RFC 9112 3: single spaces.
        ("two spaces", b"GET  / HTTP/1.1\r\n", Refusal::RequestLine),
        ("two later spaces", b"GET /  HTTP/1.1\r\n", Refusal::RequestLine),
        ("tab between", b"GET\t/ HTTP/1.1\r\n", Refusal::RequestLine),
        ("later tab between", b"GET /\tHTTP/1.1\r\n", Refusal::RequestLine),
        ("space behind", b"GET / HTTP/1.1 \r\n", Refusal::RequestLine),
        ("tab behind", b"GET / HTTP/1.1\t\r\n", Refusal::RequestLine),
        ("words behind", b"GET / HTTP/1.1 x\r\n", Refusal::RequestLine),
        ("space in the target", b"GET /a b HTTP/1.1\r\n", Refusal::RequestLine),
        ("no target", b"GET HTTP/1.1\r\n", Refusal::RequestLine),
        ("no method", b"/ HTTP/1.1\r\n", Refusal::RequestLine),
        ("a field first", b"Host: h\r\n", Refusal::RequestLine),
        // RFC 9110 9.1 and 5.6.2: a method is a token.
        ("colon in the method", b"GE:T / HTTP/1.1\r\n", Refusal::RequestLine),
        ("quote in the method", b"GE\"T / HTTP/1.1\r\n", Refusal::RequestLine),
        ("slash in the method", b"GET/ / HTTP/1.1\r\n", Refusal::RequestLine),
        ("byte above ASCII in the method", b"G\xc3\x89T / HTTP/1.1\r\n", Refusal::RequestLine),
        ("control in the method", b"GE\x01T / HTTP/1.1\r\n", Refusal::Control),
        ("NUL in the method", b"GE\0T / HTTP/1.1\r\n", Refusal::Control),
        ("TLS", b"\x16\x03\x01\x02\x00\x01", Refusal::Control),
        // RFC 9110 9.3.6, RFC 9112 3.2.3: no forward proxy.
        ("CONNECT", b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", Refusal::Connect),
        ("CONNECT to a path", b"CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n", Refusal::Connect),
        ("authority-form", b"GET h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", Refusal::Target),
        // RFC 9112 3.2.
        ("asterisk", b"GET * HTTP/1.1\r\n", Refusal::Target),
        ("fragment", b"GET /#a HTTP/1.1\r\n", Refusal::Target),
        ("relative", b"GET a HTTP/1.1\r\n", Refusal::Target),
        ("quote", b"GET /\" HTTP/1.1\r\n", Refusal::Target),
        ("UTF-8", b"GET /\xc3\xa9 HTTP/1.1\r\n", Refusal::Target),
        ("Latin-1", b"GET /\xe9 HTTP/1.1\r\n", Refusal::RequestLine),
        ("NUL in the target", b"GET /\0 HTTP/1.1\r\n", Refusal::Control),
        ("DEL in the target", b"GET /\x7f HTTP/1.1\r\n", Refusal::Control),
        ("half an octet", b"GET /%2 HTTP/1.1\r\n", Refusal::Target),
        ("user information", b"GET http://u@h/ HTTP/1.1\r\n", Refusal::Target),
        ("no authority", b"GET http:///a HTTP/1.1\r\n", Refusal::Target),
        ("another scheme", b"GET ftp://h/ HTTP/1.1\r\n", Refusal::Target),
        // RFC 9112 2.3.
        ("HTTP/0.9 as it was", b"GET /\r\n", Refusal::RequestLine),
        ("HTTP/0.9 spelt out", b"GET / HTTP/0.9\r\n", Refusal::Version),
        ("HTTP/1.2", b"GET / HTTP/1.2\r\n", Refusal::Version),
        ("HTTP/1.9", b"GET / HTTP/1.9\r\n", Refusal::Version),
        ("HTTP/2.0", b"GET / HTTP/2.0\r\n", Refusal::Version),
        ("HTTP/3.0", b"GET / HTTP/3.0\r\n", Refusal::Version),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::Version),
        ("HTTP/2", b"GET / HTTP/2\r\n", Refusal::RequestLine),
        ("HTTP/1.10", b"GET / HTTP/1.10\r\n", Refusal::RequestLine),
        ("HTTP/11.1", b"GET / HTTP/11.1\r\n", Refusal::RequestLine),
        ("HTTP/1.", b"GET / HTTP/1.\r\n", Refusal::RequestLine),
        ("HTTP/1,1", b"GET / HTTP/1,1\r\n", Refusal::RequestLine),
        ("HTTP/+1.1", b"GET / HTTP/+1.1\r\n", Refusal::RequestLine),
        ("lower case", b"GET / http/1.1\r\n", Refusal::RequestLine),
        ("another protocol", b"GET / HTTQ/1.1\r\n", Refusal::RequestLine),
    ]);
}

#[rustfmt::skip]
#[test]
fn lines() {
    check(&[
        // RFC 9112 2.2.
        ("LF after the start line", b"GET / HTTP/1.1\nHost: h\r\n\r\n", Refusal::LineEnd),
        ("LF after a field", b"GET / HTTP/1.1\r\nHost: h\n\r\n", Refusal::LineEnd),
        ("LF as the blank line", b"GET / HTTP/1.1\r\nHost: h\r\n\n", Refusal::LineEnd),
        ("all LF", b"GET / HTTP/1.1\nHost: h\n\n", Refusal::LineEnd),
        ("CR after the start line", b"GET / HTTP/1.1\rHost: h\r\n\r\n", Refusal::LineEnd),
        ("CR CR LF", b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", Refusal::LineEnd),
        ("CR within a value", b"GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", Refusal::LineEnd),
        ("LF within a value", b"GET / HTTP/1.1\r\nHost: h\r\nA: b\nc: d\r\n\r\n", Refusal::LineEnd),
        ("CR within a name", b"GET / HTTP/1.1\r\nHost: h\r\nA\rb: c\r\n\r\n", Refusal::LineEnd),
        ("CR LF CR x", b"GET / HTTP/1.1\r\nHost: h\r\n\rx", Refusal::LineEnd),
        // RFC 9112 5.2 and 2.2.
        ("folding", b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", Refusal::Folding),
        ("folding with a tab", b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\tc\r\n\r\n", Refusal::Folding),
        ("folding of blanks alone", b"GET / HTTP/1.1\r\nHost: h\r\n \r\n\r\n", Refusal::Folding),
        ("blank before the first field", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", Refusal::Folding),
        ("tab before the first field", b"GET / HTTP/1.1\r\n\tHost: h\r\n\r\n", Refusal::Folding),
        // RFC 9112 5.1.
        ("blank before the colon", b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", Refusal::FieldSyntax),
        ("tab before the colon", b"GET / HTTP/1.1\r\nHost\t: h\r\n\r\n", Refusal::FieldSyntax),
        ("no colon", b"GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n", Refusal::FieldSyntax),
        ("no name", b"GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n", Refusal::FieldSyntax),
        ("blank in a name", b"GET / HTTP/1.1\r\nHost: h\r\nA b: c\r\n\r\n", Refusal::FieldSyntax),
        ("parenthesis in a name", b"GET / HTTP/1.1\r\nHost: h\r\nA(b: c\r\n\r\n", Refusal::FieldSyntax),
        ("slash in a name", b"GET / HTTP/1.1\r\nHost: h\r\nA/b: c\r\n\r\n", Refusal::FieldSyntax),
        ("quote in a name", b"GET / HTTP/1.1\r\nHost: h\r\nA\"b: c\r\n\r\n", Refusal::FieldSyntax),
        ("at sign in a name", b"GET / HTTP/1.1\r\nHost: h\r\nA@b: c\r\n\r\n", Refusal::FieldSyntax),
        ("brackets in a name", b"GET / HTTP/1.1\r\nHost: h\r\nA[b]: c\r\n\r\n", Refusal::FieldSyntax),
        ("byte above ASCII in a name", b"GET / HTTP/1.1\r\nHost: h\r\nA\xffb: c\r\n\r\n", Refusal::FieldSyntax),
        // RFC 9110 5.5.
        ("NUL in a value", b"GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", Refusal::Control),
        ("NUL in a name", b"GET / HTTP/1.1\r\nHost: h\r\nA\0: b\r\n\r\n", Refusal::Control),
        ("SOH in a value", b"GET / HTTP/1.1\r\nHost: h\r\nA: \x01\r\n\r\n", Refusal::Control),
        ("vertical tab in a value", b"GET / HTTP/1.1\r\nHost: h\r\nA: \x0b\r\n\r\n", Refusal::Control),
        ("form feed before the colon", b"GET / HTTP/1.1\r\nHost\x0c: h\r\n\r\n", Refusal::Control),
        ("ESC in a value", b"GET / HTTP/1.1\r\nHost: h\r\nA: \x1b[1m\r\n\r\n", Refusal::Control),
        ("DEL in a value", b"GET / HTTP/1.1\r\nHost: h\r\nA: \x7f\r\n\r\n", Refusal::Control),
    ]);
}

/// RFC 9112 3.2.
#[rustfmt::skip]
#[test]
fn hosts() {
    check(&[
        ("missing", b"GET / HTTP/1.1\r\nA: b\r\n\r\n", Refusal::Host),
        ("missing with absolute-form", b"GET http://h/ HTTP/1.1\r\n\r\n", Refusal::Host),
        ("twice", b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", Refusal::Host),
        ("twice the same", b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nhost: h\r\n\r\n", Refusal::Host),
        ("twice in 1.0", b"GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", Refusal::Host),
        ("empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", Refusal::Host),
        ("blanks", b"GET / HTTP/1.1\r\nHost:  \t \r\n\r\n", Refusal::Host),
        ("empty in 1.0", b"GET / HTTP/1.0\r\nHost:\r\n\r\n", Refusal::Host),
        ("blank within", b"GET / HTTP/1.1\r\nHost: h i\r\n\r\n", Refusal::Host),
        ("a list", b"GET / HTTP/1.1\r\nHost: h, i\r\n\r\n", Refusal::Host),
        ("a path", b"GET / HTTP/1.1\r\nHost: h/a\r\n\r\n", Refusal::Host),
        ("a URL", b"GET / HTTP/1.1\r\nHost: http://h\r\n\r\n", Refusal::Host),
        ("user information", b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", Refusal::Host),
        ("a wrong port", b"GET / HTTP/1.1\r\nHost: h:http\r\n\r\n", Refusal::Host),
        ("a port too large", b"GET / HTTP/1.1\r\nHost: h:65536\r\n\r\n", Refusal::Host),
        ("half an address", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Refusal::Host),
        ("above ASCII", b"GET / HTTP/1.1\r\nHost: h\xc3\xa9\r\n\r\n", Refusal::Host),
        ("not even UTF-8", b"GET / HTTP/1.1\r\nHost: h\xff\r\n\r\n", Refusal::Host),
        ("wrong beside absolute-form", b"GET http://h/ HTTP/1.1\r\nHost: a b\r\n\r\n", Refusal::Host),
    ]);
}

/// RFC 9112 6.1 and 6.3, RFC 9110 8.6.
#[rustfmt::skip]
#[test]
fn framings() {
    let rows = [
        ("plus", "Content-Length: +5", Refusal::ContentLength),
        ("minus", "Content-Length: -5", Refusal::ContentLength),
        ("empty", "Content-Length:", Refusal::ContentLength),
        ("blank within", "Content-Length: 5 5", Refusal::ContentLength),
        ("list", "Content-Length: 5, 5", Refusal::ContentLength),
        ("comma", "Content-Length: 5,", Refusal::ContentLength),
        ("repeat", "Content-Length: 5|Content-Length: 5", Refusal::ContentLength),
        ("contradiction", "Content-Length: 5|content-length: 6", Refusal::ContentLength),
        ("hex", "Content-Length: 0x5", Refusal::ContentLength),
        ("fraction", "Content-Length: 5.0", Refusal::ContentLength),
        ("exponent", "Content-Length: 1e3", Refusal::ContentLength),
        ("underscore", "Content-Length: 1_000", Refusal::ContentLength),
        ("quotes", "Content-Length: \"5\"", Refusal::ContentLength),
        ("semicolon", "Content-Length: 5;", Refusal::ContentLength),
        ("word", "Content-Length: five", Refusal::ContentLength),
        ("64 bits and one", "Content-Length: 18446744073709551621", Refusal::ContentLength),
        ("63 bits and one", "Content-Length: 9223372036854775808", Refusal::ContentLength),
        ("endless", "Content-Length: 99999999999999999999999999999999999999", Refusal::ContentLength),
        ("both", "Content-Length: 5|Transfer-Encoding: chunked", Refusal::FramingConflict),
        ("both, other order", "Transfer-Encoding: chunked|Content-Length: 5", Refusal::FramingConflict),
        ("both with zero", "Transfer-Encoding: chunked|Content-Length: 0", Refusal::FramingConflict),
        ("both, unknown coding", "Transfer-Encoding: x|Content-Length: 5", Refusal::FramingConflict),
        ("both, wrong length", "Content-Length: 5x|Transfer-Encoding: chunked", Refusal::ContentLength),
        ("no coding", "Transfer-Encoding:", Refusal::TransferEncoding),
        ("comma alone", "Transfer-Encoding: ,", Refusal::TransferEncoding),
        ("empty member first", "Transfer-Encoding: ,chunked", Refusal::TransferEncoding),
        ("empty member last", "Transfer-Encoding: chunked,", Refusal::TransferEncoding),
        ("chunked twice", "Transfer-Encoding: chunked, chunked", Refusal::TransferEncoding),
        ("chunked in two fields", "Transfer-Encoding: chunked|Transfer-Encoding: chunked", Refusal::TransferEncoding),
        ("chunked in two fields, one empty", "Transfer-Encoding: chunked|Transfer-Encoding:", Refusal::TransferEncoding),
        ("parameter", "Transfer-Encoding: chunked;q=1", Refusal::TransferEncoding),
        ("semicolon behind", "Transfer-Encoding: chunked;", Refusal::TransferEncoding),
        ("quoted", "Transfer-Encoding: \"chunked\"", Refusal::TransferEncoding),
        ("two words", "Transfer-Encoding: x chunked", Refusal::TransferEncoding),
        ("colon", "Transfer-Encoding: :chunked", Refusal::TransferEncoding),
        ("identity", "Transfer-Encoding: identity", Refusal::TransferEncoding),
        ("gzip alone", "Transfer-Encoding: gzip", Refusal::TransferEncoding),
        ("chunked not last", "Transfer-Encoding: chunked, gzip", Refusal::TransferEncoding),
        ("chunked not last, identity", "Transfer-Encoding: chunked, identity", Refusal::TransferEncoding),
        ("gzip first", "Transfer-Encoding: gzip, chunked", Refusal::TransferCoding),
        ("gzip first, two fields", "Transfer-Encoding: gzip|Transfer-Encoding: chunked", Refusal::TransferCoding),
        ("identity first", "Transfer-Encoding: identity, chunked", Refusal::TransferCoding),
        ("unknown", "Transfer-Encoding: xchunked", Refusal::TransferCoding),
        ("unknown with a parameter", "Transfer-Encoding: x;y=z", Refusal::TransferCoding),
        ("unknown first", "Transfer-Encoding: x, chunked", Refusal::TransferCoding),
        ("unknown last", "Transfer-Encoding: chunked, x", Refusal::TransferCoding),
    ];
    for (name, fields, refusal) in rows {
        let fields = fields.replace('|', "\r\n");
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
        assert_eq!(
            fed_byte_by_byte(head.as_bytes()),
            (head.len(), Err(refusal)),
            "{name}"
        );
    }
}

#[rustfmt::skip]
#[test]
fn other_fields() {
    check(&[
        // RFC 9112 6.1.
        ("chunks in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::TransferEncoding),
        ("chunks in 1.0 kept alive", b"POST / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::TransferEncoding),
        // RFC 9110 7.6.1.
        ("an option that is no token", b"GET / HTTP/1.1\r\nHost: h\r\nConnection: a b\r\n\r\n", Refusal::Connection),
        ("a quoted option", b"GET / HTTP/1.1\r\nHost: h\r\nConnection: \"close\"\r\n\r\n", Refusal::Connection),
        ("33 options", b"GET / HTTP/1.1\r\nHost: h\r\nConnection: a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a\r\nConnection: a,a,a,a,a,a,a,a,a,a,a,a,a\r\n\r\n", Refusal::Connection),
        // RFC 9110 10.1.1.
        ("an unknown expectation", b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\n\r\n", Refusal::Expectation),
        ("one of two", b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue, x\r\n\r\n", Refusal::Expectation),
        ("with a parameter", b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue;a=b\r\n\r\n", Refusal::Expectation),
        // RFC 9110 7.6.2.
        ("Max-Forwards no number", b"OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: -1\r\n\r\n", Refusal::MaxForwards),
        ("Max-Forwards twice", b"TRACE / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 1\r\nMax-Forwards: 1\r\n\r\n", Refusal::MaxForwards),
    ]);
}

/// RFC 9112 3, RFC 6585 5. Each is refused as soon as it is sure, not when the head is complete.
#[rustfmt::skip]
#[test]
fn limits() {
    let long = |text: &str, count| text.repeat(count);
    let line = |target: usize| format!("GET /{} HTTP/1.1\r\n", long("a", target - 1));
    let rows = [
        ("target", line(201), 205, Refusal::TargetTooLong),
        ("target without end", format!("GET /{}", long("a", 300)), 205, Refusal::TargetTooLong),
        ("target larger than a head", line(4000), 205, Refusal::TargetTooLong),
        ("method", long("A", 40), 33, Refusal::MethodTooLong),
        ("method with a target", format!("{} / HTTP/1.1\r\n", long("A", 33)), 33, Refusal::MethodTooLong),
        ("a field without end", format!("{}Host: h\r\nA: {}", line(5), long("b", 2000)), 1024, Refusal::HeadTooLarge),
        ("a name without end", format!("{}Host: h\r\n{}", line(5), long("b", 2000)), 1024, Refusal::HeadTooLarge),
        ("21 fields", format!("{}{}", line(5), long("A: b\r\n", 40)), 20 + 21 * 6, Refusal::TooManyFields),
    ];
    for (name, head, at, refusal) in rows {
        assert_eq!(
            fed_byte_by_byte(head.as_bytes()),
            (at, Err(refusal)),
            "{name}"
        );
        let mut storage = fields();
        let whole = read_request(head.as_bytes(), &mut storage, &LIMITS);
        assert_eq!(whole.map(|_| ()), Err(refusal), "{name}, whole");
    }
    // What fits exactly is served.
    let padded = |pad| format!("{}Host: h\r\nA: {}\r\n\r\n", line(200), long("b", pad));
    let rest = 1024 - padded(0).len();
    assert_eq!(fed_byte_by_byte(padded(rest).as_bytes()), (1024, Ok(())));
    assert_eq!(
        fed_byte_by_byte(padded(rest + 1).as_bytes()),
        (1024, Err(Refusal::HeadTooLarge))
    );
    let head = format!("{}Host: h\r\n{}\r\n", line(5), long("A: b\r\n", 19));
    assert_eq!(fed_byte_by_byte(head.as_bytes()), (head.len(), Ok(())));
}

#[test]
fn silly_limits_do_no_harm() {
    for (bytes, count) in [(0, 0), (1, 1), (usize::MAX, usize::MAX)] {
        let limits = HeadLimits {
            head_bytes_max: bytes,
            head_fields_max: count,
            target_bytes_max: bytes,
        };
        let mut storage = fields();
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let outcome = read_request(head, &mut storage, &limits);
        assert_eq!(outcome.is_ok(), count == usize::MAX);
    }
    // The storage is the last limit.
    let head = format!(
        "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
        "A: b\r\n".repeat(256)
    );
    let limits = HeadLimits {
        head_bytes_max: usize::MAX,
        head_fields_max: usize::MAX,
        target_bytes_max: 10,
    };
    let mut storage = fields();
    let outcome = read_request(head.as_bytes(), &mut storage, &limits);
    assert_eq!(outcome.map(|_| ()), Err(Refusal::TooManyFields));
}
