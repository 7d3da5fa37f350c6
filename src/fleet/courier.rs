//! Runs the command that is told of alarms (`--alarm-command`): one at a time, in the order of the
//! alarms, with a time limit, in a process group of its own. Used by the supervisor, which alone
//! starts, kills and reaps; nothing here waits.

use crate::fleet::alarms::Alarm;
use front::sys::process::{self, Exit, Pid, Signal};
use log::{debug, warn};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A command that takes longer is killed.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Alarms that wait for their turn; the oldest ones go.
const QUEUE_MAX: usize = 32;
/// How often SIGKILL is repeated.
const KILL_REPEAT: Duration = Duration::from_secs(5);

/// Variables that speak of us to whoever started us, and would mislead the command.
const NOT_INHERITED: [&str; 4] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
];

/// The command that runs.
struct Running {
    pid: Pid,
    until: Instant,
    what: String,
}

pub struct Courier {
    /// None: nobody is told.
    line: Option<String>,
    run_dir: PathBuf,
    queue: VecDeque<Alarm>,
    running: Option<Running>,
    left_out: u64,
}

impl Courier {
    pub fn new(line: Option<String>, run_dir: PathBuf) -> Courier {
        Courier {
            line,
            run_dir,
            queue: VecDeque::new(),
            running: None,
            left_out: 0,
        }
    }

    /// Takes an alarm that is to be told.
    pub fn push(&mut self, alarm: Alarm) {
        if self.line.is_none() {
            return;
        }
        if self.queue.len() == QUEUE_MAX {
            self.queue.pop_front();
            self.left_out += 1;
            if self.left_out.is_power_of_two() {
                warn!(
                    "the alarm command is too slow: {} alarms were not told",
                    self.left_out
                );
            }
        }
        self.queue.push_back(alarm);
    }

    pub fn forget_all(&mut self) {
        self.queue.clear();
    }

    pub fn pid(&self) -> Option<Pid> {
        self.running.as_ref().map(|running| running.pid)
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.running.as_ref().map(|running| running.until)
    }

    /// Kills what takes too long; begins the next one. Returns the group of a new process.
    pub fn go_on(&mut self, now: Instant) -> Option<Pid> {
        if let Some(running) = &mut self.running {
            if now >= running.until {
                warn!(
                    "the alarm command for {} has not ended within {} s: killed",
                    running.what,
                    TIME_MAX.as_secs()
                );
                process::signal_group(running.pid, Signal::Kill);
                running.until = now + KILL_REPEAT;
            }
            return None;
        }
        let line = self.line.as_deref()?;
        let alarm = self.queue.pop_front()?;
        let what = format!("{} of {}", alarm.kind.word(), alarm.subject.name());
        match start(line, &self.run_dir, &alarm) {
            Ok(pid) => {
                debug!("the alarm command is told of {what} (pid {pid})");
                let until = now + TIME_MAX;
                self.running = Some(Running { pid, until, what });
                Some(pid)
            }
            Err(error) => {
                warn!("the alarm command cannot be started for {what}: {error}");
                None
            }
        }
    }

    /// It has ended; what it has left running in its group ends too.
    pub fn ended(&mut self, exit: Exit) {
        let Some(running) = self.running.take() else {
            return;
        };
        if exit != Exit::Code(0) {
            warn!("the alarm command failed for {}: {exit}", running.what);
        }
    }
}

fn start(line: &str, run_dir: &std::path::Path, alarm: &Alarm) -> io::Result<Pid> {
    // What it prints goes where our log goes.
    let log = io::stderr().as_fd().try_clone_to_owned()?;
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(line)
        .envs(variables(alarm))
        .env("SIDEKEEPER_RUN_DIR", run_dir)
        .env("SIDEKEEPER_PID", std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log))
        .process_group(0);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    let child = command.spawn()?;
    Pid::new(child.id()).ok_or_else(|| io::ErrorKind::Other.into())
}

/// What the command is told; documented in docs/alarms.md.
fn variables(alarm: &Alarm) -> [(&'static str, String); 8] {
    let unix_s = |at: SystemTime| {
        at.duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs())
    };
    let lasted = alarm.cleared.map_or(0, |cleared| {
        cleared
            .duration_since(alarm.since)
            .map_or(0, |time| time.as_secs())
    });
    let state = match alarm.cleared {
        None => "raised",
        Some(_) => "cleared",
    };
    let worker = match &alarm.subject {
        crate::fleet::alarms::Subject::Worker(..) => alarm.subject.name(),
        crate::fleet::alarms::Subject::App(_) | crate::fleet::alarms::Subject::Instance => {
            String::new()
        }
    };
    [
        ("SIDEKEEPER_ALARM_STATE", state.to_owned()),
        ("SIDEKEEPER_ALARM_KIND", alarm.kind.word().to_owned()),
        ("SIDEKEEPER_ALARM_SUBJECT", alarm.subject.name()),
        (
            "SIDEKEEPER_ALARM_APP",
            alarm.subject.app().unwrap_or_default().to_owned(),
        ),
        ("SIDEKEEPER_ALARM_WORKER", worker),
        // A NUL would keep the command from being started.
        ("SIDEKEEPER_ALARM_TEXT", alarm.text.replace('\0', "")),
        ("SIDEKEEPER_ALARM_SINCE", unix_s(alarm.since).to_string()),
        ("SIDEKEEPER_ALARM_SECONDS", lasted.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::alarms::{Kind, Subject};

    #[test]
    fn every_variable_is_documented() {
        let alarm = Alarm {
            kind: Kind::Hang,
            subject: Subject::Worker("chat".to_owned(), 1),
            text: "it \0hung".to_owned(),
            since: UNIX_EPOCH + Duration::from_secs(7),
            cleared: Some(UNIX_EPOCH + Duration::from_secs(10)),
        };
        let said = variables(&alarm);
        let values: Vec<&str> = said.iter().map(|(_, value)| value.as_str()).collect();
        let wanted = [
            "cleared", "hang", "chat.1", "chat", "chat.1", "it hung", "7", "3",
        ];
        assert_eq!(values, wanted);
        let text = include_str!("../../docs/alarms.md");
        for name in said
            .map(|(name, _)| name)
            .into_iter()
            .chain(["SIDEKEEPER_RUN_DIR", "SIDEKEEPER_PID"])
        {
            assert!(text.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn the_oldest_alarms_give_way() {
        let alarm = |number: u32| Alarm {
            kind: Kind::Hang,
            subject: Subject::App(number.to_string()),
            text: String::new(),
            since: UNIX_EPOCH,
            cleared: None,
        };
        let mut courier = Courier::new(Some("true".to_owned()), PathBuf::new());
        let mut none = Courier::new(None, PathBuf::new());
        for number in 0..40 {
            courier.push(alarm(number));
            none.push(alarm(number));
        }
        assert_eq!((courier.queue.len(), courier.left_out), (QUEUE_MAX, 8));
        assert!(none.queue.is_empty());
    }
}
