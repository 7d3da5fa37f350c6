//! What waits for one file: whole lines, bounded in bytes. Many threads put lines in; the journal's
//! thread takes all of them out at once. The lock is held for a copy and never over a write.

use crate::journal::{Gap, Written};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What may wait for one file, and for all of them.
pub const FILE_BYTES_MAX: usize = 2 << 20;
pub const ALL_BYTES_MAX: usize = 32 << 20;
/// The thread collects lines for a while; from here on it does not.
const URGENT_BYTES: usize = FILE_BYTES_MAX / 4;
/// A buffer that was larger once does not stay so.
const KEPT_BYTES_MAX: usize = 64 << 10;

pub struct Queue {
    gap: Gap,
    /// Bytes that the thread has taken and not written yet.
    in_hand: AtomicUsize,
    dropped: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Dropped behind what waits.
    dropped: u64,
}

/// What came of a line.
pub struct Pushed {
    pub written: Written,
    /// Much waits: the thread should not sleep on.
    pub urgent: bool,
}

impl Queue {
    pub fn new(gap: Gap) -> Queue {
        Queue {
            gap,
            in_hand: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }

    pub fn push(&self, line: &[u8], all_bytes: &AtomicUsize) -> Pushed {
        let mut waiting = self.lock();
        let gap = match waiting.dropped {
            0 => Vec::new(),
            count => (self.gap)(count),
        };
        // Two newlines.
        let bytes = line.len() + gap.len() + 2;
        let before = waiting.bytes.len() + self.in_hand.load(Relaxed);
        if before + bytes > FILE_BYTES_MAX || all_bytes.load(Relaxed) + bytes > ALL_BYTES_MAX {
            waiting.dropped += 1;
            self.dropped.fetch_add(1, Relaxed);
            return Pushed {
                written: Written::Dropped,
                urgent: false,
            };
        }
        let start = waiting.bytes.len();
        if waiting.dropped > 0 {
            waiting.bytes.extend_from_slice(&gap);
            waiting.bytes.push(b'\n');
            waiting.dropped = 0;
        }
        waiting.bytes.extend_from_slice(line);
        waiting.bytes.push(b'\n');
        let added = waiting.bytes.len() - start;
        all_bytes.fetch_add(added, Relaxed);
        Pushed {
            written: Written::Queued,
            urgent: start < URGENT_BYTES && start + added >= URGENT_BYTES,
        }
    }

    /// Moves all that waits into `hand`, which must be empty; false if there is nothing.
    pub fn take(&self, hand: &mut Vec<u8>, all_bytes: &AtomicUsize) -> bool {
        let mut waiting = self.lock();
        std::mem::swap(&mut waiting.bytes, hand);
        if waiting.dropped > 0 {
            // Nothing has come since: the gap is told all the same.
            let dropped = std::mem::take(&mut waiting.dropped);
            let before = hand.len();
            hand.extend_from_slice(&(self.gap)(dropped));
            hand.push(b'\n');
            all_bytes.fetch_add(hand.len() - before, Relaxed);
        }
        self.in_hand.store(hand.len(), Relaxed);
        !hand.is_empty()
    }

    /// So much of what was taken has been written, or has been given up.
    pub fn done(&self, bytes: usize, all_bytes: &AtomicUsize) {
        self.in_hand.fetch_sub(bytes, Relaxed);
        all_bytes.fetch_sub(bytes, Relaxed);
    }

    pub fn is_empty(&self) -> bool {
        let waiting = self.lock();
        waiting.bytes.is_empty() && waiting.dropped == 0
    }

    /// Gives back what a flood has made large.
    pub fn shrink(&self) {
        let mut waiting = self.lock();
        if waiting.bytes.is_empty() {
            waiting.bytes.shrink_to(KEPT_BYTES_MAX);
        }
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (Queue, AtomicUsize) {
        let gap = |count| format!("-- {count} lines dropped --").into_bytes();
        (Queue::new(Box::new(gap)), AtomicUsize::new(0))
    }

    fn take(queue: &Queue, all: &AtomicUsize) -> String {
        let mut hand = Vec::new();
        queue.take(&mut hand, all);
        queue.done(hand.len(), all);
        String::from_utf8(hand).expect("ASCII")
    }

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let (queue, all) = queue();
        assert!(queue.is_empty());
        queue.push(b"one", &all);
        queue.push(b"", &all);
        queue.push(b"two", &all);
        assert_eq!(take(&queue, &all), "one\n\ntwo\n");
        assert_eq!(all.load(Relaxed), 0);
    }

    #[test]
    fn a_full_queue_drops_the_newest_and_says_where() {
        let (queue, all) = queue();
        let line = [b'x'; 1000];
        let mut kept = 0;
        while queue.push(&line, &all).written == Written::Queued {
            kept += 1;
        }
        assert!((FILE_BYTES_MAX / 1100..FILE_BYTES_MAX / 1000).contains(&kept));
        queue.push(&line, &all);
        // What the thread holds counts until it is written.
        let mut hand = Vec::new();
        queue.take(&mut hand, &all);
        assert!(hand.ends_with(b"x\n-- 2 lines dropped --\n"));
        assert_eq!(queue.push(&line, &all).written, Written::Dropped);
        queue.done(hand.len(), &all);
        assert_eq!(queue.push(b"again", &all).written, Written::Queued);
        assert_eq!(take(&queue, &all), "-- 1 lines dropped --\nagain\n");
        assert_eq!(queue.dropped(), 3);
        assert_eq!(all.load(Relaxed), 0);
    }

    #[test]
    fn all_files_together_are_bounded() {
        let (queue, all) = queue();
        all.store(ALL_BYTES_MAX - 3, Relaxed);
        assert_eq!(queue.push(b"four", &all).written, Written::Dropped);
        all.store(0, Relaxed);
        assert_eq!(queue.push(b"four", &all).written, Written::Queued);
    }

    #[test]
    fn much_is_urgent_once() {
        let (queue, all) = queue();
        let urgent: usize = (0..100)
            .map(|_| usize::from(queue.push(&[b'x'; 10_000], &all).urgent))
            .sum();
        assert_eq!(urgent, 1);
    }
}
