//! Request heads and response heads: the door to what the files `request` and `response` do, and
//! what both have in common: limits, versions, the storage for fields, and how pieces are written.

pub use super::field::{push, push_decimal};
pub use super::request::{ClientSide, Method, Request, push_ip, read_request};
pub use super::response::{Asked, Delivery, Response, add_field, read_response};

use crate::as_json;
use std::mem::MaybeUninit;

/// The most fields a head may have, whatever the limits say: the storage has this size.
pub const FIELDS_MAX: usize = 256;

/// Room for the fields of one head, on the caller's stack; `fields()` makes one.
pub type Fields<'b> = [MaybeUninit<httparse::Header<'b>>; FIELDS_MAX];

/// Storage for one head. It is not initialised, so it costs nothing.
#[inline(always)]
pub fn fields<'b>() -> Fields<'b> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// How large a head may be. Who exceeds a limit is answered 414 or 431; a worker that does, 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head with its blank line.
    pub head_bytes_max: usize,
    /// Field lines; never more than `FIELDS_MAX`.
    pub head_fields_max: usize,
    /// Bytes of the request target.
    pub target_bytes_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits {
            head_bytes_max: 16384,
            head_fields_max: 100,
            target_bytes_max: 8192,
        }
    }
}

/// The versions spoken here. Others are refused (RFC 9112 2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    Http10,
    Http11,
}

as_json!(
    enum Version {
        Http10,
        Http11,
    }
);

impl Version {
    pub(super) fn from_minor(minor: Option<u8>) -> Option<Version> {
        match minor {
            Some(0) => Some(Version::Http10),
            Some(1) => Some(Version::Http11),
            Some(_) | None => None,
        }
    }

    /// As `Via` names the protocol a message came by (RFC 9110 7.6.3), in the field we add.
    pub(super) fn via(self) -> &'static [u8; 21] {
        match self {
            Version::Http10 => b"Via: 1.0 sidekeeper\r\n",
            Version::Http11 => b"Via: 1.1 sidekeeper\r\n",
        }
    }
}
