//! Who is still coming up, while the apps start: one line that changes on a terminal, a line now and
//! then elsewhere. The conductor draws it. Every other line of ours and of workers begins with
//! clearing what stands there, so nothing has to be taken away first.

use crate::fleet::status::{Condition, WorkerStatus};
use crossbeam_channel::{Receiver, never, tick};
use front::sys::terminal;
use log::info;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

/// How often the line is drawn anew on a terminal.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// How often it is said elsewhere: a log is not a terminal.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// Workers that are named; the others are counted.
const NAMED_MAX: usize = 5;

pub struct Starting {
    clock: Receiver<Instant>,
    /// Of the terminal, if it is one.
    columns: Option<usize>,
}

impl Starting {
    pub fn new() -> Starting {
        let columns = terminal::size(io::stderr().as_fd()).map(|(columns, _)| columns);
        Starting {
            clock: tick(if columns.is_some() {
                DRAW_EVERY
            } else {
                SAY_EVERY
            }),
            columns,
        }
    }

    /// When it is time to tell.
    pub fn clock(&self) -> &Receiver<Instant> {
        &self.clock
    }

    pub fn tell(&self, workers: &[WorkerStatus]) {
        let Some(text) = compose(workers, SystemTime::now()) else {
            return;
        };
        match self.columns {
            // The cursor stays at the beginning of the line. Nobody may be reading any more.
            Some(columns) => {
                let shown: String = text.chars().take(columns.saturating_sub(1)).collect();
                let _ = io::stderr().write_all(format!("\x1b[K{shown}\r").as_bytes());
            }
            None => info!("{text}"),
        }
    }

    /// There is nothing more to tell.
    pub fn end(&mut self) {
        self.clock = never();
        if self.columns.take().is_some() {
            let _ = io::stderr().write_all(b"\x1b[K");
        }
    }
}

/// Who starts, and for how long; None if nobody does.
fn compose(workers: &[WorkerStatus], now: SystemTime) -> Option<String> {
    let coming: Vec<&WorkerStatus> = workers
        .iter()
        .filter(|worker| worker.condition == Condition::Starting)
        .collect();
    if coming.is_empty() {
        return None;
    }
    let ready = |worker: &&WorkerStatus| worker.condition == Condition::Ready;
    let mut text = format!(
        "starting: {} of {} workers ready; ",
        workers.iter().filter(ready).count(),
        workers.len()
    );
    for (index, worker) in coming.iter().take(NAMED_MAX).enumerate() {
        let since = now.duration_since(worker.since).unwrap_or_default();
        let comma = if index == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{comma}{}.{} for {:.1} s",
            worker.app,
            worker.instance,
            since.as_secs_f64()
        );
    }
    let others = coming.len().saturating_sub(NAMED_MAX);
    if others > 0 {
        let _ = write!(text, " and {others} more");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use front::roster::Slot;

    fn worker(instance: u32, condition: Condition, since: SystemTime) -> WorkerStatus {
        WorkerStatus {
            app: "chat".into(),
            slot: Slot(instance),
            instance,
            member: true,
            memory_max: None,
            life: 1,
            condition,
            app_was_ready: false,
            since,
            pid: None,
            restarts: 0,
            deaths: Vec::new(),
            stats: None,
        }
    }

    #[test]
    fn who_starts_is_named_and_the_rest_is_counted() {
        let now = SystemTime::now();
        let since = now - Duration::from_millis(1250);
        let mut workers = vec![
            worker(0, Condition::Ready, since),
            worker(1, Condition::Starting, since),
        ];
        assert_eq!(
            compose(&workers, now).as_deref(),
            Some("starting: 1 of 2 workers ready; chat.1 for 1.2 s")
        );
        workers.extend((2..9).map(|n| worker(n, Condition::Starting, now)));
        let text = compose(&workers, now).unwrap_or_default();
        assert!(text.ends_with("chat.5 for 0.0 s and 3 more"), "{text}");
        assert_eq!(compose(&[worker(0, Condition::Errored, now)], now), None);
    }
}
