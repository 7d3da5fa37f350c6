//! Our own log: one line on stderr for each thing that happens, `LEVEL [DATE] what`. simple_logger
//! writes it; this puts the date where the name of a module of ours would stand, and holds back what a
//! request thread says again and again: thousands of clients of a dead worker are one thing that
//! happens, not thousands.
//!
//! A thread of its own writes, and whoever has a line never waits for it: a pager that nobody scrolls,
//! or Ctrl-S on a terminal, must not stop the service. What finds no room is counted and told.

use crate::journal::date::{DateFormat, Zone};
use front::channel::{Receiver, Sender, bounded};
use front::sys::clock::unix_ms;
use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The date of a line, if nobody says.
const DATE: &str = "YYYY-MM-DD HH:mm:ss.SSS Z";
/// Of one kind of line so many are written in a second.
const SAID_MAX: u32 = 10;
/// Rooms whose lines come with requests.
const WITH_REQUESTS: [&str; 2] = ["front::proxy", "front::server"];
/// An example of what was held back is not longer.
const EXAMPLE_CHARS_MAX: usize = 200;

/// Lines that wait to be written.
const WAITING_MAX: usize = 4096;
/// What the last lines may take to be written.
const END: Duration = Duration::from_secs(1);

/// Starts our log. What was held back is told when the log is flushed, which somebody has to do
/// about once a second.
pub fn start(level: LevelFilter, date: Option<&DateFormat>) -> Result<Spoken, String> {
    let cannot = |why: &dyn std::fmt::Display| format!("cannot start the log: {why}");
    let (orders, orders_in) = bounded(WAITING_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let writer = Writer {
        inner: SimpleLogger::new().with_level(level),
        terminal: io::stderr().is_terminal(),
        orders: orders_in,
        dropped: Arc::clone(&dropped),
    };
    let voice = Voice {
        level,
        orders: orders.clone(),
        dropped,
        date: date.cloned().unwrap_or_else(|| DateFormat::read(DATE).0),
        zone: Mutex::default(),
        repeats: Mutex::default(),
    };
    log::set_boxed_logger(Box::new(voice)).map_err(|e| cannot(&e))?;
    log::set_max_level(level);
    Ok(Spoken {
        orders,
        writer: Some(writer),
    })
}

/// Our log, as whoever has started it holds it. When it is dropped, what waits is written, as far as
/// somebody reads it.
pub struct Spoken {
    orders: Sender<Order>,
    /// Until the thread has it.
    writer: Option<Writer>,
}

impl Spoken {
    /// Starts the thread; until then lines wait. It is not to be there before root is given up.
    pub fn begin(&mut self) -> io::Result<()> {
        if let Some(writer) = self.writer.take() {
            thread::Builder::new()
                .name("voice".to_owned())
                .spawn(move || writer.run())?;
        }
        Ok(())
    }
}

/// For whoever wants to wait until our log is written.
#[derive(Clone)]
pub struct Written(Sender<Order>);

impl Written {
    /// Waits until everything that has been said is written; not longer than `patience`.
    pub fn wait(&self, patience: Duration) {
        let (done, told) = bounded(1);
        if self.0.send_timeout(Order::End(done), patience).is_ok() {
            let _ = told.recv_timeout(patience);
        }
    }
}

impl Spoken {
    pub fn written(&self) -> Written {
        Written(self.orders.clone())
    }
}

impl Drop for Spoken {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            return writer.write_waiting();
        }
        // Whoever does not read his terminal does not keep us.
        self.written().wait(END);
    }
}

enum Order {
    Say(Line),
    /// All that came before is written: say so.
    End(Sender<()>),
}

struct Line {
    level: Level,
    date: String,
    text: String,
}

/// What the thread runs.
struct Writer {
    inner: SimpleLogger,
    terminal: bool,
    orders: Receiver<Order>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(self) {
        for order in self.orders.iter() {
            self.obey(order);
        }
    }

    fn write_waiting(&self) {
        for order in self.orders.try_iter() {
            self.obey(order);
        }
    }

    fn obey(&self, order: Order) {
        match order {
            Order::Say(line) => {
                self.write(line.level, &line.date, format_args!("{}", line.text));
                let dropped = self.dropped.swap(0, Relaxed);
                if dropped > 0 {
                    let what =
                        format_args!("{dropped} lines of ours are lost: stderr was not read");
                    self.write(Level::Warn, &line.date, what);
                }
            }
            Order::End(done) => drop(done.send(())),
        }
    }

    fn write(&self, level: Level, date: &str, what: std::fmt::Arguments<'_>) {
        if self.terminal {
            // Whatever passing line stands there. Nobody may be reading any more.
            let _ = io::stderr().write_all(b"\x1b[K");
        }
        let record = Record::builder()
            .level(level)
            .target(date)
            .args(what)
            .build();
        self.inner.log(&record);
    }
}

struct Voice {
    level: LevelFilter,
    orders: Sender<Order>,
    dropped: Arc<AtomicU64>,
    date: DateFormat,
    zone: Mutex<Zone>,
    repeats: Mutex<Repeats>,
}

impl Log for Voice {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now_ms = unix_ms();
        let of_requests = WITH_REQUESTS
            .iter()
            .any(|room| record.target().starts_with(room));
        if of_requests
            && record.level() <= Level::Warn
            && let (Some(file), Some(line)) = (record.file_static(), record.line())
        {
            let site = Site { file, line };
            let example = || record.args().to_string();
            if !self
                .repeats()
                .admit(site, record.level(), now_ms / 1000, example)
            {
                return;
            }
        }
        self.say(record.level(), now_ms, *record.args());
    }

    fn flush(&self) {
        let now_ms = unix_ms();
        let held = self.repeats().take_held(now_ms / 1000);
        for held in held {
            let (count, example) = (held.held, &held.example);
            self.say(
                held.level,
                now_ms,
                format_args!("{count} more within a second like: {example}"),
            );
        }
    }
}

impl Voice {
    fn say(&self, level: Level, now_ms: u64, what: std::fmt::Arguments<'_>) {
        let mut zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        let offset_s = zone.offset_s(now_ms);
        drop(zone);
        let line = Line {
            level,
            date: self.date.format(now_ms, offset_s),
            text: what.to_string(),
        };
        if self.orders.try_send(Order::Say(line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    fn repeats(&self) -> std::sync::MutexGuard<'_, Repeats> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a line comes from in our code: what is said there is of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Site {
    file: &'static str,
    line: u32,
}

/// What has been said lately. Pure. As many entries as there are sites.
#[derive(Debug, Default)]
struct Repeats(Vec<Said>);

#[derive(Clone, Debug)]
struct Said {
    site: Site,
    level: Level,
    second: u64,
    said: u32,
    /// Held back in this second, and the first one of them.
    held: u32,
    example: String,
}

impl Repeats {
    /// Whether this is to be said now.
    fn admit(
        &mut self,
        site: Site,
        level: Level,
        second: u64,
        example: impl FnOnce() -> String,
    ) -> bool {
        let index = match self.0.iter().position(|said| said.site == site) {
            Some(index) => index,
            None => {
                self.0.push(Said {
                    site,
                    level,
                    second,
                    said: 0,
                    held: 0,
                    example: String::new(),
                });
                self.0.len() - 1
            }
        };
        let Some(said) = self.0.get_mut(index) else {
            return true;
        };
        // What is held is told first, by whoever flushes.
        if said.second != second && said.held == 0 {
            (said.second, said.said) = (second, 0);
        }
        if said.said < SAID_MAX {
            said.said += 1;
            return true;
        }
        if said.held == 0 {
            said.example = example().chars().take(EXAMPLE_CHARS_MAX).collect();
        }
        said.held = said.held.saturating_add(1);
        false
    }

    /// What was held back in seconds that are over.
    fn take_held(&mut self, second: u64) -> Vec<Said> {
        let mut over = Vec::new();
        for said in &mut self.0 {
            if said.held > 0 && said.second != second {
                over.push(said.clone());
                (said.second, said.said, said.held) = (second, 0, 0);
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_too_often_is_counted_and_told_later() {
        let site = |line| Site { file: "a.rs", line };
        let mut repeats = Repeats::default();
        let said = |repeats: &mut Repeats, line, second| {
            let example = || format!("example {line}");
            repeats.admit(site(line), Level::Warn, second, example)
        };
        let count = (0..100).filter(|_| said(&mut repeats, 1, 7)).count();
        assert_eq!(count, 10);
        assert!(said(&mut repeats, 2, 7), "another kind");
        assert!(repeats.take_held(7).is_empty(), "the second is not over");
        assert!(!said(&mut repeats, 1, 8), "those of before are told first");
        let held = repeats.take_held(8);
        assert_eq!(held.len(), 1);
        assert_eq!((held[0].held, held[0].example.as_str()), (91, "example 1"));
        assert!(said(&mut repeats, 1, 8));
        assert!(repeats.take_held(9).is_empty());
    }

    #[test]
    fn what_comes_slowly_is_said() {
        let mut repeats = Repeats::default();
        let site = Site {
            file: "a.rs",
            line: 1,
        };
        for second in 0..100 {
            assert!(repeats.admit(site, Level::Warn, second, String::new));
        }
    }
}
