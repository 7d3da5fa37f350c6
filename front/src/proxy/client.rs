//! The client's socket, as exchanges and tunnels use it.

use super::intake::Intake;
use super::outbox::Outbox;
use crate::http::id::RequestId;
use crate::roster::Slot;
use crate::sys::epoll::{Epoll, Event, Interest};
use crate::sys::socket;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};

/// One client connection's socket with what is known of it. Owned by one pool thread.
#[derive(Debug)]
pub struct Client {
    pub socket: OwnedFd,
    /// None: a client on a Unix socket.
    peer: Option<Peer>,
    /// Names the connection in the epoll set.
    pub token: u64,
    pub intake: Intake,
    /// Both directions are dead.
    pub gone: bool,
    half_closed_ms: Option<NonZeroU64>,
    /// The request that comes has been offered to workers already.
    pub again: Option<Box<Again>>,
    /// What was read beyond the request at hand.
    pub unread: Vec<u8>,
    /// What the client has not taken yet.
    pub outbox: Outbox,
    /// It is in the thread's epoll set.
    watched: bool,
    /// Its room is watched for: something did not fit.
    watches_write: bool,
}

/// What is known of a request that no worker has taken yet.
#[derive(Debug)]
pub struct Again {
    /// Who did not take it.
    pub refused_by: Vec<Slot>,
    pub id: RequestId,
    pub began_us: u64,
}

/// An address without what std keeps of IPv6's flows and scopes: idle connections are many.
#[derive(Clone, Copy, Debug)]
struct Peer {
    ip: IpAddr,
    port: u16,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Peer {
            ip: address.ip(),
            port: address.port(),
        }
    }
}

impl Client {
    pub fn new(socket: OwnedFd, peer: Option<SocketAddr>, token: u64) -> Self {
        Client {
            socket,
            peer: peer.map(Peer::from),
            token,
            intake: Intake::default(),
            gone: false,
            half_closed_ms: None,
            again: None,
            unread: Vec::new(),
            outbox: Outbox::default(),
            watches_write: false,
            watched: false,
        }
    }

    /// The other end of the connection; None: it is a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer.map(|Peer { ip, port }| SocketAddr::new(ip, port))
    }

    /// When the client ended its direction, in the pool's milliseconds; None: it has not.
    pub fn half_closed_ms(&self) -> Option<u64> {
        self.half_closed_ms.map(NonZeroU64::get)
    }

    /// It is known already that the client has ended its direction.
    pub fn half_close_at(&mut self, at_ms: Option<u64>) {
        self.half_closed_ms = at_ms.and_then(NonZeroU64::new);
    }

    /// Begins to watch the connection; what has come already is reported by the next wait.
    pub fn watch(&mut self, epoll: &Epoll) -> io::Result<()> {
        self.watches_write = !self.outbox.is_empty();
        let interest = if self.watches_write {
            Interest::READ_WRITE
        } else {
            Interest::READ
        };
        epoll.add(self.socket.as_fd(), self.token, interest)?;
        self.watched = true;
        Ok(())
    }

    /// Stops watching a socket that lives on elsewhere.
    pub fn unwatch(&mut self, epoll: &Epoll) {
        if std::mem::take(&mut self.watched) {
            // It is watched, so this cannot fail.
            let _ = epoll.delete(self.socket.as_fd());
        }
    }

    pub fn is_watched(&self) -> bool {
        self.watched
    }

    /// Nothing of what the client has sent is left to read.
    pub fn is_silent(&self) -> bool {
        self.unread.is_empty()
            && !self.intake.readable
            // Nobody would have told us.
            && (self.watched || socket::unread(self.socket.as_fd()).is_ok_and(|bytes| bytes == 0))
    }

    /// Watches for room once something did not fit, and from then on: before, every connection would
    /// be reported once for being new.
    pub fn watch_room(&mut self, epoll: &Epoll) -> io::Result<()> {
        if self.outbox.is_empty() || self.watches_write || !self.watched {
            return Ok(());
        }
        self.watches_write = true;
        epoll.modify(self.socket.as_fd(), self.token, Interest::READ_WRITE)
    }

    /// Something did not fit: [`Client::watch_room`] has to be called.
    pub fn lacks_room(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Takes an event over.
    pub fn note(&mut self, event: Event, now_ms: u64) {
        self.intake.note(event);
        self.gone |= event.gone();
        if event.peer_half_closed() {
            self.half_closed_ms = self.half_closed_ms.or(NonZeroU64::new(now_ms));
        }
    }

    /// Reads what is there: None if nothing is, 0 at end of file.
    pub fn recv(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        self.intake.recv(self.socket.as_fd(), buf)
    }

    /// Sends, and keeps what does not fit.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbox.send(self.socket.as_fd(), bytes)
    }

    /// Whether the client has taken anything since we last looked.
    pub fn takes(&mut self) -> bool {
        self.outbox.peer_takes(self.socket.as_fd())
    }

    /// Sends what is kept.
    pub fn flush(&mut self) -> io::Result<usize> {
        self.outbox.flush(self.socket.as_fd())
    }
}
