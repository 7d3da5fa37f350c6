//! Reading a request: head, query, and a body by length or chunks, with `100 Continue` said only
//! when somebody wants the body. Strict enough to notice a proxy that frames a body wrongly.

use crate::connection::Connection;
use echo_wire::wire::Stream;
use std::io::{self, BufRead, BufReader, Read, Write};

const HEAD_BYTES_MAX: u64 = 256 << 10;
const LINE_BYTES_MAX: u64 = 4 << 10;
const PIECE_BYTES_MAX: usize = 64 << 10;

pub struct Request {
    /// The head as it came, blank line included.
    pub head: Vec<u8>,
    pub method: String,
    /// Last path segment: whatever the app is mounted under is in front of it.
    pub page: String,
    query: Vec<(String, String)>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor: u8,
    fields: Vec<(String, String)>,
    body: Body,
    expects_continue: bool,
}

enum Body {
    Length(u64),
    /// Bytes left of the chunk at hand.
    Chunk(u64),
    FirstChunk,
    Done,
}

impl Request {
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.queries(name).next()
    }

    pub fn queries<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.query
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// A number from the query; what is not a number counts as not given.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.query(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    }

    pub fn has_token(&self, field: &str, token: &str) -> bool {
        let values = self
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(field));
        values
            .flat_map(|(_, value)| value.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case(token))
    }

    pub fn keeps_alive(&self) -> bool {
        match self.minor {
            0 => self.has_token("connection", "keep-alive"),
            _ => !self.has_token("connection", "close"),
        }
    }

    /// The client has been promised nothing yet and may never send its body.
    pub fn waits_for_continue(&self) -> bool {
        self.expects_continue
    }

    /// The next piece of the body, or `None` at its end. Says `100 Continue` first if asked to.
    pub fn piece(&mut self, connection: &mut Connection) -> io::Result<Option<Vec<u8>>> {
        if self.expects_continue {
            self.expects_continue = false;
            connection
                .output
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let input = &mut connection.input;
        loop {
            let left = match self.body {
                Body::Done | Body::Length(0) => return Ok(None),
                Body::Length(left) => left,
                Body::Chunk(0) => {
                    if !line(input, LINE_BYTES_MAX)?.is_empty() {
                        return Err(broken("chunk is longer than it said"));
                    }
                    self.body = next_chunk(input)?;
                    continue;
                }
                Body::Chunk(left) => left,
                Body::FirstChunk => {
                    self.body = next_chunk(input)?;
                    continue;
                }
            };
            let wanted = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(PIECE_BYTES_MAX);
            let mut bytes = vec![0; wanted];
            let got = input.read(&mut bytes)?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.truncate(got);
            let left = left - got as u64;
            self.body = if matches!(self.body, Body::Length(_)) {
                Body::Length(left)
            } else {
                Body::Chunk(left)
            };
            return Ok(Some(bytes));
        }
    }

    pub fn drain(&mut self, connection: &mut Connection) -> io::Result<()> {
        while self.piece(connection)?.is_some() {}
        Ok(())
    }
}

/// `None` when the connection ended between requests. `InvalidData` is the client's fault.
pub fn read_request(input: &mut BufReader<Stream>) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    loop {
        let room = HEAD_BYTES_MAX - head.len() as u64;
        let start = head.len();
        let got = input.by_ref().take(room).read_until(b'\n', &mut head)?;
        match &head[start..] {
            [] if head.is_empty() => return Ok(None),
            b"\r\n" if start == 0 => head.clear(),
            b"\r\n" => break,
            line if line.ends_with(b"\r\n") => {}
            _ if got as u64 == room => return Err(broken("head too long")),
            line if line.ends_with(b"\n") => return Err(broken("bare line feed")),
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    parse(head).map(Some)
}

fn parse(head: Vec<u8>) -> io::Result<Request> {
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else {
        return Err(broken("request line"));
    };
    let minor = match version {
        "HTTP/1.1" => 1,
        "HTTP/1.0" => 0,
        _ => return Err(broken("version")),
    };
    let mut fields = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| broken("field without a colon"))?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err(broken("field name"));
        }
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let page = path
        .rsplit('/')
        .find(|segment| !segment.is_empty())
        .unwrap_or("");
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(name), unescape(value))
    });
    let mut request = Request {
        method: method.to_owned(),
        page: page.to_owned(),
        query: query.collect(),
        minor,
        fields,
        body: Body::Done,
        expects_continue: false,
        head,
    };
    request.body = framing(&request)?;
    let has_body = !matches!(request.body, Body::Done | Body::Length(0));
    request.expects_continue =
        has_body && minor == 1 && request.has_token("expect", "100-continue");
    Ok(request)
}

fn framing(request: &Request) -> io::Result<Body> {
    let lengths: Vec<&str> = request
        .fields()
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value)
        .collect();
    match (request.field("transfer-encoding"), &lengths[..]) {
        (Some(_), [_, ..]) => Err(broken("both a length and a transfer coding")),
        (Some(coding), []) if coding.eq_ignore_ascii_case("chunked") => Ok(Body::FirstChunk),
        (Some(_), []) => Err(broken("unknown transfer coding")),
        (None, []) => Ok(Body::Done),
        (None, [length]) => digits(length, 10)
            .map(Body::Length)
            .ok_or_else(|| broken("length")),
        (None, [_, _, ..]) => Err(broken("two lengths")),
    }
}

fn next_chunk(input: &mut BufReader<Stream>) -> io::Result<Body> {
    let size = line(input, LINE_BYTES_MAX)?;
    let size = size.split(';').next().unwrap_or_default().trim_end();
    match digits(size, 16).ok_or_else(|| broken("chunk size"))? {
        0 => {
            // Trailers are read and dropped.
            while !line(input, LINE_BYTES_MAX)?.is_empty() {}
            Ok(Body::Done)
        }
        size => Ok(Body::Chunk(size)),
    }
}

/// `parse` alone would take a sign.
fn digits(text: &str, radix: u32) -> Option<u64> {
    let only_digits = text.chars().all(|c| c.is_digit(radix));
    if only_digits {
        u64::from_str_radix(text, radix).ok()
    } else {
        None
    }
}

fn line(input: &mut BufReader<Stream>, bytes_max: u64) -> io::Result<String> {
    let mut line = Vec::new();
    input
        .by_ref()
        .take(bytes_max)
        .read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None if line.ends_with(b"\n") || line.len() as u64 == bytes_max => {
            Err(broken("line of the body"))
        }
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let pair: Vec<u8> = rest.by_ref().take(2).collect();
                let pair = String::from_utf8_lossy(&pair).into_owned();
                bytes.push(u8::from_str_radix(&pair, 16).unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> io::Result<Request> {
        parse(head.replace('\n', "\r\n").into_bytes())
    }

    #[test]
    fn the_page_is_the_last_segment() {
        for (target, page) in [
            ("/", ""),
            ("/echo", "echo"),
            ("/echo/slow?ms=1", "slow"),
            ("/a/b/ws/", "ws"),
        ] {
            let request = request(&format!("GET {target} HTTP/1.1\nHost: a\n\n")).unwrap();
            assert_eq!(request.page, page, "{target}");
        }
    }

    #[test]
    fn query_values_are_unescaped() {
        let request = request("GET /raw?hex=00ff&text=a%20b+c&text=d HTTP/1.1\n\n").unwrap();
        assert_eq!(request.query("hex"), Some("00ff"));
        assert_eq!(request.queries("text").collect::<Vec<_>>(), ["a b c", "d"]);
        assert_eq!(request.number("ms", 7), 7);
    }

    #[test]
    fn contradictory_framing_is_refused() {
        for fields in [
            "Content-Length: 1\nTransfer-Encoding: chunked",
            "Content-Length: 1\nContent-Length: 1",
            "Content-Length: +1",
            "Transfer-Encoding: gzip",
            "Content Length: 1",
        ] {
            assert!(
                request(&format!("POST / HTTP/1.1\n{fields}\n\n")).is_err(),
                "{fields}"
            );
        }
    }
}
