//! The clocks that we share with other processes of the machine, and with people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Milliseconds of `CLOCK_MONOTONIC`, which is also Node's `process.hrtime`.
pub fn monotonic_ms() -> u64 {
    monotonic_us() / 1000
}

/// Microseconds of the same clock. clock_gettime(2).
pub fn monotonic_us() -> u64 {
    read_us(libc::CLOCK_MONOTONIC)
}

/// Microseconds of `CLOCK_BOOTTIME`: it goes on while the machine is suspended.
pub fn boottime_us() -> u64 {
    read_us(libc::CLOCK_BOOTTIME)
}

fn read_us(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is ours and lives through the call, which cannot fail for these clocks.
    unsafe { libc::clock_gettime(clock, &mut time) };
    let (secs, nanos) = (time.tv_sec as u64, time.tv_nsec as u64);
    secs * 1_000_000 + nanos / 1000
}
