//! Deadlines of a pool thread: a heap of (when, whose). Pure; the caller brings the time.
//!
//! An entry is only a reminder to look: the thing itself knows its deadline, which mostly moves
//! later. So nothing is moved in the heap; a reminder that comes too early is queued again, and the
//! steady path of a busy connection queues nothing. What has left leaves its reminder behind: those
//! are thrown out together when they are the larger part.

use crate::proxy::slab::Id;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// See the module's text. Times are the pool's milliseconds.
#[derive(Debug, Default)]
pub struct Timers(BinaryHeap<Reverse<(u64, u64)>>);

/// Reminders that are never too many.
const SLACK: usize = 256;

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

    /// Throws out what `counts` says no to, if so few things are `held` that it is worth a look at all:
    /// a client that makes a connection for each request must not fill the heap for a minute.
    pub fn tidy(&mut self, held: usize, counts: impl Fn(u64, Id) -> bool) {
        if self.0.len() <= held.saturating_mul(2).saturating_add(SLACK) {
            return;
        }
        let counts = |Reverse((at_ms, bits)): &Reverse<_>| counts(*at_ms, Id::from_bits(*bits));
        self.0.retain(counts);
        let room = self.0.len().saturating_mul(4).saturating_add(SLACK * 4);
        if self.0.capacity() > room {
            self.0.shrink_to(room);
        }
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
    #[test]
    fn what_has_left_is_forgotten() {
        let mut timers = Timers::default();
        for number in 0..10_000 {
            timers.remind(Id::from_bits(number), number, &mut u64::MAX.clone());
            timers.tidy(10, |_, id| id.bits() % 1000 == 999);
        }
        timers.tidy(10, |_, id| id.bits() % 1000 == 999);
        assert!(timers.0.len() <= 20 + SLACK, "{}", timers.0.len());
        assert!(timers.0.capacity() <= SLACK * 8);
        let kept = timers.0.iter().filter(|at| at.0.0 % 1000 == 999).count();
        assert_eq!(kept, 10);
    }
}
