//! The clock that we share with other processes of the machine.

/// Milliseconds of `CLOCK_MONOTONIC`, which is also Node's `process.hrtime`.
pub fn monotonic_ms() -> u64 {
    monotonic_us() / 1000
}

/// Microseconds of the same clock. clock_gettime(2).
pub fn monotonic_us() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is ours and lives through the call, which cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    let (secs, nanos) = (time.tv_sec as u64, time.tv_nsec as u64);
    secs * 1_000_000 + nanos / 1000
}
