//! How fast and with which status an app answers: a histogram on a fixed logarithmic scale, one for
//! each pool thread, so that no two threads write to the same cache line. Reading sums them up. No
//! locks; nothing is allocated but a thread's part, at its first answer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Four steps to each doubling, from 4 us to 2^28 us (four minutes); below that, whole microseconds.
const STEPS: usize = 4;
const OCTAVE_FIRST: u32 = 2;
const OCTAVE_LAST: u32 = 27;
pub const BUCKETS: usize = STEPS + (OCTAVE_LAST - OCTAVE_FIRST + 1) as usize * STEPS;
/// The last part is shared by all threads that have none of their own.
const PARTS: usize = 64;
/// Classes of status, from 1xx to 5xx.
pub const CLASSES: usize = 5;

/// What pool threads write.
#[derive(Debug)]
pub struct Answers {
    parts: [OnceLock<Box<Part>>; PARTS],
}

/// Larger than a cache line, and than the two that are fetched together.
#[derive(Debug)]
#[repr(align(128))]
struct Part {
    buckets: [AtomicU64; BUCKETS],
    classes: [AtomicU64; CLASSES],
    sum_us: AtomicU64,
    held: AtomicU64,
}

/// What has been counted up to a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    pub buckets: [u64; BUCKETS],
    /// By the first digit of the status: 1xx, 2xx, ...
    pub classes: [u64; CLASSES],
    pub sum_us: u64,
    /// Long polls, which are held on purpose: they have a status, and no time that says anything.
    pub held: u64,
}

impl Default for Answers {
    fn default() -> Self {
        Answers {
            parts: [const { OnceLock::new() }; PARTS],
        }
    }
}

impl Default for Part {
    fn default() -> Self {
        Part {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            classes: [const { AtomicU64::new(0) }; CLASSES],
            sum_us: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            buckets: [0; BUCKETS],
            classes: [0; CLASSES],
            sum_us: 0,
            held: 0,
        }
    }
}

impl Answers {
    /// Counts one answer. `thread`: the number of the pool thread, which no other thread has.
    /// `took_us` None: it was held on purpose.
    pub fn count(&self, thread: usize, took_us: Option<u64>, status: u16) {
        let place = thread.min(PARTS - 1);
        let Some(part) = self.parts.get(place) else {
            return;
        };
        let alone = place < PARTS - 1;
        let part = part.get_or_init(Box::default);
        let class = usize::from(status / 100).wrapping_sub(1);
        if let Some(class) = part.classes.get(class) {
            add(class, 1, alone);
        }
        let Some(took_us) = took_us else {
            return add(&part.held, 1, alone);
        };
        if let Some(bucket) = part.buckets.get(bucket_of(took_us)) {
            add(bucket, 1, alone);
        }
        add(&part.sum_us, took_us, alone);
    }

    /// The sum over all threads.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for part in self.parts.iter().filter_map(OnceLock::get) {
            for (to, from) in sum.buckets.iter_mut().zip(&part.buckets) {
                *to += from.load(Relaxed);
            }
            for (to, from) in sum.classes.iter_mut().zip(&part.classes) {
                *to += from.load(Relaxed);
            }
            sum.sum_us += part.sum_us.load(Relaxed);
            sum.held += part.held.load(Relaxed);
        }
        sum
    }
}

/// Whoever writes alone need not lock the memory bus, which would cost several times as much.
fn add(counter: &AtomicU64, more: u64, alone: bool) {
    if alone {
        counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
    } else {
        counter.fetch_add(more, Relaxed);
    }
}

impl Counts {
    /// All answers, whether they were held or not.
    pub fn total(&self) -> u64 {
        self.timed().saturating_add(self.held)
    }

    /// Those that have a time.
    pub fn timed(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What was counted since `before`.
    pub fn since(&self, before: &Counts) -> Counts {
        let mut left = self.clone();
        for (to, from) in left.buckets.iter_mut().zip(&before.buckets) {
            *to = to.saturating_sub(*from);
        }
        for (to, from) in left.classes.iter_mut().zip(&before.classes) {
            *to = to.saturating_sub(*from);
        }
        left.sum_us = left.sum_us.saturating_sub(before.sum_us);
        left.held = left.held.saturating_sub(before.held);
        left
    }

    /// The time within which this share (0 to 1) of the answers came, in microseconds; None if
    /// there were none. Right to a tenth.
    pub fn quantile_us(&self, share: f64) -> Option<f64> {
        let total = self.timed();
        let wanted = (total as f64 * share).max(1.0);
        let mut below = 0.0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                let (low, high) = (bound_us(bucket) as f64, bound_us(bucket + 1) as f64);
                return Some(low + (high - low) * (wanted - below) / count);
            }
            below += count;
        }
        None
    }

    /// How many answers took less than 2^`octave` microseconds.
    pub fn below(&self, octave: u32) -> u64 {
        let end = bucket_of(1 << octave.min(OCTAVE_LAST + 1));
        self.buckets.iter().take(end).sum()
    }
}

fn bucket_of(us: u64) -> usize {
    let octave = us.max(1).ilog2();
    if octave < OCTAVE_FIRST {
        return us as usize;
    }
    if octave > OCTAVE_LAST {
        return BUCKETS - 1;
    }
    let step = (us >> (octave - OCTAVE_FIRST)) as usize % STEPS;
    STEPS + (octave - OCTAVE_FIRST) as usize * STEPS + step
}

/// The smallest number of microseconds in a bucket.
fn bound_us(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (octave, step) = ((bucket - STEPS) / STEPS, (bucket - STEPS) % STEPS);
    ((STEPS + step) as u64) << octave
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_its_bucket() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(bound_us(bucket)), bucket);
            if bucket + 1 < BUCKETS {
                assert_eq!(bucket_of(bound_us(bucket + 1) - 1), bucket);
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_near() {
        let answers = Answers::default();
        for us in 1..=10_000 {
            answers.count(us as usize % 100, Some(us), 200);
        }
        let counts = answers.counts();
        for (share, wanted) in [(0.5, 5000.0), (0.9, 9000.0), (0.99, 9900.0)] {
            let got = counts.quantile_us(share).expect("there are answers");
            assert!((got - wanted).abs() < wanted / 10.0, "{share}: {got}");
        }
        assert_eq!(counts.total(), 10_000);
        assert_eq!(counts.below(10), 1023);
        assert_eq!(counts.sum_us, 50_005_000);
        assert_eq!(Counts::default().quantile_us(0.5), None);
    }

    #[test]
    fn classes_and_differences() {
        let answers = Answers::default();
        for status in [200, 204, 302, 404, 503, 99, 1000] {
            answers.count(0, Some(7), status);
        }
        let before = answers.counts();
        assert_eq!(before.classes, [0, 2, 1, 1, 1]);
        answers.count(3, Some(1 << 40), 500);
        answers.count(3, None, 200);
        let since = answers.counts().since(&before);
        assert_eq!((since.total(), since.classes), (2, [0, 1, 0, 0, 1]));
        assert_eq!((since.timed(), since.held), (1, 1));
    }
}
