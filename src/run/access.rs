//! Where the access log goes: into a file of the journal, or to our standard output. Neither makes
//! a pool thread wait: what finds no room is dropped, counted, and the log says where.

use crate::config::plan::AccessPlan;
use crate::journal::{Gap, Journal, LogFile};
use front::proxy::access::{AccessLog, Format, Sink};
use front::sys::socket::wait_ready;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What may wait for the reader of our standard output.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// A write of so much comes out of a pipe in one piece: PIPE_BUF of pipe(7).
const WRITE_BYTES_MAX: usize = 4096;
/// While lines come, they are collected for so long.
const COLLECT: Duration = Duration::from_millis(50);
/// How long a reader that takes nothing is waited for before it is looked at again.
const GLANCE: Duration = Duration::from_secs(1);

/// An access log that is written.
pub struct Access {
    pub log: AccessLog,
    stdout: Option<Arc<Waiting>>,
}

/// Opens it. The error is one line that says what to do.
pub fn open(plan: &AccessPlan, journal: &Journal, goes_on: bool) -> Result<Access, String> {
    let log = |sink| AccessLog {
        format: plan.format,
        query: plan.query,
        sink,
    };
    let Some(path) = &plan.file else {
        let stdout = Waiting::start(gap(plan.format));
        let stdout = stdout
            .map_err(|error| format!("cannot write the access log to standard output: {error}"))?;
        return Ok(Access {
            log: log(Arc::new(Stdout(Arc::clone(&stdout)))),
            stdout: Some(stdout),
        });
    };
    // The journal would try again and again; at a start somebody is there to be told.
    let opened = OpenOptions::new().append(true).create(true).open(path);
    let opened = opened.map_err(|error| {
        let path = path.display();
        format!("cannot write {path}: {error}; choose another --access-log")
    });
    super::or_goes_on(opened, goes_on)?;
    Ok(Access {
        log: log(Arc::new(File(journal.open(path, gap(plan.format))))),
        stdout: None,
    })
}

impl Access {
    /// Waits until what has been written so far is with whoever reads it; not longer than `patience`.
    pub fn settle(&self, patience: Duration) {
        const LOOK: Duration = Duration::from_millis(2);
        let end = Instant::now() + patience;
        if let Some(waiting) = &self.stdout {
            let unwritten = || {
                let lines = waiting.lock();
                lines.busy || !lines.bytes.is_empty()
            };
            while unwritten() && Instant::now() < end {
                thread::sleep(LOOK);
            }
        }
    }

    /// Waits until what was said is written; false if that takes longer. Files are the journal's.
    pub fn flush(&self, patience: Duration) -> bool {
        let Some(waiting) = &self.stdout else {
            return true;
        };
        let mut lines = waiting.lock();
        lines.ending = true;
        waiting.more.notify_all();
        let unwritten = |lines: &mut Lines| lines.busy || !lines.bytes.is_empty();
        let waited = waiting.more.wait_timeout_while(lines, patience, unwritten);
        let (lines, result) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(lines);
        !result.timed_out()
    }
}

/// What stands where lines were dropped.
fn gap(format: Format) -> Gap {
    Box::new(move |count| {
        match format {
            Format::Json => format!("{{\"dropped\":{count}}}"),
            Format::Text | Format::Common | Format::Combined => {
                format!("# {count} lines dropped: they came faster than they could be written")
            }
        }
        .into_bytes()
    })
}

struct File(LogFile);

impl Sink for File {
    fn line(&self, line: &[u8]) {
        // What is dropped the journal counts and tells.
        let _ = self.0.write(line);
    }
}

/// Our standard output, written by a thread of its own, which may wait for its reader.
struct Stdout(Arc<Waiting>);

struct Waiting {
    lines: Mutex<Lines>,
    /// Something has changed: there are lines, they are written, or it ends.
    more: Condvar,
}

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    dropped: u64,
    /// The thread has taken some and not written them yet.
    busy: bool,
    /// Nobody reads any more.
    dead: bool,
    ending: bool,
}

impl Sink for Stdout {
    fn line(&self, line: &[u8]) {
        let mut lines = self.0.lock();
        if lines.dead {
            return;
        }
        if lines.bytes.len() + line.len() >= WAITING_BYTES_MAX {
            lines.dropped += 1;
            return;
        }
        let first = lines.bytes.is_empty();
        lines.bytes.extend_from_slice(line);
        lines.bytes.push(b'\n');
        drop(lines);
        if first {
            self.0.more.notify_all();
        }
    }
}

impl Waiting {
    fn start(gap: Gap) -> io::Result<Arc<Waiting>> {
        let waiting = Arc::new(Waiting {
            lines: Mutex::default(),
            more: Condvar::new(),
        });
        let theirs = Arc::clone(&waiting);
        let stdout = fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
        thread::Builder::new()
            .name("access".to_owned())
            .spawn(move || theirs.write_all(stdout, &gap))?;
        Ok(waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes for as long as somebody reads.
    fn write_all(&self, mut stdout: fs::File, gap: &Gap) {
        let mut hand = Vec::new();
        loop {
            let mut lines = self.lock();
            lines.busy = false;
            self.more.notify_all();
            let idle = |lines: &mut Lines| lines.bytes.is_empty();
            lines = self
                .more
                .wait_while(lines, idle)
                .unwrap_or_else(PoisonError::into_inner);
            if !lines.ending {
                let going_on = |lines: &mut Lines| !lines.ending;
                let collected = self.more.wait_timeout_while(lines, COLLECT, going_on);
                (lines, _) = collected.unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut lines.bytes, &mut hand);
            let dropped = std::mem::take(&mut lines.dropped);
            lines.busy = true;
            drop(lines);
            if dropped > 0 {
                hand.extend_from_slice(&gap(dropped));
                hand.push(b'\n');
            }
            let mut rest = hand.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(piece(rest));
                if write_patiently(&mut stdout, now).is_err() {
                    *self.lock() = Lines {
                        dead: true,
                        ..Lines::default()
                    };
                    return self.more.notify_all();
                }
                rest = later;
            }
            hand.clear();
        }
    }
}

/// As many whole lines as a pipe takes in one piece, so that what others write comes between lines.
/// A line that is longer than that is written in pieces.
fn piece(rest: &[u8]) -> usize {
    let fits = rest.get(..WRITE_BYTES_MAX).unwrap_or(rest);
    let newline = fits.iter().rposition(|byte| *byte == b'\n');
    newline.map_or(fits.len(), |at| at + 1)
}

/// Whoever shares the terminal with us may have made it non-blocking.
fn write_patiently(stdout: &mut fs::File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stdout.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_ready(stdout.as_fd(), true, GLANCE)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_whole_where_they_fit() {
        assert_eq!(piece(b"one\ntwo\n"), 8);
        let many = [b'x'; 4000]
            .into_iter()
            .chain(*b"\n")
            .collect::<Vec<u8>>()
            .repeat(3);
        assert_eq!(piece(&many), 4001);
        assert_eq!(piece(&[b'x'; 5000]), WRITE_BYTES_MAX);
    }
}
