//! One file as the journal's thread writes it.
//!
//! ```text
//! Closed -> Open -> Failing (tried again every few seconds) -> Open
//!    \--------------/
//! ```
//! A write that fails loses nothing of what waits: it goes on where it stopped, in the middle of a line
//! if need be. Only what finds no room in the queue meanwhile is lost.

use crate::journal::date::Zone;
use crate::journal::queue::Queue;
use crate::journal::rotation::{COMPRESSED, Names, Room, Rotation, room};
use front::sys::clock::unix_ms;
use log::{info, warn};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a file is tried again that could not be written, or not be put aside.
const RETRY: Duration = Duration::from_secs(5);
/// A buffer that was larger once does not stay so.
const KEPT_BYTES_MAX: usize = 64 << 10;

pub struct Target {
    pub path: PathBuf,
    pub queue: Arc<Queue>,
    state: State,
    /// What was taken from the queue, and how much of it is written.
    hand: Vec<u8>,
    written: usize,
    /// The file ends in the middle of a line.
    amid: bool,
    /// Putting it aside has failed: not before then again.
    aside_after: Option<Instant>,
}

enum State {
    Closed,
    Open(Opened),
    Failing {
        until: Instant,
        full: bool,
        /// Lines that it had lost before.
        dropped_before: u64,
    },
}

struct Opened {
    file: File,
    /// False for /dev/null and its like, which have no size and stay where they are.
    regular: bool,
    bytes: u64,
    /// When it was begun, in seconds since 1970.
    begun_s: i64,
}

/// What passes are made with.
pub struct Terms<'a> {
    pub rotation: &'a Rotation,
    pub zone: &'a mut Zone,
    pub all_bytes: &'a AtomicUsize,
    pub now: Instant,
    pub now_ms: u64,
}

impl<'a> Terms<'a> {
    /// Those of this moment.
    pub fn now(rotation: &'a Rotation, zone: &'a mut Zone, all_bytes: &'a AtomicUsize) -> Self {
        Terms {
            rotation,
            zone,
            all_bytes,
            now: Instant::now(),
            now_ms: unix_ms(),
        }
    }
}

/// What a pass has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub wrote: bool,
    /// Something was put aside.
    pub rotated: bool,
}

impl Target {
    pub fn new(path: PathBuf, queue: Arc<Queue>) -> Target {
        Target {
            path,
            queue,
            state: State::Closed,
            hand: Vec::new(),
            written: 0,
            amid: false,
            aside_after: None,
        }
    }

    /// Whether it cannot be written, and whether for want of room.
    pub fn failing(&self) -> (bool, bool) {
        match &self.state {
            State::Failing { full, .. } => (true, *full),
            State::Open(_) | State::Closed => (false, false),
        }
    }

    /// Whether a pass now would have something to write.
    pub fn has_work(&self, now: Instant) -> bool {
        match &self.state {
            State::Failing { until, .. } if now < *until => false,
            State::Failing { .. } | State::Open(_) | State::Closed => {
                !self.hand.is_empty() || !self.queue.is_empty()
            }
        }
    }

    /// When it has to be looked at even if nothing comes.
    pub fn deadline(&self, terms: &mut Terms<'_>) -> Option<Instant> {
        match &self.state {
            State::Failing { until, .. } => Some(*until),
            State::Closed => None,
            State::Open(opened) if opened.bytes == 0 || !opened.regular => None,
            State::Open(opened) => {
                let offset_s = i64::from(terms.zone.offset_s(terms.now_ms));
                let end = terms.rotation.every.end(opened.begun_s + offset_s)? - offset_s;
                let left_ms = (end * 1000).saturating_sub(i64::try_from(terms.now_ms).ok()?);
                let due = terms.now + Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
                Some(self.aside_after.map_or(due, |after| due.max(after)))
            }
        }
    }

    /// Writes what waits to the file as it is, and has it opened anew.
    pub fn reopen(&mut self, terms: &mut Terms<'_>) {
        self.pass(terms);
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Failing {
                full,
                dropped_before,
                ..
            } => State::Failing {
                until: terms.now,
                full,
                dropped_before,
            },
            State::Open(_) | State::Closed => State::Closed,
        };
        // The other half of a torn line would be a line of its own in the new file: it is, then.
        self.amid = false;
    }

    /// Opens it if need be, puts it aside if it is old or full, and writes what waits.
    pub fn pass(&mut self, terms: &mut Terms<'_>) -> Passed {
        let mut passed = Passed::default();
        let (opened, failed_before) = match std::mem::replace(&mut self.state, State::Closed) {
            failing @ State::Failing { until, .. } if terms.now < until => {
                self.state = failing;
                return passed;
            }
            State::Failing { dropped_before, .. } => (None, Some(dropped_before)),
            State::Open(opened) => (Some(opened), None),
            State::Closed => (None, None),
        };
        let mut opened = match opened.map_or_else(|| Opened::open(&self.path), Ok) {
            Ok(opened) => opened,
            Err(e) => {
                self.fail(&e, failed_before, terms);
                return passed;
            }
        };
        let outcome = self.write(&mut opened, terms, &mut passed);
        match outcome {
            Ok(()) => {
                self.state = State::Open(opened);
                if let Some(before) = failed_before {
                    info!(
                        "{} is written again; {} lines were lost",
                        self.path.display(),
                        self.queue.dropped().saturating_sub(before)
                    );
                }
            }
            Err(e) => self.fail(&e, failed_before, terms),
        }
        passed
    }

    fn write(
        &mut self,
        opened: &mut Opened,
        terms: &mut Terms<'_>,
        passed: &mut Passed,
    ) -> io::Result<()> {
        if self.hand.is_empty() {
            self.queue.take(&mut self.hand, terms.all_bytes);
        }
        if opened.is_old(terms) {
            passed.rotated |= self.put_aside(opened, terms)?;
        }
        while self.written < self.hand.len() {
            let rest = self.hand.get(self.written..).unwrap_or_default();
            let bytes_max = if opened.regular {
                terms.rotation.bytes_max
            } else {
                0
            };
            let size = match room(rest, opened.bytes, bytes_max, self.amid) {
                Room::For(size) => size,
                Room::None => {
                    if self.put_aside(opened, terms)? {
                        passed.rotated = true;
                        continue;
                    }
                    // Rather too large a file than no lines.
                    usize::MAX
                }
            };
            let rest = self.hand.get(self.written..).unwrap_or_default();
            let piece = rest.get(..size).unwrap_or(rest);
            match opened.file.write(piece) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    passed.wrote = true;
                    self.amid = piece.get(count - 1) != Some(&b'\n');
                    opened.bytes += u64::try_from(count).unwrap_or(0);
                    self.written += count;
                    self.queue.done(count, terms.all_bytes);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.hand.clear();
        self.hand.shrink_to(KEPT_BYTES_MAX);
        self.written = 0;
        Ok(())
    }

    /// Gives the file another name and begins a new one; false if that is not possible now. True: there
    /// may be room now.
    fn put_aside(&mut self, opened: &mut Opened, terms: &mut Terms<'_>) -> io::Result<bool> {
        if self.amid || self.aside_after.is_some_and(|after| terms.now < after) {
            return Ok(false);
        }
        // Somebody may have emptied it, or moved it away without a word.
        let meta = opened.file.metadata()?;
        if meta.len() < opened.bytes {
            opened.bytes = meta.len();
            return Ok(true);
        }
        let offset_s = terms.zone.offset_s(terms.now_ms);
        let date = terms.rotation.date.format(terms.now_ms, offset_s);
        let names = Names::of(&self.path);
        let free = |path: &PathBuf| {
            let mut compressed = path.clone().into_os_string();
            compressed.push(COMPRESSED);
            fs::symlink_metadata(path).is_err() && fs::symlink_metadata(compressed).is_err()
        };
        let moved = match names.aside(&date).find(free) {
            Some(aside) => fs::rename(&self.path, aside),
            None => Err(io::Error::other("no name is free for it")),
        };
        match moved {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => {
                if self.aside_after.is_none() {
                    warn!(
                        "{} cannot be put aside: {e}; it goes on growing",
                        self.path.display()
                    );
                }
                self.aside_after = Some(terms.now + RETRY);
                return Ok(false);
            }
        }
        self.aside_after = None;
        *opened = Opened::open(&self.path)?;
        Ok(true)
    }

    fn fail(&mut self, error: &io::Error, before: Option<u64>, terms: &Terms<'_>) {
        let full = matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        );
        if before.is_none() {
            warn!(
                "{} cannot be written: {error}; the service goes on, lines that find no room in memory are lost; tried again every {} s",
                self.path.display(),
                RETRY.as_secs()
            );
        }
        self.state = State::Failing {
            until: terms.now + RETRY,
            full,
            dropped_before: before.unwrap_or_else(|| self.queue.dropped()),
        };
    }

    /// What it holds in memory is given up.
    pub fn give_up(&mut self, all_bytes: &AtomicUsize) {
        self.queue.done(self.hand.len() - self.written, all_bytes);
        self.hand = Vec::new();
        self.written = 0;
        if self.queue.take(&mut self.hand, all_bytes) {
            self.queue.done(self.hand.len(), all_bytes);
        }
    }
}

impl Opened {
    fn open(path: &Path) -> io::Result<Opened> {
        // A pipe without a reader would hold us up for ever.
        let kind = fs::metadata(path).map(|meta| meta.file_type());
        if kind.is_ok_and(|kind| !kind.is_file() && !kind.is_char_device()) {
            return Err(io::Error::other("it is there and is no file"));
        }
        let create = || OpenOptions::new().append(true).create(true).open(path);
        let file = match create() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
                create()?
            }
            opened => opened?,
        };
        let meta = file.metadata()?;
        // Where the file system does not know when a file began, its last line is the best we know.
        let begun = meta
            .created()
            .or_else(|_| meta.modified())
            .unwrap_or_else(|_| SystemTime::now());
        let begun = begun.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Opened {
            file,
            regular: meta.is_file(),
            bytes: if meta.is_file() { meta.len() } else { 0 },
            begun_s: i64::try_from(begun.as_secs()).unwrap_or(0),
        })
    }

    fn is_old(&self, terms: &mut Terms<'_>) -> bool {
        let offset_s = i64::from(terms.zone.offset_s(terms.now_ms));
        let now_s = i64::try_from(terms.now_ms / 1000).unwrap_or(0);
        let end = terms.rotation.every.end(self.begun_s + offset_s);
        self.regular && self.bytes > 0 && end.is_some_and(|end| end <= now_s + offset_s)
    }
}
