//! What one binary leaves to the next: everything that the rooms have written down, as one line of
//! JSON in a file in memory, and how the next one finds it. Before it has touched any of it, a binary
//! that cannot go on goes back to the one before, which is left to it as well.

use crate::admin::Asker;
use crate::fleet;
use front::as_json;
use front::json::{self, FromJson, Wrong};
use front::roster::CarriedReturning;
use front::route::CarriedTables;
use front::server;
use front::sys::carried::Baton;
use front::sys::{exec, identity};
use std::cell::Cell;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The word that makes the binary say whether it could take over.
pub const TRIAL_WORD: &str = "__trial";
/// `PID:STATE:BEFORE[:WHY]`: for which process it is meant, the numbers of two descriptors, and why
/// the binary after this one has gone back.
pub const VARIABLE: &str = "SIDEKEEPER_LEFT";
/// Of the form in which everything is left. A new one is for changes that an older binary, or this
/// one reading what an older has left, would misunderstand; a field with a default is none.
pub const FORM: u32 = 2;

/// Everything.
pub struct Left {
    pub form: u32,
    /// Of the binary that has left it.
    pub version: String,
    /// Where the next binary is found.
    pub program: PathBuf,
    /// Where the one is found that has left it.
    pub program_before: PathBuf,
    pub began: Instant,
    /// When everything came to a stand.
    pub stood_still: Instant,
    pub fleet: fleet::Carried,
    pub server: server::Carried,
    pub tables: CarriedTables,
    pub returning: CarriedReturning,
    pub control: Option<Baton>,
    pub dashboard: Option<Baton>,
    /// Who has asked for the upgrade.
    pub asker: Option<Baton>,
    /// Signals that have been heard and not obeyed.
    pub signals: Vec<i32>,
}

as_json!(struct Left {
    form, version, program, program_before, began, stood_still, fleet, server, tables or default,
    returning or default, control, dashboard, asker, signals or default
});

/// What can be read of any form.
struct Label {
    form: u32,
    version: String,
}

as_json!(from struct Label { form, version });

/// Becomes `program` and leaves it everything; returns only why that has not come about. For the
/// thread that starts programs, while all others stand still.
pub fn leave(left: &Left) -> String {
    let prepared = write_down(left).and_then(|state| Ok((state, File::open("/proc/self/exe")?)));
    let (state, before) = match prepared {
        Ok(files) => files,
        Err(e) => return format!("cannot write down what is left: {e}"),
    };
    let numbers = [&state, &before].map(|file| Baton::of(file.as_fd()).number());
    front::sys::carried::keep_open();
    // What a user who is not root may do goes with it.
    identity::pass_capabilities_on(true);
    let why = become_binary(&left.program, numbers, "");
    identity::pass_capabilities_on(false);
    why
}

fn write_down(left: &Left) -> io::Result<File> {
    let mut file = exec::memory_file(c"sidekeeper-left")?;
    file.write_all(json::text(left).as_bytes())?;
    Ok(file)
}

fn become_binary(program: &Path, [state, before]: [i32; 2], why: &str) -> String {
    let pid = std::process::id();
    let mut value = format!("{pid}:{state}:{before}");
    if !why.is_empty() {
        value = format!("{value}:{why}");
    }
    let others = env::vars_os().filter(|(name, _)| name != VARIABLE);
    let environment = others.chain([(VARIABLE.into(), OsString::from(value))]);
    let error = exec::exec(program, env::args_os(), environment);
    format!("{} cannot be executed: {error}", program.display())
}

/// What has been left to this process, not touched yet.
pub struct Found {
    state: i32,
    before: i32,
    /// Why the binary after this one has gone back.
    pub complaint: Option<String>,
    touched: Cell<bool>,
}

impl Found {
    /// None: this process begins by itself.
    pub fn look() -> Option<Found> {
        let value = env::var(VARIABLE).ok()?;
        let mut parts = value.splitn(4, ':');
        let mut number = || parts.next()?.parse::<i32>().ok();
        let (pid, state, before) = (number()?, number()?, number()?);
        let complaint = parts.next().map(str::to_owned);
        // Somebody else's, who has started us.
        (u32::try_from(pid) == Ok(std::process::id())).then_some(Found {
            state,
            before,
            complaint,
            touched: Cell::new(false),
        })
    }

    /// Reads it. Nothing is touched yet.
    pub fn read(&self) -> Result<Left, String> {
        let mut text = Vec::new();
        let file = File::open(format!("/proc/self/fd/{}", self.state));
        let read = file.and_then(|mut file| file.read_to_end(&mut text));
        read.map_err(|e| format!("what was left cannot be read: {e}"))?;
        let understood = |e: Wrong| format!("what was left cannot be understood: {e}");
        let value = json::parse(&text).map_err(understood)?;
        let label = Label::from_json(&value).map_err(understood)?;
        knows(label.form).map_err(|why| format!("{why} (left by {})", label.version))?;
        Left::from_json(&value).map_err(understood)
    }

    /// From now on there is no way back.
    pub fn touch(&self) {
        self.touched.set(true);
        for number in [self.state, self.before] {
            // Closed at once.
            drop(Baton::named(number).claim());
        }
    }

    /// This binary cannot go on: back to the one before, if that is possible still. Returns only if it
    /// is not.
    pub fn go_back(&self, why: &str) {
        if self.complaint.is_none() && !self.touched.get() {
            let before = PathBuf::from(format!("/proc/self/fd/{}", self.before));
            let why = why.replace(['\n', '\0'], " ");
            become_binary(&before, [self.state, self.before], &why);
        }
    }
}

/// Whether this binary can take over what is left in a form.
pub fn knows(form: u32) -> Result<(), String> {
    if form == FORM {
        return Ok(());
    }
    let version = env!("CARGO_PKG_VERSION");
    Err(format!(
        "sidekeeper {version} takes over form {FORM}, not form {form}; restart it instead"
    ))
}

/// How a binary says that it can take over.
pub fn consent() -> String {
    format!(
        "sidekeeper {} can take over form {FORM}",
        env!("CARGO_PKG_VERSION")
    )
}

/// The version of the binary that has said so.
pub fn version_of(consent: &str) -> Option<&str> {
    let (version, form) = consent
        .trim()
        .strip_prefix("sidekeeper ")?
        .split_once(" can take over form ")?;
    (form.parse() == Ok(FORM)).then_some(version)
}

/// Where our binary is found, now and when it has been replaced: as we were called, if that leads to
/// it, else where it was when we were started.
pub fn own_program() -> io::Result<PathBuf> {
    let current = env::current_exe()?;
    let called = env::args_os().next().map(PathBuf::from);
    let found = called.and_then(|called| {
        if called.components().count() > 1 {
            return std::path::absolute(called).ok();
        }
        let path = env::var_os("PATH")?;
        let candidates = env::split_paths(&path).map(|dir| dir.join(&called));
        candidates.into_iter().find(|candidate| candidate.is_file())
    });
    let same = |path: &PathBuf| path.canonicalize().is_ok_and(|real| real == current);
    Ok(found.filter(same).unwrap_or(current))
}

impl Left {
    pub fn take_asker(&mut self) -> Asker {
        match self.asker.take().map(Baton::claim) {
            Some(Ok(socket)) => Asker::resumed(socket.into()),
            Some(Err(_)) | None => Asker::nobody(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_says_what_it_can_do() {
        assert_eq!(version_of(&consent()), Some(env!("CARGO_PKG_VERSION")));
        for other in ["", "sidekeeper 1.2", "sidekeeper 9 can take over form 77"] {
            assert_eq!(version_of(other), None, "{other}");
        }
        assert!(knows(FORM).is_ok() && knows(FORM + 1).is_err());
    }

    #[test]
    fn our_own_program_is_found() {
        assert!(own_program().is_ok_and(|path| path.is_absolute() && path.is_file()));
    }
}
