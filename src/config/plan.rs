//! The plan: everything that `run` needs, decided and checked. `sidekeeper check` prints it.

use super::ConfigError;
use super::discover;
use super::ecosystem;
use super::entry::{Entry, refused_name};
use super::front::{self, Room};
use super::launch::{self, Search, Start, Unstartable};
use super::options::{Options, with_defaults};
use super::package::Package;
use super::placement::{self, Wish};
use super::values::{LogLevel, Seconds, WorkerCount};
use crate::fleet::spec::{AppSpec, Launch};
use crate::server;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `PORT` says to the first app that does not say itself; the next one gets the next.
const PORT_FIRST: u16 = 3000;

/// What the machine and the caller's environment bring along.
#[derive(Clone, Debug)]
pub struct Machine {
    pub cores: u32,
    /// Descriptors that we may have open, after the soft limit has been raised.
    pub descriptors_max: u64,
    /// Working directory.
    pub dir: PathBuf,
    /// PATH.
    pub path: OsString,
    pub runtime_dir: Option<PathBuf>,
    pub user: u32,
}

impl Machine {
    /// Looks at this machine.
    pub fn look(descriptors_max: u64) -> Result<Machine, ConfigError> {
        let dir = std::env::current_dir().map_err(|error| {
            ConfigError::Setup(format!(
                "the working directory is gone ({error}); change to another"
            ))
        })?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Machine {
            cores: u32::try_from(cores).unwrap_or(1),
            descriptors_max,
            dir,
            path: std::env::var_os("PATH")
                .unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin")),
            runtime_dir: std::env::var_os("XDG_RUNTIME_DIR")
                .map(PathBuf::from)
                .filter(|dir| dir.is_absolute()),
            // Our own process belongs to our effective user; this spares a system call of our own.
            user: std::fs::metadata("/proc/self").map_or(u32::MAX, |meta| meta.uid()),
        })
    }
}

/// An app that is not served, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub name: String,
    pub reason: String,
}

/// Everything that `run` needs.
#[derive(Clone, Debug)]
pub struct Plan {
    pub apps: Vec<AppSpec>,
    pub left_out: Vec<LeftOut>,
    pub warnings: Vec<String>,
    pub server: server::Settings,
    pub shutdown_timeout: Duration,
    pub run_dir: PathBuf,
    pub address_file: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub log_level: log::LevelFilter,
}

/// Where the description of an app came from: it decides what a fault in it means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Found in a folder: it is left out and the others are served.
    Folder,
    /// Asked for by name: nothing is served until it is right.
    Asked,
}

/// An app before its program has been looked up.
struct Candidate {
    name: String,
    dir: PathBuf,
    entry: Entry,
    start: Result<Start, String>,
    origin: Origin,
    workers_usual: u32,
}

/// Decides everything. `command` is what followed `--`, if anything did.
pub fn plan(
    typed: Options,
    command: Option<Vec<String>>,
    machine: &Machine,
) -> Result<Plan, ConfigError> {
    let (candidates, options, mut warnings, mut left_out) = gather(typed, command, machine)?;
    let options = with_defaults(options);
    unique_names(&candidates)?;
    let wishes: Vec<Wish<'_>> = candidates
        .iter()
        .map(|c| Wish {
            name: &c.name,
            path: c.entry.path.as_deref(),
            hosts: &c.entry.hosts,
        })
        .collect();
    let routes = placement::place(&wishes).map_err(ConfigError::Setup)?;
    if let Some(name) = options
        .env
        .as_deref()
        .filter(|_| !candidates.iter().any(|c| c.entry.env_found))
    {
        warnings.push(format!(
            "no app has `env_{name}`, which --env {name} asks for"
        ));
    }
    let mut apps = Vec::new();
    for ((candidate, routes), port) in candidates.into_iter().zip(routes).zip(PORT_FIRST..) {
        let name = candidate.name.clone();
        let origin = candidate.origin;
        let said = candidate
            .entry
            .warnings
            .iter()
            .map(|warning| format!("app `{name}`: {warning}"));
        warnings.extend(said.collect::<Vec<_>>());
        match spec(candidate, machine, port, &mut warnings) {
            Ok(spec) => apps.push(AppSpec { routes, ..spec }),
            Err(reason) if origin == Origin::Folder => left_out.push(LeftOut {
                name,
                reason: told(&reason, &machine.dir),
            }),
            Err(reason) => {
                return Err(ConfigError::Setup(format!(
                    "app `{name}`: {}",
                    told(&reason, &machine.dir)
                )));
            }
        }
    }
    if apps.is_empty() {
        let reasons: Vec<String> = left_out
            .iter()
            .map(|left| format!("{}: {}", left.name, left.reason))
            .collect();
        return Err(ConfigError::Nothing(format!(
            "no app can be started; {}",
            reasons.join("; ")
        )));
    }
    if !apps
        .iter()
        .any(|app| app.routes.path.is_empty() && app.routes.hosts.is_empty())
        && left_out.is_empty()
    {
        warnings.push(
            "no app is the default, so other paths get 404; say \"path\": \"/\" in one of them"
                .to_owned(),
        );
    }
    left_out.sort_by(|one, other| one.name.cmp(&other.name));
    finish(options, machine, apps, left_out, warnings)
}

/// Collects the apps from wherever they are described.
#[expect(
    clippy::type_complexity,
    reason = "one caller, which takes it apart at once"
)]
fn gather(
    typed: Options,
    command: Option<Vec<String>>,
    machine: &Machine,
) -> Result<(Vec<Candidate>, Options, Vec<String>, Vec<LeftOut>), ConfigError> {
    let usual = |options: &Options, least: u32| {
        options
            .workers
            .map_or(least, |workers: WorkerCount| workers.on(machine.cores))
    };
    let one_a_core = machine.cores.max(2);
    if let Some(words) = command {
        for (given, flag) in [
            (typed.config.is_some(), "--config"),
            (typed.apps.is_some(), "--apps"),
        ] {
            if given {
                return Err(ConfigError::Setup(format!(
                    "{flag} and a command after `--` exclude each other; keep one"
                )));
            }
        }
        let candidate = Candidate {
            name: name_of_words(&words, &machine.dir),
            dir: machine.dir.clone(),
            entry: Entry::default(),
            start: Ok(Start::Words(words)),
            origin: Origin::Asked,
            workers_usual: usual(&typed, one_a_core),
        };
        return Ok((vec![candidate], typed, Vec::new(), Vec::new()));
    }
    let env_name = typed.env.clone();
    if let Some(file) = typed.config.clone() {
        if typed.apps.is_some() {
            return Err(ConfigError::Setup(
                "--config and --apps exclude each other; keep one".to_owned(),
            ));
        }
        let ecosystem = ecosystem::read(&machine.dir, &file, env_name.as_deref())?;
        let options = typed.or(ecosystem.options);
        let home = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => machine.dir.join(parent),
            Some(_) | None => machine.dir.clone(),
        };
        let candidates = ecosystem.entries.into_iter().map(|entry| {
            // pm2 runs one process of an app that does not say; a program that keeps its state in
            // memory relies on that. An app described by our own `command` never ran under pm2.
            let least = match entry.start {
                Some(Start::Script { .. }) => 1,
                Some(Start::Words(_) | Start::Line(_) | Start::PackageScript(_)) | None => {
                    one_a_core
                }
            };
            let dir = entry
                .cwd
                .as_ref()
                .map_or_else(|| home.clone(), |cwd| home.join(cwd));
            Candidate {
                name: entry
                    .name
                    .clone()
                    .unwrap_or_else(|| name_of_entry(&entry, &dir)),
                dir,
                start: entry
                    .start
                    .clone()
                    .ok_or_else(|| "it has no `script`".to_owned()),
                entry,
                origin: Origin::Asked,
                workers_usual: usual(&options, least),
            }
        });
        return Ok((
            candidates.collect(),
            options.clone(),
            ecosystem.warnings,
            Vec::new(),
        ));
    }
    let apps = machine
        .dir
        .join(with_defaults(typed.clone()).apps.unwrap_or_default());
    let (found, others): (Vec<_>, Vec<_>) = discover::folders(&apps, env_name.as_deref())?
        .into_iter()
        .partition(|folder| folder.is_app);
    let left_out = others.into_iter().map(|folder| LeftOut {
        name: folder.name,
        reason: told(&folder.start.err().unwrap_or_default(), &machine.dir),
    });
    let workers_usual = usual(&typed, one_a_core);
    let candidates = found.into_iter().map(|folder| Candidate {
        name: folder.entry.name.clone().unwrap_or(folder.name),
        dir: folder.dir,
        entry: folder.entry,
        start: folder.start,
        origin: Origin::Folder,
        workers_usual,
    });
    Ok((candidates.collect(), typed, Vec::new(), left_out.collect()))
}

fn unique_names(candidates: &[Candidate]) -> Result<(), ConfigError> {
    for (index, candidate) in candidates.iter().enumerate() {
        if let Some(why) = refused_name(&candidate.name) {
            return Err(ConfigError::Setup(format!(
                "app `{}`: {why}",
                candidate.name
            )));
        }
        if let Some(other) = candidates
            .iter()
            .take(index)
            .find(|o| file_name(&o.name) == file_name(&candidate.name))
        {
            return Err(ConfigError::Setup(match other.name == candidate.name {
                true => format!(
                    "two apps are called `{}`; give one of them another `name`",
                    other.name
                ),
                false => format!(
                    "`{}` and `{}` are too much alike to name sockets; give one of them another `name`",
                    other.name, candidate.name
                ),
            }));
        }
    }
    Ok(())
}

/// What is left of a name in the path of a socket, where two apps must not meet.
fn file_name(name: &str) -> String {
    name.replace(
        |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'),
        "_",
    )
}

/// Looks up the program and puts the app together, all but its routes. The error says what to do.
fn spec(
    candidate: Candidate,
    machine: &Machine,
    port: u16,
    warnings: &mut Vec<String>,
) -> Result<AppSpec, String> {
    let Candidate {
        name,
        dir,
        entry,
        start,
        origin,
        workers_usual,
    } = candidate;
    let start = start?;
    if !dir.is_dir() {
        return Err(format!(
            "its folder {} is not there; correct `cwd`",
            dir.display()
        ));
    }
    let path = entry
        .env
        .get("PATH")
        .map_or(machine.path.as_os_str(), OsStr::new);
    let resolved =
        launch::resolve(&start, Search { dir: &dir, path }).map_err(|why| why.to_string())?;
    warnings.extend(
        resolved
            .warnings
            .iter()
            .map(|warning| format!("app `{name}`: {warning}")),
    );
    if let Some(missing) = missing_module(&resolved.launch, &dir) {
        let why = Unstartable::NoModules {
            missing,
            dir: dir.clone(),
        }
        .to_string();
        match origin {
            Origin::Folder => return Err(why),
            // Asked for by name, it may know better, for its packages may lie where we do not look.
            Origin::Asked => warnings.push(format!("app `{name}`: {}", told(&why, &machine.dir))),
        }
    }
    let mut env = resolved.env;
    env.extend(entry.env);
    Ok(AppSpec {
        dir,
        launch: resolved.launch,
        workers: entry
            .workers
            .map_or(workers_usual, |workers| workers.on(machine.cores)),
        env,
        port: entry.port.unwrap_or(port),
        routes: Default::default(),
        policy: entry.policy,
        session_cookies: entry.session_cookies,
        answer_timeout: entry.answer_timeout,
        restart: entry.restart,
        wait_ready: entry.wait_ready,
        listen_timeout: entry.listen_timeout,
        kill_timeout: entry.kill_timeout,
        name,
    })
}

/// A package that a Node app declares and that is not installed.
fn missing_module(launch: &Launch, dir: &Path) -> Option<String> {
    match launch {
        Launch::Node { .. } | Launch::NodeShell { .. } => {
            let package = Package::read(dir).ok().flatten()?;
            package.missing_module(dir).map(str::to_owned)
        }
        Launch::Program { .. } => None,
    }
}

/// A sentence in which paths are written as seen from the working directory.
fn told(sentence: &str, dir: &Path) -> String {
    match dir.to_str() {
        Some(dir) if dir != "/" => sentence.replace(&format!("{dir}/"), ""),
        Some(_) | None => sentence.to_owned(),
    }
}

/// Everything but the apps.
fn finish(
    options: Options,
    machine: &Machine,
    apps: Vec<AppSpec>,
    left_out: Vec<LeftOut>,
    warnings: Vec<String>,
) -> Result<Plan, ConfigError> {
    let room = Room {
        cores: machine.cores,
        descriptors_max: machine.descriptors_max,
        workers: apps.iter().map(|app| u64::from(app.workers)).sum(),
    };
    Ok(Plan {
        apps,
        left_out,
        warnings,
        server: front::settings(&options, room)?,
        shutdown_timeout: options
            .shutdown_timeout
            .map_or(Duration::ZERO, |Seconds(time)| time),
        run_dir: machine
            .dir
            .join(options.run_dir.unwrap_or_else(|| usual_run_dir(machine))),
        address_file: options.address_file.map(|file| machine.dir.join(file)),
        pid_file: options.pid_file.map(|file| machine.dir.join(file)),
        log_level: options
            .log_level
            .map_or(log::LevelFilter::Info, |LogLevel(level)| level),
    })
}

fn usual_run_dir(machine: &Machine) -> PathBuf {
    match &machine.runtime_dir {
        _ if machine.user == 0 && Path::new("/run").is_dir() => PathBuf::from("/run/sidekeeper"),
        Some(dir) if dir.is_dir() => dir.join("sidekeeper"),
        Some(_) | None => std::env::temp_dir().join(format!("sidekeeper-{}", machine.user)),
    }
}

/// A name for an app of the command line: its script's, or else its program's.
fn name_of_words(words: &[String], dir: &Path) -> String {
    let script = words
        .iter()
        .skip(1)
        .find(|word| !word.starts_with('-') && word.contains('.'));
    let stem = |word: &String| {
        Path::new(word)
            .file_stem()
            .and_then(OsStr::to_str)
            .map(str::to_owned)
    };
    script
        .and_then(stem)
        .or_else(|| words.first().and_then(stem))
        .filter(|name| refused_name(name).is_none())
        .unwrap_or_else(|| name_of_dir(dir))
}

fn name_of_entry(entry: &Entry, dir: &Path) -> String {
    match &entry.start {
        Some(Start::Script { script, .. }) => name_of_words(std::slice::from_ref(script), dir),
        Some(Start::Words(words)) => name_of_words(words, dir),
        Some(Start::Line(_) | Start::PackageScript(_)) | None => name_of_dir(dir),
    }
}

fn name_of_dir(dir: &Path) -> String {
    let name = dir.file_name().and_then(OsStr::to_str).unwrap_or("app");
    if refused_name(name).is_none() {
        name.to_owned()
    } else {
        "app".to_owned()
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
