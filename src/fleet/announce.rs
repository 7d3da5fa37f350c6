//! What the log says of workers: one line for each thing that an operator wants to know, with what
//! to look at. Called by the supervisor thread.

use crate::fleet::place::Place;
use crate::fleet::spec::Launch;
use crate::fleet::status::Open;
use crate::fleet::worker::{Next, Rung};
use front::sys::process::{Exit, Pid};
use log::{debug, error, info, warn};
use std::time::Duration;

/// How many workers took each rung of a stop.
#[derive(Debug, Default)]
pub struct Steps([usize; 3]);

impl Steps {
    pub fn count(&mut self, rung: Rung) {
        let [message, terminate, kill] = &mut self.0;
        match rung {
            Rung::Message => *message += 1,
            Rung::Terminate => *terminate += 1,
            Rung::Kill => *kill += 1,
        }
    }

    /// One line for all of them, and counts anew.
    pub fn tell(&mut self) {
        let words = ["message", "SIGTERM", "SIGKILL"];
        for (count, word) in std::mem::take(self).0.into_iter().zip(words) {
            match count {
                0 => {}
                1 => info!("stopping 1 worker: {word}"),
                many => info!("stopping {many} workers: {word}"),
            }
        }
    }
}

pub fn ready(place: &Place, took: Duration) {
    let pid = place.worker.pid().map_or(0, Pid::number);
    info!(
        "{} (pid {pid}) is ready after {:.2} s",
        place.name,
        took.as_secs_f64()
    );
}

pub fn drains(place: &Place, spread: Duration) {
    let open = Open::of(&place.gauges);
    info!(
        "{} leaves: {} WebSockets and {} requests, spread over {} s",
        place.name,
        open.relayed + open.handed_off,
        open.requests,
        seconds(spread)
    );
}

/// `4`, or `1-4`.
pub fn range(min: u32, max: u32) -> String {
    match min == max {
        true => max.to_string(),
        false => format!("{min}-{max}"),
    }
}

/// It is not needed any more.
pub fn spared(place: &Place) {
    let open = Open::of(&place.gauges);
    info!(
        "{} (pid {}) is not needed and gets nothing new: {} WebSockets and {} requests may end",
        place.name,
        place.worker.pid().map_or(0, Pid::number),
        open.relayed + open.handed_off,
        open.requests
    );
}

/// It has been replaced.
pub fn farewell(place: &Place) {
    let open = Open::of(&place.gauges);
    info!(
        "{} (pid {}) is replaced and gets nothing new: {} WebSockets and {} requests may end, within {} s",
        place.name,
        place.worker.pid().map_or(0, Pid::number),
        open.relayed + open.handed_off,
        open.requests,
        seconds(place.version.rules.drain_timeout)
    );
}

/// Tells of a death, and returns its reason in full for those who ask later.
pub fn death(place: &Place, pid: Option<Pid>, exit: Option<Exit>, next: Next) -> String {
    let name = &place.name;
    let how = match (pid, exit, &place.sentence) {
        (Some(pid), Some(exit), _) => format!("{name} (pid {pid}) ended: {exit}"),
        (_, _, Some(why)) => format!("{name}: {why}"),
        (_, _, None) => format!("{name} ended"),
    };
    let failures = place.worker.failures;
    match next {
        Next::Restart { delay } if delay.is_zero() => warn!("{how}; starting it again at once"),
        Next::Restart { delay } => warn!(
            "{how}; starting it again in {} s ({failures} failed in a row)",
            seconds(delay)
        ),
        Next::Errored { delay, first: true } => error!(
            "{how}; {failures} failed in a row: errored, tried again every {} s",
            seconds(delay)
        ),
        Next::Errored {
            delay,
            first: false,
        } => {
            warn!("{how}; still errored, tried again in {} s", seconds(delay));
        }
        Next::StaysDown => info!("{how}; it stays stopped (stop_exit_codes, autorestart)"),
        Next::WasAsked => debug!("{how}"),
    }
    match (exit, &place.sentence) {
        (Some(exit), Some(why)) => format!("{exit}: {why}"),
        (Some(exit), None) => exit.to_string(),
        (None, why) => why.clone().unwrap_or_default(),
    }
}

/// The last lines of stderr of a worker that has become errored.
pub fn last_words(place: &Place, lines: &[String]) {
    if lines.is_empty() {
        error!("{} wrote nothing to stderr", place.name);
    }
    for line in lines {
        error!("{} ! {line}", place.name);
    }
}

/// Why a worker that runs does not serve: what its operator should look at.
pub fn never_ready(place: &Place, listens: bool) -> String {
    let why = match &place.version.spec.launch {
        Launch::Node { .. } | Launch::NodeShell { .. } if listens => {
            "it listens, but never called process.send('ready') (wait_ready)".to_owned()
        }
        Launch::Node { .. } | Launch::NodeShell { .. } if place.channel_lost => {
            "a wrapper around it has closed the descriptors that it was given (3 the listener, \
             4 the channel); start the Node program itself"
                .to_owned()
        }
        Launch::Node { .. } => "it never called listen() on an http server".to_owned(),
        Launch::NodeShell { .. } => {
            "it never called listen() on an http server, or its command does not pass \
             NODE_OPTIONS and descriptors 3 and 4 on to Node"
                .to_owned()
        }
        Launch::Program { .. } if place.listener.is_some() => {
            "it never accepted on descriptor 3 (LISTEN_FDS); a program that binds a path itself \
             needs {socket} in its command"
                .to_owned()
        }
        Launch::Program { .. } => format!("it never listened on {}", place.socket.display()),
    };
    format!(
        "not ready within {} s: {why}",
        seconds(place.version.rules.listen_timeout)
    )
}

/// `0.1`, `3`, `30`.
pub fn seconds(duration: Duration) -> String {
    let tenths = (duration.as_secs_f64() * 10.0).round() / 10.0;
    tenths.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_short() {
        let millis = [
            (100, "0.1"),
            (3000, "3"),
            (12_800, "12.8"),
            (30_000, "30"),
            (7, "0"),
        ];
        for (millis, text) in millis {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }
}
