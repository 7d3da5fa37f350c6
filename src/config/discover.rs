//! Finds the apps in a folder: every folder in it that says how it starts is one. Reads names and
//! small files, starts nothing, and leaves it to `launch` to find programs.

use super::ConfigError;
use super::entry::Entry;
use super::launch::{Start, Unstartable};
use super::package::Package;
use super::programs::is_executable;
use super::source::{Object, Source};
use front::order;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The folder's own description: the same keys as one entry of the configuration's `apps`.
const OWN_FILE: &str = "sidekeeper.json";
/// What is tried when nothing is written down.
const SCRIPTS: [&str; 9] = [
    "app.js",
    "server.js",
    "index.js",
    "app.mjs",
    "server.mjs",
    "index.mjs",
    "app.cjs",
    "server.cjs",
    "index.cjs",
];

/// One folder.
#[derive(Debug)]
pub struct Folder {
    /// The folder's name, which names the app unless it says itself.
    pub name: String,
    pub dir: PathBuf,
    pub entry: Entry,
    /// How it starts, or why it cannot.
    pub start: Result<Start, String>,
    /// False for a folder that gives no sign of being an app at all.
    pub is_app: bool,
}

/// Looks through `apps`. The folders come in the order of their names.
pub fn folders(apps: &Path, env_name: Option<&str>) -> Result<Vec<Folder>, ConfigError> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => ConfigError::Setup(format!(
            "there is no folder {}; make it, name another with --apps, or name a program: sidekeeper run -- node server.js",
            apps.display()
        )),
        _ => ConfigError::Setup(format!("{} cannot be read: {error}", apps.display())),
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(apps).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            names.extend(
                path.file_name()
                    .and_then(|name| name.to_str())
                    .map(str::to_owned),
            );
        }
    }
    names.retain(|name| !name.starts_with('.') && name != "node_modules");
    order::sort_by(&mut names, String::cmp);
    if names.is_empty() {
        return Err(ConfigError::Setup(format!(
            "there is no app in {}; every folder in it with a server.js, package.json, Procfile or {OWN_FILE} is one",
            apps.display()
        )));
    }
    names
        .into_iter()
        .map(|name| folder(apps.join(&name), name, env_name))
        .collect()
}

fn folder(dir: PathBuf, name: String, env_name: Option<&str>) -> Result<Folder, ConfigError> {
    let own = dir.join(OWN_FILE);
    let entry = match own.is_file() {
        true => read_own(&own, &name, env_name)?,
        false => Entry::default(),
    };
    let home = match &entry.cwd {
        Some(cwd) => dir.join(cwd),
        None => dir,
    };
    let (start, is_app) = match &entry.start {
        Some(start) => (Ok(start.clone()), true),
        None => match by_convention(&home) {
            Ok(Some(start)) => (Ok(start), true),
            Ok(None) => (Err(no_sign(&home)), own.is_file()),
            Err(why) => (Err(why), true),
        },
    };
    Ok(Folder {
        name,
        dir: home,
        entry,
        start,
        is_app,
    })
}

fn read_own(file: &Path, name: &str, env_name: Option<&str>) -> Result<Entry, ConfigError> {
    let source = Source::read(Path::new(""), file)?;
    match &source.value {
        Value::Object(map) if map.contains_key("apps") => Err(ConfigError::Setup(format!(
            "{}: an app's own file is one entry, without `apps`; use --config for several",
            file.display()
        ))),
        Value::Object(map) => {
            let object = Object {
                source: &source,
                path: Vec::new(),
                map,
                label: format!("app `{name}`"),
            };
            Entry::read(&object, env_name)
        }
        _ => Err(source.refuse(
            &[],
            "the file must hold an object, such as {\"path\": \"/\"}",
        )),
    }
}

/// How a folder starts that has not said so in our own file.
pub fn by_convention(dir: &Path) -> Result<Option<Start>, String> {
    if let Some(line) = procfile_line(dir)? {
        return Ok(Some(Start::Line(line)));
    }
    if let Some(package) = Package::read(dir)? {
        // `npm init` writes a `main` that need not exist; `start` was written on purpose.
        if package.script("start").is_some() {
            return Ok(Some(Start::PackageScript("start".to_owned())));
        }
        if let Some(main) = package.main.filter(|main| dir.join(main).is_file()) {
            return Ok(Some(node_script(&main)));
        }
    }
    if let Some(script) = SCRIPTS
        .into_iter()
        .find(|script| dir.join(script).is_file())
    {
        return Ok(Some(node_script(script)));
    }
    let run = dir.join("run");
    if is_executable(&run) {
        return Ok(Some(Start::Words(vec!["./run".to_owned()])));
    }
    match run.is_file() {
        true => Err(Unstartable::NotExecutable(run.display().to_string()).to_string()),
        false => Ok(None),
    }
}

fn node_script(script: &str) -> Start {
    Start::Words(vec!["node".to_owned(), script.to_owned()])
}

/// Why nothing says how a folder starts: what says something and is wrong comes first.
fn no_sign(dir: &Path) -> String {
    let here = dir.display();
    if dir.join("Procfile").is_file() {
        return format!("{here}/Procfile has no line `web: COMMAND`; add it");
    }
    match Package::read(dir).ok().flatten().and_then(|it| it.main) {
        Some(main) => format!(
            "{here}/package.json names `{main}` as `main`, which is not there; build it, or correct the name"
        ),
        None => format!(
            "nothing in {here} says how it starts; add a server.js, a Procfile with a `web:` line, or a {OWN_FILE} with `command`"
        ),
    }
}

/// The command behind `web:` in the Procfile.
fn procfile_line(dir: &Path) -> Result<Option<String>, String> {
    let file = dir.join("Procfile");
    if !file.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&file)
        .map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let web = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("web:"))
        .map(str::trim);
    Ok(web.filter(|line| !line.is_empty()).map(str::to_owned))
}

#[cfg(test)]
#[path = "discover_tests.rs"]
mod tests;
