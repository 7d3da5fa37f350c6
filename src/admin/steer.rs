//! Steering from the dashboard: `POST /do` with a command of the control socket as JSON, for whoever
//! has the token. Without a configured token there is no such thing. The answer is what the control
//! socket would say, line by line, as it happens.

use crate::admin::Shared;
use crate::admin::ask::{Ask, Reply};
use crate::admin::command;
use front::http::framing::Framing;
use front::http::head::Request;
use front::json;
use log::info;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// What the page may ask for: nothing here ends the instance or drops anybody.
pub const ALLOWED: [&str; 2] = ["reload", "scale"];
const BODY_BYTES_MAX: u64 = 4096;

/// Why a request to steer is not heard: status and text.
pub type Refused = (u16, &'static str);

/// The commands that the page may offer, if a token is configured.
pub fn offered(shared: &Shared) -> Vec<&'static str> {
    let known = ALLOWED.into_iter();
    known
        .filter(|name| shared.instance.dashboard_token.is_some() && command::find(name).is_some())
        .collect()
}

/// How many bytes of a body a request to steer has.
pub fn body_length(request: &Request<'_, '_>) -> Result<usize, Refused> {
    match request.framing {
        Framing::Length(length) if length <= BODY_BYTES_MAX => {
            Ok(usize::try_from(length).unwrap_or(0))
        }
        Framing::Length(_) | Framing::Empty | Framing::Chunked | Framing::UntilClose => {
            Err((400, "a command of at most 4 KiB, with its Content-Length\n"))
        }
    }
}

/// Which command is asked for, if it may be.
pub fn understand(shared: &Shared, request: &Request<'_, '_>, body: &[u8]) -> Result<Ask, Refused> {
    let Some(token) = &shared.instance.dashboard_token else {
        return Err((
            403,
            "nothing can be changed from here: --dashboard-token-file was not given\n",
        ));
    };
    let given = request
        .fields()
        .find(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        .and_then(|(_, value)| value.strip_prefix(b"Bearer "))
        .unwrap_or_default();
    if !same(given, token.as_bytes()) {
        return Err((401, "this is not the token\n"));
    }
    let ask: Ask = json::read(body).map_err(|_| (400, "this is not a command\n"))?;
    if offered(shared).contains(&ask.command.as_str()) {
        Ok(ask)
    } else {
        Err((403, "only reload and scale can be asked from here\n"))
    }
}

/// Does it, and tells what comes of it. The head of the answer ends in `fields`.
pub fn run(shared: &Shared, ask: &Ask, mut stream: TcpStream, fields: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n{fields}\r\n");
    stream.write_all(head.as_bytes())?;
    info!("dashboard: {} {}", ask.command, ask.operands.join(" "));
    // What a reply needs of a socket (to read, write and be told of its end) is the same for both kinds.
    let mut reply = Reply::new(UnixStream::from(OwnedFd::from(stream)));
    match command::admitted(ask) {
        Ok(item) => command::run(item, shared, ask, &mut reply),
        Err(refusal) => reply.refuse(&refusal),
    }
}

/// In a time that does not say how much of it is right.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differ = given.iter().zip(token).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == token.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn tokens_are_the_same_or_not() {
        assert!(same(b"abc", b"abc"));
        for given in [&b""[..], b"ab", b"abcd", b"abd", b"xbc"] {
            assert!(!same(given, b"abc"));
        }
    }
}
