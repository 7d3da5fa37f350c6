//! Addresses that are listened on, and the sockets bound to them. A listener never waits: whoever
//! accepts is told that there is nobody.

use crate::sys::descriptor::take_inherited;
use crate::sys::socket::{self, End};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// `HOST:PORT`, as it was given.
    Tcp(String),
    /// The path of a Unix socket. None: whom the umask leaves may connect.
    Unix {
        path: PathBuf,
        access: Option<SocketAccess>,
    },
    /// A socket that listens already, at a descriptor that whoever started us (systemd) has passed on.
    Passed { number: i32, name: String },
}

/// Who may connect to a Unix socket: what chmod(1) and chgrp(1) would say of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketAccess {
    pub mode: u32,
    /// None: the group of whoever binds it.
    pub group: Option<u32>,
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(address) => f.write_str(address),
            ListenAddr::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            ListenAddr::Passed { number, name } => write!(f, "descriptor {number} ({name})"),
        }
    }
}

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
    /// One that stays with whoever has passed it on: it is neither shut nor removed, and who comes
    /// while nobody serves waits in it.
    Passed(Box<Listener>),
}

/// Connections that the kernel keeps for us while we are busy; capped by net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// How long the kernel keeps to itself who has connected and says nothing. It counts in repetitions of
/// its SYN-ACK, the first of which comes after a second.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// unix(7): the kernel's 108 bytes hold a NUL as well.
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Listener {
    pub fn bind(address: &ListenAddr) -> io::Result<Listener> {
        let listener = match address {
            ListenAddr::Tcp(address) => Listener::Tcp(TcpListener::bind(address)?),
            ListenAddr::Unix { path, access } => {
                Listener::Unix(bind_unix(path, *access)?, path.clone())
            }
            ListenAddr::Passed { number, .. } => Listener::adopt(take_inherited(*number)?)?,
        };
        socket::set_backlog(listener.as_fd(), BACKLOG)?;
        if listener.is_tcp() {
            // Small answers must not wait for the client's acknowledgements. What is accepted
            // inherits it, which saves a call for each connection.
            socket::set_nodelay(listener.as_fd())?;
            // A client mostly speaks at once. Accepted before, it would wake a thread twice.
            socket::defer_accept(listener.as_fd(), SILENT_MAX)?;
        }
        // All pool threads are told of a client that several of them may find, and only one gets it.
        socket::set_nonblocking(listener.as_fd());
        Ok(listener)
    }

    /// A socket of either kind that somebody else has bound.
    fn adopt(socket: OwnedFd) -> io::Result<Listener> {
        let tcp = TcpListener::from(socket);
        Ok(Listener::Passed(Box::new(match tcp.local_addr() {
            Ok(_) => Listener::Tcp(tcp),
            Err(_) => {
                let unix = UnixListener::from(OwnedFd::from(tcp));
                let path = unix.local_addr()?.as_pathname().map(PathBuf::from);
                Listener::Unix(unix, path.unwrap_or_default())
            }
        })))
    }

    fn is_tcp(&self) -> bool {
        match self {
            Listener::Tcp(_) => true,
            Listener::Unix(..) => false,
            Listener::Passed(listener) => listener.is_tcp(),
        }
    }

    /// The address as it was bound: `HOST:PORT` or `unix:PATH`.
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.to_string(),
                Err(e) => format!("unknown ({e})"),
            },
            Listener::Unix(_, path) => format!("unix:{}", path.display()),
            Listener::Passed(listener) => listener.address(),
        }
    }

    /// The next client that waits, and its address if it has one; None if nobody waits. What is
    /// accepted does not inherit that the listener never waits.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
        let accepted = match self {
            Listener::Tcp(listener) => listener
                .accept()
                .map(|(stream, address)| (stream.into(), Some(address))),
            Listener::Unix(listener, _) => {
                listener.accept().map(|(stream, _)| (stream.into(), None))
            }
            Listener::Passed(listener) => return listener.accept(),
        };
        match accepted {
            Ok(client) => Ok(Some(client)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Turns away who comes from now on. The port is free when the last copy is dropped as well.
    pub fn close(&self) {
        match self {
            Listener::Tcp(_) => socket::shutdown(self.as_fd(), End::Both),
            Listener::Unix(_, path) => {
                socket::shutdown(self.as_fd(), End::Both);
                // It may have been removed by hand; there is nothing more to do then.
                let _ = std::fs::remove_file(path);
            }
            Listener::Passed(_) => {}
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
            Listener::Passed(listener) => listener.as_fd(),
        }
    }
}

fn bind_unix(path: &Path, access: Option<SocketAccess>) -> io::Result<UnixListener> {
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(io::Error::other(format!(
            "the path is too long: a Unix socket's has at most {SOCKET_PATH_BYTES_MAX} bytes"
        )));
    }
    if socket::connect_unix(path).is_ok() {
        return Err(io::Error::from(io::ErrorKind::AddrInUse));
    }
    // Nobody answers there: the socket of a run that was killed.
    if path
        .symlink_metadata()
        .is_ok_and(|found| found.file_type().is_socket())
    {
        std::fs::remove_file(path)?;
    }
    let Some(access) = access else {
        return UnixListener::bind(path);
    };
    // Nobody else may connect before it is as it shall be.
    let listener = UnixListener::from(socket::listen_unix(path, BACKLOG)?);
    open_to(path, access).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })?;
    Ok(listener)
}

fn open_to(path: &Path, access: SocketAccess) -> io::Result<()> {
    let SocketAccess { mode, group } = access;
    if let Some(group) = group {
        lchown(path, None, Some(group)).map_err(|error| {
            io::Error::other(format!(
                "it cannot be given to group {group}: {error}; name a group that we are in, or start as root"
            ))
        })?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpStream;

    #[test]
    fn a_passed_socket_outlives_its_close() {
        let bound = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = bound.local_addr().unwrap();
        let copy = OwnedFd::from(bound.try_clone().unwrap());
        let listener = Listener::adopt(copy).unwrap();
        assert!(listener.is_tcp());
        assert_eq!(listener.address(), address.to_string());
        listener.close();
        let _client = TcpStream::connect(address).unwrap();
        assert!(bound.accept().is_ok());
    }

    #[test]
    fn accepted_connections_inherit_that_they_do_not_wait() {
        let address = ListenAddr::Tcp("127.0.0.1:0".parse().unwrap());
        let listener = Listener::bind(&address).unwrap();
        let mut client = TcpStream::connect(listener.address()).unwrap();
        client.write_all(b"GET").unwrap();
        let (socket, _) = listener.accept().unwrap().unwrap();
        assert!(TcpStream::from(socket).nodelay().unwrap());
        assert!(listener.accept().unwrap().is_none());
    }

    #[test]
    fn who_says_nothing_stays_with_the_kernel_for_a_moment() {
        let address = ListenAddr::Tcp("127.0.0.1:0".to_owned());
        let listener = Listener::bind(&address).unwrap();
        let mut client = TcpStream::connect(listener.address()).unwrap();
        assert!(listener.accept().unwrap().is_none());
        client.write_all(b"GET").unwrap();
        assert!(listener.accept().unwrap().is_some());
        // Whoever leaves at once has been there: a check of the port must not wait.
        drop(TcpStream::connect(listener.address()).unwrap());
        assert!(listener.accept().unwrap().is_some());
        let _silent = TcpStream::connect(listener.address()).unwrap();
        let comes = socket::wait_ready(listener.as_fd(), false, 10 * SILENT_MAX);
        assert!(comes.unwrap() && listener.accept().unwrap().is_some());
    }
}
