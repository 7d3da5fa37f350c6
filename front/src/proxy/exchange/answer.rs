//! The worker's answer on its way to the client: interim heads, the final head, the body, and
//! what is done when the worker ends before its answer does.

use super::{AnswerState, Exchange, Step, Upload};
use crate::http::framing::{self, Decoder, Framing};
use crate::http::head::{self, Delivery, Version};
use crate::proxy::learn::Source;
use crate::proxy::record::End;
use crate::proxy::{Client, CloseReason, Context, MOVE_BYTES, Outcome, Own, Tunnel};
use crate::roster::Slot;
use log::{debug, warn};
use std::sync::atomic::Ordering::Relaxed;

/// 1xx heads of one exchange; more is a worker gone wrong.
const INTERIM_HEADS_MAX: u32 = 32;

/// One read for a client that does not keep up.
const SLOW_INPUT_BYTES: usize = 16 * 1024;

impl Exchange {
    pub(super) fn answer_step(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        input: &mut [u8],
    ) -> Step {
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
            MOVE_BYTES
        };
        let end = room.min(input.len());
        let input = input.get_mut(..end).unwrap_or_default();
        let got = match upstream.recv(input) {
            Ok(None) => return Ok(false),
            Ok(Some(0)) => return self.worker_ended(ctx, client, true),
            Err(_) => return self.worker_ended(ctx, client, false),
            Ok(Some(n)) => input.get(..n).unwrap_or_default(),
        };
        upstream.gauges.heard_ms.store(ctx.now_ms, Relaxed);
        self.progress_ms = ctx.now_ms;
        match self.answer {
            AnswerState::Awaited => self.answer_head(ctx, client, got)?,
            AnswerState::Body { .. } => self.answer_body(ctx, client, got)?,
            AnswerState::Complete => {}
        }
        Ok(true)
    }

    /// Bytes have come while the answer's head is awaited.
    pub(super) fn answer_head(
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
        partial.extend_from_slice(&result?);
        self.partial = partial;
        Ok(())
    }

    /// Reads heads until the final one; returns the bytes of a head that is not complete yet.
    pub(super) fn read_heads(
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
                    if response.status == 100
                        && let Upload::Body { held_back, .. } = &mut self.upload
                    {
                        *held_back = false;
                    }
                    // An HTTP/1.0 client does not know 1xx. RFC 9110, 15.2.
                    if self.record.version == Version::Http11 {
                        let mut output = std::mem::take(&mut ctx.output);
                        output.clear();
                        response.write_for_client(&mut output, &self.delivery(ctx, false));
                        let sent = self.deliver(client, &output);
                        self.record.head_out = self.record.bytes_out;
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

    pub(super) fn delivery(&self, ctx: &Context, close: bool) -> Delivery {
        Delivery {
            version: self.record.version,
            close,
            head: self.asked.head,
            date: Some(ctx.date),
        }
    }

    /// The final head: sends it, with what has come of the body, in one piece.
    pub(super) fn final_head(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        response: &head::Response<'_, '_>,
        rest: &[u8],
    ) -> Result<(), Outcome> {
        let to = response.encoding(self.record.version);
        if to == Framing::UntilClose {
            self.last.get_or_insert(CloseReason::UntilClose);
        }
        // Nobody can say yet whether the rest of the upload will be read, and what is not read
        // must not be taken for a request. RFC 9112, 9.3.
        if !matches!(self.upload, Upload::Done) {
            self.last.get_or_insert(CloseReason::AnsweredEarly);
        }
        self.reusable = response.persistent;
        let mut decoder = Decoder::new(response.framing);
        if let Some(upstream) = self.upstream.and_then(|id| ctx.upstreams.get(id)) {
            // The borrow of the upstream ends before the lesson borrows the context.
            let took_us = ctx.now_us.saturating_sub(self.record.began_us);
            let took_us = (!(self.bound && self.get)).then_some(took_us);
            let gauges = &upstream.gauges;
            for answers in [&gauges.app.answers, &gauges.answers] {
                answers.count(ctx.thread, took_us, response.status);
            }
            let (slot, life) = (upstream.slot, upstream.life);
            self.lesson.head(ctx, slot, life, response);
            let from = Source {
                slot,
                life,
                looks: self.looks,
            };
            self.lesson.body(ctx, from, &decoder, rest);
            if self.farewell && self.bound {
                let returning = ctx.router.returning();
                returning.left(self.looks, slot, life, ctx.now_ms);
            }
        }
        let mut output = std::mem::take(&mut ctx.output);
        output.clear();
        response.write_for_client(&mut output, &self.delivery(ctx, self.last.is_some()));
        self.add_affinity(ctx, &mut output);
        // A worker that names the request itself, mostly as we did, is not contradicted.
        if ctx.settings.request_id_to_client && !response.names_itself {
            head::add_field(&mut output, b"X-Request-Id", self.record.id_text());
        }
        self.record.status = response.status;
        self.record.first_us = ctx.now_us;
        self.record.head_out += output.len() as u64;
        let used = framing::transfer(&mut decoder, to, rest, &mut output);
        let sent = self.deliver(client, &output);
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

    /// Our own cookie, for a client that does not have it, or has one that leads elsewhere. Not
    /// where a session decides: two tabs of one browser may have theirs at different workers.
    fn add_affinity(&self, ctx: &mut Context, head: &mut Vec<u8>) {
        // Most apps have none, and to find a worker by its slot takes a look at all of them.
        if !self.affine {
            return;
        }
        let Some(slot) = self
            .upstream
            .and_then(|id| ctx.upstreams.get(id))
            .map(|u| u.slot)
        else {
            return;
        };
        if self.bound {
            return;
        }
        if let Some(field) = self.affinity_cookie(ctx, slot) {
            head::add_field(head, b"Set-Cookie", field.as_bytes());
        }
    }

    /// The cookie that leads to this worker, for a client whose cookie does not.
    pub(super) fn affinity_cookie(&self, ctx: &Context, slot: Slot) -> Option<String> {
        if !self.affine || self.affinity == Some(slot) {
            return None;
        }
        let (app, worker) = ctx.router.roster().find(slot)?;
        ctx.router.affinity_field(app, worker, self.from.secure)
    }

    pub(super) fn answer_body(
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
            let from = Source {
                slot,
                life,
                looks: self.looks,
            };
            self.lesson.body(ctx, from, decoder, got);
        }
        let (used, sent) = match framing::verbatim(decoder, *to, got) {
            Some(used) => {
                let body = got.get(..used).unwrap_or_default();
                self.record.bytes_out += body.len() as u64;
                (Ok(used), client.send(body))
            }
            None => {
                let mut output = std::mem::take(&mut ctx.output);
                output.clear();
                let used = framing::transfer(decoder, *to, got, &mut output);
                self.record.bytes_out += output.len() as u64;
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
    pub(super) fn worker_ended(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        clean: bool,
    ) -> Step {
        self.reusable = false;
        match &self.answer {
            AnswerState::Awaited => {
                let silent = self.partial.is_empty() && self.interim_heads == 0;
                let own = if silent && self.repeatable {
                    if !self.is_suspect(ctx) {
                        self.try_again(ctx, client);
                        return Ok(true);
                    }
                    Own::WorkerBroke("the worker hung, and this request may be why")
                } else {
                    Own::WorkerDied
                };
                self.answer_ourselves(ctx, client, own);
                Ok(true)
            }
            AnswerState::Body { decoder, .. } if clean && decoder.is_until_close() => {
                self.complete(ctx);
                Ok(true)
            }
            AnswerState::Body { .. } => {
                debug!("{}: the answer was cut", self.worker_name(ctx));
                Err(self.abandon(ctx, CloseReason::WorkerDied))
            }
            AnswerState::Complete => Ok(false),
        }
    }

    /// Whether the worker has had this request since before it was found hung: a request that makes a
    /// worker hang must not be given to the next one.
    fn is_suspect(&self, ctx: &mut Context) -> bool {
        let upstream = self.upstream.and_then(|id| ctx.upstreams.get(id));
        upstream.is_some_and(|upstream| {
            let until_ms = upstream.gauges.suspects_until_ms.load(Relaxed);
            self.record.began_us / 1000 < until_ms
        })
    }

    pub(super) fn tunnel(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        response: &head::Response<'_, '_>,
        rest: &[u8],
    ) -> Outcome {
        let mut output = std::mem::take(&mut ctx.output);
        output.clear();
        response.write_for_client(&mut output, &self.delivery(ctx, false));
        self.add_affinity(ctx, &mut output);
        output.extend_from_slice(rest);
        let sent = self.deliver(client, &output);
        ctx.output = output;
        self.record.status = response.status;
        self.record.first_us = ctx.now_us;
        let tunnel = match (sent, self.upstream.take()) {
            (Ok(_), Some(id)) => {
                self.record.end = End::Upgraded;
                ctx.note(&self.record);
                let record = std::mem::take(&mut self.record);
                Tunnel::begin(ctx, client, id, self.looks, record)
            }
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
}
