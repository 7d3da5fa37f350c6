//! Starting one worker: the command with its descriptors and environment, and the short life of
//! our own binary between (`sidekeeper __worker`), which arranges what only the new process itself
//! can arrange and then becomes the program. So nothing runs in a fork of a threaded process.
//!
//! [`spawn`] runs on the supervisor thread, which must live as long as the workers: the death
//! signal follows the thread that started them.

use crate::fleet::spec::{AppSpec, Confinement, Inherited, Launch};
use front::json;
use front::sys::process::{self, Pid};
use front::sys::{descriptor, identity, limits};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Command, Stdio};

/// The word that makes the binary a worker about to be.
pub const WORKER_WORD: &str = "__worker";
/// sd_listen_fds(3): passed descriptors begin here.
const LISTENER_FD: i32 = 3;
const CHANNEL_FD: i32 = 4;
/// What shells answer when a command cannot be run.
const CANNOT_RUN: i32 = 127;
/// Stands for a descriptor that is not given.
const NONE: &str = "-";

/// Variables that speak of us or of whoever started us, and would mislead a worker.
const NOT_INHERITED: [&str; 14] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
    "NODE_APP_INSTANCE",
    "SIDEKEEPER_LISTEN_FD",
    "SIDEKEEPER_SOCKET",
    "SIDEKEEPER_BROADCAST",
    "SIDEKEEPER_LEFT",
];

/// Everything a new process depends on.
pub struct Order<'a> {
    /// Our own binary.
    pub executable: &'a Path,
    pub app: &'a AppSpec,
    pub instance: u32,
    pub socket: &'a Path,
    /// None for programs that bind `{socket}` themselves.
    pub listener: Option<BorrowedFd<'a>>,
    pub hook: &'a Path,
}

/// A new process and our ends of what connects us.
pub struct Spawned {
    pub pid: Pid,
    pub channel: Option<UnixStream>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Whether the program binds its socket itself.
pub fn binds_itself(launch: &Launch) -> bool {
    match launch {
        Launch::Node { .. } | Launch::NodeShell { .. } => false,
        Launch::Program { argv } => argv.iter().any(|word| word.contains("{socket}")),
    }
}

fn has_channel(launch: &Launch) -> bool {
    match launch {
        Launch::Node { .. } | Launch::NodeShell { .. } => true,
        Launch::Program { .. } => false,
    }
}

/// Starts a process.
pub fn spawn(order: &Order<'_>) -> io::Result<Spawned> {
    let (ours, theirs) = if has_channel(&order.app.launch) {
        let (ours, theirs) = UnixStream::pair()?;
        (Some(ours), Some(theirs))
    } else {
        (None, None)
    };
    // These two are the only descriptors without close-on-exec, and only until the end of this
    // function; no other thread starts programs.
    let listener = order
        .listener
        .map(descriptor::inheritable_copy)
        .transpose()?;
    let channel = theirs
        .as_ref()
        .map(|stream| descriptor::inheritable_copy(stream.as_fd()))
        .transpose()?;
    let number = |fd: &Option<OwnedFd>| match fd {
        Some(fd) => fd.as_raw_fd().to_string(),
        None => NONE.to_owned(),
    };

    let mut command = Command::new(order.executable);
    command
        .arg0("sidekeeper")
        .arg(WORKER_WORD)
        .arg(std::process::id().to_string())
        .arg(number(&listener))
        .arg(number(&channel))
        .arg(json::text(&order.app.confinement))
        .arg(&order.app.dir)
        .args(words(&order.app.launch, order.socket, order.app.port));
    leave_out(&mut command, &order.app.surroundings.inherited);
    command
        .envs(&order.app.env)
        .envs(contract(
            order,
            env::var_os("NODE_OPTIONS"),
            env::var_os("PATH"),
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    process::lead_a_session(&mut command);
    let mut child = command.spawn()?;
    let pid = Pid::new(child.id()).ok_or(io::ErrorKind::Other)?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::Other)?;
    let stderr = child.stderr.take().ok_or(io::ErrorKind::Other)?;
    Ok(Spawned {
        pid,
        channel: ours,
        stdout: stdout.into(),
        stderr: stderr.into(),
    })
}

/// Our own variables that the worker is not to have.
fn leave_out(command: &mut Command, inherited: &Inherited) {
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    match inherited {
        Inherited::All => {}
        Inherited::None => {
            command.env_clear();
        }
        Inherited::Without(parts) => {
            for (name, _) in env::vars_os() {
                let shown = name.to_string_lossy();
                if parts.iter().any(|part| shown.contains(part.as_str())) {
                    command.env_remove(&name);
                }
            }
        }
    }
}

/// The program and its arguments.
fn words(launch: &Launch, socket: &Path, port: u16) -> Vec<OsString> {
    match launch {
        Launch::Node { argv } => argv.iter().map(OsString::from).collect(),
        Launch::NodeShell { line } => vec!["/bin/sh".into(), "-c".into(), line.into()],
        Launch::Program { argv } => {
            let socket = socket.to_string_lossy();
            let port = port.to_string();
            argv.iter()
                .map(|word| {
                    word.replace("{socket}", &socket)
                        .replace("{port}", &port)
                        .into()
                })
                .collect()
        }
    }
}

/// The variables that make a process a worker of ours. `LISTEN_PID` is added by the process.
fn contract<'a>(
    order: &Order<'a>,
    inherited_node_options: Option<OsString>,
    inherited_path: Option<OsString>,
) -> Vec<(&'a str, OsString)> {
    let app = order.app;
    let surroundings = &app.surroundings;
    let of_app = |name: &str, inherited: Option<OsString>| {
        app.env.get(name).map(OsString::from).or(inherited)
    };
    let mut variables = vec![
        ("APPNAME", OsString::from(&app.name)),
        (
            surroundings.instance_var.as_str(),
            order.instance.to_string().into(),
        ),
        ("PORT", app.port.to_string().into()),
        ("SIDEKEEPER_SOCKET", order.socket.into()),
    ];
    if let Some(name) = &surroundings.increment_var {
        let first: Option<u64> = app.env.get(name).and_then(|text| text.parse().ok());
        let number = first.unwrap_or(0).saturating_add(order.instance.into());
        variables.push((name.as_str(), number.to_string().into()));
    }
    if order.listener.is_some() {
        variables.push(("LISTEN_FDS", "1".into()));
        variables.push(("LISTEN_FDNAMES", "http".into()));
    }
    if has_channel(&app.launch) {
        variables.push(("NODE_CHANNEL_FD", CHANNEL_FD.to_string().into()));
        variables.push(("SIDEKEEPER_LISTEN_FD", LISTENER_FD.to_string().into()));
        let options = of_app("NODE_OPTIONS", inherited_node_options);
        let options = match surroundings.source_maps {
            true => Some(with_option(options, "--enable-source-maps")),
            false => options,
        };
        variables.push(("NODE_OPTIONS", with_hook(options, order.hook)));
        if app.broadcast {
            variables.push(("SIDEKEEPER_BROADCAST", "1".into()));
        }
    }
    if let Launch::NodeShell { .. } = app.launch {
        // As npm does for the lines of `scripts`.
        let mut path = app.dir.join("node_modules/.bin").into_os_string();
        if let Some(rest) = of_app("PATH", inherited_path) {
            path.push(":");
            path.push(rest);
        }
        variables.push(("PATH", path));
    }
    variables
}

/// Node splits NODE_OPTIONS at spaces outside of double quotes; a backslash takes the next
/// character as it is.
fn with_hook(options: Option<OsString>, hook: &Path) -> OsString {
    let hook = hook
        .to_string_lossy()
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    with_option(options, &format!("--require \"{hook}\""))
}

fn with_option(options: Option<OsString>, option: &str) -> OsString {
    let mut all = options.unwrap_or_default();
    if !all.is_empty() {
        all.push(" ");
    }
    all.push(option);
    all
}

/// What the binary does as `sidekeeper __worker PARENT LISTENER CHANNEL CONFINEMENT DIR PROGRAM ARG...`.
pub fn worker_main(arguments: impl Iterator<Item = OsString>) -> ! {
    let Err(complaint) = become_worker(arguments);
    eprintln!("sidekeeper: {complaint}");
    std::process::exit(CANNOT_RUN)
}

fn become_worker(
    mut arguments: impl Iterator<Item = OsString>,
) -> Result<std::convert::Infallible, String> {
    let mut word = || arguments.next().ok_or("__worker: too few arguments");
    let (parent, listener, channel) = (number(&word()?), number(&word()?), number(&word()?));
    let confinement = word()?;
    let confinement: Confinement =
        json::read(confinement.as_encoded_bytes()).map_err(|e| format!("__worker: {e}"))?;
    let (dir, program) = (word()?, word()?);

    // Before the death signal, which the kernel forgets when the user changes.
    confine(&confinement)?;
    process::die_with_parent().map_err(|e| format!("no death signal: {e}"))?;
    // A parent that died before the line above has not been noticed by the kernel.
    if parent.and_then(|n| u32::try_from(n).ok()) != Some(parent_id()) {
        return Err("whoever started this worker is gone".into());
    }
    descriptor::close_all_on_exec();
    for (from, to) in [(listener, LISTENER_FD), (channel, CHANNEL_FD)] {
        if let Some(from) = from {
            descriptor::move_inherited(from, to).map_err(|e| format!("descriptor {to}: {e}"))?;
        }
    }
    env::set_current_dir(&dir)
        .map_err(|e| format!("cannot enter {}: {e}", Path::new(&dir).display()))?;
    process::reset_signals();
    let mut command = Command::new(&program);
    command.args(arguments);
    if env::var_os("LISTEN_FDS").is_some() {
        command.env("LISTEN_PID", std::process::id().to_string());
    }
    let error = command.exec();
    Err(cannot_start(&program, &error))
}

/// Limits before the user, who may not be allowed to raise them.
fn confine(confinement: &Confinement) -> Result<(), String> {
    for (name, value) in &confinement.limits {
        let shown = value.map_or("unlimited".to_owned(), |value| value.to_string());
        limits::set(name, *value).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("limits: {name} {shown} is above the hard limit, which only root may raise")
            }
            _ => format!("limits: {name} {shown}: {e}"),
        })?;
    }
    if let Some(nice) = confinement.nice {
        process::set_nice(nice).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("nice: only root may ask for {nice}, less than sidekeeper has itself")
            }
            _ => format!("nice: {nice}: {e}"),
        })?;
    }
    if let Some(mask) = confinement.umask {
        process::set_umask(mask);
    }
    if let Some(user) = &confinement.user {
        identity::become_user(user).map_err(|e| format!("cannot become user {}: {e}", user.uid))?;
    }
    // What we keep for starting others is not theirs. Root stays what it is.
    match process::user() {
        0 => Ok(()),
        _ => identity::lose_capabilities().map_err(|e| format!("capabilities: {e}")),
    }
}

fn number(word: &OsStr) -> Option<i32> {
    word.to_str()?.parse().ok()
}

/// execve(2) says "no such file" of three different things.
fn cannot_start(program: &OsStr, error: &io::Error) -> String {
    let shown = Path::new(program).display();
    let is_path = program.as_encoded_bytes().contains(&b'/');
    match error.kind() {
        io::ErrorKind::NotFound if !is_path => {
            format!("cannot start {shown}: there is no such program in PATH")
        }
        io::ErrorKind::NotFound if File::open(program).is_ok() => {
            format!("cannot start {shown}: the interpreter named in its first line does not exist")
        }
        io::ErrorKind::PermissionDenied => {
            format!("cannot start {shown}: it is not executable (chmod +x)")
        }
        _ => format!("cannot start {shown}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_is_quoted_and_comes_last() {
        let hook = Path::new("/a b/\"c\\/hook.cjs");
        assert_eq!(with_hook(None, hook), r#"--require "/a b/\"c\\/hook.cjs""#);
        let hook = Path::new("/r/hook.cjs");
        let options = with_hook(Some("--inspect".into()), hook);
        assert_eq!(options, "--inspect --require \"/r/hook.cjs\"");
    }

    #[test]
    fn braces_are_replaced_in_programs_only() {
        let socket = Path::new("/r/a.0.sock");
        let argv = vec![
            "serve".to_owned(),
            "--bind=unix:{socket}".into(),
            "{port}".into(),
        ];
        let program = Launch::Program { argv: argv.clone() };
        assert!(binds_itself(&program));
        assert_eq!(
            words(&program, socket, 80),
            ["serve", "--bind=unix:/r/a.0.sock", "80"]
        );
        let node = Launch::Node { argv: argv.clone() };
        assert!(!binds_itself(&node));
        assert_eq!(
            words(&node, socket, 80),
            argv.iter().map(OsString::from).collect::<Vec<_>>()
        );
    }
}
