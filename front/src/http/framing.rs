//! Bodies: where one ends, and how it is passed on in another framing (RFC 9112 6 and 7).
//!
//! A `Decoder` is fed whatever bytes there are and says which are framing and which are payload;
//! it never takes a byte behind the end of its message. Chunk extensions are checked and dropped.
//! So are trailers, all of them: RFC 9110 6.5.1 lets an intermediary discard them, and merging
//! fields that nobody could judge when the head was read is how limits are walked around.

use super::field::{is_token_byte, is_value_byte, push, push_decimal, push_hex};
use crate::as_json;

/// How the end of a body is known (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none, whatever the head says.
    Empty,
    Length(u64),
    Chunked,
    /// It ends with the connection; a cut cannot be told from the end.
    UntilClose,
}

as_json!(
    enum Framing {
        Empty,
        Length(a),
        Chunked,
        UntilClose,
    }
);

impl Framing {
    /// The field that announces it. Neither an absent body nor one until the close has any.
    pub(super) fn push_field(&self, out: &mut Vec<u8>) {
        match self {
            Framing::Empty | Framing::UntilClose => {}
            Framing::Length(length) => push_content_length(out, *length),
            Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
    }
}

pub(super) fn push_content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// The extensions of one chunk.
const EXTENSION_LINE_BYTES_MAX: u16 = 1024;
/// All extensions of one body together; more is a flood of them.
const EXTENSION_BYTES_MAX: u32 = 16384;
/// The trailer section, with its blank line.
const TRAILER_BYTES_MAX: u32 = 16384;
/// Leading zeros included: sixteen digits fill 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// Why a chunked body cannot be read on. What follows in the connection means nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A chunk size that is no hexadecimal number (RFC 9112 7.1).
    Size,
    /// A chunk size beyond 63 bits or sixteen digits.
    SizeTooLarge,
    /// A chunk extension that breaks the grammar (RFC 9112 7.1.1).
    Extension,
    /// Extensions beyond the limits (RFC 9112 7.1.1 asks for one).
    ExtensionTooLong,
    /// Something else in the place of a CRLF.
    LineEnd,
    /// A trailer line that is not `token ":" value` (RFC 9112 7.1.2).
    Trailer,
    /// A trailer section beyond the limit.
    TrailerTooLong,
}

impl Malformed {
    /// For the log.
    pub fn reason(&self) -> &'static str {
        match self {
            Malformed::Size => "a malformed chunk size",
            Malformed::SizeTooLarge => "a chunk size that is too large",
            Malformed::Extension => "a malformed chunk extension",
            Malformed::ExtensionTooLong => "chunk extensions that are too long",
            Malformed::LineEnd => "a chunk that does not end in CRLF",
            Malformed::Trailer => "a malformed trailer field",
            Malformed::TrailerTooLong => "a trailer section that is too long",
        }
    }
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    /// Payload of a body with a length.
    Length,
    /// Payload of a body that the close ends.
    UntilClose,
    /// Payload of a chunk.
    Data,
    Syntax(Syntax),
}

as_json!(
    enum State {
        Done,
        Length,
        UntilClose,
        Data,
        Syntax(a),
    }
);

/// ```text
/// Size -> [ extension ] -> SizeLf -> (Data) -> DataCr -> DataLf -> Size
///                            | size 0
///                            v
///                       TrailerStart -> EndLf -> (Done)
///                        |        ^
///                        v        |
///               TrailerName -> TrailerValue -> TrailerLf
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    Size,
    /// Blanks after a size or a value: only a semicolon may follow.
    ExtensionGap,
    /// After the semicolon.
    ExtensionStart,
    ExtensionName,
    /// Blanks after a name: an equals sign or a semicolon may follow.
    ExtensionNameGap,
    /// After the equals sign.
    ExtensionValueStart,
    ExtensionValue,
    ExtensionQuoted,
    ExtensionEscaped,
    ExtensionQuotedEnd,
    SizeLf,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

as_json!(
    enum Syntax {
        Size,
        ExtensionGap,
        ExtensionStart,
        ExtensionName,
        ExtensionNameGap,
        ExtensionValueStart,
        ExtensionValue,
        ExtensionQuoted,
        ExtensionEscaped,
        ExtensionQuotedEnd,
        SizeLf,
        DataCr,
        DataLf,
        TrailerStart,
        TrailerName,
        TrailerValue,
        TrailerLf,
        EndLf,
    }
);

/// Finds the end of one body. Cloning it looks ahead.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Payload bytes still to come, of the body or of the chunk.
    left: u64,
    /// Bytes of extensions, later of trailers.
    extra: u32,
    /// Bytes of the extensions of this chunk.
    line: u16,
    digits: u8,
    state: State,
}

as_json!(struct Decoder { left, extra, line, digits, state });

const _: () = assert!(size_of::<Decoder>() <= 16);

/// The next piece of a body: so many bytes of framing, then so many of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub framing: usize,
    pub data: usize,
}

impl Decoder {
    pub fn new(framing: Framing) -> Decoder {
        let (state, left) = match framing {
            Framing::Empty | Framing::Length(0) => (State::Done, 0),
            Framing::Length(length) => (State::Length, length),
            Framing::Chunked => (State::Syntax(Syntax::Size), 0),
            Framing::UntilClose => (State::UntilClose, u64::MAX),
        };
        Decoder {
            left,
            extra: 0,
            line: 0,
            digits: 0,
            state,
        }
    }

    /// The message has ended; what follows is not part of it.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Only the end of the connection ends it.
    pub fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// The next piece of `input`. Zero bytes of both: done, or nothing to read.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Malformed> {
        let mut framing = 0;
        for byte in input {
            let State::Syntax(syntax) = self.state else {
                break;
            };
            self.state = self.take(syntax, *byte)?;
            framing += 1;
        }
        let payload = input.get(framing..).unwrap_or_default().len();
        Ok(Step {
            framing,
            data: self.take_payload(payload),
        })
    }

    /// Takes as many of the available payload bytes as belong to this piece.
    #[inline]
    fn take_payload(&mut self, available: usize) -> usize {
        let after = match self.state {
            State::UntilClose => return available,
            State::Done | State::Syntax(_) => return 0,
            State::Length => State::Done,
            State::Data => State::Syntax(Syntax::DataCr),
        };
        let data = usize::try_from(self.left).map_or(available, |left| left.min(available));
        self.left = self.left.saturating_sub(data as u64);
        if self.left == 0 {
            self.state = after;
        }
        data
    }

    /// Takes one byte of chunk syntax.
    fn take(&mut self, syntax: Syntax, byte: u8) -> Result<State, Malformed> {
        let next = match syntax {
            Syntax::Size => self.take_size(byte)?,
            Syntax::SizeLf => match (byte, self.left) {
                (b'\n', 0) => {
                    self.extra = 0;
                    Syntax::TrailerStart
                }
                (b'\n', _) => return Ok(State::Data),
                (_, _) => return Err(Malformed::LineEnd),
            },
            Syntax::DataCr if byte == b'\r' => Syntax::DataLf,
            Syntax::DataLf if byte == b'\n' => {
                self.line = 0;
                self.digits = 0;
                Syntax::Size
            }
            Syntax::EndLf if byte == b'\n' => return Ok(State::Done),
            Syntax::DataCr | Syntax::DataLf | Syntax::EndLf => return Err(Malformed::LineEnd),
            Syntax::TrailerStart
            | Syntax::TrailerName
            | Syntax::TrailerValue
            | Syntax::TrailerLf => self.take_trailer(syntax, byte)?,
            Syntax::ExtensionGap
            | Syntax::ExtensionStart
            | Syntax::ExtensionName
            | Syntax::ExtensionNameGap
            | Syntax::ExtensionValueStart
            | Syntax::ExtensionValue
            | Syntax::ExtensionQuoted
            | Syntax::ExtensionEscaped
            | Syntax::ExtensionQuotedEnd => self.take_extension(syntax, byte)?,
        };
        Ok(State::Syntax(next))
    }

    /// `1*HEXDIG`: no sign, no `0x`, no blanks before it.
    fn take_size(&mut self, byte: u8) -> Result<Syntax, Malformed> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.digits == 0 => return Err(Malformed::Size),
            b'\r' => return Ok(Syntax::SizeLf),
            b'\n' => return Err(Malformed::LineEnd),
            b';' | b' ' | b'\t' => return self.take_extension(Syntax::ExtensionGap, byte),
            _ => return Err(Malformed::Size),
        };
        // Bit 63 stays clear: a parser behind us may hold sizes in a signed number.
        if self.digits == SIZE_DIGITS_MAX || self.left >> 59 != 0 {
            return Err(Malformed::SizeTooLarge);
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(Syntax::Size)
    }

    /// RFC 9112 7.1.1: `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`.
    fn take_extension(&mut self, syntax: Syntax, byte: u8) -> Result<Syntax, Malformed> {
        self.line = self.line.saturating_add(1);
        self.extra = self.extra.saturating_add(1);
        if self.line > EXTENSION_LINE_BYTES_MAX || self.extra > EXTENSION_BYTES_MAX {
            return Err(Malformed::ExtensionTooLong);
        }
        let blank = byte == b' ' || byte == b'\t';
        let token = is_token_byte(byte);
        let value = is_value_byte(byte);
        let next = match (syntax, byte) {
            (Syntax::ExtensionGap, _) if blank => Syntax::ExtensionGap,
            (Syntax::ExtensionStart, _) if blank => Syntax::ExtensionStart,
            (Syntax::ExtensionStart | Syntax::ExtensionName, _) if token => Syntax::ExtensionName,
            (Syntax::ExtensionName | Syntax::ExtensionNameGap, _) if blank => {
                Syntax::ExtensionNameGap
            }
            (Syntax::ExtensionName | Syntax::ExtensionNameGap, b'=') => Syntax::ExtensionValueStart,
            (Syntax::ExtensionValueStart, _) if blank => Syntax::ExtensionValueStart,
            (Syntax::ExtensionValueStart | Syntax::ExtensionValue, _) if token => {
                Syntax::ExtensionValue
            }
            (Syntax::ExtensionValue | Syntax::ExtensionQuotedEnd, _) if blank => {
                Syntax::ExtensionGap
            }
            (Syntax::ExtensionValueStart, b'"') => Syntax::ExtensionQuoted,
            (Syntax::ExtensionQuoted, b'"') => Syntax::ExtensionQuotedEnd,
            (Syntax::ExtensionQuoted, b'\\') => Syntax::ExtensionEscaped,
            (Syntax::ExtensionQuoted | Syntax::ExtensionEscaped, _) if value => {
                Syntax::ExtensionQuoted
            }
            (
                Syntax::ExtensionGap
                | Syntax::ExtensionName
                | Syntax::ExtensionNameGap
                | Syntax::ExtensionValue
                | Syntax::ExtensionQuotedEnd,
                b';',
            ) => Syntax::ExtensionStart,
            (
                Syntax::ExtensionName | Syntax::ExtensionValue | Syntax::ExtensionQuotedEnd,
                b'\r',
            ) => Syntax::SizeLf,
            (_, b'\n') => return Err(Malformed::LineEnd),
            (_, _) => return Err(Malformed::Extension),
        };
        Ok(next)
    }

    /// RFC 9112 7.1.2. Checked like fields of a head, so that nothing hides in it, then dropped.
    fn take_trailer(&mut self, syntax: Syntax, byte: u8) -> Result<Syntax, Malformed> {
        self.extra = self.extra.saturating_add(1);
        if self.extra > TRAILER_BYTES_MAX {
            return Err(Malformed::TrailerTooLong);
        }
        let token = is_token_byte(byte);
        match (syntax, byte) {
            (Syntax::TrailerStart, b'\r') => Ok(Syntax::EndLf),
            (Syntax::TrailerStart | Syntax::TrailerName, _) if token => Ok(Syntax::TrailerName),
            (Syntax::TrailerName, b':') => Ok(Syntax::TrailerValue),
            (Syntax::TrailerValue, b'\r') => Ok(Syntax::TrailerLf),
            (Syntax::TrailerValue, _) if is_value_byte(byte) => Ok(Syntax::TrailerValue),
            (Syntax::TrailerLf, b'\n') => Ok(Syntax::TrailerStart),
            (Syntax::TrailerLf, _) | (_, b'\n') => Err(Malformed::LineEnd),
            (_, _) => Err(Malformed::Trailer),
        }
    }
}

/// Recodes `input` into `out` and returns how many of its bytes were used: all, or up to the end
/// of the message. `to` is the framing announced on the other side.
///
/// All payload of one call becomes one chunk, and the end of the message the last chunk; so a
/// message to be sent chunked must not be done before its first call. Nothing is written when
/// `input` is malformed, whatever came before the fault in it.
pub fn transfer(
    decoder: &mut Decoder,
    to: Framing,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<usize, Malformed> {
    // Most bodies have a length, on both sides.
    if let Some(used) = verbatim(decoder, to, input) {
        push(out, input.get(..used).unwrap_or_default());
        return Ok(used);
    }
    if decoder.is_done() {
        return Ok(0);
    }
    let payload = payload_bytes(decoder, input)?;
    let chunked = to == Framing::Chunked;
    if chunked && payload > 0 {
        push_hex(out, payload as u64);
        out.extend_from_slice(b"\r\n");
    }
    let mut used = 0;
    while let Some(step) = next(decoder, input, used)? {
        let data = used + step.framing;
        used = data + step.data;
        push(out, input.get(data..used).unwrap_or_default());
    }
    if chunked && payload > 0 {
        out.extend_from_slice(b"\r\n");
    }
    if chunked && decoder.is_done() {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    Ok(used)
}

/// How many bytes of `input` are payload. The decoder stays where it is.
#[inline]
pub fn payload_bytes(decoder: &Decoder, input: &[u8]) -> Result<usize, Malformed> {
    let mut ahead = decoder.clone();
    let (mut used, mut payload) = (0, 0);
    while let Some(step) = next(&mut ahead, input, used)? {
        used += step.framing + step.data;
        payload += step.data;
    }
    Ok(payload)
}

/// The next step that takes anything.
#[inline]
fn next(decoder: &mut Decoder, input: &[u8], at: usize) -> Result<Option<Step>, Malformed> {
    let step = decoder.step(input.get(at..).unwrap_or_default())?;
    Ok((step.framing + step.data > 0).then_some(step))
}

/// How many bytes may be forwarded as they are, without a copy; the decoder advances. `None`:
/// the framings differ and `transfer` must recode.
pub fn verbatim(decoder: &mut Decoder, to: Framing, input: &[u8]) -> Option<usize> {
    match (decoder.state, to) {
        (State::Done, Framing::Empty | Framing::Length(_) | Framing::UntilClose)
        | (State::Length, Framing::Length(_) | Framing::UntilClose)
        | (State::UntilClose, Framing::UntilClose) => Some(decoder.take_payload(input.len())),
        (State::Done | State::Length | State::UntilClose, _)
        | (State::Data | State::Syntax(_), _) => None,
    }
}

/// How many bytes of payload may still be forwarded as they are, whatever they are. `None`: the
/// bytes have to be looked at.
pub fn verbatim_left(decoder: &Decoder, to: Framing) -> Option<u64> {
    match (decoder.state, to) {
        (State::Length, Framing::Length(_)) => Some(decoder.left),
        (State::Done | State::Length | State::UntilClose | State::Data | State::Syntax(_), _) => {
            None
        }
    }
}

/// `count` bytes of [`verbatim_left`] have been forwarded.
pub fn pass(decoder: &mut Decoder, count: usize) {
    decoder.take_payload(count);
}

#[cfg(test)]
mod tests;
