//! Just enough of an HTTP client to read one whole answer and know that it is whole.

use std::io::{self, BufRead, ErrorKind, Read};

pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
    pub keeps_alive: bool,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        fields
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

/// Reads past interim answers. A body that ends early is `UnexpectedEof`.
pub fn read_answer(from: &mut impl BufRead) -> io::Result<Answer> {
    loop {
        let head = read_head(from)?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status: u16 =
            status.ok_or_else(|| broken(format!("not an answer: {:?}", head.lines().next())))?;
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
            keeps_alive: true,
        };
        let says_close = answer
            .field("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        answer.keeps_alive = !says_close;
        let length = answer.field("content-length").map(str::to_owned);
        let chunked = answer.field("transfer-encoding").is_some();
        if status == 101 || status == 204 || status == 304 {
            return Ok(answer);
        }
        match (chunked, length) {
            (true, _) => read_chunks(from, &mut answer.body)?,
            (false, Some(length)) => {
                let length = length.parse().map_err(|_| broken("length"))?;
                read_exactly(from, length, &mut answer.body)?;
            }
            (false, None) => {
                answer.keeps_alive = false;
                from.read_to_end(&mut answer.body)?;
            }
        }
        return Ok(answer);
    }
}

pub fn read_head(from: &mut impl BufRead) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if from.read_until(b'\n', &mut head)? == 0 {
            let kind = if head.is_empty() {
                ErrorKind::ConnectionAborted
            } else {
                ErrorKind::UnexpectedEof
            };
            return Err(io::Error::new(
                kind,
                format!("closed after {} bytes of a head", head.len()),
            ));
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size =
            u64::from_str_radix(size, 16).map_err(|_| broken(format!("chunk size {line:?}")))?;
        read_exactly(from, size, body)?;
        // The line end after a chunk, or the trailers and the blank line after the last.
        loop {
            line.clear();
            if from.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if line == "\r\n" {
                break;
            }
            if size > 0 {
                return Err(broken("no line end after a chunk"));
            }
        }
        if size == 0 {
            return Ok(());
        }
    }
}

fn read_exactly(from: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let got = from.take(length).read_to_end(body)? as u64;
    if got < length {
        let text = format!("body ended after {got} of {length} bytes");
        return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
    }
    Ok(())
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole() {
        let mut from = &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\nabc\r\n0\r\nX: y\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"[..];
        let first = read_answer(&mut from).unwrap();
        assert_eq!(
            (first.status, first.body.as_slice(), first.keeps_alive),
            (200, &b"abc"[..], true)
        );
        let second = read_answer(&mut from).unwrap();
        assert_eq!(
            (second.status, second.body.as_slice(), second.keeps_alive),
            (404, &b"no"[..], false)
        );
        let mut cut = &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"[..];
        assert_eq!(
            read_answer(&mut cut).err().map(|e| e.kind()),
            Some(ErrorKind::UnexpectedEof)
        );
    }
}
