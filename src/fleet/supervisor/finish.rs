//! The end of the supervisor: nothing that a worker started is left behind.

use super::Supervisor;
use crate::fleet::FleetEvent;
use front::sys::process;
use front::sys::procfs;
use log::info;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

/// How long the last processes may take to be gone after SIGKILL, and the guard after its pipe.
const SWEEP: Duration = Duration::from_secs(1);
/// A pause between looks during the sweep, when there is nothing else to do.
const SWEEP_LOOK: Duration = Duration::from_millis(5);

impl Supervisor {
    /// All workers are gone. What they have left behind in groups of its own, if anything, has
    /// become our child; then the guard may go.
    pub(super) fn finish(mut self) {
        let guard = self.guard.pid();
        self.end_press();
        let deadline = Instant::now() + SWEEP;
        let mut told = BTreeSet::new();
        loop {
            self.reap(Instant::now());
            let mut left = procfs::children();
            left.retain(|pid| Some(*pid) != guard && !self.strangers.contains(pid));
            if left.is_empty() || Instant::now() >= deadline {
                break;
            }
            for pid in left {
                if told.insert(pid) {
                    info!("killing process {pid}, left behind by a worker");
                }
                process::kill_child(pid);
            }
            thread::sleep(SWEEP_LOOK);
        }
        self.ipc.end();
        self.logs.end();
        if let Some(pid) = self.guard.dismiss() {
            while process::reap(pid).is_none() && Instant::now() < deadline {
                thread::sleep(SWEEP_LOOK);
            }
        }
        self.run_dir.remove_sockets();
        self.run_dir.remove_hook();
        let _ = self.events.send(FleetEvent::Stopped);
    }
}
