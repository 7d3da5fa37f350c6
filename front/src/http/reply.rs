//! The answers we give ourselves: complete, small, and silent about our insides. What they say, and
//! in which form, is the page's (`page`); why they are given belongs into the log.

use super::date::Date;
use super::field::{push_decimal, push_field};
use super::head::{Method, Version};
use super::page::{self, Words};
pub use super::page::{Details, Form};

/// One answer of ours.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub status: u16,
    /// The connection closes after it, and the answer says so.
    pub close: bool,
    /// To a HEAD request: the same head, no body (RFC 9110 9.3.2).
    pub head: bool,
    /// Seconds after which asking again makes sense (RFC 9110 10.2.3).
    pub retry_after: Option<u32>,
    /// The client's.
    pub version: Version,
    /// RFC 9110 6.6.1 obliges whoever answers 4xx and has a clock to send one.
    pub date: Option<Date>,
    /// Empty: it never got one.
    pub request_id: &'a [u8],
    pub form: Form,
    /// For the operator alone.
    pub details: Option<&'a Details>,
}

/// Appends the whole answer.
pub fn write(out: &mut Vec<u8>, answer: &Answer) {
    write_with(out, answer, b"");
}

/// TRACE or OPTIONS with `Max-Forwards: 0`: we are the final recipient (RFC 9110 7.6.2) and say
/// what may be asked. TRACE itself is not among it: it would show a page the cookies that are
/// hidden from it. `answer.status` is set here.
pub fn write_final_recipient(out: &mut Vec<u8>, method: &Method, answer: &Answer) {
    let status = match method {
        Method::Options => 200,
        Method::Trace
        | Method::Get
        | Method::Head
        | Method::Post
        | Method::Put
        | Method::Delete
        | Method::Patch
        | Method::Other(_) => 405,
    };
    let answer = Answer { status, ..*answer };
    write_with(
        out,
        &answer,
        b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n",
    );
}

fn write_with(out: &mut Vec<u8>, answer: &Answer, fields: &[u8]) {
    write_status_line(out, answer.status);
    // RFC 9110 8.6: neither a length nor a body in 1xx, 204 and 304.
    let bodyless = matches!(answer.status, 100..200 | 204 | 304);
    let mut body = String::new();
    if !bodyless {
        body = Words {
            status: answer.status,
            request_id: std::str::from_utf8(answer.request_id).unwrap_or_default(),
            details: answer.details,
        }
        .body(answer.form);
        write_content(out, answer.form.content_type(), body.len());
        // What went wrong now may be right a moment later.
        out.extend_from_slice(b"Cache-Control: no-store\r\n");
        if answer.form == Form::Html {
            out.extend_from_slice(page::POLICY);
        }
    }
    out.extend_from_slice(fields);
    write_end(out, answer);
    if !answer.head {
        out.extend_from_slice(body.as_bytes());
    }
}

/// Appends what engine.io answers to a session that it does not know, so that its client begins a
/// new one at once. An upgrade gets plain text, as from engine.io. `answer.status` is set here.
pub fn write_unknown_session(out: &mut Vec<u8>, upgrade: bool, answer: &Answer) {
    let (kind, body): (&[u8], &[u8]) = if upgrade {
        (b"text/html", b"Session ID unknown")
    } else {
        (
            b"application/json",
            br#"{"code":1,"message":"Session ID unknown"}"#,
        )
    };
    write_status_line(out, 400);
    write_content(out, kind, body.len());
    write_end(out, answer);
    if !answer.head {
        out.extend_from_slice(body);
    }
}

fn write_content(out: &mut Vec<u8>, kind: &[u8], length: usize) {
    out.extend_from_slice(b"Content-Type: ");
    out.extend_from_slice(kind);
    out.extend_from_slice(b"\r\nContent-Length: ");
    push_decimal(out, length as u64);
    out.extend_from_slice(b"\r\n");
}

/// What the heads of all answers end with.
fn write_end(out: &mut Vec<u8>, answer: &Answer) {
    if !answer.request_id.is_empty() {
        push_field(out, b"X-Request-Id", answer.request_id);
    }
    if let Some(secs) = answer.retry_after {
        out.extend_from_slice(b"Retry-After: ");
        push_decimal(out, u64::from(secs));
        out.extend_from_slice(b"\r\n");
    }
    if let Some(date) = answer.date {
        date.push_field(out);
    }
    out.extend_from_slice(match (answer.close, answer.version) {
        (true, _) => b"Connection: close\r\n",
        (false, Version::Http10) => b"Connection: keep-alive\r\n",
        (false, Version::Http11) => b"",
    });
    out.extend_from_slice(b"\r\n");
}

fn write_status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The reason phrase of a status that we may answer ourselves.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer<'static> {
        Answer {
            status,
            close: false,
            head: false,
            retry_after: None,
            version: Version::Http11,
            date: None,
            request_id: b"",
            form: Form::Plain,
            details: None,
        }
    }

    fn text(answer: &Answer) -> String {
        let mut out = Vec::new();
        write(&mut out, answer);
        String::from_utf8(out).expect("our answers are ASCII")
    }

    #[test]
    fn answers_are_complete() {
        assert_eq!(
            text(&answer(400)),
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 39\r\n\
             Cache-Control: no-store\r\n\r\nBad Request: the request is malformed.\n"
        );
        assert_eq!(
            text(&Answer {
                close: true,
                head: true,
                retry_after: Some(2),
                date: Some(Date::from_unix_secs(0)),
                ..answer(503)
            }),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 82\r\nCache-Control: no-store\r\nRetry-After: 2\r\n\
             Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: close\r\n\r\n"
        );
        assert!(
            text(&Answer {
                version: Version::Http10,
                ..answer(404)
            })
            .contains("\r\nConnection: keep-alive\r\n")
        );
        assert_eq!(text(&answer(100)), "HTTP/1.1 100 Continue\r\n\r\n");
    }

    #[test]
    fn every_status_has_its_length_right() {
        for status in [
            200, 400, 403, 404, 405, 408, 411, 413, 414, 417, 421, 429, 431, 500, 501, 502, 503,
            504, 505, 599,
        ] {
            for form in [Form::Plain, Form::Html, Form::Json] {
                let answer = Answer {
                    form,
                    request_id: b"an-id",
                    ..answer(status)
                };
                let text = text(&answer);
                let (head, body) = text.split_once("\r\n\r\n").expect("a blank line");
                let length = format!("\r\nContent-Length: {}\r\n", body.len());
                assert!(head.contains(&length), "{text}");
                assert!(head.contains("\r\nX-Request-Id: an-id"), "{text}");
                assert!(body.contains("an-id"), "{text}");
                let to_head = self::text(&Answer {
                    head: true,
                    ..answer
                });
                assert_eq!(to_head, format!("{head}\r\n\r\n"));
            }
        }
    }

    #[test]
    fn unknown_sessions_as_engine_io_says_it() {
        let mut out = Vec::new();
        write_unknown_session(&mut out, false, &answer(400));
        assert_eq!(
            out,
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n\
              Content-Length: 41\r\n\r\n{\"code\":1,\"message\":\"Session ID unknown\"}"
        );
        out.clear();
        let answer = Answer {
            close: true,
            date: Some(Date::from_unix_secs(0)),
            ..answer(400)
        };
        write_unknown_session(&mut out, true, &answer);
        assert_eq!(
            out,
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 18\r\n\
              Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: close\r\n\r\nSession ID unknown"
        );
    }

    #[test]
    fn the_final_recipient_answers_itself() {
        for (method, start) in [
            (Method::Options, "HTTP/1.1 200 OK\r\n"),
            (Method::Trace, "HTTP/1.1 405 Method Not Allowed\r\n"),
        ] {
            let mut out = Vec::new();
            write_final_recipient(&mut out, &method, &answer(500));
            let text = String::from_utf8(out).expect("our answers are ASCII");
            assert!(
                text.starts_with(start) && text.contains("\r\nAllow: GET, "),
                "{text}"
            );
        }
    }
}
