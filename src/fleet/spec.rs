//! What the fleet is asked to run. Plain values: `config` fills them in, the supervisor reads them.

use crate::roster::{Policy, Routes};
use std::collections::BTreeMap;
use std::path::PathBuf;
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
}

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
        }
    }
}

/// One app to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSpec {
    pub name: String,
    /// Working directory of the workers.
    pub dir: PathBuf,
    pub launch: Launch,
    pub workers: u32,
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
    /// Ready only after `process.send('ready')` as well. pm2 `wait_ready`.
    pub wait_ready: bool,
    /// A worker that is not ready by then is killed. pm2 `listen_timeout`.
    pub listen_timeout: Duration,
    /// Time between the polite stop and SIGKILL. pm2 `kill_timeout`.
    pub kill_timeout: Duration,
}
