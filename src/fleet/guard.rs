//! The guard: a tiny process that outlives us by a moment, so that `kill -9` of sidekeeper leaves
//! no worker behind, nor what workers have started. The death signal alone reaches only the
//! processes that we started ourselves.
//!
//! It holds the reading end of a pipe as its stdin and a list of groups, told to it as lines `+PID`
//! and `-PID`. The kernel closes our end however we die; at end of file it kills what is listed.
//! The supervisor thread owns the other end.

use front::sys::carried::Baton;
use front::sys::memory;
use front::sys::process::{self, Pid, Signal};
use front::sys::socket::wait_ready;
use log::{error, warn};
use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// The word that makes the binary a guard.
pub const GUARD_WORD: &str = "__guard";

/// Our end.
pub struct Guard {
    executable: PathBuf,
    groups: BTreeSet<Pid>,
    process: Option<(Pid, ChildStdin)>,
    launched: Instant,
}

/// A guard that ends sooner than this will not live longer next time: no other one is started
/// before the next worker is.
const LIFE_MIN: Duration = Duration::from_secs(1);

impl Guard {
    pub fn start(executable: &Path) -> io::Result<Guard> {
        let mut guard = Guard {
            executable: executable.to_path_buf(),
            groups: BTreeSet::new(),
            process: None,
            launched: Instant::now(),
        };
        guard.launch()?;
        Ok(guard)
    }

    /// For the binary that takes over.
    pub fn carried(&self) -> Option<(Pid, Baton)> {
        let (pid, pipe) = self.process.as_ref()?;
        Some((*pid, Baton::of(pipe.as_fd())))
    }

    /// Goes on with the guard of an earlier binary, which knows these groups.
    pub fn take_over(
        executable: &Path,
        process: Option<(Pid, Baton)>,
        groups: BTreeSet<Pid>,
    ) -> io::Result<Guard> {
        let process = process.map(|(pid, pipe)| Ok::<_, io::Error>((pid, pipe.claim()?.into())));
        Ok(Guard {
            executable: executable.to_path_buf(),
            groups,
            process: process.transpose()?,
            launched: Instant::now(),
        })
    }

    fn launch(&mut self) -> io::Result<()> {
        self.launched = Instant::now();
        let mut child = Command::new(&self.executable)
            .arg0("sidekeeper")
            .arg(GUARD_WORD)
            .current_dir("/")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Its own group, out of reach of the terminal's Ctrl-C.
            .process_group(0)
            .spawn()?;
        let pid = Pid::new(child.id()).ok_or(io::ErrorKind::Other)?;
        let mut pipe = child.stdin.take().ok_or(io::ErrorKind::Other)?;
        for group in &self.groups {
            tell(&mut pipe, '+', *group)?;
        }
        self.process = Some((pid, pipe));
        Ok(())
    }

    pub fn pid(&self) -> Option<Pid> {
        self.process.as_ref().map(|(pid, _)| *pid)
    }

    pub fn add(&mut self, group: Pid) {
        self.groups.insert(group);
        if self.process.is_none() {
            return self.relaunch();
        }
        self.write('+', group);
    }

    pub fn remove(&mut self, group: Pid) {
        self.groups.remove(&group);
        self.write('-', group);
    }

    fn write(&mut self, sign: char, group: Pid) {
        if let Some((pid, pipe)) = &mut self.process
            && tell(pipe, sign, group).is_err()
        {
            // Its death is reaped like every child's, and `died` starts the next one.
            process::kill_child(*pid);
        }
    }

    /// The guard has been reaped: somebody has killed it.
    pub fn died(&mut self) {
        self.process = None;
        if self.launched.elapsed() < LIFE_MIN {
            error!(
                "the guard process ends at once; a kill -9 of sidekeeper may leave processes behind"
            );
            return;
        }
        warn!("the guard process was killed; starting another");
        self.relaunch();
    }

    fn relaunch(&mut self) {
        if let Err(e) = self.launch() {
            error!("no guard process: {e}; a kill -9 of sidekeeper may leave processes behind");
        }
    }

    /// Lets it go; it ends by itself.
    pub fn dismiss(mut self) -> Option<Pid> {
        for group in std::mem::take(&mut self.groups) {
            self.write('-', group);
        }
        self.process.map(|(pid, _)| pid)
    }
}

/// Never waits: a guard that does not read (it is stopped) is as good as none.
fn tell(pipe: &mut ChildStdin, sign: char, group: Pid) -> io::Result<()> {
    if !wait_ready(pipe.as_fd(), true, Duration::ZERO)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    writeln!(pipe, "{sign}{group}")
}

/// What the binary does as `sidekeeper __guard`.
pub fn guard_main() -> ! {
    process::ignore_requests_to_end();
    process::set_name(c"sidekeeper-grd");
    memory::give_code_back();
    let mut groups = BTreeSet::new();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let Some((sign, number)) = line.split_at_checked(1) else {
            continue;
        };
        let Some(group) = number.parse().ok().and_then(Pid::new) else {
            continue;
        };
        match sign {
            "+" => groups.insert(group),
            "-" => groups.remove(&group),
            _ => false,
        };
    }
    let killed = groups
        .iter()
        .filter(|group| process::signal_group(**group, Signal::Kill))
        .count();
    if killed > 0 {
        // Nobody may be left to read it.
        let _ = writeln!(
            io::stderr(),
            "sidekeeper is gone: its guard has killed {killed} workers"
        );
    }
    std::process::exit(0)
}
