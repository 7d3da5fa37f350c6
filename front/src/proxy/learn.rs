//! What a worker's answer teaches about sessions: the `sid` of an engine.io handshake, and the
//! cookies that an app is configured to bind its clients with.

use super::Context;
use crate::as_json;
use crate::http::framing::Decoder;
use crate::http::head::{Request, Response};
use crate::http::sniff;
use crate::roster::{Looks, Slot};
use crate::route;

/// How much of a handshake's body is looked at.
const SNIFF_BYTES_MAX: usize = 512;

/// What an exchange waits to learn from its answer.
#[derive(Debug, Default)]
pub enum Lesson {
    #[default]
    Nothing,
    /// The request is an engine.io handshake: the body of its answer names the session. Holds
    /// what has come of the body.
    Handshake(Vec<u8>),
    /// The request names a session that its client has made up: who answers it owns it.
    MadeUp(Box<[u8]>),
}

as_json!(
    enum Lesson {
        Nothing,
        Handshake(a),
        MadeUp(a),
    }
);

/// Who answers whom.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub slot: Slot,
    pub life: u32,
    /// The client's.
    pub looks: Looks,
}

impl Lesson {
    /// What the answer to this request may teach.
    pub fn of(request: &Request<'_, '_>) -> Self {
        if sniff::is_engine_request(request) && route::engine_sid(request).is_none() {
            return Lesson::Handshake(Vec::new());
        }
        match sniff::sockjs_session(request.path) {
            // A WebSocket of SockJS is its session's only connection.
            Some(session) if !request.websocket => Lesson::MadeUp(session.as_bytes().into()),
            Some(_) | None => Lesson::Nothing,
        }
    }

    /// Looks at an answer's head. Learned before the client sees the answer: its next request
    /// may come at once, on another thread.
    pub fn head(&mut self, ctx: &Context, slot: Slot, life: u32, response: &Response<'_, '_>) {
        let lesson = if response.is_interim() {
            return;
        } else if response.status < 300 {
            std::mem::take(self)
        } else {
            *self = Lesson::Nothing;
            Lesson::Nothing
        };
        // Few answers teach anything, and looking for the worker takes longer the more there are.
        if matches!(lesson, Lesson::Nothing) && !response.fields().any(|(n, _)| is_set_cookie(n)) {
            return;
        }
        let roster = ctx.router.roster();
        let Some((app, worker)) = roster.find(slot).filter(|(_, w)| w.life == life) else {
            return;
        };
        match lesson {
            Lesson::Nothing => {}
            Lesson::Handshake(_) => *self = lesson,
            Lesson::MadeUp(session) => {
                let (router, now_ms) = (&ctx.router, ctx.now_ms);
                router.learn_engine(app, worker, &session, Looks::UNKNOWN, now_ms);
            }
        }
        if app.session_cookies.is_empty() {
            return;
        }
        for (name, value) in response.fields() {
            if !is_set_cookie(name) {
                continue;
            }
            let Some(value) = session_cookie(value, &app.session_cookies) else {
                continue;
            };
            ctx.router.learn_cookie(app, worker, value, ctx.now_ms);
        }
    }

    /// Looks at body bytes that `decoder` is about to take.
    pub fn body(&mut self, ctx: &Context, from: Source, decoder: &Decoder, input: &[u8]) {
        let Source { slot, life, looks } = from;
        let Lesson::Handshake(seen) = self else {
            return;
        };
        let mut decoder = decoder.clone();
        let mut rest = input;
        while !decoder.is_done() && !rest.is_empty() && seen.len() < SNIFF_BYTES_MAX {
            let Ok(step) = decoder.step(rest) else {
                break;
            };
            let end = step.framing.saturating_add(step.data);
            if end == 0 {
                break;
            }
            seen.extend_from_slice(rest.get(step.framing..end).unwrap_or_default());
            rest = rest.get(end..).unwrap_or_default();
        }
        seen.truncate(SNIFF_BYTES_MAX);
        if let Some(sid) = sniff::engine_session(seen) {
            let roster = ctx.router.roster();
            if let Some((app, worker)) = roster.find(slot)
                && worker.life == life
            {
                let (router, now_ms) = (&ctx.router, ctx.now_ms);
                router.learn_engine(app, worker, sid, looks, now_ms);
            }
            *self = Lesson::Nothing;
        } else if decoder.is_done() || seen.len() >= SNIFF_BYTES_MAX {
            *self = Lesson::Nothing;
        }
    }
}

fn is_set_cookie(name: &str) -> bool {
    name.eq_ignore_ascii_case("set-cookie")
}

/// The value of a `Set-Cookie` field whose name is one of `names`. RFC 6265, 5.2.
fn session_cookie<'b>(field: &'b [u8], names: &[String]) -> Option<&'b [u8]> {
    let pair = field.split(|b| *b == b';').next()?;
    let equals = pair.iter().position(|b| *b == b'=')?;
    let (name, value) = (pair.get(..equals)?, pair.get(equals + 1..)?);
    let name = name.trim_ascii();
    names
        .iter()
        .any(|wanted| wanted.as_bytes() == name)
        .then(|| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_value_of_a_named_cookie() {
        let names = ["connect.sid".to_owned()];
        let table: [(&[u8], Option<&[u8]>); 5] = [
            (
                b"connect.sid=s%3Aab.cd; Path=/; HttpOnly",
                Some(b"s%3Aab.cd"),
            ),
            (b" connect.sid = x", Some(b"x")),
            (b"other=connect.sid=1", None),
            (b"connect.sid", None),
            (b"", None),
        ];
        for (field, want) in table {
            assert_eq!(session_cookie(field, &names), want);
        }
    }
}
