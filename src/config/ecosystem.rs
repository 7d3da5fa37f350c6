//! Reads the configuration file: pm2's `{"apps": [...]}`, a bare array of apps, or one app. Beside
//! `apps` stand the options of the command line, written as keys. Reads the one file.

use super::ConfigError;
use super::entry::Entry;
use super::json::{COMMENT, Step};
use super::options::{self, OPTIONS, Options};
use super::source::{Object, Source};
use super::suggest::nearest;
use serde_json::{Map, Value};
use std::path::Path;

/// pm2's own sections of the file, which say nothing about running apps.
const PM2_SECTIONS: [&str; 4] = ["deploy", "pm2", "module_conf", "include"];

/// A whole configuration file.
#[derive(Debug, Default)]
pub struct Ecosystem {
    pub entries: Vec<Entry>,
    /// Options that the file sets.
    pub options: Options,
    pub warnings: Vec<String>,
}

/// Reads `file`, seen from `dir`. `env_name` is the argument of `--env`.
pub fn read(dir: &Path, file: &Path, env_name: Option<&str>) -> Result<Ecosystem, ConfigError> {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("js" | "cjs" | "mjs" | "ts") => Err(ConfigError::Setup(format!(
            "{} is a program, and we read JSON; print it with: node -p 'JSON.stringify(require(\"./{}\"))'",
            file.display(),
            file.file_name().unwrap_or_default().to_string_lossy(),
        ))),
        Some(_) | None => from_source(&Source::read(dir, file)?, env_name),
    }
}

pub fn from_source(source: &Source, env_name: Option<&str>) -> Result<Ecosystem, ConfigError> {
    let mut ecosystem = Ecosystem::default();
    let (apps, path) = match &source.value {
        Value::Array(apps) => (apps.as_slice(), Vec::new()),
        Value::Object(map) => match map.get("apps") {
            Some(Value::Array(apps)) => {
                read_top(source, map, &mut ecosystem)?;
                (apps.as_slice(), vec![Step::Key("apps".to_owned())])
            }
            Some(_) => {
                return Err(
                    source.refuse(&[Step::Key("apps".to_owned())], "`apps` must be an array")
                );
            }
            None if map.contains_key("script") || map.contains_key("command") => {
                ecosystem
                    .entries
                    .push(read_app(source, Vec::new(), &source.value, 0, env_name)?);
                return Ok(ecosystem);
            }
            None => return Err(no_apps(source, map)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(source.refuse(&[], "the file must hold an object with `apps`"));
        }
    };
    for (index, app) in apps.iter().enumerate() {
        let mut path = path.clone();
        path.push(Step::Index(index));
        ecosystem
            .entries
            .push(read_app(source, path, app, index, env_name)?);
    }
    if ecosystem.entries.is_empty() {
        return Err(source.refuse(&path, "`apps` is empty; describe at least one app"));
    }
    Ok(ecosystem)
}

/// A misspelt key is told where it stands.
fn no_apps(source: &Source, map: &Map<String, Value>) -> ConfigError {
    let known = ["apps", "script", "command"];
    let slip = map
        .keys()
        .filter(|key| options::by_key(key).is_none())
        .find_map(|key| Some((key, nearest(key, known)?)));
    match slip {
        Some((key, meant)) => source.refuse(
            &[Step::Key(key.clone())],
            format!("unknown key `{key}`; did you mean `{meant}`?"),
        ),
        None => source.refuse(
            &[],
            "there is no `apps`; write {\"apps\": [{\"script\": \"server.js\"}]}",
        ),
    }
}

fn read_app(
    source: &Source,
    path: Vec<Step>,
    value: &Value,
    index: usize,
    env_name: Option<&str>,
) -> Result<Entry, ConfigError> {
    let Value::Object(map) = value else {
        return Err(source.refuse(&path, "an app must be an object"));
    };
    let label = match map.get("name").and_then(Value::as_str) {
        Some(name) => format!("app `{}`", name.escape_debug()),
        None => format!("app {}", index.saturating_add(1)),
    };
    let object = Object {
        source,
        path,
        map,
        label,
    };
    let entry = Entry::read(&object, env_name)?;
    match entry.start {
        Some(_) => Ok(entry),
        None => Err(source.refuse(
            &object.path,
            format!("{}: it has neither `script` nor `command`", object.label),
        )),
    }
}

/// The keys beside `apps`: options of the command line.
fn read_top(
    source: &Source,
    map: &Map<String, Value>,
    ecosystem: &mut Ecosystem,
) -> Result<(), ConfigError> {
    for (name, value) in map {
        let at = [Step::Key(name.clone())];
        match options::by_key(name) {
            Some(item) if item.key == "env" => {
                return Err(source.refuse(
                    &at,
                    "`env` belongs into an app here; --env NAME stands on the command line",
                ));
            }
            // These two say where the apps come from, and that has been said.
            Some(item) if item.key == "config" => {
                return Err(source.refuse(&at, "`config` cannot stand in a configuration file"));
            }
            Some(item) if item.key == "apps" => {}
            Some(item) => {
                let values: Option<Vec<String>> = match value {
                    Value::Array(items) if item.repeatable => items.iter().map(as_text).collect(),
                    other => as_text(other).map(|text| vec![text]),
                };
                let Some(values) = values.filter(|values| !values.is_empty()) else {
                    return Err(source.refuse(
                        &at,
                        format!("`{name}` must be {} as on the command line", item.value),
                    ));
                };
                let flag = item.flag();
                let words: Vec<&str> = values
                    .iter()
                    .flat_map(|text| [flag.as_str(), text])
                    .collect();
                let read = options::parse(&words).map_err(|why| source.refuse(&at, why))?;
                ecosystem.options = std::mem::take(&mut ecosystem.options).or(read);
            }
            None if name == COMMENT => {}
            None if PM2_SECTIONS.contains(&name.as_str()) => {
                ecosystem.warnings.push(format!(
                    "{}: pm2's section `{name}` is not honoured",
                    source.name()
                ));
            }
            None => {
                let known = OPTIONS.iter().map(|item| item.key);
                return Err(source.refuse(&at, match nearest(name, known) {
                    Some(meant) => format!("unknown key `{name}`; did you mean `{meant}`?"),
                    None => format!("unknown key `{name}` beside `apps`; options stand there as in --help, with _ for -"),
                }));
            }
        }
    }
    Ok(())
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
#[path = "ecosystem_tests.rs"]
mod tests;
