//! The keys of an app that speak of its processes: user, limits, variables, when they are renewed and
//! whose change renews them. Nothing is looked up here. Pure, except that it knows serde_json's values.

use super::ConfigError;
use super::source::Object;
use super::suggest::nearest;
use super::values::Bytes;
use crate::fleet::cron::Cron;
use crate::fleet::spec::{Confinement, Inherited, Surroundings};
use front::sys::limits;
use serde_json::Value;
use std::time::Duration;

/// How long nothing may change before workers are replaced, if the app does not say itself: an editor
/// writes several files, a build many.
const WATCH_DELAY: Duration = Duration::from_millis(300);

/// What the configuration says about an app's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessKeys {
    /// Name or number.
    pub user: Option<String>,
    pub group: Option<String>,
    /// All but the user.
    pub confinement: Confinement,
    pub surroundings: Surroundings,
    pub cron: Option<Cron>,
    pub watch: Option<WatchKeys>,
}

/// pm2's `watch` and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchKeys {
    /// As seen from the app's folder.
    pub paths: Vec<String>,
    pub ignored: Vec<String>,
    pub delay: Duration,
}

impl ProcessKeys {
    pub fn read(object: &Object<'_>) -> Result<ProcessKeys, ConfigError> {
        let one = |names: &[&'static str]| -> Result<Option<String>, ConfigError> {
            let mut words = object.texts(names)?;
            let word = words.pop();
            match words.is_empty() {
                true => Ok(word),
                false => {
                    let key = names.first().copied().unwrap_or("");
                    Err(object.refuse(key, format!("`{key}` must be a name or a number")))
                }
            }
        };
        Ok(ProcessKeys {
            user: one(&["uid", "user"])?,
            group: one(&["gid"])?,
            confinement: Confinement {
                user: None,
                umask: read_umask(object)?,
                nice: read_nice(object)?,
                limits: read_limits(object)?,
            },
            surroundings: Surroundings {
                instance_var: variable(object, "instance_var")?
                    .unwrap_or_else(|| Surroundings::default().instance_var),
                increment_var: variable(object, "increment_var")?,
                source_maps: object.flag(&["source_map_support"], false)?,
                inherited: read_filter(object)?,
            },
            cron: read_cron(object)?,
            watch: read_watch(object)?,
        })
    }
}

fn variable(object: &Object<'_>, key: &'static str) -> Result<Option<String>, ConfigError> {
    let name = object.text(&[key])?;
    match &name {
        Some(name) if name.is_empty() || name.contains(['=', '\0']) => {
            Err(object.refuse(key, format!("`{name}` cannot be the name of a variable")))
        }
        Some(_) | None => Ok(name),
    }
}

fn read_umask(object: &Object<'_>) -> Result<Option<u32>, ConfigError> {
    let Some(value) = object.map.get("umask") else {
        return Ok(None);
    };
    let text = value.as_str().filter(|text| {
        let octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        octal && (1..=4).contains(&text.len())
    });
    let mask = text.and_then(|text| u32::from_str_radix(text, 8).ok());
    match mask.filter(|mask| *mask <= 0o777) {
        Some(mask) => Ok(Some(mask)),
        None => Err(object.refuse("umask", "`umask` must be an octal text such as \"027\"")),
    }
}

fn read_nice(object: &Object<'_>) -> Result<Option<i32>, ConfigError> {
    let Some(value) = object.map.get("nice") else {
        return Ok(None);
    };
    let nice = value.as_i64().and_then(|nice| i32::try_from(nice).ok());
    match nice.filter(|nice| (-20..=19).contains(nice)) {
        Some(nice) => Ok(Some(nice)),
        None => Err(object.refuse("nice", "`nice` must be a whole number from -20 to 19")),
    }
}

fn read_limits(object: &Object<'_>) -> Result<Vec<(String, Option<u64>)>, ConfigError> {
    let map = match object.map.get("limits") {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(_) => {
            return Err(object.refuse(
                "limits",
                "`limits` must be an object such as {\"nofile\": 4096, \"core\": 0}",
            ));
        }
    };
    let mut read = Vec::with_capacity(map.len());
    for (name, value) in map {
        if !limits::names().any(|known| known == name) {
            let meant = match nearest(name, limits::names()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!(
                    "it is one of {}",
                    limits::names().collect::<Vec<_>>().join(", ")
                ),
            };
            return Err(object.refuse("limits", format!("unknown limit `{name}`; {meant}")));
        }
        let value = match value {
            Value::String(text) if text == "unlimited" => Some(None),
            Value::String(text) => text.parse().ok().map(|Bytes(number)| Some(number)),
            other => other.as_u64().map(Some),
        };
        match value {
            Some(value) => read.push((name.clone(), value)),
            None => {
                return Err(object.refuse(
                    "limits",
                    format!(
                        "`{name}` must be a whole number, a text such as \"512m\", or \"unlimited\""
                    ),
                ));
            }
        }
    }
    Ok(read)
}

fn read_filter(object: &Object<'_>) -> Result<Inherited, ConfigError> {
    match object.map.get("filter_env") {
        None | Some(Value::Bool(false)) => Ok(Inherited::All),
        Some(Value::Bool(true)) => Ok(Inherited::None),
        Some(_) => Ok(Inherited::Without(object.texts(&["filter_env"])?)),
    }
}

fn read_cron(object: &Object<'_>) -> Result<Option<Cron>, ConfigError> {
    let off = [
        Value::from(0),
        Value::from(""),
        Value::from("0"),
        Value::from(false),
    ];
    let key = ["cron_restart", "cron"]
        .into_iter()
        .find(|key| object.map.contains_key(*key))
        .unwrap_or("cron_restart");
    if object.map.get(key).is_some_and(|value| off.contains(value)) {
        return Ok(None);
    }
    let text = object.text(&[key])?;
    text.map(|text| text.parse())
        .transpose()
        .map_err(|why| object.refuse(key, format!("`{key}`: {why}")))
}

fn read_watch(object: &Object<'_>) -> Result<Option<WatchKeys>, ConfigError> {
    // A slip in them is one whether the app is watched today or not.
    let ignored = object.texts(&["ignore_watch"])?;
    let delay = object.time(&["watch_delay"])?.unwrap_or(WATCH_DELAY);
    let paths = match object.map.get("watch") {
        None | Some(Value::Bool(false)) => return Ok(None),
        Some(Value::Bool(true)) => Vec::new(),
        Some(Value::Number(_)) => {
            let what = "`watch` must be true, a path, or an array of paths";
            return Err(object.refuse("watch", what));
        }
        Some(_) => object.texts(&["watch"])?,
    };
    Ok(Some(WatchKeys {
        paths: match paths.is_empty() {
            true => vec![".".to_owned()],
            false => paths,
        },
        ignored,
        delay,
    }))
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
