//! Acceptors: one thread a listener takes connections and deals them out to the pool in turn.

use super::connection::Counted;
use super::pool::{Mailbox, Message};
use super::tally::{Seat, Tally};
use crate::gauges::FrontGauges;
use crate::http::head::{Delivery, Version};
use crate::proxy::Own;
use crate::sys::socket::{self, End};
use log::{debug, warn};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// `HOST:PORT`, as it was given.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(address) => f.write_str(address),
            ListenAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Connections that the kernel keeps for us while we are busy; capped by net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// unix(7): the kernel's 108 bytes hold a NUL as well.
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Listener {
    pub fn bind(address: &ListenAddr) -> io::Result<Listener> {
        let listener = match address {
            ListenAddr::Tcp(address) => Listener::Tcp(TcpListener::bind(address)?),
            ListenAddr::Unix(path) => {
                if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
                    return Err(io::Error::other(format!(
                        "the path is too long: a Unix socket's has at most {SOCKET_PATH_BYTES_MAX} bytes"
                    )));
                }
                if socket::connect_unix(path).is_ok() {
                    return Err(io::Error::from(io::ErrorKind::AddrInUse));
                }
                // Nobody answers there: the socket of a run that was killed.
                if path.symlink_metadata().is_ok_and(|m| is_socket(&m)) {
                    std::fs::remove_file(path)?;
                }
                Listener::Unix(UnixListener::bind(path)?, path.clone())
            }
        };
        socket::set_backlog(listener.as_fd(), BACKLOG)?;
        if let Listener::Tcp(listener) = &listener {
            // Small answers must not wait for the client's acknowledgements. What is accepted
            // inherits it, which saves a call for each connection.
            socket::set_nodelay(listener.as_fd())?;
        }
        Ok(listener)
    }

    /// The address as it was bound: `HOST:PORT` or `unix:PATH`.
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.to_string(),
                Err(e) => format!("unknown ({e})"),
            },
            Listener::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    fn accept(&self) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                Ok((stream.into(), Some(address)))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                Ok((stream.into(), None))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
        }
    }
}

fn is_socket(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_socket()
}

/// What the acceptors share.
pub struct Desk {
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub front: Arc<FrontGauges>,
    pub connections_max: u32,
    /// None: a client may have any number of connections.
    pub tally: Option<Arc<Tally>>,
    /// Connections over a limit that are being told so.
    pub turned_away: Arc<AtomicU32>,
    /// Whose turn it is in the pool.
    pub turn: AtomicUsize,
    pub closing: AtomicBool,
}

/// Why a connection is not served.
enum Refusal {
    ConnectionsMax(u32),
    PerClientMax(SocketAddr, u32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::ConnectionsMax(max) => {
                write!(
                    f,
                    "{max} connections are open: new ones get 503 (--connections-max)"
                )
            }
            Refusal::PerClientMax(address, max) => write!(
                f,
                "{} has {max} connections open: more get 503 (--connections-per-client-max)",
                address.ip()
            ),
        }
    }
}

impl Desk {
    /// A place for one more connection. Clients of a Unix socket have no address to be counted by.
    fn admit(&self, address: Option<SocketAddr>) -> Result<Option<Seat>, Refusal> {
        if self.front.connections.load(Relaxed) >= self.connections_max {
            return Err(Refusal::ConnectionsMax(self.connections_max));
        }
        let (Some(tally), Some(address)) = (&self.tally, address) else {
            return Ok(None);
        };
        match tally.admit(address) {
            Some(seat) => Ok(Some(seat)),
            None => Err(Refusal::PerClientMax(address, tally.per_client_max())),
        }
    }

    /// Gives a pool thread something to do, each in its turn.
    fn post(&self, message: Message) {
        let turn = self.turn.fetch_add(1, Relaxed);
        let place = turn.checked_rem(self.mailboxes.len());
        if let Some(mailbox) = place.and_then(|p| self.mailboxes.get(p)) {
            mailbox.post(message);
        }
    }

    /// Tells a client that it cannot be served now. A pool thread sees to it that the client can
    /// read the answer before the close; when too many are being told, the rest get it as it is.
    fn turn_away(&self, socket: OwnedFd, address: Option<SocketAddr>) {
        self.front.refused.fetch_add(1, Relaxed);
        if self.turned_away.load(Relaxed) >= TURNED_AWAY_MAX {
            return refuse(&socket, &self.front);
        }
        let counted = Counted::turned_away(self.turned_away.clone());
        self.post(Message::TurnedAway {
            socket,
            address,
            counted,
        });
    }
}

/// A running acceptor.
pub struct Acceptor {
    listener: Arc<Listener>,
    desk: Arc<Desk>,
    thread: JoinHandle<()>,
}

/// Waits after a failed accept: they grow while it goes on failing.
const BACK_OFF_FIRST: Duration = Duration::from_millis(5);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// Connections over a limit that are listened to while they read their 503. They come on top of
/// the limit, out of the descriptors that are not there for clients.
const TURNED_AWAY_MAX: u32 = 64;
/// Between two lines about the same trouble.
const SAY_EVERY: Duration = Duration::from_secs(5);

impl Acceptor {
    pub fn start(listener: Listener, desk: Arc<Desk>) -> io::Result<Acceptor> {
        let listener = Arc::new(listener);
        let (taken, shared) = (listener.clone(), desk.clone());
        let thread = thread::Builder::new()
            .name("accept".into())
            .spawn(move || run(&taken, &shared))?;
        Ok(Acceptor {
            listener,
            desk,
            thread,
        })
    }

    /// Stops accepting and closes the listener; the port is free when this returns.
    pub fn close(self) {
        self.desk.closing.store(true, Relaxed);
        // Wakes the accept(2) that the thread waits in.
        socket::shutdown(self.listener.as_fd(), End::Both);
        if self.thread.join().is_err() {
            warn!("an acceptor panicked");
        }
        if let Listener::Unix(_, path) = &*self.listener {
            // It may have been removed by hand; there is nothing more to do then.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn run(listener: &Listener, desk: &Desk) {
    let mut back_off = BACK_OFF_FIRST;
    let mut said: Option<Instant> = None;
    let mut say = |line: &dyn fmt::Display| {
        if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            said = Some(Instant::now());
            warn!("{line}");
        }
    };
    while !desk.closing.load(Relaxed) {
        match listener.accept() {
            Ok((socket, address)) => {
                back_off = BACK_OFF_FIRST;
                match desk.admit(address) {
                    Ok(seat) => {
                        let counted = Counted::new(desk.front.clone(), seat);
                        desk.post(Message::Accepted {
                            socket,
                            address,
                            counted,
                        });
                    }
                    Err(refusal) => {
                        say(&refusal);
                        desk.turn_away(socket, address);
                    }
                }
            }
            Err(_) if desk.closing.load(Relaxed) => break,
            // The client left while it waited. accept(2): to be treated like trying again.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                say(&format_args!(
                    "cannot accept a connection: {e}; trying again"
                ));
                thread::sleep(back_off);
                back_off = (back_off * 2).min(BACK_OFF_MAX);
            }
        }
    }
    debug!("{}: closed", listener.address());
}

/// One short answer into an empty socket buffer; the client may be gone already.
fn refuse(socket: &OwnedFd, front: &FrontGauges) {
    let mut answer = Vec::new();
    let how = Delivery {
        version: Version::Http11,
        close: true,
        head: false,
        date: None,
    };
    front.own.count(Own::ConnectionsMax.status());
    Own::ConnectionsMax.write(&mut answer, &how);
    let _ = socket::send(socket.as_fd(), &answer);
    socket::shutdown(socket.as_fd(), End::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn accepted_connections_inherit_that_they_do_not_wait() {
        let address = ListenAddr::Tcp("127.0.0.1:0".parse().unwrap());
        let listener = Listener::bind(&address).unwrap();
        let _client = TcpStream::connect(listener.address()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        assert!(TcpStream::from(socket).nodelay().unwrap());
    }
}
