//! Who comes to a pool thread and who leaves it: clients that a listener has, that an earlier binary has served,
//! that relay threads or a worker give back; tunnels that go to relay threads, sockets that go to their worker.

use super::thread::{CLIENT, LISTENER, PoolThread};
use crate::proxy::Client;
use crate::proxy::handoff::{HandOff, NotTaken};
use crate::proxy::slab::Id;
use crate::server::accept::{Arrival, Look};
use crate::server::carry::Claimed;
use crate::server::connection::{Connection, Counted, Phase};
use crate::server::mailbox::Message;
use crate::server::relay::Returned;
use log::{debug, warn};

/// Clients accepted at a listener before others of the batch have their turn.
const ACCEPTS_MAX: usize = 16;

impl PoolThread {
    /// Clients wait at a listener. `ready`: how many events the batch has.
    pub(super) fn take_in(&mut self, token: u64, ready: usize) {
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

    pub(super) fn accept(&mut self, arrival: Arrival) {
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
    pub(super) fn turn_away(&mut self, arrival: Arrival) {
        let client = Client::new(arrival.socket, arrival.address, CLIENT);
        let mut connection = Connection::new(client, arrival.counted, self.ctx.now_ms);
        connection.turn_away(&mut self.ctx);
        self.watch(Box::new(connection));
    }

    /// Goes on with a client whom an earlier binary has served.
    pub(super) fn go_on_with(&mut self, client: Claimed, counted: Counted) {
        let id = self.connections.next_id();
        match client.settle(&mut self.ctx, CLIENT | id.bits(), counted) {
            Ok(connection) => {
                let id = self.watch(Box::new(connection));
                self.yielded.push(id);
            }
            Err(e) => warn!("a connection was lost when this binary took over: {e}"),
        }
    }

    /// Takes a connection over without watching it yet.
    pub(super) fn hold(&mut self, mut connection: Box<Connection>) -> Id {
        let id = self.connections.next_id();
        connection.client.token = CLIENT | id.bits();
        let deadline = connection.deadline_ms(&mut self.ctx);
        self.timers.remind(id, deadline);
        self.connections.insert(connection)
    }

    /// Registers a connection; what has come already is reported by the next wait.
    pub(super) fn watch(&mut self, connection: Box<Connection>) -> Id {
        let id = self.hold(connection);
        self.begin_to_watch(id);
        id
    }

    pub(super) fn begin_to_watch(&mut self, id: Id) {
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

    /// No further request is wanted. One that has come already is served: closing over it would
    /// answer it with a reset.
    pub(super) fn end_idle(&mut self, id: Id) {
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

    /// Hands a tunnel to relay threads, or goes on without them.
    pub(super) fn relay(&mut self, id: Id) {
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

    /// A relayed tunnel is parked again.
    pub(super) fn take_back(&mut self, returned: Returned) {
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

    /// Offers a connection to its worker; it is not ours to touch until the answer.
    pub(super) fn hand_off(&mut self, id: Id, hand_off: Box<HandOff>) {
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
    pub(super) fn begin_anew(&mut self, not_taken: NotTaken<Counted>) {
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

    pub(super) fn remove(&mut self, id: Id) {
        if let Some(mut connection) = self.connections.remove(id) {
            connection.release(&mut self.ctx);
        }
    }
}
