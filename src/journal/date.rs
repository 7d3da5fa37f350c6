//! Dates as `log_date_format` of pm2 writes them: the tokens of moment.js (of which those of day.js
//! are a part), in English. Pure: the moment and the offset of the time zone come in. Whoever
//! writes dates keeps a [`Zone`], which asks the C library once a quarter of an hour.

use front::json::{self, FromJson, ToJson, Wrong};
use front::sys::calendar;
use std::fmt::Write;

/// Moment's tokens. Where one begins as another does, the longest that fits is meant.
const TOKENS: &[&str] = &[
    "YYYY",
    "YY",
    "Y",
    "Qo",
    "Q",
    "MMMM",
    "MMM",
    "MM",
    "Mo",
    "M",
    "DDDD",
    "DDDo",
    "DDD",
    "DD",
    "Do",
    "D",
    "dddd",
    "ddd",
    "dd",
    "do",
    "d",
    "E",
    "e",
    "GGGG",
    "GG",
    "WW",
    "Wo",
    "W",
    "HH",
    "H",
    "hh",
    "h",
    "kk",
    "k",
    "mm",
    "m",
    "ss",
    "s",
    "SSSSSSSSS",
    "SSSSSSSS",
    "SSSSSSS",
    "SSSSSS",
    "SSSSS",
    "SSSS",
    "SSS",
    "SS",
    "S",
    "A",
    "a",
    "ZZ",
    "Z",
    "X",
    "x",
    "LTS",
    "LT",
    "LLLL",
    "LLL",
    "LL",
    "L",
];
/// What the locale's own formats stand for.
const LOCALE: &[(&str, &str)] = &[
    ("LTS", "h:mm:ss A"),
    ("LT", "h:mm A"),
    ("LLLL", "dddd, MMMM D, YYYY h:mm A"),
    ("LLL", "MMMM D, YYYY h:mm A"),
    ("LL", "MMMM D, YYYY"),
    ("L", "MM/DD/YYYY"),
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const DAY_S: i64 = 86_400;
/// Offsets of time zones change at full quarters of an hour only.
const QUARTER_S: i64 = 900;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Token(&'static str),
    Text(String),
}

/// A format that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DateFormat {
    parts: Vec<Part>,
}

impl FromJson for DateFormat {
    fn from_json(value: &json::Value) -> Result<DateFormat, Wrong> {
        String::from_json(value).map(|format| DateFormat::read(&format).0)
    }
}

/// A format that reads the same.
impl ToJson for DateFormat {
    fn to_json(&self, to: &mut json::Writer) {
        let parts = self.parts.iter().map(|part| match part {
            Part::Token(token) => (*token).to_owned(),
            // A bracket that closes can only stand outside of brackets.
            Part::Text(text) => {
                let pieces = text.split(']').map(|piece| match piece {
                    "" => String::new(),
                    piece => format!("[{piece}]"),
                });
                pieces.collect::<Vec<_>>().join("]")
            }
        });
        parts.collect::<String>().to_json(to);
    }
}

impl DateFormat {
    /// Reads a format. Letters that are no token stay as they are; they are returned as well, for
    /// whoever wrote them may have meant something. `T` is not: it stands between date and time.
    pub fn read(format: &str) -> (DateFormat, Vec<char>) {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut unknown = Vec::new();
        let mut rest = format;
        while let Some(first) = rest.chars().next() {
            if let Some((literal, after)) = bracketed(rest) {
                text.push_str(literal);
                rest = after;
            } else if let Some(token) = TOKENS.iter().find(|token| rest.starts_with(**token)) {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                match LOCALE.iter().find(|(name, _)| name == token) {
                    Some((_, meant)) => parts.extend(DateFormat::read(meant).0.parts),
                    None => parts.push(Part::Token(token)),
                }
                rest = rest.get(token.len()..).unwrap_or_default();
            } else {
                text.push(first);
                if first.is_alphabetic() && first != 'T' && !unknown.contains(&first) {
                    unknown.push(first);
                }
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        (DateFormat { parts }, unknown)
    }

    /// Appends a moment, in milliseconds since 1970, as a clock shows it that is `offset_s` seconds
    /// ahead of UTC.
    pub fn write(&self, to: &mut String, unix_ms: u64, offset_s: i32) {
        let moment = Moment::of(unix_ms, offset_s);
        for part in &self.parts {
            match part {
                Part::Text(text) => to.push_str(text),
                Part::Token(token) => moment.write(to, token),
            }
        }
    }

    pub fn format(&self, unix_ms: u64, offset_s: i32) -> String {
        let mut text = String::new();
        self.write(&mut text, unix_ms, offset_s);
        text
    }

    /// Whether this text looks like a date of this format: digits where it has digits, letters
    /// where it has letters, and the same between them.
    pub fn resembles(&self, text: &str) -> bool {
        shape(text) == shape(&self.format(0, 0))
    }
}

/// `[at] rest` taken apart.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?.split_once(']')
}

fn shape(text: &str) -> String {
    let mut shape = String::new();
    for c in text.chars() {
        let kind = match c {
            '0'..='9' => '0',
            // A zone may be on either side of Greenwich.
            '+' => '-',
            c if c.is_alphabetic() => 'a',
            c => c,
        };
        if !(kind.is_alphanumeric() && shape.ends_with(kind)) {
            shape.push(kind);
        }
    }
    shape
}

/// The time zone of this process (`TZ`, /etc/localtime; UTC where neither says anything).
#[derive(Debug, Default)]
pub struct Zone {
    /// The quarter of an hour that was asked for last, and its offset.
    known: Option<(i64, i32)>,
}

impl Zone {
    /// How far its clocks are ahead of UTC at that moment.
    pub fn offset_s(&mut self, unix_ms: u64) -> i32 {
        let unix_s = seconds(unix_ms);
        let quarter = unix_s.div_euclid(QUARTER_S);
        match self.known {
            Some((known, offset)) if known == quarter => offset,
            Some(_) | None => {
                let offset = calendar::utc_offset_s(unix_s);
                self.known = Some((quarter, offset));
                offset
            }
        }
    }
}

fn seconds(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms / 1000).unwrap_or(0)
}

/// One moment, taken apart.
struct Moment {
    unix_ms: u64,
    offset_s: i32,
    /// Days since 1970 and seconds of the day, both of the zone.
    days: i64,
    second_of_day: i64,
    year: i64,
    /// From 0.
    month: usize,
    day: i64,
    /// From 0.
    day_of_year: i64,
}

impl Moment {
    fn of(unix_ms: u64, offset_s: i32) -> Moment {
        let local = seconds(unix_ms).saturating_add(i64::from(offset_s));
        let days = local.div_euclid(DAY_S);
        let (year, month, day) = civil(days);
        Moment {
            unix_ms,
            offset_s,
            days,
            second_of_day: local.rem_euclid(DAY_S),
            year,
            month,
            day,
            day_of_year: days - days_before_year(year),
        }
    }

    /// 0: Sunday. 1970 began with a Thursday.
    fn weekday(&self) -> usize {
        usize::try_from((self.days + 4).rem_euclid(7)).unwrap_or(0)
    }

    /// The year to which this week belongs, and its number in it. ISO 8601: weeks begin with Monday,
    /// and belong to the year of their Thursday.
    fn iso_week(&self) -> (i64, i64) {
        let thursday = self.days - (self.days + 3).rem_euclid(7) + 3;
        let (year, _, _) = civil(thursday);
        (year, (thursday - days_before_year(year)) / 7 + 1)
    }

    fn write(&self, to: &mut String, token: &str) {
        let (hour, minute, second) = (
            self.second_of_day / 3600,
            self.second_of_day / 60 % 60,
            self.second_of_day % 60,
        );
        let hour_of_12 = (hour + 11) % 12 + 1;
        let hour_from_1 = (hour + 23) % 24 + 1;
        let month = i64::try_from(self.month).unwrap_or(0) + 1;
        let month_name = MONTHS.get(self.month).copied().unwrap_or_default();
        let weekday = i64::try_from(self.weekday()).unwrap_or(0);
        let day_name = WEEKDAYS.get(self.weekday()).copied().unwrap_or_default();
        let (week_year, week) = self.iso_week();
        let short = |name: &'static str, length| name.get(..length).unwrap_or(name);
        // Writing to a String cannot fail.
        let _ = match token {
            "YYYY" => write!(to, "{:04}", self.year),
            "YY" => write!(to, "{:02}", self.year % 100),
            "Y" => write!(to, "{}", self.year),
            "Q" => write!(to, "{}", self.month / 3 + 1),
            "Qo" => ordinal(to, i64::try_from(self.month / 3).unwrap_or(0) + 1),
            "MMMM" => to.write_str(month_name),
            "MMM" => to.write_str(short(month_name, 3)),
            "MM" => write!(to, "{month:02}"),
            "Mo" => ordinal(to, month),
            "M" => write!(to, "{month}"),
            "DDDD" => write!(to, "{:03}", self.day_of_year + 1),
            "DDDo" => ordinal(to, self.day_of_year + 1),
            "DDD" => write!(to, "{}", self.day_of_year + 1),
            "DD" => write!(to, "{:02}", self.day),
            "Do" => ordinal(to, self.day),
            "D" => write!(to, "{}", self.day),
            "dddd" => to.write_str(day_name),
            "ddd" => to.write_str(short(day_name, 3)),
            "dd" => to.write_str(short(day_name, 2)),
            "do" => ordinal(to, weekday),
            "d" | "e" => write!(to, "{weekday}"),
            "E" => write!(to, "{}", (weekday + 6) % 7 + 1),
            "GGGG" => write!(to, "{week_year:04}"),
            "GG" => write!(to, "{:02}", week_year % 100),
            "WW" => write!(to, "{week:02}"),
            "Wo" => ordinal(to, week),
            "W" => write!(to, "{week}"),
            "HH" => write!(to, "{hour:02}"),
            "H" => write!(to, "{hour}"),
            "hh" => write!(to, "{hour_of_12:02}"),
            "h" => write!(to, "{hour_of_12}"),
            "kk" => write!(to, "{hour_from_1:02}"),
            "k" => write!(to, "{hour_from_1}"),
            "mm" => write!(to, "{minute:02}"),
            "m" => write!(to, "{minute}"),
            "ss" => write!(to, "{second:02}"),
            "s" => write!(to, "{second}"),
            "A" => to.write_str(if hour < 12 { "AM" } else { "PM" }),
            "a" => to.write_str(if hour < 12 { "am" } else { "pm" }),
            "Z" => zone(to, self.offset_s, ":"),
            "ZZ" => zone(to, self.offset_s, ""),
            "X" => write!(to, "{}", self.unix_ms / 1000),
            "x" => write!(to, "{}", self.unix_ms),
            // S to SSSSSSSSS: so many digits after the point.
            fraction => {
                let digits = format!("{:03}000000", self.unix_ms % 1000);
                to.write_str(digits.get(..fraction.len()).unwrap_or(&digits))
            }
        };
    }
}

fn zone(to: &mut String, offset_s: i32, between: &str) -> std::fmt::Result {
    let sign = if offset_s < 0 { '-' } else { '+' };
    let minutes = offset_s.unsigned_abs() / 60;
    write!(to, "{sign}{:02}{between}{:02}", minutes / 60, minutes % 60)
}

fn ordinal(to: &mut String, number: i64) -> std::fmt::Result {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        (_, _) => "th",
    };
    write!(to, "{number}{ending}")
}

/// Year, month from 0, and day of a number of days since 1970, in the Gregorian calendar. Years are
/// counted from March, so that the day that is there only sometimes is the last one.
fn civil(days: i64) -> (i64, usize, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let since_march_0 = days + 719_468;
    let era = since_march_0.div_euclid(DAYS_OF_400_YEARS);
    let day_of_era = since_march_0.rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March are 31, 30, 31, 30, 31 days long, and again: 153 days for five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month_from_march >= 10);
    (year, usize::try_from(month).unwrap_or(0), day)
}

/// Days from 1970 to the first of January of that year.
fn days_before_year(year: i64) -> i64 {
    let before = year - 1;
    let leap_days = |y: i64| y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400);
    (year - 1970) * 365 + leap_days(before) - leap_days(1969)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22 06:07:08.090 UTC, a Sunday.
    const SUNDAY: u64 = 1_795_327_628_090;

    #[test]
    fn a_format_survives_being_written_down() {
        for text in [
            "YYYY-MM-DD HH:mm:ss.SSS Z",
            "[at] HH[h] ]mm",
            "D/M LLL",
            "]",
            "[YYYY]",
        ] {
            let format = DateFormat::read(text).0;
            assert_eq!(
                json::read::<DateFormat>(json::text(&format).as_bytes()).expect("comes back"),
                format,
                "{text}"
            );
        }
    }

    #[test]
    fn dates_read_as_moment_writes_them() {
        let table = [
            (
                "YYYY-MM-DD HH:mm:ss.SSS Z",
                0,
                "2026-11-22 06:07:08.090 +00:00",
            ),
            ("YYYY-MM-DDTHH:mm:ssZZ", 19_800, "2026-11-22T11:37:08+0530"),
            ("YY-M-D H:m:s.S", -25_200, "26-11-21 23:7:8.0"),
            ("ddd, MMM Do YYYY, h:mm a", 0, "Sun, Nov 22nd 2026, 6:07 am"),
            ("dddd dd d E e", 0, "Sunday Su 0 7 0"),
            ("DDDD DDD Q Qo", 0, "326 326 4 4th"),
            ("GGGG-[W]WW-E", 0, "2026-W47-7"),
            ("X x", 0, "1795327628 1795327628090"),
            ("[at] hh A, kk", 64_800, "at 12 AM, 24"),
            ("SSSSSS", 0, "090000"),
            (
                "LTS | LT | L | LL",
                0,
                "6:07:08 AM | 6:07 AM | 11/22/2026 | November 22, 2026",
            ),
            ("LLLL", 0, "Sunday, November 22, 2026 6:07 AM"),
            ("", 0, ""),
            ("[open", 0, "[op0n"),
        ];
        for (format, offset_s, shown) in table {
            let (read, _) = DateFormat::read(format);
            assert_eq!(read.format(SUNDAY, offset_s), shown, "{format}");
        }
    }

    #[test]
    fn unknown_letters_are_named() {
        let unknown = |format| DateFormat::read(format).1;
        assert_eq!(unknown("YYYY-MM-DDTHH:mm:ss.SSSZ"), []);
        assert_eq!(unknown("[Datum:] DD/MM"), []);
        assert_eq!(unknown("yyyy-MM-dd"), ['y']);
        assert_eq!(unknown("%F %T"), ['F']);
    }

    #[test]
    fn calendars_agree() {
        let day = |text: &str, days: i64| {
            let (read, _) = DateFormat::read("YYYY-MM-DD DDD GGGG-WW");
            let ms = u64::try_from(days * DAY_S * 1000).expect("after 1970");
            assert_eq!(read.format(ms, 0), text);
        };
        day("1970-01-01 1 1970-01", 0);
        day("2000-02-29 60 2000-09", 11_016);
        day("2000-12-31 366 2000-52", 11_322);
        day("2021-01-03 3 2020-53", 18_630);
        day("2024-12-30 365 2025-01", 20_087);
        day("2100-03-01 60 2100-09", 47_541);
        // Every day follows the one before.
        let mut last = civil(-1);
        for days in 0..60_000 {
            let now = civil(days);
            assert!(now > last, "{days}");
            last = now;
        }
    }

    #[test]
    fn a_format_knows_its_dates_again() {
        let (format, _) = DateFormat::read("YYYY-MM-DD_HH-mm-ss");
        assert!(format.resembles("2026-11-22_06-07-08"));
        for other in ["old", "2026-11-22", "2026-11-22_06-07-08x", "b-out", ""] {
            assert!(!format.resembles(other), "{other}");
        }
        let (format, _) = DateFormat::read("MMM D ZZ");
        assert!(format.resembles("Nov 22 -0700"));
    }

    #[test]
    fn a_zone_asks_once_a_quarter() {
        let mut zone = Zone::default();
        let first = zone.offset_s(SUNDAY);
        assert_eq!(zone.known.map(|(quarter, _)| quarter), Some(1_994_808));
        assert_eq!(zone.offset_s(SUNDAY + 1000), first);
    }
}
