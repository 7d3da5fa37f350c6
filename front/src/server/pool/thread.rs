//! One thread of the pool and its turns: wait, drive whoever can go on, end whose time is over. What it
//! decides itself is only the order of these things; what a connection does is decided by the connection.

use super::Shared;
use crate::http::id;
use crate::proxy::access::Wall;
use crate::proxy::recent::Recent;
use crate::proxy::record::Ids;
use crate::proxy::slab::{Id, Slab};
use crate::proxy::spare::Spare;
use crate::proxy::upstream::Upstreams;
use crate::proxy::{Context, INPUT_BYTES, Leaver};
use crate::roster::{Drain, View};
use crate::route::Router;
use crate::server::accept::Entrance;
use crate::server::carry::CarriedConnection;
use crate::server::connection::{Connection, Fate};
use crate::server::mailbox::{Mailbox, Message, StandStill};
use crate::server::relay::Relays;
use crate::server::timers::Timers;
use crate::sys::clock::{monotonic_ms, monotonic_us};
use crate::sys::epoll::{Epoll, Event, Interest};
use crate::sys::{memory, socket};
use log::{debug, error, warn};
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

/// The kinds of tokens, in their two highest bits.
const KIND_SHIFT: u32 = 62;
pub(super) const CLIENT: u64 = 0;
const UPSTREAM: u64 = 1 << KIND_SHIFT;
const MAILBOX: u64 = 2 << KIND_SHIFT;
pub(super) const LISTENER: u64 = 3 << KIND_SHIFT;

/// How often idle upstreams are looked through, while there are any.
const PRUNE_EVERY_MS: u64 = 1000;
pub(super) struct PoolThread {
    pub(super) ctx: Context,
    pub(super) connections: Slab<Box<Connection>>,
    pub(super) entrance: Entrance,
    pub(super) timers: Timers,
    /// Connections that could go on, but have had their turn.
    pub(super) yielded: Vec<Id>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) relays: Arc<Relays>,
    pub(super) draining: bool,
    pub(super) closing: bool,
    /// To be obeyed at the end of the batch.
    pub(super) still: Option<StandStill>,
    pub(super) pruned_ms: u64,
    /// Clients who have come in this batch: they are watched from the end of the next one.
    pub(super) fresh: Vec<Id>,
}
impl PoolThread {
    pub(super) fn new(shared: &Shared, number: usize, mailbox: Arc<Mailbox>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(mailbox.as_fd(), MAILBOX, Interest::READ_LEVEL)?;
        let mut entrance = Entrance::new(shared.desk.clone(), shared.listeners.clone(), LISTENER);
        entrance.open(&epoll)?;
        let wall = Wall::look(monotonic_us());
        Ok(PoolThread {
            ctx: Context {
                epoll,
                router: Router::new(View::new(shared.board.clone()), shared.tables.clone()),
                upstreams: Upstreams::new(UPSTREAM),
                settings: shared.settings.clone(),
                front: shared.front.clone(),
                now_ms: monotonic_ms(),
                now_us: monotonic_us(),
                thread: number,
                drains: Vec::new(),
                date: wall.date(),
                wall,
                recent: Recent::default(),
                line: Vec::new(),
                ids: Ids {
                    counter: id::Counter::new(&shared.run, number),
                    run: shared.run.clone(),
                },
                input: memory::buffer(INPUT_BYTES),
                pipe: None,
                output: Vec::with_capacity(INPUT_BYTES),
                spare: Spare::default(),
            },
            connections: Slab::default(),
            entrance,
            timers: Timers::default(),
            yielded: Vec::new(),
            mailbox,
            relays: shared.relays.clone(),
            draining: false,
            closing: false,
            still: None,
            pruned_ms: 0,
            fresh: Vec::new(),
        })
    }

    pub(super) fn run(mut self) {
        while !self.closing {
            let fresh = std::mem::take(&mut self.fresh);
            let ready = match self.wait(&fresh) {
                Ok(ready) => ready,
                Err(e) => {
                    // Nothing but a bug of ours can make this wait fail.
                    error!("epoll_wait: {e}");
                    thread::sleep(Duration::from_millis(10));
                    0
                }
            };
            self.tick();
            if self.ctx.router.refresh() {
                self.note_drains();
            }
            self.drop_what_spoke_unasked(ready);
            for index in 0..ready {
                if let Some(event) = self.ctx.epoll.event(index) {
                    self.event(event, ready);
                }
            }
            for id in std::mem::take(&mut self.yielded) {
                self.drive(id);
            }
            for id in fresh {
                self.begin_to_watch(id);
            }
            self.expire();
            self.prune();
            if let Some(order) = self.still.take() {
                self.stand_still(&order);
            }
            self.entrance.reopen(&self.ctx.epoll, self.ctx.now_ms);
            self.mailbox.held().store(self.connections.len(), Relaxed);
        }
    }

    /// Waits for the next batch. Who is `fresh` need not be watched as long as there is something else to
    /// do: a client who has come for one request mostly has its answer and is gone by then.
    fn wait(&mut self, fresh: &[Id]) -> io::Result<usize> {
        if !fresh.is_empty() {
            let ready = self.ctx.epoll.wait(Some(Duration::ZERO))?;
            if ready > 0 {
                return Ok(ready);
            }
            for id in fresh {
                self.begin_to_watch(*id);
            }
        }
        let timeout = self.patience();
        self.ctx.epoll.wait(timeout)
    }

    /// Takes the time for a batch.
    fn tick(&mut self) {
        let before = self.ctx.now_ms;
        self.ctx.now_us = monotonic_us();
        self.ctx.now_ms = self.ctx.now_us / 1000;
        if before / 1000 != self.ctx.now_ms / 1000 {
            self.ctx.wall = Wall::look(self.ctx.now_us);
            self.ctx.date = self.ctx.wall.date();
        }
    }

    /// How long the thread may wait for events.
    fn patience(&self) -> Option<Duration> {
        if !self.yielded.is_empty() {
            return Some(Duration::ZERO);
        }
        let prune = self
            .ctx
            .upstreams
            .has_idle()
            .then(|| self.pruned_ms.saturating_add(PRUNE_EVERY_MS));
        let reopen = self.entrance.reopen_ms();
        let next = [self.timers.next_ms(), prune, reopen];
        let next = next.into_iter().flatten().min()?;
        Some(Duration::from_millis(next.saturating_sub(monotonic_ms())))
    }

    /// Looks which workers leave, and gives each tunnel of theirs its moment to end.
    fn note_drains(&mut self) {
        let workers = self
            .ctx
            .router
            .roster()
            .apps
            .iter()
            .flat_map(|app| &app.workers);
        let by_relay = |drain: &Drain| drain.by_relay;
        let drains: Vec<Leaver> = workers
            .filter_map(|w| {
                let (slot, life) = (w.slot, w.life);
                let drain = w.drain.filter(by_relay)?;
                Some(Leaver { slot, life, drain })
            })
            .collect();
        if self.ctx.drains == drains {
            return;
        }
        self.ctx.drains = drains;
        for id in self.connections.ids() {
            if let Some(connection) = self.connections.get_mut(id) {
                let deadline = connection.deadline_ms(&mut self.ctx);
                self.timers.remind(id, deadline);
            }
        }
    }

    /// A shelved connection has nothing to say: it has ended, or gone wrong. All of them go before
    /// any request of the batch could be sent on one, and take what it has said for its answer.
    fn drop_what_spoke_unasked(&mut self, ready: usize) {
        for index in 0..ready {
            if let Some(event) = self.ctx.epoll.event(index)
                && event.token >> KIND_SHIFT << KIND_SHIFT == UPSTREAM
            {
                self.ctx.upstreams.close_idle(Id::from_bits(event.token));
            }
        }
    }

    fn event(&mut self, event: Event, ready: usize) {
        let id = Id::from_bits(event.token);
        match event.token >> KIND_SHIFT << KIND_SHIFT {
            CLIENT => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.client.note(event, self.ctx.now_ms);
                    self.drive(id);
                }
            }
            UPSTREAM => {
                let Some(upstream) = self.ctx.upstreams.get(id) else {
                    return;
                };
                upstream.intake.note(event);
                match upstream.owner {
                    Some(owner) => self.drive(Id::from_bits(owner)),
                    // It was shelved in this batch.
                    None => self.ctx.upstreams.close(id),
                }
            }
            LISTENER => self.take_in(event.token, ready),
            _ => {
                for message in self.mailbox.take() {
                    self.message(message);
                }
            }
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Accepted(arrival) => self.accept(arrival),
            Message::Quiet(returned) => self.take_back(returned),
            Message::NotTaken(connection) => self.begin_anew(connection),
            Message::RosterChanged => {}
            Message::Tell(inquiry) => inquiry.answer(&mut self.connections, &self.ctx),
            Message::Drain => {
                self.draining = true;
                self.entrance.close(&self.ctx.epoll);
                for id in self.connections.ids() {
                    self.end_idle(id);
                }
            }
            Message::Carried(client, counted) => self.go_on_with(*client, counted),
            Message::ShutDoor(tell) => {
                self.entrance.rest(&self.ctx.epoll);
                // Whoever waits for it may have given up.
                let _ = tell.send(());
            }
            Message::StandStill(order) => self.still = Some(order),
            Message::OpenDoor => self.open_door(),
            Message::Close => self.closing = true,
        }
    }

    fn open_door(&mut self) {
        if self.draining {
            return;
        }
        // Watching twice fails, and is not needed.
        self.entrance.rest(&self.ctx.epoll);
        if let Err(e) = self.entrance.open(&self.ctx.epoll) {
            error!("cannot watch the listeners: {e}");
        }
    }

    /// Writes down what each connection is doing, and touches none until the order ends. Nobody takes
    /// clients in any more, so nobody has any for this thread after this look into the mailbox.
    fn stand_still(&mut self, order: &StandStill) {
        for message in self.mailbox.take() {
            self.message(message);
        }
        let ids = self.connections.ids();
        let carried = ids.into_iter().filter_map(|id| {
            let connection = self.connections.get_mut(id)?;
            CarriedConnection::of(connection, &mut self.ctx)
        });
        let carried: Vec<_> = carried.collect();
        if order.tell.send(carried).is_ok() {
            // Nothing is ever sent: it ends when whoever has given the order lets it go.
            let _ = order.until.recv();
        }
    }

    /// Drives a connection and does what has to be done with it. A bug that panics costs this
    /// connection, not the thread with all the others.
    pub(super) fn drive(&mut self, id: Id) {
        let draining = self.draining;
        self.act(id, |connection, ctx| connection.drive(ctx, draining));
    }

    pub(super) fn act(&mut self, id: Id, act: impl FnOnce(&mut Connection, &mut Context) -> Fate) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let ctx = &mut self.ctx;
        let fate = catch_unwind(AssertUnwindSafe(|| act(connection, ctx)));
        let fate = match fate {
            Ok(Fate::Park) if !connection.client.lacks_room() => {
                let deadline = connection.deadline_ms(ctx);
                return self.timers.remind(id, deadline);
            }
            Ok(Fate::Relay) => return self.relay(id),
            Ok(Fate::HandOff(hand_off)) => return self.hand_off(id, hand_off),
            Ok(fate) => fate,
            Err(_) => {
                error!("a connection was dropped for a bug; please report the lines above");
                self.restore_buffers();
                return self.remove(id);
            }
        };
        self.settle(id, fate);
    }

    fn settle(&mut self, id: Id, fate: Fate) {
        match fate {
            Fate::Park | Fate::Relay | Fate::HandOff(_) => {}
            Fate::Yield => self.yielded.push(id),
            Fate::Close(reason) => {
                debug!("closed: {reason:?}");
                return self.remove(id);
            }
            Fate::Reset(reason) => {
                debug!("reset: {reason:?}");
                if let Some(connection) = self.connections.get_mut(id) {
                    socket::reset_on_close(connection.client.socket.as_fd());
                }
                return self.remove(id);
            }
        }
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if let Err(e) = connection.client.watch_room(&self.ctx.epoll) {
            warn!("cannot watch a connection: {e}");
            return self.remove(id);
        }
        let deadline = connection.deadline_ms(&mut self.ctx);
        self.timers.remind(id, deadline);
    }

    /// What a panic took with it.
    fn restore_buffers(&mut self) {
        if self.ctx.input.is_empty() {
            self.ctx.input = memory::buffer(INPUT_BYTES);
        }
    }

    fn expire(&mut self) {
        while let Some(place) = self.timers.due(self.ctx.now_ms) {
            let id = self.connections.at(place);
            let Some((id, connection)) =
                id.and_then(|id| Some((id, self.connections.get_mut(id)?)))
            else {
                continue;
            };
            let deadline = connection.deadline_ms(&mut self.ctx);
            if deadline > self.ctx.now_ms {
                self.timers.remind(id, deadline);
                continue;
            }
            let draining = self.draining;
            self.act(id, |connection, ctx| connection.expire(ctx, draining));
        }
        self.timers.tidy();
    }

    fn prune(&mut self) {
        let now = self.ctx.now_ms;
        if self.ctx.upstreams.has_idle() && now >= self.pruned_ms + PRUNE_EVERY_MS {
            self.pruned_ms = now;
            self.ctx.spare.trim();
            let idle = u64::try_from(self.ctx.settings.upstream_idle_timeout.as_millis());
            self.ctx
                .upstreams
                .prune(now.saturating_sub(idle.unwrap_or(u64::MAX)));
        }
    }
}
