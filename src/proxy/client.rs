//! The client's socket, as exchanges and tunnels use it.

use super::intake::Intake;
use super::outbox::Outbox;
use crate::http::head::ClientSide;
use crate::roster::Slot;
use crate::sys::epoll::Event;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// One client connection's socket with what is known of it. Owned by one pool thread.
#[derive(Debug)]
pub struct Client {
    pub socket: OwnedFd,
    /// Whose connection it is, and who sent the request at hand.
    pub from: ClientSide,
    /// Names the connection in the epoll set.
    pub token: u64,
    pub intake: Intake,
    /// Both directions are dead.
    pub gone: bool,
    /// When the client ended its direction, in the pool's milliseconds; None: it has not.
    pub half_closed_ms: Option<u64>,
    /// A worker that has not taken the connection: it is relayed, to another one if possible.
    pub refused_by: Option<Slot>,
    /// What was read beyond the request at hand.
    pub unread: Vec<u8>,
    /// What the client has not taken yet.
    pub outbox: Outbox,
}

impl Client {
    pub fn new(socket: OwnedFd, peer: Option<SocketAddr>, token: u64) -> Self {
        Client {
            socket,
            from: ClientSide::direct(peer),
            token,
            intake: Intake::default(),
            gone: false,
            half_closed_ms: None,
            refused_by: None,
            unread: Vec::new(),
            outbox: Outbox::default(),
        }
    }

    /// Takes an event over.
    pub fn note(&mut self, event: Event, now_ms: u64) {
        self.intake.note(event);
        self.gone |= event.gone();
        if event.peer_half_closed() {
            self.half_closed_ms.get_or_insert(now_ms);
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
