//! Counters that the data plane writes and the control plane reads. No I/O, no locks.
//!
//! Every gauge is an atomic that is written with `Relaxed` ordering: a reader may see one request
//! more or less than there is, never a torn value. What is raised on entry is lowered in `Drop`
//! by whoever raised it.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// What one worker slot is doing. Written by pool threads, read by the supervisor and admin.
#[derive(Debug, Default)]
pub struct WorkerGauges {
    /// Exchanges that have been sent to the worker and are not finished.
    pub in_flight: AtomicU32,
    /// WebSocket tunnels open to the worker (relayed or parked).
    pub tunnels: AtomicU32,
    /// Client connections that the worker has taken over, and not closed yet.
    pub handed_off: AtomicU32,
    /// Exchanges ever finished, whatever the outcome.
    pub finished: AtomicU64,
    /// Exchanges that the worker broke (we answered 502 or 504, or cut an answer).
    pub broken: AtomicU64,
    /// Messages of its siblings that were passed on to the worker. Written by the ipc thread.
    pub relayed: AtomicU64,
    /// Messages of its siblings that it lost because it did not read. Written by the ipc thread.
    pub lost: AtomicU64,
}

/// What the whole proxy is doing. Written by acceptors and pool threads.
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
}
