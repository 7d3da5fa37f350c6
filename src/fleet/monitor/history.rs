//! The last hour, in steps of ten seconds: rows of figures for the dashboard. Pure, and bounded: a
//! row is four bytes a step, and those of workers that are gone go too.

use crate::fleet::figures::AppPoint;
use front::as_json;
use front::roster::Slot;
use std::collections::{BTreeMap, VecDeque};

/// Seconds of one step, and steps that are kept.
pub(super) const STEP_S: u64 = 10;
const STEPS_MAX: usize = 360;

/// Figures of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WorkerPoint {
    pub cpu_percent: f64,
    pub memory_bytes: u64,
    pub loop_lag_ms: Option<f64>,
    pub sockets: u32,
}

/// A row of figures; null where there was nothing to measure. Newest last.
type Row = VecDeque<Option<f32>>;

#[derive(Clone, Debug, Default)]
pub struct AppRows {
    pub requests_per_s: Row,
    pub p50_ms: Row,
    pub p99_ms: Row,
    pub errors_per_s: Row,
}

as_json!(to struct AppRows { requests_per_s, p50_ms, p99_ms, errors_per_s });

#[derive(Clone, Debug, Default)]
pub struct WorkerRows {
    pub cpu_percent: Row,
    pub memory_mib: Row,
    pub loop_lag_ms: Row,
    pub sockets: Row,
}

as_json!(to struct WorkerRows { cpu_percent, memory_mib, loop_lag_ms, sockets });

/// Rows of apps by name, and of workers by slot.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub apps: BTreeMap<String, AppRows>,
    pub workers: BTreeMap<Slot, WorkerRows>,
}

impl History {
    /// Adds a step: what is not named in it is forgotten.
    pub fn step(&mut self, apps: &[(String, AppPoint)], workers: &[(Slot, WorkerPoint)]) {
        self.apps
            .retain(|name, _| apps.iter().any(|(other, _)| other == name));
        self.workers
            .retain(|slot, _| workers.iter().any(|(other, _)| other == slot));
        for (name, point) in apps {
            let rows = self.apps.entry(name.clone()).or_default();
            push(&mut rows.requests_per_s, Some(point.requests_per_s));
            push(&mut rows.p50_ms, point.p50_ms);
            push(&mut rows.p99_ms, point.p99_ms);
            push(&mut rows.errors_per_s, Some(point.errors_per_s));
        }
        for (slot, point) in workers {
            let rows = self.workers.entry(*slot).or_default();
            push(&mut rows.cpu_percent, Some(point.cpu_percent));
            push(
                &mut rows.memory_mib,
                Some(point.memory_bytes as f64 / f64::from(1 << 20)),
            );
            push(&mut rows.loop_lag_ms, point.loop_lag_ms);
            push(&mut rows.sockets, Some(f64::from(point.sockets)));
        }
    }
}

/// Three digits after the point say all that a line on a screen can show.
fn push(row: &mut Row, value: Option<f64>) {
    if row.len() >= STEPS_MAX {
        row.pop_front();
    }
    row.push_back(value.map(|value| ((value * 1000.0).round() / 1000.0) as f32));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept_of_those_who_are_there() {
        let mut history = History::default();
        let app = |rate| {
            let point = AppPoint {
                requests_per_s: rate,
                ..AppPoint::default()
            };
            [("a".to_owned(), point)]
        };
        let worker = |slot| [(Slot(slot), WorkerPoint::default())];
        for step in 0..400 {
            history.step(&app(f64::from(step)), &worker(1));
        }
        let rows = &history.apps["a"];
        assert_eq!(rows.requests_per_s.len(), STEPS_MAX);
        assert_eq!(rows.requests_per_s.back(), Some(&Some(399.0)));
        assert_eq!(rows.p99_ms.back(), Some(&None));
        history.step(&app(0.0), &worker(2));
        assert_eq!(
            history.workers.keys().copied().collect::<Vec<_>>(),
            [Slot(2)]
        );
        assert_eq!(history.workers[&Slot(2)].cpu_percent.len(), 1);
    }
}
