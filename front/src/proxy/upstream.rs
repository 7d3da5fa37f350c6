//! Connections to workers: made, shelved between exchanges, probed before they carry a request
//! that cannot be repeated, dropped when the worker closes them. One [`Upstreams`] a pool thread;
//! nothing is shared, so nothing is locked.

use super::intake::Intake;
use super::outbox::Outbox;
use super::slab::{Id, Slab};
use crate::gauges::WorkerGauges;
use crate::roster::{Slot, Worker};
use crate::sys::clock::monotonic_us;
use crate::sys::epoll::{Epoll, Interest};
use crate::sys::socket;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// One connection to a worker.
#[derive(Debug)]
pub struct Upstream {
    pub socket: OwnedFd,
    pub slot: Slot,
    pub life: u32,
    pub gauges: Arc<WorkerGauges>,
    /// The token of the client connection it serves; None on the shelf.
    pub owner: Option<u64>,
    /// It carries an exchange, which is counted.
    in_flight: bool,
    pub intake: Intake,
    /// What the worker has not taken yet.
    pub outbox: Outbox,
    watches_write: bool,
    idle_since_ms: u64,
    /// What connecting took, until the first exchange has noted it.
    pub connect_us: u64,
}

impl Upstream {
    /// Reads what is there: None if nothing is, 0 at end of file.
    pub fn recv(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        self.intake.recv(self.socket.as_fd(), buf)
    }

    /// Whether the worker has taken anything since we last looked.
    pub fn takes(&mut self) -> bool {
        self.outbox.peer_takes(self.socket.as_fd())
    }

    /// Sends what is kept.
    pub fn flush(&mut self) -> io::Result<usize> {
        self.outbox.flush(self.socket.as_fd())
    }

    /// Sends, and keeps what does not fit.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbox.send(self.socket.as_fd(), bytes)
    }
}

impl Upstream {
    pub fn new(socket: OwnedFd, slot: Slot, life: u32, gauges: Arc<WorkerGauges>) -> Upstream {
        Upstream {
            socket,
            slot,
            life,
            gauges,
            owner: None,
            in_flight: false,
            intake: Intake::default(),
            outbox: Outbox::default(),
            watches_write: false,
            idle_since_ms: 0,
            connect_us: 0,
        }
    }

    pub fn begin_exchange(&mut self, owner: u64) {
        self.owner = Some(owner);
        self.in_flight = true;
        self.gauges.in_flight.fetch_add(1, Relaxed);
    }

    /// The exchange is over; what may follow is a tunnel.
    pub fn end_exchange(&mut self) {
        if std::mem::take(&mut self.in_flight) {
            self.gauges.in_flight.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end_exchange();
    }
}

/// The idle connections of one worker slot, the youngest last.
#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Id>,
}

/// All connections of one pool thread to all workers.
#[derive(Debug)]
pub struct Upstreams {
    all: Slab<Upstream>,
    /// By slot number.
    shelves: Vec<Shelf>,
    idle: usize,
    /// Marks the tokens of upstreams among all tokens of the epoll set.
    token_kind: u64,
}

impl Upstreams {
    pub fn new(token_kind: u64) -> Self {
        Upstreams {
            all: Slab::default(),
            shelves: Vec::new(),
            idle: 0,
            token_kind,
        }
    }

    pub fn get(&mut self, id: Id) -> Option<&mut Upstream> {
        self.all.get_mut(id)
    }

    /// A connection to `worker` for the client connection `owner`. `fresh` refuses the shelf;
    /// `probe` asks the kernel whether a shelved one is still open.
    ///
    /// # Errors
    /// `WouldBlock` if the worker's backlog is full, `ConnectionRefused` or `NotFound` if nobody
    /// listens, or what the system is out of.
    pub fn acquire(
        &mut self,
        epoll: &Epoll,
        worker: &Worker,
        owner: u64,
        fresh: bool,
        probe: bool,
    ) -> io::Result<Id> {
        while !fresh && let Some(id) = self.take_idle(worker.slot) {
            let Some(upstream) = self.all.get_mut(id) else {
                continue;
            };
            let stale = upstream.life != worker.life
                || upstream.intake.readable
                || upstream.intake.ended
                || (probe && has_something_to_read(upstream));
            if stale {
                self.all.remove(id);
                continue;
            }
            upstream.begin_exchange(owner);
            return Ok(id);
        }
        let began_us = monotonic_us();
        let socket = socket::connect_unix(&worker.socket)?;
        let connect_us = monotonic_us().saturating_sub(began_us);
        let id = self.all.next_id();
        epoll.add(socket.as_fd(), self.token_kind | id.bits(), Interest::READ)?;
        let (slot, life) = (worker.slot, worker.life);
        let mut upstream = Upstream::new(socket, slot, life, worker.gauges.clone());
        upstream.connect_us = connect_us;
        upstream.begin_exchange(owner);
        Ok(self.all.insert(upstream))
    }

    /// Puts a connection whose exchange is complete back on its shelf, if it can be used again.
    pub fn shelve(&mut self, epoll: &Epoll, id: Id, now_ms: u64) {
        let Some(upstream) = self.all.get_mut(id) else {
            return;
        };
        // Bytes that nobody asked for would be taken for the next exchange's answer.
        if upstream.intake.readable || upstream.intake.ended || !upstream.outbox.is_empty() {
            self.close(id);
            return;
        }
        upstream.owner = None;
        upstream.end_exchange();
        upstream.idle_since_ms = now_ms;
        let place = upstream.slot.0 as usize;
        if upstream.watches_write {
            upstream.watches_write = false;
            let token = self.token_kind | id.bits();
            if epoll
                .modify(upstream.socket.as_fd(), token, Interest::READ)
                .is_err()
            {
                self.close(id);
                return;
            }
        }
        if self.shelves.len() <= place {
            self.shelves.resize_with(place + 1, Shelf::default);
        }
        if let Some(shelf) = self.shelves.get_mut(place) {
            shelf.idle.push(id);
            self.idle += 1;
        }
    }

    /// Closes a connection. One that was shelved leaves a stale id behind, which finds nothing.
    pub fn close(&mut self, id: Id) {
        self.all.remove(id);
    }

    /// Closes a connection if it is on the shelf.
    pub fn close_idle(&mut self, id: Id) {
        if self.all.get_mut(id).is_some_and(|u| u.owner.is_none()) {
            self.close(id);
        }
    }

    /// Takes a connection out of the set, for a relay thread. Its epoll watch ends.
    pub fn detach(&mut self, epoll: &Epoll, id: Id) -> Option<Upstream> {
        let upstream = self.all.remove(id)?;
        // The descriptor lives on, so its watch has to be ended by hand; it is ours, so this
        // cannot fail.
        let _ = epoll.delete(upstream.socket.as_fd());
        Some(upstream)
    }

    /// Takes a detached connection back.
    pub fn attach(&mut self, epoll: &Epoll, mut upstream: Upstream) -> io::Result<Id> {
        let id = self.all.next_id();
        upstream.watches_write = !upstream.outbox.is_empty();
        let interest = if upstream.watches_write {
            Interest::READ_WRITE
        } else {
            Interest::READ
        };
        epoll.add(
            upstream.socket.as_fd(),
            self.token_kind | id.bits(),
            interest,
        )?;
        Ok(self.all.insert(upstream))
    }

    /// Asks for a writable event, once what was sent did not fit. A Unix socket would report one
    /// for every read of the worker's, so it is not watched for before.
    pub fn watch_write(&mut self, epoll: &Epoll, id: Id) -> io::Result<()> {
        let token = self.token_kind | id.bits();
        match self.all.get_mut(id) {
            Some(upstream) if !upstream.watches_write => {
                upstream.watches_write = true;
                epoll.modify(upstream.socket.as_fd(), token, Interest::READ_WRITE)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Closes what has been idle since before `before_ms`; returns how many are idle still.
    pub fn prune(&mut self, before_ms: u64) -> usize {
        for shelf in &mut self.shelves {
            let all = &mut self.all;
            let held = shelf.idle.len();
            shelf.idle.retain(|&id| match all.get_mut(id) {
                Some(upstream) if upstream.idle_since_ms < before_ms => {
                    all.remove(id);
                    false
                }
                Some(_) => true,
                None => false,
            });
            self.idle -= held - shelf.idle.len();
        }
        self.idle
    }

    pub fn has_idle(&self) -> bool {
        self.idle > 0
    }

    fn take_idle(&mut self, slot: Slot) -> Option<Id> {
        let id = self.shelves.get_mut(slot.0 as usize)?.idle.pop()?;
        self.idle -= 1;
        Some(id)
    }
}

/// Whether a silent connection has an end of file, an error or stray bytes waiting.
fn has_something_to_read(upstream: &mut Upstream) -> bool {
    // A byte that is read here is lost, but so is the connection.
    let mut byte = [0];
    match socket::recv(upstream.socket.as_fd(), &mut byte) {
        Ok(_) => true,
        Err(e) => e.kind() != io::ErrorKind::WouldBlock,
    }
}
