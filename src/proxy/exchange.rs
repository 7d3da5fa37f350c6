//! One request and its response, in both directions at once. Runs on a pool thread, never waits.
//!
//! ```text
//!   upload   Body ──────────────> Done        all of the request is with the worker
//!              └────────────────> Dropped     nobody wants the rest any more
//!   answer   Awaited ──> Body ──> Complete    all of the response is with the client's socket
//!              └────────────────> Complete    or it is an answer of ours
//! ```
//! Each direction reads only when what it read before has been taken, so an exchange never holds
//! more than one read of either side. Bytes become requests and responses in `http`; the sockets'
//! fate is told by [`Outcome`]; which worker, by `route`.

mod answer;
mod asleep;
mod deadlines;
mod dispatch;
mod upload;

use self::asleep::Queued;
use super::learn::Lesson;
use super::own::Own;
use super::slab::Id;
use super::{Client, CloseReason, Context, HandOff, Outcome};
use crate::http::forwarded;
use crate::http::framing::{Decoder, Framing};
use crate::http::head::{Asked, ClientSide, Method, Request, Version};
use crate::roster::{Looks, Slot};
use log::{debug, warn};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// See the module's text.
#[derive(Debug)]
pub struct Exchange {
    /// Whose connection it is, and who sent the request.
    from: ClientSide,
    version: Version,
    asked: Asked,
    /// Why the connection ends with this exchange; None: it may carry another one.
    last: Option<CloseReason>,
    upload: Upload,
    answer: AnswerState,
    upstream: Option<Id>,
    /// The slot that was asked, for the log and for a second try elsewhere.
    slot: Option<Slot>,
    /// A session binds the request to that slot.
    bound: bool,
    /// With a session, a request of this method is a poll, which is held until there is something to
    /// say.
    get: bool,
    /// Where our own cookie leads, which the client has sent.
    affinity: Option<Slot>,
    /// What the client of an engine.io session looks like.
    looks: Looks,
    /// The client of an engine.io session closes it with this request.
    farewell: bool,
    /// The request may be sent once more if its worker dies before it answers.
    repeatable: bool,
    /// What was sent, if it may be sent again, or what waits to be sent.
    kept: Vec<u8>,
    /// No worker has had room for the request yet.
    waiting: Option<Waiting>,
    /// It waits for the first worker of its app.
    queued: Option<Queued>,
    /// The part of the worker's head that has come.
    partial: Vec<u8>,
    interim_heads: u32,
    lesson: Lesson,
    hand_off: Option<HandOff>,
    /// The worker's connection can carry another exchange after this one.
    reusable: bool,
    /// The client has not kept up: smaller reads keep less waiting for it.
    slow: bool,
    answer_timeout: Duration,
    /// Bytes of the request's body; 0: any.
    body_bytes_max: u64,
    /// When the request's head was complete, microseconds.
    began_us: u64,
    /// When a byte last moved.
    progress_ms: u64,
}

/// Since when a request waits for room in a worker's backlog, and when it last asked.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    since_ms: u64,
    tried_ms: u64,
}

/// How often room is asked for. A full backlog gives no event when it empties.
const ASK_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug)]
enum Upload {
    /// Body bytes are still to come; `taken` have come, if their number is limited.
    Body {
        decoder: Decoder,
        to: Framing,
        taken: u64,
        /// The client waits to be told to go on (RFC 9110 10.1.1): it is not late.
        held_back: bool,
    },
    Done,
    Dropped,
}

#[derive(Debug)]
enum AnswerState {
    Awaited,
    Body { decoder: Decoder, to: Framing },
    Complete,
}

/// Rounds of one exchange before other connections of the thread have their turn: about a MiB.
const TURNS_MAX: usize = 16;

impl Default for Exchange {
    fn default() -> Self {
        Exchange {
            from: ClientSide::direct(None),
            version: Version::Http11,
            asked: Asked {
                head: false,
                upgrade: false,
            },
            last: None,
            upload: Upload::Done,
            answer: AnswerState::Awaited,
            upstream: None,
            slot: None,
            bound: false,
            get: false,
            affinity: None,
            looks: Looks::UNKNOWN,
            farewell: false,
            repeatable: false,
            kept: Vec::new(),
            waiting: None,
            queued: None,
            partial: Vec::new(),
            interim_heads: 0,
            lesson: Lesson::Nothing,
            hand_off: None,
            reusable: false,
            slow: false,
            answer_timeout: Duration::ZERO,
            body_bytes_max: 0,
            began_us: 0,
            progress_ms: 0,
        }
    }
}

/// A step's result: whether bytes moved, or how the exchange ends.
type Step = Result<bool, Outcome>;

impl Exchange {
    /// Begins an exchange: routes the request, sends its head and what has come of its body.
    /// `bytes` is what was read, head and all; what lies behind the body goes to `client.unread`.
    /// `last`: the connection ends with this exchange, and why.
    pub fn begin(
        ctx: &mut Context,
        client: &mut Client,
        request: &Request<'_, '_>,
        bytes: &[u8],
        last: Option<CloseReason>,
    ) -> Box<Exchange> {
        let mut exchange = ctx.spare.pop().unwrap_or_default();
        exchange.reset(ctx, client.peer(), request, last);
        let bodyless = matches!(exchange.upload, Upload::Done);
        if let Err(own) = exchange.send_request(ctx, client, request, bytes) {
            // What came behind a request without a body is the next request, whoever answers this
            // one; what may be a body's never is.
            if bodyless && client.unread.is_empty() {
                let behind = bytes.get(request.len..).unwrap_or_default();
                client.unread.extend_from_slice(behind);
            }
            exchange.answer_ourselves(ctx, client, own);
        }
        exchange
    }

    fn reset(
        &mut self,
        ctx: &Context,
        peer: Option<SocketAddr>,
        request: &Request<'_, '_>,
        last: Option<CloseReason>,
    ) {
        let (mut kept, mut partial) = (
            std::mem::take(&mut self.kept),
            std::mem::take(&mut self.partial),
        );
        kept.clear();
        partial.clear();
        *self = Exchange {
            from: forwarded::client_side(&ctx.settings.trusted_proxies, peer, request),
            version: request.version,
            asked: Asked {
                head: matches!(request.method, Method::Head),
                upgrade: request.websocket,
            },
            last: last.or((!request.persistent).then_some(CloseReason::ClientAsked)),
            upload: match request.framing {
                Framing::Empty | Framing::Length(0) => Upload::Done,
                Framing::Length(_) | Framing::Chunked | Framing::UntilClose => Upload::Body {
                    decoder: Decoder::new(request.framing),
                    to: request.framing,
                    taken: 0,
                    held_back: request.expects_continue,
                },
            },
            lesson: Lesson::of(request),
            get: matches!(request.method, Method::Get),
            answer_timeout: ctx.settings.answer_timeout,
            body_bytes_max: ctx.settings.body_bytes_max,
            began_us: ctx.now_us,
            progress_ms: ctx.now_ms,
            kept,
            partial,
            ..Exchange::default()
        };
    }

    /// Moves what is ready, in both directions, until nothing is or others want their turn.
    pub fn drive(&mut self, ctx: &mut Context, client: &mut Client) -> Outcome {
        if let Some(hand_off) = self.hand_off.take() {
            return Outcome::HandOff(hand_off);
        }
        let mut input = std::mem::take(&mut ctx.input);
        let mut turns = 0;
        let outcome = loop {
            let moved = self
                .upload_step(ctx, client, &mut input)
                .and_then(|up| Ok(self.answer_step(ctx, client, &mut input)? || up));
            match moved {
                Ok(true) if turns < TURNS_MAX => turns += 1,
                Ok(true) => break Outcome::Yield,
                Ok(false) => break self.rest(ctx, client),
                Err(outcome) => break outcome,
            }
        };
        ctx.input = input;
        outcome
    }

    /// Nothing more can be moved now: either all is done, or an event is waited for.
    fn rest(&mut self, ctx: &mut Context, client: &mut Client) -> Outcome {
        if client.gone {
            return self.abandon(ctx, CloseReason::ClientLeft);
        }
        let complete = matches!(self.answer, AnswerState::Complete);
        if complete && client.outbox.is_empty() {
            return self.finish(client);
        }
        if let Some(id) = self.upstream
            && ctx.upstreams.get(id).is_some_and(|u| !u.outbox.is_empty())
            && ctx.upstreams.watch_write(&ctx.epoll, id).is_err()
        {
            return self.abandon(ctx, CloseReason::System);
        }
        Outcome::Parked
    }

    /// The connection ends with this exchange, and the answer says so if its head is still to come.
    pub fn make_last(&mut self, reason: CloseReason) {
        match self.answer {
            AnswerState::Awaited => {
                self.last.get_or_insert(reason);
            }
            AnswerState::Body { .. } | AnswerState::Complete => {}
        }
    }

    fn finish(&self, client: &Client) -> Outcome {
        let silent = client.unread.is_empty() && !client.intake.readable;
        match (&self.upload, self.last) {
            (Upload::Done, None) => Outcome::Done,
            (Upload::Done, Some(reason)) if silent => Outcome::Close(reason),
            (Upload::Done, Some(reason)) => Outcome::Linger(reason),
            (Upload::Body { .. } | Upload::Dropped, reason) => {
                Outcome::Linger(reason.unwrap_or(CloseReason::AnsweredEarly))
            }
        }
    }

    /// All of the answer is sent or in the outbox: the worker's connection is free.
    fn complete(&mut self, ctx: &mut Context) {
        self.answer = AnswerState::Complete;
        if let Upload::Body { .. } = self.upload {
            self.upload = Upload::Dropped;
        }
        let whole = matches!(self.upload, Upload::Done);
        if let Some(id) = self.upstream.take() {
            if let Some(upstream) = ctx.upstreams.get(id) {
                upstream.gauges.finished.fetch_add(1, Relaxed);
            }
            if self.reusable && whole {
                ctx.upstreams.shelve(&ctx.epoll, id, ctx.now_ms);
            } else {
                ctx.upstreams.close(id);
            }
        }
    }

    /// Puts an answer of ours in place of the worker's, which has not begun.
    fn answer_ourselves(&mut self, ctx: &mut Context, client: &mut Client, own: Own) {
        if own.status() >= 500 {
            warn!(
                "{}: {}: {}",
                self.worker_name(ctx),
                own.status(),
                own.reason()
            );
        } else {
            debug!("{}: {}", own.status(), own.reason());
        }
        if let (502 | 504, Some(upstream)) = (
            own.status(),
            self.upstream.and_then(|id| ctx.upstreams.get(id)),
        ) {
            upstream.gauges.broken.fetch_add(1, Relaxed);
        }
        ctx.front.own.count(own.status());
        self.drop_upstream(ctx);
        if !matches!(self.upload, Upload::Done) {
            self.upload = Upload::Dropped;
            self.last.get_or_insert(CloseReason::Refused);
        }
        if let Own::SessionGone { upgrade: true } = own {
            self.last.get_or_insert(CloseReason::Refused);
        }
        self.waiting = None;
        self.queued = None;
        self.answer = AnswerState::Complete;
        let mut output = std::mem::take(&mut ctx.output);
        output.clear();
        own.write(&mut output, &self.delivery(ctx, self.last.is_some()));
        if client.send(&output).is_err() {
            client.gone = true;
        }
        ctx.output = output;
    }

    fn drop_upstream(&mut self, ctx: &mut Context) {
        if let Some(id) = self.upstream.take() {
            ctx.upstreams.close(id);
        }
    }

    fn abandon(&mut self, ctx: &mut Context, reason: CloseReason) -> Outcome {
        // A poll that its client gives up: engine.io takes that for the end of the connection.
        if let (true, Some(upstream)) = (
            self.bound && reason == CloseReason::ClientLeft,
            self.upstream.and_then(|id| ctx.upstreams.get(id)),
        ) {
            let (slot, life) = (upstream.slot, upstream.life);
            let returning = ctx.router.returning();
            returning.left(self.looks, slot, life, ctx.now_ms);
        }
        self.drop_upstream(ctx);
        Outcome::Abort(reason)
    }

    /// Ends the exchange from outside: the connection is being closed.
    pub fn cancel(&mut self, ctx: &mut Context) {
        self.queued = None;
        self.drop_upstream(ctx);
    }

    /// `app.instance` of the worker that was asked, for the log.
    fn worker_name(&self, ctx: &Context) -> String {
        let roster = ctx.router.roster();
        match self.slot.and_then(|slot| roster.find(slot)) {
            Some((app, worker)) => format!("{}.{}", app.name, worker.instance),
            None => "no worker".to_owned(),
        }
    }
}
