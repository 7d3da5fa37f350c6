//! `sidekeeper top`: the instance as a live picture that fills the terminal, the busiest worker
//! first, with the last minute of each app as a line of blocks. The picture is a pure function of
//! the last answers; [`run`] asks once a second and draws, until it is interrupted.

use super::screen::{APP_COLUMNS, WORKER_COLUMNS, app, fitted, headline, worker};
use super::table::{Cell, Column, compose};
use crate::admin::status::Status;
use front::order;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Answers that a line of blocks shows: a minute.
const PAST: usize = 60;
/// How often it is asked and drawn.
const EVERY: Duration = Duration::from_secs(1);
/// Lines of a terminal that does not say.
const HEIGHT: usize = 24;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The alternate screen without a cursor; and back to what was there.
pub const ENTER: &str = "\x1b[?1049h\x1b[?25l";
pub const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Requests a second of each app in the last minute, the newest last.
#[derive(Debug, Default)]
pub struct Past(BTreeMap<String, VecDeque<f64>>);

impl Past {
    pub fn add(&mut self, status: &Status) {
        self.0
            .retain(|name, _| status.apps.iter().any(|app| app.app == *name));
        for app in &status.apps {
            let past = self.0.entry(app.app.clone()).or_default();
            past.push_back(app.requests_per_s);
            while past.len() > PAST {
                past.pop_front();
            }
        }
    }

    /// One block for each answer, the highest of the minute being full; at least ten requests a
    /// second, so that a single one is no mountain.
    fn blocks(&self, name: &str) -> String {
        let Some(past) = self.0.get(name) else {
            return String::new();
        };
        let highest = past.iter().copied().fold(10.0, f64::max);
        let block = |value: &f64| {
            let share = (value / highest).clamp(0.0, 1.0);
            // Cannot leave the table: 0 to 7.
            let step = (share * 7.0).round() as usize;
            if *value > 0.0 {
                BLOCKS[step.min(7)]
            } else {
                ' '
            }
        };
        past.iter().map(block).collect()
    }
}

/// What fills `size`, columns and lines.
pub fn picture(status: &Status, past: &Past, size: (usize, usize), colours: bool) -> String {
    let (width, height) = size;
    let mut lines: Vec<String> = headline(status).lines().map(str::to_owned).collect();
    let alarms = status.alarms.iter();
    lines.extend(alarms.map(|alarm| format!("ALARM {}", alarm.text)));
    lines.push(String::new());
    let minute = Column {
        title: "LAST MINUTE, REQ/S",
        right: false,
        expendable: 3,
    };
    let columns: Vec<Column> = APP_COLUMNS.iter().copied().chain([minute]).collect();
    let rows: Vec<Vec<Cell>> = status
        .apps
        .iter()
        .map(|line| {
            let mut cells = app(line);
            cells.push(Cell::from(past.blocks(&line.app)));
            cells
        })
        .collect();
    let mut add = |text: String| lines.extend(text.lines().map(str::to_owned));
    add(compose(&columns, &rows, Some(width), colours));
    add("\n".to_owned());
    let mut busiest: Vec<_> = status.workers.iter().collect();
    let load = |percent: Option<f64>| percent.unwrap_or(-1.0);
    order::sort_by(&mut busiest, |a, b| {
        load(b.cpu_percent).total_cmp(&load(a.cpu_percent))
    });
    let rows: Vec<Vec<Cell>> = busiest.into_iter().map(worker).collect();
    add(compose(&WORKER_COLUMNS, &rows, Some(width), colours));
    let height = if height == 0 { HEIGHT } else { height };
    let room = height.saturating_sub(1);
    let hidden = lines.len().saturating_sub(room);
    if hidden > 0 {
        lines.truncate(room.saturating_sub(1));
        lines.push(format!(
            "{} more lines do not fit",
            hidden.saturating_add(1)
        ));
    }
    lines.push("Ctrl-C ends this".to_owned());
    let lines: Vec<String> = lines.iter().map(|line| fitted(line, width)).collect();
    // Each line clears what it does not cover: a picture that is wiped first flickers.
    format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"))
}

/// Wakes up for signals, so that the terminal is given back however this ends.
pub struct Clock {
    signals: UnixStream,
}

/// Why the clock has struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Struck {
    Second,
    Ended,
}

impl Clock {
    pub fn new() -> io::Result<Clock> {
        let (signals, teller) = UnixStream::pair()?;
        signals.set_read_timeout(Some(EVERY))?;
        for signal in [SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, teller.try_clone()?)?;
        }
        Ok(Clock { signals })
    }

    pub fn wait(&mut self) -> Struck {
        match self.signals.read(&mut [0]) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Struck::Second
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Struck::Second,
            Ok(_) | Err(_) => Struck::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::tests_support::a_status;

    #[test]
    fn the_busiest_worker_comes_first_and_the_rest_is_counted() {
        let status = a_status(&[("a.0", 1.0), ("a.1", 90.0), ("a.2", 10.0)]);
        let text = picture(&status, &Past::default(), (100, 30), false);
        let order: Vec<usize> = ["a.1", "a.2", "a.0"]
            .iter()
            .map(|name| text.find(&format!("\n{name}")).expect(name))
            .collect();
        assert!(order.is_sorted(), "{text}");
        let small = picture(&status, &Past::default(), (100, 9), false);
        assert_eq!(small.matches("\r\n").count(), 8, "{small:?}");
        assert!(small.contains("more lines do not fit"));
        assert!(!small.contains("a.0"));
    }

    #[test]
    fn the_last_minute_is_drawn() {
        let mut past = Past::default();
        let mut status = a_status(&[("a.0", 1.0)]);
        for value in [0.0, 50.0, 100.0] {
            status.apps[0].requests_per_s = value;
            past.add(&status);
        }
        assert_eq!(past.blocks("a"), " ▅█");
        for _ in 0..2 * PAST {
            past.add(&status);
        }
        assert_eq!(past.blocks("a").chars().count(), PAST);
        status.apps.clear();
        past.add(&status);
        assert_eq!(past.blocks("a"), "");
    }
}
