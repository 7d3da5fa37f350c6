//! What a head says about this hop alone: how its body is framed, whether the connection
//! persists, what it may be upgraded to, and which fields must not travel further.
//!
//! Both directions share these rules; `request` and `response` add their own and turn a `HopFault`
//! into their answer.

use super::field::{FieldSet, Known, decimal, is_token, known, members, trim};
use httparse::Header;

/// More options in `Connection` than this are refused: each is compared with every field.
const CONNECTION_OPTIONS_MAX: usize = 32;

/// Which rule the fields of this hop break.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HopFault {
    /// `Content-Length` is not one plain number.
    ContentLength,
    /// `Transfer-Encoding` does not end in exactly one plain `chunked`.
    TransferEncoding,
    /// A transfer coding other than `chunked`, which is all that is decoded here.
    TransferCoding,
    /// `Content-Length` and `Transfer-Encoding` in one head.
    Both,
    /// `Connection` is no list of tokens, or an endless one.
    Connection,
}

/// The facts, gathered field by field with `take` and completed by `finish`.
#[derive(Default, Debug)]
pub struct Hop {
    pub length: Option<u64>,
    /// The body is chunked. Valid after `finish`.
    pub chunked: bool,
    pub transfer_encoding: bool,
    pub close: bool,
    pub keep_alive: bool,
    /// `Connection` has the option `upgrade`.
    pub upgrade: bool,
    /// `Upgrade` offers `websocket`; `protocols` counts all that it offers.
    pub websocket: bool,
    pub protocols: usize,
    /// `Connection` names a `Sec-WebSocket-` field, so the handshake does not reach the worker.
    pub websocket_withheld: bool,
    /// Fields that are not passed on as they are.
    pub withheld: FieldSet,
    options: usize,
    names_fields: bool,
    codings: usize,
    chunked_codings: usize,
    chunked_last: bool,
    unknown_coding: bool,
}

impl Hop {
    /// Looks at the next field. What is ours to write anew is withheld.
    pub fn take(&mut self, index: usize, known: Known, value: &[u8]) -> Result<(), HopFault> {
        match known {
            Known::ContentLength => {
                self.withheld.insert(index);
                // RFC 9112 6.3: repeats and lists of equal numbers may be merged or refused.
                // Refusing leaves no second reading.
                let length = decimal(value).ok_or(HopFault::ContentLength)?;
                if self.length.replace(length).is_some() {
                    return Err(HopFault::ContentLength);
                }
            }
            Known::TransferEncoding => {
                self.withheld.insert(index);
                self.transfer_encoding = true;
                return self.take_codings(value);
            }
            Known::Connection => {
                self.withheld.insert(index);
                return self.take_options(value);
            }
            Known::Upgrade => {
                self.withheld.insert(index);
                for protocol in members(value).filter(|protocol| !protocol.is_empty()) {
                    self.protocols += 1;
                    // RFC 6455 4.2.1: compared without case.
                    self.websocket |= protocol.eq_ignore_ascii_case(b"websocket");
                }
            }
            Known::Hop => self.withheld.insert(index),
            Known::Host
            | Known::Expect
            | Known::MaxForwards
            | Known::Date
            | Known::Ours
            | Known::Private
            | Known::RequestId
            | Known::Accept
            | Known::Referer
            | Known::UserAgent
            | Known::Via
            | Known::Other => {}
        }
        Ok(())
    }

    /// RFC 9112 6.1 and 7. Empty members are refused although lists may have them (RFC 9110
    /// 5.6.1): here they only ever hide the coding from someone.
    fn take_codings(&mut self, value: &[u8]) -> Result<(), HopFault> {
        for member in members(value) {
            let mut parts = member.splitn(2, |byte| *byte == b';');
            let name = trim(parts.next().unwrap_or_default());
            let parameters = parts.next().is_some();
            if !is_token(name) {
                return Err(HopFault::TransferEncoding);
            }
            self.codings += 1;
            self.chunked_last = name.eq_ignore_ascii_case(b"chunked");
            if self.chunked_last {
                self.chunked_codings += 1;
                // RFC 9112 7.1: chunked has no parameters; if present they are an error.
                if parameters {
                    return Err(HopFault::TransferEncoding);
                }
            }
            self.unknown_coding |= ![
                "chunked",
                "gzip",
                "x-gzip",
                "deflate",
                "compress",
                "x-compress",
                "identity",
            ]
            .iter()
            .any(|coding| name.eq_ignore_ascii_case(coding.as_bytes()));
        }
        Ok(())
    }

    /// RFC 9110 7.6.1.
    fn take_options(&mut self, value: &[u8]) -> Result<(), HopFault> {
        for option in members(value).filter(|option| !option.is_empty()) {
            self.options += 1;
            if !is_token(option) || self.options > CONNECTION_OPTIONS_MAX {
                return Err(HopFault::Connection);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.names_fields = true;
            }
        }
        Ok(())
    }

    /// Decides on the framing and withholds what `Connection` names.
    ///
    /// RFC 9110 7.6.1 obliges us to remove every named field, and we do, with one limit that
    /// needs no exception in the code: what we write ourselves (`Host`, the framing field, `Via`,
    /// all that says who the client is) is written after this, so no list can remove it.
    pub fn finish(&mut self, fields: &[Header]) -> Result<(), HopFault> {
        self.finish_framing()?;
        if self.names_fields {
            for (connection, _) in named(fields, b"connection") {
                for option in members(connection.value).filter(|option| !option.is_empty()) {
                    for (field, index) in named(fields, option) {
                        self.withheld.insert(index);
                        let name = field.name.as_bytes();
                        self.websocket_withheld |= name
                            .get(..14)
                            .is_some_and(|start| start.eq_ignore_ascii_case(b"sec-websocket-"));
                    }
                }
            }
        }
        Ok(())
    }

    fn finish_framing(&mut self) -> Result<(), HopFault> {
        if !self.transfer_encoding {
            return Ok(());
        }
        // RFC 9112 6.3: this ought to be handled as an error, being an attempt at smuggling.
        if self.length.is_some() {
            return Err(HopFault::Both);
        }
        if self.chunked_codings > 1 {
            return Err(HopFault::TransferEncoding);
        }
        // RFC 9112 6.1 wants 501 for what is not understood, 6.3 wants 400 where `chunked` is
        // not the last coding.
        if self.unknown_coding {
            return Err(HopFault::TransferCoding);
        }
        if !self.chunked_last {
            return Err(HopFault::TransferEncoding);
        }
        if self.codings > 1 {
            return Err(HopFault::TransferCoding);
        }
        self.chunked = true;
        Ok(())
    }
}

/// The fields of a name, each with its position.
fn named<'f, 'b>(
    fields: &'f [Header<'b>],
    name: &'f [u8],
) -> impl Iterator<Item = (&'f Header<'b>, usize)> {
    fields
        .iter()
        .zip(0..)
        .filter(move |(field, _)| field.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Goes through all fields once, with what each name means and its trimmed value.
pub fn each<'f, 'b>(
    fields: &'f [Header<'b>],
) -> impl Iterator<Item = (usize, Known, &'b [u8])> + use<'f, 'b> {
    fields
        .iter()
        .zip(0..)
        .map(|(field, index)| (index, known(field.name.as_bytes()), trim(field.value)))
}
