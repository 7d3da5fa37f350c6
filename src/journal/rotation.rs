//! When a file is put aside, what it is called then, and which of those put aside have to go. Pure:
//! sizes, names and times come in, decisions come out.

use crate::journal::date::DateFormat;
use front::order;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;
/// Between the name of the file and the date, as pm2-logrotate has it.
const SEPARATOR: &str = "__";
/// What the compressing program appends.
pub const COMPRESSED: &str = ".gz";
/// Files of one second that are told apart by a number.
const NUMBER_MAX: u32 = 1000;

/// How files are rotated; the same for all of them. A limit of 0 is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A file that would become larger is put aside first.
    pub bytes_max: u64,
    pub every: Every,
    /// Put aside and kept, of each file.
    pub files_max: u32,
    /// Of all files and all that was put aside; the oldest put aside go.
    pub total_bytes_max: u64,
    /// What is put aside is compressed.
    pub compress: bool,
    /// The date in the name of what is put aside.
    pub date: DateFormat,
}

/// How long one file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    Never,
    /// Until the clock on the wall shows the next full hour, midnight, or Monday.
    Hour,
    Day,
    Week,
    /// So long after it was begun.
    Seconds(u32),
}

impl Every {
    /// When a file has to go that was begun then. Both in seconds on the local clock.
    pub fn end(self, begun_s: i64) -> Option<i64> {
        let next =
            |length: i64, shift: i64| ((begun_s + shift).div_euclid(length) + 1) * length - shift;
        match self {
            Every::Never => None,
            Every::Hour => Some(next(HOUR_S, 0)),
            Every::Day => Some(next(DAY_S, 0)),
            // 1970 began with a Thursday.
            Every::Week => Some(next(7 * DAY_S, 3 * DAY_S)),
            Every::Seconds(seconds) => Some(begun_s + i64::from(seconds)),
        }
    }
}

/// How much of these lines goes into a file that holds `bytes` already and may hold `bytes_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// So many bytes: whole lines, unless it begins in the middle of one.
    For(usize),
    /// Not even one line: another file first.
    None,
}

/// `amid`: the file ends in the middle of a line, which is not to be torn apart.
pub fn room(lines: &[u8], bytes: u64, bytes_max: u64, amid: bool) -> Room {
    let left = bytes_max.saturating_sub(bytes);
    let fits = usize::try_from(left).unwrap_or(usize::MAX).min(lines.len());
    let first = lines
        .iter()
        .position(|b| *b == b'\n')
        .map_or(lines.len(), |at| at + 1);
    if bytes_max == 0 || fits == lines.len() {
        return Room::For(lines.len());
    }
    let whole = lines.get(..fits).unwrap_or_default();
    match whole.iter().rposition(|b| *b == b'\n') {
        Some(last) => Room::For(last + 1),
        // A line that is longer than a whole file gets one of its own.
        None if bytes == 0 || amid => Room::For(first),
        None => Room::None,
    }
}

/// The names around one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Names {
    pub dir: PathBuf,
    stem: String,
    /// With its dot; empty if there is none.
    extension: String,
}

impl Names {
    pub fn of(path: &Path) -> Names {
        let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = match path.extension() {
            Some(extension) => format!(".{}", extension.to_string_lossy()),
            None => String::new(),
        };
        Names {
            dir: path.parent().unwrap_or(Path::new("/")).to_owned(),
            stem: text(path.file_stem()),
            extension,
        }
    }

    /// Where a file goes that is put aside at this date: the first of these that is free.
    pub fn aside(&self, date: &str) -> impl Iterator<Item = PathBuf> {
        let Names {
            dir,
            stem,
            extension,
        } = self;
        (0..NUMBER_MAX).map(move |number| {
            let number = match number {
                0 => String::new(),
                number => format!(".{number}"),
            };
            dir.join(format!("{stem}{SEPARATOR}{date}{number}{extension}"))
        })
    }

    /// Whether a file of this name in the same folder was put aside from this one; if so, whether it
    /// is compressed. What merely begins as our names do is not ours to remove.
    pub fn recognise(&self, name: &str, date: &DateFormat) -> Option<bool> {
        let rest = name.strip_prefix(&self.stem)?.strip_prefix(SEPARATOR)?;
        let (rest, compressed) = match rest.strip_suffix(COMPRESSED) {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let rest = rest.strip_suffix(&self.extension)?;
        let numbered = || {
            let (rest, number) = rest.rsplit_once('.')?;
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            (digits && date.resembles(rest)).then_some(())
        };
        (date.resembles(rest) || numbered().is_some()).then_some(compressed)
    }
}

/// A file that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    pub path: PathBuf,
    pub bytes: u64,
    pub modified: SystemTime,
    pub compressed: bool,
}

/// Which have to go: of each file (an item of `shelves`) all but the newest, and then the oldest of all
/// until everything, with `current_bytes` that are being written, keeps the total. Those that stay
/// are left in `shelves`, the oldest first.
pub fn to_remove(
    rotation: &Rotation,
    shelves: &mut [Vec<Aside>],
    current_bytes: u64,
) -> Vec<Aside> {
    let mut gone = Vec::new();
    let keep = usize::try_from(rotation.files_max).unwrap_or(usize::MAX);
    for shelf in shelves.iter_mut() {
        order::sort_by(shelf, |a, b| {
            (a.modified, &a.path).cmp(&(b.modified, &b.path))
        });
        if keep > 0 {
            gone.extend(shelf.drain(..shelf.len().saturating_sub(keep)));
        }
    }
    let bytes = |shelf: &Vec<Aside>| shelf.iter().map(|aside| aside.bytes).sum::<u64>();
    let mut total = current_bytes + shelves.iter().map(bytes).sum::<u64>();
    while rotation.total_bytes_max > 0 && total > rotation.total_bytes_max {
        let oldest = shelves
            .iter_mut()
            .filter(|shelf| !shelf.is_empty())
            .min_by_key(|shelf| shelf.first().map(|aside| aside.modified));
        let Some(shelf) = oldest else {
            break;
        };
        let aside = shelf.remove(0);
        total -= aside.bytes;
        gone.push(aside);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn date() -> DateFormat {
        DateFormat::read("YYYY-MM-DD_HH-mm-ss").0
    }

    #[test]
    fn periods_end_when_the_clock_on_the_wall_says_so() {
        // 2026-11-22 06:07:08, a Sunday.
        let begun = 1_795_327_628;
        let midnight = 1_795_392_000;
        let table = [
            (Every::Never, None),
            (Every::Hour, Some(1_795_330_800)),
            (Every::Day, Some(midnight)),
            (Every::Week, Some(midnight)),
            (Every::Seconds(5), Some(begun + 5)),
        ];
        for (every, end) in table {
            assert_eq!(every.end(begun), end, "{every:?}");
        }
        assert_eq!(Every::Day.end(midnight), Some(midnight + DAY_S));
        assert_eq!(Every::Week.end(midnight), Some(midnight + 7 * DAY_S));
    }

    #[test]
    fn lines_are_not_torn_apart() {
        let table: [(&[u8], u64, u64, bool, Room); 9] = [
            (b"aa\nbb\n", 0, 0, false, Room::For(6)),
            (b"aa\nbb\n", 4, 10, false, Room::For(6)),
            (b"aa\nbb\n", 5, 10, false, Room::For(3)),
            (b"aa\nbb\n", 8, 10, false, Room::None),
            (b"aa\nbb\n", 12, 10, false, Room::None),
            (b"aaaaaaaaaaaaaa\nbb\n", 0, 10, false, Room::For(15)),
            (b"aaaaaaaaaaaaaa\nbb\n", 1, 10, false, Room::None),
            (b"a\nbb\n", 10, 10, true, Room::For(2)),
            (b"aa\n", 7, 10, false, Room::For(3)),
        ];
        for (lines, bytes, max, amid, expected) in table {
            assert_eq!(room(lines, bytes, max, amid), expected, "{lines:?} {bytes}");
        }
    }

    #[test]
    fn what_was_put_aside_is_known_by_its_name() {
        let names = Names::of(Path::new("/logs/chat-out.log"));
        let aside: Vec<PathBuf> = names.aside("2026-11-22_06-07-08").take(2).collect();
        assert_eq!(
            aside[0],
            Path::new("/logs/chat-out__2026-11-22_06-07-08.log")
        );
        assert_eq!(
            aside[1],
            Path::new("/logs/chat-out__2026-11-22_06-07-08.1.log")
        );
        let table = [
            ("chat-out__2026-11-22_06-07-08.log", Some(false)),
            ("chat-out__2026-11-22_06-07-08.log.gz", Some(true)),
            ("chat-out__2026-11-22_06-07-08.17.log.gz", Some(true)),
            ("chat-out.log", None),
            ("chat-out__old.log", None),
            ("chat-out__2026-11-22_06-07-08.txt", None),
            ("chat-out__2026-11-22_06-07-08.x.log", None),
            ("chat-out-1__2026-11-22_06-07-08.log", None),
            ("chat__2026-11-22_06-07-08.log", None),
        ];
        for (name, expected) in table {
            assert_eq!(names.recognise(name, &date()), expected, "{name}");
        }
        let bare = Names::of(Path::new("/logs/access"));
        assert_eq!(
            bare.recognise("access__2026-11-22_06-07-08", &date()),
            Some(false)
        );
    }

    #[test]
    fn the_oldest_go_first() {
        let aside = |name: &str, bytes: u64, age_s: u64| Aside {
            path: PathBuf::from(name),
            bytes,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age_s),
            compressed: false,
        };
        let removed = |files_max, total_bytes_max| {
            let rotation = Rotation {
                bytes_max: 0,
                every: Every::Never,
                files_max,
                total_bytes_max,
                compress: false,
                date: date(),
            };
            let mut shelves = [
                vec![aside("a1", 10, 1), aside("a3", 10, 3), aside("a5", 10, 5)],
                vec![],
                vec![aside("b2", 10, 2), aside("b4", 10, 4)],
            ];
            let gone = to_remove(&rotation, &mut shelves, 10);
            let names: Vec<_> = gone.into_iter().map(|gone| gone.path).collect();
            names
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(removed(0, 0), "");
        assert_eq!(removed(2, 0), "a5");
        assert_eq!(removed(1, 0), "a5 a3 b4");
        assert_eq!(removed(0, 60), "");
        assert_eq!(removed(0, 40), "a5 b4");
        assert_eq!(removed(2, 40), "a5 b4");
        assert_eq!(removed(0, 5), "a5 b4 a3 b2 a1");
    }
}
