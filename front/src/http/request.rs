//! Request heads: read strictly from a client, written anew for a worker.
//!
//! A head is accepted only if a worker will read from what `write_for_worker` makes of it exactly
//! the request that was decided on here. The caller reads bytes, answers a `Refusal`, and moves
//! the body with `framing`.

use super::field::{FieldSet, Known, decimal, members, trim};
use super::framing::Framing;
use super::head::{FIELDS_MAX, Fields, HeadLimits, Version};
use super::hop::{Hop, each};
use super::host::is_host;
use super::refusal::Refusal;
use super::scan::{Broken, read_by_httparse, scan};
use super::target;
use httparse::Header;

pub use forward::{ClientSide, push_ip};

mod forward;

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
    pub said: Said<'b>,
    head: &'b [u8],
    fields: &'f [Header<'b>],
    withheld: FieldSet,
    /// What is left of `Max-Forwards` for the worker.
    max_forwards: Option<u64>,
}

/// What a client says of itself and of what it wants; nothing depends on it but what it is told and
/// what is logged. Empty where it says nothing; the last one where it says it twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'b> {
    pub accept: &'b [u8],
    pub referer: &'b [u8],
    pub user_agent: &'b [u8],
    /// `X-Request-Id`, if there is exactly one.
    pub request_id: Option<&'b [u8]>,
    /// Another proxy says that it has passed the request on.
    pub forwarded: bool,
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
    let storage = storage
        .get_mut(..limits.head_fields_max.min(FIELDS_MAX))
        .unwrap_or_default();
    let mut parsed = httparse::Request::new(&mut []);
    let outcome = parsed.parse_with_uninit_headers(head, storage);
    let read = match (outcome, parsed.method) {
        // It skips any number of empty lines.
        (Ok(httparse::Status::Complete(len)), Some(method)) if method.as_ptr() == head.as_ptr() => {
            read_by_httparse(head, len, parsed.headers, limits)
        }
        (Ok(_) | Err(_), _) => None,
    };
    let found = match read.map_or_else(|| scan(head, limits), Ok) {
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
    let (method, version, target) = read_line(line, &parsed, outcome, limits)?;
    if outcome != Ok(httparse::Status::Complete(len)) {
        return Err(Refusal::FieldSyntax);
    }
    let fields: &'f [Header<'b>] = parsed.headers;
    let head = bytes.get(..skipped + len).unwrap_or_default();
    decide(head, method, version, target, fields).map(Some)
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
    head: &'b [u8],
    method: Method<'b>,
    version: Version,
    target: target::Target<'b>,
    fields: &'f [Header<'b>],
) -> Result<Request<'f, 'b>, Refusal> {
    let mut hop = Hop::default();
    let mut host = None;
    let mut expects_continue = false;
    let mut max_forwards = None;
    let (mut said, mut ids_seen) = (Said::default(), false);
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
                let number = decimal(value).ok_or(Refusal::MaxForwards)?;
                if max_forwards.replace(number).is_some() {
                    return Err(Refusal::MaxForwards);
                }
            }
            Known::Ours => {
                hop.withheld.insert(index);
                said.forwarded = true;
            }
            Known::Private => hop.withheld.insert(index),
            Known::RequestId => {
                hop.withheld.insert(index);
                // Two of them contradict each other.
                said.request_id = (!ids_seen).then_some(value);
                ids_seen = true;
            }
            Known::Via => said.forwarded = true,
            Known::Accept => said.accept = value,
            Known::Referer => said.referer = value,
            Known::UserAgent => said.user_agent = value,
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
        len: head.len(),
        head,
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
        said,
        fields,
        withheld: hop.withheld,
        max_forwards: max_forwards.map(|number| number.saturating_sub(1)),
    })
}

impl<'b> Request<'_, 'b> {
    /// All fields as they came, values without the blanks around them.
    pub fn fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.fields
            .iter()
            .map(|field| (field.name, trim(field.value)))
    }

    /// The value of the first cookie of this name (RFC 6265 4.2.1), as it was written.
    pub fn cookie(&self, name: &str) -> Option<&'b str> {
        self.fields()
            .filter(|(field, _)| field.eq_ignore_ascii_case("cookie"))
            .flat_map(|(_, value)| value.split(|byte| *byte == b';'))
            .find_map(|pair| {
                let value = trim(pair).strip_prefix(name.as_bytes())?;
                std::str::from_utf8(value.strip_prefix(b"=")?).ok()
            })
    }

    /// The value of the first parameter of this key in the query. Nothing is decoded; a key
    /// without `=` has an empty value.
    #[inline]
    pub fn query_value(&self, key: &str) -> Option<&'b str> {
        // By bytes: looking for a char costs several times as much, and this runs at each request.
        let mut pairs = self.query?.as_bytes().split(|byte| *byte == b'&');
        pairs.find_map(|pair| match pair.strip_prefix(key.as_bytes())? {
            [] => Some(""),
            [b'=', value @ ..] => std::str::from_utf8(value).ok(),
            [_, ..] => None,
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
}

#[cfg(test)]
mod tests;
