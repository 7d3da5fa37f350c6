//! Looks into engine.io traffic for the session that a handshake opens.
//!
//! Only the first bytes of a body are looked at, and nothing is changed. Which worker a session
//! belongs to is kept by `route`.

use super::head::Request;

/// A handshake is about 120 bytes; what is not found in this many is not looked for.
const BODY_BYTES_MAX: usize = 512;
const SID_BYTES_MAX: usize = 128;

/// Whether a request speaks engine.io: it has `EIO` in its query, or it is of the oldest kind,
/// which leaves that out, and goes to the usual path with a transport.
#[inline]
pub fn is_engine_request(request: &Request) -> bool {
    // Most requests have no query.
    request.query.is_some() && speaks_engine_io(request)
}

fn speaks_engine_io(request: &Request) -> bool {
    request.query_value("EIO").is_some()
        || (request.path.ends_with("/socket.io/") && request.query_value("transport").is_some())
}

/// The session of a SockJS request, which its client has made up: `/prefix/SERVER/SESSION/TRANSPORT`,
/// where the server is three digits. The part of the path that is the same in all of its requests.
pub fn sockjs_session(path: &str) -> Option<&str> {
    const TRANSPORTS: [&str; 8] = [
        "websocket",
        "xhr",
        "xhr_send",
        "xhr_streaming",
        "eventsource",
        "htmlfile",
        "jsonp",
        "jsonp_send",
    ];
    // By bytes, and most are seen through at once: this runs at each request.
    if path.len() < "/000/0/xhr".len() {
        return None;
    }
    let slash = path.bytes().rposition(|byte| byte == b'/')?;
    let (session, transport) = (path.get(..slash)?, path.get(slash + 1..)?);
    if session.is_empty() || !TRANSPORTS.contains(&transport) {
        return None;
    }
    let (rest, id) = session.rsplit_once('/')?;
    let (_, server) = rest.rsplit_once('/')?;
    let three_digits = server.len() == 3 && server.bytes().all(|b| b.is_ascii_digit());
    let plain = !id.is_empty() && id.len() <= SID_BYTES_MAX && !id.contains('.');
    (three_digits && plain).then_some(session)
}

/// The `sid` that a handshake body announces.
///
/// engine.io 4 sends `0{...}`. Version 3 puts lengths before its packets: `96:0{...}` as text, or
/// a byte 0x00, the digits as bytes 0 to 9, and 0xff; further packets may follow.
pub fn engine_session(body: &[u8]) -> Option<&[u8]> {
    let body = body.get(..BODY_BYTES_MAX).unwrap_or(body);
    let packet = match body {
        [0, rest @ ..] => after(rest, |byte| byte <= 9, 0xff)?,
        [b'1'..=b'9', rest @ ..] => after(rest, |byte| byte.is_ascii_digit(), b':')?,
        body => body,
    };
    let sid = top_level_string(packet.strip_prefix(b"0")?, b"sid")?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (!sid.is_empty() && sid.len() <= SID_BYTES_MAX && sid.iter().all(plain)).then_some(sid)
}

/// Whether a body is the packet by which a client closes its session: `1`, or in version 3 `1:1`.
pub fn is_engine_close(body: &[u8]) -> bool {
    matches!(body, b"1" | b"1:1")
}

/// What follows a length of any number of digits and its end mark.
fn after(text: &[u8], digit: impl Fn(u8) -> bool, end: u8) -> Option<&[u8]> {
    let digits = text.iter().take_while(|byte| digit(**byte)).count();
    match text.get(digits..)? {
        [mark, rest @ ..] if *mark == end => Some(rest),
        _ => None,
    }
}

/// The string value of a key of the outermost object of a JSON text, which may be cut off later.
/// Keys inside of other values do not count, nor does what looks like a key inside of a string.
fn top_level_string<'a>(json: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut rest = skip_blanks(json).strip_prefix(b"{")?;
    loop {
        let (name, after_name) = string(skip_blanks(rest))?;
        let value = skip_blanks(skip_blanks(after_name).strip_prefix(b":")?);
        if name == key {
            return string(value).map(|(text, _)| text);
        }
        rest = skip_blanks(skip_value(value)?).strip_prefix(b",")?;
    }
}

fn skip_blanks(mut json: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = json {
        json = rest;
    }
    json
}

/// A string at the beginning, without its quotes and with its escapes, and what follows it.
fn string(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = json.strip_prefix(b"\"")?;
    let mut escaped = false;
    let end = text.iter().position(|byte| {
        let end = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        end
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// What follows the value at the beginning, up to the comma or bracket that ends it.
fn skip_value(json: &[u8]) -> Option<&[u8]> {
    let mut rest = json;
    let mut depth = 0usize;
    loop {
        rest = match rest {
            [b'"', ..] => string(rest)?.1,
            [b'{' | b'[', after @ ..] => {
                depth += 1;
                after
            }
            [b'}' | b']', ..] if depth == 0 => return Some(rest),
            [b'}' | b']', after @ ..] => {
                depth -= 1;
                after
            }
            [b',', ..] if depth == 0 => return Some(rest),
            [_, after @ ..] => after,
            [] => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadLimits, fields, read_request};

    #[rustfmt::skip]
    #[test]
    fn sessions_are_found_in_handshakes() {
        for (name, body, sid) in [
            ("EIO 4", &b"0{\"sid\":\"lv_VI97HAXpY6yYWAAAC\",\"upgrades\":[\"websocket\"],\"pingInterval\":25000}"[..], Some(&b"lv_VI97HAXpY6yYWAAAC"[..])),
            ("EIO 3", b"96:0{\"sid\":\"a-b\",\"pingTimeout\":5000}2:40", Some(b"a-b")),
            ("EIO 3 binary", b"\x00\x09\x06\xff0{\"sid\":\"ab\"}\x00\x02\xff40", Some(b"ab")),
            ("other order", b"0{\"upgrades\":[],\"sid\":\"ab\"}", Some(b"ab")),
            ("blanks", b"0{ \"a\" : [1, {\"b\":2}] ,\n\"sid\" : \"ab\" }", Some(b"ab")),
            ("cut after it", b"0{\"sid\":\"ab\",\"upgr", Some(b"ab")),
            ("a quote in a value", b"0{\"a\":\"\\\",\\\"sid\\\":\\\"x\",\"sid\":\"ab\"}", Some(b"ab")),
            ("cut within it", b"0{\"sid\":\"ab", None),
            ("nested only", b"0{\"a\":{\"sid\":\"ab\"}}", None),
            ("inside of a string", b"0{\"a\":\"sid\\\":\\\"ab\"}", None),
            ("a number", b"0{\"sid\":12}", None),
            ("empty", b"0{\"sid\":\"\"}", None),
            ("strange characters", b"0{\"sid\":\"a/b\"}", None),
            ("an escape", b"0{\"sid\":\"a\\u0062\"}", None),
            ("another packet", b"40{\"sid\":\"ab\"}", None),
            ("a message in EIO 3", b"15:40{\"sid\":\"ab\"}", None),
            ("no packet", b"{\"sid\":\"ab\"}", None),
            ("length without end", b"96", None),
            ("binary without end", b"\x00\x01", None),
            ("nothing", b"", None),
            ("no object", b"0[\"sid\",\"ab\"]", None),
            ("unbalanced", b"0{\"a\":]]]]", None),
        ] {
            assert_eq!(engine_session(body), sid, "{name}");
        }
        let long = |len| [&b"0{\"sid\":\""[..], &vec![b'a'; len], b"\"}"].concat();
        assert_eq!(engine_session(&long(128)).map(<[u8]>::len), Some(128));
        assert_eq!(engine_session(&long(129)), None);
        assert_eq!(engine_session(&long(600)), None);
    }

    #[test]
    fn sessions_are_found_in_paths_of_sockjs() {
        for (path, session) in [
            ("/echo/000/abcdefgh/xhr", Some("/echo/000/abcdefgh")),
            ("/a/b/123/x_1-y/xhr_streaming", Some("/a/b/123/x_1-y")),
            ("/123/x/websocket", Some("/123/x")),
            ("/echo/123/x/eventsource", Some("/echo/123/x")),
            ("/echo/123/x/jsonp_send", Some("/echo/123/x")),
            ("/echo/info", None),
            ("/echo/websocket", None),
            ("/echo/123/x/other", None),
            ("/echo/12/x/xhr", None),
            ("/echo/1234/x/xhr", None),
            ("/echo/12a/x/xhr", None),
            ("/echo/123//xhr", None),
            ("/echo/123/a.b/xhr", None),
            ("123/x/xhr", None),
            ("/xhr", None),
            ("", None),
        ] {
            assert_eq!(sockjs_session(path), session, "{path}");
        }
    }

    #[test]
    fn engine_requests() {
        for (target, wanted) in [
            ("/socket.io/?EIO=4&transport=polling", true),
            ("/any/?EIO=3", true),
            ("/socket.io/?transport=polling", true),
            ("/socket.io/", false),
            ("/socket.io?transport=polling", false),
            ("/other/?transport=polling", false),
            ("/?XEIO=4", false),
            ("/EIO=4", false),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            let mut storage = fields();
            let request = read_request(head.as_bytes(), &mut storage, &HeadLimits::default())
                .expect("acceptable")
                .expect("complete");
            assert_eq!(is_engine_request(&request), wanted, "{target}");
        }
    }
}
