//! Latencies in microseconds, kept one by one and sorted at the end.

use std::time::Duration;

#[derive(Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    pub fn add(&mut self, time: Duration) {
        self.add_us(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    }

    pub fn add_us(&mut self, us: u32) {
        self.0.push(us);
    }

    pub fn append(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// `"p50_us": .., "p99_us": .., "p999_us": .., "max_us": ..`
    pub fn json(mut self) -> String {
        self.0.sort_unstable();
        let at = |share: f64| {
            let last = self.0.len().saturating_sub(1);
            let place = (self.0.len() as f64 * share) as usize;
            self.0.get(place.min(last)).copied().unwrap_or(0)
        };
        format!(
            "\"p50_us\": {}, \"p99_us\": {}, \"p999_us\": {}, \"max_us\": {}",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        )
    }
}
