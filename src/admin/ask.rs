//! What is asked over the control socket and how it is answered: the request, the refusal, the end of an
//! answer, and the way back to whoever asked. What can be asked is `command`'s.

use front::as_json;
use front::json::{self, ToJson};
use front::sys::socket;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// A longer request is refused.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Complete: the client ends with 0.
    Done,
    /// Somebody else has the socket and goes on.
    Elsewhere,
}

/// A request as it comes over the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    pub command: String,
    pub operands: Vec<String>,
    /// Long names without dashes.
    pub switches: Vec<String>,
}

as_json!(struct Ask { command, operands or default, switches or default });

impl Ask {
    pub fn operand(&self) -> Option<&str> {
        self.operands.first().map(String::as_str)
    }

    pub fn has(&self, switch: &str) -> bool {
        self.switches.iter().any(|given| given == switch)
    }
}

/// Why a request is not answered as hoped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// With which code the client ends.
    pub code: u8,
    /// One line.
    pub text: String,
    /// The name that is not known, and those that are: the client suggests one.
    pub unknown: Option<String>,
    pub known: Vec<String>,
}

as_json!(from struct Refusal { code, text, unknown, known or default });

/// Names are there only if one was not known.
impl ToJson for Refusal {
    fn to_json(&self, to: &mut json::Writer) {
        to.open('{');
        to.field("code", &self.code);
        to.field("text", &self.text);
        if let Some(unknown) = &self.unknown {
            to.field("unknown", unknown);
            to.field("known", &self.known);
        }
        to.close('}');
    }
}

/// Exit codes of the client. The same as those of `run`, where they mean the same.
pub const EXIT_FAILURE: u8 = 1;
pub const EXIT_USAGE: u8 = 2;
pub const EXIT_NO_INSTANCE: u8 = 3;

impl Refusal {
    /// It was understood, and did not come about.
    pub fn failed(text: impl Into<String>) -> Refusal {
        Refusal {
            code: EXIT_FAILURE,
            text: text.into(),
            unknown: None,
            known: Vec::new(),
        }
    }

    /// It was not asked rightly.
    pub fn usage(text: impl Into<String>) -> Refusal {
        Refusal {
            code: EXIT_USAGE,
            ..Refusal::failed(text)
        }
    }
}

/// The client does not take its answer: there is nobody to tell.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::failed(format!("the answer was not taken: {error}"))
    }
}

/// The way back to one client.
pub struct Reply {
    stream: UnixStream,
}

struct EndLine {
    end: u8,
}

as_json!(to struct EndLine { end });

struct ErrorLine<'a> {
    error: &'a Refusal,
}

as_json!(to struct ErrorLine<'a> { error });

impl Reply {
    pub fn new(stream: UnixStream) -> Reply {
        Reply { stream }
    }

    /// Sends one line. An error means that the client has left, or does not read.
    pub fn line(&mut self, value: &dyn ToJson) -> io::Result<()> {
        let text = json::text(value) + "\n";
        self.stream.write_all(text.as_bytes())
    }

    /// The socket itself, for whoever goes on writing to it.
    pub fn socket(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Whether the client has gone. It says nothing after its request.
    pub fn gone(&self) -> bool {
        let mut byte = [0];
        match socket::recv(self.stream.as_fd(), &mut byte) {
            Ok(count) => count == 0,
            Err(e) => e.kind() != ErrorKind::WouldBlock,
        }
    }

    /// The last line of an answer that is as it was hoped.
    pub fn end(&mut self) -> io::Result<()> {
        self.line(&EndLine { end: 0 })
    }

    pub fn refuse(&mut self, refusal: &Refusal) -> io::Result<()> {
        self.line(&ErrorLine { error: refusal })?;
        self.line(&EndLine { end: refusal.code })
    }

    /// The request, without its newline.
    pub fn read_line(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(ErrorKind::TimedOut));
            }
            self.stream.set_read_timeout(Some(left))?;
            let got = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof)),
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if let Some(end) = got.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(got.get(..end).unwrap_or_default());
                return Ok(line);
            }
            line.extend_from_slice(got);
            if line.len() > REQUEST_BYTES_MAX {
                return Err(io::Error::from(ErrorKind::InvalidData));
            }
        }
    }
}
