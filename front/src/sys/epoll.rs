//! epoll(7) and eventfd(2): what a pool thread waits in.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What happened to a descriptor, or what one wants to hear of: a set of `EPOLL*` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(u32);

impl Interest {
    /// Bytes to read, or the peer's end of file. Edge-triggered: told once for each arrival.
    pub const READ: Interest = Interest((libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32);
    /// [`Interest::READ`], and room to write after a write that found none.
    pub const READ_WRITE: Interest =
        Interest((libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLOUT | libc::EPOLLET) as u32);
    /// Clients at a listener that several sets watch: told again while one waits, but a new one
    /// wakes only one set that is being waited for.
    pub const ACCEPT: Interest = Interest((libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32);
    /// Level-triggered reading: told again until everything has been read.
    pub const READ_LEVEL: Interest = Interest(libc::EPOLLIN as u32);
    /// [`Interest::READ_LEVEL`], and told again as long as there is room to write.
    pub const READ_WRITE_LEVEL: Interest = Interest((libc::EPOLLIN | libc::EPOLLOUT) as u32);
}

/// One event of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The number that was given to [`Epoll::add`].
    pub token: u64,
    bits: u32,
}

impl Event {
    pub fn readable(self) -> bool {
        self.bits & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }

    pub fn writable(self) -> bool {
        self.bits & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }

    /// The peer will send no more; it may still read.
    pub fn peer_half_closed(self) -> bool {
        self.bits & libc::EPOLLRDHUP as u32 != 0
    }

    /// Both directions are gone: the peer reset, or closed a Unix socket.
    pub fn gone(self) -> bool {
        self.bits & (libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }
}

/// An epoll set.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    ready: usize,
}

/// Events taken by one wait; more wait for the next one.
const BATCH: usize = 256;

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointer; the descriptor it returns is ours alone.
        let fd = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Epoll {
            fd,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; BATCH],
            ready: 0,
        })
    }

    /// Watches `fd`; what is already ready is reported at once.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes what is watched; what is already ready is reported again.
    pub fn modify(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Stops watching. Needed only for a descriptor that lives on: closing the last copy does it.
    pub fn delete(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest(0))
    }

    fn control(
        &self,
        op: i32,
        fd: BorrowedFd<'_>,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: interest.0,
            u64: token,
        };
        // SAFETY: both descriptors are borrowed and open, `event` lives through the call.
        let done = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd.as_raw_fd(), &mut event) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits for events, for ever if `timeout` is None, and returns how many there are. An
    /// interrupted wait returns none. A timeout is rounded up to whole milliseconds, so that a
    /// deadline has passed when the wait for it ends.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let millis = match timeout {
            None => -1,
            Some(t) => i32::try_from(t.as_micros().div_ceil(1000)).unwrap_or(i32::MAX),
        };
        // SAFETY: the buffer holds BATCH initialised events and is ours during the call.
        let n = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                BATCH as i32,
                millis,
            )
        };
        self.ready = usize::try_from(n).unwrap_or(0);
        if n < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(self.ready)
    }

    /// Event `index` of the last wait; None past its end.
    pub fn event(&self, index: usize) -> Option<Event> {
        if index >= self.ready {
            return None;
        }
        self.events.get(index).map(|e| Event {
            token: e.u64,
            bits: e.events,
        })
    }
}

/// Wakes a thread that waits in an [`Epoll`]: an eventfd that any thread may ring.
#[derive(Debug)]
pub struct Waker(File);

impl Waker {
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointer; the descriptor it returns is ours alone.
        let fd = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Waker(File::from(fd)))
    }

    pub fn ring(&self) {
        // The only possible failure is a counter at its maximum, and that one is ringing.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    pub fn silence(&self) {
        let mut count = [0; 8];
        let _ = (&self.0).read(&mut count);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
