//! The plan: everything that `run` needs, decided and checked. `sidekeeper check` prints it.

use super::ConfigError;
use super::accounts::Account;
use super::address::HostPort;
use super::candidate::{Candidate, Gathered, LeftOut, Origin, gather};
use super::launch::{self, Unstartable};
use super::logs;
use super::machine::Machine;
use super::options::{Options, with_defaults};
use super::package::Package;
use super::placement::{self, Wish};
use super::programs::Search;
use super::rights::{self, Rights};
use super::scale::scale;
use super::serving::{self, Room};
use super::values::{AccessFormat, Bytes, Count, Keep, LogLevel, Percent, Seconds};
use crate::fleet::alarms::Limits;
use crate::fleet::spec::{AppSpec, Launch, Watch};
use crate::journal::date::DateFormat;
use crate::journal::rotation::Rotation;
use front::order;
use front::proxy::access::Format;
use front::server;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What `PORT` says to the first app that does not say itself; the next one gets the next.
const PORT_FIRST: u16 = 3000;
/// What scaling may start, if nobody says.
const WORKERS_A_CORE: u32 = 4;

/// Where ended requests are written to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPlan {
    /// None: our standard output.
    pub file: Option<PathBuf>,
    pub format: Format,
    /// Targets with their query.
    pub query: bool,
}

/// Everything that `run` needs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all of it was made from, defaults and all.
    pub options: Options,
    pub apps: Vec<AppSpec>,
    pub left_out: Vec<LeftOut>,
    pub warnings: Vec<String>,
    pub server: server::Settings,
    /// Workers of all apps that scaling may start, and memory that it leaves alone; None: a part.
    pub workers_max: u32,
    pub memory_reserve: Option<u64>,
    pub shutdown_timeout: Duration,
    pub run_dir: PathBuf,
    /// Whom we become once everything is bound.
    pub rights: Option<Rights>,
    /// `HOST:PORT` of metrics and dashboard.
    pub dashboard: Option<String>,
    /// Holds the token with which the dashboard may change something.
    pub dashboard_token_file: Option<PathBuf>,
    pub access_log: Option<AccessPlan>,
    pub address_file: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub log_level: log::LevelFilter,
    /// Date format of our own log.
    pub log_date: Option<DateFormat>,
    pub rotation: Rotation,
    pub alarm_limits: Limits,
    pub alarm_command: Option<String>,
}

/// Decides everything. `command` is what followed `--`, if anything did.
pub fn plan(
    typed: Options,
    command: Option<Vec<String>>,
    machine: &Machine,
) -> Result<Plan, ConfigError> {
    let Gathered {
        candidates,
        options,
        mut warnings,
        mut left_out,
    } = gather(typed, command, machine)?;
    let options = with_defaults(options);
    let wishes: Vec<Wish<'_>> = candidates
        .iter()
        .map(|c| Wish {
            name: &c.name,
            path: c.entry.path.as_deref(),
            hosts: &c.entry.hosts,
        })
        .collect();
    let routes = placement::place(&wishes).map_err(ConfigError::Setup)?;
    if let Some(name) = options
        .env
        .as_deref()
        .filter(|_| !candidates.iter().any(|c| c.entry.env_found))
    {
        warnings.push(format!(
            "no app has `env_{name}`, which --env {name} asks for"
        ));
    }
    let ours = rights::ours(options.user.as_ref(), machine)?;
    let mut apps = Vec::new();
    for ((candidate, routes), port) in candidates.into_iter().zip(routes).zip(PORT_FIRST..) {
        let name = candidate.name.clone();
        let origin = candidate.origin;
        let logs = candidate.entry.logs.clone();
        let said = candidate
            .entry
            .warnings
            .iter()
            .map(|warning| format!("app `{name}`: {warning}"));
        warnings.extend(said.collect::<Vec<_>>());
        match spec(candidate, machine, ours.as_ref(), port, &mut warnings) {
            Ok(spec) => {
                let places = (machine.dir.as_path(), machine.home.as_deref());
                let whose = (name.as_str(), spec.dir.as_path());
                let logs = Arc::new(logs.spec(whose, &options, places, &mut warnings));
                apps.push(AppSpec {
                    routes,
                    logs,
                    ..spec
                });
            }
            Err(reason) if origin == Origin::Folder => left_out.push(LeftOut {
                name,
                reason: machine.told(&reason),
            }),
            Err(reason) => {
                return Err(ConfigError::Setup(format!(
                    "app `{name}`: {}",
                    machine.told(&reason)
                )));
            }
        }
    }
    if apps.is_empty() {
        let reasons: Vec<String> = left_out
            .iter()
            .map(|left| format!("{}: {}", left.name, left.reason))
            .collect();
        return Err(ConfigError::Nothing(format!(
            "no app can be started; {}",
            reasons.join("; ")
        )));
    }
    if !apps
        .iter()
        .any(|app| app.routes.path.is_empty() && app.routes.hosts.is_empty())
        && left_out.is_empty()
    {
        warnings.push(
            "no app is the default, so other paths get 404; say \"path\": \"/\" in one of them"
                .to_owned(),
        );
    }
    order::sort_by(&mut left_out, |one, other| one.name.cmp(&other.name));
    let changes_users = apps.iter().any(|app| app.confinement.user.is_some());
    let becomes = ours.filter(|account| !rights::is_us(account, machine));
    let rights = becomes.map(|account| Rights {
        identity: account.identity,
        changes_users,
    });
    if changes_users && rights.is_none() && machine.user == 0 {
        warnings.push(
            "apps have users of their own while the proxy stays root; name its own with --user"
                .to_owned(),
        );
    }
    finish(options, machine, apps, left_out, warnings, rights)
}

/// Looks up the program and puts the app together, all but its routes. The error says what to do.
fn spec(
    candidate: Candidate,
    machine: &Machine,
    ours: Option<&Account>,
    port: u16,
    warnings: &mut Vec<String>,
) -> Result<AppSpec, String> {
    let Candidate {
        name,
        dir,
        entry,
        start,
        origin,
        workers_usual,
    } = candidate;
    let start = start?;
    if !dir.is_dir() {
        return Err(format!(
            "its folder {} is not there; correct `cwd`",
            dir.display()
        ));
    }
    let path = entry
        .env
        .get("PATH")
        .map_or(machine.path.as_os_str(), OsStr::new);
    let resolved =
        launch::resolve(&start, Search { dir: &dir, path }).map_err(|why| why.to_string())?;
    warnings.extend(
        resolved
            .warnings
            .iter()
            .map(|warning| format!("app `{name}`: {warning}")),
    );
    if let Some(missing) = missing_module(&resolved.launch, &dir) {
        let why = Unstartable::NoModules {
            missing,
            dir: dir.clone(),
        }
        .to_string();
        match origin {
            Origin::Folder => return Err(why),
            // Asked for by name, it may know better, for its packages may lie where we do not look.
            Origin::Asked => warnings.push(format!("app `{name}`: {}", machine.told(&why))),
        }
    }
    let (workers, scale) = scale(&entry, workers_usual, machine.cores)?;
    let process = entry.process;
    let own = rights::of_app(&process, &resolved.launch, ours, machine)?;
    let mut env = resolved.env;
    if let Some(account) = own.as_ref().or(ours) {
        env.extend(account.variables());
    }
    env.extend(entry.env);
    let mut confinement = process.confinement;
    confinement.user = own.map(|account| account.identity);
    let watch = process.watch.map(|watch| Watch {
        paths: watch.paths.iter().map(|path| dir.join(path)).collect(),
        ignored: watch.ignored,
        delay: watch.delay,
    });
    Ok(AppSpec {
        dir,
        launch: resolved.launch,
        workers,
        scale,
        env,
        port: entry.port.unwrap_or(port),
        routes: Default::default(),
        policy: entry.policy,
        session_cookies: entry.session_cookies,
        affinity_cookie: entry.affinity_cookie,
        answer_timeout: entry.answer_timeout,
        hand_off: entry.hand_off,
        body_bytes_max: entry.body_bytes_max,
        drain_rate: entry.drain_rate,
        drain_timeout: entry.drain_timeout,
        hang_timeout: entry.hang_timeout,
        memory_max: entry.memory_max,
        broadcast: entry.broadcast,
        restart: entry.restart,
        wait_ready: entry.wait_ready,
        listen_timeout: entry.listen_timeout,
        kill_timeout: entry.kill_timeout,
        confinement,
        surroundings: process.surroundings,
        cron: process.cron,
        watch,
        logs: Default::default(),
        name,
    })
}

/// A package that a Node app declares and that is not installed.
fn missing_module(launch: &Launch, dir: &Path) -> Option<String> {
    match launch {
        Launch::Node { .. } | Launch::NodeShell { .. } => {
            let package = Package::read(dir).ok().flatten()?;
            package.missing_module(dir).map(str::to_owned)
        }
        Launch::Program { .. } => None,
    }
}

/// Everything but the apps.
fn finish(
    options: Options,
    machine: &Machine,
    apps: Vec<AppSpec>,
    left_out: Vec<LeftOut>,
    mut warnings: Vec<String>,
    rights: Option<Rights>,
) -> Result<Plan, ConfigError> {
    let rotation = logs::rotation(&options, &mut warnings);
    let room = Room {
        cores: machine.cores,
        descriptors_max: machine.descriptors_max,
        workers: apps.iter().map(|app| u64::from(app.scale.max)).sum(),
    };
    let workers_max = workers_max(&options, machine, &apps)?;
    let listen = serving::listen(&options, &machine.passed, &machine.accounts)?;
    Ok(Plan {
        options: options.clone(),
        apps,
        left_out,
        warnings,
        workers_max,
        memory_reserve: options.memory_reserve.map(|Bytes(number)| number),
        server: serving::settings(&options, room, listen)?,
        shutdown_timeout: options
            .shutdown_timeout
            .map_or(Duration::ZERO, |Seconds(time)| time),
        run_dir: machine.run_dir(options.run_dir),
        rights,
        dashboard_token_file: options.dashboard_token_file,
        dashboard: options.dashboard.map(|HostPort(address)| address),
        access_log: options.access_log.map(|file| AccessPlan {
            file: (file != Path::new("-")).then(|| machine.dir.join(file)),
            format: options
                .access_log_format
                .map_or(Format::default(), |AccessFormat(format)| format),
            query: options.access_log_query != Some(Keep::Drop),
        }),
        address_file: options.address_file.map(|file| machine.dir.join(file)),
        pid_file: options.pid_file.map(|file| machine.dir.join(file)),
        log_level: options
            .log_level
            .map_or(log::LevelFilter::Info, |LogLevel(level)| level),
        log_date: options.log_date_format.map(|date| date.format),
        rotation,
        alarm_limits: alarm_limits(
            &options.alarm_latency,
            &options.alarm_errors,
            &options.alarm_cpu,
        ),
        alarm_command: options.alarm_command,
    })
}

/// Workers of all apps at once. More than a few busy ones on one core only take its time from each
/// other, and each of them takes its memory.
fn workers_max(options: &Options, machine: &Machine, apps: &[AppSpec]) -> Result<u32, ConfigError> {
    let least: u32 = apps.iter().map(|app| app.workers.max(1)).sum();
    match options.workers_max {
        Some(Count(max)) if max < least => Err(ConfigError::Setup(format!(
            "--workers-max is {max}, but the apps begin with {least} workers; raise it, or lower theirs"
        ))),
        Some(Count(max)) => Ok(max),
        None => Ok(machine.cores.saturating_mul(WORKERS_A_CORE).max(least)),
    }
}

/// 0 stands for no such alarm.
fn alarm_limits(
    latency: &Option<Seconds>,
    errors: &Option<Percent>,
    cpu: &Option<Percent>,
) -> Limits {
    let percent = |typed: &Option<Percent>| {
        let percent = typed.map(|Percent(number)| number);
        percent.filter(|number| *number > 0.0)
    };
    Limits {
        cpu_percent: percent(cpu),
        latency: latency
            .map(|Seconds(time)| time)
            .filter(|time| !time.is_zero()),
        errors_percent: percent(errors),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
