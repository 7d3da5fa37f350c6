//! The words between the supervisor and the state machine of a worker: what has happened, and what is
//! to be done about it. Values only.

use super::Rung;
use front::sys::process::{Exit, Pid};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Spawned {
        pid: Pid,
    },
    SpawnFailed,
    /// It listens: the hook says so, or a probe was accepted.
    Listens {
        life: u32,
    },
    /// The app has sent `"ready"`.
    SaidReady {
        life: u32,
    },
    /// The hook says that the app's server is closed and its requests are done.
    Closed {
        life: u32,
    },
    /// The process has ended; `group_left` if others of its group have not.
    Died {
        pid: Pid,
        exit: Exit,
        group_left: bool,
    },
    /// It has been silent for too long, whatever it does.
    Hung {
        life: u32,
    },
    /// Nobody is left of a group.
    GroupGone {
        group: Pid,
    },
    /// It is to leave without haste.
    Drain,
    /// It is not needed: it is to leave when nobody is left that it serves.
    Spare,
    /// Nobody is left that it serves.
    Drained {
        life: u32,
    },
    /// We are going down.
    Stop,
    /// A new life is wanted in place of this one.
    Restart,
    /// Next rung, at once.
    Hurry,
    /// Time has passed.
    Clock,
}

/// What happens after a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Restart {
        delay: Duration,
    },
    /// It keeps failing: tried at the slow pace. `first` when it was not errored before.
    Errored {
        delay: Duration,
        first: bool,
    },
    /// As the app wants it: pm2's `stop_exit_codes`, or no `autorestart`.
    StaysDown,
    /// It was asked to end.
    WasAsked,
}

/// What the supervisor has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Spawn,
    /// Take this rung with the group.
    Step {
        group: Pid,
        rung: Rung,
    },
    /// Begin to send away those that it serves.
    Drain,
    /// It is ready, `took` after its start.
    TellReady {
        took: Duration,
    },
    /// Kill it: it did not serve in time.
    Condemn {
        group: Pid,
        listens: bool,
    },
    /// Kill it: it closed its server and stayed.
    CondemnClosed {
        group: Pid,
    },
    /// Kill it: it hangs.
    CondemnHung {
        group: Pid,
    },
    /// SIGKILL has not ended it; repeat it.
    Insist {
        group: Pid,
    },
    TellDeath {
        pid: Option<Pid>,
        exit: Option<Exit>,
        next: Next,
    },
}
