//! `/ws`: echoes messages, and obeys text messages that begin with a slash. `/tunnel`: echoes raw
//! bytes after `101`, for protocols that are not WebSocket. Both answer after the client's end of
//! stream, so that a test sees that half-closing travelled through and back.

use crate::answer::{self, WORKER};
use crate::connection::Connection;
use crate::pages::{Fate, pause};
use crate::request::Request;
use echo_wire::frames::{
    Message, Messages, Opcode, Role, accept_key, close_payload, frame_bytes, write_frame,
};
use echo_wire::wire::Stream;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The writing half, shared by the echo and the pusher.
type Writer = Arc<Mutex<Stream>>;

pub fn websocket(connection: &mut Connection, request: &Request) -> io::Result<Fate> {
    if let Some(status) = request.query("refuse") {
        let status = status.parse().unwrap_or(403);
        answer::whole(
            connection,
            request,
            status,
            &[("X-Refused", "yes")],
            b"upgrade refused\n",
        )?;
        return Ok(Fate::Keep);
    }
    let key = request
        .field("sec-websocket-key")
        .filter(|_| request.has_token("upgrade", "websocket"));
    let Some(key) = key else {
        let fields = [("Upgrade", "websocket"), ("Connection", "upgrade")];
        answer::whole(
            connection,
            request,
            426,
            &fields,
            b"this page speaks WebSocket\n",
        )?;
        return Ok(Fate::Keep);
    };
    let accept = accept_key(key);
    let mut fields = vec![
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", &accept),
    ];
    if let Some(offers) = request.field("sec-websocket-protocol") {
        let first = offers.split(',').next().unwrap_or(offers).trim();
        fields.push(("Sec-WebSocket-Protocol", first));
    }
    let mut opening = answer::head(101, &fields).into_bytes();
    opening.extend_from_slice(b"\r\n");
    if let Some(greeting) = request.query("greet") {
        // Together with the head in one write: these bytes must not be lost.
        opening.extend(frame_bytes(
            Role::Server,
            Opcode::Text,
            true,
            greeting.as_bytes(),
        ));
    }
    connection.output.write_all(&opening)?;
    let writer: Writer = Arc::new(Mutex::new(connection.output.try_clone()?));
    let over = Arc::new(AtomicBool::new(false));
    if let Some(every) = request.query("push") {
        push(
            every.parse().unwrap_or(1000),
            Arc::clone(&writer),
            Arc::clone(&over),
        );
    }
    let outcome = talk(connection, &writer);
    over.store(true, Relaxed);
    outcome.map(|()| Fate::Close)
}

fn talk(connection: &mut Connection, writer: &Writer) -> io::Result<()> {
    let mut messages = Messages::new(Role::Server);
    let mut count = 0u64;
    loop {
        match messages.next(&mut connection.input) {
            Ok(Message::Text(text)) => {
                count += 1;
                match std::str::from_utf8(&text)
                    .ok()
                    .and_then(|text| text.strip_prefix('/'))
                {
                    Some(order) => {
                        if obey(order, connection, writer)? {
                            return Ok(());
                        }
                    }
                    None => send(writer, Opcode::Text, &text)?,
                }
            }
            Ok(Message::Binary(bytes)) => {
                count += 1;
                send(writer, Opcode::Binary, &bytes)?;
            }
            Ok(Message::Ping(payload)) => send(writer, Opcode::Pong, &payload)?,
            Ok(Message::Pong(_)) => {}
            Ok(Message::Close(code, _)) => {
                let code = if code == 1005 { 1000 } else { code };
                return send(writer, Opcode::Close, &close_payload(code, ""));
            }
            Ok(Message::End) => {
                send(
                    writer,
                    Opcode::Text,
                    format!("end of stream after {count} messages").as_bytes(),
                )?;
                return send(writer, Opcode::Close, &close_payload(1000, ""));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return send(
                    writer,
                    Opcode::Close,
                    &close_payload(1002, &error.to_string()),
                );
            }
            Err(error) => return Err(error),
        }
    }
}

/// An order is a word and a number or text. True if the connection is over.
fn obey(order: &str, connection: &mut Connection, writer: &Writer) -> io::Result<bool> {
    let (word, rest) = order.split_once(' ').unwrap_or((order, ""));
    match word {
        "who" => {
            let worker = &*WORKER;
            let text = format!(
                "app={} instance={} pid={}",
                worker.app, worker.instance, worker.pid
            );
            send(writer, Opcode::Text, text.as_bytes())?;
        }
        "burst" => {
            for i in 0..rest.parse().unwrap_or(100u64) {
                send(writer, Opcode::Text, format!("burst {i}").as_bytes())?;
            }
        }
        "bytes" => send(
            writer,
            Opcode::Binary,
            &vec![b'x'; rest.parse().unwrap_or(0)],
        )?,
        "ping" => send(writer, Opcode::Ping, rest.as_bytes())?,
        "fragments" => {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            write_frame(&mut *writer, Role::Server, Opcode::Text, false, b"one ")?;
            write_frame(
                &mut *writer,
                Role::Server,
                Opcode::Continuation,
                false,
                b"two ",
            )?;
            write_frame(
                &mut *writer,
                Role::Server,
                Opcode::Continuation,
                true,
                b"three",
            )?;
        }
        "close" => {
            let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            send(
                writer,
                Opcode::Close,
                &close_payload(code.parse().unwrap_or(1000), reason),
            )?;
            return Ok(true);
        }
        "shut" => connection.output.shutdown(Shutdown::Write)?,
        "drop" => return Ok(true),
        "die" => std::process::exit(rest.parse().unwrap_or(1)),
        _ => send(
            writer,
            Opcode::Text,
            format!("unknown order {word}").as_bytes(),
        )?,
    }
    Ok(false)
}

fn push(every_ms: u64, writer: Writer, over: Arc<AtomicBool>) {
    thread::spawn(move || {
        for i in 0u64.. {
            pause(every_ms);
            let text = format!("push {i}");
            if over.load(Relaxed) || send(&writer, Opcode::Text, text.as_bytes()).is_err() {
                return;
            }
        }
    });
}

fn send(writer: &Writer, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
    let mut stream = writer.lock().unwrap_or_else(PoisonError::into_inner);
    write_frame(&mut *stream, Role::Server, opcode, true, payload)
}

pub fn tunnel(connection: &mut Connection, request: &Request) -> io::Result<Fate> {
    let Some(protocol) = request.field("upgrade") else {
        answer::whole(
            connection,
            request,
            426,
            &[("Connection", "upgrade")],
            b"ask for an upgrade\n",
        )?;
        return Ok(Fate::Keep);
    };
    let mut opening = answer::head(101, &[("Upgrade", protocol), ("Connection", "Upgrade")]);
    opening += "\r\n";
    opening += request.query("greet").unwrap_or_default();
    connection.output.write_all(opening.as_bytes())?;
    let mut total = 0;
    let mut bytes = [0; 16 << 10];
    loop {
        let got = connection.input.read(&mut bytes)?;
        if got == 0 {
            break;
        }
        total += got;
        connection.output.write_all(&bytes[..got])?;
    }
    write!(connection.output, "\nend of stream after {total} bytes\n")?;
    Ok(Fate::Close)
}
