//! Bytes that a peer has not taken yet. A pool thread never waits for a peer: what does not fit
//! into the socket is kept here, and the socket's next writable event sends it on.

use crate::sys::socket;
use std::io;
use std::os::fd::BorrowedFd;

/// The bytes that wait for one peer. Empty, as it nearly always is, it is one word.
#[derive(Debug, Default)]
pub struct Outbox(Option<Box<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// Never all of them are sent.
    bytes: Vec<u8>,
    sent: usize,
    /// What the kernel still held for the peer when we last looked.
    untaken: usize,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        let kept = self.0.as_ref();
        kept.map_or(0, |kept| kept.bytes.len().saturating_sub(kept.sent))
    }

    /// Sends `bytes`, or as much as fits, and keeps the rest. Returns how many were sent now.
    pub fn send(&mut self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        if let Some(kept) = &mut self.0 {
            kept.bytes.extend_from_slice(bytes);
            return Ok(0);
        }
        let sent = match socket::send(fd, bytes) {
            Ok(sent) => sent,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        if let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            *self = Outbox::holding(rest.to_vec());
            self.peer_takes(fd);
        }
        Ok(sent)
    }

    /// Sends what is kept; returns how many bytes were taken. Gives the memory back when empty.
    pub fn flush(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let Some(kept) = &mut self.0 else {
            return Ok(0);
        };
        let before = kept.sent;
        while let Some(rest) = kept.bytes.get(kept.sent..).filter(|rest| !rest.is_empty()) {
            match socket::send(fd, rest) {
                Ok(sent) => kept.sent += sent,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let taken = kept.sent - before;
                    if taken > 0 {
                        self.peer_takes(fd);
                    }
                    return Ok(taken);
                }
                Err(e) => return Err(e),
            }
        }
        let taken = kept.sent - before;
        *self = Outbox::default();
        Ok(taken)
    }

    /// Whether the peer has taken anything since we last looked. A socket becomes writable only when
    /// a good part of its buffer is free, which takes a slow peer longer than it may be silent: so
    /// before one is cut off, the kernel is asked.
    pub fn peer_takes(&mut self, fd: BorrowedFd<'_>) -> bool {
        let (Some(kept), Ok(untaken)) = (&mut self.0, socket::untaken(fd)) else {
            return false;
        };
        let before = std::mem::replace(&mut kept.untaken, untaken);
        untaken < before
    }

    /// What has still to go out.
    pub fn waiting(&self) -> &[u8] {
        let kept = self.0.as_ref();
        let rest = kept.and_then(|kept| kept.bytes.get(kept.sent..));
        rest.unwrap_or_default()
    }

    /// Takes the waiting bytes out, for a relay thread to send.
    pub fn take(&mut self) -> Vec<u8> {
        let Some(mut kept) = self.0.take() else {
            return Vec::new();
        };
        kept.bytes.drain(..kept.sent);
        kept.bytes
    }

    /// Bytes that have to go out before anything else.
    pub fn holding(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return Outbox::default();
        }
        Outbox(Some(Box::new(Kept {
            bytes,
            ..Kept::default()
        })))
    }
}
