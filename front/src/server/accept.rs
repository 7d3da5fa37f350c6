//! How clients come in. Each pool thread watches every listener in its own epoll set and accepts
//! for itself: a new client wakes one thread that waits, and that thread serves it. Who comes when
//! a limit is reached is told so; who is accepted by a thread that holds more connections than
//! another one is dealt to that one by its mailbox.

use super::carry::Claimed;
use super::connection::Counted;
use super::listener::Listener;
use super::mailbox::{Mailbox, Message};
use super::tally::{Seat, Tally};
use crate::gauges::FrontGauges;
use crate::http::head::{Delivery, Version};
use crate::proxy::{Own, Told};
use crate::sys::epoll::{Epoll, Interest};
use crate::sys::socket::{self, End};
use log::{debug, warn};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// What the entrances of all pool threads share.
pub struct Desk {
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub front: Arc<FrontGauges>,
    pub connections_max: u32,
    /// None: a client may have any number of connections.
    pub tally: Option<Arc<Tally>>,
    /// Connections over a limit that are being told so.
    pub turned_away: Arc<AtomicU32>,
    pub closing: AtomicBool,
}

/// A client that has come in.
pub struct Arrival {
    pub socket: OwnedFd,
    pub address: Option<SocketAddr>,
    pub counted: Counted,
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

/// Connections over a limit that are listened to while they read their 503. They come on top of
/// the limit, out of the descriptors that are not there for clients.
const TURNED_AWAY_MAX: u32 = 64;

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

    /// A place among those who are told that they cannot be served now. They are listened to, so
    /// that they can read the answer before the close; when too many are, the rest get it as it is.
    fn turn_away(&self, socket: OwnedFd, address: Option<SocketAddr>) -> Option<Arrival> {
        self.front.refused.fetch_add(1, Relaxed);
        if self.turned_away.load(Relaxed) >= TURNED_AWAY_MAX {
            refuse(&socket, &self.front);
            return None;
        }
        Some(Arrival {
            socket,
            address,
            counted: Counted::turned_away(self.turned_away.clone()),
        })
    }

    /// Has a client served on whom an earlier binary has let in: nobody is turned away for that.
    pub fn take_over(&self, client: Claimed) {
        let (tally, peer) = (self.tally.as_ref(), client.peer());
        let seat = tally.zip(peer).and_then(|(tally, peer)| tally.admit(peer));
        let counted = Counted::carried(self.front.clone(), seat);
        if let Some((mailbox, _)) = self.idlest() {
            mailbox.held().fetch_add(1, Relaxed);
            mailbox.post(Message::Carried(Box::new(client), counted));
        }
    }

    /// The thread that holds the fewest connections, and how many.
    fn idlest(&self) -> Option<(&Arc<Mailbox>, u32)> {
        let held = self.mailboxes.iter().map(|m| (m, m.held().load(Relaxed)));
        held.min_by_key(|(_, held)| *held)
    }

    /// Takes in who waits at a listener whose threads do not look any more, and closes it.
    pub fn close(&self, listeners: Vec<Arc<Listener>>) {
        self.closing.store(true, Relaxed);
        for listener in listeners {
            while let Ok(Some((socket, address))) = listener.accept() {
                match (self.admit(address), self.idlest()) {
                    (Ok(seat), Some((mailbox, _))) => {
                        let counted = Counted::new(self.front.clone(), seat);
                        mailbox.deal(Arrival {
                            socket,
                            address,
                            counted,
                        });
                    }
                    (Ok(_), None) | (Err(_), _) => refuse(&socket, &self.front),
                }
            }
            listener.close();
            debug!("{}: closed", listener.address());
        }
    }
}

/// Waits after a failed accept: they grow while it goes on failing.
const BACK_OFF_FIRST_MS: u64 = 5;
const BACK_OFF_MAX_MS: u64 = 1000;
/// Between two lines about the same trouble.
const SAY_EVERY_MS: u64 = 5000;
/// A thread keeps who it accepts unless it holds so many more connections than another one, and
/// an eighth more: dealing costs two wake-ups, and short connections even out by themselves.
const UNEVEN_MAX: u32 = 8;

/// One pool thread's way of taking clients in.
pub struct Entrance {
    desk: Arc<Desk>,
    listeners: Vec<Arc<Listener>>,
    /// Marks the tokens of listeners among all tokens of the epoll set.
    token_kind: u64,
    back_off_ms: u64,
    /// The listeners are not watched until then, on the pool's clock.
    shut_until_ms: Option<u64>,
    said_ms: Option<u64>,
}

/// What a look at a listener has brought.
pub enum Look {
    Served(Arrival),
    TurnedAway(Arrival),
    /// Somebody came, and is not for this thread.
    Elsewhere,
    Nobody,
}

impl Entrance {
    pub fn new(desk: Arc<Desk>, listeners: Vec<Arc<Listener>>, token_kind: u64) -> Self {
        Entrance {
            desk,
            listeners,
            token_kind,
            back_off_ms: BACK_OFF_FIRST_MS,
            shut_until_ms: None,
            said_ms: None,
        }
    }

    /// Watches the listeners.
    pub fn open(&mut self, epoll: &Epoll) -> io::Result<()> {
        self.shut_until_ms = None;
        for (listener, place) in self.listeners.iter().zip(self.token_kind..) {
            epoll.add(listener.as_fd(), place, Interest::ACCEPT)?;
        }
        Ok(())
    }

    /// Does not look at the listeners any more, until they are opened.
    pub fn rest(&mut self, epoll: &Epoll) {
        self.shut(epoll);
        self.shut_until_ms = None;
    }

    fn shut(&self, epoll: &Epoll) {
        for listener in &self.listeners {
            // It is watched, or it is not: both are well.
            let _ = epoll.delete(listener.as_fd());
        }
    }

    /// Takes no more clients in.
    pub fn close(&mut self, epoll: &Epoll) {
        self.rest(epoll);
        self.listeners.clear();
    }

    /// When [`Entrance::reopen`] has something to do.
    pub fn reopen_ms(&self) -> Option<u64> {
        self.shut_until_ms
    }

    /// Watches the listeners again once the wait after a failure is over.
    pub fn reopen(&mut self, epoll: &Epoll, now_ms: u64) {
        if self.shut_until_ms.is_some_and(|until| until <= now_ms)
            && let Err(e) = self.open(epoll)
        {
            self.fail(epoll, &e, now_ms);
        }
    }

    /// Accepts one client at the listener of this number. `held`: connections of this thread.
    pub fn look(&mut self, epoll: &Epoll, number: usize, held: u32, now_ms: u64) -> Look {
        let Some(listener) = self.listeners.get(number) else {
            return Look::Nobody;
        };
        let (socket, address) = match listener.accept() {
            Ok(Some(client)) => client,
            Ok(None) => return Look::Nobody,
            // The client left while it waited. accept(2): to be treated like trying again.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => return Look::Elsewhere,
            Err(e) => {
                self.fail(epoll, &e, now_ms);
                return Look::Nobody;
            }
        };
        self.back_off_ms = BACK_OFF_FIRST_MS;
        let counted = match self.desk.admit(address) {
            Ok(seat) => Counted::new(self.desk.front.clone(), seat),
            Err(refusal) => {
                self.say(&refusal, now_ms);
                return match self.desk.turn_away(socket, address) {
                    Some(arrival) => Look::TurnedAway(arrival),
                    None => Look::Elsewhere,
                };
            }
        };
        let arrival = Arrival {
            socket,
            address,
            counted,
        };
        match self.desk.idlest() {
            Some((mailbox, least)) if held > least + least / 8 + UNEVEN_MAX => {
                mailbox.deal(arrival);
                Look::Elsewhere
            }
            Some(_) | None => Look::Served(arrival),
        }
    }

    /// Nobody can be accepted, mostly for want of descriptors: looking on would be in vain, and a
    /// listener where somebody waits is reported again and again.
    fn fail(&mut self, epoll: &Epoll, error: &io::Error, now_ms: u64) {
        if self.desk.closing.load(Relaxed) {
            return;
        }
        self.say(
            &format_args!("cannot accept a connection: {error}; trying again"),
            now_ms,
        );
        self.shut(epoll);
        self.shut_until_ms = Some(now_ms.saturating_add(self.back_off_ms));
        self.back_off_ms = (self.back_off_ms * 2).min(BACK_OFF_MAX_MS);
    }

    fn say(&mut self, line: &dyn fmt::Display, now_ms: u64) {
        let silent_since = self.said_ms.map(|at| now_ms.saturating_sub(at));
        if silent_since.is_none_or(|silent| silent >= SAY_EVERY_MS) {
            self.said_ms = Some(now_ms);
            warn!("{line}");
        }
    }
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
    Own::ConnectionsMax.write(&mut answer, &how, Told::default());
    let _ = socket::send(socket.as_fd(), &answer);
    socket::shutdown(socket.as_fd(), End::Write);
}
