//! Requests as they are told to those who ask: which are under way, and what became of one. The data
//! plane knows, and answers within a time that the caller sets; admin and the fleet ask. Nouns only.

use super::Slot;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No worker has had room for it yet.
    Waiting,
    /// A worker has it, or its body is on its way there.
    Sent,
    /// The answer is on its way to the client.
    Answering,
    /// It has become a tunnel, which is relayed.
    Upgraded,
}

impl Stage {
    pub fn word(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Sent => "sent",
            Stage::Answering => "answering",
            Stage::Upgraded => "upgraded",
        }
    }
}

/// One request, under way or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub id: String,
    /// None: a client on a Unix socket.
    pub client: Option<SocketAddr>,
    pub app: Option<Arc<str>>,
    /// The worker that was asked last, if any was, with its number within the app.
    pub slot: Option<Slot>,
    pub instance: Option<u32>,
    pub method: String,
    /// Shortened, and without the secret part of a session.
    pub target: String,
    /// Why this worker, in the word that the access log has; empty: none was chosen.
    pub why: &'static str,
    /// Milliseconds since its head was complete.
    pub age_ms: u64,
    pub progress: Progress,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    UnderWay(Stage),
    Ended {
        /// 0: none was sent, or a worker has sent it out of our sight.
        status: u16,
        /// How, in the word that the access log has.
        end: &'static str,
        took_us: u64,
    },
}

/// The answers of those who were asked.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The oldest first.
    pub requests: Vec<Request>,
    /// Younger ones that were left out, for there are very many.
    pub more: usize,
    /// Pool threads that did not answer in time.
    pub silent: usize,
}

/// Who can be asked about requests. Never called by a pool thread.
pub trait Traffic: Send + Sync {
    /// The requests under way; `of`: only those that this worker has.
    fn under_way(&self, of: Option<Slot>, patience: Duration) -> Heard;
    /// What is known of the request with this id: under way, or among the last ones that ended.
    fn find(&self, id: &str, patience: Duration) -> Heard;
}
