//! How a worker's program is really started: finds the interpreter and the script, sees through
//! `npm start`, and tells Node programs from others. Reads the file system, starts nothing.
//!
//! npm has to be seen through because it is a Node program itself: it would take the worker's IPC
//! channel for its own, and the app behind it would bind a real port, unhooked and unseen.

use super::package::Package;
use super::programs::{Search, is_executable, is_node, is_node_script, run_of, script_of};
use super::shell::{self, Line};
use super::suggest::nearest;
use crate::fleet::spec::Launch;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

/// How many package scripts may call each other before we call it a circle.
const SCRIPT_DEPTH_MAX: u32 = 8;

/// What the configuration says about the start, before anything has been looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// pm2's `script` with what belongs to it.
    Script {
        script: String,
        args: Vec<String>,
        interpreter: Option<String>,
        interpreter_args: Vec<String>,
    },
    /// A command in words: from the command line, or a JSON array.
    Words(Vec<String>),
    /// A command in one line, which may need a shell.
    Line(String),
    /// What `npm run NAME` would run.
    PackageScript(String),
}

/// What is known when everything has been found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub launch: Launch,
    /// Variables that the way of starting brings along; the app's own `env` beats them.
    pub env: BTreeMap<String, String>,
    pub warnings: Vec<String>,
}

/// Why an app cannot be started. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unstartable {
    /// The machine has no Node, or not where the search path says.
    NoNode(String),
    /// A program that is neither a file nor on the search path.
    NoProgram(String),
    /// A file that is there but may not be executed.
    NotExecutable(String),
    /// The script is not there.
    NoScript { script: String, dir: PathBuf },
    /// `npm run NAME` without such a script in package.json.
    NoPackageScript(String),
    /// package.json's scripts call each other in a circle.
    ScriptCircle(String),
    /// The command has no words, or a quote is not closed.
    Unreadable(String),
    /// Something in braces that is nearly `{socket}` or `{port}`, and would be passed on as it is.
    Placeholder {
        written: String,
        meant: &'static str,
    },
    /// Declared dependencies are not installed.
    NoModules { missing: String, dir: PathBuf },
}

impl fmt::Display for Unstartable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unstartable::NoNode(node) => {
                write!(
                    f,
                    "needs Node.js, and there is no `{node}` here; install Node 18 or newer, or put it on the PATH"
                )
            }
            Unstartable::NoProgram(program) if program.contains('/') => {
                write!(
                    f,
                    "there is no program `{program}`; build it or correct its path"
                )
            }
            Unstartable::NoProgram(program) => {
                write!(
                    f,
                    "needs `{program}`, which is not on the PATH; install it or give its full path"
                )
            }
            Unstartable::NotExecutable(file) => {
                write!(
                    f,
                    "`{file}` may not be executed; run `chmod +x {file}`, or name its interpreter"
                )
            }
            Unstartable::NoScript { script, dir } => {
                write!(
                    f,
                    "there is no script `{script}` in {}; correct `script` or `cwd`, or build it first",
                    dir.display()
                )
            }
            Unstartable::NoPackageScript(name) => {
                write!(
                    f,
                    "package.json has no script `{name}`; add it, or say `command`"
                )
            }
            Unstartable::ScriptCircle(name) => {
                write!(
                    f,
                    "package.json's script `{name}` ends in itself; let it name the program"
                )
            }
            Unstartable::Unreadable(why) => write!(f, "{why}"),
            Unstartable::Placeholder { written, meant } => {
                write!(
                    f,
                    "its command has `{{{written}}}`; did you mean `{{{meant}}}`?"
                )
            }
            Unstartable::NoModules { missing, dir } => {
                write!(
                    f,
                    "its package `{missing}` is not installed; run `npm install` in {}",
                    dir.display()
                )
            }
        }
    }
}

/// Finds everything that `start` needs.
pub fn resolve(start: &Start, search: Search<'_>) -> Result<Resolved, Unstartable> {
    let mut resolver = Resolver {
        search,
        env: BTreeMap::new(),
        warnings: Vec::new(),
        depth: 0,
    };
    let launch = match start {
        Start::Script {
            script,
            args,
            interpreter,
            interpreter_args,
        } => resolver.script(script, args, interpreter.as_deref(), interpreter_args),
        Start::Words(words) => resolver.words(words),
        Start::Line(line) => resolver.line(line),
        Start::PackageScript(name) => resolver.package_script(name, &[]),
    }?;
    check_placeholders(&launch)?;
    Ok(Resolved {
        launch,
        env: resolver.env,
        warnings: resolver.warnings,
    })
}

fn check_placeholders(launch: &Launch) -> Result<(), Unstartable> {
    const NAMES: [&str; 2] = ["socket", "port"];
    let words = match launch {
        Launch::Node { argv } | Launch::Program { argv } => argv.as_slice(),
        Launch::NodeShell { line } => std::slice::from_ref(line),
    };
    let braced = words.iter().flat_map(|word| word.split('{').skip(1));
    for name in braced.filter_map(|rest| Some(rest.split_once('}')?.0)) {
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphabetic());
        if let Some(meant) = nearest(name, NAMES)
            && is_name
            && !NAMES.contains(&name)
        {
            let written = name.to_owned();
            return Err(Unstartable::Placeholder { written, meant });
        }
    }
    Ok(())
}

/// The command as a person would type it.
pub fn shown(launch: &Launch) -> String {
    match launch {
        Launch::NodeShell { line } => line.clone(),
        Launch::Program { argv }
            if argv.len() == 3 && argv.starts_with(&["sh".to_owned(), "-c".to_owned()]) =>
        {
            argv.last().cloned().unwrap_or_default()
        }
        Launch::Node { argv } | Launch::Program { argv } => argv
            .iter()
            .map(|word| shell::quoted(word))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

struct Resolver<'a> {
    search: Search<'a>,
    env: BTreeMap<String, String>,
    warnings: Vec<String>,
    depth: u32,
}

impl Resolver<'_> {
    /// pm2's way: the interpreter is named, or follows from the script's ending.
    fn script(
        &mut self,
        script: &str,
        args: &[String],
        interpreter: Option<&str>,
        interpreter_args: &[String],
    ) -> Result<Launch, Unstartable> {
        let file = self.search.dir.join(script);
        let extension = Path::new(script).extension().and_then(OsStr::to_str);
        let by_ending = match extension {
            Some("js" | "mjs" | "cjs" | "ts" | "mts" | "cts") => Some("node"),
            Some("py") => Some("python3"),
            Some("sh") => Some("sh"),
            Some("rb") => Some("ruby"),
            Some("php") => Some("php"),
            Some("pl") => Some("perl"),
            Some(_) | None => None,
        };
        let interpreter = match interpreter {
            Some("none") => None,
            Some(named) => Some(named),
            // Without an ending a script is a program of its own if it can be executed, else it
            // is Node's, which is what pm2 takes it for.
            None if by_ending.is_none() && file.is_file() && !is_executable(&file) => Some("node"),
            None => by_ending,
        };
        let words = match interpreter {
            None => {
                // `"script": "npm"` means the program on the PATH; `"script": "app"` the file.
                let program = if file.is_file() && !script.contains('/') {
                    format!("./{script}")
                } else {
                    script.to_owned()
                };
                [vec![program], args.to_vec()].concat()
            }
            Some(named) => {
                if !self.search.script_is_there(script) {
                    let missing = script.to_owned();
                    return Err(Unstartable::NoScript {
                        script: missing,
                        dir: self.search.dir.to_owned(),
                    });
                }
                [
                    vec![named.to_owned()],
                    interpreter_args.to_vec(),
                    vec![script.to_owned()],
                    args.to_vec(),
                ]
                .concat()
            }
        };
        self.words(&words)
    }

    fn line(&mut self, line: &str) -> Result<Launch, Unstartable> {
        match shell::read(line).map_err(Unstartable::Unreadable)? {
            Line::Words(words) => {
                // `NAME=value program` needs no shell either.
                let assigned = words.iter().map_while(|w| shell::assignment(w)).count();
                let (before, command) = words.split_at(assigned);
                self.assign(before);
                match command.first().map(String::as_str) {
                    Some("exec") => self.words(command.get(1..).unwrap_or(&[])),
                    Some(_) | None => self.words(command),
                }
            }
            Line::ForShell if self.ends_in_node(line) => {
                self.need_node("node")?;
                Ok(Launch::NodeShell {
                    line: line.to_owned(),
                })
            }
            Line::ForShell => Ok(Launch::Program {
                argv: vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()],
            }),
        }
    }

    /// Whether a line that we cannot read is likely to start Node: it says so, or it stands in a
    /// package's scripts or beside a package.json.
    fn ends_in_node(&self, line: &str) -> bool {
        self.depth > 0
            || line.split_whitespace().any(is_node)
            || self.search.dir.join("package.json").is_file()
    }

    fn words(&mut self, words: &[String]) -> Result<Launch, Unstartable> {
        let Some((program, args)) = words.split_first() else {
            return Err(Unstartable::Unreadable(
                "the command is empty; name a program".to_owned(),
            ));
        };
        let first = args.first().map(String::as_str);
        let after = |n: usize| args.get(n..).unwrap_or(&[]);
        if is_node(program)
            && let Some((name, rest)) = run_of(args)
        {
            return self.package_script(name, rest);
        }
        match (program.as_str(), first) {
            ("npm" | "pnpm" | "yarn" | "bun", Some("run" | "run-script")) => match args.get(1) {
                Some(name) => self.package_script(name, after(2)),
                None => Err(Unstartable::Unreadable(format!(
                    "`{program} run` names no script"
                ))),
            },
            ("npm" | "pnpm" | "yarn", Some("start")) => self.package_script("start", after(1)),
            ("pnpm" | "yarn", Some(name))
                if self.package().is_some_and(|p| p.script(name).is_some()) =>
            {
                self.package_script(name, after(1))
            }
            ("yarn" | "pnpm" | "npm", Some("exec")) => self.package_program(after(1)),
            // The shell is ours to start where it is needed, and in our way where it is not.
            ("sh" | "/bin/sh", Some("-c")) if args.len() == 2 => {
                self.line(args.get(1).map_or("", String::as_str))
            }
            ("npx", Some(_)) => self.package_program(args),
            // cross-env sets variables and starts Node as its own child, without our channel.
            ("cross-env", Some(_)) => {
                let assigned = args.iter().map_while(|w| shell::assignment(w)).count();
                let (before, command) = args.split_at(assigned);
                self.assign(before);
                self.words(command)
            }
            (_, _) => self.program(program, args),
        }
    }

    /// A program by its name or path; from here on nothing is seen through any more.
    fn program(&mut self, program: &str, args: &[String]) -> Result<Launch, Unstartable> {
        let named_node = is_node(program);
        let found = match self.search.find(program) {
            Some(found) => found,
            None if named_node => return Err(Unstartable::NoNode(program.to_owned())),
            None => return Err(Unstartable::NoProgram(program.to_owned())),
        };
        if !is_executable(&found.file) {
            return Err(Unstartable::NotExecutable(program.to_owned()));
        }
        let argv = [vec![found.word], args.to_vec()].concat();
        if named_node {
            match script_of(args) {
                Some(script) if !self.search.script_is_there(script) => {
                    Err(Unstartable::NoScript {
                        script: script.to_owned(),
                        dir: self.search.dir.to_owned(),
                    })
                }
                Some(_) | None => Ok(Launch::Node { argv }),
            }
        } else if is_node_script(&found.file) {
            self.need_node("node")?;
            if matches!(program, "concurrently" | "pm2") {
                self.warnings.push(format!(
                    "`{program}` starts the app as a child of its own, which we cannot reach; let the command name `node` itself"
                ));
            }
            Ok(Launch::Node { argv })
        } else {
            Ok(Launch::Program { argv })
        }
    }

    fn package_script(&mut self, name: &str, args: &[String]) -> Result<Launch, Unstartable> {
        let missing = || Unstartable::NoPackageScript(name.to_owned());
        let package = self.package().ok_or_else(missing)?;
        let script = match package.script(name) {
            Some(script) => script.to_owned(),
            // npm's own default for `npm start`.
            None if name == "start" && self.search.dir.join("server.js").is_file() => {
                "node server.js".to_owned()
            }
            None => return Err(missing()),
        };
        self.depth = self.depth.saturating_add(1);
        if self.depth > SCRIPT_DEPTH_MAX {
            return Err(Unstartable::ScriptCircle(name.to_owned()));
        }
        if self.depth == 1 {
            if package.script(&format!("pre{name}")).is_some() {
                self.warnings.push(format!(
                    "package.json's `pre{name}` is not run by each worker; run `npm run pre{name}` before you start"
                ));
            }
            self.env
                .insert("npm_lifecycle_event".to_owned(), name.to_owned());
            self.env
                .insert("npm_package_name".to_owned(), package.name.clone());
            self.env
                .insert("npm_package_version".to_owned(), package.version.clone());
            if let Ok(path) = self.search.script_path().into_string() {
                self.env.insert("PATH".to_owned(), path);
            }
        }
        let args = match args.split_first() {
            Some((dashes, rest)) if dashes == "--" => rest,
            Some(_) | None => args,
        };
        let words = args.iter().map(|word| shell::quoted(word));
        let line = std::iter::once(script)
            .chain(words)
            .collect::<Vec<_>>()
            .join(" ");
        self.line(&line)
    }

    /// `npx PROGRAM`: a program that the app's packages brought.
    fn package_program(&mut self, args: &[String]) -> Result<Launch, Unstartable> {
        let skipped = args.iter().take_while(|word| word.starts_with('-')).count();
        self.words(args.get(skipped..).unwrap_or(&[]))
    }

    fn assign(&mut self, words: &[String]) {
        for (name, value) in words.iter().filter_map(|word| shell::assignment(word)) {
            self.env.insert(name.to_owned(), value.to_owned());
        }
    }

    fn package(&self) -> Option<Package> {
        Package::read(self.search.dir).ok().flatten()
    }

    fn need_node(&self, node: &str) -> Result<(), Unstartable> {
        match self.search.find(node) {
            Some(_) => Ok(()),
            None => Err(Unstartable::NoNode(node.to_owned())),
        }
    }
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
