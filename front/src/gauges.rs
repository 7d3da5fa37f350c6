//! Counters that the data plane writes and the control plane reads. No I/O, no locks.
//!
//! Every gauge is an atomic that is written with `Relaxed` ordering: a reader may see one request
//! more or less than there is, never a torn value. What is raised on entry is lowered in `Drop`
//! by whoever raised it.

pub mod answers;

use crate::as_json;
use answers::Answers;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// What one app has done. Written by pool threads, read by admin.
#[derive(Debug, Default)]
pub struct AppGauges {
    /// Answers of its workers, from a request's head to its answer's.
    pub answers: Answers,
    /// Requests that wait because the app has no worker yet.
    pub waiting: AtomicU32,
}

/// What one worker slot is doing. Written by pool threads, read by the supervisor and admin.
#[derive(Debug, Default)]
pub struct WorkerGauges {
    /// Those of its app, the same for all its workers.
    pub app: Arc<AppGauges>,
    /// The worker's own answers, which its app's count as well. A KiB for each pool thread that has
    /// had one.
    pub answers: Answers,
    /// Exchanges that have been sent to the worker and are not finished.
    pub in_flight: AtomicU32,
    /// WebSocket tunnels open to the worker (relayed or parked).
    pub tunnels: AtomicU32,
    /// Client connections that the worker has taken over, and not closed yet.
    pub handed_off: AtomicU32,
    /// What was sent before is not sent again elsewhere: one of it may have made the worker hang.
    /// Milliseconds of `CLOCK_MONOTONIC`, as all times here; written by the supervisor.
    pub suspects_until_ms: AtomicU64,
    /// When bytes of an answer have last come from it.
    pub heard_ms: AtomicU64,
    /// Exchanges ever finished, whatever the outcome.
    pub finished: AtomicU64,
    /// Exchanges that the worker broke (we answered 502 or 504, or cut an answer).
    pub broken: AtomicU64,
    /// Messages of its siblings that were passed on to the worker. Written by the ipc thread.
    pub relayed: AtomicU64,
    /// Messages of its siblings that it lost because it did not read. Written by the ipc thread.
    pub lost: AtomicU64,
    /// Lines that it printed and that found no room on their way. Written by the logs thread.
    pub lines_dropped: AtomicU64,
}

as_json!(struct WorkerGauges or default {
    suspects_until_ms, heard_ms, finished, broken, relayed, lost, lines_dropped
});

/// What the whole proxy is doing. Written by pool threads.
#[derive(Debug, Default)]
pub struct FrontGauges {
    /// Client connections open now.
    pub connections: AtomicU32,
    /// Client connections ever accepted.
    pub accepted: AtomicU64,
    /// Connections refused because a limit was reached.
    pub refused: AtomicU64,
    /// Requests whose head has been read and accepted.
    pub requests: AtomicU64,
    /// Tunnels open now.
    pub tunnels: AtomicU32,
    /// Answers of our own, in the place of a worker's.
    pub own: OwnAnswers,
}

as_json!(struct FrontGauges or default { accepted, refused, requests, own });

/// Statuses that our own answers have.
const OWN_STATUSES: [u16; 15] = [
    200, 400, 404, 405, 408, 413, 414, 417, 431, 500, 501, 502, 503, 504, 505,
];

/// Our own answers by status. Written by pool threads.
#[derive(Debug, Default)]
pub struct OwnAnswers([AtomicU64; OWN_STATUSES.len()]);

as_json!(struct OwnAnswers(_));

impl OwnAnswers {
    pub fn count(&self, status: u16) {
        let found = OWN_STATUSES
            .iter()
            .zip(&self.0)
            .find(|(own, _)| **own == status);
        if let Some((_, counter)) = found {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// How often each status was answered.
    pub fn counts(&self) -> impl Iterator<Item = (u16, u64)> {
        OWN_STATUSES
            .iter()
            .zip(&self.0)
            .map(|(status, counter)| (*status, counter.load(Relaxed)))
    }
}
