//! Deadlines of a pool thread: a heap of (when, which place of the slab). Pure; the caller brings the time.
//!
//! An entry is only a reminder to look: the thing itself knows its deadline, which mostly moves
//! later. So nothing is moved in the heap; a reminder that comes too early is queued again, and the
//! steady path of a busy connection queues nothing. What has left leaves its reminder to whoever has
//! its place next, so that many short lives do not fill the heap.

use crate::proxy::slab::Id;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// See the module's text. Times are the pool's milliseconds.
#[derive(Debug, Default)]
pub struct Timers {
    queue: BinaryHeap<Reverse<(u64, u32)>>,
    /// The earliest reminder of each place; `u64::MAX`: none. Others of it that are queued do not count.
    earliest: Vec<u64>,
}

/// Reminders that are never too many.
const SLACK: usize = 256;

impl Timers {
    /// Reminds of `id` at `at_ms`, or before that: whoever is reminded looks at its deadline.
    pub fn remind(&mut self, id: Id, at_ms: u64) {
        let place = id.place();
        if self.earliest.len() <= place as usize {
            self.earliest.resize(place as usize + 1, u64::MAX);
        }
        if let Some(earliest) = self.earliest.get_mut(place as usize)
            && at_ms < *earliest
        {
            *earliest = at_ms;
            self.queue.push(Reverse((at_ms, place)));
        }
    }

    /// The place whose reminder is due. It has none from then on.
    pub fn due(&mut self, now_ms: u64) -> Option<u32> {
        loop {
            let Reverse((at_ms, place)) = *self.queue.peek()?;
            if at_ms > now_ms {
                return None;
            }
            self.queue.pop();
            if let Some(earliest) = self.earliest.get_mut(place as usize)
                && *earliest == at_ms
            {
                *earliest = u64::MAX;
                return Some(place);
            }
        }
    }

    /// Throws out what does not count any more, if there is so much of it that it is worth a look at all.
    pub fn tidy(&mut self) {
        let earliest = &self.earliest;
        if self.queue.len() <= earliest.len().saturating_mul(2).saturating_add(SLACK) {
            return;
        }
        let counts = |at_ms, place| earliest.get(place as usize) == Some(&at_ms);
        self.queue
            .retain(|Reverse((at_ms, place))| counts(*at_ms, *place));
    }

    /// When the next reminder is due.
    pub fn next_ms(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((at_ms, _))| *at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_deadline_is_queued() {
        let mut timers = Timers::default();
        let (a, b) = (Id::from_bits(1), Id::from_bits(2));
        timers.remind(a, 100);
        timers.remind(a, 200);
        timers.remind(b, 150);
        timers.remind(a, 50);
        assert_eq!(timers.next_ms(), Some(50));
        assert_eq!(timers.due(49), None);
        assert_eq!(timers.due(160), Some(a.place()));
        // That of 100 does not count any more.
        assert_eq!(timers.due(160), Some(b.place()));
        assert_eq!(timers.due(160), None);
        timers.remind(a, 300);
        assert_eq!((timers.due(299), timers.due(300)), (None, Some(a.place())));
    }

    #[test]
    fn a_place_keeps_its_reminder() {
        let mut timers = Timers::default();
        for life in 0..10_000u64 {
            timers.remind(Id::from_bits(life << 32 | 7), 1000 + life);
        }
        assert_eq!(timers.queue.len(), 1);
        timers.remind(Id::from_bits(7), u64::MAX);
        assert_eq!((timers.due(1000), timers.due(20_000)), (Some(7), None));
    }

    #[test]
    fn what_does_not_count_is_forgotten() {
        let mut timers = Timers::default();
        for at_ms in (0..10_000).rev() {
            timers.remind(Id::from_bits(3), at_ms);
            timers.tidy();
        }
        assert!(timers.queue.len() <= SLACK + 8, "{}", timers.queue.len());
        assert_eq!(timers.next_ms(), Some(0));
    }
}
