//! Times of the clock as figures, and figures as a person would write them. Pure, but for the clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds as a time in the unit that fits: `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`.
pub fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The same without blanks, for columns: `45s`, `12m`, `3h05m`, `2d4h`.
pub fn short_time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Milliseconds as a short time: `7ms`, `1.2s`, then as [`short_time`].
pub fn span(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms}ms"),
        1000..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => short_time(ms / 1000),
    }
}

/// `900 B`, `12.3 MiB`, `123 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1000.0
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = Some(next);
    }
    let unit = unit.copied().unwrap_or_default();
    match value < 100.0 {
        true => format!("{value:.1} {unit}"),
        false => format!("{value:.0} {unit}"),
    }
}

/// A clock that was set back makes ages of 0, not errors.
pub fn age_s(at: SystemTime) -> u64 {
    at.elapsed().map_or(0, |age| age.as_secs())
}

/// Seconds since 1970.
pub fn unix_s(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_fit() {
        let times = [(0, "0 s", "0s"), (59, "59 s", "59s"), (60, "1 min", "1m")];
        let later = [(3900, "1 h 5 min", "1h05m"), (190_000, "2 d 4 h", "2d4h")];
        for (seconds, long, short) in times.into_iter().chain(later) {
            assert_eq!(
                (time(seconds).as_str(), short_time(seconds).as_str()),
                (long, short)
            );
        }
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (52_428_800, "50.0 MiB"),
        ];
        let large = [
            (1 << 30, "1.0 GiB"),
            (200 << 20, "200 MiB"),
            (u64::MAX, "16777216 TiB"),
        ];
        for (count, text) in sizes.into_iter().chain(large) {
            assert_eq!(bytes(count), text);
        }
    }
}
