//! The request's body on its way to the worker.

use super::{AnswerState, Exchange, Step, Upload};
use crate::http::framing::{self, Decoder};
use crate::http::sniff;
use crate::proxy::{Client, CloseReason, Context, Outcome, Own};

/// Counts the payload in `got` on top of what was `taken`, and refuses what exceeds `max` before
/// any of it goes on. Without a limit nothing is counted.
pub(super) fn within(decoder: &Decoder, taken: u64, got: &[u8], max: u64) -> Result<u64, Own> {
    if max == 0 {
        return Ok(taken);
    }
    let payload = framing::payload_bytes(decoder, got)
        .map_err(|malformed| Own::Refused(400, malformed.reason()))?;
    let taken = taken.saturating_add(payload as u64);
    if taken > max {
        return Err(Own::BodyTooLarge);
    }
    Ok(taken)
}

impl Exchange {
    pub(super) fn upload_step(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        input: &mut [u8],
    ) -> Step {
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
        if self.splice_upload(ctx, client) {
            return Ok(true);
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
    pub(super) fn upload_bytes(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        got: &[u8],
    ) -> Result<(), Outcome> {
        let Upload::Body {
            decoder,
            to,
            taken,
            held_back,
        } = &mut self.upload
        else {
            return Ok(());
        };
        *held_back = false;
        match within(decoder, *taken, got, self.body_bytes_max) {
            Ok(now) => *taken = now,
            Err(own) => return self.refuse_upload(ctx, client, own),
        }
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
        let body = got.get(..used).unwrap_or_default();
        self.record.bytes_in += used as u64;
        self.farewell = *taken == used as u64 && sniff::is_engine_close(body);
        if decoder.is_done() {
            self.upload = Upload::Done;
            client
                .unread
                .extend_from_slice(got.get(used..).unwrap_or_default());
        }
        if verbatim {
            self.send_bytes(ctx, got.get(..used).unwrap_or_default());
        } else {
            self.send_bytes(ctx, &output);
        }
        ctx.output = output;
        Ok(())
    }

    /// The upload cannot go on: it is answered if the worker has not begun to, else cut.
    pub(super) fn refuse_upload(
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
}
