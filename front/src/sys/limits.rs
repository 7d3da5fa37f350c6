//! Resource limits.

use std::io;

/// Raises the number of descriptors we may have open to what the hard limit allows, and returns
/// it. The soft limit is 1024 on most machines for the sake of programs that use select(2).
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live value of the type that the call fills in.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer is to a live value, which the call only reads.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(limit.rlim_max),
        // Not fatal: the old limit still holds.
        _ => Ok(before),
    }
}

/// Limits by the names that ulimit and systemd's Limit*= know them by.
// One line a limit: this is read as a table. The numbers are signed in musl and unsigned in glibc.
#[rustfmt::skip]
#[allow(clippy::unnecessary_cast)]
const LIMITS: [(&str, u32); 9] = [
    ("as", libc::RLIMIT_AS as u32), ("core", libc::RLIMIT_CORE as u32), ("cpu", libc::RLIMIT_CPU as u32),
    ("data", libc::RLIMIT_DATA as u32), ("fsize", libc::RLIMIT_FSIZE as u32), ("memlock", libc::RLIMIT_MEMLOCK as u32),
    ("nofile", libc::RLIMIT_NOFILE as u32), ("nproc", libc::RLIMIT_NPROC as u32), ("stack", libc::RLIMIT_STACK as u32),
];

/// The names that [`set`] takes.
pub fn names() -> impl Iterator<Item = &'static str> {
    LIMITS.iter().map(|(name, _)| *name)
}

/// Sets a limit, soft and hard, of this process and of what it becomes; None: unlimited. setrlimit(2).
pub fn set(name: &str, value: Option<u64>) -> io::Result<()> {
    let Some((_, number)) = LIMITS.iter().find(|(known, _)| *known == name) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let value = match value {
        Some(value) => value as libc::rlim_t,
        None => libc::RLIM_INFINITY,
    };
    let limit = libc::rlimit {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: the pointer is to a live value, which the call only reads.
    match unsafe { libc::setrlimit(*number as _, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_known() {
        assert!(super::raise_descriptor_limit().expect("every process has limits") >= 64);
    }
}
