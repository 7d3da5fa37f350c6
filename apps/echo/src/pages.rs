//! What each page of the echo app answers. The last segment of the path chooses the page, so the
//! app works under any mount point; `PAGES` is the list that people and tests read.

use crate::answer::{self, Flow, WORKER};
use crate::connection::{COUNTS, Connection};
use crate::request::Request;
use crate::soak;
use crate::websocket;
use echo_wire::digest::Sha1;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What becomes of the connection after an answer; the request may still want it closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Keep,
    Close,
}

const PAGES: &str = "\
/pages                  this list
/pid                    process id
/who                    app, instance and process id
/stats                  connections, open, requests, left (clients that went before the end)
/headers                the request head as it came
/upload                 length and SHA-1 of the body
/duplex                 the body, each piece sent back as it comes
/reply-early            answers before it reads the body; then=close leaves the body unread
/slow?ms=               answers after ms
/hang                   never answers; ends when the client does
/stream?n=&ms=          n lines, ms apart, chunked
/sse?n=&ms=             the same as server-sent events (n=0: for ever)
/bytes?n=               n bytes with a length: lines of 15 digits, as `seq -f %015.0f 0 N` prints
/chunked?n=&size=       the same bytes in chunks of size; trailer=1 adds a trailer field
/close?n=               the same bytes, ended by closing
/short?n=&sent=         says n bytes, sends fewer, closes
/status?code=&field=    any status; field=Name:%20value repeatable, body=text
/early-hints            103, then 200
/soak?id=&n=&how=&ms=&gap=  an answer that describes itself and what it answers
/login /whoami          sets the cookie `session`, tells whether this process knows it
/log?text=&to=          prints a line to stdout or stderr
/die?how=&code=         before, head, mid or after the answer
/raw?hex=&text=         exactly these bytes, then closes; ms= between pieces given by repeating
/ws?push=&greet=        WebSocket echo; refuse=403 refuses the upgrade
/tunnel?greet=          echo of raw bytes after 101
anything else           method, target, head and body as they were understood
";

pub fn answer(connection: &mut Connection, request: &mut Request) -> io::Result<Fate> {
    pause(request.number("delay", 0));
    match request.page.clone().as_str() {
        "pages" => answer::text(connection, request, PAGES)?,
        "pid" => answer::text(connection, request, &format!("{}\n", WORKER.pid))?,
        "who" => {
            let who = format!(
                "app={} instance={} pid={}\n",
                WORKER.app, WORKER.instance, WORKER.pid
            );
            answer::text(connection, request, &who)?;
        }
        "stats" => stats(connection, request)?,
        "headers" => {
            let head = request.head.clone();
            answer::whole(
                connection,
                request,
                200,
                &[("Content-Type", "text/plain")],
                &head,
            )?;
        }
        "upload" => {
            let (length, sum) = read_body(connection, request)?;
            answer::text(connection, request, &format!("{length} {sum}\n"))?;
        }
        "duplex" => return duplex(connection, request),
        "reply-early" => return reply_early(connection, request),
        "slow" => {
            pause(request.number("ms", 1000));
            answer::text(connection, request, "slow but here\n")?;
        }
        "hang" => return hang(connection),
        "stream" => return stream(connection, request),
        "sse" => return events(connection, request),
        "bytes" => bytes(connection, request)?,
        "chunked" => return chunked(connection, request),
        "close" => return until_close(connection, request),
        "short" => return short(connection, request),
        "status" => status(connection, request)?,
        "early-hints" => {
            connection.output.write_all(
                b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
            )?;
            pause(request.number("ms", 0));
            answer::text(connection, request, "after the hints\n")?;
        }
        "soak" => return soak::soak(connection, request),
        "login" => login(connection, request)?,
        "whoami" => whoami(connection, request)?,
        "log" => log(connection, request)?,
        "die" => die(connection, request)?,
        "raw" => return raw(connection, request),
        "ws" => return websocket::websocket(connection, request),
        "tunnel" => return websocket::tunnel(connection, request),
        _ => echo(connection, request)?,
    }
    Ok(Fate::Keep)
}

pub fn pause(ms: u64) {
    if ms > 0 {
        thread::sleep(Duration::from_millis(ms));
    }
}

fn echo(connection: &mut Connection, request: &mut Request) -> io::Result<()> {
    let (length, sum) = read_body(connection, request)?;
    let head = String::from_utf8_lossy(&request.head).replace("\r\n", "\n");
    let worker = &*WORKER;
    let text = format!(
        "{}\nbody {length} bytes sha1 {sum}\nworker app={} instance={} pid={}\n",
        head.trim_end(),
        worker.app,
        worker.instance,
        worker.pid
    );
    answer::text(connection, request, &text)
}

/// Length and SHA-1 of the request's body.
pub fn read_body(connection: &mut Connection, request: &mut Request) -> io::Result<(u64, String)> {
    let mut sum = Sha1::default();
    let mut length = 0;
    let pace = request.number("pace", 0);
    while let Some(piece) = request.piece(connection)? {
        length += piece.len() as u64;
        sum.update(&piece);
        pause(pace);
    }
    Ok((length, sum.finish_hex()))
}

fn stats(connection: &mut Connection, request: &Request) -> io::Result<()> {
    let text = format!(
        "connections {}\nopen {}\nrequests {}\nleft {}\n",
        COUNTS.connections.load(Relaxed),
        COUNTS.open.load(Relaxed),
        COUNTS.requests.load(Relaxed),
        COUNTS.left.load(Relaxed)
    );
    answer::text(connection, request, &text)
}

fn duplex(connection: &mut Connection, request: &mut Request) -> io::Result<Fate> {
    // The first piece is read before the head is written: `100 Continue` must not come after it.
    let mut next = request.piece(connection)?;
    let mut flow = Flow::begin(connection, request, &[("Content-Type", "text/plain")])?;
    while let Some(piece) = next {
        flow.piece(connection, &piece)?;
        next = request.piece(connection)?;
    }
    end(flow, connection, "")
}

fn reply_early(connection: &mut Connection, request: &mut Request) -> io::Result<Fate> {
    answer::whole(
        connection,
        request,
        request.number("code", 200),
        &[],
        b"early\n",
    )?;
    if request.query("then") == Some("close") {
        connection.output.shutdown(Shutdown::Both)?;
        return Ok(Fate::Close);
    }
    // A client that still waits for `100 Continue` may or may not send its body now.
    Ok(if request.waits_for_continue() {
        Fate::Close
    } else {
        Fate::Keep
    })
}

fn hang(connection: &mut Connection) -> io::Result<Fate> {
    let mut bytes = [0; 1024];
    while connection.input.read(&mut bytes)? > 0 {}
    // The client gave up: it counts as one that left.
    Err(io::ErrorKind::BrokenPipe.into())
}

fn stream(connection: &mut Connection, request: &Request) -> io::Result<Fate> {
    let mut flow = Flow::begin(connection, request, &[("Content-Type", "text/plain")])?;
    for i in 0..request.number("n", 10) {
        if i > 0 {
            pause(request.number("ms", 100));
        }
        flow.piece(connection, format!("line {i}\n").as_bytes())?;
    }
    end(flow, connection, "")
}

fn events(connection: &mut Connection, request: &Request) -> io::Result<Fate> {
    let fields = [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-store"),
    ];
    let mut flow = Flow::begin(connection, request, &fields)?;
    let count = request.number("n", 0);
    for i in 0u64.. {
        if count > 0 && i == count {
            break;
        }
        if i > 0 {
            pause(request.number("ms", 100));
        }
        flow.piece(
            connection,
            format!("id: {i}\ndata: event {i}\n\n").as_bytes(),
        )?;
    }
    end(flow, connection, "")
}

fn end(flow: Flow, connection: &mut Connection, trailers: &str) -> io::Result<Fate> {
    Ok(if flow.end(connection, trailers)? {
        Fate::Keep
    } else {
        Fate::Close
    })
}

/// The endless text of `/bytes`: each 16-byte line says its own number, so that a hole shows.
fn pattern(from: u64, length: u64) -> impl Iterator<Item = Vec<u8>> {
    const PIECE: u64 = 64 << 10;
    (0..length.div_ceil(PIECE)).map(move |i| {
        let start = from + i * PIECE;
        let end = (from + length).min(start + PIECE);
        let lines = start / 16..end.div_ceil(16);
        let text: String = lines.map(|line| format!("{line:015}\n")).collect();
        let skipped = (start % 16) as usize;
        text.as_bytes()[skipped..skipped + (end - start) as usize].to_vec()
    })
}

fn bytes(connection: &mut Connection, request: &Request) -> io::Result<()> {
    let count = request.number("n", 1000);
    let mut head = answer::head(200, &[("Content-Type", "text/plain")]);
    head += &format!(
        "Content-Length: {count}\r\n{}\r\n",
        answer::keep_field(request)
    );
    let mut waiting = head.into_bytes();
    if request.method != "HEAD" {
        for piece in pattern(0, count) {
            waiting.extend_from_slice(&piece);
            connection.output.write_all(&waiting)?;
            waiting.clear();
            pause(request.number("ms", 0));
        }
    }
    connection.output.write_all(&waiting)
}

fn chunked(connection: &mut Connection, request: &Request) -> io::Result<Fate> {
    let trailer = request.query("trailer").is_some();
    let mut fields = vec![("Content-Type", "text/plain")];
    if trailer {
        fields.push(("Trailer", "X-Sum"));
    }
    let mut flow = Flow::begin(connection, request, &fields)?;
    let size = request.number("size", 1000).max(1) as usize;
    for piece in pattern(0, request.number("n", 10_000)) {
        for chunk in piece.chunks(size) {
            flow.piece(connection, chunk)?;
            pause(request.number("ms", 0));
        }
    }
    end(
        flow,
        connection,
        if trailer { "X-Sum: all\r\n" } else { "" },
    )
}

fn until_close(connection: &mut Connection, request: &Request) -> io::Result<Fate> {
    let head = answer::head(
        200,
        &[("Content-Type", "text/plain"), ("Connection", "close")],
    );
    write!(connection.output, "{head}\r\n")?;
    if request.method != "HEAD" {
        for piece in pattern(0, request.number("n", 1000)) {
            connection.output.write_all(&piece)?;
        }
    }
    Ok(Fate::Close)
}

fn short(connection: &mut Connection, request: &Request) -> io::Result<Fate> {
    let said = request.number("n", 1000);
    let head = answer::head(200, &[]);
    write!(connection.output, "{head}Content-Length: {said}\r\n\r\n")?;
    for piece in pattern(0, request.number("sent", said / 2)) {
        connection.output.write_all(&piece)?;
    }
    Ok(Fate::Close)
}

fn status(connection: &mut Connection, request: &Request) -> io::Result<()> {
    let fields: Vec<(&str, &str)> = request
        .queries("field")
        .filter_map(|field| field.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
        .collect();
    let body = request.query("body").unwrap_or("as asked\n");
    answer::whole(
        connection,
        request,
        request.number("code", 200),
        &fields,
        body.as_bytes(),
    )
}

/// Sessions that live in this process alone, as an ordinary app without a session store has them.
static SESSIONS: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

fn login(connection: &mut Connection, request: &Request) -> io::Result<()> {
    let mut sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let session = format!("s-{}-{}", WORKER.pid, sessions.len());
    sessions.insert(session.clone());
    drop(sessions);
    let name = request.query("name").unwrap_or("session");
    let cookie = format!("{name}={session}; Path=/; HttpOnly");
    answer::whole(
        connection,
        request,
        200,
        &[("Set-Cookie", &cookie)],
        format!("{session}\n").as_bytes(),
    )
}

fn whoami(connection: &mut Connection, request: &Request) -> io::Result<()> {
    let name = request.query("name").unwrap_or("session");
    let cookies = request.field("cookie").unwrap_or_default().split(';');
    let session = cookies
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(n, _)| *n == name);
    let sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = session.is_some_and(|(_, value)| sessions.contains(value));
    drop(sessions);
    match known {
        true => answer::text(connection, request, "known\n"),
        false => answer::whole(connection, request, 401, &[], b"unknown\n"),
    }
}

fn log(connection: &mut Connection, request: &Request) -> io::Result<()> {
    let text = request.query("text").unwrap_or("a line");
    match request.query("to") {
        Some("stderr") => eprintln!("{text}"),
        _ => println!("{text}"),
    }
    answer::text(connection, request, "logged\n")
}

fn die(connection: &mut Connection, request: &Request) -> io::Result<()> {
    match request.query("how").unwrap_or("before") {
        "head" => connection
            .output
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Le")?,
        "mid" => {
            let head = answer::head(200, &[]);
            write!(
                connection.output,
                "{head}Content-Length: 1000\r\n\r\n{}",
                "x".repeat(500)
            )?;
        }
        "after" | "exit" => answer::text(connection, request, "goodbye\n")?,
        _ => {}
    }
    eprintln!("echo: dying as asked");
    std::process::exit(i32::try_from(request.number("code", 1)).unwrap_or(1))
}

fn raw(connection: &mut Connection, request: &Request) -> io::Result<Fate> {
    let pieces = request
        .queries("hex")
        .map(from_hex)
        .chain(request.queries("text").map(|t| t.as_bytes().to_vec()));
    for (i, piece) in pieces.enumerate() {
        if i > 0 {
            pause(request.number("ms", 0));
        }
        connection.output.write_all(&piece)?;
    }
    Ok(if request.query("keep").is_some() {
        Fate::Keep
    } else {
        Fate::Close
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks_exact(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_the_same_wherever_it_begins() {
        let all: Vec<u8> = pattern(0, 200_000).flatten().collect();
        assert_eq!(all.len(), 200_000);
        assert_eq!(&all[..32], b"000000000000000\n000000000000001\n");
        let part: Vec<u8> = pattern(70_001, 9).flatten().collect();
        assert_eq!(part, &all[70_001..70_010]);
    }

    #[test]
    fn hex_is_read_in_pairs() {
        assert_eq!(from_hex("00fF7"), [0, 255]);
    }
}
