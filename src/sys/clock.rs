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

/// How many seconds the clocks of this process's time zone (`TZ`, else /etc/localtime) are ahead of
/// UTC at a moment. 0 if the zone cannot be told. localtime_r(3).
pub fn utc_offset_s(unix_s: i64) -> i32 {
    // A pointer to it is what the call takes; its type follows the platform.
    let time = unix_s as libc::time_t;
    // SAFETY: tm is plain data, for which all zeros is a value; both live through the call. The
    // environment, which the call reads, is never changed in this process.
    let (found, tm) = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        let found = !libc::localtime_r(&time, &mut tm).is_null();
        (found, tm)
    };
    if !found {
        return 0;
    }
    i32::try_from(tm.tm_gmtoff).unwrap_or(0)
}
