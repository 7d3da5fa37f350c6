//! The run directory: a lock, the workers' sockets and the hook for Node. Mode 0700, because a
//! socket in it is the way past the proxy to a worker; 0711 once workers of other users have to
//! reach the hook, and the sockets are closed to them by modes of their own. Used by the thread that
//! starts the fleet, and by the supervisor.

use crate::fleet::StartError;
use front::roster::Slot;
use front::sys::carried::Baton;
use front::sys::descriptor::try_lock;
use front::sys::process::user;
use front::sys::socket::listen_unix;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown,
};
use std::path::{Path, PathBuf};

/// unix(7) allows 107; some programs cut silently at less.
pub const SOCKET_PATH_BYTES_MAX: usize = 99;
/// Connections that wait while a worker starts or is busy; the kernel caps it at somaxconn.
const BACKLOG: i32 = 4096;
const LOCK: &str = "lock";
const HOOK: &str = "hook.cjs";
const HOOK_TEXT: &str = include_str!("hook.cjs");
const AUTOPSIES: &str = "autopsies";
/// Beside the hook, which loads them.
const BROADCAST: &str = "broadcast.cjs";
const BROADCAST_TEXT: &str = include_str!("broadcast.cjs");
const RECOVERY: &str = "recovery.cjs";
const RECOVERY_TEXT: &str = include_str!("recovery.cjs");
const HOOK_FILES: [(&str, &str); 3] = [
    (BROADCAST, BROADCAST_TEXT),
    (RECOVERY, RECOVERY_TEXT),
    (HOOK, HOOK_TEXT),
];

/// A run directory that is ours until this value is dropped, or the process ends.
#[derive(Debug)]
pub struct RunDir {
    /// Absolute: workers have other working directories.
    path: PathBuf,
    lock: File,
}

impl RunDir {
    pub fn open(path: &Path) -> Result<RunDir, StartError> {
        let failed = |source| StartError::RunDir {
            path: path.to_path_buf(),
            source,
        };
        make(path).map_err(failed)?;
        let path = fs::canonicalize(path).map_err(failed)?;
        make_private(&path)?;
        let lock = lock(&path)?;
        let run_dir = RunDir { path, lock };
        run_dir.remove_sockets();
        Ok(run_dir)
    }

    /// The run directory of an earlier binary, with the lock that it has left.
    pub fn take_over(path: &Path, lock: Baton) -> Result<RunDir, StartError> {
        let failed = |source| StartError::RunDir {
            path: path.to_path_buf(),
            source,
        };
        Ok(RunDir {
            // It may have been removed; then it is made again for the next worker.
            path: fs::canonicalize(path)
                .or_else(|_| std::path::absolute(path))
                .map_err(failed)?,
            lock: File::from(lock.claim().map_err(failed)?),
        })
    }

    /// For the binary that takes over.
    pub fn lock(&self) -> Baton {
        Baton::of(self.lock.as_fd())
    }

    /// Where the hook is.
    pub fn hook(&self) -> PathBuf {
        self.path.join(HOOK)
    }

    /// Writes the hook: all of its files, or none.
    pub fn write_hook(&self) -> Result<(), StartError> {
        for (name, text) in HOOK_FILES {
            self.write_beside(name, text)?;
        }
        for (name, _) in HOOK_FILES {
            let path = self.path.join(name);
            let moved = fs::rename(self.beside(name), &path);
            moved.map_err(|source| StartError::RunDir { path, source })?;
        }
        Ok(())
    }

    /// Writes what workers need and somebody has removed, as sweepers of /tmp do; true if anything was
    /// missing.
    pub fn mend(&mut self) -> Result<bool, StartError> {
        let there = |name: &str| self.path.join(name).is_file();
        if HOOK_FILES.iter().all(|(name, _)| there(name)) {
            return Ok(false);
        }
        let failed = |source| StartError::RunDir {
            path: self.path.clone(),
            source,
        };
        make(&self.path).map_err(failed)?;
        if !there(LOCK) {
            self.lock = lock(&self.path)?;
        }
        self.write_hook()?;
        Ok(true)
    }

    /// Lets workers of other users pass through to the hook, and to nothing that they cannot name.
    pub fn let_others_pass(&self) -> Result<(), StartError> {
        let (path, mode) = (self.path.clone(), fs::Permissions::from_mode(0o711));
        fs::set_permissions(&path, mode).map_err(|source| StartError::RunDir { path, source })
    }

    /// A worker may be starting that is about to read the file.
    fn beside(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.new"))
    }

    fn write_beside(&self, name: &str, text: &str) -> Result<(), StartError> {
        let path = self.beside(name);
        let public = fs::Permissions::from_mode(0o644);
        let written = fs::write(&path, text).and_then(|()| fs::set_permissions(&path, public));
        written.map_err(|source| {
            let _ = fs::remove_file(&path);
            StartError::RunDir { path, source }
        })
    }

    /// Where a worker's socket is.
    pub fn socket(&self, app: &str, instance: u32) -> Result<PathBuf, StartError> {
        self.checked(format!("{}.{instance}.sock", file_name_of(app)))
    }

    /// Where the socket of one is that comes while another with its number may still be there.
    pub fn newcomers_socket(
        &self,
        app: &str,
        instance: u32,
        slot: Slot,
    ) -> Result<PathBuf, StartError> {
        let Slot(slot) = slot;
        self.checked(format!("{}.{instance}.{slot}.sock", file_name_of(app)))
    }

    fn checked(&self, name: String) -> Result<PathBuf, StartError> {
        let path = self.path.join(name);
        if path.as_os_str().as_bytes().len() > SOCKET_PATH_BYTES_MAX {
            return Err(StartError::SocketPathTooLong { path });
        }
        Ok(path)
    }

    /// Where it is written what hung workers were doing.
    pub fn autopsies(&self) -> PathBuf {
        self.path.join(AUTOPSIES)
    }

    /// At start, sockets of a run that was killed; at the end, our own.
    pub fn remove_sockets(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_socket())
                && entry.path().extension().is_some_and(|end| end == "sock")
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    pub fn remove_hook(&self) {
        for (name, _) in HOOK_FILES {
            let _ = fs::remove_file(self.path.join(name));
        }
    }
}

/// Binds a worker's socket.
pub fn listen(path: &Path) -> Result<OwnedFd, StartError> {
    listen_unix(path, BACKLOG).map_err(|source| StartError::Socket {
        path: path.to_path_buf(),
        source,
    })
}

/// Makes room for a program that binds the path itself: what a killed one has left is in its way.
pub fn clear_way(path: &Path) {
    let _ = fs::remove_file(path);
}

/// App names may hold anything, file names may not.
fn file_name_of(app: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    app.chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect()
}

/// What lies above it is not ours to close to others: they have their own there.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes the directory, as root, for whom we are about to become. One that root has used before is
/// given away with what lies in it; one that belongs to anybody else is left for the start to refuse.
pub fn hand_over(path: &Path, uid: u32, gid: u32) -> Result<(), StartError> {
    let failed = |source| StartError::RunDir {
        path: path.to_path_buf(),
        source,
    };
    make(path).map_err(failed)?;
    // A link to a directory is not one: others could lead us to theirs.
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    if !metadata.is_dir() || metadata.uid() != user() || metadata.uid() == uid {
        return Ok(());
    }
    make_private(path)?;
    for entry in fs::read_dir(path).map_err(failed)?.flatten() {
        lchown(entry.path(), Some(uid), Some(gid)).map_err(failed)?;
    }
    lchown(path, Some(uid), Some(gid)).map_err(failed)
}

/// Nobody else may enter. A directory that others use as well (`--run-dir /tmp`) is refused rather
/// than closed to them.
fn make_private(path: &Path) -> Result<(), StartError> {
    let failed = |source| StartError::RunDir {
        path: path.to_path_buf(),
        source,
    };
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.uid() != user() {
        let source = io::Error::new(ErrorKind::PermissionDenied, "it belongs to another user");
        return Err(failed(source));
    }
    if metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    let ours = path.join(LOCK).exists();
    let empty = fs::read_dir(path).map_err(failed)?.next().is_none();
    if !ours && !empty {
        let text = "others may enter it and it holds other files";
        return Err(failed(io::Error::new(ErrorKind::PermissionDenied, text)));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)
}

fn lock(dir: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::RunDir {
        path: dir.join(LOCK),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join(LOCK))
        .map_err(failed)?;
    if !try_lock(file.as_fd()).map_err(failed)? {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        let pid = pid.trim().to_owned();
        return Err(StartError::InUse {
            path: dir.to_path_buf(),
            pid,
        });
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_file_names() {
        assert_eq!(file_name_of("chat-2.b_c"), "chat-2.b_c");
        assert_eq!(file_name_of("../a b/ü"), ".._a_b__");
    }
}
