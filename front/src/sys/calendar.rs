//! The local calendar: what the clock on the wall says at a moment.

/// A moment as the wall clock shows it, to the minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 is Sunday.
    pub weekday: u8,
    pub hour: u8,
    pub minute: u8,
}

/// The wall clock at a time in seconds since 1970, by TZ or /etc/localtime. localtime_r(3).
pub fn local(unix_secs: i64) -> Civil {
    let tm = taken_apart(unix_secs);
    let small = |number: libc::c_int| u8::try_from(number).unwrap_or(0);
    Civil {
        month: small(tm.tm_mon).saturating_add(1),
        day: small(tm.tm_mday),
        weekday: small(tm.tm_wday),
        hour: small(tm.tm_hour),
        minute: small(tm.tm_min),
    }
}

/// How many seconds the wall clock is ahead of UTC at that time.
pub fn utc_offset_s(unix_secs: i64) -> i32 {
    i32::try_from(taken_apart(unix_secs).tm_gmtoff).unwrap_or(0)
}

fn taken_apart(unix_secs: i64) -> libc::tm {
    // Its type has another name in each C library, and one of the names is deprecated.
    let time = unix_secs as _;
    // SAFETY: `tm` is plain data, for which all zeros is a value; both live through the call, which
    // fails for years beyond 32 bits only and then leaves the zeros. The environment, which it reads,
    // is never changed in this process.
    unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const time, &raw mut tm);
        tm
    }
}
