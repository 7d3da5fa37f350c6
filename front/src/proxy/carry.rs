//! The data plane's part of what one binary leaves to the next: a client's socket, a connection to a
//! worker, and how far what they carry has come. A pool thread that stands still writes it down, one
//! of the next binary goes on with it. Bytes that lie in sockets need not be written down.

use super::exchange::Exchange;
use super::slab::Id;
use super::tunnel::{Direction, Tunnel};
use super::upstream::Upstream;
use super::{Client, Context, Outbox, Record};
use crate::as_json;
use crate::json::{self, FromJson, Value};
use crate::roster::{Looks, Slot};
use crate::sys::carried::Baton;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

#[derive(Debug)]
pub struct CarriedClient {
    socket: Baton,
    peer: Option<SocketAddr>,
    /// The client has ended its direction.
    ended: bool,
    half_closed_ms: Option<u64>,
    unread: Vec<u8>,
    outbox: Vec<u8>,
}

as_json!(struct CarriedClient { socket, peer, ended, half_closed_ms, unread, outbox });

impl CarriedClient {
    pub fn of(client: &Client) -> CarriedClient {
        CarriedClient {
            socket: Baton::of(client.socket.as_fd()),
            peer: client.peer(),
            ended: client.intake.ended,
            half_closed_ms: client.half_closed_ms(),
            unread: client.unread.clone(),
            outbox: client.outbox.waiting().to_vec(),
        }
    }

    /// The request at hand is to be read once more.
    pub fn begin_anew(&mut self, original: Vec<u8>) {
        self.unread = original;
    }

    pub fn claim(self) -> io::Result<Client> {
        let socket = self.socket.claim()?;
        let mut client = Client::new(socket, self.peer, 0);
        client.intake.ended = self.ended;
        // Nobody has seen what has come since; the first read finds out.
        client.intake.readable = true;
        client.half_close_at(self.half_closed_ms);
        client.unread = self.unread;
        client.outbox = Outbox::holding(self.outbox);
        Ok(client)
    }
}

#[derive(Debug)]
pub struct CarriedUpstream {
    socket: Baton,
    slot: Slot,
    life: u32,
    /// The worker has ended its direction.
    ended: bool,
    outbox: Vec<u8>,
}

as_json!(struct CarriedUpstream { socket, slot, life, ended, outbox });

impl CarriedUpstream {
    fn of(ctx: &mut Context, id: Id) -> Option<CarriedUpstream> {
        let upstream = ctx.upstreams.get(id)?;
        Some(CarriedUpstream {
            socket: Baton::of(upstream.socket.as_fd()),
            slot: upstream.slot,
            life: upstream.life,
            ended: upstream.intake.ended,
            outbox: upstream.outbox.waiting().to_vec(),
        })
    }

    /// Watches it again; `exchange`: it carries one, else a tunnel.
    fn claim(self, ctx: &mut Context, owner: u64, exchange: bool) -> io::Result<Id> {
        let socket = self.socket.claim()?;
        let roster = ctx.router.roster();
        let worker = roster.find(self.slot).filter(|(_, w)| w.life == self.life);
        let gauges = worker.map(|(_, worker)| worker.gauges.clone());
        let mut upstream = Upstream::new(socket, self.slot, self.life, gauges.unwrap_or_default());
        upstream.intake.ended = self.ended;
        upstream.intake.readable = true;
        upstream.outbox = Outbox::holding(self.outbox);
        if exchange {
            upstream.begin_exchange(owner);
        } else {
            upstream.owner = Some(owner);
        }
        ctx.upstreams.attach(&ctx.epoll, upstream)
    }
}

/// An exchange under way.
#[derive(Debug)]
pub struct CarriedExchange {
    /// An [`Exchange`], without what belongs to its thread.
    state: Value,
    upstream: Option<CarriedUpstream>,
    /// The app whose first worker it waits for, and how long it does.
    awaits: Option<(String, Duration)>,
}

as_json!(struct CarriedExchange { state, upstream, awaits });

impl CarriedExchange {
    pub fn of(ctx: &mut Context, exchange: &Exchange) -> CarriedExchange {
        let upstream = exchange.upstream();
        CarriedExchange {
            state: json::value(exchange),
            awaits: exchange.awaits(ctx),
            upstream: upstream.and_then(|id| CarriedUpstream::of(ctx, id)),
        }
    }

    pub fn claim(self, ctx: &mut Context, owner: u64) -> io::Result<Box<Exchange>> {
        let exchange = Exchange::from_json(&self.state);
        let mut exchange =
            exchange.map_err(|wrong| io::Error::new(ErrorKind::InvalidData, wrong.to_string()))?;
        let upstream = self.upstream.map(|carried| carried.claim(ctx, owner, true));
        exchange.set_upstream(upstream.transpose()?);
        if let Some((app, patience)) = self.awaits {
            exchange.go_on_waiting(ctx, &app, patience);
        }
        Ok(Box::new(exchange))
    }
}

#[derive(Debug)]
pub struct CarriedTunnel {
    upstream: CarriedUpstream,
    to_worker: Direction,
    to_client: Direction,
    active_ms: u64,
    looks: Looks,
    record: Value,
}

as_json!(struct CarriedTunnel {
    upstream, to_worker, to_client, active_ms, looks, record or default
});

impl CarriedTunnel {
    pub fn of(ctx: &mut Context, tunnel: &Tunnel) -> Option<CarriedTunnel> {
        Some(CarriedTunnel {
            upstream: CarriedUpstream::of(ctx, tunnel.upstream)?,
            to_worker: tunnel.to_worker,
            to_client: tunnel.to_client,
            active_ms: tunnel.active_ms,
            looks: tunnel.looks(),
            record: json::value(&tunnel.farewell().record),
        })
    }

    pub fn claim(self, ctx: &mut Context, owner: u64) -> io::Result<Box<Tunnel>> {
        let upstream = self.upstream.claim(ctx, owner, false)?;
        // What would be told of it at its end is not worth the tunnel.
        let record: Record = Record::from_json(&self.record).unwrap_or_default();
        let tunnel = Tunnel::open(ctx, upstream, self.looks, record);
        let mut tunnel = tunnel.ok_or(io::ErrorKind::NotConnected)?;
        tunnel.to_worker = self.to_worker;
        tunnel.to_client = self.to_client;
        tunnel.active_ms = self.active_ms;
        Ok(tunnel)
    }
}
