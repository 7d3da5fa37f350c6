//! `/metrics`: what is counted, in Prometheus' text format (version 0.0.4). The table says of each
//! metric what it is, in which unit, and what to do about it; README's table is made from it. If we
//! cannot say what to do about a figure, we do not publish it.

use crate::admin::{Shared, alarms, names, sessions};
use crate::fleet::status::{AppScale, Condition, WorkerStatus};
use front::gauges::answers::{CLASSES, Counts};
use front::roster::{App, Roster};
use front::route::Home;
use front::sys::procfs::{self, TICKS_PER_SECOND};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

/// One metric as it is documented.
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// What it is, with its unit.
    pub what: &'static str,
    /// What to do when it is not as it should be.
    pub action: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Powers of two in microseconds that bound the published buckets: 128 us to 134 s.
const OCTAVES: std::ops::RangeInclusive<u32> = 7..=27;

macro_rules! metrics {
    ($( $id:ident = $name:literal $kind:ident $what:literal, $action:literal; )*) => {
        /// Every metric, in the order of the text.
        #[cfg(test)]
        pub const METRICS: &[Metric] = &[$( $id, )*];
        $( const $id: Metric = Metric { name: $name, kind: Kind::$kind, what: $what, action: $action }; )*
    };
}

metrics! {
    INFO = "sidekeeper_info" Gauge "always 1; the version is a label", "compare instances after an upgrade";
    STARTED = "process_start_time_seconds" Gauge "when this process began, in seconds since 1970", "a change means that sidekeeper itself was started again: find out why";
    CPU = "process_cpu_seconds_total" Counter "CPU time of the proxy itself, without workers, in seconds", "near one core for each pool thread: give it more cores or another machine";
    MEMORY = "process_resident_memory_bytes" Gauge "resident memory of the proxy itself, in bytes", "steady growth without more connections is a bug: report it";
    DESCRIPTORS = "process_open_fds" Gauge "descriptors that are open", "near the maximum: raise the limit, or lower --connections-max";
    DESCRIPTORS_MAX = "process_max_fds" Gauge "descriptors that may be open", "raise it with LimitNOFILE= or ulimit -n";
    CONNECTIONS = "sidekeeper_connections" Gauge "client connections open now", "near --connections-max: raise that, or add machines";
    ACCEPTED = "sidekeeper_connections_accepted_total" Counter "client connections ever accepted", "many for each request: clients do not keep connections alive";
    REFUSED = "sidekeeper_connections_refused_total" Counter "client connections that were turned away at a limit", "any: raise --connections-max, or find the client that opens so many";
    TUNNELS = "sidekeeper_tunnels" Gauge "WebSockets that the proxy relays now", "Node apps hand off theirs: many here mean that hand_off is off, or fails";
    REQUESTS = "sidekeeper_requests_total" Counter "requests whose head was read and accepted", "its rate is the traffic: plan by it";
    ALARMS = "sidekeeper_alarms" Gauge "alarms that are raised now, by kind", "any: docs/alarms.md says of each what to do";
    OWN = "sidekeeper_own_answers_total" Counter "answers that the proxy gave itself, by status", "502, 503 and 504: see the log for the worker; 4xx: see which client sends such requests";
    LINES_DROPPED = "sidekeeper_log_lines_dropped_total" Counter "lines of log files that found no room", "any: a full or slow disk, or a worker that floods; see sidekeeper_worker_log_lines_dropped_total";
    FILES_FAILING = "sidekeeper_log_files_failing" Gauge "log files that cannot be written now", "any: see our own log for the reason; the service goes on";
    DISK_FULL = "sidekeeper_log_disk_full" Gauge "1 if there is no room on the disk of a log file", "make room; what waits is written then, within seconds";
    WORKERS = "sidekeeper_app_workers" Gauge "workers that an app has", "compare with the configuration";
    WORKERS_MIN = "sidekeeper_app_workers_min" Gauge "workers that scaling leaves an app at least", "the same as the maximum: the number is fixed";
    WORKERS_MAX = "sidekeeper_app_workers_max" Gauge "workers that scaling gives an app at most", "workers at this number for long: raise max, or see what keeps them busy";
    HELD = "sidekeeper_app_scaling_held" Gauge "1 if an app is to have more workers and a bound is in the way", "see sidekeeper status for which bound: --workers-max or memory";
    READY = "sidekeeper_app_workers_ready" Gauge "workers of an app that are ready", "0 is an outage of the app, unless its minimum is 0; fewer than workers for minutes: see sidekeeper status";
    ANSWERS = "sidekeeper_app_answers_total" Counter "answers of an app's workers, by class of status", "a growing share of 5xx: see the app's log";
    SECONDS = "sidekeeper_app_answer_seconds" Histogram "from a request's head to the head of its answer, in seconds; without long polls", "slow with a low loop lag: the app waits for something else; with a high one: more workers";
    UP = "sidekeeper_worker_ready" Gauge "1 if the worker is ready", "0 for long: see sidekeeper status for its last death";
    RESTARTS = "sidekeeper_worker_restarts_total" Counter "lives after the first", "its rate above 0: see sidekeeper logs for what it says before it dies";
    WORKER_CPU = "sidekeeper_worker_cpu_seconds_total" Counter "CPU time of the worker's process and those below it, in seconds; begins anew with each life", "one core all the time: more workers, or a profile of the app";
    WORKER_MEMORY = "sidekeeper_worker_memory_bytes" Gauge "resident memory of the worker's process and those below it, in bytes", "steady growth is a leak: take heap snapshots, restart the worker meanwhile";
    THREADS = "sidekeeper_worker_threads" Gauge "threads of the worker's process and those below it", "steady growth is a leak: see who starts them";
    WORKER_DESCRIPTORS = "sidekeeper_worker_open_fds" Gauge "descriptors that the largest of the worker's processes has open", "near the maximum: find out what it does not close, or raise the limit";
    WORKER_DESCRIPTORS_MAX = "sidekeeper_worker_max_fds" Gauge "descriptors that it may have open", "raise it with LimitNOFILE= or ulimit -n";
    WORKER_P50 = "sidekeeper_worker_answer_p50_seconds" Gauge "half of the worker's answers of the last ten seconds began within this time, in seconds; without long polls", "compare workers: one that is slower than its siblings has a heavy session, or a bad core";
    WORKER_P99 = "sidekeeper_worker_answer_p99_seconds" Gauge "99 of 100 of them began within this time, in seconds", "see sidekeeper_worker_answer_p50_seconds";
    LAG = "sidekeeper_worker_loop_lag_seconds" Gauge "worst delay of a Node worker's event loop in the last second, in seconds", "above 0.1: something synchronous blocks everybody; profile it";
    BUSY = "sidekeeper_worker_loop_busy_ratio" Gauge "share of time that a Node worker's event loop was busy, 0 to 1", "above 0.8: more workers";
    HEAP = "sidekeeper_worker_heap_bytes" Gauge "heap in use of a Node worker, in bytes", "near --max-old-space-size: raise that, or find the leak";
    IN_FLIGHT = "sidekeeper_worker_in_flight" Gauge "requests that the worker has not answered yet; long polls count", "growing without end: the worker hangs, or is too slow";
    WORKER_TUNNELS = "sidekeeper_worker_tunnels" Gauge "WebSockets that are relayed to the worker", "see sidekeeper_tunnels";
    HANDED_OFF = "sidekeeper_worker_handed_off" Gauge "client connections that the worker has taken over and not closed", "very uneven over workers after a restart: drain the fullest";
    BYTES_IN = "sidekeeper_worker_handed_off_bytes_in_total" Counter "bytes that came through connections that the worker has taken over; begins anew with each life", "much more than before: see which clients send it";
    BYTES_OUT = "sidekeeper_worker_handed_off_bytes_out_total" Counter "bytes that went through them; begins anew with each life", "near what the network carries: send less, or add machines";
    SESSIONS = "sidekeeper_worker_sessions" Gauge "sessions that the worker owns", "very uneven over workers: see the app's policy";
    FINISHED = "sidekeeper_worker_answers_total" Counter "answers of the worker that were passed on whole", "uneven rates over workers: sessions or the app's policy";
    BROKEN = "sidekeeper_worker_broken_total" Counter "answers that the worker broke or did not begin in time", "any: the worker crashes or hangs during requests; see its log";
    RELAYED = "sidekeeper_worker_messages_total" Counter "messages of its siblings that were passed on to the worker", "its rate is the cost of broadcasts: fewer, or fewer workers";
    LOST = "sidekeeper_worker_messages_lost_total" Counter "messages of its siblings that the worker did not read in time", "any: its event loop stands still; see the loop's lag";
    WORKER_LINES = "sidekeeper_worker_log_lines_dropped_total" Counter "lines that the worker printed and that found no room on their way", "any: it prints faster than the disk, or the reader of our output, takes it";
}

/// The whole text.
pub fn text(shared: &Shared) -> String {
    let mut page = Page::default();
    front(&mut page, shared);
    // During a reload a name may be two workers', and a series must be one's: the one that serves.
    let mut roster = Roster::clone(&shared.instance.board.latest());
    roster.apps.retain(|app| app.routes.is_some());
    let mut statuses = shared.instance.fleet.snapshot();
    statuses.retain(|status| status.member);
    let scales = shared.instance.fleet.scales();
    apps(&mut page, &roster, &statuses, &scales);
    workers(&mut page, shared, &roster, &statuses);
    page.text
}

fn front(page: &mut Page, shared: &Shared) {
    let instance = &shared.instance;
    let front = &instance.front;
    page.one(&INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let began = now.saturating_sub(instance.began.elapsed());
    // The two clocks drift; a whole second does not.
    page.one(&STARTED, &[], began.as_secs_f64().round());
    if let Some(usage) = procfs::own_usage() {
        page.one(&CPU, &[], usage.cpu_ticks as f64 / TICKS_PER_SECOND as f64);
        page.one(&MEMORY, &[], usage.resident_bytes as f64);
    }
    if let Some((open, max)) = procfs::own_descriptors() {
        page.one(&DESCRIPTORS, &[], open as f64);
        page.one(&DESCRIPTORS_MAX, &[], max as f64);
    }
    page.one(
        &CONNECTIONS,
        &[],
        f64::from(front.connections.load(Relaxed)),
    );
    page.one(&ACCEPTED, &[], front.accepted.load(Relaxed) as f64);
    page.one(&REFUSED, &[], front.refused.load(Relaxed) as f64);
    page.one(&TUNNELS, &[], f64::from(front.tunnels.load(Relaxed)));
    page.one(&REQUESTS, &[], front.requests.load(Relaxed) as f64);
    let health = instance.journal.health();
    page.one(&LINES_DROPPED, &[], health.dropped.load(Relaxed) as f64);
    page.one(&FILES_FAILING, &[], f64::from(health.failing.load(Relaxed)));
    let full = health.disk_full.load(Relaxed) > 0;
    page.one(&DISK_FULL, &[], f64::from(u8::from(full)));
    page.family(&ALARMS);
    for (kind, count) in alarms::counts(&instance.fleet) {
        page.sample("", &[("alarm", kind)], count as f64);
    }
    page.family(&OWN);
    for (status, count) in front.own.counts() {
        page.sample("", &[("status", &status.to_string())], count as f64);
    }
}

fn apps(page: &mut Page, roster: &Roster, statuses: &[WorkerStatus], scales: &[AppScale]) {
    let of_app = |app: &App| {
        statuses
            .iter()
            .filter(|status| status.app == app.name)
            .collect::<Vec<_>>()
    };
    page.family(&WORKERS);
    for app in &roster.apps {
        page.sample("", &[("app", &app.name)], of_app(app).len() as f64);
    }
    let scale = |app: &App| scales.iter().find(|scale| scale.app == app.name);
    type Figure = fn(&AppScale) -> f64;
    let figures: [(&Metric, Figure); 3] = [
        (&WORKERS_MIN, |scale| f64::from(scale.min)),
        (&WORKERS_MAX, |scale| f64::from(scale.max)),
        (&HELD, |scale| f64::from(u8::from(scale.held.is_some()))),
    ];
    for (metric, figure) in figures {
        page.family(metric);
        for app in &roster.apps {
            if let Some(scale) = scale(app) {
                page.sample("", &[("app", &app.name)], figure(scale));
            }
        }
    }
    page.family(&READY);
    for app in &roster.apps {
        let ready = |status: &&&WorkerStatus| status.condition == Condition::Ready;
        let count = of_app(app).iter().filter(ready).count();
        page.sample("", &[("app", &app.name)], count as f64);
    }
    let counts: Vec<(&str, Counts)> = roster
        .apps
        .iter()
        .map(|app| (&*app.name, app.gauges.answers.counts()))
        .collect();
    const CLASS_NAMES: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    page.family(&ANSWERS);
    for (app, counts) in &counts {
        for (class, count) in CLASS_NAMES.iter().zip(counts.classes) {
            page.sample("", &[("app", app), ("class", class)], count as f64);
        }
    }
    page.family(&SECONDS);
    for (app, counts) in &counts {
        for octave in OCTAVES {
            let bound = (1_u64 << octave) as f64 / 1e6;
            let labels = [("app", *app), ("le", &bound.to_string())];
            page.sample("_bucket", &labels, counts.below(octave) as f64);
        }
        let total = counts.timed() as f64;
        page.sample("_bucket", &[("app", app), ("le", "+Inf")], total);
        page.sample("_sum", &[("app", app)], counts.sum_us as f64 / 1e6);
        page.sample("_count", &[("app", app)], total);
    }
}

fn workers(page: &mut Page, shared: &Shared, roster: &Roster, statuses: &[WorkerStatus]) {
    let figures = shared.instance.fleet.figures();
    let sessions = sessions::counts(shared);
    let gauge = |status: &WorkerStatus| {
        roster
            .find(status.slot)
            .map(|(_, worker)| worker.gauges.clone())
    };
    let sample = |status: &WorkerStatus| figures.workers.get(&status.slot).copied();
    // One family after the other, as the format wants it; None: nothing to tell of this worker.
    type Value<'a> = &'a dyn Fn(&WorkerStatus) -> Option<f64>;
    let table: [(&Metric, Value<'_>); 23] = [
        (&UP, &|status| {
            Some(f64::from(u8::from(status.condition == Condition::Ready)))
        }),
        (&RESTARTS, &|status| Some(f64::from(status.restarts))),
        (&WORKER_CPU, &|status| {
            let sample = sample(status).filter(|sample| sample.pid.is_some())?;
            Some(sample.cpu_ticks as f64 / TICKS_PER_SECOND as f64)
        }),
        (&WORKER_MEMORY, &|status| {
            Some(sample(status)?.resident_bytes as f64)
        }),
        (&THREADS, &|status| {
            let sample = sample(status).filter(|sample| sample.pid.is_some())?;
            Some(sample.threads as f64)
        }),
        (&WORKER_DESCRIPTORS, &|status| {
            Some(sample(status)?.descriptors? as f64)
        }),
        (&WORKER_DESCRIPTORS_MAX, &|status| {
            Some(sample(status)?.descriptors_max? as f64)
        }),
        (&WORKER_P50, &|status| {
            Some(sample(status)?.p50_ms? / 1000.0)
        }),
        (&WORKER_P99, &|status| {
            Some(sample(status)?.p99_ms? / 1000.0)
        }),
        (&LAG, &|status| Some(status.stats?.lag_ms / 1000.0)),
        (&BUSY, &|status| Some(status.stats?.utilization)),
        (&HEAP, &|status| Some(status.stats?.heap as f64)),
        (&IN_FLIGHT, &|status| {
            Some(f64::from(gauge(status)?.in_flight.load(Relaxed)))
        }),
        (&WORKER_TUNNELS, &|status| {
            Some(f64::from(gauge(status)?.tunnels.load(Relaxed)))
        }),
        (&HANDED_OFF, &|status| {
            Some(f64::from(gauge(status)?.handed_off.load(Relaxed)))
        }),
        (&BYTES_IN, &|status| Some(status.stats?.bytes_in as f64)),
        (&BYTES_OUT, &|status| Some(status.stats?.bytes_out as f64)),
        (&SESSIONS, &|status| {
            let home = Home {
                slot: status.slot,
                life: status.life,
            };
            Some(sessions.get(&home).copied().unwrap_or(0) as f64)
        }),
        (&FINISHED, &|status| {
            Some(gauge(status)?.finished.load(Relaxed) as f64)
        }),
        (&BROKEN, &|status| {
            Some(gauge(status)?.broken.load(Relaxed) as f64)
        }),
        (&RELAYED, &|status| {
            Some(gauge(status)?.relayed.load(Relaxed) as f64)
        }),
        (&LOST, &|status| {
            Some(gauge(status)?.lost.load(Relaxed) as f64)
        }),
        (&WORKER_LINES, &|status| {
            Some(gauge(status)?.lines_dropped.load(Relaxed) as f64)
        }),
    ];
    for (metric, value) in table {
        page.family(metric);
        for status in statuses {
            if let Some(value) = value(status) {
                let labels = [("app", &*status.app), ("worker", &names::worker(status))];
                page.sample("", &labels, value);
            }
        }
    }
}

#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    /// Begins a family. Writing to a String cannot fail.
    fn family(&mut self, metric: &Metric) {
        let Metric {
            name,
            kind,
            what,
            action,
        } = metric;
        let _ = writeln!(
            self.text,
            "# HELP {name} {}",
            escaped(&format!("{what}. {action}."), false)
        );
        let _ = writeln!(self.text, "# TYPE {name} {}", kind.word());
        self.name = name;
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{}\"", escaped(value, true));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    /// A family of one sample.
    fn one(&mut self, metric: &Metric, labels: &[(&str, &str)], value: f64) {
        self.family(metric);
        self.sample("", labels, value);
    }
}

/// App names may hold anything.
fn escaped(text: &str, quotes: bool) -> String {
    let mut escaped = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes {
        escaped = escaped.replace('"', "\\\"");
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_named_and_explained_as_prometheus_wants_it() {
        for metric in METRICS {
            let counter = metric.kind == Kind::Counter;
            assert_eq!(metric.name.ends_with("_total"), counter, "{}", metric.name);
            assert!(
                metric
                    .name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            );
            for text in [metric.what, metric.action] {
                assert!(
                    !text.is_empty() && !text.ends_with('.') && !text.contains('|'),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.one(&INFO, &[("version", "a\"b\\c\nd"), ("x", "")], 0.5);
        assert!(
            page.text
                .ends_with("sidekeeper_info{version=\"a\\\"b\\\\c\\nd\",x=\"\"} 0.5\n")
        );
    }
}
