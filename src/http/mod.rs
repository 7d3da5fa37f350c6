//! Bytes of HTTP/1.1, RFC 9110 and RFC 9112. No I/O: functions from bytes to values and back.

pub mod framing;
pub mod head;
pub mod reply;
