//! The server's part of what one binary leaves to the next: its listeners, and each client's
//! connection with what it is doing. See `proxy::carry` for what is below that.

use super::connection::{Connection, Counted, Phase};
use super::listener::Listener;
use crate::as_json;
use crate::json::Value;
use crate::proxy::carry::{CarriedClient, CarriedExchange, CarriedTunnel};
use crate::proxy::{Client, Context};
use crate::sys::carried::Baton;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// Everything that clients are connected to.
#[derive(Debug, Default)]
pub struct Carried {
    pub listeners: Vec<CarriedListener>,
    pub connections: Vec<CarriedConnection>,
    pub front: Value,
}

as_json!(struct Carried or default { listeners, connections, front });

impl Carried {
    /// Tunnels among the connections.
    pub fn tunnels(&self) -> usize {
        let tunnels = self.connections.iter().filter(|c| match c.phase {
            CarriedPhase::Tunnel(_) => true,
            CarriedPhase::Idle
            | CarriedPhase::Head(_)
            | CarriedPhase::Exchange(_)
            | CarriedPhase::Lingering { .. } => false,
        });
        tunnels.count()
    }
}

#[derive(Debug)]
pub enum CarriedListener {
    Tcp(Baton),
    Unix(Baton, PathBuf),
    /// It stays with whoever has passed it on.
    Passed(Box<CarriedListener>),
}

as_json!(
    enum CarriedListener {
        Tcp(a),
        Unix(a, b),
        Passed(a),
    }
);

impl CarriedListener {
    pub fn of(listener: &Listener) -> CarriedListener {
        let baton = || Baton::of(listener.as_fd());
        match listener {
            Listener::Tcp(_) => CarriedListener::Tcp(baton()),
            Listener::Unix(_, path) => CarriedListener::Unix(baton(), path.clone()),
            Listener::Passed(passed) => {
                CarriedListener::Passed(Box::new(CarriedListener::of(passed)))
            }
        }
    }

    pub fn claim(self) -> io::Result<Listener> {
        Ok(match self {
            CarriedListener::Tcp(baton) => Listener::Tcp(TcpListener::from(baton.claim()?)),
            CarriedListener::Unix(baton, path) => {
                Listener::Unix(UnixListener::from(baton.claim()?), path)
            }
            CarriedListener::Passed(passed) => Listener::Passed(Box::new(passed.claim()?)),
        })
    }
}

#[derive(Debug)]
pub struct CarriedConnection {
    client: CarriedClient,
    phase: CarriedPhase,
    requests: u32,
    since_ms: u64,
}

as_json!(struct CarriedConnection { client, phase, requests, since_ms });

#[derive(Debug)]
enum CarriedPhase {
    Idle,
    Head(Vec<u8>),
    Exchange(Box<CarriedExchange>),
    Tunnel(Box<CarriedTunnel>),
    Lingering { told: bool },
}

as_json!(enum CarriedPhase { Idle, Head(a), Exchange(a), Tunnel(a), Lingering { told } });

impl CarriedConnection {
    /// None: it cannot go on, and ends with this binary.
    pub fn of(connection: &mut Connection, ctx: &mut Context) -> Option<CarriedConnection> {
        let mut client = CarriedClient::of(&connection.client);
        let phase = match &mut connection.phase {
            Phase::Idle => CarriedPhase::Idle,
            Phase::Head(partial) => CarriedPhase::Head(partial.clone()),
            Phase::Exchange(exchange) => match exchange.original_of_hand_off() {
                // Nothing has gone to a worker yet.
                Some(original) => {
                    client.begin_anew(original.to_vec());
                    CarriedPhase::Idle
                }
                None => CarriedPhase::Exchange(Box::new(CarriedExchange::of(ctx, exchange))),
            },
            Phase::Tunnel(tunnel) => {
                CarriedPhase::Tunnel(Box::new(CarriedTunnel::of(ctx, tunnel)?))
            }
            Phase::Lingering { told } => CarriedPhase::Lingering { told: *told },
        };
        Some(CarriedConnection {
            client,
            phase,
            requests: connection.requests,
            since_ms: connection.since_ms,
        })
    }

    /// The other end of its connection.
    pub fn claim_client(self) -> io::Result<Claimed> {
        Ok(Claimed {
            client: self.client.claim()?,
            phase: self.phase,
            requests: self.requests,
            since_ms: self.since_ms,
        })
    }
}

/// A client that is ours again; what it is doing has still to find its place.
pub struct Claimed {
    pub client: Client,
    phase: CarriedPhase,
    requests: u32,
    since_ms: u64,
}

impl Claimed {
    pub fn peer(&self) -> Option<SocketAddr> {
        self.client.peer()
    }

    /// Goes on where it was. `owner`: the token that it is about to be watched with.
    pub fn settle(self, ctx: &mut Context, owner: u64, counted: Counted) -> io::Result<Connection> {
        let phase = match self.phase {
            CarriedPhase::Idle => Phase::Idle,
            CarriedPhase::Head(partial) => Phase::Head(partial),
            CarriedPhase::Exchange(carried) => Phase::Exchange(carried.claim(ctx, owner)?),
            CarriedPhase::Tunnel(carried) => Phase::Tunnel(carried.claim(ctx, owner)?),
            CarriedPhase::Lingering { told } => Phase::Lingering { told },
        };
        let mut connection = Connection::new(self.client, counted, ctx.now_ms);
        connection.phase = phase;
        connection.requests = self.requests;
        connection.since_ms = self.since_ms;
        Ok(connection)
    }
}
