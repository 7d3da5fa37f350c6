//! What each worker has written to its standard error last, for the answers that tell the operator
//! why there is no other answer. The logs thread writes, pool threads read when something has gone
//! wrong; the lock is held for one line or for one copy, never across I/O.

use super::Slot;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Kept for each worker.
const LINES_MAX: usize = 12;
/// Of each line.
const LINE_CHARS_MAX: usize = 500;

/// Of one life; what the life before it said stays until this one has said something.
#[derive(Debug, Default)]
struct Said {
    life: u32,
    lines: VecDeque<String>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct LastWords {
    slots: Mutex<HashMap<Slot, Said>>,
}

impl LastWords {
    pub fn push(&self, slot: Slot, life: u32, line: &str) {
        let line = match line.char_indices().nth(LINE_CHARS_MAX) {
            Some((end, _)) => line.get(..end).unwrap_or(line),
            None => line,
        };
        let mut slots = self.lock();
        let Said { life: of, lines } = slots.entry(slot).or_default();
        if *of != life {
            *of = life;
            lines.clear();
        }
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    pub fn of(&self, slot: Slot) -> Vec<String> {
        let slots = self.lock();
        let said = slots.get(&slot);
        said.map_or_else(Vec::new, |said| said.lines.iter().cloned().collect())
    }

    /// The slot is gone and will not be used again.
    pub fn forget(&self, slot: Slot) {
        self.lock().remove(&slot);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Slot, Said>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        let words = LastWords::default();
        let (one, other) = (Slot(1), Slot(2));
        for n in 0..100 {
            words.push(one, 1, &format!("line {n}"));
        }
        words.push(other, 1, &"ü".repeat(10_000));
        assert_eq!(words.of(one).len(), LINES_MAX);
        assert_eq!(words.of(one).last().map(String::as_str), Some("line 99"));
        assert_eq!(words.of(other).concat().chars().count(), LINE_CHARS_MAX);
        words.push(one, 2, "a new life");
        assert_eq!(words.of(one), ["a new life"]);
        words.forget(one);
        assert!(words.of(one).is_empty());
    }
}
