//! Request and response heads: what is accepted, a strict reader accepts as well; what is
//! forwarded, it reads as what was decided; and a prefix never decides something else.

use crate::naive::{self, Head, Read};
use crate::{Target, Verdict};
use front::http::framing::Framing;
use front::http::head::{
    Asked, ClientSide, Delivery, HeadLimits, Version, fields, read_request, read_response,
};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 2000,
    head_fields_max: 20,
    target_bytes_max: 200,
};
/// For what we have written ourselves: we add fields.
const ROOMY: HeadLimits = HeadLimits {
    head_bytes_max: 8000,
    head_fields_max: 60,
    target_bytes_max: 8000,
};

#[rustfmt::skip]
pub const DICTIONARY: &[&[u8]] = &[
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b"\x0b", b"\x7f", b"\x80", b"\xff", b":", b",",
    b";", b"\"", b"Host: i\r\n", b"Host:\r\n", b"Content-Length: 5\r\n", b"Content-Length: +5\r\n",
    b"Content-Length: 0\r\n", b"Content-Length: 18446744073709551616\r\n", b"content-length:5,5\r\n",
    b"Content-Length: 5 5\r\n", b"Content-Length: 0x5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: chunked, chunked\r\n",
    b"transfer_encoding: chunked\r\n", b"Transfer-Encoding:\tidentity\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding: xchunked\r\n", b" folded\r\n",
    b"Connection: host, content-length, transfer-encoding\r\n", b"Connection: upgrade, x-a\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Upgrade: websocket\r\n",
    b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"X-Forwarded-For: 6.6.6.6\r\n",
    b"X-Sidekeeper-Client: 6.6.6.6 6\r\n", b"X_Sidekeeper_Client: 6.6.6.6 6\r\n", b"Via: 1.0 x\r\n",
    b"Max-Forwards: 0\r\n", b"TE: trailers\r\n", b"Trailer: a\r\n", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0",
    b"HTTP/1.1 ", b"http://i", b"http://i/", b"//", b"*", b"?", b"#", b"%", b"%00", b"@", b"[::1]",
    b"/..", b"GET / HTTP/1.1\r\n", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", b"CONNECT h:1", b"\xc3\xa9",
    b"100", b"101", b"204", b"304", b"200 OK", b"Date: x\r\n", b"close", b"keep-alive", b"Set-Cookie: a=b\r\n",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    b"sid=", b"HEAD ", b"POST ", b"OPTIONS ", b"TRACE ", b"DELETE ",
];

pub fn request_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 9] = [
        b"GET /a/b?c=d HTTP/1.1\r\nHost: h.example:80\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
        b"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /w HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
        b"OPTIONS http://h:80 HTTP/1.1\r\nHost: h:80\r\nMax-Forwards: 2\r\nConnection: x-a, close\r\nX-A: b\r\n\r\n",
        b"POST / HTTP/1.0\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx",
        b"\r\nTRACE / HTTP/1.1\r\nhost:h\r\nVia: 1.1 a\r\n\r\n",
        b"HEAD / HTTP/1.0\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// Fields that end at us, and those that only we may write.
fn check_hops(head: &Head) -> Result<(), String> {
    for name in [
        "te",
        "trailer",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
    ] {
        if !head.values(name).is_empty() {
            return Err(format!("{name} was passed on"));
        }
    }
    Ok(())
}

fn matches(head: &Head, framing: Framing) -> Result<(), String> {
    let said = match naive::framing(head) {
        Ok(said) => said,
        Err(what) => return Err(format!("forwarded framing: {what}")),
    };
    let fine = match framing {
        Framing::Empty | Framing::UntilClose => {
            said == Some(0) && head.values("content-length").is_empty()
        }
        Framing::Length(length) => said.is_some_and(|said| said as u64 == length),
        Framing::Chunked => said.is_none(),
    };
    if fine {
        Ok(())
    } else {
        Err(format!("{framing:?} was forwarded as {said:?}"))
    }
}

/// The head in the input, as a strict reader that allows one empty line before it.
fn strict(input: &[u8]) -> Read<Head> {
    let (skipped, input) = match input.strip_prefix(b"\r\n") {
        Some(rest) => (2, rest),
        None => (0, input),
    };
    match naive::head(input) {
        Read::Whole(head) => Read::Whole(Head {
            len: head.len + skipped,
            ..head
        }),
        other => other,
    }
}

pub struct Requests;

impl Target for Requests {
    fn seeds(&self) -> Vec<Vec<u8>> {
        request_seeds()
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        DICTIONARY
    }

    fn run(&mut self, input: &[u8]) -> Verdict {
        let mut storage = fields();
        let request = match read_request(input, &mut storage, &LIMITS) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok("incomplete".to_owned()),
            Err(refusal) => return Ok(format!("{refusal:?}")),
        };
        let asked = match strict(input) {
            Read::Whole(head) => head,
            other => return Err(format!("accepted, but {other:?}")),
        };
        if asked.len != request.len {
            return Err(format!("{} bytes of head, not {}", request.len, asked.len));
        }
        if request.framing != Framing::Empty {
            matches(&asked, request.framing).map_err(|what| format!("accepted: {what}"))?;
        }
        if asked.values("host").len() > 1
            || (asked.values("host").is_empty() && request.version == Version::Http11)
        {
            return Err("accepted without exactly one Host".to_owned());
        }
        for cut in [request.len / 3, request.len - 1] {
            let mut storage = fields();
            if !matches!(read_request(&input[..cut], &mut storage, &LIMITS), Ok(None)) {
                return Err(format!("its first {cut} bytes are decided on already"));
            }
        }
        let mut out = Vec::new();
        let from = ClientSide::direct(Some(([9, 8, 7, 6], 5).into()));
        request.write_for_worker(&mut out, &from, b"");
        let head = match naive::head(&out) {
            Read::Whole(head) if head.len == out.len() => head,
            other => {
                return Err(format!(
                    "forwarded {} which reads {other:?}",
                    out.escape_ascii()
                ));
            }
        };
        let target = match request.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.to_owned(),
        };
        let line = naive::request_line(&head.start)?;
        if line != (request.method.as_str().to_owned(), target) {
            return Err(format!("forwarded as {line:?}"));
        }
        matches(&head, request.framing)?;
        check_hops(&head)?;
        for (name, value) in [
            ("x-sidekeeper-client", "9.8.7.6 5"),
            ("x-forwarded-for", "9.8.7.6"),
            ("x-forwarded-proto", "http"),
        ] {
            if head.values(name) != [value.as_bytes()] {
                return Err(format!("{name} is {:?}", head.values(name)));
            }
        }
        if head.values("host").len() != 1 {
            return Err("forwarded without exactly one Host".to_owned());
        }
        let upgrade = if request.websocket {
            vec![&b"websocket"[..]]
        } else {
            Vec::new()
        };
        if head.values("upgrade") != upgrade || head.values("connection").len() != upgrade.len() {
            return Err("an upgrade that was not decided".to_owned());
        }
        let mut storage = fields();
        match read_request(&out, &mut storage, &ROOMY) {
            Ok(Some(again)) if again.len == out.len() && again.framing == request.framing => {}
            other => return Err(format!("what was forwarded reads {other:?}")),
        }
        Ok(format!(
            "{} {:?} {:?} {} {} {} {} {}",
            request.method.as_str().len().min(5),
            request.version,
            std::mem::discriminant(&request.framing),
            request.persistent,
            request.websocket,
            request.expects_continue,
            request.ends_here,
            asked.fields.len()
        ))
    }
}

pub struct Responses;

pub fn response_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 8] = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-a\r\nX-A: b\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.0 404 Not Found\r\nDate: x\r\n\r\ngone",
        b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nKeep-Alive: timeout=5\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

impl Target for Responses {
    fn seeds(&self) -> Vec<Vec<u8>> {
        response_seeds()
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        DICTIONARY
    }

    fn run(&mut self, input: &[u8]) -> Verdict {
        let mut sentence = String::new();
        for asked in [(false, false), (true, false), (false, true)] {
            let asked = Asked {
                head: asked.0,
                upgrade: asked.1,
            };
            for version in [Version::Http11, Version::Http10] {
                sentence += &response(input, asked, version)?;
            }
        }
        Ok(sentence)
    }
}

fn response(input: &[u8], asked: Asked, version: Version) -> Verdict {
    let mut storage = fields();
    let response = match read_response(input, &mut storage, &LIMITS, asked) {
        Ok(Some(response)) => response,
        Ok(None) => return Ok("incomplete;".to_owned()),
        Err(fault) => return Ok(format!("{fault:?};")),
    };
    let said = match naive::head(input) {
        Read::Whole(head) if head.len == response.len => head,
        other => return Err(format!("accepted, but {other:?}")),
    };
    let bodyless = asked.head || matches!(response.status, 100..200 | 204 | 304);
    if bodyless != (response.framing == Framing::Empty) {
        return Err(format!("{} framed {:?}", response.status, response.framing));
    }
    if let Framing::Length(_) | Framing::Chunked = response.framing {
        matches(&said, response.framing).map_err(|what| format!("accepted: {what}"))?;
    }
    let how = Delivery {
        version,
        close: false,
        head: asked.head,
        date: None,
    };
    let mut out = Vec::new();
    response.write_for_client(&mut out, &how);
    let encoding = response.encoding(version);
    if !out.is_empty() {
        let head = match naive::head(&out) {
            Read::Whole(head) if head.len == out.len() => head,
            other => {
                return Err(format!(
                    "passed on {} which reads {other:?}",
                    out.escape_ascii()
                ));
            }
        };
        if !head
            .start
            .starts_with(&format!("HTTP/1.1 {} ", response.status))
        {
            return Err(format!("passed on as {}", head.start));
        }
        for name in ["keep-alive", "proxy-connection", "te"] {
            if !head.values(name).is_empty() {
                return Err(format!("{name} was passed on"));
            }
        }
        match encoding {
            Framing::Empty if head.values("content-length").len() <= 1 => {}
            Framing::Empty => return Err("several lengths were passed on".to_owned()),
            framing => matches(&head, framing)?,
        }
        if version == Version::Http10 && !head.values("transfer-encoding").is_empty() {
            return Err("chunks for an HTTP/1.0 client".to_owned());
        }
    }
    Ok(format!(
        "{} {:?} {:?} {} {};",
        response.status / 100,
        std::mem::discriminant(&response.framing),
        std::mem::discriminant(&encoding),
        response.persistent,
        said.fields.len()
    ))
}
