//! How fast answers came over the last seconds, from what is counted of them. Pure, except that it
//! reads the counters and the clock. Used by the monitor's thread.

use crate::fleet::figures::AppPoint;
use front::gauges::answers::{Answers, Counts};
use std::collections::VecDeque;
use std::time::Instant;

/// Seconds over which a speed is taken.
const WINDOW_S: usize = 10;

/// Counts of the last seconds, oldest first: answers, and exchanges that were broken.
#[derive(Default)]
pub(super) struct Speed(VecDeque<(Instant, Counts, u64)>);

impl Speed {
    /// How these answers were over the window, and how many exchanges a second were broken.
    pub(super) fn point(&mut self, answers: &Answers, broken: u64) -> (AppPoint, f64) {
        let now = (Instant::now(), answers.counts(), broken);
        while self.0.len() > WINDOW_S {
            self.0.pop_front();
        }
        let before = self.0.front();
        let point = before.map_or((AppPoint::default(), 0.0), |(at, counts, broken)| {
            let seconds = now.0.saturating_duration_since(*at).as_secs_f64();
            let broken = now.2.saturating_sub(*broken) as f64;
            (
                point(&now.1.since(counts), seconds),
                broken / seconds.max(0.001),
            )
        });
        self.0.push_back(now);
        point
    }
}

fn point(counts: &Counts, seconds: f64) -> AppPoint {
    if seconds <= 0.0 {
        return AppPoint::default();
    }
    let [.., errors] = counts.classes;
    AppPoint {
        requests_per_s: counts.total() as f64 / seconds,
        p50_ms: counts.quantile_us(0.5).map(|us| us / 1000.0),
        p99_ms: counts.quantile_us(0.99).map(|us| us / 1000.0),
        errors_per_s: errors as f64 / seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_without_answers_has_no_speed() {
        assert_eq!(point(&Counts::default(), 10.0).p99_ms, None);
        let answers = Answers::default();
        answers.count(0, Some(2000), 200);
        answers.count(0, Some(2000), 503);
        let point = point(&answers.counts(), 10.0);
        assert_eq!((point.requests_per_s, point.errors_per_s), (0.2, 0.1));
        assert!(point.p50_ms.is_some_and(|ms| (1.8..2.6).contains(&ms)));
    }
}
