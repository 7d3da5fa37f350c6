//! Streams of bytes cut into lines of bounded length. Pure; used by the threads that read from
//! workers, which may send anything.

/// A buffer that has held a long line does not keep more than this.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Cuts messages: a line longer than the limit is useless in part, so it is skipped to its end.
#[derive(Debug, Default)]
pub struct LineCutter {
    partial: Vec<u8>,
    skipping: bool,
}

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

/// Splits text: a line longer than the limit becomes several.
#[derive(Debug, Default)]
pub struct LineSplitter {
    partial: Vec<u8>,
}

impl LineSplitter {
    pub fn split(&mut self, bytes: &[u8], line_bytes_max: usize, each: &mut impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut text, whole) = without_newline(piece);
            while self.partial.len() + text.len() > line_bytes_max {
                let room = line_bytes_max.saturating_sub(self.partial.len());
                let (now, later) = text.split_at(room.min(text.len()));
                self.partial.extend_from_slice(now);
                each(&self.partial);
                self.partial.clear();
                text = later;
            }
            if whole && self.partial.is_empty() {
                each(text);
            } else {
                self.partial.extend_from_slice(text);
                if whole {
                    self.end(each);
                }
            }
        }
    }

    /// What came without a newline is a line too.
    pub fn end(&mut self, each: &mut impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            each(&self.partial);
            // Most workers are silent most of the time: no buffer then.
            self.partial = Vec::new();
        }
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

    fn split_all(pieces: &[&str]) -> Vec<String> {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        let mut each = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
        for piece in pieces {
            splitter.split(piece.as_bytes(), MAX, &mut each);
        }
        splitter.end(&mut each);
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
        assert_eq!(
            split_all(&["a\nb", "c\n", "\nlast"]),
            ["a", "bc", "", "last"]
        );
    }

    #[test]
    fn a_long_line_becomes_several() {
        let rows: [&[&str]; 3] = [
            &["1234567890ab\nc"],
            &["12345678", "90ab\nc"],
            &["1234567890a", "b", "\nc"],
        ];
        for pieces in rows {
            assert_eq!(split_all(pieces), ["1234567890", "ab", "c"], "{pieces:?}");
        }
    }
}
