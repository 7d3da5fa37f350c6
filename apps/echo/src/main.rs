//! Sample app: an HTTP and WebSocket echo for hosts without Node, and the tests' worker. Takes
//! its listener by `LISTEN_FDS`, else binds `--listen ADDR` or `$SIDEKEEPER_SOCKET`. A thread
//! per connection, blocking, standard library only; knows nothing of what stands in front of it.

mod answer;
mod connection;
mod pages;
mod request;
mod soak;
mod websocket;

use echo_wire::wire::{Address, Listener};
use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const USAGE: &str = "usage: echo [--listen HOST:PORT|unix:PATH]
Takes its listener as LISTEN_FDS says, else binds --listen or $SIDEKEEPER_SOCKET.";

fn main() -> ExitCode {
    match listener() {
        Ok(listener) => serve(&listener),
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn listener() -> io::Result<Listener> {
    let mut asked = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), words.next()) {
            ("--listen", Some(address)) => asked = Some(Address::parse(&address)),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, USAGE)),
        }
    }
    if asked.is_none() {
        if let Some(listener) = Listener::inherited() {
            return Ok(listener);
        }
        asked = std::env::var("SIDEKEEPER_SOCKET")
            .ok()
            .map(|path| Address::Unix(path.into()));
    }
    let address = asked.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, USAGE))?;
    address.listen().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

fn serve(listener: &Listener) -> ExitCode {
    println!(
        "echo: process {} listens on {}",
        std::process::id(),
        listener.describe()
    );
    loop {
        let served = listener.accept().and_then(|stream| {
            // Hundreds of held connections are usual in tests, deep stacks are not.
            let thread = thread::Builder::new().stack_size(512 << 10);
            thread.spawn(move || connection::serve(stream))
        });
        if let Err(error) = served {
            eprintln!("echo: accept: {error}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}
