//! The strict scan that every head passes before httparse reads it.
//!
//! httparse forgives what a parser behind us may read differently: bare line feeds, several empty
//! lines, folded values. The scan is one pass that checks line ends, control bytes and limits and
//! finds the end; only a head without such surprises reaches httparse. An incomplete head is
//! scanned again when more bytes arrive, which `head_bytes_max` bounds.

use super::field::trim;
use super::head::{FIELDS_MAX, HeadLimits};
use httparse::Header;

/// Why a head cannot be read as lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// A CR or LF that is not part of a CRLF.
    LineEnd,
    /// NUL, DEL or another control byte that is not HTAB.
    Control,
    /// A line after the first begins with a blank: folding, or a field that hides.
    Folding,
    /// No start line where one must be.
    Empty,
    TooLarge,
    TooManyFields,
}

/// What the scan found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan {
    /// Where the line after the start line begins, once the start line is complete.
    pub start_line: Option<usize>,
    /// Bytes of the head with its blank line, once it is complete.
    pub len: Option<usize>,
}

/// What [`scan`] would find out about the head of `len` bytes that httparse has read, told by where its
/// names and values lie: httparse has looked at all bytes but those between the lines, the one place in
/// which it is more lenient. None: something is unusual, so `scan` has to look.
pub fn read_by_httparse(
    bytes: &[u8],
    len: usize,
    fields: &[Header<'_>],
    limits: &HeadLimits,
) -> Option<Scan> {
    let place = |of: *const u8| of.addr().wrapping_sub(bytes.as_ptr().addr());
    let mut line = len.checked_sub(2)?;
    if len > limits.head_bytes_max || bytes.get(line..len) != Some(b"\r\n") {
        return None;
    }
    for field in fields.iter().rev() {
        let behind = place(field.value.as_ptr()).wrapping_add(field.value.len());
        match bytes.get(behind..line) {
            Some(b"\r\n") => {}
            Some([blanks @ .., b'\r', b'\n']) if trim(blanks).is_empty() => {}
            Some(_) | None => return None,
        }
        line = place(field.name.as_ptr());
    }
    if bytes.get(..line)?.last_chunk() != Some(b"\r\n") {
        return None;
    }
    let found = Scan {
        start_line: Some(line),
        len: Some(len),
    };
    debug_assert_eq!(scan(bytes, limits), Ok(found));
    Some(found)
}

/// Checks the lines of a head that begins at the first of `bytes`.
pub fn scan(bytes: &[u8], limits: &HeadLimits) -> Result<Scan, Broken> {
    let fields_max = limits.head_fields_max.min(FIELDS_MAX);
    let window = bytes.get(..limits.head_bytes_max).unwrap_or(bytes);
    let mut found = Scan {
        start_line: None,
        len: None,
    };
    let (mut line, mut at, mut lines) = (0, 0, 0);
    loop {
        at = control(window, at);
        match (window.get(at), window.get(at + 1)) {
            (None, _) | (Some(b'\r'), None) => break,
            (Some(b'\t'), _) => at += 1,
            // RFC 9112 2.2: a bare CR is invalid. That a bare LF may end a line is leniency that
            // lets two parsers see two different heads.
            (Some(b'\r'), Some(b'\n')) if at == line && lines == 0 => return Err(Broken::Empty),
            (Some(b'\r'), Some(b'\n')) if at == line => {
                found.len = Some(at + 2);
                return Ok(found);
            }
            (Some(b'\r'), Some(b'\n')) => {
                // The first line is no field.
                if lines > fields_max {
                    return Err(Broken::TooManyFields);
                }
                lines += 1;
                at += 2;
                line = at;
                found.start_line.get_or_insert(at);
                // RFC 9112 2.2 and 5.2: neither blanks before the first field nor folding.
                if matches!(window.get(at), Some(b' ' | b'\t')) {
                    return Err(Broken::Folding);
                }
            }
            (Some(b'\r' | b'\n'), _) => return Err(Broken::LineEnd),
            (Some(_), _) => return Err(Broken::Control),
        }
    }
    if bytes.len() >= limits.head_bytes_max {
        return Err(Broken::TooLarge);
    }
    Ok(found)
}

/// The first control byte at or after `from`, or the end. Eight bytes a step: almost every byte
/// of a head is printable, and this runs twice a request.
fn control(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 0x80;
    let mut at = from;
    while let Some((word, _)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        let low = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let flipped = word ^ (ONES * 0x7f);
        let del = flipped.wrapping_sub(ONES) & !flipped & HIGH;
        // A borrow can only mark bytes above the lowest mark, so the lowest is exact.
        let marks = low | del;
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let plain = rest
        .iter()
        .take_while(|byte| **byte >= b' ' && **byte != 0x7f);
    at + plain.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_finds_every_control_byte_at_every_place() {
        for value in 0..=255u8 {
            for place in 0..20 {
                let mut bytes = [b'a'; 20];
                bytes[place] = value;
                let wanted = if value < 32 || value == 127 {
                    place
                } else {
                    20
                };
                assert_eq!(control(&bytes, 0), wanted, "{value} at {place}");
            }
        }
        assert_eq!(control(b"aaaaaaaa\n\x1f\x7f\x80\xff aa", 9), 9);
        assert_eq!(control(b"", 0), 0);
        assert_eq!(control(b"abc", 9), 9);
    }

    #[rustfmt::skip]
    #[test]
    fn lines_and_limits() {
        let limits = HeadLimits {
            head_bytes_max: 24,
            head_fields_max: 2,
            target_bytes_max: 9,
        };
        let found = |start_line, len| Ok(Scan { start_line, len });
        for (name, bytes, wanted) in [
            ("nothing", &b""[..], found(None, None)),
            ("half a line", b"abc", found(None, None)),
            ("CR alone so far", b"abc\r", found(None, None)),
            ("one line", b"abc\r\n", found(Some(5), None)),
            ("half a blank line", b"abc\r\n\r", found(Some(5), None)),
            ("no fields", b"abc\r\n\r\n", found(Some(5), Some(7))),
            ("body behind", b"abc\r\n\r\n\0\n", found(Some(5), Some(7))),
            ("two fields", b"a\r\nb\r\nc\r\n\r\n", found(Some(3), Some(11))),
            ("three fields", b"a\r\nb\r\nc\r\nd\r\n", Err(Broken::TooManyFields)),
            ("tab", b"a\tb\r\n\r\n", found(Some(5), Some(7))),
            ("bare LF", b"a\nb", Err(Broken::LineEnd)),
            ("bare CR", b"a\rb", Err(Broken::LineEnd)),
            ("CR CR LF", b"a\r\r\n", Err(Broken::LineEnd)),
            ("CR LF CR x", b"a\r\n\rx", Err(Broken::LineEnd)),
            ("CR LF LF", b"a\r\n\n", Err(Broken::LineEnd)),
            ("NUL", b"a\0", Err(Broken::Control)),
            ("DEL", b"a\x7f", Err(Broken::Control)),
            ("vertical tab", b"a\x0b", Err(Broken::Control)),
            ("folded", b"a\r\nb\r\n c", Err(Broken::Folding)),
            ("blank first", b"a\r\n\tb", Err(Broken::Folding)),
            ("empty line first", b"\r\nabc", Err(Broken::Empty)),
            ("as long as allowed", b"aaaaaaaaaaaaaaaaaaaa\r\n\r\n", found(Some(22), Some(24))),
            ("too long", b"aaaaaaaaaaaaaaaaaaaaa\r\n\r\n", Err(Broken::TooLarge)),
            ("can only be too long", b"aaaaaaaaaaaaaaaaaaaaaaaa", Err(Broken::TooLarge)),
        ] {
            assert_eq!(scan(bytes, &limits), wanted, "{name}");
        }
    }
}
