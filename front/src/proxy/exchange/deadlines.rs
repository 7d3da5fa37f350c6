//! How long an exchange is waited for, and what is done when that is over: who is late, the client
//! with its body or with taking its answer, or the worker with either, decides the status.

use super::{ASK_EVERY, AnswerState, Exchange, Upload};
use crate::proxy::{Client, CloseReason, Context, Outcome, Own, deadline_ms};

impl Exchange {
    /// When [`Exchange::expire`] has to be called if nothing moves until then.
    pub fn deadline_ms(&self, ctx: &mut Context, client: &Client) -> u64 {
        if let Some(waiting) = self.waiting {
            return deadline_ms(waiting.tried_ms, ASK_EVERY);
        }
        let settings = &ctx.settings;
        let stuck_worker = self
            .upstream
            .and_then(|id| ctx.upstreams.get(id))
            .is_some_and(|u| !u.outbox.is_empty());
        let timeout = if !client.outbox.is_empty() || stuck_worker {
            settings.write_timeout
        } else if self.awaits_body() {
            settings.body_timeout
        } else {
            self.answer_timeout
        };
        let deadline = deadline_ms(self.progress_ms, timeout);
        match client.half_closed_ms() {
            Some(since) if client.outbox.is_empty() => deadline.min(deadline_ms(
                since.max(self.progress_ms),
                settings.half_close_timeout,
            )),
            Some(_) | None => deadline,
        }
    }

    /// The deadline has passed.
    pub fn expire(&mut self, ctx: &mut Context, client: &mut Client) -> Outcome {
        if self.waiting.is_some() {
            self.try_to_connect(ctx, client);
            return self.drive(ctx, client);
        }
        if !client.outbox.is_empty() {
            if client.takes() {
                self.progress_ms = ctx.now_ms;
                return Outcome::Parked;
            }
            return self.abandon(ctx, CloseReason::WriteTimeout);
        }
        let stuck_worker = match self.upstream.and_then(|id| ctx.upstreams.get(id)) {
            Some(upstream) if !upstream.outbox.is_empty() => {
                if upstream.takes() {
                    self.progress_ms = ctx.now_ms;
                    return Outcome::Parked;
                }
                true
            }
            Some(_) | None => false,
        };
        let patience = deadline_ms(
            client
                .half_closed_ms()
                .unwrap_or(u64::MAX)
                .max(self.progress_ms),
            ctx.settings.half_close_timeout,
        );
        if client.half_closed_ms().is_some() && ctx.now_ms >= patience {
            return self.abandon(ctx, CloseReason::ClientLeft);
        }
        match self.answer {
            AnswerState::Awaited if self.awaits_body() && !stuck_worker => {
                self.answer_ourselves(ctx, client, Own::BodyTooSlow);
            }
            AnswerState::Awaited => self.answer_ourselves(ctx, client, Own::WorkerSilent),
            AnswerState::Body { .. } | AnswerState::Complete => {
                return self.abandon(ctx, CloseReason::AnswerTimeout);
            }
        }
        self.drive(ctx, client)
    }

    /// It is the client's turn, not the worker's.
    fn awaits_body(&self) -> bool {
        match (&self.answer, &self.upload) {
            (AnswerState::Awaited, Upload::Body { held_back, .. }) => !held_back,
            (AnswerState::Awaited, Upload::Done | Upload::Dropped)
            | (AnswerState::Body { .. } | AnswerState::Complete, _) => false,
        }
    }
}
