//! WebSocket frames (RFC 6455) for both roles: reading whole messages out of fragments, writing
//! frames masked or not, and the handshake's accept key.

use crate::digest::{Sha1, base64};
use std::io::{self, Read, Write};

/// Longest message that is put together from frames; a longer one ends the connection.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> io::Result<Opcode> {
        match bits {
            0 => Ok(Opcode::Continuation),
            1 => Ok(Opcode::Text),
            2 => Ok(Opcode::Binary),
            8 => Ok(Opcode::Close),
            9 => Ok(Opcode::Ping),
            10 => Ok(Opcode::Pong),
            other => Err(broken(format!("opcode {other} is reserved"))),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }

    fn is_control(self) -> bool {
        match self {
            Opcode::Close | Opcode::Ping | Opcode::Pong => true,
            Opcode::Continuation | Opcode::Text | Opcode::Binary => false,
        }
    }
}

/// Who we are: a client masks what it sends and must not get masked frames, a server the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Status (1005 if the peer gave none) and reason.
    Close(u16, Vec<u8>),
    /// The peer's stream ended between frames without a close frame.
    End,
}

/// Puts messages together. Control frames between fragments come out on their own.
pub struct Messages {
    role: Role,
    begun: Option<Opcode>,
    gathered: Vec<u8>,
}

impl Messages {
    pub fn new(role: Role) -> Messages {
        Messages {
            role,
            begun: None,
            gathered: Vec::new(),
        }
    }

    pub fn next(&mut self, from: &mut impl Read) -> io::Result<Message> {
        loop {
            let Some(frame) = read_frame(from, self.role)? else {
                return Ok(Message::End);
            };
            let opcode = match (frame.opcode, self.begun) {
                (Opcode::Ping, _) => return Ok(Message::Ping(frame.payload)),
                (Opcode::Pong, _) => return Ok(Message::Pong(frame.payload)),
                (Opcode::Close, _) => return Ok(close_message(frame.payload)),
                (Opcode::Continuation, Some(begun)) => begun,
                (Opcode::Continuation, None) => return Err(broken("continuation of nothing")),
                (Opcode::Text | Opcode::Binary, Some(_)) => {
                    return Err(broken("message inside a message"));
                }
                (opcode @ (Opcode::Text | Opcode::Binary), None) => opcode,
            };
            if self.gathered.len() + frame.payload.len() > MESSAGE_BYTES_MAX {
                return Err(broken("message too long"));
            }
            self.gathered.extend_from_slice(&frame.payload);
            if !frame.last {
                self.begun = Some(opcode);
                continue;
            }
            self.begun = None;
            let whole = std::mem::take(&mut self.gathered);
            return Ok(if opcode == Opcode::Text {
                Message::Text(whole)
            } else {
                Message::Binary(whole)
            });
        }
    }
}

fn close_message(payload: Vec<u8>) -> Message {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => Message::Close(u16::from_be_bytes(*code), reason.to_vec()),
        None => Message::Close(1005, Vec::new()),
    }
}

struct Frame {
    last: bool,
    opcode: Opcode,
    payload: Vec<u8>,
}

/// `None` when the stream ended before the first byte of a frame.
fn read_frame(from: &mut impl Read, role: Role) -> io::Result<Option<Frame>> {
    let mut first = [0; 1];
    loop {
        match from.read(&mut first) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let [second] = read_array(from)?;
    let [first] = first;
    let masked = second & 0x80 != 0;
    if masked != (role == Role::Server) {
        return Err(broken("mask bit is wrong for the peer's role"));
    }
    let length = match second & 0x7f {
        126 => u64::from(u16::from_be_bytes(read_array(from)?)),
        127 => u64::from_be_bytes(read_array(from)?),
        short => u64::from(short),
    };
    let opcode = Opcode::from_bits(first & 0x0f)?;
    let last = first & 0x80 != 0;
    if first & 0x70 != 0 {
        return Err(broken("reserved bits are set"));
    }
    if opcode.is_control() && (length > 125 || !last) {
        return Err(broken("control frame too long or fragmented"));
    }
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MESSAGE_BYTES_MAX);
    let length = length.ok_or_else(|| broken("frame too long"))?;
    let key: Option<[u8; 4]> = if masked {
        Some(read_array(from)?)
    } else {
        None
    };
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    if let Some(key) = key {
        mask(&mut payload, key);
    }
    Ok(Some(Frame {
        last,
        opcode,
        payload,
    }))
}

/// One frame, in one write, so that a test can tell what arrived together.
pub fn write_frame(
    to: &mut impl Write,
    role: Role,
    opcode: Opcode,
    last: bool,
    payload: &[u8],
) -> io::Result<()> {
    to.write_all(&frame_bytes(role, opcode, last, payload))
}

pub fn frame_bytes(role: Role, opcode: Opcode, last: bool, payload: &[u8]) -> Vec<u8> {
    let mask_bit = if role == Role::Client { 0x80 } else { 0 };
    let mut bytes = Vec::with_capacity(payload.len() + 14);
    bytes.push(opcode.bits() | if last { 0x80 } else { 0 });
    match payload.len() {
        short @ 0..126 => bytes.push(mask_bit | short as u8),
        medium @ 126..0x1_0000 => {
            bytes.push(mask_bit | 126);
            bytes.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(mask_bit | 127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    if role == Role::Client {
        // Not random: the peers of these programs are ours, and a test wants the same bytes twice.
        let key = [0x37, 0xfa, 0x21, 0x3d];
        bytes.extend_from_slice(&key);
        let start = bytes.len();
        bytes.extend_from_slice(payload);
        mask(&mut bytes[start..], key);
    } else {
        bytes.extend_from_slice(payload);
    }
    bytes
}

pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    payload
}

/// `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key`.
pub fn accept_key(key: &str) -> String {
    let mut sum = Sha1::default();
    sum.update(key.as_bytes());
    sum.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(&sum.finish())
}

fn mask(payload: &mut [u8], key: [u8; 4]) {
    for (byte, key) in payload.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

fn read_array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_key_of_the_rfc() {
        assert_eq!(
            accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn fragments_become_one_message_around_a_ping() {
        let mut bytes = frame_bytes(Role::Client, Opcode::Text, false, b"ab");
        bytes.extend(frame_bytes(Role::Client, Opcode::Ping, true, b"?"));
        bytes.extend(frame_bytes(Role::Client, Opcode::Continuation, true, b"cd"));
        let mut from = bytes.as_slice();
        let mut messages = Messages::new(Role::Server);
        assert_eq!(
            messages.next(&mut from).unwrap(),
            Message::Ping(b"?".to_vec())
        );
        assert_eq!(
            messages.next(&mut from).unwrap(),
            Message::Text(b"abcd".to_vec())
        );
        assert_eq!(messages.next(&mut from).unwrap(), Message::End);
    }

    #[test]
    fn lengths_travel() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![7; length];
            let bytes = frame_bytes(Role::Server, Opcode::Binary, true, &payload);
            let message = Messages::new(Role::Client)
                .next(&mut bytes.as_slice())
                .unwrap();
            assert_eq!(message, Message::Binary(payload), "{length} bytes");
        }
    }

    #[test]
    fn refusals() {
        let refused = |bytes: &[u8]| Messages::new(Role::Server).next(&mut &bytes[..]).is_err();
        assert!(refused(&frame_bytes(
            Role::Server,
            Opcode::Text,
            true,
            b"unmasked"
        )));
        assert!(refused(&frame_bytes(
            Role::Client,
            Opcode::Ping,
            false,
            b"fragmented"
        )));
        assert!(refused(&frame_bytes(
            Role::Client,
            Opcode::Continuation,
            true,
            b"of nothing"
        )));
        assert!(refused(&[0x83, 0x80, 0, 0, 0, 0]), "reserved opcode");
        assert!(
            refused(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
            "absurd length"
        );
        assert!(refused(&[0x82]), "cut");
    }
}
