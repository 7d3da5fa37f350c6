//! What an app asks of the supervisor for its workers: how long things may take, and how soon a
//! worker is started again. Pure.

use crate::fleet::spec::{AppSpec, Launch, RestartPolicy};
use front::sys::process::Exit;
use std::time::Duration;

/// How long a worker with a channel may take to end by itself before SIGTERM: a quarter of
/// `kill_timeout`, and never more than this.
const MESSAGE_TIME_MAX: Duration = Duration::from_millis(500);

/// How long the event loop of a worker may be silent that reports itself, if the app does not say.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a request may wait at a worker that does not report itself, takes nobody else and says
/// nothing, if the app does not say: a program that does one thing at a time may work for long. By
/// then the client has got 504.
const DEAF_MAX: Duration = Duration::from_secs(120);

/// From when on a worker counts as hung. None: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HangRules {
    /// Its event loop has reported nothing, or it has been stopped, or waited where no signal
    /// reaches it, for so long.
    pub silent: Option<Duration>,
    /// Without reports: a request has waited for so long, and the worker takes no connection.
    pub deaf: Option<Duration>,
}

impl HangRules {
    fn of(app: &AppSpec) -> HangRules {
        match app.hang_timeout {
            None => HangRules {
                silent: Some(SILENCE_MAX),
                deaf: Some(app.answer_timeout.unwrap_or_default().max(DEAF_MAX)),
            },
            Some(Duration::ZERO) => HangRules::default(),
            given => HangRules {
                silent: given,
                deaf: given,
            },
        }
    }
}

/// An app's wishes.
#[derive(Clone, Debug)]
pub struct Rules {
    pub restart: RestartPolicy,
    pub wait_ready: bool,
    pub listen_timeout: Duration,
    pub kill_timeout: Duration,
    pub drain_rate: u32,
    pub drain_timeout: Duration,
    pub hang: HangRules,
    /// A worker that holds more is replaced. None: it may hold what it likes.
    pub memory_max: Option<u64>,
    /// Workers have Node's IPC channel: they can say things and be told things.
    pub channel: bool,
}

impl Rules {
    pub fn of(app: &AppSpec) -> Rules {
        let channel = match app.launch {
            Launch::Node { .. } | Launch::NodeShell { .. } => true,
            Launch::Program { .. } => false,
        };
        Rules {
            restart: app.restart.clone(),
            // Without a channel nobody could ever say it.
            wait_ready: app.wait_ready && channel,
            listen_timeout: app.listen_timeout,
            kill_timeout: app.kill_timeout,
            drain_rate: app.drain_rate,
            drain_timeout: app.drain_timeout,
            hang: HangRules::of(app),
            memory_max: app.memory_max,
            channel,
        }
    }

    /// Over how long the connections of a leaving worker are spread that has `open` of them: what
    /// `drain_rate` asks for, and in any case so that the last ones are told before `drain_timeout`.
    pub fn drain_spread(&self, open: u64) -> Duration {
        let millis = open
            .saturating_mul(1000)
            .checked_div(u64::from(self.drain_rate))
            .unwrap_or(0);
        Duration::from_millis(millis).min(self.drain_timeout / 10 * 8)
    }

    /// From the message of a stop to SIGTERM.
    pub fn message_time(&self) -> Duration {
        if self.channel {
            (self.kill_timeout / 4).min(MESSAGE_TIME_MAX)
        } else {
            Duration::ZERO
        }
    }

    /// From SIGTERM to SIGKILL: `kill_timeout` counts from the first word.
    pub fn terminate_time(&self) -> Duration {
        self.kill_timeout.saturating_sub(self.message_time())
    }

    /// Whether a worker with so many failed lives in a row is tried at the slow pace only.
    pub fn errored(&self, failures: u32) -> bool {
        failures >= self.restart.max_restarts.max(1)
    }

    /// Before the next start, after so many failed lives in a row. The first one costs nothing:
    /// most crashes are single ones, and requests wait.
    pub fn delay(&self, failures: u32) -> Duration {
        let policy = &self.restart;
        if self.errored(failures) {
            return policy.errored_delay;
        }
        if !policy.restart_delay.is_zero() {
            return policy.restart_delay;
        }
        match failures {
            0 | 1 => Duration::ZERO,
            more => 2u32
                .checked_pow(more - 2)
                .and_then(|factor| policy.delay_first.checked_mul(factor))
                .map_or(policy.delay_max, |delay| delay.min(policy.delay_max)),
        }
    }
}

impl RestartPolicy {
    /// Whether a worker that has ended like this, by itself, is not started again. None: it was
    /// never a process.
    pub fn stays_down(&self, exit: Option<Exit>) -> bool {
        match exit {
            Some(Exit::Code(code)) => !self.autorestart || self.stop_exit_codes.contains(&code),
            Some(Exit::Signal(_)) | None => !self.autorestart,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(restart: RestartPolicy) -> Rules {
        Rules {
            restart,
            wait_ready: false,
            listen_timeout: Duration::from_secs(3),
            kill_timeout: Duration::from_millis(1600),
            drain_rate: 10,
            drain_timeout: Duration::from_secs(20),
            hang: HangRules::default(),
            memory_max: None,
            channel: true,
        }
    }

    #[test]
    fn delays_grow_to_a_bound_and_end_at_the_slow_pace() {
        let rules = rules(RestartPolicy {
            max_restarts: 16,
            ..RestartPolicy::default()
        });
        let millis: Vec<u128> = (0..=17).map(|n| rules.delay(n).as_millis()).collect();
        let growing = [0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 12800];
        assert_eq!(millis[..10], growing);
        assert_eq!(millis[10..16], [15000; 6]);
        assert_eq!(millis[16..], [30000; 2]);
    }

    #[test]
    fn no_number_of_failures_overflows() {
        let restart = RestartPolicy {
            max_restarts: u32::MAX,
            ..RestartPolicy::default()
        };
        assert_eq!(rules(restart).delay(u32::MAX - 1), Duration::from_secs(15));
    }

    #[test]
    fn a_fixed_delay_stands_for_the_growing_one() {
        let restart_delay = Duration::from_secs(2);
        let rules = rules(RestartPolicy {
            restart_delay,
            ..RestartPolicy::default()
        });
        assert_eq!(rules.delay(0), restart_delay);
        assert_eq!(rules.delay(5), restart_delay);
        assert_eq!(rules.delay(6), rules.restart.errored_delay);
    }

    #[test]
    fn who_ends_by_itself_and_stays_down() {
        let by_code = RestartPolicy {
            stop_exit_codes: vec![0, 3],
            ..RestartPolicy::default()
        };
        let never_again = RestartPolicy {
            autorestart: false,
            ..RestartPolicy::default()
        };
        let table = [
            (Some(Exit::Code(0)), true, true),
            (Some(Exit::Code(1)), false, true),
            (Some(Exit::Signal(3)), false, true),
            (None, false, true),
        ];
        for (exit, one, other) in table {
            assert_eq!(by_code.stays_down(exit), one, "{exit:?}");
            assert_eq!(never_again.stays_down(exit), other, "{exit:?}");
        }
    }

    #[test]
    fn the_ladder_takes_the_kill_timeout_as_a_whole() {
        let mut rules = rules(RestartPolicy::default());
        assert_eq!(rules.message_time(), Duration::from_millis(400));
        assert_eq!(rules.terminate_time(), Duration::from_millis(1200));
        rules.channel = false;
        assert_eq!(rules.message_time(), Duration::ZERO);
        assert_eq!(rules.terminate_time(), Duration::from_millis(1600));
    }
}
