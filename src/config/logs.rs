//! What the configuration says about logs: the keys of an app, and how they and the options become what
//! the journal and the fleet work with. Pure.

use super::ConfigError;
use super::log_values::{DateText, FileBytes, FileCount, LogForm, NameDate, RotateEvery, Switch};
use super::options::Options;
use super::source::Object;
use super::values::Bytes;
use crate::fleet::spec::LogSpec;
use crate::journal::date::DateFormat;
use crate::journal::rotation::{Every, Rotation};
use std::path::{Path, PathBuf};

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
    use crate::fleet::spec::LineForm;

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
