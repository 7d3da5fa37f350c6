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

use super::learn::Lesson;
use super::own::Own;
use super::slab::Id;
use super::{Client, CloseReason, Context, INPUT_BYTES, Outcome, Tunnel, deadline_ms};
use crate::http::framing::{self, Decoder, Framing};
use crate::http::head::{self, Asked, ClientSide, Delivery, Method, Request, Version};
use crate::roster::Slot;
use crate::route::{Decision, Why};
use log::{debug, warn};
use std::time::Duration;

/// See the module's text.
#[derive(Debug)]
pub struct Exchange {
    version: Version,
    asked: Asked,
    /// Why the connection ends with this exchange; None: it may carry another one.
    last: Option<CloseReason>,
    upload: Upload,
    answer: AnswerState,
    upstream: Option<Id>,
    /// The slot that was asked, for the log and for a second try elsewhere.
    slot: Option<Slot>,
    /// The head as it was sent, if the request may be sent again; else empty.
    replay: Vec<u8>,
    /// The part of the worker's head that has come.
    partial: Vec<u8>,
    interim_heads: u32,
    lesson: Lesson,
    /// The worker's connection can carry another exchange after this one.
    reusable: bool,
    /// The client has not kept up: smaller reads keep less waiting for it.
    slow: bool,
    answer_timeout: Duration,
    /// When a byte last moved.
    progress_ms: u64,
}

#[derive(Debug)]
enum Upload {
    /// Body bytes are still to come; `taken` have come.
    Body {
        decoder: Decoder,
        to: Framing,
        taken: u64,
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
/// 1xx heads of one exchange; more is a worker gone wrong.
const INTERIM_HEADS_MAX: u32 = 32;
/// One read for a client that does not keep up.
const SLOW_INPUT_BYTES: usize = 16 * 1024;
/// Workers that are tried for one request before it is answered 503.
const WORKERS_TRIED_MAX: usize = 4;

impl Default for Exchange {
    fn default() -> Self {
        Exchange {
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
            replay: Vec::new(),
            partial: Vec::new(),
            interim_heads: 0,
            lesson: Lesson::Nothing,
            reusable: false,
            slow: false,
            answer_timeout: Duration::ZERO,
            progress_ms: 0,
        }
    }
}

/// A step's result: whether bytes moved, or how the exchange ends.
type Step = Result<bool, Outcome>;

impl Exchange {
    /// Begins an exchange: routes the request, sends its head and what has come of its body.
    /// `rest` is what was read behind the head; what lies behind the body goes to
    /// `client.unread`. `last`: the connection ends with this exchange, and why.
    pub fn begin(
        ctx: &mut Context,
        client: &mut Client,
        request: &Request<'_, '_>,
        rest: &[u8],
        last: Option<CloseReason>,
    ) -> Box<Exchange> {
        let mut exchange = ctx.spare.pop().unwrap_or_default();
        exchange.reset(ctx, request, last);
        if let Err(own) = exchange.send_request(ctx, client, request, rest) {
            exchange.answer_ourselves(ctx, client, own);
        }
        exchange
    }

    fn reset(&mut self, ctx: &Context, request: &Request<'_, '_>, last: Option<CloseReason>) {
        let (mut replay, mut partial) = (
            std::mem::take(&mut self.replay),
            std::mem::take(&mut self.partial),
        );
        replay.clear();
        partial.clear();
        *self = Exchange {
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
                },
            },
            lesson: Lesson::of(request),
            answer_timeout: ctx.settings.answer_timeout,
            progress_ms: ctx.now_ms,
            replay,
            partial,
            ..Exchange::default()
        };
    }

    fn send_request(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        request: &Request<'_, '_>,
        rest: &[u8],
    ) -> Result<(), Own> {
        if request.ends_here {
            return Err(Own::FinalRecipient {
                options: matches!(request.method, Method::Options),
            });
        }
        let body_max = ctx.settings.body_bytes_max;
        if let Framing::Length(length) = request.framing
            && body_max > 0
            && length > body_max
        {
            return Err(Own::BodyTooLarge);
        }
        if request.websocket
            && ctx.settings.tunnels_max > 0
            && ctx.front.tunnels.load(std::sync::atomic::Ordering::Relaxed)
                >= ctx.settings.tunnels_max
        {
            return Err(Own::TunnelsMax);
        }
        let has_sid = crate::route::engine_sid(request).is_some();
        // A poll that has reached a worker must not reach it twice: engine.io ends the session.
        let repeatable = request.is_idempotent_and_bodyless() && !request.websocket && !has_sid;
        let ip = client.address.map(|a| a.ip());
        let decision = ctx.router.decide(request, ip, ctx.now_ms);
        if let Decision::SessionGone = decision {
            return Err(Own::SessionGone {
                upgrade: request.websocket,
            });
        }
        self.connect(ctx, client, decision, false, !repeatable)?;

        let mut output = std::mem::take(&mut ctx.output);
        output.clear();
        request.write_for_worker(
            &mut output,
            &ClientSide {
                address: client.address,
                scheme: "http",
            },
        );
        if repeatable {
            self.replay.extend_from_slice(&output);
        }
        let used = match &mut self.upload {
            Upload::Body { decoder, to, taken } => {
                let used = framing::transfer(decoder, *to, rest, &mut output)
                    .map_err(|m| Own::Refused(400, m.reason()));
                if let Ok(used) = used {
                    *taken = used as u64;
                    if decoder.is_done() {
                        self.upload = Upload::Done;
                    }
                }
                used
            }
            Upload::Done | Upload::Dropped => Ok(0),
        };
        let sent = match used {
            Ok(used) => {
                client
                    .unread
                    .extend_from_slice(rest.get(used..).unwrap_or_default());
                self.to_worker(ctx, &output);
                Ok(())
            }
            Err(own) => Err(own),
        };
        ctx.output = output;
        sent
    }

    /// Takes a connection to the decided worker, or to another one where no session forbids it.
    fn connect(
        &mut self,
        ctx: &mut Context,
        client: &Client,
        mut decision: Decision,
        fresh: bool,
        probe: bool,
    ) -> Result<(), Own> {
        let mut failed = [Slot(u32::MAX); WORKERS_TRIED_MAX];
        for tried in 0..WORKERS_TRIED_MAX {
            let (app, worker, why) = match decision {
                Decision::Worker { app, worker, why } => (app, worker, why),
                Decision::NoApp => return Err(Own::NoApp),
                Decision::NoWorker { .. } if tried > 0 => return Err(Own::Full),
                Decision::NoWorker { .. } | Decision::SessionGone => return Err(Own::NoWorker),
            };
            let roster = ctx.router.roster();
            let Some((entry, target)) = roster
                .apps
                .get(app)
                .and_then(|a| Some((a, a.workers.get(worker)?)))
            else {
                return Err(Own::NoWorker);
            };
            let acquired = ctx
                .upstreams
                .acquire(&ctx.epoll, target, client.token, fresh, probe);
            match acquired {
                Ok(id) => {
                    self.upstream = Some(id);
                    self.slot = Some(target.slot);
                    if let Some(timeout) = entry.answer_timeout {
                        self.answer_timeout = timeout;
                    }
                    return Ok(());
                }
                Err(e) => {
                    warn!("{}.{}: cannot connect: {e}", entry.name, target.instance);
                    if why == Why::Sid {
                        return Err(Own::Full);
                    }
                    if let Some(place) = failed.get_mut(tried) {
                        *place = target.slot;
                    }
                    let ip = client.address.map(|a| a.ip());
                    decision = ctx.router.balanced(app, ip, &failed, Why::Moved);
                    if let Decision::Worker { app, worker, .. } = decision {
                        let again = ctx.router.roster().apps.get(app);
                        let again = again.and_then(|a| a.workers.get(worker));
                        if again.is_some_and(|w| failed.contains(&w.slot)) {
                            return Err(Own::Full);
                        }
                    }
                }
            }
        }
        Err(Own::Full)
    }

    /// Sends bytes to the worker. A worker that does not read any more may have answered already,
    /// so an error ends the upload only; what the answer says is found when it is read.
    fn to_worker(&mut self, ctx: &mut Context, bytes: &[u8]) {
        let Some(upstream) = self.upstream.and_then(|id| ctx.upstreams.get(id)) else {
            return;
        };
        match upstream.send(bytes) {
            Ok(_) => self.progress_ms = ctx.now_ms,
            Err(_) => {
                upstream.intake.readable = true;
                self.reusable = false;
                if let Upload::Body { .. } = self.upload {
                    self.upload = Upload::Dropped;
                }
            }
        }
    }

    /// Moves what is ready, in both directions, until nothing is or others want their turn.
    pub fn drive(&mut self, ctx: &mut Context, client: &mut Client) -> Outcome {
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

    fn upload_step(&mut self, ctx: &mut Context, client: &mut Client, input: &mut [u8]) -> Step {
        let Some(upstream) = self.upstream.and_then(|id| ctx.upstreams.get(id)) else {
            return Ok(false);
        };
        if !upstream.outbox.is_empty() {
            let flushed = upstream.flush();
            let stuck = !upstream.outbox.is_empty();
            match flushed {
                Ok(0) => return Ok(false),
                Ok(_) => self.progress_ms = ctx.now_ms,
                Err(_) => {
                    upstream.intake.readable = true;
                    upstream.outbox = Default::default();
                    self.reusable = false;
                    self.upload = Upload::Dropped;
                    return Ok(true);
                }
            }
            if stuck {
                return Ok(true);
            }
        }
        if !matches!(self.upload, Upload::Body { .. }) {
            return Ok(false);
        }
        let got = match client.recv(input) {
            Ok(None) => return Ok(false),
            Ok(Some(0)) | Err(_) => return Err(self.abandon(ctx, CloseReason::ClientLeft)),
            Ok(Some(n)) => input.get(..n).unwrap_or_default(),
        };
        self.upload_bytes(ctx, client, got)?;
        Ok(true)
    }

    /// Sends body bytes on as they are framed for the worker.
    fn upload_bytes(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        got: &[u8],
    ) -> Result<(), Outcome> {
        let Upload::Body { decoder, to, taken } = &mut self.upload else {
            return Ok(());
        };
        let mut output = std::mem::take(&mut ctx.output);
        output.clear();
        let (used, verbatim) = match framing::verbatim(decoder, *to, got) {
            Some(used) => (Ok(used), true),
            None => (framing::transfer(decoder, *to, got, &mut output), false),
        };
        let used = match used {
            Ok(used) => used,
            Err(malformed) => {
                ctx.output = output;
                return self.refuse_upload(ctx, client, Own::Refused(400, malformed.reason()));
            }
        };
        *taken = taken.saturating_add(used as u64);
        let too_large = ctx.settings.body_bytes_max > 0 && *taken > ctx.settings.body_bytes_max;
        if decoder.is_done() {
            self.upload = Upload::Done;
            client
                .unread
                .extend_from_slice(got.get(used..).unwrap_or_default());
        }
        if too_large {
            ctx.output = output;
            return self.refuse_upload(ctx, client, Own::BodyTooLarge);
        }
        if verbatim {
            self.to_worker(ctx, got.get(..used).unwrap_or_default());
        } else {
            self.to_worker(ctx, &output);
        }
        ctx.output = output;
        Ok(())
    }

    /// The upload cannot go on: it is answered if the worker has not begun to, else cut.
    fn refuse_upload(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        own: Own,
    ) -> Result<(), Outcome> {
        match self.answer {
            AnswerState::Awaited => {
                self.upload = Upload::Dropped;
                self.answer_ourselves(ctx, client, own);
                Ok(())
            }
            AnswerState::Body { .. } | AnswerState::Complete => {
                Err(self.abandon(ctx, CloseReason::Refused))
            }
        }
    }

    fn answer_step(&mut self, ctx: &mut Context, client: &mut Client, input: &mut [u8]) -> Step {
        if !client.outbox.is_empty() {
            match client.flush() {
                Ok(0) => {}
                Ok(_) => self.progress_ms = ctx.now_ms,
                Err(_) => return Err(self.abandon(ctx, CloseReason::ClientLeft)),
            }
            if !client.outbox.is_empty() {
                self.slow = true;
                return Ok(false);
            }
        }
        if let AnswerState::Complete = self.answer {
            return Ok(false);
        }
        let Some(upstream) = self.upstream.and_then(|id| ctx.upstreams.get(id)) else {
            return Ok(false);
        };
        let room = if self.slow {
            SLOW_INPUT_BYTES
        } else {
            INPUT_BYTES
        };
        let end = room.min(input.len());
        let input = input.get_mut(..end).unwrap_or_default();
        let got = match upstream.recv(input) {
            Ok(None) => return Ok(false),
            Ok(Some(0)) => return self.worker_ended(ctx, client, true),
            Err(_) => return self.worker_ended(ctx, client, false),
            Ok(Some(n)) => input.get(..n).unwrap_or_default(),
        };
        self.progress_ms = ctx.now_ms;
        match self.answer {
            AnswerState::Awaited => self.answer_head(ctx, client, got)?,
            AnswerState::Body { .. } => self.answer_body(ctx, client, got)?,
            AnswerState::Complete => {}
        }
        Ok(true)
    }

    /// Bytes have come while the answer's head is awaited.
    fn answer_head(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        got: &[u8],
    ) -> Result<(), Outcome> {
        let mut partial = std::mem::take(&mut self.partial);
        let result = if partial.is_empty() {
            self.read_heads(ctx, client, got)
        } else {
            partial.extend_from_slice(got);
            self.read_heads(ctx, client, &partial)
        };
        partial.clear();
        let tail = match result {
            // What is left over is the beginning of the next head.
            Ok(consumed) => consumed,
            Err(outcome) => return Err(outcome),
        };
        if !tail.is_empty() {
            partial.extend_from_slice(&tail);
        }
        self.partial = partial;
        Ok(())
    }

    /// Reads heads until the final one; returns the bytes of a head that is not complete yet.
    fn read_heads(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        mut bytes: &[u8],
    ) -> Result<Vec<u8>, Outcome> {
        let mut storage = head::fields();
        loop {
            let limits = &ctx.settings.head;
            let response = match head::read_response(bytes, &mut storage, limits, self.asked) {
                Ok(Some(response)) => response,
                Ok(None) => return Ok(bytes.to_vec()),
                Err(fault) => {
                    self.answer_ourselves(ctx, client, Own::WorkerBroke(fault.reason()));
                    return Ok(Vec::new());
                }
            };
            let rest = bytes.get(response.len..).unwrap_or_default();
            match response.status {
                101 => return Err(self.tunnel(ctx, client, &response, rest)),
                100..200 => {
                    self.interim_heads += 1;
                    if self.interim_heads > INTERIM_HEADS_MAX {
                        self.answer_ourselves(ctx, client, Own::WorkerBroke("too many 1xx heads"));
                        return Ok(Vec::new());
                    }
                    // An HTTP/1.0 client does not know 1xx. RFC 9110, 15.2.
                    if self.version == Version::Http11 {
                        let mut output = std::mem::take(&mut ctx.output);
                        output.clear();
                        response.write_for_client(&mut output, &self.delivery(ctx, false));
                        let sent = client.send(&output);
                        ctx.output = output;
                        if sent.is_err() {
                            return Err(self.abandon(ctx, CloseReason::ClientLeft));
                        }
                    }
                    if rest.is_empty() {
                        return Ok(Vec::new());
                    }
                    bytes = rest;
                }
                _ => {
                    self.final_head(ctx, client, &response, rest)?;
                    return Ok(Vec::new());
                }
            }
        }
    }

    fn delivery(&self, ctx: &Context, close: bool) -> Delivery {
        Delivery {
            version: self.version,
            close,
            head: self.asked.head,
            date: Some(ctx.date),
        }
    }

    /// The final head: sends it, with what has come of the body, in one piece.
    fn final_head(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        response: &head::Response<'_, '_>,
        rest: &[u8],
    ) -> Result<(), Outcome> {
        let to = response.encoding(self.version);
        if to == Framing::UntilClose {
            self.last.get_or_insert(CloseReason::UntilClose);
        }
        // A worker that closes in the middle of an upload does not want the rest.
        if matches!(self.upload, Upload::Body { .. }) && !response.persistent {
            self.last.get_or_insert(CloseReason::AnsweredEarly);
        }
        self.reusable = response.persistent;
        let mut decoder = Decoder::new(response.framing);
        if let Some(upstream) = self.upstream.and_then(|id| ctx.upstreams.get(id)) {
            // The borrow of the upstream ends before the lesson borrows the context.
            let (slot, life) = (upstream.slot, upstream.life);
            self.lesson.head(ctx, slot, life, response);
            self.lesson.body(ctx, slot, life, &decoder, rest);
        }
        let mut output = std::mem::take(&mut ctx.output);
        output.clear();
        response.write_for_client(&mut output, &self.delivery(ctx, self.last.is_some()));
        let used = framing::transfer(&mut decoder, to, rest, &mut output);
        let sent = client.send(&output);
        ctx.output = output;
        if sent.is_err() {
            return Err(self.abandon(ctx, CloseReason::ClientLeft));
        }
        match used {
            Ok(used) => self.reusable &= used == rest.len(),
            Err(malformed) => {
                warn!("{}: {}", self.worker_name(ctx), malformed.reason());
                return Err(self.abandon(ctx, CloseReason::WorkerBroke));
            }
        }
        if decoder.is_done() {
            self.complete(ctx);
        } else {
            self.answer = AnswerState::Body { decoder, to };
        }
        Ok(())
    }

    fn answer_body(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        got: &[u8],
    ) -> Result<(), Outcome> {
        let AnswerState::Body { decoder, to } = &mut self.answer else {
            return Ok(());
        };
        if let Some(upstream) = self.upstream.and_then(|id| ctx.upstreams.get(id)) {
            let (slot, life) = (upstream.slot, upstream.life);
            self.lesson.body(ctx, slot, life, decoder, got);
        }
        let (used, sent) = match framing::verbatim(decoder, *to, got) {
            Some(used) => (Ok(used), client.send(got.get(..used).unwrap_or_default())),
            None => {
                let mut output = std::mem::take(&mut ctx.output);
                output.clear();
                let used = framing::transfer(decoder, *to, got, &mut output);
                let sent = client.send(&output);
                ctx.output = output;
                (used, sent)
            }
        };
        let done = decoder.is_done();
        if sent.is_err() {
            return Err(self.abandon(ctx, CloseReason::ClientLeft));
        }
        match used {
            Ok(used) => self.reusable &= used == got.len(),
            Err(malformed) => {
                warn!("{}: {}", self.worker_name(ctx), malformed.reason());
                return Err(self.abandon(ctx, CloseReason::WorkerBroke));
            }
        }
        if done {
            self.complete(ctx);
        }
        Ok(())
    }

    /// The worker has ended its direction (`clean`), or the connection to it broke.
    fn worker_ended(&mut self, ctx: &mut Context, client: &mut Client, clean: bool) -> Step {
        self.reusable = false;
        match &self.answer {
            AnswerState::Awaited => {
                let silent = self.partial.is_empty() && self.interim_heads == 0;
                if silent && !self.replay.is_empty() {
                    self.try_again(ctx, client);
                } else {
                    let own = Own::WorkerBroke("the worker closed before it answered");
                    self.answer_ourselves(ctx, client, own);
                }
                Ok(true)
            }
            AnswerState::Body { decoder, .. } if clean && decoder.is_until_close() => {
                self.complete(ctx);
                Ok(true)
            }
            AnswerState::Body { .. } => {
                debug!("{}: the answer was cut", self.worker_name(ctx));
                Err(self.abandon(ctx, CloseReason::WorkerBroke))
            }
            AnswerState::Complete => Ok(false),
        }
    }

    /// Sends the request once more, on a connection of its own, to another worker if there is
    /// one. RFC 9110, 9.2.2: only what is idempotent, and only because no byte of an answer came.
    fn try_again(&mut self, ctx: &mut Context, client: &mut Client) {
        let replay = std::mem::take(&mut self.replay);
        self.drop_upstream(ctx);
        let slot = self.slot.unwrap_or(Slot(u32::MAX));
        let app = ctx
            .router
            .roster()
            .apps
            .iter()
            .position(|app| app.workers.iter().any(|w| w.slot == slot));
        let ip = client.address.map(|a| a.ip());
        let connected = match app {
            Some(app) => {
                let decision = ctx.router.balanced(app, ip, &[slot], Why::Moved);
                self.connect(ctx, client, decision, true, false)
            }
            None => Err(Own::NoWorker),
        };
        match connected {
            Ok(()) => {
                debug!("{}: sent again", self.worker_name(ctx));
                self.to_worker(ctx, &replay);
            }
            Err(own) => self.answer_ourselves(ctx, client, own),
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
                upstream
                    .gauges
                    .finished
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
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
            upstream
                .gauges
                .broken
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.drop_upstream(ctx);
        if !matches!(self.upload, Upload::Done) {
            self.upload = Upload::Dropped;
            self.last.get_or_insert(CloseReason::Refused);
        }
        if let Own::SessionGone { upgrade: true } = own {
            self.last.get_or_insert(CloseReason::Refused);
        }
        self.answer = AnswerState::Complete;
        let mut output = std::mem::take(&mut ctx.output);
        output.clear();
        own.write(&mut output, &self.delivery(ctx, self.last.is_some()));
        if client.send(&output).is_err() {
            client.gone = true;
        }
        ctx.output = output;
    }

    fn tunnel(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        response: &head::Response<'_, '_>,
        rest: &[u8],
    ) -> Outcome {
        let mut output = std::mem::take(&mut ctx.output);
        output.clear();
        response.write_for_client(&mut output, &self.delivery(ctx, false));
        output.extend_from_slice(rest);
        let sent = client.send(&output);
        ctx.output = output;
        let tunnel = match (sent, self.upstream.take()) {
            (Ok(_), Some(id)) => Tunnel::begin(ctx, client, id),
            (Err(_), id) => {
                self.upstream = id;
                None
            }
            (Ok(_), None) => None,
        };
        match tunnel {
            Some(tunnel) => Outcome::Tunnel(tunnel),
            None => self.abandon(ctx, CloseReason::ClientLeft),
        }
    }

    fn drop_upstream(&mut self, ctx: &mut Context) {
        if let Some(id) = self.upstream.take() {
            ctx.upstreams.close(id);
        }
    }

    fn abandon(&mut self, ctx: &mut Context, reason: CloseReason) -> Outcome {
        self.drop_upstream(ctx);
        Outcome::Abort(reason)
    }

    /// Ends the exchange from outside: the connection is being closed.
    pub fn cancel(&mut self, ctx: &mut Context) {
        self.drop_upstream(ctx);
    }

    /// When [`Exchange::expire`] has to be called if nothing moves until then.
    pub fn deadline_ms(&self, ctx: &mut Context, client: &Client) -> u64 {
        let settings = &ctx.settings;
        let stuck_worker = self
            .upstream
            .and_then(|id| ctx.upstreams.get(id))
            .is_some_and(|u| !u.outbox.is_empty());
        let timeout = if !client.outbox.is_empty() || stuck_worker {
            settings.write_timeout
        } else if let (Upload::Body { .. }, AnswerState::Awaited) = (&self.upload, &self.answer) {
            settings.body_timeout
        } else {
            self.answer_timeout
        };
        let deadline = deadline_ms(self.progress_ms, timeout);
        match client.half_closed_ms {
            Some(since) if client.outbox.is_empty() => deadline.min(deadline_ms(
                since.max(self.progress_ms),
                settings.half_close_timeout,
            )),
            Some(_) | None => deadline,
        }
    }

    /// The deadline has passed.
    pub fn expire(&mut self, ctx: &mut Context, client: &mut Client) -> Outcome {
        if !client.outbox.is_empty() {
            return self.abandon(ctx, CloseReason::WriteTimeout);
        }
        let patience = deadline_ms(
            client
                .half_closed_ms
                .unwrap_or(u64::MAX)
                .max(self.progress_ms),
            ctx.settings.half_close_timeout,
        );
        if client.half_closed_ms.is_some() && ctx.now_ms >= patience {
            return self.abandon(ctx, CloseReason::ClientLeft);
        }
        let stuck_worker = self
            .upstream
            .and_then(|id| ctx.upstreams.get(id))
            .is_some_and(|u| !u.outbox.is_empty());
        match (&self.answer, &self.upload) {
            (AnswerState::Awaited, Upload::Body { .. }) if !stuck_worker => {
                self.answer_ourselves(ctx, client, Own::BodyTooSlow);
            }
            (AnswerState::Awaited, _) => self.answer_ourselves(ctx, client, Own::WorkerSilent),
            (AnswerState::Body { .. } | AnswerState::Complete, _) => {
                return self.abandon(ctx, CloseReason::AnswerTimeout);
            }
        }
        self.drive(ctx, client)
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
