//! The pool: as many threads as cores, each with an epoll set of its own. A connection stays on
//! its thread, which never waits for a peer; what others have for a thread comes by its mailbox.

use super::accept::{Arrival, Desk, Entrance, Look};
use super::carry::{CarriedConnection, Claimed};
use super::connection::{Connection, Counted, Fate, Phase};
use super::listener::Listener;
use super::mailbox::{Mailbox, Message, StandStill};
use super::relay::{Relays, Returned};
use super::timers::Timers;
use crate::channel::{Receiver, unbounded};
use crate::gauges::FrontGauges;
use crate::http::id;
use crate::proxy::access::Wall;
use crate::proxy::handoff::{HandOff, NotTaken};
use crate::proxy::recent::Recent;
use crate::proxy::record::Ids;
use crate::proxy::slab::{Id, Slab};
use crate::proxy::spare::Spare;
use crate::proxy::upstream::Upstreams;
use crate::proxy::{self, Client, Context, INPUT_BYTES, Leaver};
use crate::roster::{Board, Drain, View};
use crate::route::{Router, Tables};
use crate::sys::clock::{monotonic_ms, monotonic_us};
use crate::sys::epoll::{Epoll, Event, Interest};
use crate::sys::memory;
use crate::sys::socket;
use log::{debug, error, warn};
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What all pool threads share.
pub struct Shared {
    pub settings: Arc<proxy::Settings>,
    pub front: Arc<FrontGauges>,
    pub board: Arc<Board>,
    pub tables: Arc<Tables>,
    pub relays: Arc<Relays>,
    pub desk: Arc<Desk>,
    pub listeners: Vec<Arc<Listener>>,
    /// What the ids of requests have in common.
    pub run: id::Run,
}

/// The running pool.
pub struct Pool {
    threads: Vec<(Arc<Mailbox>, JoinHandle<()>)>,
}

impl Pool {
    /// Starts a thread for each mailbox of the desk.
    pub fn start(shared: &Shared) -> io::Result<Pool> {
        let mailboxes = shared.desk.mailboxes.iter();
        let threads = mailboxes
            .cloned()
            .enumerate()
            .map(|(number, mailbox)| {
                let thread = PoolThread::new(shared, number, mailbox.clone())?;
                let bell = mailbox.clone();
                let ring = Box::new(move || bell.post(Message::RosterChanged));
                shared.board.ring_at_change(ring);
                let handle = thread::Builder::new()
                    .name(format!("pool-{number}"))
                    .spawn(move || thread.run())?;
                Ok((mailbox, handle))
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Pool { threads })
    }

    pub fn drain(&self) {
        for (mailbox, _) in &self.threads {
            mailbox.post(Message::Drain);
        }
    }

    /// Has every thread stand still; returns what all connections are doing. They go on when `until`
    /// is dropped. The error says who did not obey in time.
    pub fn stand_still(
        &self,
        until: &Receiver<()>,
        deadline: Instant,
    ) -> Result<Vec<CarriedConnection>, String> {
        let late = |_| "a pool thread did not stand still in time".to_owned();
        let (shut, all_shut) = unbounded();
        for (mailbox, _) in &self.threads {
            mailbox.post(Message::ShutDoor(shut.clone()));
        }
        for _ in &self.threads {
            all_shut.recv_deadline(deadline).map_err(late)?;
        }
        let (tell, told) = unbounded();
        for (mailbox, _) in &self.threads {
            mailbox.post(Message::StandStill(StandStill {
                tell: tell.clone(),
                until: until.clone(),
            }));
        }
        let mut connections = Vec::new();
        for _ in &self.threads {
            connections.extend(told.recv_deadline(deadline).map_err(late)?);
        }
        Ok(connections)
    }

    /// After [`Pool::stand_still`]: takes clients in again.
    pub fn open_doors(&self) {
        for (mailbox, _) in &self.threads {
            mailbox.post(Message::OpenDoor);
        }
    }

    pub fn close(self) {
        for (mailbox, _) in &self.threads {
            mailbox.post(Message::Close);
        }
        for (_, handle) in self.threads {
            if handle.join().is_err() {
                error!("a pool thread panicked");
            }
        }
    }
}

/// The kinds of tokens, in their two highest bits.
const KIND_SHIFT: u32 = 62;
const CLIENT: u64 = 0;
const UPSTREAM: u64 = 1 << KIND_SHIFT;
const MAILBOX: u64 = 2 << KIND_SHIFT;
const LISTENER: u64 = 3 << KIND_SHIFT;

/// Clients accepted at a listener before others of the batch have their turn.
const ACCEPTS_MAX: usize = 16;

/// How often idle upstreams are looked through, while there are any.
const PRUNE_EVERY_MS: u64 = 1000;

struct PoolThread {
    ctx: Context,
    connections: Slab<Box<Connection>>,
    entrance: Entrance,
    timers: Timers,
    /// Connections that could go on, but have had their turn.
    yielded: Vec<Id>,
    mailbox: Arc<Mailbox>,
    relays: Arc<Relays>,
    draining: bool,
    closing: bool,
    /// To be obeyed at the end of the batch.
    still: Option<StandStill>,
    pruned_ms: u64,
    /// Clients who have come in this batch: they are watched from the end of the next one.
    fresh: Vec<Id>,
}

impl PoolThread {
    fn new(shared: &Shared, number: usize, mailbox: Arc<Mailbox>) -> io::Result<Self> {
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

    fn run(mut self) {
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

    fn begin_to_watch(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if !connection.client.is_watched()
            && let Err(e) = connection.client.watch(&self.ctx.epoll)
        {
            warn!("cannot watch a connection: {e}");
            self.remove(id);
        }
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

    /// Goes on with a client whom an earlier binary has served.
    fn go_on_with(&mut self, client: Claimed, counted: Counted) {
        let id = self.connections.next_id();
        match client.settle(&mut self.ctx, CLIENT | id.bits(), counted) {
            Ok(connection) => {
                let id = self.watch(Box::new(connection));
                self.yielded.push(id);
            }
            Err(e) => warn!("a connection was lost when this binary took over: {e}"),
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

    /// Clients wait at a listener. `ready`: how many events the batch has.
    fn take_in(&mut self, token: u64, ready: usize) {
        let number = usize::try_from(token & !LISTENER).unwrap_or(usize::MAX);
        // Where nothing else has happened, mostly nobody else waits: to ask would be in vain.
        for _ in 0..ready.min(ACCEPTS_MAX) {
            let (held, now_ms) = (self.connections.len(), self.ctx.now_ms);
            match self.entrance.look(&self.ctx.epoll, number, held, now_ms) {
                Look::Served(arrival) => self.accept(arrival),
                Look::TurnedAway(arrival) => self.turn_away(arrival),
                Look::Elsewhere => {}
                Look::Nobody => return,
            }
        }
    }

    fn accept(&mut self, arrival: Arrival) {
        let client = Client::new(arrival.socket, arrival.address, 0);
        let connection = Connection::new(client, arrival.counted, self.ctx.now_ms);
        let id = self.hold(Box::new(connection));
        self.fresh.push(id);
        if self.draining {
            self.end_idle(id);
        } else if let Some(connection) = self.connections.get_mut(id) {
            // Most have sent their request by the time that the others of the batch are done.
            connection.client.intake.readable = true;
            self.yielded.push(id);
        }
    }

    /// Tells a client over a limit so, and listens until it has read that.
    fn turn_away(&mut self, arrival: Arrival) {
        let client = Client::new(arrival.socket, arrival.address, CLIENT);
        let mut connection = Connection::new(client, arrival.counted, self.ctx.now_ms);
        connection.turn_away(&mut self.ctx);
        self.watch(Box::new(connection));
    }

    /// No further request is wanted. One that has come already is served: closing over it would
    /// answer it with a reset.
    fn end_idle(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.is_idle() {
            connection.client.intake.readable = true;
            self.drive(id);
        }
        if self.connections.get_mut(id).is_some_and(|c| c.is_idle()) {
            self.remove(id);
        }
    }

    /// Registers a connection; what has come already is reported by the next wait.
    fn watch(&mut self, connection: Box<Connection>) -> Id {
        let id = self.hold(connection);
        self.begin_to_watch(id);
        id
    }

    /// Takes a connection over without watching it yet.
    fn hold(&mut self, mut connection: Box<Connection>) -> Id {
        let id = self.connections.next_id();
        connection.client.token = CLIENT | id.bits();
        let deadline = connection.deadline_ms(&mut self.ctx);
        self.timers.remind(id, deadline);
        self.connections.insert(connection)
    }

    /// A relayed tunnel is parked again.
    fn take_back(&mut self, returned: Returned) {
        let Returned {
            mut connection,
            mut upstream,
        } = returned;
        let id = self.connections.next_id();
        upstream.owner = Some(CLIENT | id.bits());
        let attached = self.ctx.upstreams.attach(&self.ctx.epoll, upstream);
        match (&mut connection.phase, attached) {
            (Phase::Tunnel(tunnel), Ok(upstream)) => {
                tunnel.upstream = upstream;
                tunnel.active_ms = self.ctx.now_ms;
                self.watch(connection);
            }
            (_, Ok(upstream)) => self.ctx.upstreams.close(upstream),
            (_, Err(e)) => warn!("cannot park a tunnel: {e}"),
        }
    }

    /// Drives a connection and does what has to be done with it. A bug that panics costs this
    /// connection, not the thread with all the others.
    fn drive(&mut self, id: Id) {
        let draining = self.draining;
        self.act(id, |connection, ctx| connection.drive(ctx, draining));
    }

    fn act(&mut self, id: Id, act: impl FnOnce(&mut Connection, &mut Context) -> Fate) {
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

    fn remove(&mut self, id: Id) {
        if let Some(mut connection) = self.connections.remove(id) {
            connection.release(&mut self.ctx);
        }
    }

    /// Hands a tunnel to relay threads, or goes on without them.
    fn relay(&mut self, id: Id) {
        let Some(mut connection) = self.connections.remove(id) else {
            return;
        };
        let upstream = match &connection.phase {
            Phase::Tunnel(tunnel) => tunnel.upstream,
            Phase::Idle | Phase::Head(_) | Phase::Exchange(_) | Phase::Lingering { .. } => {
                return connection.release(&mut self.ctx);
            }
        };
        let Some(upstream) = self.ctx.upstreams.detach(&self.ctx.epoll, upstream) else {
            return;
        };
        // The descriptor lives on in the relay threads.
        connection.client.unwatch(&self.ctx.epoll);
        let mailbox = self.mailbox.clone();
        let give_back = Box::new(move |returned| mailbox.post(Message::Quiet(returned)));
        if let Err(returned) = self.relays.start(connection, upstream, give_back) {
            let id = self.connections.next_id();
            self.take_back(returned);
            self.act(id, Connection::stay);
        }
    }

    /// Offers a connection to its worker; it is not ours to touch until the answer.
    fn hand_off(&mut self, id: Id, hand_off: Box<HandOff>) {
        let Some(connection) = self.connections.remove(id) else {
            return;
        };
        let Connection {
            mut client,
            counted,
            ..
        } = *connection;
        // The worker's copy keeps the socket open, so closing ours would not end the watch.
        client.unwatch(&self.ctx.epoll);
        let mailbox = self.mailbox.clone();
        hand_off.offer(client, counted, move |not_taken| {
            mailbox.post(Message::NotTaken(not_taken));
        });
    }

    /// The worker has not taken it: the request is looked at again.
    fn begin_anew(&mut self, not_taken: NotTaken<Counted>) {
        let NotTaken {
            socket,
            address,
            original,
            again,
            kept,
        } = not_taken;
        let id = self.ctx.ids.run.text(again.id);
        debug!(
            "{}: a connection was not taken",
            String::from_utf8_lossy(&id)
        );
        let mut client = Client::new(socket, address, 0);
        client.unread = original;
        client.again = Some(again);
        let id = self.watch(Box::new(Connection::new(client, kept, self.ctx.now_ms)));
        self.drive(id);
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

#[cfg(test)]
mod steady_tests;
