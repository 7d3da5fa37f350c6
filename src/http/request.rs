//! Request heads: read strictly from a client, written anew for a worker.
//!
//! A head is accepted only if a worker will read from what `write_for_worker` makes of it exactly
//! the request that was decided on here. The caller reads bytes, answers a `Refusal`, and moves
//! the body with `framing`.

use super::field::{FieldSet, Known, members, push_decimal, push_field, trim};
use super::framing::Framing;
use super::head::{FIELDS_MAX, Fields, HeadLimits, Version};
use super::hop::{Hop, HopFault, each, value_of};
use super::host::is_host;
use super::scan::{Broken, scan};
use super::target;
use httparse::Header;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// A longer method is answered 501 (RFC 9112 3). The longest registered one has 17 bytes.
const METHOD_BYTES_MAX: usize = 32;

/// RFC 9110 9: case-sensitive. CONNECT is not among them, it is always refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method<'b> {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
    Other(&'b str),
}

impl<'b> Method<'b> {
    fn from_token(token: &'b str) -> Method<'b> {
        match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "TRACE" => Method::Trace,
            "PATCH" => Method::Patch,
            other => Method::Other(other),
        }
    }

    pub fn as_str(&self) -> &'b str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other(other) => other,
        }
    }
}

/// Why a request is not served. One variant for each family of rules; after any of them the rest
/// of the connection cannot be trusted to be a request, so it is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A bare CR or LF, or an empty line too many (RFC 9112 2.2).
    LineEnd,
    /// NUL or another control byte (RFC 9110 5.5).
    Control,
    /// A folded field, or a blank before the first one (RFC 9112 2.2, 5.2).
    Folding,
    /// Not `method SP target SP version` (RFC 9112 3), HTTP/0.9 among others.
    RequestLine,
    /// The method is longer than any that exists (RFC 9112 3).
    MethodTooLong,
    /// CONNECT: this is no forward proxy (RFC 9110 9.3.6).
    Connect,
    /// The target has no form that this method may have (RFC 9112 3.2).
    Target,
    /// The target is longer than `target_bytes_max` (RFC 9112 3).
    TargetTooLong,
    /// A version of HTTP other than 1.0 and 1.1 (RFC 9112 2.3), the HTTP/2 preface among others.
    Version,
    /// A field line that is not `token ":" value` (RFC 9112 5.1).
    FieldSyntax,
    /// The head is longer than `head_bytes_max` (RFC 6585 5).
    HeadTooLarge,
    /// The head has more fields than `head_fields_max` (RFC 6585 5).
    TooManyFields,
    /// No `Host` in HTTP/1.1, several, or one that names no host (RFC 9112 3.2).
    Host,
    /// `Content-Length` is not one plain number (RFC 9112 6.3).
    ContentLength,
    /// `Transfer-Encoding` in HTTP/1.0, or not ending in one plain `chunked` (RFC 9112 6.1, 6.3).
    TransferEncoding,
    /// A transfer coding other than `chunked` (RFC 9112 6.1).
    TransferCoding,
    /// `Content-Length` beside `Transfer-Encoding` (RFC 9112 6.3).
    FramingConflict,
    /// `Connection` is no list of tokens, or an endless one (RFC 9110 7.6.1).
    Connection,
    /// An expectation other than `100-continue` (RFC 9110 10.1.1).
    Expectation,
    /// `Max-Forwards` is not one plain number (RFC 9110 7.6.2).
    MaxForwards,
}

impl Refusal {
    /// The status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::LineEnd
            | Refusal::Control
            | Refusal::Folding
            | Refusal::RequestLine
            | Refusal::Target
            | Refusal::FieldSyntax
            | Refusal::Host
            | Refusal::ContentLength
            | Refusal::TransferEncoding
            | Refusal::FramingConflict
            | Refusal::Connection
            | Refusal::MaxForwards => 400,
            Refusal::TargetTooLong => 414,
            Refusal::Expectation => 417,
            Refusal::HeadTooLarge | Refusal::TooManyFields => 431,
            Refusal::MethodTooLong | Refusal::Connect | Refusal::TransferCoding => 501,
            Refusal::Version => 505,
        }
    }

    /// For the log; clients are told the status alone.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::LineEnd => "a bare CR or LF in the request head",
            Refusal::Control => "a control byte in the request head",
            Refusal::Folding => "a folded line in the request head",
            Refusal::RequestLine => "a malformed request line",
            Refusal::MethodTooLong => "a method that is too long",
            Refusal::Connect => "CONNECT is not served",
            Refusal::Target => "a malformed request target",
            Refusal::TargetTooLong => "a request target that is too long",
            Refusal::Version => "an HTTP version that is not served",
            Refusal::FieldSyntax => "a malformed field line in the request head",
            Refusal::HeadTooLarge => "a request head that is too large",
            Refusal::TooManyFields => "too many fields in the request head",
            Refusal::Host => "a missing, repeated or malformed Host",
            Refusal::ContentLength => "a malformed or repeated Content-Length",
            Refusal::TransferEncoding => "a malformed Transfer-Encoding",
            Refusal::TransferCoding => "a transfer coding that is not served",
            Refusal::FramingConflict => "both Content-Length and Transfer-Encoding",
            Refusal::Connection => "a malformed Connection field",
            Refusal::Expectation => "an unknown expectation",
            Refusal::MaxForwards => "a malformed Max-Forwards",
        }
    }
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Refusal {
        match broken {
            Broken::LineEnd | Broken::Empty => Refusal::LineEnd,
            Broken::Control => Refusal::Control,
            Broken::Folding => Refusal::Folding,
            Broken::TooLarge => Refusal::HeadTooLarge,
            Broken::TooManyFields => Refusal::TooManyFields,
        }
    }
}

impl From<HopFault> for Refusal {
    fn from(fault: HopFault) -> Refusal {
        match fault {
            HopFault::ContentLength => Refusal::ContentLength,
            HopFault::TransferEncoding => Refusal::TransferEncoding,
            HopFault::TransferCoding => Refusal::TransferCoding,
            HopFault::Both => Refusal::FramingConflict,
            HopFault::Connection => Refusal::Connection,
        }
    }
}

/// A request head that may be served.
#[derive(Debug)]
pub struct Request<'f, 'b> {
    /// Bytes of the head with its blank line; the body follows.
    pub len: usize,
    pub method: Method<'b>,
    pub version: Version,
    /// As it will be forwarded: begins with a slash, or is `*`.
    pub path: &'b str,
    pub query: Option<&'b str>,
    /// `uri-host [":" port]`, checked. Empty only for HTTP/1.0 without `Host`.
    pub host: &'b str,
    /// Never `UntilClose`.
    pub framing: Framing,
    /// The client wants to keep the connection (RFC 9112 9.3).
    pub persistent: bool,
    /// GET, HTTP/1.1, no body, `Connection: upgrade`, `Upgrade: websocket` (RFC 6455 4.1). Any
    /// other upgrade is ignored, which RFC 9110 7.8 allows, and the request served as it is.
    pub websocket: bool,
    /// The client waits for a 100 before it sends the body (RFC 9110 10.1.1).
    pub expects_continue: bool,
    /// TRACE or OPTIONS with `Max-Forwards: 0` must not be forwarded (RFC 9110 7.6.2); answer
    /// with `reply::write_final_recipient`.
    pub ends_here: bool,
    fields: &'f [Header<'b>],
    withheld: FieldSet,
    /// What is left of `Max-Forwards` for the worker.
    max_forwards: Option<u64>,
}

/// Reads the head at the beginning of `bytes`. `Ok(None)`: incomplete, and acceptable so far.
///
/// One empty line before it is skipped and counted in `len` (RFC 9112 2.2: clients exist that send
/// a CRLF too many after a body).
pub fn read_request<'f, 'b>(
    bytes: &'b [u8],
    storage: &'f mut Fields<'b>,
    limits: &HeadLimits,
) -> Result<Option<Request<'f, 'b>>, Refusal> {
    let (skipped, head) = match bytes {
        [b'\r'] => return Ok(None),
        [b'\r', b'\n', head @ ..] => (2, head),
        head => (0, head),
    };
    let found = match scan(head, limits) {
        Ok(found) => found,
        // A start line that fills the head is better described by its own limit.
        Err(Broken::TooLarge) => {
            check_line_length(head, limits)?;
            return Err(Refusal::HeadTooLarge);
        }
        Err(broken) => return Err(broken.into()),
    };
    let Some(start_line) = found.start_line else {
        check_line_length(head, limits)?;
        return Ok(None);
    };
    let Some(len) = found.len else {
        // An unacceptable request line is refused without waiting for the rest: who speaks
        // another protocol may never send it.
        let line = head.get(..start_line).unwrap_or_default();
        let mut parsed = httparse::Request::new(&mut []);
        let outcome = parsed.parse_with_uninit_headers(line, &mut []);
        read_line(line, &parsed, outcome, limits)?;
        return Ok(None);
    };
    let line = head.get(..start_line).unwrap_or_default();
    let head = head.get(..len).unwrap_or_default();
    let storage = storage
        .get_mut(..limits.head_fields_max.min(FIELDS_MAX))
        .unwrap_or_default();
    let mut parsed = httparse::Request::new(&mut []);
    let outcome = parsed.parse_with_uninit_headers(head, storage);
    let (method, version, target) = read_line(line, &parsed, outcome, limits)?;
    if outcome != Ok(httparse::Status::Complete(len)) {
        return Err(Refusal::FieldSyntax);
    }
    let fields: &'f [Header<'b>] = parsed.headers;
    decide(skipped + len, method, version, target, fields).map(Some)
}

/// An unfinished start line that can only become too long.
fn check_line_length(head: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
    let method = head.iter().take(METHOD_BYTES_MAX + 1);
    let method_len = method.take_while(|byte| **byte != b' ').count();
    if method_len > METHOD_BYTES_MAX {
        return Err(Refusal::MethodTooLong);
    }
    let target = head.get(method_len + 1..).unwrap_or_default();
    let target = target.iter().take(limits.target_bytes_max + 1);
    let target_len = target.take_while(|byte| !b" \r".contains(byte)).count();
    if target_len > limits.target_bytes_max {
        return Err(Refusal::TargetTooLong);
    }
    Ok(())
}

/// Judges the request line from what httparse made of it.
fn read_line<'b>(
    line: &'b [u8],
    parsed: &httparse::Request<'_, 'b>,
    outcome: httparse::Result<usize>,
    limits: &HeadLimits,
) -> Result<(Method<'b>, Version, target::Target<'b>), Refusal> {
    if outcome == Err(httparse::Error::Version) {
        return Err(version_refusal(line));
    }
    let (Some(method), Some(text), Some(version)) = (
        parsed.method,
        parsed.path,
        Version::from_minor(parsed.version),
    ) else {
        return Err(Refusal::RequestLine);
    };
    // httparse knows the version before it has seen that the line ends there.
    if line.len() != method.len() + text.len() + b"  HTTP/1.1\r\n".len() {
        return Err(Refusal::RequestLine);
    }
    if method.len() > METHOD_BYTES_MAX {
        return Err(Refusal::MethodTooLong);
    }
    if text.len() > limits.target_bytes_max {
        return Err(Refusal::TargetTooLong);
    }
    if method == "CONNECT" {
        return Err(Refusal::Connect);
    }
    let method = Method::from_token(method);
    let target = target::read(&method, text).ok_or(Refusal::Target)?;
    Ok((method, version, target))
}

/// 505 is for what is a version of HTTP, 400 for what is none (RFC 9112 2.3: `HTTP/` and two
/// digits with a dot between, in upper case).
fn version_refusal(line: &[u8]) -> Refusal {
    match line {
        [
            ..,
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            major,
            b'.',
            minor,
            b'\r',
            b'\n',
        ] if major.is_ascii_digit()
            && minor.is_ascii_digit()
            && line.iter().filter(|byte| **byte == b' ').count() == 2 =>
        {
            Refusal::Version
        }
        _ => Refusal::RequestLine,
    }
}

/// Judges the fields, in one pass.
fn decide<'f, 'b>(
    len: usize,
    method: Method<'b>,
    version: Version,
    target: target::Target<'b>,
    fields: &'f [Header<'b>],
) -> Result<Request<'f, 'b>, Refusal> {
    let mut hop = Hop::default();
    let mut host = None;
    let mut expects_continue = false;
    let mut max_forwards = None;
    let counts_forwards = matches!(method, Method::Trace | Method::Options);
    for (index, known, value) in each(fields) {
        hop.take(index, known, value)?;
        match known {
            Known::Host => {
                hop.withheld.insert(index);
                let text = std::str::from_utf8(value).ok();
                let text = text.filter(|text| is_host(text)).ok_or(Refusal::Host)?;
                // RFC 9112 3.2: more than one Host field line is answered 400.
                if host.replace(text).is_some() {
                    return Err(Refusal::Host);
                }
            }
            Known::Expect => {
                hop.withheld.insert(index);
                for expectation in members(value).filter(|member| !member.is_empty()) {
                    if !expectation.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal::Expectation);
                    }
                    expects_continue = true;
                }
            }
            // RFC 9110 7.6.2: means nothing for other methods and then passes as it is.
            Known::MaxForwards if counts_forwards => {
                hop.withheld.insert(index);
                let number = super::field::decimal(value).ok_or(Refusal::MaxForwards)?;
                if max_forwards.replace(number).is_some() {
                    return Err(Refusal::MaxForwards);
                }
            }
            Known::Ours => hop.withheld.insert(index),
            Known::ContentLength
            | Known::TransferEncoding
            | Known::Connection
            | Known::Upgrade
            | Known::MaxForwards
            | Known::Date
            | Known::Hop
            | Known::Other => {}
        }
    }
    hop.finish(fields)?;
    let http11 = version == Version::Http11;
    // RFC 9112 6.1: whoever speaks 1.0 and chunks is not to be trusted about where it ends.
    if hop.transfer_encoding && !http11 {
        return Err(Refusal::TransferEncoding);
    }
    if http11 && host.is_none() {
        return Err(Refusal::Host);
    }
    let framing = match (hop.chunked, hop.length) {
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Empty,
    };
    let bodyless = matches!(framing, Framing::Empty | Framing::Length(0));
    let websocket = http11
        && method == Method::Get
        && bodyless
        && hop.upgrade
        && hop.websocket
        && !hop.websocket_withheld;
    Ok(Request {
        len,
        method,
        version,
        path: target.path,
        query: target.query,
        // RFC 9112 3.2.2: the authority of an absolute-form target replaces `Host`.
        host: target.authority.or(host).unwrap_or_default(),
        framing,
        persistent: !hop.close && (http11 || hop.keep_alive),
        websocket,
        // RFC 9110 10.1.1: ignored in HTTP/1.0, and there is nothing to wait with without a body.
        expects_continue: expects_continue && http11 && !bodyless,
        ends_here: max_forwards == Some(0),
        fields,
        withheld: hop.withheld,
        max_forwards: max_forwards.map(|number| number.saturating_sub(1)),
    })
}

/// Who sent a request and how it reached us, for the worker.
#[derive(Clone, Copy, Debug)]
pub struct ClientSide<'a> {
    /// `None`: a client of a Unix socket.
    pub address: Option<SocketAddr>,
    /// `http` or `https`.
    pub scheme: &'a str,
}

impl<'b> Request<'_, 'b> {
    /// All fields as they came, values without the blanks around them.
    pub fn fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.fields
            .iter()
            .map(|field| (field.name, trim(field.value)))
    }

    /// The value of the first field of this name.
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        value_of(self.fields, name)
    }

    /// The value of the first cookie of this name (RFC 6265 4.2.1), as it was written.
    pub fn cookie(&self, name: &str) -> Option<&'b str> {
        self.fields()
            .filter(|(field, _)| field.eq_ignore_ascii_case("cookie"))
            .flat_map(|(_, value)| value.split(|byte| *byte == b';'))
            .find_map(|pair| {
                let (key, value) = std::str::from_utf8(trim(pair)).ok()?.split_once('=')?;
                (key == name).then_some(value)
            })
    }

    /// The value of the first parameter of this key in the query. Nothing is decoded; a key
    /// without `=` has an empty value.
    pub fn query_value(&self, key: &str) -> Option<&'b str> {
        self.query?.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == key).then_some(value)
        })
    }

    /// May be sent again if a reused upstream died before its first byte (RFC 9110 9.2.2).
    /// PUT and DELETE are idempotent as well, but somebody else may have written in between.
    pub fn is_idempotent_and_bodyless(&self) -> bool {
        let safe = match self.method {
            Method::Get | Method::Head | Method::Options | Method::Trace => true,
            Method::Post | Method::Put | Method::Delete | Method::Patch | Method::Other(_) => false,
        };
        safe && matches!(self.framing, Framing::Empty | Framing::Length(0))
    }

    /// Appends the head that the worker gets.
    pub fn write_for_worker(&self, out: &mut Vec<u8>, from: &ClientSide) {
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.path.as_bytes());
        if let Some(query) = self.query {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        // RFC 9112 2.3: an intermediary sends its own version.
        out.extend_from_slice(b" HTTP/1.1\r\n");
        // RFC 9112 3.2 demands a Host, and 3.3 lets a server choose for a client that sent none.
        let host = if self.host.is_empty() {
            "localhost"
        } else {
            self.host
        };
        push_field(out, b"Host", host.as_bytes());
        for (index, (name, value)) in self.fields().enumerate() {
            if !self.withheld.contains(index) {
                push_field(out, name.as_bytes(), value);
            }
        }
        self.write_own_fields(out, from);
        out.extend_from_slice(b"\r\n");
    }

    /// What this hop says: the framing and the upgrade as decided, the client as we know it.
    fn write_own_fields(&self, out: &mut Vec<u8>, from: &ClientSide) {
        self.framing.push_field(out);
        if self.expects_continue {
            out.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        if let Some(left) = self.max_forwards {
            out.extend_from_slice(b"Max-Forwards: ");
            push_decimal(out, left);
            out.extend_from_slice(b"\r\n");
        }
        if let Some(address) = from.address {
            out.extend_from_slice(b"X-Forwarded-For: ");
            push_ip(out, address.ip());
            out.extend_from_slice(b"\r\nX-Sidekeeper-Client: ");
            push_ip(out, address.ip());
            out.push(b' ');
            push_decimal(out, u64::from(address.port()));
            out.extend_from_slice(b"\r\n");
        }
        push_field(out, b"X-Forwarded-Proto", from.scheme.as_bytes());
        if !self.host.is_empty() {
            push_field(out, b"X-Forwarded-Host", self.host.as_bytes());
        }
        // RFC 9110 7.6.3: after the client's own, in the order of the hops.
        out.extend_from_slice(self.version.via());
        if self.websocket {
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        }
    }
}

/// An IPv4 client of a listener for both families is shown as the IPv4 client it is.
fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, rest @ ..] = ip.octets();
            push_decimal(out, u64::from(first));
            for octet in rest {
                out.push(b'.');
                push_decimal(out, u64::from(octet));
            }
        }
        IpAddr::V6(ip) => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "{ip}");
        }
    }
}

#[cfg(test)]
mod tests;
