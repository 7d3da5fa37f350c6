//! The machine that we run on, and what the caller's environment brings along. Looked at once for each
//! reading of the configuration; everything else in this room takes it as a value.

use super::ConfigError;
use super::accounts::Accounts;
use super::serving;
use front::server::ListenAddr;
use front::sys::identity;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What can be known before anything is read.
#[derive(Clone, Debug)]
pub struct Machine {
    pub cores: u32,
    /// Descriptors that we may have open, after the soft limit has been raised.
    pub descriptors_max: u64,
    /// Working directory.
    pub dir: PathBuf,
    /// PATH.
    pub path: OsString,
    pub runtime_dir: Option<PathBuf>,
    pub user: u32,
    pub group: u32,
    /// Whether we may start processes of other users.
    pub changes_users: bool,
    pub accounts: Accounts,
    /// HOME.
    pub home: Option<PathBuf>,
    /// Sockets that listen already and were passed to us.
    pub passed: Vec<ListenAddr>,
}

impl Machine {
    /// Looks at this machine.
    pub fn look(descriptors_max: u64) -> Result<Machine, ConfigError> {
        let dir = std::env::current_dir().map_err(|error| {
            ConfigError::Setup(format!(
                "the working directory is gone ({error}); change to another"
            ))
        })?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Machine {
            cores: u32::try_from(cores).unwrap_or(1),
            descriptors_max,
            dir,
            path: std::env::var_os("PATH")
                .unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin")),
            runtime_dir: std::env::var_os("XDG_RUNTIME_DIR")
                .map(PathBuf::from)
                .filter(|dir| dir.is_absolute()),
            // Our own process belongs to our effective user; this spares a system call of our own.
            home: std::env::var_os("HOME").map(PathBuf::from),
            user: std::fs::metadata("/proc/self").map_or(u32::MAX, |meta| meta.uid()),
            group: std::fs::metadata("/proc/self").map_or(u32::MAX, |meta| meta.gid()),
            changes_users: effective_capabilities().is_some_and(identity::can_change_users),
            accounts: Accounts::read(),
            passed: serving::passed(|name| std::env::var(name).ok(), std::process::id()),
        })
    }

    /// A sentence in which paths are written as seen from the working directory.
    pub fn told(&self, sentence: &str) -> String {
        match self.dir.to_str() {
            Some(dir) if dir != "/" => sentence.replace(&format!("{dir}/"), ""),
            Some(_) | None => sentence.to_owned(),
        }
    }

    /// Where an instance keeps its sockets: where it was told to, or the usual place.
    pub fn run_dir(&self, told: Option<PathBuf>) -> PathBuf {
        self.dir.join(told.unwrap_or_else(|| self.usual_run_dir()))
    }

    fn usual_run_dir(&self) -> PathBuf {
        let of_root = PathBuf::from("/run/sidekeeper");
        // Root gives it to whom it becomes; they find it again.
        let given = std::fs::metadata(&of_root).is_ok_and(|meta| meta.uid() == self.user);
        match &self.runtime_dir {
            _ if given || self.user == 0 && Path::new("/run").is_dir() => of_root,
            Some(dir) if dir.is_dir() => dir.join("sidekeeper"),
            Some(_) | None => std::env::temp_dir().join(format!("sidekeeper-{}", self.user)),
        }
    }
}

fn effective_capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}
