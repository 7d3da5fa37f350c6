//! Chunked bodies: however they are cut into pieces, they come out the same; what is accepted a
//! naive reader accepts with the same payload; what is recoded reads as that payload again.

use crate::naive::{self, Read};
use crate::{Target, Verdict};
use echo_wire::filler::Dice;
use front::http::framing::{Decoder, Framing, transfer};

pub struct Chunks;

#[rustfmt::skip]
const DICTIONARY: &[&[u8]] = &[
    b"\r", b"\n", b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"1;a=\"b\"\r\nx\r\n", b";a", b"=", b"\"", b"\\",
    b"0x", b"+", b"-", b" ", b"\t", b"ffffffffffffffff", b"7fffffffffffffff", b"\0", b"A: b\r\n", b"0", b"00000000",
    b"Content-Length: 5\r\n", b"GET / HTTP/1.1\r\n", b";;", b"\"\r\n", b"a\r\n0123456789\r\n", b"A\r\n0123456789\r\n",
];

impl Target for Chunks {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let seeds: [&[u8]; 3] = [
            b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"1;a=b;c=\"d\"\r\nx\r\n0;e\r\nA: b\r\nC: d\r\n\r\n",
            b"00a\r\n0123456789\r\n2\r\n\r\n\r\n000\r\n\r\n0\r\n\r\n",
        ];
        seeds.map(<[u8]>::to_vec).to_vec()
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        DICTIONARY
    }

    fn run(&mut self, input: &[u8]) -> Verdict {
        let whole = decode(&[input]);
        let sum = input
            .iter()
            .fold(7u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
        let mut dice = Dice::new(sum);
        for widest in [1, 3, 9] {
            let (mut pieces, mut rest) = (Vec::new(), input);
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(1 + dice.roll(widest)));
                pieces.push(piece);
                rest = behind;
            }
            let cut = decode(&pieces);
            let same = match (&whole, &cut) {
                (Ok(one), Ok(other)) => (&one.0, one.2, one.3) == (&other.0, other.2, other.3),
                (Err(one), Err(other)) => one == other,
                _ => false,
            };
            if !same {
                return Err(format!("cut in pieces of {widest}: {whole:?}, {cut:?}"));
            }
        }
        let (payload, recoded, used, done) = match whole {
            Ok(decoded) => decoded,
            Err(malformed) => return Ok(malformed),
        };
        match naive::chunks(input) {
            Read::Whole((naive, taken)) if done => {
                if (naive.as_slice(), taken) != (payload.as_slice(), used) {
                    return Err(format!(
                        "{used} bytes, not {taken}: {}",
                        naive.escape_ascii()
                    ));
                }
            }
            Read::Part if !done => {}
            other => return Err(format!("done: {done}, but {other:?}")),
        }
        match naive::chunks(&recoded) {
            Read::Whole((again, taken)) if done && again == payload && taken == recoded.len() => {}
            Read::Part if !done => {}
            other => return Err(format!("recoded to {}: {other:?}", recoded.escape_ascii())),
        }
        Ok(format!("done {done}, {} bytes", payload.len().min(40)))
    }
}

/// Payload, the same as chunks, bytes used, and whether that was all.
type Decoded = Result<(Vec<u8>, Vec<u8>, usize, bool), String>;

fn decode(pieces: &[&[u8]]) -> Decoded {
    let mut plain = Decoder::new(Framing::Chunked);
    let mut chunked = Decoder::new(Framing::Chunked);
    let (mut payload, mut recoded, mut used) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        let taken = transfer(&mut plain, Framing::UntilClose, piece, &mut payload);
        let again = transfer(&mut chunked, Framing::Chunked, piece, &mut recoded);
        match (taken, again) {
            (Ok(taken), Ok(again)) if taken == again => used += taken,
            (Err(one), Err(other)) if one == other => return Err(format!("{one:?}")),
            (taken, again) => return Err(format!("VIOLATION {taken:?} {again:?}")),
        }
    }
    Ok((payload, recoded, used, plain.is_done()))
}
