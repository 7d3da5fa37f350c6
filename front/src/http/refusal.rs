//! Why a request is refused: the one place that turns a broken rule into a status and a log line.

use super::hop::HopFault;
use super::scan::Broken;

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
