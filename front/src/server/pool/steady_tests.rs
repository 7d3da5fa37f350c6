//! What a request on kept connections costs a pool thread in memory, access log and all: nothing. Real sockets, a pool
//! thread, and a worker that answers everything alike.

use super::{Desk, Mailbox, Message, PoolThread, Shared};
use crate::gauges::{FrontGauges, WorkerGauges};
use crate::http::head::HeadLimits;
use crate::http::id;
use crate::proxy;
use crate::proxy::access::{AccessLog, Format, Sink};
use crate::roster::{App, Availability, Board, Policy, Roster, Routes, Slot, Worker};
use crate::route::Tables;
use crate::server::accept::Arrival;
use crate::server::connection::Counted;
use crate::server::relay::Relays;
use crate::sys::allocations;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const CLIENTS: usize = 4;
/// Buffers, spare exchanges and connections to the worker are made in these rounds.
const ROUNDS_BEFORE: usize = 50;
const ROUNDS: usize = 500;
const REQUEST: &[u8] = b"GET /some/path?with=query HTTP/1.1\r\nHost: bench.test\r\n\
    User-Agent: a browser of some length/1.0\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

/// What the queue behind it does with a line is a copy into memory that is there.
struct Nowhere;

impl Sink for Nowhere {
    fn line(&self, line: &[u8]) {
        assert!(line.ends_with(b"}"));
    }
}

fn settings() -> proxy::Settings {
    let patience = Duration::from_secs(60);
    proxy::Settings {
        trusted_proxies: Vec::new(),
        head: HeadLimits::default(),
        body_bytes_max: 0,
        head_timeout: patience,
        body_timeout: patience,
        connect_timeout: patience,
        answer_timeout: patience,
        keepalive_timeout: patience,
        tunnel_idle_timeout: patience,
        write_timeout: patience,
        half_close_timeout: patience,
        upstream_idle_timeout: patience,
        requests_per_connection_max: 0,
        tunnels_max: 0,
        error_details: Default::default(),
        request_id_to_client: false,
        access: Some(AccessLog {
            format: Format::Json,
            query: true,
            sink: Arc::new(Nowhere),
        }),
    }
}

fn roster(socket: &Path) -> Roster {
    let worker = Worker {
        slot: Slot(0),
        life: 1,
        instance: 0,
        socket: Arc::from(socket),
        availability: Availability::Serving,
        drain: None,
        gauges: Arc::new(WorkerGauges::default()),
        door: None,
    };
    let app = App {
        name: "app".into(),
        routes: Some(Routes {
            path: String::new(),
            hosts: vec!["bench.test".to_owned()],
        }),
        policy: Policy::RoundRobin,
        affinity_cookie: None,
        session_cookies: Arc::new(["session".to_owned()]),
        answer_timeout: None,
        body_bytes_max: None,
        asleep: None,
        gauges: Default::default(),
        workers: vec![worker],
        turn: Arc::default(),
    };
    Roster { apps: vec![app] }
}

/// A head fits into one read here: everything is on one machine and short.
fn answer_all(mut stream: UnixStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
        if stream.write_all(ANSWER).is_err() {
            return;
        }
    }
}

fn round(clients: &mut [TcpStream]) {
    let mut buffer = [0; 4096];
    for client in &mut *clients {
        client.write_all(REQUEST).unwrap();
    }
    for client in clients {
        let mut have = 0;
        while !buffer[..have].ends_with(b"\r\n\r\nhello") {
            let count = client.read(&mut buffer[have..]).unwrap();
            assert!(count > 0, "closed after {have} bytes");
            have += count;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn requests_on_kept_connections_allocate_nothing() {
    let socket = std::env::temp_dir().join(format!("sk-steady-{}", std::process::id()));
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer_all(stream));
        }
    });
    let board = Arc::new(Board::default());
    board.publish(roster(&socket));
    let mailbox = Arc::new(Mailbox::new().unwrap());
    let shared = Shared {
        settings: Arc::new(settings()),
        front: Arc::default(),
        board,
        tables: Arc::new(Tables::new(1000)),
        relays: Arc::new(Relays::new(0, Duration::from_secs(60))),
        desk: Arc::new(Desk {
            mailboxes: vec![mailbox.clone()],
            front: Arc::default(),
            connections_max: 100,
            tally: None,
            turned_away: Arc::default(),
            closing: Default::default(),
        }),
        listeners: Vec::new(),
        run: id::Run::begin(),
    };
    let pool_thread = PoolThread::new(&shared, 0, mailbox.clone()).unwrap();
    let running = thread::spawn(move || {
        allocations::watch_this_thread();
        pool_thread.run();
    });

    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let gauges: Arc<FrontGauges> = Arc::default();
    let mut clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let client = TcpStream::connect(front.local_addr().unwrap()).unwrap();
            client
                .set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            let (accepted, address) = front.accept().unwrap();
            mailbox.deal(Arrival {
                socket: OwnedFd::from(accepted),
                address: Some(address),
                counted: Counted::new(gauges.clone(), None),
            });
            client
        })
        .collect();
    for _ in 0..ROUNDS_BEFORE {
        round(&mut clients);
    }
    let before = allocations::counted();
    for _ in 0..ROUNDS {
        round(&mut clients);
    }
    let made = allocations::counted() - before;

    mailbox.post(Message::Close);
    running.join().unwrap();
    let _ = std::fs::remove_file(&socket);
    assert!(before > 0, "the thread was not watched");
    assert_eq!(made, 0, "in {} requests", CLIENTS * ROUNDS);
}
