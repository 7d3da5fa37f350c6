//! The command line: which command is meant, with which options, and what `--help` says. Pure.
//! argh reads the values; what is known to the table of options and not to argh (suggestions,
//! `--name=value`, grouped help) is done here, before argh sees a word.

use crate::admin::command::{COMMANDS as COMMANDS_OF_INSTANCE, names_and_helps};
use crate::config::options::{self, OPTIONS, Options};
use crate::config::suggest::nearest;
use crate::console::{self, Question};
use std::fmt::Write;
use std::path::PathBuf;

/// What the user wants.
#[derive(Debug)]
pub enum Command {
    Run(Request),
    Check(Request),
    /// Files to begin with, for the app in this folder.
    Init(PathBuf),
    /// Something for a running instance.
    Ask(Question),
    /// Text for standard output.
    Print(String),
}

/// Options and the command of the app, if one followed `--`.
#[derive(Debug)]
pub struct Request {
    pub options: Options,
    pub command: Option<Vec<String>>,
}

const COMMANDS: [(&str, &str); 3] = [
    (
        "run",
        "start the apps and serve them; also what is meant without a command",
    ),
    (
        "check",
        "validate everything, print what would run, start nothing",
    ),
    (
        "init [DIR]",
        "write a configuration with comments and a systemd unit for the app in a folder",
    ),
];

const HELP_WIDTH: usize = 92;
const HELP_INDENT: usize = 30;

/// Reads the words after the program's name. The error is one line that says what to do.
pub fn read(words: Vec<String>) -> Result<Command, String> {
    let (ours, command) = match words.iter().position(|word| word == "--") {
        Some(dashes) => {
            let (ours, rest) = words.split_at(dashes);
            (ours.to_vec(), Some(rest.get(1..).unwrap_or(&[]).to_vec()))
        }
        None => (words, None),
    };
    let (name, rest) = match ours.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (first.as_str(), rest),
        Some(_) | None => ("run", ours.as_slice()),
    };
    let named = ours.first().is_some_and(|first| first == name);
    match name {
        "run" | "check" => {}
        "init" => return init(rest, command.as_deref()),
        "help" => match rest.first() {
            Some(name) if console::knows(name) => return ask(name, &["--help".to_owned()]),
            Some(name) if name == "init" => return Ok(Command::Print(INIT_HELP.to_owned())),
            name => return Ok(Command::Print(help(name.map(String::as_str)))),
        },
        other if console::knows(other) => {
            return match command {
                Some(_) => Err(format!(
                    "{other} is for a running instance and takes no `--`"
                )),
                None => ask(other, rest),
            };
        }
        other => {
            let asked = COMMANDS_OF_INSTANCE.iter().map(|item| item.name);
            let ours = COMMANDS
                .iter()
                .filter_map(|(name, _)| name.split(' ').next());
            let known = ours.chain(asked);
            return Err(match nearest(other, known) {
                Some(meant) => format!("unknown command `{other}`; did you mean `{meant}`?"),
                None => format!(
                    "unknown command `{other}`; to run it as an app: sidekeeper run -- {other}"
                ),
            });
        }
    }
    let pairs = match pairs(rest)? {
        Words::Help => return Ok(Command::Print(help(named.then_some(name)))),
        Words::Version => return Ok(Command::Print(version())),
        Words::Options(pairs) => pairs,
    };
    if command.as_ref().is_some_and(Vec::is_empty) {
        return Err("a command must follow `--`, such as: -- node server.js".to_owned());
    }
    let words: Vec<&str> = pairs
        .iter()
        .flat_map(|(flag, value)| [flag.as_str(), value.as_str()])
        .collect();
    let request = Request {
        options: options::parse(&words)?,
        command,
    };
    Ok(if name == "check" {
        Command::Check(request)
    } else {
        Command::Run(request)
    })
}

fn init(words: &[String], command: Option<&[String]>) -> Result<Command, String> {
    let wrong = || "init takes a folder and nothing else: sidekeeper init [DIR]".to_owned();
    match (words, command) {
        ([word], None) if matches!(word.as_str(), "--help" | "-h") => {
            Ok(Command::Print(INIT_HELP.to_owned()))
        }
        ([], None) => Ok(Command::Init(PathBuf::from("."))),
        ([dir], None) if !dir.starts_with('-') => Ok(Command::Init(PathBuf::from(dir))),
        (_, _) => Err(wrong()),
    }
}

const INIT_HELP: &str = "\
sidekeeper init: write a configuration with comments and a systemd unit for the app in a folder

Usage: sidekeeper init [DIR]

Writes ecosystem.json and sidekeeper.service into DIR (default: where you are). What is there
already is kept.
";

fn ask(name: &str, words: &[String]) -> Result<Command, String> {
    Ok(match console::read(name, words)? {
        console::Words::Help(text) => Command::Print(text),
        console::Words::Question(question) => Command::Ask(question),
    })
}

enum Words {
    Help,
    Version,
    Options(Vec<(String, String)>),
}

/// Tells the words apart: every option takes one value, after a blank or after `=`.
fn pairs(words: &[String]) -> Result<Words, String> {
    let mut pairs = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--help" | "-h" => return Ok(Words::Help),
            "--version" | "-V" => return Ok(Words::Version),
            _ => {}
        }
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let Some(item) = options::by_flag(flag) else {
            return Err(unknown(word, flag));
        };
        match value.or_else(|| rest.next().cloned()) {
            Some(value) if !value.is_empty() => pairs.push((flag.to_owned(), value)),
            Some(_) | None => return Err(format!("{flag} needs a value: {flag} {}", item.value)),
        }
    }
    Ok(Words::Options(pairs))
}

fn unknown(word: &str, flag: &str) -> String {
    if !word.starts_with('-') {
        return format!(
            "`{word}` is not an option; a program to run follows `--`: sidekeeper run -- {word}"
        );
    }
    let flags: Vec<String> = OPTIONS.iter().map(options::OptionItem::flag).collect();
    let known = flags
        .iter()
        .map(String::as_str)
        .chain(["--help", "--version"]);
    match nearest(flag, known) {
        Some(meant) => format!("unknown option {flag}; did you mean {meant}?"),
        None => format!("unknown option {flag}; see sidekeeper --help"),
    }
}

fn version() -> String {
    format!("sidekeeper {}\n", env!("CARGO_PKG_VERSION"))
}

/// The help, whole or of one command. Both have the same options today.
fn help(command: Option<&str>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_help(&mut text, command);
    text
}

fn write_help(text: &mut String, command: Option<&str>) -> std::fmt::Result {
    match COMMANDS.iter().find(|(name, _)| Some(*name) == command) {
        Some((name, sentence)) => {
            writeln!(text, "sidekeeper {name}: {sentence}\n")?;
            writeln!(
                text,
                "Usage: sidekeeper {name} [OPTIONS] [-- COMMAND ARG...]"
            )?;
        }
        None => {
            writeln!(
                text,
                "sidekeeper {}: starts an application's workers on Unix sockets, keeps them",
                env!("CARGO_PKG_VERSION")
            )?;
            writeln!(
                text,
                "alive, and proxies HTTP/1.1 and WebSocket to them so that every session stays with"
            )?;
            writeln!(text, "the worker that owns it.\n")?;
            writeln!(
                text,
                "Usage: sidekeeper [COMMAND] [OPTIONS] [-- COMMAND ARG...]\n\nCommands:"
            )?;
            for (name, sentence) in COMMANDS {
                row(text, &format!("  {name}"), sentence)?;
            }
            for (name, sentence) in names_and_helps() {
                row(text, &format!("  {name}"), sentence)?;
            }
            row(text, "  --version", "print the version")?;
            row(
                text,
                "  --help",
                "print this; after a command: that command's",
            )?;
        }
    }
    writeln!(
        text,
        "\nOptions take their value after a blank or after `=`. The same names, with `_` for `-`, are"
    )?;
    writeln!(
        text,
        "keys beside `apps` in the configuration file; the command line wins."
    )?;
    let mut group = "";
    for item in OPTIONS {
        if item.group != group {
            group = item.group;
            writeln!(text, "\n{group}:")?;
        }
        let default = if item.default.is_empty() {
            item.otherwise
        } else {
            item.default
        };
        row(
            text,
            &format!("  {} {}", item.flag(), item.value),
            // A short default stays on one line with its bracket.
            &match default.len() {
                ..=16 => format!(
                    "{} [default:\u{a0}{}]",
                    item.help,
                    default.replace(' ', "\u{a0}")
                ),
                _ => format!("{} [default: {default}]", item.help),
            },
        )?;
    }
    text.write_str(TAIL)
}

const TAIL: &str = r#"
A command after `--` is one app by itself. In it, and in `command` of a configuration,
{socket} becomes the path of the worker's own Unix socket, and {port} its port number.
A program without {socket} gets its listening socket as descriptor 3 (LISTEN_FDS).

Examples:
  sidekeeper
      serve every folder of ./apps on 127.0.0.1:8000
  sidekeeper run --workers 4 -- node server.js
      serve one app with four workers
  sidekeeper run --config pm2.json --env production --listen 0.0.0.0:80
      serve what a pm2 file describes, as it stands
  sidekeeper run -- python3 app.py {socket}
      serve any program that can bind a Unix socket
  sidekeeper check --config pm2.json
      say what would run
  sidekeeper status --watch
      see how the running instance does

Signals:
  SIGTERM, SIGINT   stop: accept no more, finish what is in flight, stop the workers;
                    a second one hurries
  SIGHUP            reload: read the configuration anew, replace workers one by one
  SIGUSR1           open log files anew, after an outer logrotate has moved them
  SIGUSR2           let the binary as it is on the disk now take over (sidekeeper upgrade)

Exit codes:
  0   ended as asked
  1   could not start, or could not go on
  2   the command line or the configuration is wrong
  3   no instance runs with this run directory (all commands but run, check and init)
"#;

/// One row of two columns; a long left side gets a line of its own.
fn row(text: &mut String, left: &str, right: &str) -> std::fmt::Result {
    let mut line = format!("{left:<HELP_INDENT$}");
    if left.len() + 2 > HELP_INDENT {
        writeln!(text, "{left}")?;
        line = " ".repeat(HELP_INDENT);
    }
    let mut fresh = true;
    for word in right.split(' ') {
        if !fresh && line.len() + 1 + word.chars().count() > HELP_WIDTH {
            writeln!(text, "{line}")?;
            line = " ".repeat(HELP_INDENT);
            fresh = true;
        }
        if !fresh {
            line.push(' ');
        }
        line.push_str(&word.replace('\u{a0}', " "));
        fresh = false;
    }
    writeln!(text, "{line}")
}

#[cfg(test)]
mod shipped;

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Command, String> {
        read(line.split_whitespace().map(str::to_owned).collect())
    }

    fn run(line: &str) -> Request {
        match read_line(line) {
            Ok(Command::Run(request)) => request,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn run_is_meant_without_a_command() {
        assert!(run("").command.is_none());
        assert_eq!(run("--listen 127.0.0.1:0").options.listen.len(), 1);
        assert_eq!(
            run("run --listen=127.0.0.1:0 --listen unix:/x")
                .options
                .listen
                .len(),
            2
        );
        assert!(matches!(
            read_line("check --workers max"),
            Ok(Command::Check(_))
        ));
    }

    #[test]
    fn the_command_after_the_dashes_is_not_ours_to_read() {
        let request = run("run --workers 4 -- node server.js --help -- --listen");
        assert_eq!(
            request.command.expect("a command").join(" "),
            "node server.js --help -- --listen"
        );
        assert!(run("-- node x").command.is_some());
    }

    #[test]
    fn init_takes_a_folder() {
        assert!(matches!(read_line("init"), Ok(Command::Init(dir)) if dir.as_os_str() == "."));
        assert!(matches!(read_line("init apps/x"), Ok(Command::Init(dir)) if dir.ends_with("x")));
        for line in ["init --help", "help init"] {
            assert!(matches!(read_line(line), Ok(Command::Print(text)) if text == INIT_HELP));
        }
        for line in ["init a b", "init --listen x", "init -- node"] {
            assert!(read_line(line).is_err(), "{line}");
        }
    }

    #[test]
    fn help_and_version() {
        for line in [
            "--help",
            "-h",
            "help",
            "run --help",
            "check --listen x --help",
        ] {
            assert!(
                matches!(read_line(line), Ok(Command::Print(text)) if text.contains("--head-timeout")),
                "{line}"
            );
        }
        assert!(
            matches!(read_line("--version"), Ok(Command::Print(text)) if text.starts_with("sidekeeper 0."))
        );
    }

    #[test]
    fn the_help_names_every_option_with_its_default_and_fits() {
        let text = help(None);
        for item in OPTIONS {
            assert!(
                text.contains(&format!("  {} ", item.flag())),
                "{}",
                item.key
            );
        }
        assert_eq!(text.matches("[default:").count(), OPTIONS.len());
        for line in text.lines() {
            assert!(line.chars().count() <= HELP_WIDTH, "{line}");
        }
    }

    #[test]
    fn slips_are_told_with_what_was_meant() {
        let table = [
            ("--lisen 127.0.0.1:0", "did you mean --listen?"),
            ("--head_timeout 1", "did you mean --head-timeout?"),
            ("--hlep", "did you mean --help?"),
            ("chekc", "did you mean `check`?"),
            ("node server.js", "sidekeeper run -- node"),
            ("run server.js", "sidekeeper run -- server.js"),
            ("--listen", "--listen needs a value"),
            ("--listen=", "--listen needs a value"),
            ("--colour red", "see sidekeeper --help"),
            ("--threads 2 --threads 3", "duplicate"),
            ("--head-timeout -1", "seconds"),
            ("run --", "must follow"),
        ];
        for (line, part) in table {
            let message = read_line(line).expect_err(line);
            assert!(message.contains(part), "{line}: {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}
