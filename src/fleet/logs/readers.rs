//! Those who read the logs over a socket. The logs thread writes to them and never waits for them:
//! what finds no room in a bounded buffer is dropped, counted, and the count is told.

use crate::fleet::logs::recent::Line;
use crate::journal::harmless::harmless_json;
use front::json;
use front::roster::Slot;
use front::sys::epoll::{Epoll, Event, Interest};
use front::sys::socket;
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// Readers at once; further ones are closed at once.
const READERS_MAX: usize = 16;
/// What may wait for a reader that follows. The recent lines at the beginning may be more.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// The last line of those who do not follow.
const END: &str = "{\"end\":0}";

struct Reader {
    socket: UnixStream,
    /// Empty: all.
    slots: Vec<Slot>,
    follow: bool,
    pending: VecDeque<u8>,
    dropped: u64,
}

/// The readers, by their tokens in the epoll set.
#[derive(Default)]
pub struct ReaderSet {
    readers: HashMap<u64, Reader>,
}

impl ReaderSet {
    /// Begins with a reader: it gets what there is.
    pub fn add(
        &mut self,
        epoll: &Epoll,
        token: u64,
        socket: UnixStream,
        (slots, follow): (Vec<Slot>, bool),
        recent: &[&Line],
    ) -> io::Result<()> {
        if self.readers.len() >= READERS_MAX {
            return Ok(());
        }
        epoll.add(socket.as_fd(), token, Interest::READ_WRITE)?;
        let mut reader = Reader {
            socket,
            slots,
            follow,
            pending: VecDeque::new(),
            dropped: 0,
        };
        for line in recent {
            reader.push(&json(line));
        }
        if !follow {
            reader.push(END);
        }
        // The first event comes at once: there is room to write.
        self.readers.insert(token, reader);
        Ok(())
    }

    pub fn contains(&self, token: u64) -> bool {
        self.readers.contains_key(&token)
    }

    /// A line for all who follow its worker.
    pub fn line(&mut self, slot: Slot, line: &Line) {
        let mut text = None;
        for reader in self.readers.values_mut() {
            if !reader.follow || !(reader.slots.is_empty() || reader.slots.contains(&slot)) {
                continue;
            }
            let text = text.get_or_insert_with(|| json(line));
            if reader.pending.len() + text.len() > PENDING_BYTES_MAX {
                reader.dropped += 1;
            } else {
                reader.push(text);
            }
        }
    }

    /// Something happened to a reader: it has room, or has gone.
    pub fn event(&mut self, event: Event) {
        let gone = match self.readers.get_mut(&event.token) {
            Some(_) if event.gone() || event.peer_half_closed() => true,
            Some(reader) => reader.flush(),
            None => false,
        };
        if gone {
            self.readers.remove(&event.token);
        }
    }

    /// Writes what fits.
    pub fn flush(&mut self) {
        self.readers.retain(|_, reader| !reader.flush());
    }
}

impl Reader {
    fn push(&mut self, text: &str) {
        self.pending.extend(text.as_bytes());
        self.pending.push_back(b'\n');
    }

    /// Writes what fits; true if the reader is done with, or gone. When there is room again, an
    /// event of the epoll set says so.
    fn flush(&mut self) -> bool {
        loop {
            if self.pending.is_empty() && self.dropped > 0 {
                let dropped = std::mem::take(&mut self.dropped);
                self.push(&format!("{{\"dropped\":{dropped}}}"));
            }
            let (front, _) = self.pending.as_slices();
            if front.is_empty() {
                return !self.follow;
            }
            match socket::send(self.socket.as_fd(), front) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    }
}

fn json(line: &Line) -> String {
    harmless_json(json::text(line))
}
