//! Alarms: what somebody should know of, raised once and cleared once. Pure: what is seen goes in
//! (`rules` turns figures into findings), what has changed comes out; the monitor asks once a second,
//! and tells.
//!
//! ```text
//!            bad for raise_after            good for clear_after
//!   quiet ----------------------> raised ------------------------> quiet
//! ```
//! A finding that is neither good nor bad changes nothing: between two thresholds nobody is woken.

mod rules;

pub use rules::{Facts, Limits, WorkerFacts, findings};

use front::order;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

/// Alarms that are over and still told of.
const LATELY_MAX: usize = 64;

macro_rules! kinds {
    ($( $kind:ident = $word:literal, raise $raise:literal, clear $clear:literal, $what:literal; )*) => {
        /// What an alarm is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $( #[doc = $what] $kind, )* }

        impl Kind {
            /// In the order of the documents.
            pub const ALL: &[Kind] = &[$( Kind::$kind, )*];

            pub fn word(self) -> &'static str {
                match self { $( Kind::$kind => $word, )* }
            }

            /// What is wrong while it is raised.
            #[cfg(test)]
            pub fn what(self) -> &'static str {
                match self { $( Kind::$kind => $what, )* }
            }

            /// How long it must be bad before it is raised, and good before it is cleared.
            pub fn holds(self) -> (Duration, Duration) {
                let (raise_s, clear_s) = match self { $( Kind::$kind => ($raise, $clear), )* };
                (Duration::from_secs(raise_s), Duration::from_secs(clear_s))
            }
        }
    };
}

kinds! {
    Down = "down", raise 5, clear 5, "an app that had workers has none that is ready";
    CrashLoop = "crash-loop", raise 0, clear 60, "a worker dies again and again";
    Hang = "hang", raise 0, clear 300, "a worker hung, and was replaced";
    Memory = "memory", raise 0, clear 60, "a worker leaks faster than it may be replaced, or the machine is short of memory";
    Cpu = "cpu", raise 60, clear 60, "a worker uses all the processor time that it can";
    LoopLag = "loop-lag", raise 15, clear 30, "the event loop of a worker is blocked for half a second and more";
    Latency = "latency", raise 20, clear 30, "one answer in a hundred of an app takes too long";
    Errors = "errors", raise 10, clear 60, "too many answers of an app are errors of the server";
    QueueFull = "queue-full", raise 0, clear 60, "clients are turned away, because a limit is reached or no worker has room";
    Descriptors = "descriptors", raise 5, clear 30, "a process comes near its limit of open descriptors";
    Threads = "threads", raise 30, clear 30, "a worker has very many threads";
    DiskFull = "disk-full", raise 0, clear 30, "there is no room for log files, or in the run directory";
    BroadcastLoss = "broadcast-loss", raise 0, clear 60, "a worker loses messages of its siblings";
}

/// Whom an alarm is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// sidekeeper itself, or its machine.
    Instance,
    App(String),
    /// App and instance number.
    Worker(String, u32),
}

impl Subject {
    /// `chat.0`, `chat`, `sidekeeper`.
    pub fn name(&self) -> String {
        match self {
            Subject::Instance => "sidekeeper".to_owned(),
            Subject::App(app) => app.clone(),
            Subject::Worker(app, instance) => format!("{app}.{instance}"),
        }
    }

    pub fn app(&self) -> Option<&str> {
        match self {
            Subject::Instance => None,
            Subject::App(app) | Subject::Worker(app, _) => Some(app),
        }
    }
}

/// How something is at one moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Level {
    Good,
    /// Neither: what was said last holds.
    Between,
    Bad(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub kind: Kind,
    pub subject: Subject,
    pub level: Level,
}

/// One alarm, raised or over.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    pub kind: Kind,
    pub subject: Subject,
    /// What was found when it was raised.
    pub text: String,
    pub since: SystemTime,
    /// None: it is still raised.
    pub cleared: Option<SystemTime>,
}

#[derive(Debug, Default)]
struct Track {
    bad_since: Option<Instant>,
    good_since: Option<Instant>,
    raised: Option<Alarm>,
}

/// All alarms.
#[derive(Debug, Default)]
pub struct Alarms {
    tracks: HashMap<(Kind, Subject), Track>,
    lately: VecDeque<Alarm>,
}

impl Alarms {
    /// Takes what was found at one moment, and returns what has changed. What nobody speaks of any
    /// more is good.
    pub fn judge(&mut self, findings: Vec<Finding>, now: Instant, wall: SystemTime) -> Vec<Alarm> {
        let mut changes = Vec::new();
        for (key, track) in &mut self.tracks {
            let spoken_of = |found: &Finding| found.kind == key.0 && found.subject == key.1;
            if !findings.iter().any(spoken_of) {
                changes.extend(track.note_good(key.0, now, wall));
            }
        }
        for Finding {
            kind,
            subject,
            level,
        } in findings
        {
            let key = (kind, subject);
            match level {
                Level::Bad(text) => {
                    let track = self.tracks.entry(key.clone()).or_default();
                    changes.extend(track.note_bad(key, text, now, wall));
                }
                Level::Good => {
                    if let Some(track) = self.tracks.get_mut(&key) {
                        changes.extend(track.note_good(kind, now, wall));
                    }
                }
                Level::Between => {
                    if let Some(track) = self.tracks.get_mut(&key) {
                        track.good_since = None;
                    }
                }
            }
        }
        self.tracks
            .retain(|_, track| track.raised.is_some() || track.bad_since.is_some());
        for over in changes.iter().filter(|alarm| alarm.cleared.is_some()) {
            if self.lately.len() == LATELY_MAX {
                self.lately.pop_front();
            }
            self.lately.push_back(over.clone());
        }
        changes
    }

    /// Time in which nobody has looked counts for nothing.
    pub fn begin_anew(&mut self) {
        for track in self.tracks.values_mut() {
            track.bad_since = None;
            track.good_since = None;
        }
    }

    /// Those that are raised, the oldest first, then those that were, the newest first.
    pub fn all(&self) -> Vec<Alarm> {
        let raised = self
            .tracks
            .values()
            .filter_map(|track| track.raised.clone());
        let mut all: Vec<Alarm> = raised.collect();
        order::sort_by(&mut all, |a, b| {
            (a.since, &a.subject, a.kind).cmp(&(b.since, &b.subject, b.kind))
        });
        all.extend(self.lately.iter().rev().cloned());
        all
    }
}

impl Track {
    fn note_bad(
        &mut self,
        (kind, subject): (Kind, Subject),
        text: String,
        now: Instant,
        wall: SystemTime,
    ) -> Option<Alarm> {
        self.good_since = None;
        let since = *self.bad_since.get_or_insert(now);
        let (raise_after, _) = kind.holds();
        if self.raised.is_some() || now.saturating_duration_since(since) < raise_after {
            return None;
        }
        let alarm = Alarm {
            kind,
            subject,
            text,
            since: wall,
            cleared: None,
        };
        self.raised = Some(alarm.clone());
        Some(alarm)
    }

    fn note_good(&mut self, kind: Kind, now: Instant, wall: SystemTime) -> Option<Alarm> {
        self.bad_since = None;
        let since = *self.good_since.get_or_insert(now);
        let (_, clear_after) = kind.holds();
        if now.saturating_duration_since(since) < clear_after {
            return None;
        }
        let alarm = self.raised.take()?;
        Some(Alarm {
            cleared: Some(wall),
            ..alarm
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(level: Level) -> Vec<Finding> {
        vec![Finding {
            kind: Kind::LoopLag,
            subject: Subject::Worker("chat".to_owned(), 1),
            level,
        }]
    }

    fn bad() -> Vec<Finding> {
        found(Level::Bad("slow".to_owned()))
    }

    /// Judges once a second; returns at which seconds it was raised (true) or cleared (false).
    fn changes(levels: impl IntoIterator<Item = Vec<Finding>>) -> Vec<(usize, bool)> {
        let (begin, wall) = (Instant::now(), SystemTime::now());
        let mut alarms = Alarms::default();
        let mut seen = Vec::new();
        for (second, findings) in levels.into_iter().enumerate() {
            let passed = Duration::from_secs(second as u64);
            for change in alarms.judge(findings, begin + passed, wall + passed) {
                seen.push((second, change.cleared.is_none()));
            }
        }
        seen
    }

    #[test]
    fn raised_once_and_cleared_once() {
        let levels = (0..200).map(|second| match second {
            10..100 => bad(),
            _ => found(Level::Good),
        });
        assert_eq!(changes(levels), [(25, true), (130, false)]);
    }

    #[test]
    fn what_comes_and_goes_is_not_raised_and_not_cleared() {
        let flickers = |second: usize| match second % 2 {
            0 => bad(),
            _ => found(Level::Good),
        };
        assert_eq!(changes((0..300).map(flickers)), []);
        let settles = (0..300).map(|second| match second {
            ..20 => bad(),
            _ => flickers(second),
        });
        assert_eq!(changes(settles), [(15, true)]);
    }

    #[test]
    fn between_two_thresholds_nothing_changes() {
        let levels = (0..300).map(|second| match second {
            ..20 => bad(),
            20..200 => found(Level::Between),
            _ => found(Level::Good),
        });
        assert_eq!(changes(levels), [(15, true), (230, false)]);
    }

    #[test]
    fn whoever_is_gone_is_well() {
        let levels = (0..100).map(|second| match second {
            ..20 => bad(),
            _ => Vec::new(),
        });
        assert_eq!(changes(levels), [(15, true), (50, false)]);
    }

    #[test]
    fn the_past_is_kept_within_bounds() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut alarms = Alarms::default();
        for round in 0..100 {
            let at = Duration::from_secs(1000 * round);
            let hang = Finding {
                kind: Kind::Hang,
                subject: Subject::App(round.to_string()),
                level: Level::Bad("hung".to_owned()),
            };
            assert_eq!(alarms.judge(vec![hang], now + at, wall + at).len(), 1);
            assert_eq!(alarms.judge(Vec::new(), now + at, wall + at).len(), 0);
            let later = at + Duration::from_secs(300);
            assert_eq!(alarms.judge(Vec::new(), now + later, wall + later).len(), 1);
        }
        let all = alarms.all();
        assert_eq!(all.len(), LATELY_MAX);
        assert_eq!(all[0].subject.name(), "99", "the newest stands first");
    }

    #[test]
    fn every_alarm_is_described() {
        let text = include_str!("../../docs/alarms.md");
        for kind in Kind::ALL {
            let (word, what) = (kind.word(), kind.what());
            let heading = format!("## {word}\n");
            assert!(text.contains(&heading), "docs/alarms.md has no `{word}`");
            assert!(!what.is_empty() && !what.ends_with('.'));
        }
    }
}
