//! The connection to an instance's control socket: one request, then lines.

use crate::admin::ask::Ask;
use crate::admin::socket_path;
use front::json;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A longer line is no answer of ours.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Why there is no conversation.
#[derive(Debug)]
pub enum Trouble {
    /// Nobody listens there.
    Nobody,
    Forbidden,
    TooLong,
    /// The answer does not come.
    Silent,
    Other(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Trouble::Nobody,
            ErrorKind::PermissionDenied => Trouble::Forbidden,
            ErrorKind::InvalidInput => Trouble::TooLong,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Trouble::Silent,
            _ => Trouble::Other(error),
        }
    }
}

pub struct Connection {
    lines: BufReader<UnixStream>,
}

impl Connection {
    /// Asks. `patience`: for each line; None: as long as it takes.
    pub fn open(
        run_dir: &Path,
        ask: &Ask,
        patience: Option<Duration>,
    ) -> Result<Connection, Trouble> {
        let mut stream = UnixStream::connect(socket_path(run_dir))?;
        stream.set_read_timeout(patience)?;
        let request = json::text(ask) + "\n";
        stream.write_all(request.as_bytes())?;
        Ok(Connection {
            lines: BufReader::new(stream),
        })
    }

    /// The next line without its newline; None: the instance has closed.
    pub fn line(&mut self) -> Result<Option<String>, Trouble> {
        let mut line = String::new();
        let count = match (&mut self.lines).take(LINE_BYTES_MAX).read_line(&mut line) {
            Ok(count) => count,
            // A process that ends may reset what it has not read.
            Err(e) if e.kind() == ErrorKind::ConnectionReset => 0,
            Err(e) => return Err(e.into()),
        };
        if line.ends_with('\n') {
            line.pop();
        }
        Ok((count > 0).then_some(line))
    }
}
