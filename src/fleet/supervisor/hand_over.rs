//! Leaving everything to another binary. First the binary is tried out: it says that it can take over
//! what we would leave. Then the threads beside the supervisor stand still, all is written down, and
//! the supervisor itself, whose children the workers are, becomes the other binary. If that does not
//! come about, everything goes on.

use super::Supervisor;
use crate::fleet::FleetEvent;
use crate::fleet::carry::{Beside, Carried, Own, take_of, take_pipes};
use crate::fleet::channel::CarriedChannel;
use crate::fleet::ipc::{CarriedIpc, NewLife};
use crate::fleet::logs::{CarriedPipe, Printer, Speaker};
use crate::fleet::place::Place;
use front::channel::{Receiver, Sender, bounded, select};
use front::roster::Returning;
use front::sys::carried::keep_none;
use front::sys::identity;
use front::sys::process::{self, Exit, Pid, Signal};
use front::sys::socket::wait_ready;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A binary to be tried out.
#[derive(Debug)]
pub struct TryOut {
    pub program: PathBuf,
    pub words: Vec<OsString>,
    /// A variable that it is not to see.
    pub without: &'static str,
    /// What it has printed, or why it will not do.
    pub answer: Sender<Result<String, String>>,
}

/// A binary that is being tried out.
pub struct Trial {
    pid: Pid,
    stdout: OwnedFd,
    stderr: OwnedFd,
    answer: Sender<Result<String, String>>,
    deadline: Instant,
}

/// Does the rest of handing over, on the thread whose children the workers are. Returns only why it
/// has not come about.
pub type Leave = Box<dyn FnOnce(Carried) -> String + Send>;

/// An order to hand over.
pub struct HandOver {
    pub leave: Leave,
    /// Why it has not come about.
    pub answer: Sender<String>,
}

impl fmt::Debug for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandOver")
    }
}

/// What a binary may take to say that it can take over.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(10);
/// What the other threads may take to come to a stand.
const STAND_STILL: Duration = Duration::from_secs(2);
/// What is read of a trial's words.
const WORDS_BYTES_MAX: usize = 4096;

impl Supervisor {
    pub(super) fn begin_trial(&mut self, order: TryOut) {
        if self.trial.is_some() {
            let _ = order
                .answer
                .send(Err("another one is being tried out".to_owned()));
            return;
        }
        let answer = order.answer.clone();
        match begin(order) {
            Ok(trial) => self.trial = Some(trial),
            Err(e) => drop(answer.send(Err(format!("it cannot be started: {e}")))),
        }
    }

    pub(super) fn trial_pid(&self) -> Option<Pid> {
        self.trial.as_ref().map(|trial| trial.pid)
    }

    pub(super) fn trial_deadline(&self) -> Option<Instant> {
        self.trial.as_ref().map(|trial| trial.deadline)
    }

    /// Ends a trial whose time is up; its death says the rest.
    pub(super) fn look_at_trial(&mut self, now: Instant) {
        if let Some(trial) = &mut self.trial
            && now >= trial.deadline
        {
            process::signal_group(trial.pid, Signal::Kill);
            trial.deadline = now + TRIAL_TIME_MAX;
            let secs = TRIAL_TIME_MAX.as_secs();
            let late = format!("it has not said within {secs} s that it can take over");
            let _ = trial.answer.send(Err(late));
        }
    }

    /// It has ended and was reaped.
    pub(super) fn trial_ended(&mut self, exit: Exit) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        // What it has left behind in its group holds the pipes open.
        process::signal_group(trial.pid, Signal::Kill);
        let (said, complaint) = (words(trial.stdout), words(trial.stderr));
        let outcome = match exit {
            Exit::Code(0) => Ok(said),
            Exit::Code(_) | Exit::Signal(_) if complaint.is_empty() => Err(exit.to_string()),
            Exit::Code(_) | Exit::Signal(_) => Err(format!("{exit}: {complaint}")),
        };
        // Who has been told that it was late hears no more of it.
        let _ = trial.answer.try_send(outcome);
    }

    /// Hands over. Comes back if it has not come about.
    pub(super) fn hand_over(&mut self, order: HandOver) {
        let why = match self.stand_still() {
            Ok((still, carried)) => {
                let why = (order.leave)(carried);
                keep_none();
                drop(still);
                why
            }
            Err(why) => why,
        };
        let _ = order.answer.send(why);
    }

    /// Goes on with the workers of an earlier binary: what they say and print is heard from now on.
    pub fn go_on_with(
        &mut self,
        mut channels: Vec<CarriedChannel>,
        mut pipes: Vec<CarriedPipe>,
    ) -> io::Result<()> {
        for index in 0..self.places.len() {
            let Some(place) = self.places.get_mut(index) else {
                continue;
            };
            let key = place.key();
            if let Some(channel) = take_of(&mut channels, |channel| channel.key == key) {
                let stream = UnixStream::from(channel.stream.claim()?);
                let life = new_life(place, stream, self.board.returning());
                place.door = Some(self.ipc.add(life, Some(Box::new(channel.said))));
            }
            if pipes.iter().any(|pipe| pipe.key == key) {
                let [stdout, stderr] = take_pipes(&mut pipes, key)?;
                self.logs.add(printer(place, stdout.0, stderr.0));
                self.logs.go_on_with(key, false, stdout.1);
                self.logs.go_on_with(key, true, stderr.1);
            }
        }
        for app in self.apps.iter().filter(|app| app.was_ready) {
            self.send(FleetEvent::Ready {
                app: Arc::clone(&app.name),
                took: Duration::ZERO,
            });
        }
        self.publish();
        Ok(())
    }

    /// Has the threads beside this one stand still, and writes everything down. They go on when the
    /// first of the two is dropped.
    fn stand_still(&mut self) -> Result<(Sender<()>, Carried), String> {
        if self.stopping {
            return Err("everything is being stopped".to_owned());
        }
        if self.reloads() {
            return Err("a reload is under way; try again when it is done".to_owned());
        }
        if !self.replacing.is_idle() {
            return Err("a worker is being replaced; try again when it is done".to_owned());
        }
        let (still, until) = bounded(0);
        let CarriedIpc { channels, bus } = self.wait_for(|this| this.ipc.stand_still(&until))??;
        let pipes = self.wait_for(|this| this.logs.stand_still(&until))?;
        // What they had said before.
        let now = Instant::now();
        while let Ok(notice) = self.inbox.notices.try_recv() {
            self.hear(notice, now);
        }
        while let Ok(tail) = self.inbox.tails.try_recv() {
            self.report(tail);
        }
        if self.ipc.has_orders() || self.logs.has_orders() {
            return Err("a worker asked for something at that very moment; try again".to_owned());
        }
        self.end_press();
        let own = Own {
            lock: self.run_dir.lock(),
            guard: self.guard.carried(),
            began: self.began,
            next_slot: self.reloading.next_slot(),
            strangers: self.strangers.clone(),
        };
        let beside = Beside {
            channels,
            bus,
            pipes,
        };
        Ok((still, Carried::of(&self.apps, &self.places, own, beside)))
    }

    /// Waits for a thread that may be waiting for us to hear something.
    fn wait_for<T: Send + 'static>(
        &mut self,
        ask: impl FnOnce(&Self) -> Receiver<T>,
    ) -> Result<T, String> {
        let told = ask(self);
        let deadline = crossbeam_channel::after(STAND_STILL);
        let late = || "a thread did not come to a stand in time".to_owned();
        let notices = self.inbox.notices.clone();
        loop {
            select! {
                recv(told.parcels()) -> parcel => return told.opened(parcel).map_err(|_| late()),
                recv(notices.parcels()) -> notice => {
                    if let Ok(notice) = notices.opened(notice) { self.hear(notice, Instant::now()); }
                }
                recv(deadline) -> _ => return Err(late()),
            }
        }
    }
}

fn begin(order: TryOut) -> io::Result<Trial> {
    // It has to find that it may do what we may.
    identity::pass_capabilities_on(true);
    let child = Command::new(&order.program)
        .args(&order.words)
        .env_remove(order.without)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    identity::pass_capabilities_on(false);
    let mut child = child?;
    let taken = || io::ErrorKind::Other;
    Ok(Trial {
        pid: Pid::new(child.id()).ok_or_else(taken)?,
        stdout: child.stdout.take().ok_or_else(taken)?.into(),
        stderr: child.stderr.take().ok_or_else(taken)?.into(),
        answer: order.answer,
        deadline: Instant::now() + TRIAL_TIME_MAX,
    })
}

/// What lies in a pipe whose writer has ended, in one line.
fn words(pipe: OwnedFd) -> String {
    let mut buffer = [0; WORDS_BYTES_MAX];
    let count = match wait_ready(pipe.as_fd(), false, Duration::ZERO) {
        // One read does not wait: there is something, or the end.
        Ok(true) => File::from(pipe).read(&mut buffer).unwrap_or(0),
        Ok(false) | Err(_) => 0,
    };
    let text = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default());
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

/// What the ipc thread has to know of a place's life.
pub fn new_life(place: &Place, stream: UnixStream, returning: &Arc<Returning>) -> NewLife {
    NewLife {
        key: place.key(),
        app: place.app,
        instance: place.instance,
        name: Arc::clone(&place.name),
        stream,
        gauges: Arc::clone(&place.gauges),
        returning: Arc::clone(returning),
    }
}

/// What the logs thread has to know of it.
pub fn printer(place: &Place, stdout: OwnedFd, stderr: OwnedFd) -> Printer {
    Printer {
        key: place.key(),
        speaker: Speaker {
            app: Arc::clone(&place.app_name),
            worker: Arc::clone(&place.name),
            instance: place.instance,
        },
        spec: Arc::clone(&place.version.spec.logs),
        alone: place.version.spec.scale.max == 1,
        gauges: Arc::clone(&place.gauges),
        stdout,
        stderr,
    }
}
