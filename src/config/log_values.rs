//! The values that options and keys about logs take: how each is read from text and what it refuses. Pure.

use super::suggest::nearest;
use super::values::{Bytes, Seconds, digits_only};
use crate::fleet::spec::LineForm;
use crate::journal::date::DateFormat;
use crate::journal::rotation::Every;
use std::str::FromStr;

/// Smaller files would be put aside with every line.
const FILE_BYTES_LEAST: u64 = 1 << 10;

/// Something is done, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch(pub bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" | "true" | "yes" => Ok(Switch(true)),
            "off" | "false" | "no" => Ok(Switch(false)),
            _ => Err("expected on or off".to_owned()),
        }
    }
}

/// A date format in moment's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DateText {
    pub format: DateFormat,
    written: String,
    unknown: Vec<char>,
}

impl FromStr for DateText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, unknown) = DateFormat::read(text);
        if text.trim().is_empty() {
            return Err("expected a date format, such as \"YYYY-MM-DD HH:mm:ss Z\"".to_owned());
        }
        if text.contains(char::is_control) {
            return Err("a date stands on one line, without control characters".to_owned());
        }
        Ok(DateText {
            format,
            written: text.to_owned(),
            unknown,
        })
    }
}

impl DateText {
    /// What may have been meant otherwise; `name` is the option or key.
    pub fn warning(&self, name: &str) -> Option<String> {
        let letters: Vec<String> = self.unknown.iter().map(|c| format!("`{c}`")).collect();
        (!letters.is_empty()).then(|| {
            format!(
                "{name} is \"{}\": {} means nothing to moment.js and stays as it is; put text in [brackets]",
                self.written,
                letters.join(", ")
            )
        })
    }
}

/// The date in the name of a file that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameDate(pub DateText);

impl FromStr for NameDate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let date: DateText = text.parse()?;
        if date.format.format(0, 0).contains('/') {
            return Err("a part of a file's name cannot hold a slash".to_owned());
        }
        Ok(NameDate(date))
    }
}

/// The largest size of a file; 0: any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileBytes(pub u64);

impl FromStr for FileBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse()? {
            Bytes(number) if (1..FILE_BYTES_LEAST).contains(&number) => Err(format!(
                "at least {FILE_BYTES_LEAST} bytes; 0: files are not rotated by size"
            )),
            Bytes(number) => Ok(FileBytes(number)),
        }
    }
}

/// How many files; 0: any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCount(pub u32);

impl FromStr for FileCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = digits_only(text).map(FileCount);
        number.ok_or_else(|| "expected a number of files; 0: all are kept".to_owned())
    }
}

/// How long one file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotateEvery(pub Every);

impl FromStr for RotateEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const NAMES: [&str; 4] = ["hour", "day", "week", "never"];
        let every = match text {
            "never" | "0" => Every::Never,
            "hour" => Every::Hour,
            "day" => Every::Day,
            "week" => Every::Week,
            other => match other.parse::<Seconds>() {
                Ok(_) if digits_only::<u32>(other).is_some() => {
                    Every::Seconds(digits_only(other).unwrap_or(1))
                }
                Ok(_) => return Err("expected whole seconds".to_owned()),
                Err(why) if other.starts_with(|c: char| c.is_ascii_digit()) => return Err(why),
                Err(_) => {
                    return Err(match nearest(other, NAMES) {
                        Some(meant) => format!("did you mean {meant}?"),
                        None => "expected hour, day, week, never, or seconds".to_owned(),
                    });
                }
            },
        };
        Ok(RotateEvery(every))
    }
}

/// What lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogForm(pub LineForm);

impl FromStr for LogForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const NAMES: [&str; 3] = ["prefixed", "plain", "json"];
        match text {
            "prefixed" => Ok(LogForm(LineForm::Prefixed)),
            // pm2 calls it raw.
            "plain" | "raw" => Ok(LogForm(LineForm::Plain)),
            "json" => Ok(LogForm(LineForm::Json)),
            other => Err(match nearest(other, NAMES) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("expected one of {}", NAMES.join(", ")),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_their_refusals() {
        let every = |text: &str| text.parse::<RotateEvery>().map(|RotateEvery(every)| every);
        assert_eq!(every("day"), Ok(Every::Day));
        assert_eq!(every("never"), Ok(Every::Never));
        assert_eq!(every("90"), Ok(Every::Seconds(90)));
        for (text, part) in [
            ("weeks", "did you mean week?"),
            ("1.5", "whole"),
            ("5m", "seconds"),
            ("cron", "expected hour"),
        ] {
            let message = every(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!("YYYY/MM".parse::<NameDate>().is_err());
        assert!("L".parse::<NameDate>().is_err());
        assert!(" ".parse::<DateText>().is_err());
        assert!("a\nb".parse::<DateText>().is_err());
        assert!("10".parse::<FileBytes>().is_err());
        assert_eq!("0".parse(), Ok(FileBytes(0)));
        assert_eq!("off".parse(), Ok(Switch(false)));
        assert!("maybe".parse::<Switch>().is_err());
    }

    #[test]
    fn letters_that_mean_nothing_are_warned_about() {
        let date: DateText = "yyyy-MM-DD".parse().expect("a format");
        let warning = date.warning("log_date_format").expect("a warning");
        assert!(
            warning.contains("`y`") && warning.contains("[brackets]"),
            "{warning}"
        );
        let date: DateText = "YYYY-MM-DD".parse().expect("a format");
        assert_eq!(date.warning("log_date_format"), None);
    }
}
