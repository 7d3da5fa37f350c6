//! How values go through our own exec, when another binary takes this process over: descriptors by
//! their numbers, moments by the machine's clock.

use crate::as_json;
use crate::json::{FromJson, ToJson, Value, Writer, Wrong};
use crate::sys::clock::monotonic_us;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A descriptor that is to go through the exec, named by its number.
#[derive(Debug, PartialEq, Eq)]
pub struct Baton(i32);

as_json!(struct Baton(_));

/// The numbers of all batons that have been made.
static MADE: Mutex<Vec<i32>> = Mutex::new(Vec::new());

fn made() -> MutexGuard<'static, Vec<i32>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the descriptors of all batons stay open through the exec that follows at once. Whoever forks
/// meanwhile would leave them to a child, so only the thread that starts programs calls this.
pub fn keep_open() {
    for number in made().iter() {
        // SAFETY: no pointer, no object loses its descriptor: only a flag is cleared.
        unsafe { libc::fcntl(*number, libc::F_SETFD, 0) };
    }
}

/// Forgets the batons of an attempt that has not come so far.
pub fn forget() {
    made().clear();
}

/// The exec has not come about: undoes [`keep_open`], and forgets the batons.
pub fn keep_none() {
    for number in made().drain(..) {
        // SAFETY: as above; a number that is nobody's any more makes the call fail.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

impl Baton {
    /// Notes `fd` for [`keep_open`]. Its owner keeps it until then.
    pub fn of(fd: BorrowedFd<'_>) -> Baton {
        let number = fd.as_raw_fd();
        made().push(number);
        Baton(number)
    }

    /// Takes the descriptor over. An error means that the number names none that has come through
    /// the exec, or that somebody has it already.
    pub fn claim(self) -> io::Result<OwnedFd> {
        let Baton(number) = self;
        // SAFETY: no pointer. All descriptors that this process opens are close-on-exec; one that is
        // not, and no standard stream, was left to us and is nobody's yet. It becomes close-on-exec
        // here, so that it cannot be claimed twice.
        unsafe {
            let flags = libc::fcntl(number, libc::F_GETFD);
            if number <= libc::STDERR_FILENO || flags < 0 || flags & libc::FD_CLOEXEC != 0 {
                return Err(io::Error::from_raw_os_error(libc::EBADF));
            }
            if libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(OwnedFd::from_raw_fd(number))
        }
    }

    /// The baton that somebody has named by its number.
    pub fn named(number: i32) -> Baton {
        Baton(number)
    }

    pub fn number(&self) -> i32 {
        self.0
    }
}

/// In microseconds of the clock that it is of and that an exec does not set back.
impl ToJson for Instant {
    fn to_json(&self, to: &mut Writer) {
        let (now, now_us) = (Instant::now(), monotonic_us());
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at_us = match self.checked_duration_since(now) {
            Some(ahead) => now_us.saturating_add(us(ahead)),
            None => now_us.saturating_sub(us(now.duration_since(*self))),
        };
        at_us.to_json(to);
    }
}

impl FromJson for Instant {
    fn from_json(value: &Value) -> Result<Instant, Wrong> {
        /// Later moments mean never.
        const AHEAD_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let at_us = u64::from_json(value)?;
        let (now, now_us) = (Instant::now(), monotonic_us());
        let ago = Duration::from_micros(now_us.saturating_sub(at_us));
        let ahead = Duration::from_micros(at_us.saturating_sub(now_us)).min(AHEAD_MAX);
        Ok(now.checked_sub(ago).unwrap_or(now) + ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn moments_come_back() {
        for offset in [Duration::ZERO, Duration::from_secs(1000)] {
            let at = Instant::now() + offset;
            let back: Instant = json::read(json::text(&at).as_bytes()).expect("comes back");
            let off = back.max(at) - back.min(at);
            assert!(off < Duration::from_millis(50), "{off:?}");
        }
    }

    #[test]
    fn a_descriptor_is_claimed_once() {
        let file = File::open("/dev/null").expect("/dev/null opens");
        let number = file.as_raw_fd();
        assert!(Baton(number).claim().is_err(), "it was left by nobody");
        let baton = Baton::of(file.as_fd());
        keep_open();
        // What an exec would do.
        std::mem::forget(file);
        let owned = baton.claim().expect("it is there");
        assert!(Baton(number).claim().is_err(), "it has an owner");
        drop(owned);
        assert!(Baton(1).claim().is_err());
        assert!(Baton(-1).claim().is_err());
    }
}
