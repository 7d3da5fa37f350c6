//! The way to a worker: routes a request, connects, sends its head, and sends it once more where
//! that is safe.

use super::{Exchange, Upload};
use crate::http::framing::{self, Framing};
use crate::http::head::{ClientSide, Method, Request};
use crate::proxy::{Client, Context, Own};
use crate::roster::Slot;
use crate::route::{self, Decision, Why};
use log::{debug, warn};
use std::sync::atomic::Ordering::Relaxed;

/// Workers that are tried for one request before it is answered 503.
const WORKERS_TRIED_MAX: usize = 4;

impl Exchange {
    pub(super) fn send_request(
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
            && ctx.front.tunnels.load(Relaxed) >= ctx.settings.tunnels_max
        {
            return Err(Own::TunnelsMax);
        }
        let has_sid = route::engine_sid(request).is_some();
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
    pub(super) fn connect(
        &mut self,
        ctx: &mut Context,
        client: &Client,
        mut decision: Decision,
        fresh: bool,
        probe: bool,
    ) -> Result<(), Own> {
        let mut failed: Vec<Slot> = Vec::new();
        while failed.len() < WORKERS_TRIED_MAX {
            let (app, worker, why) = match decision {
                Decision::Worker { app, worker, why } => (app, worker, why),
                Decision::NoApp => return Err(Own::NoApp),
                Decision::NoWorker { .. } if !failed.is_empty() => return Err(Own::Full),
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
                    failed.push(target.slot);
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

    /// Sends the request once more, on a connection of its own, to another worker if there is
    /// one. RFC 9110, 9.2.2: only what is idempotent, and only because no byte of an answer came.
    pub(super) fn try_again(&mut self, ctx: &mut Context, client: &mut Client) {
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

    /// Sends bytes to the worker. A worker that does not read any more may have answered already,
    /// so an error ends the upload only; what the answer says is found when it is read.
    pub(super) fn to_worker(&mut self, ctx: &mut Context, bytes: &[u8]) {
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
}
