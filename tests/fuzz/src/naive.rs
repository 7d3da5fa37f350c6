//! A second reading of RFC 9112, as plain and strict as can be, over whole inputs. It shares no
//! code with the room under test, and no cleverness: where both agree, either would be right.

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    Whole(T),
    Part,
    Bad(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub start: String,
    /// Names in lower case.
    pub fields: Vec<(String, Vec<u8>)>,
    pub len: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub head: Head,
    pub body: Vec<u8>,
    /// Bytes of head and body.
    pub len: usize,
}

fn bad<T>(what: &str) -> Read<T> {
    Read::Bad(what.to_owned())
}

pub fn is_token(bytes: &[u8]) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || special.contains(b))
}

impl Head {
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let named = self.fields.iter().filter(|(n, _)| n == name);
        named.map(|(_, value)| value.as_slice()).collect()
    }
}

/// One line without its CRLF, and what follows it.
fn line(bytes: &[u8]) -> Read<(&[u8], &[u8])> {
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        return Read::Part;
    };
    let (line, rest) = bytes.split_at(end);
    let Some(line) = line.strip_suffix(b"\r") else {
        return bad("a bare LF");
    };
    if line.iter().any(|b| (*b < 32 && *b != b'\t') || *b == 127) {
        return bad("a control byte");
    }
    Read::Whole((line, &rest[1..]))
}

pub fn head(bytes: &[u8]) -> Read<Head> {
    let mut rest = bytes;
    let mut start = None;
    let mut fields = Vec::new();
    loop {
        let (row, behind) = match line(rest) {
            Read::Whole(both) => both,
            Read::Part => return Read::Part,
            Read::Bad(what) => return Read::Bad(what),
        };
        rest = behind;
        if start.is_none() {
            match std::str::from_utf8(row) {
                Ok(text) if text.contains(' ') => start = Some(text.to_owned()),
                Ok(_) => return bad("a start line without a blank"),
                Err(_) => start = Some(row.escape_ascii().to_string()),
            }
            continue;
        }
        if row.is_empty() {
            let len = bytes.len() - rest.len();
            return Read::Whole(Head {
                start: start.unwrap_or_default(),
                fields,
                len,
            });
        }
        let Some(colon) = row.iter().position(|b| *b == b':') else {
            return bad("a field without a colon");
        };
        if !is_token(&row[..colon]) {
            return bad("a field name that is no token");
        }
        let name = String::from_utf8_lossy(&row[..colon]).to_ascii_lowercase();
        let value = row[colon + 1..].trim_ascii().to_vec();
        fields.push((name, value));
    }
}

/// How long the body is: None for chunked.
pub fn framing(head: &Head) -> Result<Option<usize>, String> {
    let lengths = head.values("content-length");
    let codings = head.values("transfer-encoding");
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Some(0)),
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let digits = String::from_utf8_lossy(length);
            digits
                .parse()
                .map(Some)
                .map_err(|_| "a length that is too large".to_owned())
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(None),
        _ => Err(format!(
            "{} lengths, {} codings",
            lengths.len(),
            codings.len()
        )),
    }
}

/// The payload and the bytes used.
pub fn chunks(bytes: &[u8]) -> Read<(Vec<u8>, usize)> {
    let (mut rest, mut payload) = (bytes, Vec::new());
    loop {
        let (size, behind) = match line(rest) {
            Read::Whole(both) => both,
            Read::Part => return Read::Part,
            Read::Bad(what) => return Read::Bad(what),
        };
        let digits = size.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let extension = size[digits..].trim_ascii_start();
        if digits == 0
            || !(extension.is_empty() && digits == size.len() || extension.starts_with(b";"))
        {
            return bad("a chunk size");
        }
        let Ok(size) = usize::from_str_radix(&String::from_utf8_lossy(&size[..digits]), 16) else {
            return bad("a chunk size that is too large");
        };
        rest = behind;
        if size == 0 {
            break;
        }
        if rest.len() < size {
            return Read::Part;
        }
        payload.extend_from_slice(&rest[..size]);
        rest = &rest[size..];
        match rest {
            [b'\r', b'\n', behind @ ..] => rest = behind,
            [] | [b'\r'] => return Read::Part,
            _ => return bad("no CRLF behind a chunk"),
        }
    }
    loop {
        let (row, behind) = match line(rest) {
            Read::Whole(both) => both,
            Read::Part => return Read::Part,
            Read::Bad(what) => return Read::Bad(what),
        };
        rest = behind;
        if row.is_empty() {
            return Read::Whole((payload, bytes.len() - rest.len()));
        }
        let colon = row.iter().position(|b| *b == b':');
        if !colon.is_some_and(|colon| is_token(&row[..colon])) {
            return bad("a trailer");
        }
    }
}

/// A head with its body, framed as a request is; an answer is if it says how long it is.
pub fn message(bytes: &[u8]) -> Read<Message> {
    let head = match head(bytes) {
        Read::Whole(head) => head,
        Read::Part => return Read::Part,
        Read::Bad(what) => return Read::Bad(what),
    };
    let behind = &bytes[head.len..];
    match framing(&head) {
        Err(what) => Read::Bad(what),
        Ok(Some(length)) => match behind.get(..length) {
            Some(body) => Read::Whole(Message {
                len: head.len + length,
                body: body.to_vec(),
                head,
            }),
            None => Read::Part,
        },
        Ok(None) => match chunks(behind) {
            Read::Whole((body, used)) => Read::Whole(Message {
                len: head.len + used,
                body,
                head,
            }),
            Read::Part => Read::Part,
            Read::Bad(what) => Read::Bad(what),
        },
    }
}

/// Method and target of a request line that we may send to a worker.
pub fn request_line(start: &str) -> Result<(String, String), String> {
    let parts: Vec<&str> = start.split(' ').collect();
    let [method, target, version] = parts.as_slice() else {
        return Err(format!("a request line: {start}"));
    };
    let plain = target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    let form = target.starts_with('/') || (*target == "*" && *method == "OPTIONS");
    if !is_token(method.as_bytes()) || !plain || !form || *version != "HTTP/1.1" {
        return Err(format!("a request line: {start}"));
    }
    Ok(((*method).to_owned(), (*target).to_owned()))
}
