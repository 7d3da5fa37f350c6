//! The dashboard's listener, off unless it is asked for: metrics, health, readiness, and the page.
//! One request a connection, each under a deadline; GET only, but for `steer`. It is for operators and their tools,
//! on an address of its own, so it has threads of its own too: few, and none of them the pool's.

use crate::admin::page::{self, ASSETS, Latest};
use crate::admin::served::Served;
use crate::admin::{Shared, metrics, steer};
use crate::fleet::status::Condition;
use front::http::head::{self, HeadLimits, Method};
use front::sys::carried::Baton;
use log::{debug, warn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Connections at once, pages that stay open included. Beyond: 503.
const CONNECTIONS_MAX: usize = 32;
const HEAD_BYTES_MAX: usize = 8 << 10;
/// For a whole head, and for a body; for the client to take what is written.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two events.
const EVENT_EVERY: Duration = Duration::from_secs(1);
const STACK_BYTES: usize = 256 << 10;

/// The running listener.
pub struct Web(Served<TcpListener>);

impl Web {
    /// Of the listener, for the binary that takes over.
    pub fn baton(&self) -> Baton {
        self.0.baton()
    }

    pub fn start(listener: TcpListener, shared: Arc<Shared>) -> io::Result<Web> {
        let address = listener.local_addr()?;
        let closing = Arc::new(AtomicBool::new(false));
        let desk = Arc::new(Desk {
            shared,
            address,
            open: AtomicUsize::new(0),
            closing: Arc::clone(&closing),
            latest: Latest::default(),
        });
        let accept = |listener: &TcpListener| Ok(listener.accept()?.0);
        let each = move |stream| serve(stream, &desk);
        Served::start("dashboard", listener, closing, accept, each).map(Web)
    }
}

/// What the threads share.
struct Desk {
    shared: Arc<Shared>,
    address: SocketAddr,
    open: AtomicUsize,
    closing: Arc<AtomicBool>,
    latest: Latest,
}

fn serve(stream: TcpStream, desk: &Arc<Desk>) {
    let seat = Seat::take(desk.clone());
    let body = move || {
        if let Err(e) = answer(stream, seat.as_ref()) {
            debug!("dashboard: {e}");
        }
    };
    let named = thread::Builder::new().name("dashboard-client".to_owned());
    if let Err(e) = named.stack_size(STACK_BYTES).spawn(body) {
        warn!("the dashboard has no thread for a client: {e}");
    }
}

/// One of the connections; given back when it is over.
struct Seat(Arc<Desk>);

impl Seat {
    fn take(desk: Arc<Desk>) -> Option<Seat> {
        let taken = desk.open.fetch_add(1, Relaxed) < CONNECTIONS_MAX;
        let seat = Seat(desk);
        taken.then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

fn answer(mut stream: TcpStream, seat: Option<&Seat>) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_TIME_MAX))?;
    let Some(Seat(desk)) = seat else {
        return send(
            &mut stream,
            &Page::text(503, "the dashboard has too many clients\n"),
            false,
        );
    };
    let mut bytes = Vec::new();
    read_until(&mut stream, &mut bytes, |bytes| {
        bytes.len() > HEAD_BYTES_MAX || bytes.windows(4).any(|end| end == b"\r\n\r\n")
    })?;
    let limits = HeadLimits {
        head_bytes_max: HEAD_BYTES_MAX,
        ..HeadLimits::default()
    };
    let mut storage = head::fields();
    let request = match head::read_request(&bytes, &mut storage, &limits) {
        Ok(Some(request)) => request,
        Ok(None) => return Err(io::Error::from(ErrorKind::UnexpectedEof)),
        Err(refusal) => {
            let page = Page::text(refusal.status(), "this is not a request that can be read\n");
            return send(&mut stream, &page, false);
        }
    };
    let head_only = matches!(request.method, Method::Head);
    if !welcome(request.host, desk.address.ip()) {
        let text =
            "ask by the address or as localhost: another name could be a trick of a web page\n";
        return send(&mut stream, &Page::text(403, text), head_only);
    }
    if matches!(request.method, Method::Post) && request.path == "/do" {
        // All of it, whatever comes of it: an end before that would be a reset, which may overtake us.
        let mut body = bytes.get(request.len..).unwrap_or_default().to_vec();
        let asked = steer::body_length(&request).and_then(|length| {
            let complete = |body: &[u8]| body.len() >= length;
            let read = read_until(&mut stream, &mut body, complete);
            read.map_err(|_| (400, "the command did not come\n"))?;
            steer::understand(&desk.shared, &request, &body)
        });
        return match asked {
            Ok(ask) => steer::run(&desk.shared, &ask, stream, FIELDS),
            Err((status, text)) => send(&mut stream, &Page::text(status, text), false),
        };
    }
    if !head_only && !matches!(request.method, Method::Get) {
        let text = "GET is all that there is, and POST to /do\n";
        return send(&mut stream, &Page::text(405, text), false);
    }
    let page = match request.path {
        "/metrics" => Page {
            kind: "text/plain; version=0.0.4; charset=utf-8",
            ..Page::text(200, metrics::text(&desk.shared))
        },
        "/healthz" => Page::text(200, "ok\n"),
        "/readyz" => ready(&desk.shared),
        "/status.json" => Page::json(desk.latest.status(&desk.shared).as_bytes()),
        "/history.json" => Page::json(page::past(&desk.shared)),
        "/events" if !head_only => return stream_events(&mut stream, desk),
        path => match ASSETS.iter().find(|asset| asset.path == path) {
            Some(asset) => Page {
                kind: asset.kind,
                ..Page::text(200, asset.text)
            },
            None => Page::text(404, "there are /, /metrics, /healthz and /readyz\n"),
        },
    };
    send(&mut stream, &page, head_only)
}

/// The status once a second, until the client leaves or we end.
fn stream_events(stream: &mut TcpStream, desk: &Desk) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{FIELDS}\r\n");
    stream.write_all(head.as_bytes())?;
    // Asks the browser to come back after this long when the connection is lost.
    stream.write_all(b"retry: 2000\n\n")?;
    while !desk.closing.load(Relaxed) {
        let status = desk.latest.status(&desk.shared);
        stream.write_all(format!("event: status\ndata: {status}\n\n").as_bytes())?;
        thread::sleep(EVENT_EVERY);
    }
    Ok(())
}

/// Reads until that is enough, the client ends, or the deadline.
fn read_until(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    enough: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let deadline = Instant::now() + HEAD_TIME_MAX;
    let mut buffer = [0; 2048];
    while !enough(bytes) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(ErrorKind::TimedOut));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Whether a request with this `Host` may be meant for us. A page of any site can have its own name
/// point to 127.0.0.1 and then read what is served there, unless the name is looked at.
fn welcome(host: &str, ours: IpAddr) -> bool {
    if !ours.is_loopback() {
        return true;
    }
    let name = match host.strip_prefix('[') {
        Some(inner) => inner.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || name.parse::<Ipv6Addr>().is_ok()
}

/// Ready: every app has a ready worker, and we are not stopping.
fn ready(shared: &Shared) -> Page {
    if shared.instance.stopping.load(Relaxed) {
        return Page::text(503, "stopping\n");
    }
    let statuses = shared.instance.fleet.snapshot();
    let roster = shared.instance.board.latest();
    let scales = shared.instance.fleet.scales();
    let off = scales.into_iter().filter(|scale| scale.max == 0);
    let off: Vec<_> = off.map(|scale| scale.app).collect();
    let waits: Vec<&str> = roster
        .apps
        .iter()
        // One that a reload has removed need not be ready.
        .filter(|app| app.routes.is_some())
        // One that sleeps serves whoever asks; one that was scaled to nothing is to serve nobody.
        .filter(|app| app.asleep.is_none() && !off.contains(&app.name))
        .map(|app| &*app.name)
        .filter(|app| {
            !statuses
                .iter()
                .any(|status| *status.app == **app && status.condition == Condition::Ready)
        })
        .collect();
    match waits.is_empty() {
        true => Page::text(200, "ready\n"),
        false => Page::text(503, format!("no ready worker: {}\n", waits.join(", "))),
    }
}

struct Page {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
}

impl Page {
    fn text(status: u16, body: impl Into<Vec<u8>>) -> Page {
        Page {
            status,
            kind: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }
}

impl Page {
    fn json(body: impl Into<Vec<u8>>) -> Page {
        Page {
            kind: "application/json",
            ..Page::text(200, body)
        }
    }
}

/// What every answer says: nothing is kept, nothing from elsewhere is loaded, nobody frames us.
const FIELDS: &str = "Cache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: no-referrer\r\n\
    Content-Security-Policy: default-src 'self'; frame-ancestors 'none'; base-uri 'none'\r\n\
    Connection: close\r\n";

fn send(stream: &mut TcpStream, page: &Page, head_only: bool) -> io::Result<()> {
    let reason = match page.status {
        200 => "OK",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        503 => "Service Unavailable",
        _ => "Bad Request",
    };
    let mut bytes = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{FIELDS}\r\n",
        page.status,
        page.kind,
        page.body.len()
    )
    .into_bytes();
    if !head_only {
        bytes.extend_from_slice(&page.body);
    }
    stream.write_all(&bytes)?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_strangers_are_refused_on_loopback_only() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        for host in [
            "",
            "localhost:8001",
            "LOCALHOST",
            "127.0.0.1:8001",
            "[::1]:8001",
            "10.0.0.1",
        ] {
            assert!(welcome(host, loopback), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8001",
            "127.0.0.1.nip.io",
        ] {
            assert!(!welcome(host, loopback), "{host}");
            assert!(welcome(host, [10, 0, 0, 1].into()));
        }
    }
}
