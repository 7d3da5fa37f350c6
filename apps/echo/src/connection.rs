//! One client connection: requests in order, each answered by `pages`, for as long as both sides
//! want it kept. Runs on the connection's own thread. Also keeps the counts that `/stats` shows.

use crate::answer;
use crate::pages::{self, Fate};
use crate::request::{Request, read_request};
use echo_wire::wire::Stream;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What this process has seen. Written by connection threads, read by `/stats`.
pub struct Counts {
    pub connections: AtomicU64,
    pub open: AtomicU64,
    pub requests: AtomicU64,
    /// Exchanges whose client went away before the answer was whole.
    pub left: AtomicU64,
}

pub static COUNTS: Counts = Counts {
    connections: AtomicU64::new(0),
    open: AtomicU64::new(0),
    requests: AtomicU64::new(0),
    left: AtomicU64::new(0),
};

pub struct Connection {
    pub input: BufReader<Stream>,
    pub output: Stream,
}

pub fn serve(stream: Stream) {
    COUNTS.connections.fetch_add(1, Relaxed);
    COUNTS.open.fetch_add(1, Relaxed);
    if let Ok(output) = stream.try_clone() {
        let mut connection = Connection {
            input: BufReader::new(stream),
            output,
        };
        if exchanges(&mut connection).is_err() {
            COUNTS.left.fetch_add(1, Relaxed);
        }
        let _ = connection.output.shutdown(Shutdown::Both);
    }
    COUNTS.open.fetch_sub(1, Relaxed);
}

fn exchanges(connection: &mut Connection) -> io::Result<()> {
    loop {
        let mut request = match read_request(&mut connection.input) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            // Reset between requests: the client has nothing to lose.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return answer::refuse(&mut connection.output, &error.to_string());
            }
            Err(error) => return Err(error),
        };
        COUNTS.requests.fetch_add(1, Relaxed);
        let fate = pages::answer(connection, &mut request)?;
        // Who still waits for `100 Continue` may or may not send a body now: nobody can tell where
        // the next request begins.
        if fate == Fate::Close || !request.keeps_alive() || request.waits_for_continue() {
            finish(connection, &mut request);
            return Ok(());
        }
        // The next request begins where this one's body ends.
        request.drain(connection)?;
    }
}

/// Closing with bytes unread would reset the connection and could destroy the answer on its way.
fn finish(connection: &mut Connection, request: &mut Request) {
    let shut = connection.output.shutdown(Shutdown::Write);
    if shut.is_ok() && !request.waits_for_continue() {
        let _ = request.drain(connection);
    }
}
