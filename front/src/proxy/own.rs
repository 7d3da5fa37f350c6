//! The answers that the proxy gives itself, in one place: which status, which words in the log.

use crate::http::head::{Delivery, Method};
use crate::http::reply::{self, Answer, Details, Form};

/// An answer of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// The head or the body broke a rule; the status and the rule's words come from `http`.
    Refused(u16, &'static str),
    /// A head did not become complete in time.
    HeadTooSlow,
    /// TRACE or OPTIONS that must not go further. RFC 9110, 7.6.2.
    FinalRecipient { options: bool },
    /// No app has the route.
    NoApp,
    /// The app has no worker that could take the request.
    NoWorker,
    /// As many requests as may wait for the first worker of the app.
    AsleepMax,
    /// The app's first worker did not come in time.
    NotWoken,
    /// Every worker that could take it has a full backlog, or we are out of descriptors.
    Full,
    /// As many connections are open as may be, or as one client may have.
    ConnectionsMax,
    /// As many tunnels are open as may be.
    TunnelsMax,
    /// The request's body is larger than it may be.
    BodyTooLarge,
    /// The request's body stopped coming.
    BodyTooSlow,
    /// The worker said what cannot be passed on before the answer began.
    WorkerBroke(&'static str),
    /// The worker closed the connection before it had answered.
    WorkerDied,
    /// The worker did not answer in time.
    WorkerSilent,
    /// An engine.io session whose worker is gone. `upgrade`: asked for by a WebSocket upgrade.
    SessionGone { upgrade: bool },
}

/// Who is told, and how much.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// Empty: the request has none.
    pub request_id: &'a [u8],
    pub form: Form,
    /// For the operator alone.
    pub details: Option<&'a Details>,
}

/// Seconds after which a client may well try again: a worker needs about that long to start.
const RETRY_AFTER_SECS: u32 = 1;

impl Own {
    pub fn status(self) -> u16 {
        match self {
            Own::Refused(status, _) => status,
            Own::FinalRecipient { options: true } => 200,
            Own::FinalRecipient { options: false } => 405,
            Own::NoApp => 404,
            Own::NoWorker
            | Own::AsleepMax
            | Own::NotWoken
            | Own::Full
            | Own::ConnectionsMax
            | Own::TunnelsMax => 503,
            Own::BodyTooLarge => 413,
            Own::HeadTooSlow | Own::BodyTooSlow => 408,
            Own::WorkerBroke(_) | Own::WorkerDied => 502,
            Own::WorkerSilent => 504,
            Own::SessionGone { .. } => 400,
        }
    }

    /// For the access log.
    pub fn word(self) -> &'static str {
        match self {
            Own::Refused(..) => "refused:request",
            Own::FinalRecipient { .. } => "answered:max-forwards",
            Own::NoApp => "refused:no-app",
            Own::NoWorker => "refused:no-worker",
            Own::ConnectionsMax => "refused:connections",
            Own::TunnelsMax => "refused:tunnels",
            Own::BodyTooLarge => "refused:body",
            Own::SessionGone { .. } => "refused:session-gone",
            Own::HeadTooSlow => "timeout:head",
            Own::BodyTooSlow => "timeout:body",
            Own::Full | Own::NotWoken => "timeout:queue",
            Own::AsleepMax => "refused:asleep",
            Own::WorkerSilent => "timeout:answer",
            Own::WorkerBroke(_) => "worker-broke",
            Own::WorkerDied => "worker-died",
        }
    }

    /// For the log; a client learns the status only.
    pub fn reason(self) -> &'static str {
        match self {
            Own::Refused(_, reason) | Own::WorkerBroke(reason) => reason,
            Own::WorkerDied => "the worker closed before it answered",
            Own::HeadTooSlow => "the head took longer than --head-timeout",
            Own::FinalRecipient { .. } => "Max-Forwards is 0",
            Own::NoApp => "no app has this route",
            Own::NoWorker => "no worker is up",
            Own::AsleepMax => "too many requests wait for the app's first worker",
            Own::NotWoken => "the app's first worker is not there within its listen_timeout",
            Own::Full => {
                "every worker's backlog is full, or its socket is gone from the run directory"
            }
            Own::ConnectionsMax => "too many connections are open",
            Own::TunnelsMax => "too many tunnels are open",
            Own::BodyTooLarge => "the body is larger than --body-bytes-max",
            Own::BodyTooSlow => "the body stopped for longer than --body-timeout",
            Own::WorkerSilent => "the worker was silent for longer than the answer timeout",
            Own::SessionGone { .. } => "the session's worker is gone",
        }
    }

    /// Writes the whole answer.
    pub fn write(self, out: &mut Vec<u8>, how: &Delivery, to: Told<'_>) {
        let answer = |retry_after| Answer {
            status: self.status(),
            close: how.close,
            head: how.head,
            retry_after,
            version: how.version,
            date: how.date,
            request_id: to.request_id,
            form: to.form,
            details: to.details,
        };
        match self {
            Own::SessionGone { upgrade } => {
                reply::write_unknown_session(out, upgrade, &answer(None));
            }
            Own::FinalRecipient { options: true } => {
                reply::write_final_recipient(out, &Method::Options, &answer(None));
            }
            Own::FinalRecipient { options: false } => {
                reply::write_final_recipient(out, &Method::Trace, &answer(None));
            }
            Own::NoWorker
            | Own::AsleepMax
            | Own::NotWoken
            | Own::Full
            | Own::ConnectionsMax
            | Own::TunnelsMax => {
                reply::write(out, &answer(Some(RETRY_AFTER_SECS)));
            }
            Own::Refused(..)
            | Own::HeadTooSlow
            | Own::NoApp
            | Own::BodyTooLarge
            | Own::BodyTooSlow
            | Own::WorkerBroke(_)
            | Own::WorkerDied
            | Own::WorkerSilent => reply::write(out, &answer(None)),
        }
    }
}
