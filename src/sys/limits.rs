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

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_known() {
        assert!(super::raise_descriptor_limit().expect("every process has limits") >= 64);
    }
}
