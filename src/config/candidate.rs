//! The apps before their programs have been looked up, from wherever they are described: a folder,
//! a file, or the command line. Reads what describes them, decides nothing about the machine.

use super::ConfigError;
use super::discover;
use super::ecosystem;
use super::entry::{Entry, refused_name};
use super::launch::Start;
use super::machine::Machine;
use super::options::{Options, with_defaults};
use super::values::WorkerCount;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Workers of an app that nobody has said anything about: one a core, and two at least, so that
/// one can be restarted while the other serves.
const WORKERS_LEAST: u32 = 2;

/// Where the description of an app came from: it decides what a fault in it means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Found in a folder: it is left out and the others are served.
    Folder,
    /// Asked for by name: nothing is served until it is right.
    Asked,
}

/// An app before its program has been looked up.
pub struct Candidate {
    pub name: String,
    pub dir: PathBuf,
    pub entry: Entry,
    /// How it starts, or why it cannot.
    pub start: Result<Start, String>,
    pub origin: Origin,
    /// Workers it gets if its entry does not say.
    pub workers_usual: u32,
}

/// An app that is not served, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub name: String,
    pub reason: String,
}

/// All that was found, and what was found on the way.
pub struct Gathered {
    pub candidates: Vec<Candidate>,
    /// The options of the command line, with those of the file below them.
    pub options: Options,
    pub warnings: Vec<String>,
    pub left_out: Vec<LeftOut>,
}

/// Collects the apps. `command` is what followed `--`, if anything did.
pub fn gather(
    typed: Options,
    command: Option<Vec<String>>,
    machine: &Machine,
) -> Result<Gathered, ConfigError> {
    let named = [
        (command.is_some(), "a command after `--`"),
        (typed.config.is_some(), "--config"),
        (typed.apps.is_some(), "--apps"),
    ];
    let mut given = named
        .iter()
        .filter(|(is_given, _)| *is_given)
        .map(|(_, what)| what);
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        return Err(ConfigError::Setup(format!(
            "{second} and {first} exclude each other; keep one"
        )));
    }
    let gathered = match (command, typed.config.clone()) {
        (Some(words), _) => from_words(words, typed, machine),
        (None, Some(file)) => from_file(&file, typed, machine)?,
        (None, None) => from_folder(typed, machine)?,
    };
    unique_names(&gathered.candidates)?;
    Ok(gathered)
}

fn from_words(words: Vec<String>, typed: Options, machine: &Machine) -> Gathered {
    let candidate = Candidate {
        name: name_of_words(&words, &machine.dir),
        dir: machine.dir.clone(),
        entry: Entry::default(),
        start: Ok(Start::Words(words)),
        origin: Origin::Asked,
        workers_usual: usual(&typed, machine, machine.cores.max(WORKERS_LEAST)),
    };
    Gathered {
        candidates: vec![candidate],
        options: typed,
        warnings: Vec::new(),
        left_out: Vec::new(),
    }
}

fn from_file(file: &Path, typed: Options, machine: &Machine) -> Result<Gathered, ConfigError> {
    let ecosystem = ecosystem::read(&machine.dir, file, typed.env.as_deref())?;
    let options = typed.or(ecosystem.options);
    let home = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => machine.dir.join(parent),
        Some(_) | None => machine.dir.clone(),
    };
    let candidate = |entry: Entry| {
        // pm2 runs one process of an app that does not say; a program that keeps its state in
        // memory relies on that. An app described by our own `command` never ran under pm2.
        let least = match entry.start {
            Some(Start::Script { .. }) => 1,
            Some(Start::Words(_) | Start::Line(_) | Start::PackageScript(_)) | None => {
                machine.cores.max(WORKERS_LEAST)
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
            workers_usual: usual(&options, machine, least),
        }
    };
    let candidates = ecosystem.entries.into_iter().map(candidate).collect();
    Ok(Gathered {
        candidates,
        options,
        warnings: ecosystem.warnings,
        left_out: Vec::new(),
    })
}

fn from_folder(typed: Options, machine: &Machine) -> Result<Gathered, ConfigError> {
    let apps = machine
        .dir
        .join(with_defaults(typed.clone()).apps.unwrap_or_default());
    let workers_usual = usual(&typed, machine, machine.cores.max(WORKERS_LEAST));
    let (found, others): (Vec<_>, Vec<_>) = discover::folders(&apps, typed.env.as_deref())?
        .into_iter()
        .partition(|folder| folder.is_app);
    let left_out = others.into_iter().map(|folder| LeftOut {
        name: folder.name,
        reason: machine.told(&folder.start.err().unwrap_or_default()),
    });
    let candidates = found.into_iter().map(|folder| Candidate {
        name: folder.entry.name.clone().unwrap_or(folder.name),
        dir: folder.dir,
        entry: folder.entry,
        start: folder.start,
        origin: Origin::Folder,
        workers_usual,
    });
    Ok(Gathered {
        candidates: candidates.collect(),
        left_out: left_out.collect(),
        options: typed,
        warnings: Vec::new(),
    })
}

/// Workers of an app that does not say itself.
fn usual(options: &Options, machine: &Machine, otherwise: u32) -> u32 {
    options
        .workers
        .map_or(otherwise, |workers: WorkerCount| workers.on(machine.cores))
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

/// A name for an app of the command line: its script's, or else its program's.
fn name_of_words(words: &[String], dir: &Path) -> String {
    // These say nothing about the app, and neither does what follows them.
    const LAUNCHERS: [&str; 6] = ["npm", "npx", "pnpm", "yarn", "bun", "sh"];
    if words
        .first()
        .is_some_and(|word| LAUNCHERS.contains(&word.as_str()))
    {
        return name_of_dir(dir);
    }
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
