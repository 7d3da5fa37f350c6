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
mod splice;
mod upload;

use self::asleep::Queued;
use super::learn::Lesson;
use super::own::{Own, Told};
use super::record::{End, Record};
use super::slab::Id;
use super::{Audience, Client, CloseReason, Context, Farewell, HandOff, Outcome, head_bytes};
use crate::as_json;
use crate::http::forwarded;
use crate::http::framing::{Decoder, Framing};
use crate::http::head::{Asked, ClientSide, Method, Request};
use crate::http::reply::{Details, Form};
use crate::roster::traffic::Stage;
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
    record: Record,
    asked: Asked,
    /// Why the connection ends with this exchange; None: it may carry another one.
    last: Option<CloseReason>,
    upload: Upload,
    answer: AnswerState,
    upstream: Option<Id>,
    /// A session binds the request to the slot that was asked.
    bound: bool,
    /// With a session, a request of this method is a poll, which is held until there is something to
    /// say.
    get: bool,
    /// Where our own cookie leads, which the client has sent.
    affinity: Option<Slot>,
    /// The app binds browsers to workers with a cookie of ours.
    affine: bool,
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
    hand_off: Option<Box<HandOff>>,
    /// The worker's connection can carry another exchange after this one.
    reusable: bool,
    /// The client has not kept up: smaller reads keep less waiting for it.
    slow: bool,
    answer_timeout: Duration,
    /// Bytes of the request's body; 0: any.
    body_bytes_max: u64,
    /// When a byte last moved.
    progress_ms: u64,
}

as_json!(struct Exchange or default {
    from, record, asked, last, upload, answer, bound, get, affinity, affine, looks, farewell,
    repeatable, kept, waiting, partial, interim_heads, lesson, reusable, slow, answer_timeout,
    body_bytes_max, progress_ms
});

/// Since when a request waits for room in a worker's backlog, and when it last asked.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    since_ms: u64,
    tried_ms: u64,
}

as_json!(struct Waiting { since_ms, tried_ms });

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

as_json!(enum Upload { Body { decoder, to, taken, held_back }, Done, Dropped });

#[derive(Debug)]
enum AnswerState {
    Awaited,
    Body { decoder: Decoder, to: Framing },
    Complete,
}

as_json!(enum AnswerState { Awaited, Body { decoder, to }, Complete });

/// Rounds of one exchange before other connections of the thread have their turn: about a MiB.
const TURNS_MAX: usize = 16;

impl Default for Exchange {
    fn default() -> Self {
        Exchange {
            from: ClientSide::direct(None),
            record: Record::default(),
            asked: Asked {
                head: false,
                upgrade: false,
            },
            last: None,
            upload: Upload::Done,
            answer: AnswerState::Awaited,
            upstream: None,
            bound: false,
            get: false,
            affinity: None,
            affine: false,
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
        let mut exchange = ctx.spare.take();
        exchange.reset(ctx, client.peer(), request, last);
        let again = client.again.take();
        let again = again.as_deref();
        let record = &mut exchange.record;
        record.begin(&mut ctx.ids, ctx.now_us, &exchange.from, request, again);
        let bodyless = matches!(exchange.upload, Upload::Done);
        if let Err(own) = exchange.send_request(ctx, client, request, bytes, again) {
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
        // Field by field, so that nothing is moved but what changes; and all of them, which the
        // pattern sees to. What has begun is cleared by `Record::begin`.
        let Exchange {
            from,
            record: _,
            asked,
            last: ends,
            upload,
            answer,
            upstream,
            bound,
            get,
            affinity,
            affine,
            looks,
            farewell,
            repeatable,
            kept,
            waiting,
            queued,
            partial,
            interim_heads,
            lesson,
            hand_off,
            reusable,
            slow,
            answer_timeout,
            body_bytes_max,
            progress_ms,
        } = self;
        *from = forwarded::client_side(&ctx.settings.trusted_proxies, peer, request);
        *asked = Asked {
            head: matches!(request.method, Method::Head),
            upgrade: request.websocket,
        };
        *ends = last.or((!request.persistent).then_some(CloseReason::ClientAsked));
        *upload = match request.framing {
            Framing::Empty | Framing::Length(0) => Upload::Done,
            Framing::Length(_) | Framing::Chunked | Framing::UntilClose => Upload::Body {
                decoder: Decoder::new(request.framing),
                to: request.framing,
                taken: 0,
                held_back: request.expects_continue,
            },
        };
        *answer = AnswerState::Awaited;
        *upstream = None;
        *bound = false;
        *get = matches!(request.method, Method::Get);
        *affinity = None;
        *affine = false;
        *looks = Looks::UNKNOWN;
        *farewell = false;
        *repeatable = false;
        kept.clear();
        *waiting = None;
        *queued = None;
        partial.clear();
        *interim_heads = 0;
        *lesson = Lesson::of(request);
        *hand_off = None;
        *reusable = false;
        *slow = false;
        *answer_timeout = ctx.settings.answer_timeout;
        *body_bytes_max = ctx.settings.body_bytes_max;
        *progress_ms = ctx.now_ms;
    }

    /// The connection to its worker.
    pub fn upstream(&self) -> Option<Id> {
        self.upstream
    }

    pub fn set_upstream(&mut self, upstream: Option<Id>) {
        self.upstream = upstream;
    }

    /// What the client has sent, if its connection is about to be handed to its worker.
    pub fn original_of_hand_off(&self) -> Option<&[u8]> {
        self.hand_off.as_ref().map(|hand_off| &*hand_off.original)
    }

    /// Moves what is ready, in both directions, until nothing is or others want their turn.
    pub fn drive(&mut self, ctx: &mut Context, client: &mut Client) -> Outcome {
        if let Some(mut hand_off) = self.hand_off.take() {
            let mut record = std::mem::take(&mut self.record);
            record.end = End::HandedOff;
            ctx.recent.push(&record, ctx.now_us);
            hand_off.farewell = Farewell::new(ctx, record);
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

    fn finish(&mut self, client: &Client) -> Outcome {
        if self.record.end == End::Open {
            self.record.end = End::Completed;
        }
        match (&self.upload, self.last) {
            (Upload::Done, None) => Outcome::Done,
            (Upload::Done, Some(reason)) if client.is_silent() => Outcome::Close(reason),
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
                "{}: {}: {} (request {})",
                self.worker_name(ctx),
                own.status(),
                own.reason(),
                String::from_utf8_lossy(self.record.id_text())
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
        self.record.end = End::Own(own);
        self.record.status = own.status();
        let details = self.details(ctx, own);
        let told = Told {
            request_id: self.record.id_text(),
            form: Form::wanted(self.record.accept()),
            details: details.as_ref(),
        };
        let mut output = std::mem::take(&mut ctx.output);
        output.clear();
        own.write(&mut output, &self.delivery(ctx, self.last.is_some()), told);
        self.record.head_out += head_bytes(&output);
        if self.deliver(client, &output).is_err() {
            client.gone = true;
        }
        ctx.output = output;
    }

    /// What the operator is told beside the status, if the client is one.
    fn details(&self, ctx: &Context, own: Own) -> Option<Details> {
        match ctx.settings.error_details {
            Audience::All => {}
            Audience::Local if self.record.local => {}
            Audience::Local | Audience::Nobody => return None,
        }
        let mut stderr = Vec::new();
        let slots = self.record.slot.into_iter();
        if own.status() >= 500 {
            let words = ctx.router.last_words();
            let all = ctx.router.roster().apps.get(self.record.app?);
            let others = all.into_iter().flat_map(|app| &app.workers).map(|w| w.slot);
            // Where none was up to be asked, any of them may have said why.
            let mut found = slots.chain(others).map(|slot| words.of(slot));
            stderr = found.find(|lines| !lines.is_empty()).unwrap_or_default();
        }
        Some(Details {
            worker: match self.record.slot {
                Some(_) => self.worker_name(ctx),
                None => String::new(),
            },
            reason: own.reason().to_owned(),
            stderr,
        })
    }

    /// Sends to the client, and counts.
    fn deliver(&mut self, client: &mut Client, bytes: &[u8]) -> std::io::Result<usize> {
        self.record.bytes_out += bytes.len() as u64;
        client.send(bytes)
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
        if self.record.end == End::Open {
            self.record.end = End::Cut(reason);
        }
        Outcome::Abort(reason)
    }

    /// What is known of the request.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What the request waits for.
    pub fn stage(&self) -> Stage {
        match self.answer {
            AnswerState::Awaited if self.upstream.is_some() => Stage::Sent,
            AnswerState::Awaited => Stage::Waiting,
            AnswerState::Body { .. } | AnswerState::Complete => Stage::Answering,
        }
    }

    /// The exchange is over, one way or the other.
    pub fn end(&mut self, ctx: &mut Context, client: &Client) {
        self.queued = None;
        self.drop_upstream(ctx);
        let untaken = client.outbox.len() as u64;
        self.record.bytes_out = self.record.bytes_out.saturating_sub(untaken);
        ctx.note(&self.record);
    }

    /// `app.instance` of the worker that was asked, for the log.
    fn worker_name(&self, ctx: &Context) -> String {
        let roster = ctx.router.roster();
        match self.record.slot.and_then(|slot| roster.find(slot)) {
            Some((app, worker)) => format!("{}.{}", app.name, worker.instance),
            None => "no worker".to_owned(),
        }
    }
}
