//! Addresses, listeners and streams that are TCP or Unix alike. Also takes a listener that a
//! supervisor has opened for us, by systemd's `LISTEN_FDS` protocol.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

/// Where to listen or connect: `HOST:PORT`, `unix:PATH` or a path with a slash in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl Address {
    pub fn parse(text: &str) -> Address {
        if let Some(path) = text.strip_prefix("unix:") {
            Address::Unix(PathBuf::from(path))
        } else if text.starts_with('/') {
            Address::Unix(PathBuf::from(text))
        } else {
            let text = text.strip_prefix("http://").unwrap_or(text);
            Address::Tcp(text.trim_end_matches('/').to_owned())
        }
    }

    pub fn connect(&self) -> io::Result<Stream> {
        match self {
            Address::Tcp(name) => {
                let stream = TcpStream::connect(name)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
        }
    }

    pub fn listen(&self) -> io::Result<Listener> {
        match self {
            Address::Tcp(name) => Ok(Listener::Tcp(TcpListener::bind(name)?)),
            Address::Unix(path) => {
                // A socket file outlives the process that bound it.
                if UnixStream::connect(path).is_err() {
                    let _ = std::fs::remove_file(path);
                }
                Ok(Listener::Unix(UnixListener::bind(path)?))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(name) => out.write_str(name),
            Address::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// The listener a supervisor has left at descriptor 3 for this very process, if there is one.
    pub fn inherited() -> Option<Listener> {
        let meant_for_us = |pid: String| pid == std::process::id().to_string();
        if !std::env::var("LISTEN_PID").is_ok_and(meant_for_us) {
            return None;
        }
        let count: u32 = std::env::var("LISTEN_FDS").ok()?.parse().ok()?;
        (count > 0).then(|| Listener::from_descriptor(take_descriptor_3()))
    }

    fn from_descriptor(descriptor: OwnedFd) -> Listener {
        let unix = UnixListener::from(descriptor);
        // `local_addr` refuses a socket of another family: that is how the family is learned.
        match unix.local_addr() {
            Ok(_) => Listener::Unix(unix),
            Err(_) => Listener::Tcp(TcpListener::from(OwnedFd::from(unix))),
        }
    }

    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }

    /// The address as bound, with the port the kernel chose for port 0.
    pub fn describe(&self) -> String {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.to_string(),
                Err(error) => error.to_string(),
            },
            Listener::Unix(listener) => match listener.local_addr() {
                Ok(address) => format!(
                    "unix:{}",
                    address
                        .as_pathname()
                        .map_or("?".into(), |p| p.to_string_lossy())
                ),
                Err(error) => error.to_string(),
            },
        }
    }
}

#[allow(unsafe_code)]
fn take_descriptor_3() -> OwnedFd {
    // SAFETY: LISTEN_PID and LISTEN_FDS say that descriptor 3 was opened for this process, and
    // this is called once, before anything else opens or owns a descriptor.
    unsafe { OwnedFd::from_raw_fd(3) }
}

/// A connected stream. Clones share one socket.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub fn try_clone(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        })
    }

    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
        }
    }

    /// A read that waits longer than this fails with `WouldBlock`. Zero is not a valid time.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(time),
            Stream::Unix(stream) => stream.set_read_timeout(time),
        }
    }

    pub fn set_write_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_write_timeout(time),
            Stream::Unix(stream) => stream.set_write_timeout(time),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        let tcp = |text: &str| Address::Tcp(text.to_owned());
        assert_eq!(Address::parse("127.0.0.1:80"), tcp("127.0.0.1:80"));
        assert_eq!(Address::parse("http://127.0.0.1:80/"), tcp("127.0.0.1:80"));
        assert_eq!(
            Address::parse("unix:a.sock"),
            Address::Unix("a.sock".into())
        );
        assert_eq!(
            Address::parse("/run/a.sock"),
            Address::Unix("/run/a.sock".into())
        );
    }
}
