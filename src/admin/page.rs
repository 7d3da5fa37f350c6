//! The dashboard's page and what it is fed with. The page is inside the binary and loads nothing from
//! elsewhere; the figures come as server-sent events once a second, the last hour as one JSON value.

use crate::admin::alarms::{self, AlarmLine};
use crate::admin::status::{self, DeathLine};
use crate::admin::{Shared, names, steer};
use crate::fleet::monitor::{AppRows, WorkerRows};
use front::as_json;
use front::json::{self, ToJson};
use front::order;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One file of the page.
pub struct Asset {
    pub path: &'static str,
    pub kind: &'static str,
    pub text: &'static str,
}

pub const ASSETS: [Asset; 4] = [
    Asset {
        path: "/",
        kind: "text/html; charset=utf-8",
        text: include_str!("dashboard/index.html"),
    },
    Asset {
        path: "/dashboard.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("dashboard/dashboard.css"),
    },
    Asset {
        path: "/dashboard.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("dashboard/dashboard.js"),
    },
    Asset {
        path: "/icon.svg",
        kind: "image/svg+xml",
        text: include_str!("dashboard/icon.svg"),
    },
];

/// The status as JSON, taken at most once in this time, however many pages are open.
const FRESH: Duration = Duration::from_millis(800);

#[derive(Default)]
pub struct Latest(Mutex<Option<(Instant, Arc<str>)>>);

impl Latest {
    pub fn status(&self, shared: &Shared) -> Arc<str> {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, text)) = &*latest
            && at.elapsed() < FRESH
        {
            return Arc::clone(text);
        }
        let text: Arc<str> = json::text(&status::take(shared)).into();
        *latest = Some((Instant::now(), Arc::clone(&text)));
        text
    }
}

struct Past {
    apps: BTreeMap<String, AppRows>,
    workers: BTreeMap<String, WorkerRows>,
    /// Newest first.
    deaths: Vec<Gone>,
    /// The commands that the page may offer.
    steering: Vec<&'static str>,
    /// Raised ones first.
    alarms: Vec<AlarmLine>,
}

as_json!(to struct Past { apps, workers, deaths, steering, alarms });

struct Gone {
    worker: String,
    death: DeathLine,
}

/// The death's own fields, and whose it was.
impl ToJson for Gone {
    fn to_json(&self, to: &mut json::Writer) {
        to.open('{');
        let death = &self.death;
        to.field("worker", &self.worker);
        to.field("ago_s", &death.ago_s);
        to.field("at_unix_s", &death.at_unix_s);
        to.field("life", &death.life);
        to.field("pid", &death.pid);
        to.field("reason", &death.reason);
        to.field("autopsy", &death.autopsy);
        to.close('}');
    }
}

/// The last hour.
pub fn past(shared: &Shared) -> String {
    let statuses = shared.instance.fleet.snapshot();
    let mut history = shared.instance.fleet.history();
    let workers = statuses.iter().filter_map(|status| {
        let rows = history.workers.remove(&status.slot)?;
        Some((names::worker(status), rows))
    });
    let workers = workers.collect();
    let mut deaths: Vec<Gone> = statuses
        .iter()
        .flat_map(|status| status.deaths.iter().map(move |death| (status, death)))
        .map(|(status, death)| Gone {
            worker: names::worker(status),
            death: DeathLine::of(death),
        })
        .collect();
    order::sort_by_key(&mut deaths, |gone| std::cmp::Reverse(gone.death.at_unix_s));
    let past = Past {
        apps: history.apps,
        workers,
        deaths,
        steering: steer::offered(shared),
        alarms: alarms::lines(&shared.instance.fleet),
    };
    json::text(&past)
}
