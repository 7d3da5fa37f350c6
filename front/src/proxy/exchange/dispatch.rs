//! The way to a worker: routes a request, connects, sends its head, and sends it once more where
//! that is safe.

use super::{Exchange, Upload, Waiting, upload};
use crate::gauges::AppGauges;
use crate::http::framing::{self, Framing, Malformed};
use crate::http::head::{Method, Request, push};
use crate::http::sniff;
use crate::proxy::{Again, Client, Context, Farewell, HandOff, Own, deadline_ms};
use crate::roster::{Door, Slot};
use crate::route::{self, Asker, Decision, Moved, Why};
use log::debug;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Workers that are tried at once for one request before it waits.
const WORKERS_TRIED_MAX: usize = 4;
/// Workers that a connection is offered to before it is relayed. One that says nothing keeps it for
/// its lease.
const OFFERS_MAX: usize = 2;

impl Exchange {
    pub(super) fn send_request(
        &mut self,
        ctx: &mut Context,
        client: &mut Client,
        request: &Request<'_, '_>,
        bytes: &[u8],
        again: Option<&Again>,
    ) -> Result<(), Own> {
        if request.ends_here {
            return Err(Own::FinalRecipient {
                options: matches!(request.method, Method::Options),
            });
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
        let ip = self.from.client.map(|a| a.ip());
        let avoid = again.map_or(&[][..], |again| &again.refused_by);
        let asker = Asker {
            address: ip,
            looks: ctx.router.looks(request, ip),
        };
        let decision = ctx.router.decide(request, asker, avoid, ctx.now_ms);
        self.looks = match decision {
            Decision::Worker {
                why: Why::Sid(looks),
                ..
            } => looks,
            Decision::Worker { .. }
            | Decision::Asleep { .. }
            | Decision::NoApp
            | Decision::NoWorker
            | Decision::SessionGone => asker.looks,
        };
        if let Decision::Worker { app, why, .. } = decision {
            let index = app;
            let app = ctx.router.roster().apps.get(app);
            self.affinity = app.and_then(|app| ctx.router.affinity(app, request));
            self.record.app = Some(index);
            self.record.why = why.word(app.map(|app| app.policy).unwrap_or_default());
        } else {
            self.record.app = ctx.router.app(request);
        }
        let app = self
            .record
            .app
            .and_then(|app| ctx.router.roster().apps.get(app));
        self.affine = app.is_some_and(|app| app.affinity_cookie.is_some());
        if let Decision::SessionGone = decision {
            return Err(Own::SessionGone {
                upgrade: request.websocket,
            });
        }
        self.body_limit(ctx, &decision, request.framing)?;
        self.repeatable = repeatable;
        let mut output = std::mem::take(&mut ctx.output);
        output.clear();
        request.write_for_worker(&mut output, &self.from, self.record.id_text());
        let rest = bytes.get(request.len..).unwrap_or_default();
        let door = if request.websocket && avoid.len() < OFFERS_MAX {
            open_door(ctx, &decision, avoid)
        } else {
            None
        };
        let sent = if let Some((slot, door)) = door {
            output.extend_from_slice(rest);
            let bound = matches!(
                decision,
                Decision::Worker {
                    why: Why::Sid(_),
                    ..
                }
            );
            let cookie = (!bound).then(|| self.affinity_cookie(ctx, slot)).flatten();
            self.record.slot = Some(slot);
            self.hand_off = Some(Box::new(HandOff {
                slot,
                looks: self.looks,
                door,
                head: output.clone(),
                original: bytes.to_vec(),
                cookie,
                refused_by: avoid.to_vec(),
                farewell: Farewell::default(),
            }));
            Ok(())
        } else {
            if !avoid.is_empty() {
                debug!("a connection that was not taken is relayed");
            }
            self.first_body_bytes(client, rest, &mut output)
                .and_then(|()| self.send_to(ctx, client, decision, false, &output))
        };
        ctx.output = output;
        sent
    }

    /// Takes the app's own limit for bodies, and refuses one that says it is longer.
    fn body_limit(&mut self, ctx: &Context, to: &Decision, framing: Framing) -> Result<(), Own> {
        let app = match to {
            Decision::Worker { app, .. } | Decision::Asleep { app } => Some(*app),
            Decision::NoApp | Decision::NoWorker | Decision::SessionGone => None,
        };
        let own = app.and_then(|app| ctx.router.roster().apps.get(app)?.body_bytes_max);
        if let Some(max) = own {
            self.body_bytes_max = max;
        }
        match framing {
            Framing::Length(length) if self.body_bytes_max > 0 && length > self.body_bytes_max => {
                Err(Own::BodyTooLarge)
            }
            Framing::Length(_) | Framing::Empty | Framing::Chunked | Framing::UntilClose => Ok(()),
        }
    }

    /// Puts what has come of the body behind the head, as it is framed for the worker.
    fn first_body_bytes(
        &mut self,
        client: &mut Client,
        rest: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), Own> {
        let used = match &mut self.upload {
            Upload::Body {
                decoder,
                to,
                taken,
                held_back,
            } => {
                *held_back &= rest.is_empty();
                let refused = |malformed: Malformed| Own::Refused(400, malformed.reason());
                *taken = upload::within(decoder, *taken, rest, self.body_bytes_max)?;
                let used = framing::transfer(decoder, *to, rest, output).map_err(refused)?;
                self.farewell = sniff::is_engine_close(rest.get(..used).unwrap_or_default());
                if decoder.is_done() {
                    self.upload = Upload::Done;
                }
                used
            }
            Upload::Done | Upload::Dropped => 0,
        };
        self.record.bytes_in += used as u64;
        let behind = rest.get(used..).unwrap_or_default();
        client.unread.extend_from_slice(behind);
        Ok(())
    }

    /// Sends the request to the decided worker. Keeps it if it may have to be sent again, and if
    /// every backlog is full, so that it waits for room.
    fn send_to(
        &mut self,
        ctx: &mut Context,
        client: &Client,
        decision: Decision,
        fresh: bool,
        bytes: &[u8],
    ) -> Result<(), Own> {
        let connected = self.connect(ctx, client, decision, fresh)?;
        if connected {
            self.waiting = None;
            self.queued = None;
            self.record.sent_us = ctx.now_us;
            self.send_bytes(ctx, bytes);
        } else {
            let since_ms = self.waiting.map_or(ctx.now_ms, |w| w.since_ms);
            self.waiting = Some(Waiting {
                since_ms,
                tried_ms: ctx.now_ms,
            });
        }
        if self.kept.is_empty() && (self.repeatable || !connected) {
            push(&mut self.kept, bytes);
        }
        Ok(())
    }

    /// Takes a connection to the decided worker, or to another one where no session forbids it.
    /// False: their backlogs are full, or there is none yet.
    fn connect(
        &mut self,
        ctx: &mut Context,
        client: &Client,
        mut decision: Decision,
        fresh: bool,
    ) -> Result<bool, Own> {
        let probe = !self.repeatable;
        let mut failed: Vec<Slot> = Vec::new();
        loop {
            let (app, worker, why) = match decision {
                Decision::Worker { app, worker, why } => (app, worker, why),
                Decision::Asleep { app } => {
                    return self.wait_for_first_worker(ctx, app).map(|()| false);
                }
                Decision::NoApp => return Err(Own::NoApp),
                Decision::NoWorker | Decision::SessionGone => return Err(Own::NoWorker),
            };
            let roster = ctx.router.roster();
            let Some((entry, target)) = roster
                .apps
                .get(app)
                .and_then(|a| Some((a, a.workers.get(worker)?)))
            else {
                return Err(Own::NoWorker);
            };
            self.record.slot = Some(target.slot);
            self.record.why = why.word(entry.policy);
            self.bound = matches!(why, Why::Sid(_));
            if let Some(timeout) = entry.answer_timeout {
                self.answer_timeout = timeout;
            }
            let token = client.token;
            match ctx
                .upstreams
                .acquire(&ctx.epoll, target, token, fresh, probe)
            {
                Ok(id) => {
                    self.upstream = Some(id);
                    if let Some(upstream) = ctx.upstreams.get(id) {
                        self.record.connect_us = std::mem::take(&mut upstream.connect_us);
                    }
                    return Ok(true);
                }
                Err(e) => {
                    debug!("{}.{}: cannot connect: {e}", entry.name, target.instance);
                    if failed.contains(&target.slot) || failed.len() >= WORKERS_TRIED_MAX {
                        return Ok(false);
                    }
                    failed.push(target.slot);
                }
            }
            if self.bound {
                return Ok(false);
            }
            let ip = self.from.client.map(|a| a.ip());
            decision = ctx
                .router
                .balanced(app, ip, &failed, Why::Moved(Moved::Unreachable));
        }
    }

    /// Sends the request once more, on a connection of its own, to another worker if there is
    /// one. RFC 9110, 9.2.2: only what is idempotent, and only because no byte of an answer came.
    pub(super) fn try_again(&mut self, ctx: &mut Context, client: &mut Client) {
        let upstream = self.upstream.and_then(|id| ctx.upstreams.get(id));
        let of_app = upstream.map(|upstream| Arc::clone(&upstream.gauges.app));
        self.drop_upstream(ctx);
        debug!("{}: the worker ended; sent again", self.worker_name(ctx));
        let kept = std::mem::take(&mut self.kept);
        self.repeatable = false;
        let decision = match self.decide_again(ctx, true) {
            // Its place is gone from the roster already: it was leaving when it died.
            Decision::NoApp => self.decide_for(ctx, of_app.as_ref()),
            decision => decision,
        };
        let sent = self.send_to(ctx, client, decision, true, &kept);
        if let Err(own) = sent {
            self.answer_ourselves(ctx, client, own);
        }
    }

    /// Looks for room in a backlog again, until `--connect-timeout` is over, or for the app's first
    /// worker, until one should be up.
    pub(super) fn try_to_connect(&mut self, ctx: &mut Context, client: &mut Client) {
        let since_ms = self.waiting.map_or(0, |w| w.since_ms);
        let (patience, own) = match &self.queued {
            Some(queued) => (queued.patience, Own::NotWoken),
            None => (ctx.settings.connect_timeout, Own::Full),
        };
        if ctx.now_ms >= deadline_ms(since_ms, patience) {
            return self.answer_ourselves(ctx, client, own);
        }
        let kept = std::mem::take(&mut self.kept);
        let decision = self.decide_again(ctx, false);
        let sent = self.send_to(ctx, client, decision, false, &kept);
        if let Err(own) = sent {
            self.answer_ourselves(ctx, client, own);
        }
    }

    /// Decides once more for a request that was decided for `self.record.slot`. `elsewhere`: another
    /// worker is better, if there is one.
    fn decide_again(&self, ctx: &Context, elsewhere: bool) -> Decision {
        let roster = ctx.router.roster();
        let place = self.record.slot.and_then(|slot| {
            roster.apps.iter().enumerate().find_map(|(app, entry)| {
                let worker = entry.workers.iter().position(|w| w.slot == slot)?;
                Some((app, worker, slot))
            })
        });
        let ip = self.from.client.map(|a| a.ip());
        match place {
            Some((app, worker, _)) if self.bound => Decision::Worker {
                app,
                worker,
                why: Why::Sid(self.looks),
            },
            Some((app, _, slot)) if elsewhere => {
                let why = Why::Moved(Moved::WorkerDied);
                ctx.router.balanced(app, ip, &[slot], why)
            }
            Some((app, _, _)) => ctx.router.balanced(app, ip, &[], Why::Moved(Moved::NoRoom)),
            None => match self.awaited_app(ctx) {
                Some(app) => ctx.router.balanced(app, ip, &[], Why::Policy),
                None => Decision::NoApp,
            },
        }
    }

    /// Decides anew for an app that is known by its gauges.
    fn decide_for(&self, ctx: &Context, of_app: Option<&Arc<AppGauges>>) -> Decision {
        let mut apps = ctx.router.roster().apps.iter();
        let known = |gauges: &Arc<AppGauges>| apps.position(|app| Arc::ptr_eq(&app.gauges, gauges));
        match of_app.and_then(known) {
            Some(app) => {
                let ip = self.from.client.map(|a| a.ip());
                let why = Why::Moved(Moved::WorkerDied);
                ctx.router.balanced(app, ip, &[], why)
            }
            None => Decision::NoApp,
        }
    }

    /// Sends bytes to the worker. A worker that does not read any more may have answered already,
    /// so an error ends the upload only; what the answer says is found when it is read.
    #[inline]
    pub(super) fn send_bytes(&mut self, ctx: &mut Context, bytes: &[u8]) {
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

/// The decided worker's door, if connections may be handed to it and this one was not refused there.
fn open_door(
    ctx: &Context,
    decision: &Decision,
    refused_by: &[Slot],
) -> Option<(Slot, Arc<dyn Door>)> {
    let Decision::Worker { app, worker, .. } = decision else {
        return None;
    };
    let target = ctx.router.roster().apps.get(*app)?.workers.get(*worker)?;
    if refused_by.contains(&target.slot) {
        return None;
    }
    Some((target.slot, target.door.clone()?))
}
