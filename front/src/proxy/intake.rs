//! The reading side of a socket that is watched edge-triggered: whether there may be something to
//! read. An event is told once for each arrival, so it is remembered here until a read comes back
//! short, and no read is made that could only say "nothing".

use crate::sys::epoll::Event;
use crate::sys::socket;
use std::io;
use std::os::fd::BorrowedFd;

/// See the module's text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Intake {
    /// There may be bytes, or an end of file, to read.
    pub readable: bool,
    /// The peer has ended its direction; the end of file comes behind its last bytes.
    pub ended: bool,
}

impl Intake {
    /// Takes an event over.
    pub fn note(&mut self, event: Event) {
        self.readable |= event.readable();
        self.ended |= event.peer_half_closed() || event.gone();
    }

    /// `moved` bytes have been taken out past us, of those `there`. More that have come since are told.
    pub fn passed(&mut self, moved: usize, there: usize) {
        self.readable = moved < there || self.ended;
    }

    /// Reads what is there: None if nothing can be, 0 at end of file.
    pub fn recv(&mut self, fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.readable {
            return Ok(None);
        }
        match socket::recv(fd, buf) {
            Ok(n) => {
                // A short read has emptied the socket (epoll(7)), but an end of file that has
                // been announced already is not announced again.
                self.readable = n == buf.len() || (self.ended && n > 0);
                Ok(Some(n))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(None)
            }
            Err(e) => {
                self.readable = false;
                Err(e)
            }
        }
    }
}
