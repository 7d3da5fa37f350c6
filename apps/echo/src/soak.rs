//! `/soak`: the worker's side of the soak. The answer names the request it belongs to, the body it
//! got, and its own body's length and sum, so that the client can check everything. A request body
//! that looks complete and is not what its fields say is reported on stderr.

use crate::answer::{self, Flow};
use crate::connection::Connection;
use crate::pages::{Fate, pause, read_body};
use crate::request::Request;
use echo_wire::digest::Sha1;
use echo_wire::filler::filler;
use std::io::{self, Write};

/// `id`: the client's number for the exchange; `n`: bytes of the answer; `how`: length, chunked or
/// close; `ms`: before the answer; `gap`: before its second half.
pub fn soak(connection: &mut Connection, request: &mut Request) -> io::Result<Fate> {
    let id = request.number("id", 0);
    let (length, sum) = read_body(connection, request)?;
    let said = (request.field("x-length"), request.field("x-sum"));
    let got = length.to_string();
    if said != (Some(got.as_str()), Some(sum.as_str())) {
        eprintln!("soak: VIOLATION: request {id} says {said:?}, its body is {length} {sum}");
    }
    pause(request.number("ms", 0));
    let size = usize::try_from(request.number("n", 0)).unwrap_or(0);
    let body = filler(id, size);
    let mut own = Sha1::default();
    own.update(&body);
    let (id, size, own) = (id.to_string(), size.to_string(), own.finish_hex());
    let fields = [
        ("X-Id", id.as_str()),
        ("X-Length", &size),
        ("X-Sum", &own),
        ("X-Got-Length", &got),
        ("X-Got-Sum", &sum),
    ];
    let halves = body.split_at(body.len() / 2);
    let gap = request.number("gap", 0);
    match request.query("how") {
        Some("chunked") => {
            let mut flow = Flow::begin(connection, request, &fields)?;
            flow.piece(connection, halves.0)?;
            pause(gap);
            flow.piece(connection, halves.1)?;
            let keep = flow.end(connection, "")?;
            Ok(if keep { Fate::Keep } else { Fate::Close })
        }
        Some("close") => {
            let head = answer::head(200, &fields);
            write!(connection.output, "{head}Connection: close\r\n\r\n")?;
            if request.method != "HEAD" {
                connection.output.write_all(halves.0)?;
                pause(gap);
                connection.output.write_all(halves.1)?;
            }
            Ok(Fate::Close)
        }
        _ if gap > 0 && request.method != "HEAD" => {
            let head = answer::head(200, &fields);
            let keep = answer::keep_field(request);
            let length = body.len();
            write!(
                connection.output,
                "{head}Content-Length: {length}\r\n{keep}\r\n"
            )?;
            connection.output.write_all(halves.0)?;
            pause(gap);
            connection.output.write_all(halves.1)?;
            Ok(Fate::Keep)
        }
        _ => {
            answer::whole(connection, request, 200, &fields, &body)?;
            Ok(Fate::Keep)
        }
    }
}
