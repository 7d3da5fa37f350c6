//! What the fleet is asked to run. Plain values: `config` fills them in, the supervisor reads them.

use crate::fleet::cron::Cron;
use crate::journal::date::DateFormat;
use front::as_json;
use front::roster::{Policy, Routes};
use front::sys::identity::Identity;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How a worker's program is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launch {
    /// A Node program: gets the hook and an IPC channel. `argv` begins with the interpreter.
    Node { argv: Vec<String> },
    /// A shell line that is expected to end in Node (`npm start` resolved to its script): gets
    /// the hook and an IPC channel too, run as `sh -c LINE`.
    NodeShell { line: String },
    /// Any other program. `{socket}` and `{port}` in its words are replaced; if `{socket}`
    /// stands anywhere, the program binds the path itself and nothing is pre-bound.
    Program { argv: Vec<String> },
}

as_json!(enum Launch { Node { argv }, NodeShell { line }, Program { argv } });

/// When and how fast a worker is started again (pm2's words).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// A life that ends before this counts as a failed start. pm2 `min_uptime`.
    pub min_uptime: Duration,
    /// Failed starts in a row after which the worker is `errored` and tried at the slow pace.
    /// pm2 `max_restarts`; never a death sentence here.
    pub max_restarts: u32,
    /// Fixed delay before every restart. pm2 `restart_delay`. Zero: the growing delay decides.
    pub restart_delay: Duration,
    /// First delay of the growing series; doubles up to `delay_max`. pm2 `exp_backoff_restart_delay`.
    pub delay_first: Duration,
    pub delay_max: Duration,
    /// Pace of an errored worker.
    pub errored_delay: Duration,
    /// Exit codes after which the worker is left stopped. pm2 `stop_exit_codes`.
    pub stop_exit_codes: Vec<i32>,
    /// False: a worker that has ended by itself is left stopped. pm2 `autorestart`.
    pub autorestart: bool,
}

as_json!(struct RestartPolicy {
    min_uptime, max_restarts, restart_delay, delay_first, delay_max, errored_delay, stop_exit_codes,
    autorestart
});

impl Default for RestartPolicy {
    fn default() -> Self {
        RestartPolicy {
            min_uptime: Duration::from_secs(1),
            max_restarts: 6,
            restart_delay: Duration::ZERO,
            delay_first: Duration::from_millis(100),
            delay_max: Duration::from_secs(15),
            errored_delay: Duration::from_secs(30),
            stop_exit_codes: Vec::new(),
            autorestart: true,
        }
    }
}

/// What a worker's process may do and use. Arranged by the process itself, before it becomes the
/// program; None: as ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    pub user: Option<Identity>,
    pub umask: Option<u32>,
    pub nice: Option<i32>,
    /// By the names of `sys::limits`; None: unlimited.
    pub limits: Vec<(String, Option<u64>)>,
}

as_json!(struct Confinement { user, umask, nice, limits });

/// What a worker finds in its environment besides the app's own variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Name of the variable with the instance's number. pm2 `instance_var`.
    pub instance_var: String,
    /// Name of a variable whose number grows with each instance. pm2 `increment_var`.
    pub increment_var: Option<String>,
    /// Node maps positions in stack traces to the sources. pm2 `source_map_support`.
    pub source_maps: bool,
    pub inherited: Inherited,
}

as_json!(struct Surroundings { instance_var, increment_var, source_maps, inherited });

/// Which of our own variables a worker inherits. pm2 `filter_env`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inherited {
    All,
    None,
    /// All but those whose name holds one of these.
    Without(Vec<String>),
}

as_json!(
    enum Inherited {
        All,
        None,
        Without(a),
    }
);

impl Default for Surroundings {
    fn default() -> Self {
        Surroundings {
            instance_var: "NODE_APP_INSTANCE".to_owned(),
            increment_var: None,
            source_maps: false,
            inherited: Inherited::All,
        }
    }
}

/// Files whose change has the app's workers replaced. pm2 `watch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Absolute.
    pub paths: Vec<PathBuf>,
    /// Names, paths or patterns below the app's folder. pm2 `ignore_watch`.
    pub ignored: Vec<String>,
    /// How long nothing may change before the workers are replaced. pm2 `watch_delay`.
    pub delay: Duration,
}

as_json!(struct Watch { paths, ignored, delay });

/// Between which numbers of workers an app is kept, and by what it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    pub min: u32,
    /// The same as `min`: the number is fixed.
    pub max: u32,
    /// How long there must have been one worker too many, and the pause between two that leave.
    pub cool_down: Duration,
    /// With a `min` of 0: how long nobody must have asked before the last worker leaves.
    pub idle_timeout: Duration,
    /// How many requests a worker is meant to have at once; None: any number.
    pub requests_per_worker: Option<u32>,
}

as_json!(struct Scale { min, max, cool_down, idle_timeout, requests_per_worker });

/// What a line of a worker looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineForm {
    /// `chat.0 | DATE: line`.
    Prefixed,
    /// `DATE: line`, as pm2 writes its files.
    Plain,
    /// One object a line, with pm2's names.
    Json,
}

as_json!(
    enum LineForm {
        Prefixed,
        Plain,
        Json,
    }
);

/// Where an app's lines go, and what they look like. pm2's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// They go to our own stdout and stderr too.
    pub shown: bool,
    /// None: with the worker's name on our output, without it in files.
    pub form: Option<LineForm>,
    /// `log_date_format`.
    pub date: Option<DateFormat>,
    /// `out_file`, `error_file`, and `log_file` for both; absolute.
    pub out: Option<PathBuf>,
    pub error: Option<PathBuf>,
    pub both: Option<PathBuf>,
    /// `merge_logs`: all workers write to the same files.
    pub merged: bool,
}

as_json!(struct LogSpec { shown, form, date, out, error, both, merged });

impl Default for LogSpec {
    fn default() -> Self {
        LogSpec {
            shown: true,
            form: None,
            date: None,
            out: None,
            error: None,
            both: None,
            merged: false,
        }
    }
}

impl LogSpec {
    pub fn output_form(&self) -> LineForm {
        self.form.unwrap_or(LineForm::Prefixed)
    }

    pub fn file_form(&self) -> LineForm {
        self.form.unwrap_or(LineForm::Plain)
    }

    /// The files for one output of a worker, each once. A worker that is not the only one of its app
    /// has its own, unless they are merged.
    pub fn files(&self, stderr: bool, instance: u32, alone: bool) -> Vec<PathBuf> {
        let own = if stderr { &self.error } else { &self.out };
        let mut files: Vec<PathBuf> = [own, &self.both]
            .into_iter()
            .flatten()
            .map(|path| match self.merged || alone {
                true => path.clone(),
                false => numbered(path, instance),
            })
            .collect();
        files.dedup();
        files
    }
}

/// `chat-out.log` becomes `chat-out-1.log`, as under pm2.
fn numbered(path: &Path, instance: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{instance}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// One app to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSpec {
    pub name: String,
    /// Working directory of the workers.
    pub dir: PathBuf,
    pub launch: Launch,
    /// At the start.
    pub workers: u32,
    pub scale: Scale,
    pub env: BTreeMap<String, String>,
    /// What `PORT` and `{port}` say; the app's own `listen(PORT)` never takes the real port.
    pub port: u16,
    pub routes: Routes,
    pub policy: Policy,
    pub session_cookies: Vec<String>,
    /// Name of a cookie of ours that binds a browser to a worker.
    pub affinity_cookie: Option<String>,
    pub answer_timeout: Option<Duration>,
    /// WebSockets are handed to the worker's own process, if it has the hook.
    pub hand_off: bool,
    /// Longest request body, 0: any; None: what holds for all.
    pub body_bytes_max: Option<u64>,
    /// WebSockets and sessions a second that a leaving worker gives up; 0: all at once.
    pub drain_rate: u32,
    /// A leaving worker is stopped then, whoever it still serves.
    pub drain_timeout: Duration,
    /// Socket.IO's default adapter is replaced by one that reaches the clients of all workers.
    pub broadcast: bool,
    pub restart: RestartPolicy,
    /// How long a worker may be silent before it is killed and replaced; zero: for ever; None: what
    /// is usual.
    pub hang_timeout: Option<Duration>,
    /// Bytes of resident memory above which a worker is replaced. pm2 `max_memory_restart`.
    pub memory_max: Option<u64>,
    /// Ready only after `process.send('ready')` as well. pm2 `wait_ready`.
    pub wait_ready: bool,
    /// A worker that is not ready by then is killed. pm2 `listen_timeout`.
    pub listen_timeout: Duration,
    /// Time between the polite stop and SIGKILL. pm2 `kill_timeout`.
    pub kill_timeout: Duration,
    pub confinement: Confinement,
    pub surroundings: Surroundings,
    /// When its workers are renewed. pm2 `cron_restart`.
    pub cron: Option<Cron>,
    pub watch: Option<Watch>,
    pub logs: Arc<LogSpec>,
}

as_json!(struct AppSpec {
    name, dir, launch, workers, scale, env, port, routes, policy, session_cookies, affinity_cookie,
    answer_timeout, hand_off, body_bytes_max, drain_rate, drain_timeout, broadcast, restart,
    hang_timeout, memory_max, wait_ready, listen_timeout, kill_timeout, confinement, surroundings,
    cron, watch, logs
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_numbers_where_workers_do_not_share_them() {
        let spec = |merged| LogSpec {
            out: Some(PathBuf::from("/l/a-out.log")),
            error: Some(PathBuf::from("/l/errors")),
            both: Some(PathBuf::from("/l/a-out.log")),
            merged,
            ..LogSpec::default()
        };
        let shown = |files: Vec<PathBuf>| {
            let names: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
            names.join(" ")
        };
        assert_eq!(shown(spec(false).files(false, 3, false)), "/l/a-out-3.log");
        assert_eq!(
            shown(spec(false).files(true, 3, false)),
            "/l/errors-3 /l/a-out-3.log"
        );
        assert_eq!(shown(spec(true).files(false, 3, false)), "/l/a-out.log");
        assert_eq!(shown(spec(false).files(false, 0, true)), "/l/a-out.log");
        assert_eq!(shown(LogSpec::default().files(true, 0, true)), "");
    }
}
