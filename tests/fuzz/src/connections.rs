//! Whole connections against the real binary, with a differential oracle. The worker is this
//! process: what reaches it is read by `naive` alone and compared with what the HTTP room, asked
//! about the same bytes, decides. Each request says by `X-Sidekeeper-Client` which client it is
//! from, so that nothing can be taken for another's.

use crate::bench::{Bench, LIMITS, Seen, description, lock};
use crate::heads::{DICTIONARY, request_seeds, response_seeds};
use crate::naive::{self, Read as Parsed};
use crate::{Target, Verdict};
use front::http::framing::{Decoder, Framing, transfer};
use front::http::head::{Asked, Version, fields, read_request, read_response};
use std::path::Path;

pub fn requests(sidekeeper: &Path) -> Result<Box<dyn Target>, String> {
    Ok(Box::new(Requests(Bench::start(sidekeeper)?)))
}

pub fn answers(sidekeeper: &Path) -> Result<Box<dyn Target>, String> {
    Ok(Box::new(Answers(Bench::start(sidekeeper)?)))
}

// ---- requests ------------------------------------------------------------------------------------

/// What has to be answered.
struct Expected {
    method: String,
    target: String,
    body: Vec<u8>,
    /// Answered by sidekeeper itself.
    own: bool,
}

enum End {
    /// Nothing more is answered.
    Silence,
    /// One more answer, to a request with this method, if it was read that far.
    Refused(u16, bool),
    /// A body is incomplete: a reset, or nothing.
    Cut,
}

/// What the HTTP room decides about a client's bytes.
fn decide(input: &[u8]) -> (Vec<Expected>, End) {
    let mut expected = Vec::new();
    let mut rest = input;
    loop {
        let mut storage = fields();
        let request = match read_request(rest, &mut storage, &LIMITS) {
            Ok(Some(request)) => request,
            Ok(None) => return (expected, End::Silence),
            Err(refusal) => return (expected, End::Refused(refusal.status(), false)),
        };
        let method = request.method.as_str().to_owned();
        let behind = rest.get(request.len..).unwrap_or_default();
        let mut decoder = Decoder::new(request.framing);
        let mut body = Vec::new();
        let used = transfer(&mut decoder, Framing::UntilClose, behind, &mut body);
        let bodyless = matches!(request.framing, Framing::Empty | Framing::Length(0));
        let target = match request.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.to_owned(),
        };
        let one = Expected {
            method: method.clone(),
            target,
            body,
            own: request.ends_here,
        };
        if request.ends_here && !bodyless {
            expected.push(one);
            return (expected, End::Silence);
        }
        match used {
            Err(_) => return (expected, End::Refused(400, method == "HEAD")),
            Ok(_) if !decoder.is_done() => return (expected, End::Cut),
            Ok(used) => {
                expected.push(one);
                if !request.persistent {
                    return (expected, End::Silence);
                }
                rest = behind.get(used..).unwrap_or_default();
            }
        }
    }
}

struct Requests(Bench);

impl Target for Requests {
    fn seeds(&self) -> Vec<Vec<u8>> {
        request_seeds()
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        DICTIONARY
    }

    fn run(&mut self, input: &[u8]) -> Verdict {
        let (expected, end) = decide(input);
        let (port, came, orderly) = self.0.talk(input)?;
        let seen = lock(&self.0.worker).seen.remove(&port).unwrap_or_default();
        self.0.complaints()?;
        let forwarded = expected.iter().filter(|one| !one.own);
        let forwarded: Vec<Seen> = forwarded
            .map(|one| (one.method.clone(), one.target.clone(), one.body.clone()))
            .collect();
        if seen != forwarded {
            return Err(format!("a worker saw {seen:?}, decided was {forwarded:?}"));
        }
        let mut rest = came.as_slice();
        for one in &expected {
            let answer = next_answer(&mut rest, &one.method)?;
            let body = description(port, &one.method, &one.target, &one.body);
            let fine = match (one.own, one.method.as_str()) {
                (true, _) => answer.status == 200 || answer.status == 405,
                (false, "HEAD") => answer.status == 200,
                (false, _) => answer.status == 200 && answer.body == body.as_bytes(),
            };
            if !fine {
                return Err(format!(
                    "{body} is answered {} {}",
                    answer.status,
                    answer.body.escape_ascii()
                ));
            }
        }
        match end {
            End::Silence if rest.is_empty() && orderly => {}
            End::Cut if rest.is_empty() => {}
            End::Refused(status, head) if orderly => {
                let method = if head { "HEAD" } else { "GET" };
                let answer = next_answer(&mut rest, method)?;
                // A head that breaks two rules may be refused for the one that is seen first.
                let refused = [400, 414, 417, 431, 501, 505].contains(&answer.status);
                if !refused || !answer.closes || !rest.is_empty() {
                    return Err(format!(
                        "refused with {}, not {status}; then {}",
                        answer.status,
                        rest.escape_ascii()
                    ));
                }
            }
            End::Silence | End::Cut | End::Refused(..) => {
                return Err(format!(
                    "at the end (orderly: {orderly}) came {}",
                    rest.escape_ascii()
                ));
            }
        }
        let last = match end {
            End::Silence => 0,
            End::Cut => 1,
            End::Refused(status, _) => status,
        };
        Ok(format!(
            "{} {last} {}",
            expected.len(),
            expected.iter().filter(|one| !one.body.is_empty()).count()
        ))
    }
}

// ---- answers -------------------------------------------------------------------------------------

struct Answer {
    status: u16,
    body: Vec<u8>,
    closes: bool,
}

/// The next final answer in what a client got.
fn next_answer(rest: &mut &[u8], method: &str) -> Result<Answer, String> {
    loop {
        let head = match naive::head(rest) {
            Parsed::Whole(head) => head,
            other => {
                return Err(format!(
                    "no answer to {method} in {}: {other:?}",
                    rest.escape_ascii()
                ));
            }
        };
        let status = head
            .start
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse::<u16>().ok());
        let status = status.filter(|_| head.start.starts_with("HTTP/1.1 "));
        let status = status.ok_or_else(|| format!("a status line: {}", head.start))?;
        let closes = head
            .values("connection")
            .iter()
            .any(|v| v.eq_ignore_ascii_case(b"close"));
        let behind = rest.get(head.len..).unwrap_or_default();
        if (100..200).contains(&status) {
            *rest = behind;
            continue;
        }
        if method == "HEAD" || status == 204 || status == 304 {
            *rest = behind;
            return Ok(Answer {
                status,
                body: Vec::new(),
                closes,
            });
        }
        let unframed =
            head.values("content-length").is_empty() && head.values("transfer-encoding").is_empty();
        if unframed {
            *rest = &[];
            return Ok(Answer {
                status,
                body: behind.to_vec(),
                closes,
            });
        }
        return match naive::message(rest) {
            Parsed::Whole(message) => {
                *rest = rest.get(message.len..).unwrap_or_default();
                Ok(Answer {
                    status,
                    body: message.body,
                    closes,
                })
            }
            other => Err(format!("an answer that reads {other:?}")),
        };
    }
}

enum Decided {
    /// Nothing of it can be passed on: 502.
    Broken,
    /// It is passed on whole. `until_close`: its end is the connection's.
    Whole {
        status: u16,
        body: Vec<u8>,
        until_close: bool,
        goes_on: bool,
    },
    /// It begins well and does not end.
    Cut,
}

/// What the HTTP room decides about a worker's bytes, after which the worker closes.
fn decide_answer(input: &[u8]) -> Decided {
    const INTERIM_HEADS_MAX: usize = 32;
    let mut rest = input;
    for _ in 0..=INTERIM_HEADS_MAX {
        let mut storage = fields();
        let response = match read_response(rest, &mut storage, &LIMITS, Asked::default()) {
            Ok(Some(response)) => response,
            Ok(None) | Err(_) => return Decided::Broken,
        };
        let behind = rest.get(response.len..).unwrap_or_default();
        if response.status < 200 {
            rest = behind;
            continue;
        }
        let mut decoder = Decoder::new(response.framing);
        let mut body = Vec::new();
        let used = transfer(&mut decoder, Framing::UntilClose, behind, &mut body);
        let Ok(used) = used else { return Decided::Cut };
        if !decoder.is_done() && !decoder.is_until_close() {
            return Decided::Cut;
        }
        return Decided::Whole {
            status: response.status,
            body,
            until_close: response.encoding(Version::Http11) == Framing::UntilClose,
            goes_on: decoder.is_done() && response.persistent && used == behind.len(),
        };
    }
    Decided::Broken
}

struct Answers(Bench);

impl Target for Answers {
    fn seeds(&self) -> Vec<Vec<u8>> {
        response_seeds()
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        DICTIONARY
    }

    fn run(&mut self, input: &[u8]) -> Verdict {
        let decided = decide_answer(input);
        {
            let mut worker = lock(&self.0.worker);
            worker.answer = input.to_vec();
            worker.goes_on = matches!(decided, Decided::Whole { goes_on: true, .. });
        }
        let two = b"GET /fuzz HTTP/1.1\r\nHost: h\r\n\r\nGET /other HTTP/1.1\r\nHost: h\r\n\r\n";
        let (port, came, orderly) = self.0.talk(two)?;
        lock(&self.0.worker).seen.remove(&port);
        self.0.complaints()?;
        let mut rest = came.as_slice();
        let first = next_answer(&mut rest, "GET");
        let (sentence, ends) = match (decided, first) {
            (Decided::Broken, Ok(answer)) if answer.status == 502 => ("broken".to_owned(), false),
            (
                Decided::Whole {
                    status,
                    body,
                    until_close,
                    ..
                },
                Ok(answer),
            ) if (answer.status, &answer.body) == (status, &body) => (
                format!("{status} {} {until_close}", body.len().min(9)),
                until_close,
            ),
            (Decided::Cut, Err(_)) if !orderly => return Ok("cut".to_owned()),
            (decided, first) => {
                let decided = match decided {
                    Decided::Broken => "broken".to_owned(),
                    Decided::Cut => "cut".to_owned(),
                    Decided::Whole { status, body, .. } => {
                        format!("{status} {}", body.escape_ascii())
                    }
                };
                let first =
                    first.map(|answer| format!("{} {}", answer.status, answer.body.escape_ascii()));
                return Err(format!(
                    "decided was {decided}, the client got (orderly: {orderly}) {first:?}"
                ));
            }
        };
        if ends {
            return if rest.is_empty() && orderly {
                Ok(sentence)
            } else {
                Err("something follows the end".to_owned())
            };
        }
        let second = next_answer(&mut rest, "GET")?;
        let own = description(port, "GET", "/other", b"");
        if second.status != 200 || second.body != own.as_bytes() || !rest.is_empty() || !orderly {
            return Err(format!(
                "the next request got {} {}",
                second.status,
                second.body.escape_ascii()
            ));
        }
        Ok(sentence)
    }
}
