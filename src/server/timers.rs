//! Deadlines of a pool thread: a heap of (when, whose). Pure; the caller brings the time.
//!
//! An entry is only a reminder to look: the thing itself knows its deadline, which mostly moves
//! later. So nothing is ever removed or moved in the heap; a reminder that comes too early is
//! queued again, and the steady path of a busy connection queues nothing.

use crate::proxy::slab::Id;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// See the module's text. Times are the pool's milliseconds.
#[derive(Debug, Default)]
pub struct Timers(BinaryHeap<Reverse<(u64, u64)>>);

impl Timers {
    /// Reminds of `id` at `at_ms`. `queued_ms` is the caller's note of its earliest reminder and
    /// is kept up to date here.
    pub fn remind(&mut self, id: Id, at_ms: u64, queued_ms: &mut u64) {
        if at_ms < *queued_ms {
            *queued_ms = at_ms;
            self.0.push(Reverse((at_ms, id.bits())));
        }
    }

    /// The next reminder that is due, with the time it was queued for.
    pub fn due(&mut self, now_ms: u64) -> Option<(u64, Id)> {
        let Reverse((at_ms, bits)) = *self.0.peek()?;
        if at_ms > now_ms {
            return None;
        }
        self.0.pop();
        Some((at_ms, Id::from_bits(bits)))
    }

    /// When the next reminder is due.
    pub fn next_ms(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((at_ms, _))| *at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_deadline_is_queued() {
        let mut timers = Timers::default();
        let (a, b) = (Id::from_bits(1), Id::from_bits(2));
        let (mut queued_a, mut queued_b) = (u64::MAX, u64::MAX);
        timers.remind(a, 100, &mut queued_a);
        timers.remind(a, 200, &mut queued_a);
        timers.remind(b, 150, &mut queued_b);
        timers.remind(a, 50, &mut queued_a);
        assert_eq!((queued_a, queued_b), (50, 150));
        assert_eq!(timers.next_ms(), Some(50));
        assert_eq!(timers.due(49), None);
        assert_eq!(timers.due(160), Some((50, a)));
        assert_eq!(timers.due(160), Some((100, a)));
        assert_eq!(timers.due(160), Some((150, b)));
        assert_eq!(timers.due(160), None);
    }
}
