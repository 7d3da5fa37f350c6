//! The little of WebSocket that both ends of the benchmark need: the handshake and whole frames.

use std::ops::Range;

pub const HANDSHAKE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [0x5a, 0x3c, 0x99, 0x0f];

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;

pub fn handshake(path: &str, host: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {HANDSHAKE_KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// One frame; `masked` as a client sends it.
pub fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 14);
    push_frame(&mut out, opcode, payload, masked);
    out
}

pub fn push_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], masked: bool) {
    let bit = if masked { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..126 => out.push(bit | len as u8),
        len @ 126..65536 => {
            out.push(bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    if masked {
        out.extend_from_slice(&MASK);
        out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    } else {
        out.extend_from_slice(payload);
    }
}

/// A frame at the beginning of some bytes: opcode, mask, and where its payload lies.
pub struct Frame {
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    pub payload: Range<usize>,
}

/// None: not all of it is there.
pub fn read_frame(bytes: &[u8]) -> Option<Frame> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (len, mut at) = match second & 0x7f {
        126 => (
            u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize,
            4,
        ),
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
            10,
        ),
        len => (usize::from(len), 2),
    };
    let mask = if second & 0x80 != 0 {
        at += 4;
        Some(bytes.get(at - 4..at)?.try_into().ok()?)
    } else {
        None
    };
    bytes.get(at..at + len)?;
    Some(Frame {
        opcode: first & 0x0f,
        mask,
        payload: at..at + len,
    })
}

/// Where a head ends, behind its blank line.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(at + 4)
}
