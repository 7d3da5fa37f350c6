//! One app as the configuration describes it: every key read and checked, nothing looked up yet.
//! Pure, except that it knows serde_json's values.

use super::ConfigError;
use super::json::COMMENT;
use super::keys;
use super::launch::Start;
use super::logs::LogWish;
use super::process::ProcessKeys;
use super::shell;
use super::source::Object;
use super::suggest::nearest;
use super::values::{Bytes, Count, Seconds, WorkerCount, digits_only};
use crate::fleet::spec::RestartPolicy;
use front::roster::Policy;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A worker that is not ready by then is killed, if the app does not say itself. Longer than
/// pm2's, because a large app on a busy machine needs it and a hung one costs only patience.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Between the polite stop and SIGKILL, if the app does not say itself. What was in flight has
/// been finished by the front before; this is for the app's own closing.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// WebSockets and sessions that a leaving worker gives up a second, if the app does not say itself:
/// what their clients' new handshakes cost must stay small beside the work of the others.
const DRAIN_RATE: u32 = 100;
/// How long a leaving worker's clients may stay, if the app does not say itself: longer than a long
/// poll of engine.io, which is held for 25 s.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long there must have been one worker too many before one leaves, if the app does not say
/// itself: longer than the lull between two waves of the same peak.
const COOL_DOWN: Duration = Duration::from_secs(60);
/// How long nobody must have asked before the last worker of an app with `min` 0 leaves, if the app
/// does not say itself: longer than a person who reads a page, shorter than a lunch.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest name of an app; it becomes a part of socket paths, which are short.
const NAME_BYTES_MAX: usize = 40;

/// What the configuration says about one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Option<String>,
    pub start: Option<Start>,
    pub cwd: Option<PathBuf>,
    /// Path prefix in the roster's form; None: it does not say.
    pub path: Option<String>,
    pub hosts: Vec<String>,
    pub workers: Option<WorkerCount>,
    pub min: Option<u32>,
    pub max: Option<WorkerCount>,
    pub cool_down: Duration,
    pub idle_timeout: Duration,
    pub requests_per_worker: Option<u32>,
    pub env: BTreeMap<String, String>,
    /// Whether `--env NAME` found something here.
    pub env_found: bool,
    pub port: Option<u16>,
    pub policy: Policy,
    pub session_cookies: Vec<String>,
    pub affinity_cookie: Option<String>,
    pub answer_timeout: Option<Duration>,
    pub hand_off: bool,
    pub body_bytes_max: Option<u64>,
    pub drain_rate: u32,
    pub drain_timeout: Duration,
    pub broadcast: bool,
    pub restart: RestartPolicy,
    pub hang_timeout: Option<Duration>,
    pub memory_max: Option<u64>,
    pub wait_ready: bool,
    pub listen_timeout: Duration,
    pub kill_timeout: Duration,
    pub process: ProcessKeys,
    pub logs: LogWish,
    pub warnings: Vec<String>,
}

impl Default for Entry {
    fn default() -> Self {
        Entry {
            name: None,
            start: None,
            cwd: None,
            path: None,
            hosts: Vec::new(),
            workers: None,
            min: None,
            max: None,
            cool_down: COOL_DOWN,
            idle_timeout: IDLE_TIMEOUT,
            requests_per_worker: None,
            env: BTreeMap::new(),
            env_found: false,
            port: None,
            policy: Policy::default(),
            session_cookies: Vec::new(),
            affinity_cookie: None,
            answer_timeout: None,
            hand_off: true,
            body_bytes_max: None,
            drain_rate: DRAIN_RATE,
            drain_timeout: DRAIN_TIMEOUT,
            broadcast: false,
            restart: RestartPolicy::default(),
            hang_timeout: None,
            memory_max: None,
            wait_ready: false,
            listen_timeout: LISTEN_TIMEOUT,
            kill_timeout: KILL_TIMEOUT,
            process: ProcessKeys::default(),
            logs: LogWish::default(),
            warnings: Vec::new(),
        }
    }
}

impl Entry {
    /// Reads one object. `env_name` is the argument of `--env`.
    pub fn read(object: &Object<'_>, env_name: Option<&str>) -> Result<Entry, ConfigError> {
        let warnings = check_keys(object)?;
        check_mode(object)?;
        let mut env: BTreeMap<_, _> = object.variables("env")?.into_iter().collect();
        let extra = env_name.map(|name| format!("env_{name}"));
        let env_found = extra
            .as_ref()
            .is_some_and(|key| object.map.contains_key(key));
        if let Some(key) = extra {
            env.extend(object.variables(&key)?);
        }
        let mut entry = Entry {
            name: read_name(object, env_name)?,
            start: read_start(object)?,
            cwd: object.text(&["cwd"])?.map(PathBuf::from),
            path: read_path(object)?,
            hosts: read_hosts(object)?,
            workers: read_workers(object)?,
            min: object.number(&["min"])?,
            max: object.value(&["max"])?,
            cool_down: object
                .value::<Seconds>(&["cool_down"])?
                .map_or(COOL_DOWN, |Seconds(time)| time),
            idle_timeout: object
                .value::<Seconds>(&["idle_timeout"])?
                .map_or(IDLE_TIMEOUT, |Seconds(time)| time),
            requests_per_worker: object
                .value::<Count>(&["requests_per_worker"])?
                .map(|Count(number)| number),
            env_found,
            port: read_port(object, &env)?,
            policy: read_policy(object)?,
            session_cookies: read_session_cookies(object)?,
            affinity_cookie: read_affinity_cookie(object)?,
            answer_timeout: object
                .value::<Seconds>(&["answer_timeout"])?
                .map(|Seconds(time)| time),
            hand_off: object.flag(&["hand_off"], true)?,
            body_bytes_max: object
                .value::<Bytes>(&["body_bytes_max"])?
                .map(|Bytes(number)| number),
            drain_rate: object.number(&["drain_rate"])?.unwrap_or(DRAIN_RATE),
            drain_timeout: object
                .value::<Seconds>(&["drain_timeout"])?
                .map_or(DRAIN_TIMEOUT, |Seconds(time)| time),
            broadcast: object.flag(&["broadcast"], false)?,
            restart: read_restart(object)?,
            process: ProcessKeys::read(object)?,
            hang_timeout: object
                .value::<Seconds>(&["hang_timeout"])?
                .map(|Seconds(time)| time),
            memory_max: object
                .value::<Bytes>(&["max_memory_restart"])?
                .map(|Bytes(number)| number)
                .filter(|number| *number > 0),
            wait_ready: object.flag(&["wait_ready"], false)?,
            logs: LogWish::read(object)?,
            env,
            warnings,
            ..Entry::default()
        };
        if let Some(time) = object.time(&["listen_timeout"])? {
            entry.listen_timeout = time;
        }
        if let Some(time) = object.time(&["kill_timeout"])? {
            entry.kill_timeout = time;
        }
        if entry.listen_timeout.is_zero() {
            return Err(object.refuse("listen_timeout", "`listen_timeout` must be above 0"));
        }
        Ok(entry)
    }
}

/// Refuses unknown keys and collects the warnings for known ones.
fn check_keys(object: &Object<'_>) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    for (name, value) in object.map {
        let other_env = name
            .strip_prefix("env_")
            .is_some_and(|rest| !rest.is_empty());
        match keys::find(name) {
            Some(key) => warnings.extend(key.warning(name, value)),
            // One that is not asked for now may be tomorrow.
            None if other_env => {
                object.variables(name)?;
            }
            None if name == COMMENT => {}
            None => {
                return Err(object.refuse(
                    name,
                    match nearest(name, keys::spellings()) {
                        Some(meant) => format!("unknown key `{name}`; did you mean `{meant}`?"),
                        None => format!(
                            "unknown key `{name}`; remove it, or see the list of keys in the README"
                        ),
                    },
                ));
            }
        }
    }
    Ok(warnings)
}

/// Both modes come to the same here, but a misspelt one shows that something else was meant.
fn check_mode(object: &Object<'_>) -> Result<(), ConfigError> {
    const NAMES: [&str; 4] = ["cluster", "fork", "cluster_mode", "fork_mode"];
    match object.text(&["exec_mode"])? {
        Some(mode) if !NAMES.contains(&mode.as_str()) => Err(object.refuse(
            "exec_mode",
            match nearest(&mode, NAMES) {
                Some(meant) => format!("unknown exec_mode `{mode}`; did you mean `{meant}`?"),
                None => format!("unknown exec_mode `{mode}`; it is cluster or fork"),
            },
        )),
        Some(_) | None => Ok(()),
    }
}

fn read_name(object: &Object<'_>, env_name: Option<&str>) -> Result<Option<String>, ConfigError> {
    let Some(mut name) = object.text(&["name"])? else {
        return Ok(None);
    };
    let append = object.flag(&["append_env_to_name"], false)?;
    if let Some(env) = env_name.filter(|_| append) {
        name = format!("{name}-{env}");
    }
    match refused_name(&name) {
        Some(why) => Err(object.refuse("name", why)),
        None => Ok(Some(name)),
    }
}

/// Why this cannot be the name of an app.
pub fn refused_name(name: &str) -> Option<String> {
    if name.is_empty()
        || name.starts_with('.')
        || name.contains('/')
        || name.chars().any(char::is_control)
    {
        Some(
            "`name` must not be empty, begin with a dot, or hold a slash or a control character"
                .to_owned(),
        )
    } else if name.len() > NAME_BYTES_MAX {
        Some(format!(
            "`name` is longer than {NAME_BYTES_MAX} bytes, too long for a part of a socket's path"
        ))
    } else {
        None
    }
}

const INTERPRETER: [&str; 2] = ["interpreter", "exec_interpreter"];
const INTERPRETER_ARGS: [&str; 4] = [
    "interpreter_args",
    "interpreterArgs",
    "node_args",
    "nodeArgs",
];
/// What only `script` can make something of.
const OF_SCRIPTS: [&str; 7] = [
    "args",
    "interpreter",
    "exec_interpreter",
    "interpreter_args",
    "interpreterArgs",
    "node_args",
    "nodeArgs",
];

fn read_start(object: &Object<'_>) -> Result<Option<Start>, ConfigError> {
    let script = object.text(&["script", "exec"])?;
    let of_scripts = OF_SCRIPTS.iter().find(|key| object.map.contains_key(**key));
    if let (None, Some(key)) = (&script, of_scripts) {
        let whose = match object.map.contains_key("command") {
            true => "belongs to a `script`; write it into `command`",
            false => "needs a `script`",
        };
        return Err(object.refuse(key, format!("`{key}` {whose}")));
    }
    match (object.map.get("command"), script) {
        (Some(_), Some(_)) => Err(object.refuse(
            "command",
            "`command` and `script` exclude each other; keep one",
        )),
        (Some(Value::String(line)), None) => match shell::read(line) {
            Ok(_) => Ok(Some(Start::Line(line.clone()))),
            Err(why) => Err(object.refuse("command", why)),
        },
        (Some(_), None) => Ok(Some(Start::Words(object.texts(&["command"])?))),
        (None, Some(script)) => Ok(Some(Start::Script {
            script,
            args: object.words(&["args"])?,
            interpreter: object.text(&INTERPRETER)?,
            interpreter_args: object.words(&INTERPRETER_ARGS)?,
        })),
        (None, None) => Ok(None),
    }
}

fn read_path(object: &Object<'_>) -> Result<Option<String>, ConfigError> {
    let Some(path) = object.text(&["path"])? else {
        return Ok(None);
    };
    let plain = |b: u8| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}%".contains(&b);
    let why = if !path.starts_with('/') {
        "it must begin with a slash"
    } else if !path.bytes().all(plain) {
        "it must be plain ASCII without blanks, `?`, `#` or `%`"
    } else if path.contains("//") || path.split('/').any(|part| part == "." || part == "..") {
        "it must not hold `//`, `/./` or `/../`"
    } else {
        return Ok(Some(path.strip_suffix('/').unwrap_or(&path).to_owned()));
    };
    Err(object.refuse("path", format!("`path` is \"{path}\": {why}")))
}

fn read_hosts(object: &Object<'_>) -> Result<Vec<String>, ConfigError> {
    let mut hosts = object.texts(&["host", "hosts"])?;
    for host in &mut hosts {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || !(bracketed || host.bytes().all(plain)) {
            let key = if object.map.contains_key("host") {
                "host"
            } else {
                "hosts"
            };
            return Err(object.refuse(
                key,
                format!("`{host}` is not a host name without scheme and port"),
            ));
        }
        *host = host.trim_end_matches('.').to_ascii_lowercase();
    }
    Ok(hosts)
}

fn read_workers(object: &Object<'_>) -> Result<Option<WorkerCount>, ConfigError> {
    match object.value(&["workers"])? {
        Some(workers) => Ok(Some(workers)),
        None => object.value(&["instances"]),
    }
}

fn read_port(
    object: &Object<'_>,
    env: &BTreeMap<String, String>,
) -> Result<Option<u16>, ConfigError> {
    match object.value::<Port>(&["port"])? {
        Some(Port(port)) => Ok(Some(port)),
        None => Ok(env.get("PORT").and_then(|text| digits_only(text))),
    }
}

/// A port number that is not 0.
struct Port(u16);

impl std::str::FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match digits_only(text) {
            Some(0) | None => Err("expected a port from 1 to 65535".to_owned()),
            Some(port) => Ok(Port(port)),
        }
    }
}

fn read_policy(object: &Object<'_>) -> Result<Policy, ConfigError> {
    const NAMES: [&str; 4] = ["round-robin", "least-busy", "random-two", "ip-hash"];
    match object.text(&["policy"])?.as_deref() {
        None | Some("round-robin") => Ok(Policy::RoundRobin),
        Some("least-busy") => Ok(Policy::LeastBusy),
        Some("random-two") => Ok(Policy::RandomTwo),
        Some("ip-hash") => Ok(Policy::IpHash),
        Some(other) => Err(object.refuse(
            "policy",
            match nearest(other, NAMES) {
                Some(meant) => format!("unknown policy `{other}`; did you mean `{meant}`?"),
                None => format!(
                    "unknown policy `{other}`; it is one of {}",
                    NAMES.join(", ")
                ),
            },
        )),
    }
}

fn read_session_cookies(object: &Object<'_>) -> Result<Vec<String>, ConfigError> {
    let names = object.texts(&["session_cookies", "session_cookie"])?;
    let key = ["session_cookies", "session_cookie"]
        .into_iter()
        .find(|key| object.map.contains_key(*key))
        .unwrap_or("session_cookies");
    for name in &names {
        cookie_name(object, key, name)?;
    }
    Ok(names)
}

/// RFC 6265 4.1.1: a name is a token (RFC 9110 5.6.2). No client could send another one.
fn cookie_name(object: &Object<'_>, key: &str, name: &str) -> Result<(), ConfigError> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(object.refuse(
            key,
            format!("`{name}` is not the name of a cookie: letters, digits, `-`, `_` and `.`"),
        ));
    }
    Ok(())
}

fn read_affinity_cookie(object: &Object<'_>) -> Result<Option<String>, ConfigError> {
    let Some(name) = object.text(&["affinity_cookie"])? else {
        return Ok(None);
    };
    cookie_name(object, "affinity_cookie", &name)?;
    Ok(Some(name))
}

fn read_exit_codes(object: &Object<'_>) -> Result<Vec<i32>, ConfigError> {
    const NAMES: [&str; 2] = ["stop_exit_codes", "stop_exit_code"];
    let codes = object.integers(&NAMES)?;
    match codes.iter().find(|code| !(0..=255).contains(*code)) {
        Some(code) => {
            let key = NAMES
                .into_iter()
                .find(|name| object.map.contains_key(*name));
            let why = format!("{code} cannot be an exit code; they are from 0 to 255");
            Err(object.refuse(key.unwrap_or(NAMES[0]), why))
        }
        None => Ok(codes),
    }
}

fn read_restart(object: &Object<'_>) -> Result<RestartPolicy, ConfigError> {
    let usual = RestartPolicy::default();
    let first = object
        .time(&["exp_backoff_restart_delay"])?
        .filter(|time| !time.is_zero());
    let delay_first = first.unwrap_or(usual.delay_first);
    Ok(RestartPolicy {
        min_uptime: object.time(&["min_uptime"])?.unwrap_or(usual.min_uptime),
        max_restarts: object
            .number(&["max_restarts"])?
            .unwrap_or(usual.max_restarts),
        restart_delay: object
            .time(&["restart_delay"])?
            .unwrap_or(usual.restart_delay),
        delay_first,
        // A series that starts above the usual end would otherwise shrink.
        delay_max: usual.delay_max.max(delay_first),
        errored_delay: usual.errored_delay,
        stop_exit_codes: read_exit_codes(object)?,
        autorestart: object.flag(&["autorestart"], usual.autorestart)?,
    })
}
