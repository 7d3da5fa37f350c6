//! sidekeeper: starts an application's workers on Unix sockets, keeps them alive, and proxies
//! HTTP/1.1 and WebSocket to them so that every session stays with the worker that owns it.

mod admin;
mod cli;
mod config;
mod fleet;
mod gauges;
mod http;
mod proxy;
mod roster;
mod route;
mod server;
mod sys;

use config::ConfigError;
use config::plan::{Machine, Plan};
use std::process::ExitCode;

/// The command line or the configuration is wrong.
const EXIT_USAGE: u8 = 2;
/// We could not start, or could not go on.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    // The two other lives of this binary come first: they must not start anything of ours.
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == fleet::spawn::WORKER_WORD => fleet::spawn::worker_main(arguments),
        Some(word) if word == fleet::guard::GUARD_WORD => fleet::guard::guard_main(),
        Some(_) | None => {}
    }
    let words = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match cli::read(words) {
        Ok(cli::Command::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(cli::Command::Check(request)) => match make_plan(request) {
            Ok(plan) => {
                print!(
                    "{}",
                    config::show::plan(&plan, &std::env::current_dir().unwrap_or_default())
                );
                ExitCode::SUCCESS
            }
            Err(code) => code,
        },
        Ok(cli::Command::Run(request)) => match make_plan(request) {
            Ok(_plan) => ExitCode::SUCCESS,
            Err(code) => code,
        },
        Err(why) => fail(EXIT_USAGE, &why),
    }
}

fn make_plan(request: cli::Request) -> Result<Plan, ExitCode> {
    Machine::look(1024)
        .and_then(|machine| config::plan::plan(request.options, request.command, &machine))
        .map_err(|error| match error {
            ConfigError::Setup(why) => fail(EXIT_USAGE, &why),
            ConfigError::Nothing(why) => fail(EXIT_FAILURE, &why),
        })
}

fn fail(code: u8, why: &str) -> ExitCode {
    eprintln!("sidekeeper: {why}");
    ExitCode::from(code)
}
