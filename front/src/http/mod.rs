//! Bytes of HTTP/1.1: RFC 9110 (semantics), RFC 9112 (messages) and RFC 6455 (WebSocket).
//!
//! This room reads and writes heads and bodies and nothing else: functions from bytes to values
//! and back, without I/O, clocks or state of its own, so any thread may call it. It is strict on
//! purpose. What it lets through, every strict parser behind us reads as the same message; what
//! could be read in two ways is refused. Where to send a request and when to close is left to
//! the rooms above.

pub mod date;
mod field;
pub mod forwarded;
pub mod framing;
pub mod head;
mod hop;
mod host;
pub mod id;
mod page;
mod refusal;
pub mod reply;
mod request;
mod response;
mod scan;
pub mod sniff;
mod target;

#[cfg(test)]
mod fuzz;
