//! Lines of others made fit for a terminal: colours stay, everything else by which a terminal is told
//! to do something is shown instead of done. A worker prints what its clients send it, and a terminal
//! that obeys them can be made to show, or even to type, what they like. Pure.

use std::borrow::Cow;
use std::fmt::Write;

/// Puts colours back to what they were.
const RESET: &str = "\x1b[0m";

/// The line as a terminal may get it. What is no UTF-8 is replaced.
pub fn harmless(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut coloured = false;
    let mut rest = text.as_ref();
    while let Some(c) = rest.chars().next() {
        if let Some(colour) = colour(rest) {
            shown.push_str(colour);
            coloured = !matches!(colour, "\x1b[m" | RESET);
            rest = rest.get(colour.len()..).unwrap_or_default();
            continue;
        }
        // Writing to a String cannot fail.
        let _ = match c {
            '\t' => shown.write_char(c),
            '\u{7f}' => shown.write_str("^?"),
            // As cat -v shows them.
            '\0'..='\u{1f}' => write!(shown, "^{}", char::from(b'@' + c as u8)),
            c if c.is_control() => write!(shown, "\\x{:02x}", u32::from(c)),
            c => shown.write_char(c),
        };
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    if coloured {
        shown.push_str(RESET);
    }
    Cow::Owned(shown)
}

/// A line of JSON as a terminal may get it: JSON itself lets some control characters stand as they are.
pub fn harmless_json(json: String) -> String {
    if !json.chars().any(char::is_control) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        // Writing to a String cannot fail.
        let _ = match c {
            c if c.is_control() => write!(escaped, "\\u{:04x}", u32::from(c)),
            c => escaped.write_char(c),
        };
    }
    escaped
}

/// The order to change colours at the beginning of a text (ECMA-48 8.3.117), if there is one.
fn colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    parameters.get(end..)?.strip_prefix('m')?;
    text.get(..end + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_orders_do_not() {
        let table: [(&[u8], &str); 12] = [
            (b"plain\ttext", "plain\ttext"),
            ("Grüße 👋".as_bytes(), "Grüße 👋"),
            (b"dos\r", "dos"),
            (b"50%\r60%", "50%^M60%"),
            (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
            (b"\x1b[1;38:5:9mred", "\x1b[1;38:5:9mred\x1b[0m"),
            (b"\x1b[2J\x1b[H", "^[[2J^[[H"),
            (b"\x1b]0;title\x07", "^[]0;title^G"),
            (b"\x1b[31", "^[[31"),
            (b"\x9b31m\xff", "\u{fffd}31m\u{fffd}"),
            ("\u{9b}2J\u{7f}".as_bytes(), "\\x9b2J^?"),
            (b"\x1b", "^["),
        ];
        for (line, shown) in table {
            assert_eq!(harmless(line), shown, "{line:?}");
        }
    }
}
