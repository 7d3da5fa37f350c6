//! Finding out by ourselves whether a worker accepts connections, when it has no way to say so.
//!
//! A connection in a listener's queue shows on every copy of the listener as readable. So we
//! connect, and look at our own copy: once it is not readable any more, somebody has accepted.
//! For a socket that the program binds itself, a connection that succeeds is the answer. Nothing
//! here waits; the supervisor looks again when the probe says so.

use front::sys::socket::{connect_unix, wait_ready};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// The looks at one life of a worker.
#[derive(Debug)]
pub struct Probe {
    due: Instant,
    pause: Duration,
    /// The connection that somebody has to accept.
    knock: Option<OwnedFd>,
}

impl Probe {
    pub fn new(due: Instant) -> Probe {
        Probe {
            due,
            pause: PAUSE_FIRST,
            knock: None,
        }
    }

    /// When to look again.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Looks once; true if the worker accepts.
    pub fn look(&mut self, now: Instant, socket: &Path, listener: Option<BorrowedFd<'_>>) -> bool {
        self.due = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        let Some(listener) = listener else {
            return connect_unix(socket).is_ok();
        };
        if self.knock.is_some() {
            return matches!(wait_ready(listener, false, Duration::ZERO), Ok(false));
        }
        // A queue that is full already will do as well, once there is room for ours.
        self.knock = connect_unix(socket).ok();
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    #[test]
    fn accepting_is_noticed() {
        let dir = std::env::temp_dir().join(format!("sidekeeper-probe-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("directory");
        let path = dir.join("p.sock");
        let listener = UnixListener::bind(&path).expect("bind");
        let now = Instant::now();
        let mut probe = Probe::new(now);
        assert!(!probe.look(now, &path, Some(listener.as_fd())));
        assert!(!probe.look(now, &path, Some(listener.as_fd())));
        let _accepted = listener.accept().expect("accept");
        assert!(probe.look(now, &path, Some(listener.as_fd())));
        let mut own = Probe::new(now);
        assert!(own.look(now, &path, None));
        drop(listener);
        assert!(!own.look(now, &path, None));
        std::fs::remove_dir_all(&dir).expect("clean");
    }
}
