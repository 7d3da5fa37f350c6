//! What the name of an app or of a worker means. Pure.

use crate::admin::ask::Refusal;
use crate::fleet::status::{AppScale, WorkerStatus};
use std::collections::BTreeSet;

/// `chat.0`, as the logs say it.
pub fn worker(status: &WorkerStatus) -> String {
    format!("{}.{}", status.app, status.instance)
}

/// The app that `name` means.
pub fn app<'a>(all: &'a [AppScale], name: &str) -> Result<&'a AppScale, Refusal> {
    let names: Vec<String> = all.iter().map(|scale| scale.app.to_string()).collect();
    let list = names.join(", ");
    let found = all.iter().find(|scale| *scale.app == *name);
    found.ok_or_else(|| Refusal {
        unknown: Some(name.to_owned()),
        known: names,
        ..Refusal::usage(format!("no app is called `{name}`; the apps are: {list}"))
    })
}

/// The workers that `name` means: one worker, or all of an app.
pub fn workers<'a>(all: &'a [WorkerStatus], name: &str) -> Result<Vec<&'a WorkerStatus>, Refusal> {
    let meant: Vec<&WorkerStatus> = all
        .iter()
        .filter(|status| *status.app == *name || worker(status) == name)
        .collect();
    if !meant.is_empty() {
        return Ok(meant);
    }
    let apps: BTreeSet<String> = all.iter().map(|status| status.app.to_string()).collect();
    let names: Vec<String> = apps.iter().cloned().collect();
    Err(Refusal {
        unknown: Some(name.to_owned()),
        known: names
            .iter()
            .cloned()
            .chain(all.iter().map(worker))
            .collect(),
        ..Refusal::usage(format!(
            "no app or worker is called `{name}`; the apps are: {}",
            names.join(", ")
        ))
    })
}
