//! A configuration file with typed access to its values, in which every refusal says file, line,
//! column, app and what was expected. Reads the one file it is given.

use super::ConfigError;
use super::json::{self, Step};
use super::shell;
use super::values::pm2_time;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Longest configuration file. What is longer is not a configuration.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A file as read, and its parsed form.
#[derive(Debug)]
pub struct Source {
    name: String,
    text: String,
    pub value: Value,
}

impl Source {
    /// Reads `file`, seen from `dir`; messages name it as it was given.
    pub fn read(dir: &Path, file: &Path) -> Result<Source, ConfigError> {
        let name = file.display().to_string();
        let text = read_bounded(&dir.join(file))
            .map_err(|error| ConfigError::Setup(format!("{name} cannot be read: {error}")))?;
        Source::parse(name, text)
    }

    pub fn parse(name: String, text: String) -> Result<Source, ConfigError> {
        match json::parse(&text) {
            Ok(value) => Ok(Source { name, text, value }),
            Err((place, why)) => Err(ConfigError::Setup(format!(
                "{name}:{}:{}: {why}",
                place.line, place.column
            ))),
        }
    }

    /// A refusal of what stands at `path`.
    pub fn refuse(&self, path: &[Step], why: impl Display) -> ConfigError {
        ConfigError::Setup(match json::place_of(&self.text, path) {
            Some(place) => format!("{}:{}:{}: {why}", self.name, place.line, place.column),
            None => format!("{}: {why}", self.name),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

/// One object of a source: an app.
#[derive(Debug)]
pub struct Object<'a> {
    pub source: &'a Source,
    pub path: Vec<Step>,
    pub map: &'a Map<String, Value>,
    /// Names the app in messages.
    pub label: String,
}

impl<'a> Object<'a> {
    /// The value under the first of `names` that is present, with the name as written.
    fn get(&self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        names
            .iter()
            .find_map(|name| Some((*name, self.map.get(*name)?)))
    }

    pub fn refuse(&self, key: &str, why: impl Display) -> ConfigError {
        let mut path = self.path.clone();
        path.push(Step::Key(key.to_owned()));
        self.source.refuse(&path, format!("{}: {why}", self.label))
    }

    fn expected(&self, key: &str, what: &str, found: &Value) -> ConfigError {
        self.refuse(
            key,
            format!("`{key}` must be {what}, not {}", shortened(found)),
        )
    }

    pub fn text(&self, names: &[&'static str]) -> Result<Option<String>, ConfigError> {
        match self.get(names) {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text.clone())),
            Some((key, other)) => Err(self.expected(key, "a text", other)),
        }
    }

    /// Words: an array of texts, or one text that is split as a shell would.
    pub fn words(&self, names: &[&'static str]) -> Result<Vec<String>, ConfigError> {
        match self.get(names) {
            Some((key, Value::String(line))) => {
                shell::split(line).map_err(|why| self.refuse(key, why))
            }
            Some((_, _)) | None => self.texts(names),
        }
    }

    /// Texts: an array of them, or a single one. Numbers are taken as they are written.
    pub fn texts(&self, names: &[&'static str]) -> Result<Vec<String>, ConfigError> {
        let Some((key, value)) = self.get(names) else {
            return Ok(Vec::new());
        };
        let one = |item: &Value| match item {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(self.expected(key, "a text or an array of texts", other)),
        };
        match value {
            Value::Array(items) => items.iter().map(one).collect(),
            other => Ok(vec![one(other)?]),
        }
    }

    pub fn flag(&self, names: &[&'static str], otherwise: bool) -> Result<bool, ConfigError> {
        match self.get(names) {
            None => Ok(otherwise),
            Some((_, Value::Bool(flag))) => Ok(*flag),
            Some((key, other)) => Err(self.expected(key, "true or false", other)),
        }
    }

    /// A whole number from 0.
    pub fn number<N: TryFrom<u64>>(
        &self,
        names: &[&'static str],
    ) -> Result<Option<N>, ConfigError> {
        let Some((key, value)) = self.get(names) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|n| N::try_from(n).ok());
        number
            .map(Some)
            .ok_or_else(|| self.expected(key, "a whole number", value))
    }

    /// pm2's times: a number of milliseconds, or a text such as "10s".
    pub fn time(&self, names: &[&'static str]) -> Result<Option<Duration>, ConfigError> {
        let Some((key, value)) = self.get(names) else {
            return Ok(None);
        };
        let time = match value {
            Value::Number(number) => pm2_time(&number.to_string()),
            Value::String(text) => pm2_time(text),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let what = "milliseconds such as 1600, or a text such as \"10s\"";
        time.map(Some)
            .ok_or_else(|| self.expected(key, what, value))
    }

    /// Anything that is read from text, as on the command line; a number will do as well.
    pub fn value<T: FromStr<Err = String>>(
        &self,
        names: &[&'static str],
    ) -> Result<Option<T>, ConfigError> {
        let Some((key, value)) = self.get(names) else {
            return Ok(None);
        };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => return Err(self.expected(key, "a number or a text", other)),
        };
        text.parse()
            .map(Some)
            .map_err(|why| self.refuse(key, format!("`{key}` is {}: {why}", shortened(value))))
    }

    /// Numbers: an array of them, or a single one.
    pub fn integers(&self, names: &[&'static str]) -> Result<Vec<i32>, ConfigError> {
        let Some((key, value)) = self.get(names) else {
            return Ok(Vec::new());
        };
        let items = value
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        items
            .iter()
            .map(|item| item.as_i64().and_then(|n| i32::try_from(n).ok()))
            .collect::<Option<Vec<i32>>>()
            .ok_or_else(|| self.expected(key, "a number or an array of numbers", value))
    }

    /// Environment variables.
    pub fn variables(&self, key: &str) -> Result<Vec<(String, String)>, ConfigError> {
        let Some(value) = self.map.get(key) else {
            return Ok(Vec::new());
        };
        let Value::Object(map) = value else {
            return Err(self.expected(
                key,
                "an object such as {\"NODE_ENV\": \"production\"}",
                value,
            ));
        };
        let mut variables = Vec::with_capacity(map.len());
        for (name, value) in map {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(self.refuse(key, format!("`{name}` cannot be the name of a variable")));
            }
            let text = match value {
                Value::String(text) if text.contains('\0') => {
                    return Err(self.refuse(key, format!("the value of `{name}` holds a NUL byte")));
                }
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                // pm2 writes these as JSON as well.
                Value::Array(_) | Value::Object(_) => value.to_string(),
                Value::Null => {
                    return Err(
                        self.refuse(key, format!("`{name}` is null; leave it out, or say \"\""))
                    );
                }
            };
            variables.push((name.clone(), text));
        }
        Ok(variables)
    }
}

fn read_bounded(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(file)?
        .take(FILE_BYTES_MAX.saturating_add(1))
        .read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > FILE_BYTES_MAX) {
        return Err(io::Error::other(format!(
            "it is longer than {FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

/// A value as a message can hold it.
fn shortened(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let text = value.to_string();
            match text.char_indices().nth(40) {
                Some((end, _)) => format!("{}...", text.get(..end).unwrap_or("")),
                None => text,
            }
        }
    }
}
