//! `sidekeeper alarms`: what is wrong now, and what was lately. What raises an alarm is decided by the
//! fleet's monitor.

use crate::admin::Shared;
use crate::admin::ask::{Answer, Ask, Refusal, Reply};
use crate::admin::humane::{self, age_s, unix_s};
use crate::fleet::Fleet;
use crate::fleet::alarms::{Alarm, Kind, Subject};
use front::as_json;

/// One alarm. Names of fields stay; new ones may come.
#[derive(Clone, Debug)]
pub struct AlarmLine {
    /// `hang`; docs/alarms.md has them all.
    pub alarm: String,
    /// `chat.0`, `chat`, or `sidekeeper` for the instance as a whole.
    pub subject: String,
    /// Null for the instance as a whole.
    pub app: Option<String>,
    /// Null if it is about more than one worker.
    pub worker: Option<String>,
    pub raised: bool,
    /// What was found when it was raised.
    pub what: String,
    pub since_unix_s: u64,
    /// Null while it is raised.
    pub cleared_unix_s: Option<u64>,
    /// How long it has lasted.
    pub for_s: u64,
    /// All of it for people.
    pub text: String,
}

as_json!(struct AlarmLine {
    alarm, subject, app, worker, raised, what, since_unix_s, cleared_unix_s, for_s, text
});

struct Nothing {
    text: &'static str,
}

as_json!(to struct Nothing { text });

impl AlarmLine {
    pub fn of(alarm: &Alarm) -> AlarmLine {
        let subject = alarm.subject.name();
        let kind = alarm.kind.word();
        let for_s = match alarm.cleared {
            Some(cleared) => cleared
                .duration_since(alarm.since)
                .map_or(0, |time| time.as_secs()),
            None => age_s(alarm.since),
        };
        let when = match alarm.cleared {
            None => format!("for {}", humane::time(for_s)),
            Some(cleared) => format!(
                "over since {}, lasted {}",
                humane::time(age_s(cleared)),
                humane::time(for_s)
            ),
        };
        AlarmLine {
            alarm: kind.to_owned(),
            app: alarm.subject.app().map(str::to_owned),
            worker: match &alarm.subject {
                Subject::Worker(..) => Some(subject.clone()),
                Subject::App(_) | Subject::Instance => None,
            },
            raised: alarm.cleared.is_none(),
            what: alarm.text.clone(),
            since_unix_s: unix_s(alarm.since),
            cleared_unix_s: alarm.cleared.map(unix_s),
            for_s,
            text: format!("{kind} of {subject}, {when}: {}", alarm.text),
            subject,
        }
    }
}

/// Raised ones first.
pub fn lines(fleet: &Fleet) -> Vec<AlarmLine> {
    fleet.alarms().iter().map(AlarmLine::of).collect()
}

/// How many are raised of each kind.
pub fn counts(fleet: &Fleet) -> Vec<(&'static str, usize)> {
    let alarms = fleet.alarms();
    let count = |kind: Kind| {
        let raised = alarms.iter().filter(|alarm| alarm.cleared.is_none());
        raised.filter(|alarm| alarm.kind == kind).count()
    };
    let all = Kind::ALL.iter();
    all.map(|kind| (kind.word(), count(*kind))).collect()
}

pub fn act(shared: &Shared, _: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let lines = lines(&shared.instance.fleet);
    if !lines.iter().any(|line| line.raised) {
        reply.line(&Nothing {
            text: "no alarm is raised",
        })?;
    }
    for line in &lines {
        reply.line(line)?;
    }
    Ok(Answer::Done)
}
