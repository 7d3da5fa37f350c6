//! The listeners, the pool and the relay threads, and the order in which they start and stop.

mod accept;
mod carry;
mod connection;
mod listener;
mod mailbox;
mod pool;
mod relay;
mod report;
mod tally;
mod timers;

pub use carry::Carried;
pub use listener::{ListenAddr, SocketAccess};

use crate::channel::{Sender, bounded};
use crate::gauges::FrontGauges;
use crate::http::id;
use crate::json::{self, FromJson};
use crate::proxy;
use crate::proxy::access::AccessLog;
use crate::roster::Board;
use crate::route::{CarriedTables, Tables};
use accept::Desk;
use carry::{CarriedListener, Claimed};
use listener::Listener;
use mailbox::Mailbox;
use pool::{Pool, Shared};
use relay::Relays;
use report::Reporter;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};
use tally::Tally;

/// What the server is asked to be.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: Vec<ListenAddr>,
    /// Pool threads.
    pub threads: usize,
    /// Client connections open at once. Beyond: 503.
    pub connections_max: u32,
    /// Of them, by one IPv4 address or IPv6 /64 network; 0: any. Beyond: 503.
    pub connections_per_client_max: u32,
    /// Relay threads at once; two for each tunnel that streams. Beyond: the pool copies.
    pub relay_threads_max: usize,
    /// Sessions remembered, of each kind.
    pub sessions_max: usize,
    pub proxy: proxy::Settings,
}

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    pub address: ListenAddr,
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)?;
        f.write_str(match (self.error.kind(), &self.address) {
            (io::ErrorKind::AddrInUse, _) => "; choose another one with --listen",
            (io::ErrorKind::PermissionDenied, ListenAddr::Tcp(_)) => {
                "; choose a port above 1023 with --listen, or start as root with --user NAME"
            }
            (io::ErrorKind::PermissionDenied, ListenAddr::Unix { .. }) => {
                "; choose a folder that we may write to"
            }
            (io::ErrorKind::NotFound, ListenAddr::Unix { .. }) => "; make its folder first",
            (io::ErrorKind::AddrNotAvailable, ListenAddr::Tcp(_)) => {
                "; name an address of this machine, or 0.0.0.0 for all of them"
            }
            (_, _) => "",
        })
    }
}

/// A server whose listeners are bound. [`Server::start`] begins to serve.
pub struct Server {
    settings: Settings,
    board: Arc<Board>,
    front: Arc<FrontGauges>,
    tables: Arc<Tables>,
    listeners: Vec<Listener>,
    addresses: Vec<String>,
    /// Whom an earlier binary has let in.
    carried: Vec<Claimed>,
    running: Option<Running>,
}

/// A server that stands still, until this is dropped.
pub struct StandStill<'a> {
    server: &'a Running,
    /// Let go first: the threads go on, and then open their doors.
    go_on: Option<Sender<()>>,
}

impl Drop for StandStill<'_> {
    fn drop(&mut self) {
        self.go_on = None;
        self.server.relays.resume();
        self.server.pool.open_doors();
    }
}

/// What relayed tunnels may take to come back, and pool threads to stand still.
const RECALL: Duration = Duration::from_secs(2);
const STAND_STILL: Duration = Duration::from_secs(2);

struct Running {
    desk: Arc<Desk>,
    /// None any more once no clients are wanted.
    listeners: Vec<Arc<Listener>>,
    pool: Pool,
    relays: Arc<Relays>,
}

impl Server {
    /// Binds all addresses: clients may connect from now on, and wait.
    pub fn bind(settings: Settings, board: Arc<Board>) -> Result<Server, BindError> {
        let mut listeners = Vec::new();
        for address in &settings.listen {
            let listener = Listener::bind(address).map_err(|error| BindError {
                address: address.clone(),
                error,
            })?;
            listeners.push(listener);
        }
        Ok(Server {
            addresses: listeners.iter().map(Listener::address).collect(),
            tables: Arc::new(Tables::new(settings.sessions_max)),
            settings,
            board,
            front: Arc::default(),
            listeners,
            carried: Vec::new(),
            running: None,
        })
    }

    /// Goes on where an earlier binary has stopped, with its listeners and clients. Addresses are not
    /// bound anew, whatever the settings say.
    pub fn take_over(
        settings: Settings,
        board: Arc<Board>,
        tables: CarriedTables,
        carried: Carried,
    ) -> io::Result<Server> {
        let listeners = carried.listeners.into_iter().map(CarriedListener::claim);
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let clients = carried.connections.into_iter();
        let clients = clients.map(carry::CarriedConnection::claim_client);
        Ok(Server {
            addresses: listeners.iter().map(Listener::address).collect(),
            tables: Arc::new(Tables::knowing(tables, settings.sessions_max)),
            settings,
            board,
            front: Arc::new(FromJson::from_json(&carried.front).unwrap_or_default()),
            listeners,
            carried: clients.collect::<io::Result<Vec<_>>>()?,
            running: None,
        })
    }

    /// Has everything stand still for another binary to take over: nobody is let in, nothing is
    /// touched, and what every connection is doing is written down. It goes on when the first of the
    /// two is dropped. Fails, and goes on, if something does not come to a stand in time.
    pub fn stand_still(&self) -> Result<(StandStill<'_>, Carried), String> {
        let Some(running) = &self.running else {
            return Err("it does not serve yet".to_owned());
        };
        let (go_on, until) = bounded(0);
        let still = StandStill {
            server: running,
            go_on: Some(go_on),
        };
        if !running.relays.recall(Instant::now() + RECALL) {
            return Err("a relayed tunnel did not come to a stand in time".to_owned());
        }
        let deadline = Instant::now() + STAND_STILL;
        let connections = running.pool.stand_still(&until, deadline)?;
        let listeners = running.listeners.iter();
        let carried = Carried {
            listeners: listeners.map(|one| CarriedListener::of(one)).collect(),
            connections,
            front: json::value(&*self.front),
        };
        Ok((still, carried))
    }

    /// The addresses as bound, `HOST:PORT` or `unix:PATH`, in the order of the settings.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Counters of the whole front.
    pub fn front(&self) -> &Arc<FrontGauges> {
        &self.front
    }

    /// Which session is where.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Starts the pool, which takes clients in from now on.
    pub fn start(&mut self, access: Option<AccessLog>) -> io::Result<()> {
        self.settings.proxy.access = access;
        let relays = Arc::new(Relays::new(
            self.settings.relay_threads_max,
            self.settings.proxy.write_timeout,
        ));
        let mailboxes = (0..self.settings.threads.max(1)).map(|_| Mailbox::new().map(Arc::new));
        let run = id::Run::begin();
        let desk = Arc::new(Desk {
            mailboxes: mailboxes.collect::<io::Result<_>>()?,
            front: self.front.clone(),
            connections_max: self.settings.connections_max,
            tally: (self.settings.connections_per_client_max > 0).then(|| {
                Arc::new(Tally::new(
                    self.settings.connections_per_client_max,
                    self.settings.proxy.trusted_proxies.clone(),
                ))
            }),
            turned_away: Arc::default(),
            closing: Default::default(),
        });
        let listeners: Vec<_> = self.listeners.drain(..).map(Arc::new).collect();
        let pool = Pool::start(&Shared {
            settings: Arc::new(self.settings.proxy.clone()),
            front: self.front.clone(),
            board: self.board.clone(),
            tables: self.tables.clone(),
            relays: relays.clone(),
            desk: desk.clone(),
            listeners: listeners.clone(),
            run: run.clone(),
        })?;
        self.board.set_traffic(Arc::new(Reporter {
            mailboxes: desk.mailboxes.clone(),
            relays: relays.clone(),
            run,
        }));
        for client in self.carried.drain(..) {
            desk.take_over(client);
        }
        self.running = Some(Running {
            desk,
            listeners,
            pool,
            relays,
        });
        Ok(())
    }

    /// Stops accepting: who waits at a listener is the last to be served. Idle connections close,
    /// the others when their answer is complete.
    pub fn begin_drain(&mut self) {
        if let Some(running) = &mut self.running {
            running.pool.drain();
            let listeners = std::mem::take(&mut running.listeners);
            running.desk.close(listeners);
        }
    }

    /// Exchanges and heads that are under way; tunnels do not count.
    pub fn unfinished(&self) -> u32 {
        let connections = self.front.connections.load(Relaxed);
        connections.saturating_sub(self.front.tunnels.load(Relaxed))
    }

    /// Waits until nothing but tunnels is left; false when the time was up.
    pub fn wait_drained(&self, patience: Duration, hurry: &dyn Fn() -> bool) -> bool {
        const GLANCE: Duration = Duration::from_millis(10);
        let began = Instant::now();
        while self.unfinished() > 0 {
            if began.elapsed() >= patience || hurry() {
                return false;
            }
            thread::sleep(GLANCE);
        }
        true
    }

    /// Closes everything that is left and ends all threads.
    pub fn close(mut self) {
        if let Some(running) = self.running.take() {
            running.relays.close();
            running.desk.close(running.listeners);
            running.pool.close();
        }
    }
}
