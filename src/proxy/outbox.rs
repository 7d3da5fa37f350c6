//! Bytes that a peer has not taken yet. A pool thread never waits for a peer: what does not fit
//! into the socket is kept here, and the socket's next writable event sends it on.

use crate::sys::socket;
use std::io;
use std::os::fd::BorrowedFd;

/// The bytes that wait for one peer. Empty, it owns no memory.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// What the kernel still held for the peer when we last looked.
    untaken: usize,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Sends `bytes`, or as much as fits, and keeps the rest. Returns how many were sent now.
    pub fn send(&mut self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_empty() {
            self.bytes.extend_from_slice(bytes);
            return Ok(0);
        }
        let sent = match socket::send(fd, bytes) {
            Ok(sent) => sent,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        if let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            self.bytes.extend_from_slice(rest);
            self.peer_takes(fd);
        }
        Ok(sent)
    }

    /// Sends what is kept; returns how many bytes were taken. Gives the memory back when empty.
    pub fn flush(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let before = self.sent;
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match socket::send(fd, rest) {
                Ok(sent) => self.sent += sent,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let taken = self.sent - before;
                    if taken > 0 {
                        self.peer_takes(fd);
                    }
                    return Ok(taken);
                }
                Err(e) => return Err(e),
            }
        }
        let taken = self.sent - before;
        *self = Outbox::default();
        Ok(taken)
    }

    /// Whether the peer has taken anything since we last looked. A socket becomes writable only when
    /// a good part of its buffer is free, which takes a slow peer longer than it may be silent: so
    /// before one is cut off, the kernel is asked.
    pub fn peer_takes(&mut self, fd: BorrowedFd<'_>) -> bool {
        let Ok(untaken) = socket::untaken(fd) else {
            return false;
        };
        let before = std::mem::replace(&mut self.untaken, untaken);
        untaken < before
    }

    /// Takes the waiting bytes out, for a relay thread to send.
    pub fn take(&mut self) -> Vec<u8> {
        let Outbox {
            mut bytes, sent, ..
        } = std::mem::take(self);
        bytes.drain(..sent);
        bytes
    }

    /// Bytes that have to go out before anything else.
    pub fn holding(bytes: Vec<u8>) -> Self {
        Outbox {
            bytes,
            ..Outbox::default()
        }
    }
}
