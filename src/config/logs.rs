//! What the configuration says about logs: the values of its options and keys, and how they become what
//! the journal and the fleet work with. Pure.

use super::ConfigError;
use super::options::Options;
use super::source::Object;
use super::suggest::nearest;
use super::values::{Bytes, Seconds, digits_only};
use crate::fleet::spec::{LineForm, LogSpec};
use crate::journal::date::DateFormat;
use crate::journal::rotation::{Every, Rotation};
use std::path::{Path, PathBuf};
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

/// What `time` of pm2 stands for.
const PM2_TIME: &str = "YYYY-MM-DDTHH:mm:ss";

/// What one app says about its logs, nothing looked up yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogWish {
    out: Place,
    error: Place,
    both: Place,
    merged: bool,
    disabled: bool,
    form: Option<LogForm>,
    date: Option<DateText>,
}

/// Where a file is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Unsaid,
    Nowhere,
    At(String),
}

impl LogWish {
    pub fn read(object: &Object<'_>) -> Result<LogWish, ConfigError> {
        let date = match object.value::<DateText>(&["log_date_format"])? {
            None if object.flag(&["time"], false)? => PM2_TIME.parse().ok(),
            date => date,
        };
        Ok(LogWish {
            out: Place::read(object, &["out_file", "out", "output", "out_log"])?,
            error: Place::read(
                object,
                &["error_file", "error", "err", "err_file", "err_log"],
            )?,
            both: Place::read(object, &["log_file", "log"])?,
            merged: object.flag(&["merge_logs", "combine_logs"], false)?,
            disabled: object.flag(&["disable_logs"], false)?,
            form: object.value(&["log_format", "log_type"])?,
            date,
        })
    }

    /// `dir` is the app's, from which its files are seen; the options say what the app does not.
    pub fn spec(
        &self,
        (name, dir): (&str, &Path),
        options: &Options,
        (here, home): (&Path, Option<&Path>),
        warnings: &mut Vec<String>,
    ) -> LogSpec {
        let date = self.date.as_ref().or(options.log_date_format.as_ref());
        if let Some(warning) = self
            .date
            .as_ref()
            .and_then(|d| d.warning("`log_date_format`"))
        {
            warnings.push(format!("app `{name}`: {warning}"));
        }
        let usual = options.log_dir.as_ref().map(|dir| at_home(here, home, dir));
        let usual = |part: &str| {
            usual
                .as_ref()
                .map(|dir| dir.join(format!("{name}{part}.log")))
        };
        let place = |place: &Place, usual: Option<PathBuf>| match place {
            _ if self.disabled => None,
            Place::Unsaid => usual,
            Place::Nowhere => None,
            Place::At(path) => Some(at_home(dir, home, Path::new(path))),
        };
        LogSpec {
            shown: !self.disabled && options.log_output.is_none_or(|Switch(on)| on),
            form: self.form.or(options.log_format).map(|LogForm(form)| form),
            date: date.map(|date| date.format.clone()),
            out: place(&self.out, usual("-out")),
            error: place(&self.error, usual("-error")),
            both: place(&self.both, None),
            merged: self.merged,
        }
    }
}

impl Place {
    fn read(object: &Object<'_>, names: &[&'static str]) -> Result<Place, ConfigError> {
        Ok(match object.text(names)?.as_deref() {
            None => Place::Unsaid,
            // As under pm2.
            Some("NULL" | "/dev/null") => Place::Nowhere,
            Some("") => {
                let written = names.iter().find(|name| object.map.contains_key(**name));
                return Err(object.refuse(
                    written.copied().unwrap_or_default(),
                    "a file's name is missing; \"/dev/null\" says that there is to be none",
                ));
            }
            Some(path) => Place::At(path.to_owned()),
        })
    }
}

/// A path seen from a folder; `~` is the user's own.
fn at_home(dir: &Path, home: Option<&Path>, path: &Path) -> PathBuf {
    match (home, path.strip_prefix("~")) {
        (Some(home), Ok(rest)) => home.join(rest),
        (_, _) => dir.join(path),
    }
}

/// How files are rotated. The options have their defaults already.
pub fn rotation(options: &Options, warnings: &mut Vec<String>) -> Rotation {
    let own = options.log_date_format.as_ref();
    warnings.extend(own.and_then(|date| date.warning("--log-date-format")));
    let date = options.log_rotated_date.as_ref();
    warnings.extend(date.and_then(|NameDate(date)| date.warning("--log-rotated-date")));
    Rotation {
        bytes_max: options
            .log_file_bytes_max
            .map_or(0, |FileBytes(number)| number),
        every: options
            .log_rotate_every
            .map_or(Every::Never, |RotateEvery(every)| every),
        files_max: options.log_files_max.map_or(0, |FileCount(number)| number),
        total_bytes_max: options
            .log_total_bytes_max
            .map_or(0, |Bytes(number)| number),
        compress: options.log_compress.is_some_and(|Switch(on)| on),
        date: date.map_or_else(
            || DateFormat::read("").0,
            |NameDate(date)| date.format.clone(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options;
    use crate::config::source::Source;

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

    fn spec(json: &str, line: &str) -> (LogSpec, Vec<String>) {
        let source = Source::parse("pm2.json".to_owned(), json.to_owned()).expect("JSON");
        let object = Object {
            source: &source,
            path: Vec::new(),
            map: source.value.as_object().expect("an object"),
            label: "app `a`".to_owned(),
        };
        let wish = LogWish::read(&object).expect("good keys");
        let words: Vec<&str> = line.split_whitespace().collect();
        let options = options::parse(&words).expect("good options");
        let mut warnings = Vec::new();
        let (here, home) = (Path::new("/here"), Some(Path::new("/home/me")));
        let whose = ("a", Path::new("/here/app"));
        let spec = wish.spec(whose, &options, (here, home), &mut warnings);
        (spec, warnings)
    }

    #[test]
    fn files_are_where_pm2_has_them() {
        let at = |path: &str| Some(PathBuf::from(path));
        let (said, _) = spec(
            r#"{"out_file": "l/o.log", "error": "~/e.log", "log": "/b"}"#,
            "",
        );
        assert_eq!(
            (said.out, said.error),
            (at("/here/app/l/o.log"), at("/home/me/e.log"))
        );
        assert_eq!(said.both, at("/b"));
        let (said, _) = spec("{}", "");
        assert_eq!(said, LogSpec::default());
        let (said, _) = spec(
            r#"{"out_file": "/dev/null"}"#,
            "--log-dir logs --log-output off",
        );
        assert_eq!((said.out, said.error), (None, at("/here/logs/a-error.log")));
        assert!(!said.shown && said.both.is_none());
        let (said, _) = spec(
            r#"{"disable_logs": true, "out_file": "x"}"#,
            "--log-dir logs",
        );
        assert!(!said.shown && said.out.is_none() && said.error.is_none());
    }

    #[test]
    fn forms_and_dates_of_the_app_come_first() {
        let date = |text| Some(DateFormat::read(text).0);
        let (said, _) = spec(
            r#"{"log_type": "json", "time": true}"#,
            "--log-format plain",
        );
        assert_eq!(
            (said.form, said.date),
            (Some(LineForm::Json), date(PM2_TIME))
        );
        let line = "--log-format plain --log-date-format HH";
        let (said, _) = spec(r#"{"merge_logs": true}"#, line);
        assert_eq!((said.form, said.date), (Some(LineForm::Plain), date("HH")));
        assert!(said.merged);
        let (said, warnings) = spec(r#"{"time": true, "log_date_format": "yyyy"}"#, line);
        assert_eq!(said.date, date("yyyy"));
        assert!(
            warnings
                .concat()
                .contains("app `a`: `log_date_format` is \"yyyy\"")
        );
    }

    #[test]
    fn the_usual_rotation() {
        let options = options::with_defaults(Options::default());
        let mut warnings = Vec::new();
        let rotation = rotation(&options, &mut warnings);
        assert_eq!(warnings, [""; 0]);
        assert_eq!((rotation.bytes_max, rotation.every), (10 << 20, Every::Day));
        assert!(rotation.compress && rotation.date.resembles("2026-11-22_00-00-00"));
    }
}
