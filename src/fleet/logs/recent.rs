//! The lines that workers have printed lately, kept for whoever asks for them. Used by the logs
//! thread. Bounded in bytes for each worker's slot, over all its lives: what a worker said before
//! it died is what one wants to read after it has been started again.

use front::as_json;
use front::order;
use front::roster::Slot;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Kept for each worker, both streams together.
const BYTES_MAX: usize = 64 << 10;
/// What a line costs beside its text.
const LINE_BYTES: usize = 64;

/// One line as readers of the logs get it, in JSON.
#[derive(Clone, Debug)]
pub struct Line {
    pub worker: Arc<str>,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    pub line: String,
    /// The order over all workers.
    number: u64,
}

as_json!(to struct Line { worker, stream, time_ms, line });

#[derive(Debug, Default)]
pub struct Recent {
    slots: HashMap<Slot, Kept>,
    number: u64,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    bytes: usize,
}

impl Recent {
    /// Keeps a line, and returns it for those who read along.
    pub fn push(
        &mut self,
        slot: Slot,
        worker: &Arc<str>,
        stream: &'static str,
        time_ms: u64,
        line: &[u8],
    ) -> &Line {
        self.number += 1;
        let line = Line {
            worker: Arc::clone(worker),
            stream,
            time_ms,
            line: String::from_utf8_lossy(line).into_owned(),
            number: self.number,
        };
        let kept = self.slots.entry(slot).or_default();
        kept.bytes += line.line.len() + LINE_BYTES;
        kept.lines.push_back(line);
        while kept.bytes > BYTES_MAX
            && kept.lines.len() > 1
            && let Some(oldest) = kept.lines.pop_front()
        {
            kept.bytes -= oldest.line.len() + LINE_BYTES;
        }
        let newest = kept.lines.len() - 1;
        &kept.lines[newest]
    }

    /// Drops the lines of a worker whose place is gone.
    pub fn forget(&mut self, slot: Slot) {
        self.slots.remove(&slot);
    }

    /// The lines of these workers (none named: of all) in the order in which they came.
    pub fn of(&self, slots: &[Slot]) -> Vec<&Line> {
        let mut lines: Vec<&Line> = self
            .slots
            .iter()
            .filter(|(slot, _)| slots.is_empty() || slots.contains(slot))
            .flat_map(|(_, kept)| &kept.lines)
            .collect();
        order::sort_by_key(&mut lines, |line| line.number);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_in_order_and_within_bounds() {
        let mut recent = Recent::default();
        let (a, b) = (Arc::from("a.0"), Arc::from("b.0"));
        for number in 0..10_000 {
            let text = format!("{number} {}", "x".repeat(100));
            recent.push(
                Slot(number % 2),
                if number % 2 == 0 { &a } else { &b },
                "stdout",
                1,
                text.as_bytes(),
            );
        }
        let all = recent.of(&[]);
        let bytes: usize = all.iter().map(|line| line.line.len()).sum();
        assert!((BYTES_MAX / 2..BYTES_MAX * 2).contains(&bytes), "{bytes}");
        let numbers: Vec<u32> = all
            .iter()
            .filter_map(|line| line.line.split(' ').next()?.parse().ok())
            .collect();
        assert_eq!(numbers.last(), Some(&9999));
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(recent.of(&[Slot(1)]).iter().all(|line| line.worker == b));
        recent.push(Slot(0), &a, "stderr", 2, &[b'y'; 2 * BYTES_MAX]);
        assert_eq!(recent.of(&[Slot(0)]).len(), 1);
    }
}
