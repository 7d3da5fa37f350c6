//! Whether a worker hangs: a judgement over what is seen of it, look by look. Pure.
//!
//! Three signs, each of which must last for its whole time. A worker that reports its event loop is
//! silent: it loops, blocks, or is not run at all. Any worker is stopped, or waits where no signal
//! reaches it. One without reports lets a request wait without a byte; it is then asked whether it
//! takes connections, for a program that works on something long is not a program that hangs.

use crate::fleet::rules::HangRules;
use front::sys::procfs::Doing;
use std::fmt;
use std::time::{Duration, Instant};

/// How often the hook reports and the monitor looks, and a little more.
const REPORT_EVERY: Duration = Duration::from_millis(1500);

/// What one look shows.
#[derive(Clone, Copy, Debug)]
pub struct Signs {
    /// The hook reports, and its channel is open.
    pub reports: bool,
    pub doing: Doing,
    /// Requests that it has not answered in full.
    pub open: u32,
    /// Something that changes when bytes of an answer have come, or an answer has ended.
    pub progress: (u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Well,
    /// Nothing comes of it, for so long. It is to be asked whether it takes connections.
    Doubtful(Duration),
    Hung(Cause),
}

/// By what it was noticed, and how long that has lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Silent(Duration),
    Stopped(Duration),
    Uninterruptible(Duration),
    Deaf(Duration),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Silent(time) => {
                write!(f, "its event loop has been silent for {} s", time.as_secs())
            }
            Cause::Stopped(time) => write!(f, "stopped by a signal for {} s", time.as_secs()),
            Cause::Uninterruptible(time) => {
                write!(f, "in an uninterruptible wait for {} s", time.as_secs())
            }
            Cause::Deaf(time) => write!(
                f,
                "requests have got no byte for {} s and it takes no connection",
                time.as_secs()
            ),
        }
    }
}

/// What is remembered between two looks, in one life.
#[derive(Clone, Copy, Debug)]
pub struct Vigil {
    /// When it reported last.
    heard: Instant,
    /// When it was last seen neither stopped nor in an uninterruptible wait.
    moving: Instant,
    /// When it last had nothing to answer, or had got on with it.
    answering: Instant,
    progress: (u64, u64),
}

impl Vigil {
    /// Nothing of what was before counts.
    pub fn begin(now: Instant) -> Vigil {
        Vigil {
            heard: now,
            moving: now,
            answering: now,
            progress: (0, 0),
        }
    }

    /// It has reported.
    pub fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// How long its requests have waited without a byte; None: it has none.
    pub fn waiting(&self, open: u32, now: Instant) -> Option<Duration> {
        (open > 0).then(|| now.saturating_duration_since(self.answering))
    }

    /// How long it has not reported.
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// For how long requests have come that cannot be why it hangs: it had been silent before.
    pub fn blameless(&self, cause: Cause, now: Instant) -> Duration {
        let since = match cause {
            // Between its last report and the one that did not come.
            Cause::Silent(_) => self.heard + REPORT_EVERY,
            // Between two looks.
            Cause::Deaf(_) => self.answering + REPORT_EVERY,
            Cause::Uninterruptible(_) => self.moving + REPORT_EVERY,
            // By a signal: no request can be why.
            Cause::Stopped(_) => return Duration::MAX,
        };
        now.saturating_duration_since(since)
    }

    /// It takes connections, so it does something.
    pub fn excuse(&mut self, now: Instant) {
        self.answering = now;
    }

    pub fn look(&mut self, signs: Signs, now: Instant, rules: HangRules) -> Verdict {
        let still = match signs.doing {
            // Somebody works on it with a debugger.
            Doing::Traced => {
                *self = Vigil::begin(now);
                return Verdict::Well;
            }
            Doing::Stopped => Some(Cause::Stopped as fn(Duration) -> Cause),
            Doing::Uninterruptible => Some(Cause::Uninterruptible as fn(Duration) -> Cause),
            Doing::Runs | Doing::Sleeps | Doing::Ended => None,
        };
        if still.is_none() {
            self.moving = now;
        }
        if signs.open == 0 || signs.progress != self.progress {
            self.answering = now;
            self.progress = signs.progress;
        }
        let lasts = |since: Instant, limit: Option<Duration>| {
            let time = now.saturating_duration_since(since);
            limit.is_some_and(|limit| time >= limit).then_some(time)
        };
        if let (Some(cause), Some(time)) = (still, lasts(self.moving, rules.silent)) {
            return Verdict::Hung(cause(time));
        }
        if signs.reports {
            return match lasts(self.heard, rules.silent) {
                Some(time) => Verdict::Hung(Cause::Silent(time)),
                None => Verdict::Well,
            };
        }
        match lasts(self.answering, rules.deaf) {
            Some(time) => Verdict::Doubtful(time),
            None => Verdict::Well,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: Duration = Duration::from_secs(30);
    const DEAF: Duration = Duration::from_secs(120);
    const RULES: HangRules = HangRules {
        silent: Some(SILENT),
        deaf: Some(DEAF),
    };
    const NODE: Signs = Signs {
        reports: true,
        doing: Doing::Sleeps,
        open: 1,
        progress: (0, 0),
    };
    const PLAIN: Signs = Signs {
        reports: false,
        ..NODE
    };

    /// Looks once a second, and returns the first verdict that is not good, and when.
    fn watch(
        seconds: u64,
        rules: HangRules,
        mut signs: impl FnMut(u64, &mut Vigil, Instant) -> Signs,
    ) -> Option<(u64, Verdict)> {
        let begin = Instant::now();
        let mut vigil = Vigil::begin(begin);
        (1..=seconds).find_map(|second| {
            let now = begin + Duration::from_secs(second);
            let signs = signs(second, &mut vigil, now);
            let verdict = vigil.look(signs, now, rules);
            (verdict != Verdict::Well).then_some((second, verdict))
        })
    }

    #[test]
    fn a_silent_loop_hangs_whatever_the_process_does() {
        let hung = Some((30, Verdict::Hung(Cause::Silent(SILENT))));
        for doing in [Doing::Runs, Doing::Sleeps] {
            assert_eq!(watch(60, RULES, |_, _, _| Signs { doing, ..NODE }), hung);
        }
        // Silence from the tenth second on.
        let speaks = |second, vigil: &mut Vigil, now| {
            if second <= 10 {
                vigil.hear(now);
            }
            NODE
        };
        assert_eq!(watch(60, RULES, speaks).map(|(second, _)| second), Some(40));
    }

    #[test]
    fn who_reports_is_well_however_long_a_request_waits() {
        let speaks = |_, vigil: &mut Vigil, now| {
            vigil.hear(now);
            NODE
        };
        assert_eq!(watch(1000, RULES, speaks), None);
    }

    #[test]
    fn stopped_and_uninterruptible_workers_hang_with_and_without_reports() {
        for signs in [NODE, PLAIN] {
            let stopped = watch(60, RULES, |_, _, _| Signs {
                doing: Doing::Stopped,
                ..signs
            });
            assert_eq!(stopped, Some((30, Verdict::Hung(Cause::Stopped(SILENT)))));
        }
        let waits = |second, _: &mut Vigil, _| Signs {
            // One moment outside is a sign of life.
            doing: match second % 20 {
                0 => Doing::Sleeps,
                _ => Doing::Uninterruptible,
            },
            open: 0,
            ..PLAIN
        };
        assert_eq!(watch(200, RULES, waits), None);
    }

    #[test]
    fn without_reports_a_request_must_wait_without_any_byte() {
        assert_eq!(
            watch(200, RULES, |_, _, _| PLAIN),
            Some((120, Verdict::Doubtful(DEAF)))
        );
        // A download to somebody slow.
        let streams = |second, _: &mut Vigil, _| Signs {
            progress: (0, second / 60),
            ..PLAIN
        };
        assert_eq!(watch(1000, RULES, streams), None);
        assert_eq!(
            watch(1000, RULES, |_, _, _| Signs { open: 0, ..PLAIN }),
            None
        );
    }

    #[test]
    fn a_debugger_excuses_and_zero_is_never() {
        let traced = |_, _: &mut Vigil, _| Signs {
            doing: Doing::Traced,
            ..NODE
        };
        assert_eq!(watch(200, RULES, traced), None);
        let stopped = |_, _: &mut Vigil, _| Signs {
            doing: Doing::Stopped,
            ..NODE
        };
        assert_eq!(watch(200, HangRules::default(), stopped), None);
    }

    #[test]
    fn after_standing_still_a_whole_period_has_to_pass() {
        let wakes = |second, vigil: &mut Vigil, now| {
            if second == 29 {
                *vigil = Vigil::begin(now);
            }
            NODE
        };
        assert_eq!(watch(100, RULES, wakes).map(|(second, _)| second), Some(59));
    }
}
