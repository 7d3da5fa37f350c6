//! Response heads: read from a worker as strictly as a client's, written anew for the client.
//!
//! A worker is no more trusted than a client: what it sends wrongly becomes a `Fault`, which the
//! caller answers with 502, never something that a client has to guess about. The caller also
//! decides what a close of the worker's connection means; a body is moved with `framing`.

use super::date::Date;
use super::field::{FieldSet, Known, push, push_fields, trim};
use super::framing::{Framing, push_content_length};
use super::head::{FIELDS_MAX, Fields, HeadLimits, Version};
use super::hop::{Hop, HopFault, each};
use super::scan::{Broken, read_by_httparse, scan};
use crate::as_json;
use httparse::Header;

/// What the request was, as far as its response depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// A HEAD request: the response has no body whatever it says (RFC 9110 9.3.2).
    pub head: bool,
    /// A WebSocket upgrade was forwarded.
    pub upgrade: bool,
}

as_json!(struct Asked { head, upgrade });

/// Why a response cannot be passed on. The worker's connection is closed after any of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A bare CR or LF, or an empty line before the status line (RFC 9112 2.2).
    LineEnd,
    /// NUL or another control byte (RFC 9110 5.5).
    Control,
    /// A folded field, or a blank before the first one (RFC 9112 5.2).
    Folding,
    /// Not `version SP status SP reason` (RFC 9112 4), or a version that is not spoken here.
    StatusLine,
    /// A status outside of 100 to 599 (RFC 9110 15).
    Status,
    /// A field line that is not `token ":" value` (RFC 9112 5.1).
    FieldSyntax,
    /// The head is longer than `head_bytes_max`.
    HeadTooLarge,
    /// The head has more fields than `head_fields_max`.
    TooManyFields,
    /// `Content-Length` is not one plain number (RFC 9112 6.3).
    ContentLength,
    /// `Transfer-Encoding` in HTTP/1.0, or other than one plain `chunked` (RFC 9112 6.1, 6.3).
    TransferEncoding,
    /// `Content-Length` beside `Transfer-Encoding` (RFC 9112 6.3).
    FramingConflict,
    /// `Connection` is no list of tokens, or an endless one (RFC 9110 7.6.1).
    Connection,
    /// 101 that nobody asked for (RFC 9110 7.8, 15.2.2).
    UnaskedUpgrade,
    /// 101 that does not upgrade to `websocket` and nothing else (RFC 6455 4.1).
    WrongUpgrade,
}

impl Fault {
    /// For the log; clients are told 502 alone.
    pub fn reason(&self) -> &'static str {
        match self {
            Fault::LineEnd => "a bare CR or LF in the response head",
            Fault::Control => "a control byte in the response head",
            Fault::Folding => "a folded line in the response head",
            Fault::StatusLine => "a malformed status line",
            Fault::Status => "a status outside of 100 to 599",
            Fault::FieldSyntax => "a malformed field line in the response head",
            Fault::HeadTooLarge => "a response head that is too large",
            Fault::TooManyFields => "too many fields in the response head",
            Fault::ContentLength => "a malformed or repeated Content-Length in the response",
            Fault::TransferEncoding => "an unknown or malformed Transfer-Encoding in the response",
            Fault::FramingConflict => "both Content-Length and Transfer-Encoding in the response",
            Fault::Connection => "a malformed Connection field in the response",
            Fault::UnaskedUpgrade => "a 101 that nobody asked for",
            Fault::WrongUpgrade => "a 101 that does not upgrade to websocket",
        }
    }
}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Fault {
        match broken {
            Broken::LineEnd | Broken::Empty => Fault::LineEnd,
            Broken::Control => Fault::Control,
            Broken::Folding => Fault::Folding,
            Broken::TooLarge => Fault::HeadTooLarge,
            Broken::TooManyFields => Fault::TooManyFields,
        }
    }
}

impl From<HopFault> for Fault {
    fn from(fault: HopFault) -> Fault {
        match fault {
            HopFault::ContentLength => Fault::ContentLength,
            HopFault::TransferEncoding | HopFault::TransferCoding => Fault::TransferEncoding,
            HopFault::Both => Fault::FramingConflict,
            HopFault::Connection => Fault::Connection,
        }
    }
}

/// A response head that may be passed on.
#[derive(Debug)]
pub struct Response<'f, 'b> {
    /// Bytes of the head with its blank line; the body follows.
    pub len: usize,
    pub version: Version,
    /// 100 to 599.
    pub status: u16,
    /// `Empty` for HEAD, 1xx, 204 and 304 (RFC 9112 6.3).
    pub framing: Framing,
    /// The worker's connection may be used again after this response.
    pub persistent: bool,
    reason: &'b str,
    head: &'b [u8],
    fields: &'f [Header<'b>],
    withheld: FieldSet,
    /// Of HEAD and 304: what a GET would have had (RFC 9110 8.6).
    shown_length: Option<u64>,
    has_date: bool,
    /// It has an `X-Request-Id` of its own.
    pub names_itself: bool,
    /// 426 that asks for a WebSocket must say so (RFC 9110 15.5.22).
    asks_for_websocket: bool,
}

/// Reads the head at the beginning of `bytes`. `Ok(None)`: incomplete, and acceptable so far.
pub fn read_response<'f, 'b>(
    bytes: &'b [u8],
    storage: &'f mut Fields<'b>,
    limits: &HeadLimits,
    asked: Asked,
) -> Result<Option<Response<'f, 'b>>, Fault> {
    // Something else than HTTP may never send a line end; do not wait for one.
    if !b"HTTP/1."
        .iter()
        .zip(bytes)
        .all(|(wanted, byte)| wanted == byte)
    {
        return Err(Fault::StatusLine);
    }
    let storage = storage
        .get_mut(..limits.head_fields_max.min(FIELDS_MAX))
        .unwrap_or_default();
    let mut parsed = httparse::Response::new(&mut []);
    let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        bytes,
        storage,
    );
    let read = match outcome {
        Ok(httparse::Status::Complete(len)) => read_by_httparse(bytes, len, parsed.headers, limits),
        Ok(httparse::Status::Partial) | Err(_) => None,
    };
    let found = read.map_or_else(|| scan(bytes, limits), Ok)?;
    let Some(len) = found.len else {
        return Ok(None);
    };
    let (Some(version), Some(status), Some(reason)) = (
        Version::from_minor(parsed.version),
        parsed.code,
        parsed.reason,
    ) else {
        return Err(Fault::StatusLine);
    };
    if !(100..=599).contains(&status) {
        return Err(Fault::Status);
    }
    if outcome != Ok(httparse::Status::Complete(len)) {
        return Err(Fault::FieldSyntax);
    }
    let fields: &'f [Header<'b>] = parsed.headers;
    let head = bytes.get(..len).unwrap_or_default();
    decide((head, version, status, reason), fields, asked).map(Some)
}

/// Judges the fields, in one pass.
fn decide<'f, 'b>(
    (head, version, status, reason): (&'b [u8], Version, u16, &'b str),
    fields: &'f [Header<'b>],
    asked: Asked,
) -> Result<Response<'f, 'b>, Fault> {
    let mut hop = Hop::default();
    let (mut date, mut names_itself) = (None, false);
    for (index, known, value) in each(fields) {
        hop.take(index, known, value)?;
        match known {
            Known::Date => date = Some(index),
            // Between a worker and us; no client is to see it, and none to be told by it.
            Known::Private => hop.withheld.insert(index),
            Known::RequestId => names_itself = true,
            Known::Host
            | Known::ContentLength
            | Known::TransferEncoding
            | Known::Connection
            | Known::Upgrade
            | Known::Expect
            | Known::MaxForwards
            | Known::Hop
            | Known::Ours
            | Known::Accept
            | Known::Referer
            | Known::UserAgent
            | Known::Via
            | Known::Other => {}
        }
    }
    hop.finish(fields)?;
    let http11 = version == Version::Http11;
    // RFC 9112 6.1: such framing is faulty even if it could be decoded.
    if hop.transfer_encoding && !http11 {
        return Err(Fault::TransferEncoding);
    }
    if status == 101 {
        if !asked.upgrade {
            return Err(Fault::UnaskedUpgrade);
        }
        let websocket = hop.upgrade && hop.websocket && hop.protocols == 1;
        if !websocket || !http11 || hop.websocket_withheld {
            return Err(Fault::WrongUpgrade);
        }
    }
    // RFC 9110 6.4.1 and 8.6: these have neither a body nor a framing field.
    let unframed = status < 200 || status == 204;
    let framing = if asked.head || unframed || status == 304 {
        Framing::Empty
    } else {
        match (hop.chunked, hop.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        }
    };
    // A worker that announces a body where none can be may send it too.
    let confused = unframed && (hop.chunked || hop.length.is_some_and(|length| length > 0));
    Ok(Response {
        len: head.len(),
        head,
        version,
        status,
        framing,
        persistent: !hop.close
            && (http11 || hop.keep_alive)
            && framing != Framing::UntilClose
            && !confused,
        reason,
        fields,
        withheld: hop.withheld,
        shown_length: hop.length.filter(|_| !unframed),
        names_itself,
        has_date: date.is_some_and(|index| !hop.withheld.contains(index)),
        asks_for_websocket: status == 426 && hop.websocket,
    })
}

/// How a response goes to the client.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// The client's.
    pub version: Version,
    /// The connection closes after this response.
    pub close: bool,
    /// The request was HEAD.
    pub head: bool,
    /// For a final response that has no `Date`: RFC 9110 6.6.1 obliges whoever forwards it and
    /// has a clock to add one. `None`: no clock.
    pub date: Option<Date>,
}

/// Adds a field to a head that has been written whole.
pub fn add_field(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.truncate(head.len().saturating_sub(2));
    super::field::push_field(head, name, value);
    head.extend_from_slice(b"\r\n");
}

impl<'b> Response<'_, 'b> {
    /// All fields as they came, values without the blanks around them.
    pub fn fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.fields
            .iter()
            .map(|field| (field.name, trim(field.value)))
    }

    /// 1xx other than 101: another response follows (RFC 9110 15.2).
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The framing of the body on its way to the client. A body that the close ends stays one: as
    /// chunks it would look complete even where the worker was cut off.
    pub fn encoding(&self, client: Version) -> Framing {
        match (self.framing, client) {
            // RFC 9112 6.1: never to a client that may not know it.
            (Framing::Chunked, Version::Http10) => Framing::UntilClose,
            (Framing::Chunked, Version::Http11) => Framing::Chunked,
            (framing @ (Framing::Empty | Framing::Length(_) | Framing::UntilClose), _) => framing,
        }
    }

    /// Whether the client's connection must close after this response, whoever wants to keep it.
    pub fn ends_connection(&self, client: Version) -> bool {
        self.encoding(client) == Framing::UntilClose
    }

    /// Appends the head that the client gets. An interim response to HTTP/1.0 is nothing at all
    /// (RFC 9110 15.2).
    pub fn write_for_client(&self, out: &mut Vec<u8>, delivery: &Delivery) {
        if self.is_interim() && delivery.version == Version::Http10 {
            return;
        }
        // RFC 9112 2.3: our version, even to a client of an older one (RFC 9110 6.2).
        out.extend_from_slice(b"HTTP/1.1 ");
        let digit = |place: u16| b'0' + (self.status / place % 10) as u8;
        out.extend_from_slice(&[digit(100), digit(10), digit(1), b' ']);
        push(out, self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        push_fields(out, self.head, self.fields, &self.withheld);
        match (self.encoding(delivery.version), self.shown_length) {
            (Framing::Empty, Some(length)) => push_content_length(out, length),
            (encoding, _) => encoding.push_field(out),
        }
        if let (Some(date), false, true) = (delivery.date, self.has_date, self.status >= 200) {
            date.push_field(out);
        }
        out.extend_from_slice(self.version.via());
        self.write_connection(out, delivery);
        out.extend_from_slice(b"\r\n");
    }

    fn write_connection(&self, out: &mut Vec<u8>, delivery: &Delivery) {
        let close = delivery.close || (!delivery.head && self.ends_connection(delivery.version));
        let connection: &[u8] = match (self.status, delivery.version) {
            (101, _) => b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
            (100..200, _) => b"",
            (426, Version::Http11) if self.asks_for_websocket && close => {
                b"Connection: close, Upgrade\r\nUpgrade: websocket\r\n"
            }
            (426, Version::Http11) if self.asks_for_websocket => {
                b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
            }
            (_, _) if close => b"Connection: close\r\n",
            // RFC 9112 9.3: such a client learns only from this that we go on.
            (_, Version::Http10) => b"Connection: keep-alive\r\n",
            (_, Version::Http11) => b"",
        };
        push(out, connection);
    }
}

#[cfg(test)]
mod tests;
