//! An upgrade, as the conductor has it done: the other binary is tried out while everything goes on;
//! if it says that it can take over, connections on their way to workers arrive, everything comes to a
//! stand and is written down, and the main thread becomes the other binary. Whatever is in the way of
//! that is told, and everything goes on as if nothing had been.

use super::conductor::Conductor;
use super::takeover::{self, FORM, Left, TRIAL_WORD, VARIABLE};
use crate::admin::Asker;
use front::channel::Receiver;
use front::sys::carried;
use log::warn;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// What workers may take to say that they have taken the connections that were offered to them: their
/// leases are over then.
const SETTLE: Duration = Duration::from_secs(3);
/// What the last lines of log files may take to be written.
const FLUSH: Duration = Duration::from_millis(500);
/// What the other threads may take to stand still and to write everything down.
const HAND_OVER: Duration = Duration::from_secs(20);
/// How often everything is asked to stand still, and the pause between.
const ATTEMPTS: u32 = 3;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// An upgrade whose binary is being tried out.
pub struct Upgrade {
    program: PathBuf,
    asker: Asker,
    trial: Receiver<Result<String, String>>,
}

impl Upgrade {
    pub fn give_up(self, why: &str) {
        self.asker.refuse(why);
    }
}

impl Conductor {
    /// Begins to try a binary out.
    pub fn begin_upgrade(&mut self, program: Option<PathBuf>, asker: Asker) {
        if self.upgrade.is_some() {
            return asker.refuse("another upgrade is under way");
        }
        let program = program.unwrap_or_else(|| self.program.clone());
        asker.say(&format!("trying {} out", program.display()));
        let mut words = vec![OsString::from(TRIAL_WORD), FORM.to_string().into()];
        words.extend(std::env::args_os().skip(1));
        let trial = self.fleet.try_out(program.clone(), words, VARIABLE);
        self.upgrade = Some(Upgrade {
            program,
            asker,
            trial,
        });
    }

    /// Where the outcome of the trial comes.
    pub fn trial(&self) -> Receiver<Result<String, String>> {
        let upgrade = self.upgrade.as_ref();
        upgrade.map_or_else(Receiver::never, |upgrade| upgrade.trial.clone())
    }

    /// The trial is over.
    pub fn go_on_upgrading(&mut self, said: Result<String, String>) {
        let Some(upgrade) = self.upgrade.take() else {
            return;
        };
        let Upgrade { program, asker, .. } = upgrade;
        let shown = program.display();
        let version = match &said {
            Ok(said) => match takeover::version_of(said) {
                Some(version) => version,
                None => return asker.refuse(&format!("{shown} is no sidekeeper: `{said}`")),
            },
            Err(why) => return asker.refuse(&format!("{shown}: {why}")),
        };
        asker.say(&format!("sidekeeper {version} can take over"));
        let mut outcome = self.hand_over(&program, &asker);
        for _ in 1..ATTEMPTS {
            if let Err(Hindrance::Passing(why)) = &outcome {
                warn!("upgrade: {why}; trying again");
                thread::sleep(ATTEMPT_PAUSE);
                outcome = self.hand_over(&program, &asker);
            }
        }
        match outcome {
            Err(Hindrance::Lasting(why) | Hindrance::Passing(why)) => asker.refuse(&why),
        }
    }

    /// Returns only if it has not come about, and then everything goes on.
    fn hand_over(
        &mut self,
        program: &std::path::Path,
        asker: &Asker,
    ) -> Result<Infallible, Hindrance> {
        let settled = self.fleet.shut_doors().recv_timeout(SETTLE);
        let outcome = match settled {
            Ok(()) => self.stand_still_and_leave(program, asker),
            Err(_) => {
                let why = "a worker does not say whether it takes a connection";
                Err(Hindrance::Passing(why.to_owned()))
            }
        };
        self.fleet.open_doors();
        if let Err(e) = self.signals.go_on() {
            warn!("cannot listen to signals again: {e}");
        }
        outcome
    }

    fn stand_still_and_leave(
        &mut self,
        program: &std::path::Path,
        asker: &Asker,
    ) -> Result<Infallible, Hindrance> {
        // An attempt before this one may have ended half-way.
        carried::forget();
        let stood_still = Instant::now();
        let (still, server) = self.server.stand_still().map_err(Hindrance::Passing)?;
        // From here on signals wait for the other binary.
        let signals = self.signals.pause();
        if signals
            .iter()
            .any(|signal| [SIGTERM, SIGINT].contains(signal))
        {
            return Err(Hindrance::Lasting("a stop has been asked for".to_owned()));
        }
        asker.say(&format!(
            "handing over {} connections, of which {} are WebSockets, and {} workers",
            server.connections.len(),
            server.tunnels(),
            self.fleet.snapshot().len()
        ));
        if let Some(access) = &self.access {
            access.settle(FLUSH);
        }
        let (control, dashboard) = self.admin.batons();
        let (tables, returning) = (self.server.tables().clone(), self.board.returning().clone());
        let (began, journal, written) = (self.began, self.journal.clone(), self.written.clone());
        let (program, asker) = (program.to_owned(), asker.baton());
        let program_before = self.program.clone();
        let leave = move |fleet| {
            let left = Left {
                form: FORM,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                program,
                program_before,
                began,
                stood_still,
                fleet,
                server,
                tables: tables.carried(),
                returning: returning.carried(),
                control: Some(control),
                dashboard,
                asker,
                signals,
            };
            // What cannot be written in time is lost, as at any end.
            let _ = journal.flush(FLUSH);
            written.wait(FLUSH);
            takeover::leave(&left)
        };
        let why = self
            .fleet
            .hand_over(Box::new(leave))
            .recv_timeout(HAND_OVER);
        drop(still);
        Err(match why {
            Ok(fleet_refusal) => fleet_refusal.into(),
            Err(_) => Hindrance::Lasting("the supervisor does not answer".to_owned()),
        })
    }
}

/// Why an upgrade has not come about.
enum Hindrance {
    /// It may be gone in a moment.
    Passing(String),
    Lasting(String),
}

impl From<String> for Hindrance {
    fn from(why: String) -> Hindrance {
        Hindrance::Lasting(why)
    }
}
