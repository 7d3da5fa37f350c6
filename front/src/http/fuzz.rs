//! Mutated heads and bodies against the promises of this room, the same ones every time.
//!
//! Accepted means forwarded: what is written is taken apart here by a second, naive reader, which
//! knows the grammar and nothing of the code under test, and must read as what was decided.

use super::field::is_token;
use super::framing::{Decoder, Framing, Malformed, transfer};
use super::head::{
    Asked, ClientSide, Delivery, HeadLimits, Version, fields, read_request, read_response,
};

const ROUNDS: u32 = 30_000;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides.max(1)
    }

    fn pick<'a>(&mut self, from: &[&'a [u8]]) -> &'a [u8] {
        from[self.roll(from.len())]
    }

    /// Changes a few places: bytes replaced, removed, inserted from the dictionary, or repeated.
    fn mutate(&mut self, bytes: &mut Vec<u8>, dictionary: &[&[u8]]) {
        for _ in 0..self.roll(4) {
            let at = self.roll(bytes.len() + 1);
            let end = (at + self.roll(8)).min(bytes.len());
            match self.roll(5) {
                0 => drop(bytes.drain(at..end)),
                1 => drop(bytes.splice(at..at, self.pick(dictionary).iter().copied())),
                2 => drop(bytes.splice(at..end, self.pick(dictionary).iter().copied())),
                3 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
                _ => {
                    let byte = self.roll(256) as u8;
                    if let Some(place) = bytes.get_mut(at) {
                        *place = byte;
                    }
                }
            }
        }
    }
}

/// Lines of a head that ends with `bytes`, by the letter of RFC 9112 and nothing more.
fn lines(bytes: &[u8]) -> (String, Vec<(String, Vec<u8>)>) {
    let head = bytes
        .strip_suffix(b"\r\n\r\n")
        .expect("ends with a blank line");
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut rest = head.iter().peekable();
    while let Some(byte) = rest.next() {
        if *byte == b'\r' {
            assert_eq!(rest.next(), Some(&b'\n'), "a bare CR");
            rows.push(std::mem::take(&mut row));
        } else {
            assert!(
                *byte == b'\t' || (*byte >= 32 && *byte != 127),
                "control {byte}"
            );
            row.push(*byte);
        }
    }
    rows.push(row);
    let start = String::from_utf8(rows.remove(0)).expect("an ASCII start line");
    let fields = rows.into_iter().map(|row| {
        let colon = row.iter().position(|byte| *byte == b':').expect("a colon");
        assert!(is_token(&row[..colon]), "a name: {}", row.escape_ascii());
        let name = String::from_utf8_lossy(&row[..colon]).to_ascii_lowercase();
        (name, row[colon + 1..].trim_ascii().to_vec())
    });
    (start, fields.collect())
}

fn values<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    let named = fields.iter().filter(|field| field.0 == name);
    named.map(|field| field.1.as_slice()).collect()
}

/// The framing fields say exactly what was decided.
fn assert_framed(fields: &[(String, Vec<u8>)], framing: Framing) {
    let lengths = values(fields, "content-length");
    let codings = values(fields, "transfer-encoding");
    match framing {
        Framing::Empty | Framing::UntilClose => assert!(lengths.is_empty() && codings.is_empty()),
        Framing::Length(length) => {
            assert_eq!(lengths, [length.to_string().as_bytes()]);
            assert!(codings.is_empty());
        }
        Framing::Chunked => {
            assert_eq!(codings, [b"chunked"]);
            assert!(lengths.is_empty());
        }
    }
}

#[rustfmt::skip]
const DICTIONARY: &[&[u8]] = &[
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b"\x0b", b"\x7f", b"\xff", b":", b",",
    b";", b"\"", b"Host: i\r\n", b"Content-Length: 5\r\n", b"Content-Length: +5\r\n",
    b"content-length:5,5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"transfer_encoding: chunked\r\n",
    b"Transfer-Encoding:\tidentity\r\n", b"Transfer-Encoding : chunked\r\n", b" folded\r\n",
    b"Connection: host, content-length, transfer-encoding\r\n", b"Connection: upgrade, x-a\r\n",
    b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"X-Forwarded-For: 6.6.6.6\r\n",
    b"X_Sidekeeper_Client: 6.6.6.6 6\r\n", b"Via: 1.0 x\r\n", b"Max-Forwards: 3\r\n",
    b"TE: trailers\r\n", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"http://i", b"*", b"?", b"#",
    b"%", b"%00", b"@", b"[::1]", b"GET / HTTP/1.1\r\n", b"\xc3\xa9", b"101", b"204",
    b"Date: x\r\n", b"close", b"keep-alive",
];

#[test]
fn what_is_forwarded_reads_as_what_was_decided() {
    let seeds: [&[u8]; 7] = [
        b"GET /a/b?sid=c&t=d HTTP/1.1\r\nHost: h.example:80\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
        b"PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
        b"GET /w HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
        b"OPTIONS http://h:80 HTTP/1.1\r\nHost: h:80\r\nMax-Forwards: 2\r\nConnection: x-a, close\r\nX-A: b\r\n\r\n",
        b"POST / HTTP/1.0\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx",
        b"\r\nTRACE / HTTP/1.1\r\nhost:h\r\nVia: 1.1 a\r\n\r\n",
    ];
    let limits = HeadLimits {
        head_bytes_max: 600,
        head_fields_max: 12,
        target_bytes_max: 60,
    };
    let from = ClientSide::direct(Some(([9, 8, 7, 6], 5).into()));
    let mut dice = Dice(0x5eed_0001);
    let mut accepted = 0;
    let mut out = Vec::new();
    for _ in 0..ROUNDS {
        let mut bytes = dice.pick(&seeds).to_vec();
        dice.mutate(&mut bytes, DICTIONARY);
        let mut storage = fields();
        let Ok(Some(request)) = read_request(&bytes, &mut storage, &limits) else {
            continue;
        };
        accepted += 1;
        out.clear();
        request.write_for_worker(&mut out, &from, b"");
        let (start, lines) = lines(&out);
        let target = match request.query {
            Some(query) => format!("{}?{query}", request.path),
            None => request.path.to_owned(),
        };
        assert_eq!(
            start,
            format!("{} {target} HTTP/1.1", request.method.as_str())
        );
        assert!(
            target
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        );
        assert_framed(&lines, request.framing);
        let host = if request.host.is_empty() {
            "localhost"
        } else {
            request.host
        };
        assert_eq!(values(&lines, "host"), [host.as_bytes()]);
        assert_eq!(values(&lines, "x-forwarded-for"), [b"9.8.7.6"]);
        assert_eq!(values(&lines, "x-sidekeeper-client"), [b"9.8.7.6 5"]);
        assert!(
            values(&lines, "via")
                .last()
                .is_some_and(|via| via.ends_with(b" sidekeeper"))
        );
        let upgrade: &[&[u8]] = if request.websocket {
            &[b"websocket"]
        } else {
            &[]
        };
        assert_eq!(values(&lines, "upgrade"), upgrade);
        let connection: &[&[u8]] = if request.websocket {
            &[b"Upgrade"]
        } else {
            &[]
        };
        assert_eq!(values(&lines, "connection"), connection);
        for (name, _) in &lines {
            let name = name.replace('_', "-");
            assert!(!["te", "trailer", "keep-alive", "proxy-connection"].contains(&name.as_str()));
            assert!(!name.starts_with("x-sidekeeper-") || name == "x-sidekeeper-client");
        }
        // Our own reader agrees with the naive one.
        let limits = HeadLimits {
            head_bytes_max: 4096,
            head_fields_max: 40,
            target_bytes_max: 100,
        };
        let mut storage = fields();
        let again = read_request(&out, &mut storage, &limits)
            .ok()
            .flatten()
            .expect("acceptable");
        assert_eq!(again.len, out.len());
        assert_eq!(
            (again.method, again.path, again.query),
            (request.method, request.path, request.query)
        );
        assert_eq!(
            (again.framing, again.websocket),
            (request.framing, request.websocket)
        );
        assert_eq!(again.expects_continue, request.expects_continue);
    }
    assert!(
        accepted > ROUNDS / 8,
        "too few to mean anything: {accepted}"
    );
}

#[test]
fn prefixes_decide_nothing_else_than_the_whole() {
    let limits = HeadLimits {
        head_bytes_max: 300,
        head_fields_max: 8,
        target_bytes_max: 60,
    };
    let seed = b"GET /a HTTP/1.1\r\nHost: h\r\nA: b\r\nContent-Length: 5\r\n\r\nhello";
    let mut dice = Dice(0x5eed_0002);
    for _ in 0..ROUNDS / 20 {
        let mut bytes = seed.to_vec();
        dice.mutate(&mut bytes, DICTIONARY);
        let verdict = |len: usize| {
            let mut storage = fields();
            let read = read_request(&bytes[..len], &mut storage, &limits);
            read.map(|request| request.map(|request| (request.len, request.framing)))
        };
        let whole = verdict(bytes.len());
        for len in 0..bytes.len() {
            match verdict(len) {
                Ok(None) => {}
                early => {
                    // A refusal may find another reason once more is seen, but never turns.
                    assert_eq!(early.is_err(), whole.is_err(), "{}", bytes.escape_ascii());
                    if early.is_ok() {
                        assert_eq!(early, whole);
                    }
                }
            }
        }
    }
}

#[test]
fn what_clients_get_reads_as_what_was_decided() {
    let seeds: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-a\r\nX-A: b\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 404 Not Found\r\nDate: x\r\n\r\n",
        b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nKeep-Alive: timeout=5\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
    ];
    let limits = HeadLimits {
        head_bytes_max: 600,
        head_fields_max: 12,
        target_bytes_max: 0,
    };
    let mut dice = Dice(0x5eed_0003);
    let mut accepted = 0;
    let mut out = Vec::new();
    for _ in 0..ROUNDS {
        let mut bytes = dice.pick(&seeds).to_vec();
        dice.mutate(&mut bytes, DICTIONARY);
        let asked = Asked {
            head: dice.roll(4) == 0,
            upgrade: dice.roll(2) == 0,
        };
        let mut storage = fields();
        let Ok(Some(response)) = read_response(&bytes, &mut storage, &limits, asked) else {
            continue;
        };
        accepted += 1;
        let old = dice.roll(3) == 0;
        let delivery = Delivery {
            version: if old {
                Version::Http10
            } else {
                Version::Http11
            },
            close: dice.roll(2) == 0,
            head: asked.head,
            date: None,
        };
        out.clear();
        response.write_for_client(&mut out, &delivery);
        if out.is_empty() {
            assert!(old && response.is_interim());
            continue;
        }
        let (start, lines) = lines(&out);
        assert!(start.starts_with(&format!("HTTP/1.1 {} ", response.status)));
        let encoding = response.encoding(delivery.version);
        if encoding == Framing::Empty {
            assert!(values(&lines, "transfer-encoding").is_empty());
            assert!(values(&lines, "content-length").len() <= 1);
            let unframed = response.status < 200 || response.status == 204;
            assert!(!unframed || values(&lines, "content-length").is_empty());
        } else {
            assert_framed(&lines, encoding);
        }
        assert!(!old || encoding != Framing::Chunked);
        let closes = values(&lines, "connection").contains(&&b"close"[..]);
        assert!(closes || encoding != Framing::UntilClose);
        let mut storage = fields();
        let limits = HeadLimits {
            head_bytes_max: 4096,
            head_fields_max: 40,
            target_bytes_max: 0,
        };
        let again = read_response(&out, &mut storage, &limits, asked)
            .ok()
            .flatten();
        let again = again.expect("acceptable");
        assert_eq!((again.len, again.status), (out.len(), response.status));
        assert_eq!(again.framing, encoding);
    }
    assert!(
        accepted > ROUNDS / 8,
        "too few to mean anything: {accepted}"
    );
}

/// The payload, the same as chunks, the bytes used, and whether that was all.
type Decoded = Result<(Vec<u8>, Vec<u8>, usize, bool), Malformed>;

/// Decodes `pieces`, and recodes them as chunks at the same time.
fn decode(pieces: &[&[u8]]) -> Decoded {
    let (mut plain, mut chunked) = (
        Decoder::new(Framing::Chunked),
        Decoder::new(Framing::Chunked),
    );
    let (mut payload, mut recoded, mut used) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        let taken = transfer(&mut plain, Framing::UntilClose, piece, &mut payload)?;
        assert_eq!(
            transfer(&mut chunked, Framing::Chunked, piece, &mut recoded)?,
            taken
        );
        // Until the end every byte is taken, after it none.
        assert!(taken == piece.len() || plain.is_done());
        used += taken;
    }
    Ok((payload, recoded, used, plain.is_done()))
}

#[test]
fn chunks_come_out_the_same_however_they_are_cut() {
    let dictionary: &[&[u8]] = &[
        b"\r",
        b"\n",
        b"\r\n",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"1;a=\"b\"\r\nx\r\n",
        b";a",
        b"=",
        b"\"",
        b"\\",
        b"0x",
        b"+",
        b" ",
        b"ffffffffffffffff",
        b"\0",
        b"A: b\r\n",
        b"0",
        b"00000000",
    ];
    let seeds: [&[u8]; 3] = [
        b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"1;a=b;c=\"d\"\r\nx\r\n0;e\r\nA: b\r\nC: d\r\n\r\n",
        b"00a\r\n0123456789\r\n2\r\n\r\n\r\n000\r\n\r\n0\r\n\r\n",
    ];
    let mut dice = Dice(0x5eed_0004);
    let mut complete = 0;
    for _ in 0..ROUNDS / 2 {
        let mut bytes = dice.pick(&seeds).to_vec();
        dice.mutate(&mut bytes, dictionary);
        let whole = decode(&[&bytes]);
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(dice.roll(6)));
            pieces.push(piece);
            rest = behind;
        }
        let cut = decode(&pieces);
        let plain = |outcome: &Decoded| {
            outcome
                .clone()
                .map(|(payload, _, used, done)| (payload, used, done))
        };
        assert_eq!(plain(&whole), plain(&cut), "{}", bytes.escape_ascii());
        for (payload, recoded, used, done) in [whole, cut].into_iter().flatten() {
            assert!(used <= bytes.len());
            complete += u32::from(done);
            let (again, _, taken, ended) = decode(&[&recoded]).expect("we write proper chunks");
            assert_eq!((again, taken, ended), (payload, recoded.len(), done));
        }
    }
    assert!(
        complete > ROUNDS / 8,
        "too few to mean anything: {complete}"
    );
}
