//! sidekeeper: starts an application's workers on Unix sockets, keeps them alive, and proxies
//! HTTP/1.1 and WebSocket to them so that every session stays with the worker that owns it.

mod admin;
mod cli;
mod config;
mod console;
mod fleet;
mod journal;
mod run;

use config::ConfigError;
use config::machine::Machine;
use config::plan::Plan;
use run::takeover::{Found, TRIAL_WORD};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// The command line or the configuration is wrong.
const EXIT_USAGE: u8 = 2;
/// We could not start, or could not go on.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    // Whoever rotates logs may signal every process of our name, the guard included.
    front::sys::process::ignore_what_must_not_end_us();
    // The two other lives of this binary come first: they must not start anything of ours.
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == fleet::spawn::WORKER_WORD => fleet::spawn::worker_main(arguments),
        Some(word) if word == fleet::guard::GUARD_WORD => fleet::guard::guard_main(),
        Some(_) | None => {}
    }
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let trial = words.first().is_some_and(|word| word == TRIAL_WORD);
    let answered = if trial {
        words.remove(0);
        try_out(words)
    } else {
        let found = Found::look();
        answer(words, found.as_ref()).inspect_err(|failure| {
            if let Some(found) = &found {
                found.go_back(&failure.why);
            }
        })
    };
    match answered {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, why }) => {
            // Nobody may be reading any more.
            let _ = writeln!(io::stderr(), "sidekeeper: {why}");
            ExitCode::from(code)
        }
    }
}

/// Why we end with something else than 0. The text is one line that says what to do.
struct Failure {
    code: u8,
    why: String,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = match &error {
            ConfigError::Setup(_) => EXIT_USAGE,
            ConfigError::Nothing(_) => EXIT_FAILURE,
        };
        Failure {
            code,
            why: error.to_string(),
        }
    }
}

impl From<console::Failure> for Failure {
    fn from(failure: console::Failure) -> Self {
        let console::Failure { code, why } = failure;
        Failure { code, why }
    }
}

/// Says whether this binary could take over from one that runs: `FORM WORD...`, with the words that
/// the other one was called with.
fn try_out(mut words: Vec<OsString>) -> Result<(), Failure> {
    let failure = |why: String| Failure {
        code: EXIT_FAILURE,
        why,
    };
    // Whoever wants to know may not be there any more.
    front::sys::process::die_with_parent().map_err(|e| failure(format!("no death signal: {e}")))?;
    if words.is_empty() {
        return Err(failure("__trial: too few words".to_owned()));
    }
    let form = words.remove(0).to_string_lossy().parse();
    run::takeover::knows(form.unwrap_or(0)).map_err(failure)?;
    match command(words)? {
        cli::Command::Run(request) => {
            config::plan::plan(request.options, request.command, &look()?)?;
        }
        cli::Command::Check(_)
        | cli::Command::Print(_)
        | cli::Command::Init(_)
        | cli::Command::Ask(_) => {
            return Err(failure("nothing would run with these words".to_owned()));
        }
    }
    print(&format!("{}\n", run::takeover::consent()));
    Ok(())
}

/// What the words say.
fn command(words: Vec<OsString>) -> Result<cli::Command, Failure> {
    let usage = |why| Failure {
        code: EXIT_USAGE,
        why,
    };
    let words = words
        .into_iter()
        .map(|word| {
            word.into_string().map_err(|word| {
                format!(
                    "`{}` is not UTF-8; write it in UTF-8",
                    word.to_string_lossy()
                )
            })
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(usage)?;
    cli::read(words).map_err(usage)
}

/// Does what the words say. `found`: what an earlier binary has left.
fn answer(words: Vec<OsString>, found: Option<&Found>) -> Result<(), Failure> {
    let failure = |why| Failure {
        code: EXIT_FAILURE,
        why,
    };
    match command(words)? {
        cli::Command::Print(text) => print(&text),
        cli::Command::Init(dir) => {
            let binary = std::env::current_exe()
                .map_err(|error| failure(format!("where is this program? {error}")))?;
            print(&config::init::init(&dir, &binary).map_err(failure)?);
        }
        cli::Command::Check(request) => {
            let machine = look()?;
            let plan = config::plan::plan(request.options, request.command, &machine)?;
            print(&config::show::plan(&plan, &machine.dir));
        }
        cli::Command::Run(request) => {
            let read = move || -> Result<Plan, Failure> {
                let (options, command) = (request.options.clone(), request.command.clone());
                Ok(config::plan::plan(options, command, &look()?)?)
            };
            let plan = read()?;
            let left = found.map(Found::read).transpose();
            let left = left.map_err(failure)?;
            let mut log =
                run::voice::start(plan.log_level, plan.log_date.as_ref()).map_err(failure)?;
            for warning in &plan.warnings {
                log::warn!("{warning}");
            }
            let read_anew = Box::new(move || read().map_err(|failure| failure.why));
            run::run(plan, read_anew, &mut log, found.zip(left)).map_err(failure)?;
        }
        cli::Command::Ask(question) => {
            // The limits of an instance are not ours to raise.
            let run_dir = Machine::look(0)?.run_dir(question.run_dir.clone());
            console::ask(&question, &run_dir)?;
        }
    }
    Ok(())
}

fn look() -> Result<Machine, Failure> {
    let descriptors_max =
        front::sys::limits::raise_descriptor_limit().map_err(|error| Failure {
            code: EXIT_FAILURE,
            why: format!("cannot read the descriptor limit: {error}"),
        })?;
    Ok(Machine::look(descriptors_max)?)
}

fn print(text: &str) {
    // `sidekeeper --help | head` is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
}
