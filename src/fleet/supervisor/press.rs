//! Compressing what the journal has put aside: one gzip at a time, at low priority. It is done here
//! because only the supervisor starts and reaps processes; what is compressed, and when, the journal
//! decides.

use super::Supervisor;
use crate::journal::{Job, JobEnd};
use front::sys::process::{self, Exit, Pid, Signal};
use log::debug;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const PROGRAM: &str = "gzip";

/// The process that compresses, if there is one.
#[derive(Default)]
pub struct Press(Option<(Pid, Job)>);

impl Press {
    pub fn pid(&self) -> Option<Pid> {
        self.0.as_ref().map(|(pid, _)| *pid)
    }
}

impl Supervisor {
    pub(super) fn compress(&mut self, job: Job) {
        // The next run compresses what this one leaves.
        if self.stopping {
            return;
        }
        match start(&job) {
            Ok(pid) => {
                debug!("compressing {} (pid {pid})", job.path.display());
                self.press = Press(Some((pid, job)));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.journal.job_ended(job, JobEnd::NoProgram);
            }
            Err(e) => self.journal.job_ended(job, JobEnd::Failed(e.to_string())),
        }
    }

    /// It has ended and was reaped.
    pub(super) fn press_ended(&mut self, exit: Exit) {
        let Some((_, job)) = self.press.0.take() else {
            return;
        };
        let end = match exit {
            Exit::Code(0) => JobEnd::Done,
            // 2 is a warning, such as a name that was there already.
            Exit::Code(2) => JobEnd::Done,
            Exit::Code(_) | Exit::Signal(_) => JobEnd::Failed(format!("{PROGRAM}: {exit}")),
        };
        self.journal.job_ended(job, end);
    }

    /// Everything ends: gzip removes what it has half written, and leaves by itself.
    pub(super) fn end_press(&mut self) {
        if let Some((pid, _)) = self.press.0.take() {
            process::signal_group(pid, Signal::Terminate);
            self.strangers.insert(pid);
        }
    }
}

fn start(job: &Job) -> io::Result<Pid> {
    let child = Command::new(PROGRAM)
        // A half-written file of a run that was killed is in nobody's way.
        .arg("-f")
        .arg("--")
        .arg(&job.path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Its own group, out of reach of the terminal's Ctrl-C. Its complaints are our complaints.
        .process_group(0)
        .spawn()?;
    let pid = Pid::new(child.id()).ok_or(io::ErrorKind::Other)?;
    process::yield_to_others(pid);
    Ok(pid)
}
