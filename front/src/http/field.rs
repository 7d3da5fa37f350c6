//! Field names and values: which names this proxy treats specially, tokens, lists, numbers.
//!
//! Names are told apart by their length first, so an ordinary field costs one jump. Nothing here
//! decides what happens to a field; that is `hop`, `request` and `response`.

use super::head::FIELDS_MAX;
use httparse::Header;
use std::ops::Range;

pub use crate::sys::append::append as push;

/// What a field name means to this proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    MaxForwards,
    Date,
    /// Concerns one connection only, whether or not `Connection` names it (RFC 9110 7.6.1).
    Hop,
    /// Says who the client is: written by us, never believed from a client.
    Ours,
    /// `X-Sidekeeper-`: between us and a worker, in neither direction any further.
    Private,
    /// `X-Request-Id`: written by us; a client's is believed only if we are told to.
    RequestId,
    Accept,
    Referer,
    UserAgent,
    /// The message has come through another intermediary.
    Via,
    Other,
}

/// The meaning of a field name.
pub fn known(name: &[u8]) -> Known {
    match name.len() {
        2 if is(name, b"te") => Known::Hop,
        3 if is(name, b"via") => Known::Via,
        4 if is(name, b"host") => Known::Host,
        4 if is(name, b"date") => Known::Date,
        6 if is(name, b"expect") => Known::Expect,
        6 if is(name, b"accept") => Known::Accept,
        7 if is(name, b"upgrade") => Known::Upgrade,
        7 if is(name, b"referer") => Known::Referer,
        // All trailers are discarded on the way (see `framing`), so announcing them is too.
        7 if is(name, b"trailer") => Known::Hop,
        9 if is(name, b"forwarded") => Known::Ours,
        10 if is(name, b"connection") => Known::Connection,
        10 if is(name, b"keep-alive") => Known::Hop,
        10 if is(name, b"user-agent") => Known::UserAgent,
        12 if is(name, b"max-forwards") => Known::MaxForwards,
        14 if is(name, b"content-length") => Known::ContentLength,
        // RFC 7540 3.2.1: belongs to an h2c upgrade, which is never passed on.
        14 if is(name, b"http2-settings") => Known::Hop,
        16 if is(name, b"proxy-connection") => Known::Hop,
        17 if is(name, b"transfer-encoding") => Known::TransferEncoding,
        // RFC 9110 11.7: for the next hop alone; a worker is not a proxy and asks for none.
        18 if is(name, b"proxy-authenticate") => Known::Hop,
        19 if is(name, b"proxy-authorization") => Known::Hop,
        25 if is(name, b"proxy-authentication-info") => Known::Hop,
        _ => between_hops(name),
    }
}

/// Whether a name of this length is this text, in any case. Every field of every head is asked, so
/// words are compared, of which the last one overlaps the one before.
#[inline(always)]
fn is<const N: usize>(name: &[u8], text: &[u8; N]) -> bool {
    let same = |at: usize| word(name, at).map(|word| word | CASE) == word(text, at);
    let same_half = |at: usize| half(name, at).map(|half| half | CASE as u32) == half(text, at);
    match N {
        8..=24 => same(0) && same(N.saturating_sub(8)) && (N <= 16 || same(8)),
        4..=7 => same_half(0) && same_half(N.saturating_sub(4)),
        _ => name.eq_ignore_ascii_case(text),
    }
}

/// Makes a capital letter a small one and leaves digits and hyphens as they are. What else it would
/// turn into one of them is a control byte, which no name has.
const CASE: u64 = u64::from_ne_bytes([0x20; 8]);

#[inline(always)]
fn word(text: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*text.get(at..)?.first_chunk()?))
}

#[inline(always)]
fn half(text: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*text.get(at..)?.first_chunk()?))
}

/// The names by which workers learn of the client and of the request. CGI and WSGI turn `-` and `_`
/// into the same variable, so a forged `X_Forwarded_For` must not pass either.
fn between_hops(name: &[u8]) -> Known {
    let begins = |text: &str| {
        name.len() >= text.len()
            && name.iter().zip(text.as_bytes()).all(|(byte, wanted)| {
                let byte = if *byte == b'_' { b'-' } else { *byte };
                byte.eq_ignore_ascii_case(wanted)
            })
    };
    match name {
        [b'x' | b'X', b'-' | b'_', ..] => {}
        _ => return Known::Other,
    }
    match name.len() {
        9 if begins("x-real-ip") => Known::Ours,
        12 if begins("x-request-id") => Known::RequestId,
        _ if begins("x-forwarded-") => Known::Ours,
        _ if begins("x-sidekeeper-") => Known::Private,
        _ => Known::Other,
    }
}

/// A set of positions in a head's fields.
#[derive(Clone, Copy, Default, Debug)]
pub struct FieldSet([u64; FIELDS_MAX / 64]);

impl FieldSet {
    pub fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    pub fn contains(&self, index: usize) -> bool {
        self.0
            .get(index / 64)
            .is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

/// RFC 9110 5.6.2: the characters of a token.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
            | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

pub fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

/// RFC 9110 5.5: what a field value may hold. HTAB and bytes above ASCII may, other controls not.
pub fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Without the optional blanks around it (RFC 9110 5.6.3: SP and HTAB, nothing else).
pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The members of a comma-separated list, empty ones included, without the blanks around them.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

/// RFC 9110 8.6: digits and nothing else. Larger than a signed 64-bit number is refused as well:
/// a parser behind us may well hold lengths in one.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut number: i64 = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number
            .checked_mul(10)?
            .checked_add(i64::from(byte - b'0'))?;
    }
    u64::try_from(number).ok()
}

/// Writes a number without the formatting machinery, which costs more than the rest of a head.
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [[b'0'; 2]; 10];
    let mut first = digits.len();
    for pair in digits.iter_mut().rev() {
        *pair = PAIRS[(number % 100) as usize];
        number /= 100;
        first -= 1;
        if number == 0 {
            break;
        }
    }
    let text = digits.get(first..).unwrap_or_default().as_flattened();
    push(out, text.strip_prefix(b"0").unwrap_or(text));
}

/// The numbers below a hundred.
const PAIRS: [[u8; 2]; 100] = {
    let mut table = [[0; 2]; 100];
    let mut number = 0;
    while number < table.len() {
        table[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    table
};

/// Writes a chunk size.
pub fn push_hex(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 16];
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        let digit = (number & 15) as u8;
        *slot = if digit < 10 {
            b'0' + digit
        } else {
            b'a' + digit - 10
        };
        used += 1;
        number >>= 4;
        if number == 0 {
            break;
        }
    }
    push(out, digits.get(digits.len() - used..).unwrap_or_default());
}

/// Writes one field line.
pub fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    push(out, name);
    out.extend_from_slice(b": ");
    push(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Writes the field lines of `head` that are not withheld, in their order. What lies there as it
/// would be written is copied in one piece, mostly several lines of it.
pub fn push_fields(out: &mut Vec<u8>, head: &[u8], fields: &[Header<'_>], withheld: &FieldSet) {
    let mut run = 0..0;
    let kept = fields.iter().enumerate();
    for (_, field) in kept.filter(|(index, _)| !withheld.contains(*index)) {
        match as_written(head, field) {
            Some(line) if line.start == run.end => run.end = line.end,
            Some(line) => {
                push(out, head.get(run).unwrap_or_default());
                run = line;
            }
            None => {
                push(out, head.get(run).unwrap_or_default());
                run = 0..0;
                push_field(out, field.name.as_bytes(), trim(field.value));
            }
        }
    }
    push(out, head.get(run).unwrap_or_default());
}

/// Where in `head` a field's line stands exactly as [`push_field`] would write it.
fn as_written(head: &[u8], field: &Header<'_>) -> Option<Range<usize>> {
    let place = |of: *const u8| of.addr().wrapping_sub(head.as_ptr().addr());
    let start = place(field.name.as_ptr());
    let colon = start.wrapping_add(field.name.len());
    let value = place(field.value.as_ptr());
    let end = value.wrapping_add(field.value.len());
    // What lies around: the colon with one blank, and the line's end.
    let (Some(b": "), Some([b'\r', b'\n', ..])) = (head.get(colon..value), head.get(end..)) else {
        return None;
    };
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let trimmed = !blank(field.value.first()) && !blank(field.value.last());
    trimmed.then_some(start..end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        for (name, meaning) in [
            ("Host", Known::Host),
            ("HOST", Known::Host),
            ("date", Known::Date),
            ("TE", Known::Hop),
            ("Trailer", Known::Hop),
            ("keep-ALIVE", Known::Hop),
            ("Proxy-Connection", Known::Hop),
            ("Proxy-Authorization", Known::Hop),
            ("Proxy-Authenticate", Known::Hop),
            ("Proxy-Authentication-Info", Known::Hop),
            ("HTTP2-Settings", Known::Hop),
            ("Content-Length", Known::ContentLength),
            ("Content_Length", Known::Other),
            ("Transfer-Encoding", Known::TransferEncoding),
            ("Transfer-Encodings", Known::Other),
            ("Forwarded", Known::Ours),
            ("X-Real-IP", Known::Ours),
            ("X-Real-IPs", Known::Other),
            ("x_real_ip", Known::Ours),
            ("X-Forwarded-For", Known::Ours),
            ("X_Forwarded-For", Known::Ours),
            ("x-forwarded-anything", Known::Ours),
            ("X-Sidekeeper-Client", Known::Private),
            ("X-Sidekeeper_Client", Known::Private),
            ("X-Request-ID", Known::RequestId),
            ("x_request_id", Known::RequestId),
            ("X-Request-Ids", Known::Other),
            ("accept", Known::Accept),
            ("Accept-Encoding", Known::Other),
            ("REFERER", Known::Referer),
            ("User-Agent", Known::UserAgent),
            ("via", Known::Via),
            ("X-Forward", Known::Other),
            ("X", Known::Other),
            ("", Known::Other),
            ("Cookie", Known::Other),
        ] {
            assert_eq!(known(name.as_bytes()), meaning, "{name}");
        }
    }

    #[test]
    fn decimal_takes_digits_only() {
        for (text, number) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("007", Some(7)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("18446744073709551616", None),
            ("99999999999999999999999999", None),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("5 ", None),
            ("5,5", None),
            ("0x5", None),
            ("5.0", None),
            ("\u{ff15}", None),
        ] {
            assert_eq!(decimal(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in [0, 1, 9, 10, 15, 16, 255, 4096, 65535, 1 << 40, u64::MAX] {
            let (mut decimal, mut hex) = (Vec::new(), Vec::new());
            push_decimal(&mut decimal, number);
            push_hex(&mut hex, number);
            assert_eq!(decimal, number.to_string().into_bytes());
            assert_eq!(hex, format!("{number:x}").into_bytes());
        }
    }

    #[test]
    fn pieces_of_every_length_are_appended_whole() {
        let all: Vec<u8> = (0..=255).chain(0..=255).collect();
        for length in 0..all.len() {
            let mut out = b"before".to_vec();
            push(&mut out, &all[..length]);
            assert_eq!(out, [b"before", &all[..length]].concat());
        }
    }

    #[test]
    fn a_set_holds_every_position_and_ignores_others() {
        let mut set = FieldSet::default();
        for index in [0, 63, 64, 255, 256, 9999] {
            set.insert(index);
        }
        for index in [0, 63, 64, 255] {
            assert!(set.contains(index));
        }
        for index in [1, 62, 65, 254, 256, 9999] {
            assert!(!set.contains(index));
        }
    }
}
