//! The benchmark's own programs in one binary: a worker that is lean enough not to be the limit,
//! and the load that wrk cannot make. Every load program prints one line of JSON.

mod backend;
mod chat;
mod idle;
mod latency;
mod options;
mod rate;
mod repeat;
mod socket;
mod stream;
mod upgrade;
mod websocket;

use options::Options;
use std::process::ExitCode;

const USAGE: &str = "usage: rig backend [unix:PATH | HOST:PORT]...   serve; by LISTEN_FDS as well
       rig rate --to ADDR [--path /small] [--rate 5000] [--connections 64] [--seconds 3]
       rig repeat --to ADDR --kind http|ws [--path P] [--connections N] [--seconds S | --count N]
                  [--bytes 64] [--host NAME] [--range N] [--warm S]   {n} in path and host: a number below N
       rig stream --to ADDR --direction up|down [--seconds 3]
       rig upgrade --to ADDR [--path /ws] [--connections 64] [--seconds 3]
       rig idle --to ADDR --kind http|ws [--connections N]   held until stdin ends
       rig chat --to ADDR [--users 1000] [--rooms 40] [--rate 300] [--seconds 5]";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let program = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let done = if program == "backend" {
        backend::serve(&words)
    } else {
        Options::parse(&words).and_then(|options| match program.as_str() {
            "rate" => rate::run(&options),
            "repeat" => repeat::run(&options),
            "stream" => stream::run(&options),
            "upgrade" => upgrade::run(&options),
            "idle" => idle::run(&options),
            "chat" => chat::run(&options),
            _ => Err(options::wrong(USAGE)),
        })
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig {program}: {error}");
            ExitCode::FAILURE
        }
    }
}
