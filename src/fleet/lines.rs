//! Streams of bytes cut into lines of bounded length. Pure; used by the threads that read from
//! workers, which may send anything.

use front::as_json;

/// A buffer that has held a long line does not keep more than this.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Cuts messages: a line longer than the limit is useless in part, so it is skipped to its end.
#[derive(Clone, Debug, Default)]
pub struct LineCutter {
    partial: Vec<u8>,
    skipping: bool,
}

as_json!(struct LineCutter { partial, skipping });

impl LineCutter {
    /// Calls `each` for every whole line, without its newline; returns how many lines began to be
    /// skipped.
    pub fn cut(&mut self, bytes: &[u8], line_bytes_max: usize, mut each: impl FnMut(&[u8])) -> u64 {
        let mut skipped = 0;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, whole) = without_newline(piece);
            if self.skipping {
                self.skipping = !whole;
            } else if self.partial.len() + text.len() > line_bytes_max {
                skipped += 1;
                self.partial = Vec::new();
                self.skipping = !whole;
            } else if !whole {
                self.partial.extend_from_slice(text);
            } else if self.partial.is_empty() {
                each(text);
            } else {
                self.partial.extend_from_slice(text);
                each(&self.partial);
                self.partial.clear();
                // One large message must not cost its size for ever.
                self.partial.shrink_to(KEPT_BYTES_MAX);
            }
        }
        skipped
    }
}

/// Cuts text: of a line that is longer than the limit the beginning is kept, with a mark that says how
/// much is missing.
#[derive(Clone, Debug, Default)]
pub struct TextCutter {
    partial: Vec<u8>,
    /// Bytes of this line that were left out.
    left_out: u64,
}

as_json!(struct TextCutter { partial, left_out });

impl TextCutter {
    pub fn cut(&mut self, bytes: &[u8], line_bytes_max: usize, each: &mut impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, whole) = without_newline(piece);
            if whole && self.partial.is_empty() && text.len() <= line_bytes_max {
                each(text);
                continue;
            }
            let room = line_bytes_max.saturating_sub(self.partial.len());
            let (kept, over) = text.split_at(room.min(text.len()));
            self.partial.extend_from_slice(kept);
            self.left_out += u64::try_from(over.len()).unwrap_or(u64::MAX);
            if whole {
                self.say(each);
            }
        }
    }

    /// What came without a newline is a line too.
    pub fn end(&mut self, each: &mut impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            self.say(each);
        }
    }

    fn say(&mut self, each: &mut impl FnMut(&[u8])) {
        // Most workers are silent most of the time: no buffer then.
        let mut line = std::mem::take(&mut self.partial);
        let mut left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            // Half a character is none. The last whole one may go with it.
            let is_inner = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
            let mut halves = line.iter().rev().take_while(|byte| is_inner(byte)).count();
            halves += line
                .iter()
                .rev()
                .nth(halves)
                .map_or(0, |byte| usize::from(*byte >= 0b1100_0000));
            line.truncate(line.len() - halves);
            left_out += u64::try_from(halves).unwrap_or(0);
            line.extend_from_slice(format!(" [... {left_out} bytes more]").as_bytes());
        }
        each(&line);
    }
}

fn without_newline(piece: &[u8]) -> (&[u8], bool) {
    match piece.strip_suffix(b"\n") {
        Some(text) => (text, true),
        None => (piece, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 10;

    fn cut_all(pieces: &[&str]) -> (Vec<String>, u64) {
        let mut cutter = LineCutter::default();
        let mut lines = Vec::new();
        let mut skipped = 0;
        for piece in pieces {
            let each = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
            skipped += cutter.cut(piece.as_bytes(), MAX, each);
        }
        (lines, skipped)
    }

    fn texts(pieces: &[&str]) -> Vec<String> {
        let mut cutter = TextCutter::default();
        let mut lines = Vec::new();
        let mut each = |line: &[u8]| lines.push(String::from_utf8(line.to_vec()).expect("UTF-8"));
        for piece in pieces {
            cutter.cut(piece.as_bytes(), MAX, &mut each);
        }
        cutter.end(&mut each);
        lines
    }

    #[test]
    fn messages_may_come_in_any_pieces() {
        let (lines, skipped) = cut_all(&["a\nb", "c", "d\n\ne", "\n", "unfinished"]);
        assert_eq!(lines, ["a", "bcd", "", "e"]);
        assert_eq!(skipped, 0);
    }

    #[test]
    fn a_message_over_the_limit_is_skipped_alone() {
        let rows: [&[&str]; 4] = [
            &["a\n12345678901\nb\n"],
            &["a\n123456", "78901\nb\n"],
            &["a\n1234567890", "1", "2345678901234567890", "\nb\n"],
            &["a\n12345678901", "\n", "b\n"],
        ];
        for pieces in rows {
            let (lines, skipped) = cut_all(pieces);
            assert_eq!(
                (lines, skipped),
                (vec!["a".to_owned(), "b".to_owned()], 1),
                "{pieces:?}"
            );
        }
        assert_eq!(cut_all(&["1234567890\n"]).1, 0, "just within");
    }

    #[test]
    fn text_comes_whole() {
        assert_eq!(texts(&["a\nb", "c\n", "\nlast"]), ["a", "bc", "", "last"]);
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let rows: [&[&str]; 4] = [
            &["1234567890ab\nc"],
            &["12345678", "90ab\nc"],
            &["1234567890a", "b", "\nc"],
            &["1234567890ab\nc\n"],
        ];
        for pieces in rows {
            assert_eq!(
                texts(pieces),
                ["1234567890 [... 2 bytes more]", "c"],
                "{pieces:?}"
            );
        }
        assert_eq!(texts(&["1234567890\n"]), ["1234567890"]);
        assert_eq!(texts(&["1234567890abc"]), ["1234567890 [... 3 bytes more]"]);
        assert_eq!(texts(&["12345678€0"]), ["12345678 [... 4 bytes more]"]);
    }
}
