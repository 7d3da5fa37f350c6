//! One client connection: what it is doing now, and what is next. Owned by one pool thread.
//!
//! ```text
//!   Idle ──bytes──> Head ──complete──> Exchange ──> Idle ...
//!     └─────────complete────────────────^  │  └──> Lingering
//!                                          └─101─> Tunnel
//! ```
//! The outcome of whatever is driven is turned into the next phase, or into the connection's
//! [`Fate`], in one place: [`Connection::apply`].

use super::tally::Seat;
use crate::gauges::FrontGauges;
use crate::http::head::{self, Delivery, Version};
use crate::proxy::access::Names;
use crate::proxy::{
    Client, CloseReason, Context, End, Exchange, HandOff, Outcome, Own, Record, Told, Tunnel,
    deadline_ms, head_bytes,
};
use crate::roster::traffic::{Progress, Request};
use crate::sys::socket;
use log::debug;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// See the module's text.
#[derive(Debug)]
pub struct Connection {
    pub client: Client,
    pub phase: Phase,
    /// Requests it has carried.
    pub requests: u32,
    /// When the phase began, in the pool's milliseconds.
    pub since_ms: u64,
    pub counted: Counted,
}

#[derive(Debug)]
pub enum Phase {
    /// Between requests.
    Idle,
    /// This much of a head has come.
    Head(Vec<u8>),
    Exchange(Box<Exchange>),
    Tunnel(Box<Tunnel>),
    /// Our last answer goes out; what still comes in is read away.
    Lingering {
        told: bool,
    },
}

/// What the pool has to do with the connection.
#[derive(Debug)]
pub enum Fate {
    /// Keep it until its next event or deadline.
    Park,
    /// Drive it again after the others.
    Yield,
    /// Hand its tunnel to relay threads, or call [`Connection::stay`].
    Relay,
    /// Hand it to its worker.
    HandOff(Box<HandOff>),
    Close(CloseReason),
    /// Close it so that the client sees a reset.
    Reset(CloseReason),
}

/// A client that goes on sending after our last answer is listened to for this long.
const LINGER: Duration = Duration::from_secs(5);

/// Steps of one connection before others of its thread have their turn: a client that sends
/// without a pause must not keep the thread to itself.
const TURNS_MAX: usize = 64;

/// Counts a connection for as long as it lives.
#[derive(Debug)]
pub enum Counted {
    Served {
        front: Arc<FrontGauges>,
        /// Boxed, since mostly there is none: idle connections are many.
        _seat: Option<Box<Seat>>,
    },
    /// One over a limit, which gets its 503.
    TurnedAway(Arc<AtomicU32>),
}

impl Counted {
    pub fn new(front: Arc<FrontGauges>, seat: Option<Seat>) -> Self {
        front.connections.fetch_add(1, Relaxed);
        front.accepted.fetch_add(1, Relaxed);
        let _seat = seat.map(Box::new);
        Counted::Served { front, _seat }
    }

    /// One that an earlier binary has accepted.
    pub fn carried(front: Arc<FrontGauges>, seat: Option<Seat>) -> Self {
        front.connections.fetch_add(1, Relaxed);
        let _seat = seat.map(Box::new);
        Counted::Served { front, _seat }
    }

    pub fn turned_away(gauge: Arc<AtomicU32>) -> Self {
        gauge.fetch_add(1, Relaxed);
        Counted::TurnedAway(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        match self {
            Counted::Served { front, .. } => front.connections.fetch_sub(1, Relaxed),
            Counted::TurnedAway(gauge) => gauge.fetch_sub(1, Relaxed),
        };
    }
}

impl Connection {
    pub fn new(client: Client, counted: Counted, now_ms: u64) -> Self {
        Connection {
            client,
            phase: Phase::Idle,
            requests: 0,
            since_ms: now_ms,
            counted,
        }
    }

    /// Does all that can be done now. `draining`: no further request is wanted.
    pub fn drive(&mut self, ctx: &mut Context, draining: bool) -> Fate {
        for _ in 0..TURNS_MAX {
            let next = match &mut self.phase {
                Phase::Idle | Phase::Head(_) => self.read_request(ctx, draining),
                Phase::Exchange(exchange) => {
                    // A client that is told keeps no connection that is about to end.
                    if draining && self.client.unread.is_empty() {
                        exchange.make_last(CloseReason::Shutdown);
                    }
                    let outcome = exchange.drive(ctx, &mut self.client);
                    self.apply(ctx, outcome, draining)
                }
                Phase::Tunnel(tunnel) => {
                    let outcome = tunnel.drive(ctx, &mut self.client);
                    self.apply(ctx, outcome, draining)
                }
                Phase::Lingering { .. } => Some(self.linger(ctx)),
            };
            if let Some(fate) = next {
                return fate;
            }
        }
        Fate::Yield
    }

    /// Tells a client that came over a limit that it cannot be served now.
    pub fn turn_away(&mut self, ctx: &mut Context) {
        self.refuse(ctx, Own::ConnectionsMax);
    }

    /// Turns an outcome into the next phase (None: drive on) or into the connection's fate.
    fn apply(&mut self, ctx: &mut Context, outcome: Outcome, draining: bool) -> Option<Fate> {
        let next = match outcome {
            Outcome::Parked => return Some(Fate::Park),
            Outcome::Yield => return Some(Fate::Yield),
            Outcome::Relay => return Some(Fate::Relay),
            Outcome::HandOff(hand_off) => return self.end(ctx, Fate::HandOff(hand_off)),
            Outcome::Done if draining && self.client.unread.is_empty() => {
                return self.end(ctx, Fate::Close(CloseReason::Shutdown));
            }
            Outcome::Done => Phase::Idle,
            Outcome::Linger(reason) => {
                debug!("lingering close: {reason:?}");
                Phase::Lingering { told: false }
            }
            Outcome::Tunnel(tunnel) => Phase::Tunnel(tunnel),
            Outcome::Close(reason) => {
                self.note_tunnel_end(reason);
                return self.end(ctx, Fate::Close(reason));
            }
            Outcome::Abort(reason) => {
                self.note_tunnel_end(reason);
                return self.end(ctx, Fate::Reset(reason));
            }
        };
        self.enter(ctx, next);
        None
    }

    /// A tunnel tells its own end when it is dropped; here it learns why.
    fn note_tunnel_end(&mut self, reason: CloseReason) {
        match &mut self.phase {
            Phase::Tunnel(tunnel) => tunnel.close(End::Tunnel(reason)),
            Phase::Idle | Phase::Head(_) | Phase::Exchange(_) | Phase::Lingering { .. } => {}
        }
    }

    fn enter(&mut self, ctx: &mut Context, next: Phase) {
        self.since_ms = ctx.now_ms;
        match std::mem::replace(&mut self.phase, next) {
            Phase::Exchange(mut exchange) => {
                exchange.end(ctx, &self.client);
                ctx.spare.give(exchange);
            }
            // Its connection to the worker belongs to the context, and would stay open in there.
            Phase::Tunnel(tunnel) => ctx.upstreams.close(tunnel.upstream),
            Phase::Idle | Phase::Head(_) | Phase::Lingering { .. } => {}
        }
    }

    fn end(&mut self, ctx: &mut Context, fate: Fate) -> Option<Fate> {
        self.enter(ctx, Phase::Lingering { told: true });
        Some(fate)
    }

    /// Reads until a head is complete; begins its exchange.
    fn read_request(&mut self, ctx: &mut Context, draining: bool) -> Option<Fate> {
        let mut input = std::mem::take(&mut ctx.input);
        let next = self.read_request_with(ctx, &mut input, draining);
        ctx.input = input;
        next
    }

    fn read_request_with(
        &mut self,
        ctx: &mut Context,
        input: &mut [u8],
        draining: bool,
    ) -> Option<Fate> {
        let unread = std::mem::take(&mut self.client.unread);
        if !unread.is_empty() {
            return self.parse(ctx, &unread, draining);
        }
        let got = match self.client.recv(input) {
            Ok(None) if self.client.gone => return Some(Fate::Close(CloseReason::ClientClosed)),
            Ok(None) => return Some(Fate::Park),
            Ok(Some(0)) | Err(_) => return Some(Fate::Close(CloseReason::ClientClosed)),
            Ok(Some(n)) => input.get(..n).unwrap_or_default(),
        };
        match &mut self.phase {
            Phase::Head(partial) => {
                let mut partial = std::mem::take(partial);
                partial.extend_from_slice(got);
                self.parse(ctx, &partial, draining)
            }
            Phase::Idle | Phase::Exchange(_) | Phase::Tunnel(_) | Phase::Lingering { .. } => {
                self.parse(ctx, got, draining)
            }
        }
    }

    fn parse(&mut self, ctx: &mut Context, bytes: &[u8], draining: bool) -> Option<Fate> {
        let mut storage = head::fields();
        match head::read_request(bytes, &mut storage, &ctx.settings.head) {
            Ok(None) => {
                // The time of a head runs from its first byte: more bytes do not extend it.
                let since_ms = match self.phase {
                    Phase::Head(_) => self.since_ms,
                    Phase::Idle
                    | Phase::Exchange(_)
                    | Phase::Tunnel(_)
                    | Phase::Lingering { .. } => ctx.now_ms,
                };
                self.phase = Phase::Head(bytes.to_vec());
                self.since_ms = since_ms;
            }
            Ok(Some(request)) => {
                self.requests = self.requests.saturating_add(1);
                if self.client.again.is_none() {
                    ctx.front.requests.fetch_add(1, Relaxed);
                }
                let max = ctx.settings.requests_per_connection_max;
                let last = if draining {
                    Some(CloseReason::Shutdown)
                } else if max > 0 && self.requests >= max {
                    Some(CloseReason::RequestsMax)
                } else {
                    None
                };
                let exchange = Exchange::begin(ctx, &mut self.client, &request, bytes, last);
                self.enter(ctx, Phase::Exchange(exchange));
            }
            Err(refusal) => {
                let own = Own::Refused(refusal.status(), refusal.reason());
                self.refuse(ctx, own);
            }
        }
        None
    }

    /// Answers a request that did not become an exchange, and ends the connection.
    fn refuse(&mut self, ctx: &mut Context, own: Own) {
        debug!("refused: {} {}", own.status(), own.reason());
        let mut record = Record::default();
        record.clear(&mut ctx.ids, ctx.now_us, self.client.peer(), None);
        record.status = own.status();
        record.end = End::Own(own);
        let told = Told {
            request_id: record.id_text(),
            ..Told::default()
        };
        let mut output = std::mem::take(&mut ctx.output);
        output.clear();
        ctx.front.own.count(own.status());
        own.write(
            &mut output,
            &Delivery {
                version: Version::Http11,
                close: true,
                head: false,
                date: Some(ctx.date),
            },
            told,
        );
        record.bytes_out = output.len() as u64;
        record.head_out = head_bytes(&output);
        if self.client.send(&output).is_err() {
            self.client.gone = true;
        }
        ctx.output = output;
        ctx.note(&record);
        self.enter(ctx, Phase::Lingering { told: false });
    }

    /// Sends what is left, tells the client the end, and reads away what it still sends, so that
    /// unread bytes do not turn our close into a reset that overtakes the answer. RFC 9112, 9.6.
    fn linger(&mut self, ctx: &mut Context) -> Fate {
        const CLOSED: Fate = Fate::Close(CloseReason::Refused);
        self.client.unread = Vec::new();
        if !self.client.outbox.is_empty() {
            if self.client.flush().is_err() {
                return CLOSED;
            }
            if !self.client.outbox.is_empty() {
                return if self.client.gone { CLOSED } else { Fate::Park };
            }
        }
        if let Phase::Lingering { told } = &mut self.phase
            && !*told
        {
            *told = true;
            socket::shutdown(self.client.socket.as_fd(), socket::End::Write);
        }
        let mut input = std::mem::take(&mut ctx.input);
        let mut fate = Fate::Yield;
        for _ in 0..TURNS_MAX {
            match self.client.recv(&mut input) {
                Ok(None) if self.client.gone => fate = CLOSED,
                Ok(None) => fate = Fate::Park,
                Ok(Some(0)) | Err(_) => fate = CLOSED,
                Ok(Some(_)) => continue,
            }
            break;
        }
        ctx.input = input;
        fate
    }

    /// No relay threads are to be had: the pool moves the tunnel on.
    pub fn stay(&mut self, ctx: &mut Context) -> Fate {
        let outcome = match &mut self.phase {
            Phase::Tunnel(tunnel) => tunnel.stay(ctx, &self.client),
            Phase::Idle | Phase::Head(_) | Phase::Exchange(_) | Phase::Lingering { .. } => {
                Outcome::Parked
            }
        };
        self.apply(ctx, outcome, false).unwrap_or(Fate::Yield)
    }

    /// When [`Connection::expire`] has to be called, in the pool's milliseconds.
    pub fn deadline_ms(&self, ctx: &mut Context) -> u64 {
        let settings = &ctx.settings;
        match &self.phase {
            Phase::Idle => deadline_ms(self.since_ms, settings.keepalive_timeout),
            Phase::Head(_) => deadline_ms(self.since_ms, settings.head_timeout),
            Phase::Exchange(exchange) => exchange.deadline_ms(ctx, &self.client),
            Phase::Tunnel(tunnel) => tunnel.deadline_ms(ctx, &self.client),
            Phase::Lingering { .. } => deadline_ms(self.since_ms, LINGER),
        }
    }

    /// The deadline has passed.
    pub fn expire(&mut self, ctx: &mut Context, draining: bool) -> Fate {
        match &mut self.phase {
            Phase::Idle => Fate::Close(CloseReason::KeepaliveTimeout),
            Phase::Head(_) => {
                self.refuse(ctx, Own::HeadTooSlow);
                self.drive(ctx, draining)
            }
            Phase::Exchange(exchange) => {
                let outcome = exchange.expire(ctx, &mut self.client);
                match self.apply(ctx, outcome, draining) {
                    Some(fate) => fate,
                    None => self.drive(ctx, draining),
                }
            }
            Phase::Tunnel(tunnel) => {
                let outcome = tunnel.expire(ctx, &mut self.client);
                self.apply(ctx, outcome, draining).unwrap_or(Fate::Yield)
            }
            Phase::Lingering { .. } => Fate::Close(CloseReason::Refused),
        }
    }

    /// Whether it has nothing to finish when no further request is wanted.
    pub fn is_idle(&self) -> bool {
        match self.phase {
            Phase::Idle => !self.client.intake.readable && self.client.unread.is_empty(),
            Phase::Head(_) | Phase::Exchange(_) | Phase::Tunnel(_) | Phase::Lingering { .. } => {
                false
            }
        }
    }

    /// What is known of the request that is under way.
    pub fn record(&self) -> Option<&Record> {
        match &self.phase {
            Phase::Exchange(exchange) => Some(exchange.record()),
            Phase::Tunnel(tunnel) => Some(&tunnel.farewell().record),
            Phase::Idle | Phase::Head(_) | Phase::Lingering { .. } => None,
        }
    }

    /// The request that is under way, for those who ask.
    pub fn told(&self, ctx: &Context) -> Option<Request> {
        match &self.phase {
            Phase::Exchange(exchange) => {
                let record = exchange.record();
                let names = Names::of(ctx.router.roster(), record);
                let progress = Progress::UnderWay(exchange.stage());
                Some(record.told(names, ctx.now_us, progress))
            }
            Phase::Tunnel(tunnel) => Some(tunnel.told(ctx.now_us)),
            Phase::Idle | Phase::Head(_) | Phase::Lingering { .. } => None,
        }
    }

    /// Gives back what the context holds for it. The socket closes when it is dropped.
    pub fn release(&mut self, ctx: &mut Context) {
        match &mut self.phase {
            Phase::Exchange(exchange) => exchange.end(ctx, &self.client),
            Phase::Tunnel(tunnel) => ctx.upstreams.close(tunnel.upstream),
            Phase::Idle | Phase::Head(_) | Phase::Lingering { .. } => {}
        }
    }
}
