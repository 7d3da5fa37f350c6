//! How values go through our own exec, when another binary takes this process over: descriptors by
//! their numbers, moments by the machine's clock, bytes as hexadecimal digits.

use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A descriptor that is to go through the exec, named by its number.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baton(i32);

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

/// For `#[serde(with = "carried::moment")]`: an `Instant`, in microseconds of the clock that it is
/// of and that an exec does not set back.
pub mod moment {
    use crate::sys::clock::monotonic_us;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::{Duration, Instant};

    pub fn serialize<S: Serializer>(moment: &Instant, to: S) -> Result<S::Ok, S::Error> {
        let (now, now_us) = (Instant::now(), monotonic_us());
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at_us = match moment.checked_duration_since(now) {
            Some(ahead) => now_us.saturating_add(us(ahead)),
            None => now_us.saturating_sub(us(now.duration_since(*moment))),
        };
        at_us.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Instant, D::Error> {
        /// Later moments mean never.
        const AHEAD_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let at_us = u64::deserialize(from)?;
        let (now, now_us) = (Instant::now(), monotonic_us());
        let ago = Duration::from_micros(now_us.saturating_sub(at_us));
        let ahead = Duration::from_micros(at_us.saturating_sub(now_us)).min(AHEAD_MAX);
        Ok(now.checked_sub(ago).unwrap_or(now) + ahead)
    }
}

/// For `#[serde(with = "carried::maybe_moment")]`.
pub mod maybe_moment {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Instant;

    #[derive(Serialize, Deserialize)]
    struct Moment(#[serde(with = "super::moment")] Instant);

    pub fn serialize<S: Serializer>(moment: &Option<Instant>, to: S) -> Result<S::Ok, S::Error> {
        moment.map(Moment).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Instant>, D::Error> {
        Ok(Option::deserialize(from)?.map(|Moment(moment)| moment))
    }
}

/// For `#[serde(with = "carried::hex")]`: any bytes.
pub mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::borrow::Cow;

    const DIGITS: &[u8; 16] = b"0123456789abcdef";

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
        let digits = bytes
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(*byte)]);
        to.serialize_str(&digits.collect::<String>())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        let value = |digit: u8| char::from(digit).to_digit(16);
        let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => u8::try_from(value(*high)? << 4 | value(*low)?).ok(),
            _ => None,
        });
        let bytes: Option<Vec<u8>> = pairs.collect();
        bytes.ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    #[derive(Serialize, Deserialize)]
    struct Values {
        #[serde(with = "moment")]
        at: Instant,
        #[serde(with = "maybe_moment")]
        maybe: Option<Instant>,
        #[serde(with = "hex")]
        bytes: Vec<u8>,
    }

    #[test]
    fn values_come_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        for offset in [Duration::ZERO, Duration::from_secs(1000)] {
            let at = Instant::now() + offset;
            let values = Values {
                at,
                maybe: Some(at),
                bytes: bytes.clone(),
            };
            let text = serde_json::to_string(&values).expect("serialises");
            let back: Values = serde_json::from_str(&text).expect("comes back");
            assert_eq!(back.bytes, bytes);
            for moment in [Some(back.at), back.maybe].into_iter().flatten() {
                let off = moment.max(at) - moment.min(at);
                assert!(off < Duration::from_millis(50), "{off:?}");
            }
        }
        assert!(serde_json::from_str::<Values>(r#"{"at":0,"maybe":null,"bytes":"0"}"#).is_err());
        assert!(serde_json::from_str::<Values>(r#"{"at":0,"maybe":null,"bytes":"0g"}"#).is_err());
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
