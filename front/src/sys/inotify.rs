//! inotify(7): news of changes in folders.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The number of a watched folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watched(i32);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// None: changes were lost, because too many came at once.
    pub folder: Option<Watched>,
    /// The file in the folder; empty if it is the folder itself.
    pub name: Vec<u8>,
    /// A folder has come.
    pub new_folder: bool,
    /// The folder is not watched any more: it is gone.
    pub ended: bool,
}

/// Watches folders, not what lies below them.
#[derive(Debug)]
pub struct Inotify {
    file: File,
}

/// Bytes read at once: a few hundred changes.
const READ_BYTES: usize = 16 << 10;
/// wd, mask, cookie, len.
const HEADER_BYTES: usize = 16;

impl Inotify {
    pub fn new() -> io::Result<Inotify> {
        // SAFETY: no pointer; the descriptor that it returns is ours alone.
        let fd = unsafe {
            let fd = libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Inotify { file: fd.into() })
    }

    /// Watches a folder for files that are written, come, go or are moved.
    pub fn add(&self, folder: &Path) -> io::Result<Watched> {
        let path = CString::new(folder.as_os_str().as_bytes())?;
        let mask = libc::IN_CLOSE_WRITE
            | libc::IN_CREATE
            | libc::IN_DELETE
            | libc::IN_MOVE
            | libc::IN_ONLYDIR
            | libc::IN_DONT_FOLLOW;
        // SAFETY: the path ends in a NUL and lives through the call.
        let number = unsafe { libc::inotify_add_watch(self.file.as_raw_fd(), path.as_ptr(), mask) };
        match number {
            0.. => Ok(Watched(number)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// What has happened; empty if nothing has.
    pub fn changes(&mut self) -> io::Result<Vec<Change>> {
        let mut bytes = vec![0; READ_BYTES];
        match self.file.read(&mut bytes) {
            Ok(read) => Ok(changes(bytes.get(..read).unwrap_or(&[]))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Takes the kernel's records apart.
fn changes(mut bytes: &[u8]) -> Vec<Change> {
    let number = |at: usize, bytes: &[u8]| {
        let four = bytes.get(at..at.saturating_add(4))?;
        Some(u32::from_ne_bytes(four.try_into().ok()?))
    };
    let mut changes = Vec::new();
    while let (Some(folder), Some(mask), Some(len)) =
        (number(0, bytes), number(4, bytes), number(12, bytes))
    {
        let end = HEADER_BYTES.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        let Some((record, rest)) = bytes.split_at_checked(end) else {
            break;
        };
        // The name is padded with NULs.
        let name = record.get(HEADER_BYTES..).unwrap_or(&[]);
        let name = name.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let come = mask & (libc::IN_CREATE | libc::IN_MOVED_TO) != 0;
        changes.push(Change {
            folder: i32::try_from(folder).ok().map(Watched),
            name: name.to_vec(),
            new_folder: come && mask & libc::IN_ISDIR != 0,
            ended: mask & libc::IN_IGNORED != 0,
        });
        bytes = rest;
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::wait_ready;
    use std::time::Duration;

    #[test]
    fn files_and_folders_that_come_are_told_by_name() {
        let dir = std::env::temp_dir().join(format!("sk-inotify-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let mut inotify = Inotify::new().expect("inotify");
        let folder = inotify.add(&dir).expect("a watch");
        assert_eq!(inotify.changes().expect("no change"), []);
        std::fs::write(dir.join("a.js"), "1").expect("a file");
        std::fs::create_dir(dir.join("sub")).expect("a folder");
        assert!(wait_ready(inotify.as_fd(), false, Duration::from_secs(5)).expect("a wait"));
        let changes = inotify.changes().expect("changes");
        assert!(changes.iter().all(|change| change.folder == Some(folder)));
        assert!(changes.iter().any(|c| c.name == b"a.js" && !c.new_folder));
        assert!(changes.iter().any(|c| c.name == b"sub" && c.new_folder));
        std::fs::remove_dir_all(&dir).expect("the folder goes");
        let changes = inotify.changes().expect("changes");
        assert!(changes.iter().any(|change| change.ended));
    }

    #[test]
    fn half_a_record_is_no_record() {
        assert_eq!(changes(&[1, 0, 0, 0, 2]), []);
        let mut record = vec![0; 16];
        record[12] = 8;
        assert_eq!(changes(&record), []);
    }
}
