//! sidekeeper: starts an application's workers on Unix sockets, keeps them alive, and proxies
//! HTTP/1.1 and WebSocket to them so that every session stays with the worker that owns it.

mod admin;
mod cli;
mod config;
mod console;
mod fleet;
mod gauges;
mod http;
mod journal;
mod proxy;
mod roster;
mod route;
mod run;
mod server;
mod sys;

use config::ConfigError;
use config::plan::{Machine, Plan};
use std::io::{self, Write};
use std::process::ExitCode;

/// The command line or the configuration is wrong.
const EXIT_USAGE: u8 = 2;
/// We could not start, or could not go on.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    // Whoever rotates logs may signal every process of our name, the guard included.
    sys::process::ignore_what_must_not_end_us();
    // The two other lives of this binary come first: they must not start anything of ours.
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == fleet::spawn::WORKER_WORD => fleet::spawn::worker_main(arguments),
        Some(word) if word == fleet::guard::GUARD_WORD => fleet::guard::guard_main(),
        Some(_) | None => {}
    }
    match answer() {
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

/// Does what the command line says.
fn answer() -> Result<(), Failure> {
    let usage = |why| Failure {
        code: EXIT_USAGE,
        why,
    };
    let failure = |why| Failure {
        code: EXIT_FAILURE,
        why,
    };
    let words = std::env::args_os()
        .skip(1)
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
    match cli::read(words).map_err(usage)? {
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
            let read = || -> Result<Plan, Failure> {
                let (options, command) = (request.options.clone(), request.command.clone());
                Ok(config::plan::plan(options, command, &look()?)?)
            };
            let plan = read()?;
            let mut log =
                run::voice::start(plan.log_level, plan.log_date.as_ref()).map_err(failure)?;
            for warning in &plan.warnings {
                log::warn!("{warning}");
            }
            let read_anew = || read().map_err(|failure| failure.why);
            run::run(plan, &read_anew, &mut log).map_err(failure)?;
        }
        cli::Command::Ask(question) => {
            // The limits of an instance are not ours to raise.
            let run_dir = config::plan::run_dir(question.run_dir.clone(), &Machine::look(0)?);
            console::ask(&question, &run_dir)?;
        }
    }
    Ok(())
}

fn look() -> Result<Machine, Failure> {
    let descriptors_max = sys::limits::raise_descriptor_limit().map_err(|error| Failure {
        code: EXIT_FAILURE,
        why: format!("cannot read the descriptor limit: {error}"),
    })?;
    Ok(Machine::look(descriptors_max)?)
}

fn print(text: &str) {
    // `sidekeeper --help | head` is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
}
