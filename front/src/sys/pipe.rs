//! splice(2): bytes from one socket to another by way of a pipe, without a copy through our memory.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A pipe that one thread uses for one pair of sockets after the other.
#[derive(Debug)]
pub struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    held: usize,
}

impl Pipe {
    /// What a pipe should hold. A system that grants less makes shorter moves of it.
    pub const BYTES: usize = 256 * 1024;

    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        // SAFETY: no pointer. Refused, the pipe keeps the size that it has.
        unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, Self::BYTES as i32) };
        Ok(Pipe {
            reader,
            writer,
            held: 0,
        })
    }

    /// Takes at most `max` bytes out of a socket, which must have bytes to read: a TCP socket
    /// without any would be waited for.
    pub fn fill(&mut self, from: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
        let moved = splice(from, self.writer.as_fd(), max)?;
        self.held += moved;
        Ok(moved)
    }

    /// Gives a socket that does not block what it takes; true: there is nothing left.
    pub fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<bool> {
        while self.held > 0 {
            match splice(self.reader.as_fd(), to, self.held) {
                Ok(0) => break,
                Ok(moved) => self.held = self.held.saturating_sub(moved),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(self.held == 0)
    }

    /// What has not been given away.
    pub fn take(&mut self) -> io::Result<Vec<u8>> {
        let mut left = vec![0; self.held];
        self.reader.read_exact(&mut left)?;
        self.held = 0;
        Ok(left)
    }
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
    loop {
        // SAFETY: the offsets are null, as they must be for what cannot be sought in.
        let moved = unsafe {
            libc::splice(
                from.as_raw_fd(),
                std::ptr::null_mut(),
                to.as_raw_fd(),
                std::ptr::null_mut(),
                max,
                libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK,
            )
        };
        match usize::try_from(moved).map_err(|_| io::Error::last_os_error()) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_one_socket_has_the_other_one_gets_as_far_as_it_takes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let (worker, reader) = UnixStream::pair().unwrap();
        worker.set_nonblocking(true).unwrap();
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut pipe = Pipe::new().unwrap();
        let (mut moved, mut reading) = (0, None);
        let copy = sent.clone();
        let writer = std::thread::spawn(move || client.write_all(&copy).unwrap());
        while moved < sent.len() {
            moved += pipe.fill(accepted.as_fd(), sent.len() - moved).unwrap();
            if pipe.drain(worker.as_fd()).unwrap() {
                continue;
            }
            // The worker has no room: what is left is ours, and from now on somebody reads.
            let left = pipe.take().unwrap();
            let mut reader = reader.try_clone().unwrap();
            reading.get_or_insert_with(|| {
                std::thread::spawn(move || {
                    let mut got = Vec::new();
                    reader.read_to_end(&mut got).map(|_| got)
                })
            });
            worker.set_nonblocking(false).unwrap();
            (&worker).write_all(&left).unwrap();
            worker.set_nonblocking(true).unwrap();
        }
        drop(worker);
        writer.join().unwrap();
        let reading = reading.expect("a socket holds less than all of it");
        let got = reading.join().unwrap().unwrap();
        assert!(got == sent, "{} of {}", got.len(), sent.len());
    }
}
