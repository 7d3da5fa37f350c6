//! One of our own outputs, stdout or stderr, as the logs thread writes to it: never waiting for
//! whoever reads it. What finds no room in a bounded buffer is dropped and counted, and the count
//! is told once there is room again.
//!
//! We cannot make the descriptor non-blocking: the flag would be everybody's who shares the
//! terminal or file. So we ask before each write, and write only what fits for certain.

use crate::journal::harmless::harmless;
use front::sys::epoll::{Epoll, Interest};
use front::sys::socket::wait_ready;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// What may wait to be written.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// A pipe that is ready for writing takes this much without blocking: PIPE_BUF of pipe(7).
const WRITE_BYTES_MAX: usize = 4096;

#[derive(Debug)]
pub struct Output {
    file: File,
    /// Of the epoll set, where it waits for room.
    token: u64,
    pending: VecDeque<u8>,
    dropped: u64,
    watched: bool,
    terminal: bool,
    /// The reader is gone (EPIPE): everything is dropped without a word.
    dead: bool,
}

impl Output {
    pub fn new(fd: OwnedFd, token: u64) -> Output {
        Output {
            terminal: fd.is_terminal(),
            file: File::from(fd),
            token,
            pending: VecDeque::new(),
            dropped: 0,
            watched: false,
            dead: false,
        }
    }

    /// Adds a line, to be written by [`Output::flush`]; false if there is no room for it. On a terminal
    /// nothing but its colours does anything.
    pub fn line(&mut self, line: &[u8]) -> bool {
        if self.terminal {
            // A passing line may stand there: it goes first.
            let shown = [b"\x1b[K", harmless(line).as_bytes()].concat();
            self.push(&shown)
        } else {
            self.push(line)
        }
    }

    fn push(&mut self, line: &[u8]) -> bool {
        if self.dead || self.pending.len() + line.len() + 1 > PENDING_BYTES_MAX {
            self.dropped += 1;
            return false;
        }
        self.pending.extend(line);
        self.pending.push_back(b'\n');
        true
    }

    /// Writes what fits. If that is not all, an event of the epoll set says when to go on.
    pub fn flush(&mut self, epoll: &Epoll) {
        while !self.pending.is_empty() {
            if !self.has_room(Duration::ZERO) {
                return self.wait_for_room(epoll);
            }
            let (front, _) = self.pending.as_slices();
            let chunk = front.get(..WRITE_BYTES_MAX).unwrap_or(front);
            match self.file.write(chunk) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return self.wait_for_room(epoll),
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                    self.dead = true;
                    self.pending = VecDeque::new();
                }
                // A full disk, say: this much is lost, the next may succeed.
                Err(_) => {
                    self.dropped += 1;
                    self.pending.clear();
                    return;
                }
            }
            if self.pending.is_empty() && self.dropped > 0 && !self.dead {
                let count = std::mem::take(&mut self.dropped);
                let text = format!(
                    "sidekeeper | {count} lines of workers dropped: our output was not read"
                );
                self.push(text.as_bytes());
            }
        }
    }

    /// Writes everything, as far as the reader takes it until then.
    pub fn flush_until(&mut self, deadline: Instant, epoll: &Epoll) {
        self.flush(epoll);
        while !self.pending.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.has_room(left) {
                return;
            }
            self.flush(epoll);
        }
    }

    fn has_room(&self, wait: Duration) -> bool {
        matches!(wait_ready(self.file.as_fd(), true, wait), Ok(true))
    }

    /// Regular files cannot be watched, and always have room.
    fn wait_for_room(&mut self, epoll: &Epoll) {
        let fd = self.file.as_fd();
        let watched = if self.watched {
            epoll.modify(fd, self.token, Interest::READ_WRITE)
        } else {
            epoll.add(fd, self.token, Interest::READ_WRITE)
        };
        self.watched = watched.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_reader_that_stands_still_costs_a_bounded_buffer_and_is_told() {
        let (mut reader, writer) = UnixStream::pair().expect("socketpair");
        let epoll = Epoll::new().expect("epoll");
        let mut output = Output::new(OwnedFd::from(writer), 1);
        for _ in 0..4000 {
            output.line(&[b'x'; 1000]);
            output.flush(&epoll);
        }
        assert!(output.pending.len() <= PENDING_BYTES_MAX);
        let dropped = output.dropped;
        assert!(dropped > 1000, "{dropped}");
        let mut seen = Vec::new();
        let mut buffer = [0; 65536];
        while !output.pending.is_empty() {
            let count = reader.read(&mut buffer).expect("read");
            seen.extend_from_slice(&buffer[..count]);
            output.flush(&epoll);
        }
        drop(output);
        reader.read_to_end(&mut seen).expect("read");
        let text = String::from_utf8(seen).expect("ascii");
        let last =
            format!("\nsidekeeper | {dropped} lines of workers dropped: our output was not read\n");
        assert!(text.ends_with(&last));
    }

    #[test]
    fn a_reader_that_is_gone_costs_nothing() {
        let (reader, writer) = UnixStream::pair().expect("socketpair");
        drop(reader);
        let epoll = Epoll::new().expect("epoll");
        let mut output = Output::new(OwnedFd::from(writer), 1);
        for _ in 0..10 {
            output.line(b"text");
            output.flush(&epoll);
            assert!(output.pending.is_empty());
        }
    }
}
