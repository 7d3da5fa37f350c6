//! The values that options and configuration keys take: how each is read from text and what it
//! refuses. No I/O. The messages end in what to write instead, because the reader of a refusal
//! is a person with a command line in front of them.

use front::http::forwarded::TrustedProxy;
use front::proxy::Audience;
use front::proxy::access::Format;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest time that an option may name: a week. Longer ones are typing errors, and far
/// longer ones would overflow the arithmetic of deadlines.
const SECONDS_MAX: f64 = 7.0 * 24.0 * 3600.0;
/// The most workers one app may have.
pub const WORKERS_MAX: u32 = 512;
/// The most threads that an option may ask for.
const THREADS_MAX: u32 = 4096;

/// A time in seconds, fractions allowed; 0 has a meaning of its own at each option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // `f64` also reads `inf`, `NaN`, `1e9` and `+5`; a time is digits and at most one point.
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let points = text.bytes().filter(|b| *b == b'.').count();
        let plain = digits >= 1 && points <= 1 && digits.saturating_add(points) == text.len();
        match text.parse::<f64>() {
            Ok(secs) if plain && secs <= SECONDS_MAX => Ok(Seconds(Duration::from_secs_f64(secs))),
            Ok(_) if plain => Err("at most a week (604800 seconds) makes sense here".to_owned()),
            Ok(_) | Err(_) => Err("expected seconds, such as 10 or 0.5".to_owned()),
        }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

/// A time that must not be 0, because without this deadline a silent peer would hold us for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Duration);

impl FromStr for Deadline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Seconds(time) = text.parse()?;
        if time.is_zero() {
            return Err("this deadline cannot be switched off; name a time above 0".to_owned());
        }
        Ok(Deadline(time))
    }
}

/// A user, and a group in place of its own one: `web`, `web:ssl`, `33:33`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserGroup {
    pub user: String,
    pub group: Option<String>,
}

impl FromStr for UserGroup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() || group.is_some_and(str::is_empty) {
            return Err("expected USER or USER:GROUP, as names or numbers".to_owned());
        }
        Ok(UserGroup {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        })
    }
}

/// A number of bytes: `65536`, `64k`, `10m`, `2g` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a number of bytes, such as 65536, 64k or 10m".to_owned();
        let (digits, unit) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
            digits if digits.len() == text.len() => (digits, 1),
            digits => match text
                .get(digits.len()..)
                .map(str::to_ascii_lowercase)
                .as_deref()
            {
                Some("k") => (digits, 1 << 10),
                Some("m") => (digits, 1 << 20),
                Some("g") => (digits, 1u64 << 30),
                Some(_) | None => return Err(expected()),
            },
        };
        let number: u64 = digits_only(digits).ok_or_else(expected)?;
        number
            .checked_mul(unit)
            .map(Bytes)
            .ok_or_else(|| "that is more than can be counted".to_owned())
    }
}

/// A share in percent, fractions allowed; 0 has a meaning of its own at each option.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match text.parse::<f64>() {
            Ok(percent) if plain && percent <= 100.0 => Ok(Percent(percent)),
            Ok(_) | Err(_) => {
                Err("expected a percentage from 0 to 100, such as 5 or 0.5".to_owned())
            }
        }
    }
}

/// A number of things of which there must be at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u32);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match digits_only(text) {
            Some(0) => Err("at least 1 is needed".to_owned()),
            Some(number) => Ok(Count(number)),
            None => Err("expected a whole number above 0".to_owned()),
        }
    }
}

/// A number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(pub u32);

impl FromStr for Threads {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Count>()? {
            Count(number) if number <= THREADS_MAX => Ok(Threads(number)),
            Count(_) => Err(format!("at most {THREADS_MAX} threads")),
        }
    }
}

/// How many workers an app gets, before the cores have been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerCount {
    Exactly(u32),
    /// One a core, less this many, at least one: pm2's `"max"`, `0`, `-1`.
    CoresMinus(u32),
}

impl WorkerCount {
    /// pm2's `instances` as a number.
    pub fn from_number(number: i64) -> Result<Self, String> {
        let size = u32::try_from(number.unsigned_abs()).unwrap_or(u32::MAX);
        match number {
            1.. if size <= WORKERS_MAX => Ok(WorkerCount::Exactly(size)),
            1.. => Err(format!("at most {WORKERS_MAX} workers an app")),
            ..=0 => Ok(WorkerCount::CoresMinus(size)),
        }
    }

    pub fn on(self, cores: u32) -> u32 {
        match self {
            WorkerCount::Exactly(number) => number,
            WorkerCount::CoresMinus(less) => cores.saturating_sub(less).clamp(1, WORKERS_MAX),
        }
    }
}

impl FromStr for WorkerCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a number from 1 to {WORKERS_MAX}, or max");
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        if text == "max" {
            return Ok(WorkerCount::CoresMinus(0));
        }
        let size: u32 = digits_only(unsigned).ok_or_else(expected)?;
        let number = i64::from(size);
        WorkerCount::from_number(if unsigned.len() < text.len() {
            -number
        } else {
            number
        })
    }
}

/// A proxy in front of us that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trusted(pub TrustedProxy);

impl FromStr for Trusted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Trusted)
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub log::LevelFilter);

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "error" => Ok(LogLevel(log::LevelFilter::Error)),
            "warn" => Ok(LogLevel(log::LevelFilter::Warn)),
            "info" => Ok(LogLevel(log::LevelFilter::Info)),
            "debug" => Ok(LogLevel(log::LevelFilter::Debug)),
            "trace" => Ok(LogLevel(log::LevelFilter::Trace)),
            other => Err(
                match super::suggest::nearest(other, ["error", "warn", "info", "debug", "trace"]) {
                    Some(level) => format!("did you mean {level}?"),
                    None => "expected error, warn, info, debug or trace".to_owned(),
                },
            ),
        }
    }
}

/// One of a few words, each with what it means.
fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*meaning);
    }
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(match super::suggest::nearest(text, names.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("expected one of {}", names.join(", ")),
    })
}

/// How lines of the access log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessFormat(pub Format);

impl FromStr for AccessFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = [
            ("text", Format::Text),
            ("common", Format::Common),
            ("combined", Format::Combined),
            ("json", Format::Json),
        ];
        one_of(text, &words).map(AccessFormat)
    }
}

/// Whether something stays or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Keep,
    Drop,
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_of(text, &[("keep", Keep::Keep), ("drop", Keep::Drop)])
    }
}

/// Who sees why we answer instead of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorDetails(pub Audience);

impl FromStr for ErrorDetails {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = [
            ("local", Audience::Local),
            ("all", Audience::All),
            ("none", Audience::Nobody),
        ];
        one_of(text, &words).map(ErrorDetails)
    }
}

/// How far the id of a request is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdReaches {
    Worker,
    Client,
}

impl FromStr for IdReaches {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = [("worker", IdReaches::Worker), ("client", IdReaches::Client)];
        one_of(text, &words)
    }
}

/// A number that is written in digits alone: `"+5".parse::<u64>()` is 5, which we do not want.
pub fn digits_only<N: FromStr>(text: &str) -> Option<N> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// pm2's times: a number is milliseconds, a text may end in `ms`, `s`, `m` or `h`.
pub fn pm2_time(text: &str) -> Option<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_millis: u64 = match text.get(number.len()..)? {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let millis = digits_only::<u64>(number)?.checked_mul(unit_millis)?;
    let time = Duration::from_millis(millis);
    (time.as_secs_f64() <= SECONDS_MAX).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_with_and_without_a_group() {
        let read = |text: &str| text.parse::<UserGroup>();
        assert_eq!(read("web").map(|u| u.group), Ok(None));
        let both = read("33:ssl").expect("a user and a group");
        assert_eq!(
            (both.user.as_str(), both.group.as_deref()),
            ("33", Some("ssl"))
        );
        for text in ["", ":", "web:", ":web"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds() {
        let good = [
            ("0", 0),
            ("10", 10_000),
            ("0.5", 500),
            (".25", 250),
            ("1.", 1000),
            ("604800", 604_800_000),
        ];
        for (text, millis) in good {
            assert_eq!(
                text.parse(),
                Ok(Seconds(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for text in [
            "",
            ".",
            "-1",
            "+1",
            "NaN",
            "inf",
            "1e3",
            "1s",
            "1.2.3",
            "604801",
            "99999999999999999999999",
            " 1",
        ] {
            assert!(text.parse::<Seconds>().is_err(), "{text:?}");
        }
        assert!("0".parse::<Deadline>().is_err());
        assert!("0.0".parse::<Deadline>().is_err());
        assert_eq!("0.1".parse(), Ok(Deadline(Duration::from_millis(100))));
    }

    #[test]
    fn bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("16384", 16384),
            ("64k", 65536),
            ("1M", 1 << 20),
            ("2g", 2u64 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "1kb",
            "1.5m",
            "+1",
            "99999999999g",
            "18446744073709551616",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn worker_counts() {
        let table = [
            ("1", 1),
            ("4", 4),
            ("max", 8),
            ("0", 8),
            ("-1", 7),
            ("-100", 1),
            ("512", 512),
        ];
        for (text, workers) in table {
            assert_eq!(
                text.parse::<WorkerCount>().map(|w| w.on(8)),
                Ok(workers),
                "{text}"
            );
        }
        for text in ["", "-", "four", "+4", "4.5", "513", "99999999999", "MAX"] {
            assert!(text.parse::<WorkerCount>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn times_as_pm2_writes_them() {
        for (text, millis) in [
            ("1000", 1000),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("5ms", 5),
        ] {
            assert_eq!(
                pm2_time(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "s", "-1", "1d", "1.5s", "99999999999999999999", "9999h"] {
            assert_eq!(pm2_time(text), None, "{text:?}");
        }
    }

    #[test]
    fn log_levels() {
        assert_eq!("warn".parse(), Ok(LogLevel(log::LevelFilter::Warn)));
        assert_eq!(
            "wran".parse::<LogLevel>(),
            Err("did you mean warn?".to_owned())
        );
    }
}
