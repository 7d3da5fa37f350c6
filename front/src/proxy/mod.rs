//! The data plane: carries exchanges and tunnels between clients and workers. Runs on the pool
//! threads, which never wait: everything here reads and writes what is ready and returns.

pub mod access;
pub mod carry;
pub mod client;
pub mod exchange;
pub mod handoff;
mod intake;
mod learn;
mod outbox;
mod own;
pub mod recent;
pub mod record;
pub mod slab;
pub mod spare;
pub mod tunnel;
pub mod upstream;

pub use client::{Again, Client};
pub use exchange::Exchange;
pub use handoff::HandOff;
pub use outbox::Outbox;
pub use own::{Own, Told};
pub use record::{End, Farewell, Record};
pub use tunnel::Tunnel;

use crate::as_json;
use crate::gauges::FrontGauges;
use crate::http::date::Date;
use crate::http::forwarded::TrustedProxy;
use crate::http::head::HeadLimits;
use crate::roster::{Drain, Slot};
use crate::route::Router;
use crate::sys::epoll::Epoll;
use crate::sys::pipe::Pipe;
use access::{AccessLog, Names, Wall};
use recent::Recent;
use record::Ids;
use spare::Spare;
use std::sync::Arc;
use std::time::Duration;
use upstream::Upstreams;

/// The limits and deadlines of the data plane. A duration of zero switches a deadline off.
#[derive(Clone, Debug)]
pub struct Settings {
    pub head: HeadLimits,
    /// Bytes of a request's body, 0: any. Beyond: 413.
    pub body_bytes_max: u64,
    /// From a head's first byte to its last. Beyond: 408.
    pub head_timeout: Duration,
    /// Between two bytes of a request's body. Beyond: 408.
    pub body_timeout: Duration,
    /// For room in a worker's backlog. Beyond: 503.
    pub connect_timeout: Duration,
    /// Between two bytes of an answer; an app may set its own. Beyond: 504, or a cut answer.
    pub answer_timeout: Duration,
    /// An open connection without a request. Beyond: closed.
    pub keepalive_timeout: Duration,
    /// A tunnel without a byte in either direction. Beyond: closed.
    pub tunnel_idle_timeout: Duration,
    /// A peer that takes no byte of what we have for it. Beyond: closed, or 504.
    pub write_timeout: Duration,
    /// How long a client that has ended its direction is waited for, since one that has left
    /// looks the same. Beyond: closed.
    pub half_close_timeout: Duration,
    /// An unused connection to a worker. Shorter than the workers' own patience.
    pub upstream_idle_timeout: Duration,
    /// Requests of one client connection, 0: any. The last one's answer says `close`.
    pub requests_per_connection_max: u32,
    /// Tunnels open at once, over all threads. Beyond: 503.
    pub tunnels_max: u32,
    /// Proxies in front of us whose word about the client is taken.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Who is told why we answer instead of a worker.
    pub error_details: Audience,
    /// Workers' answers carry the id as well.
    pub request_id_to_client: bool,
    /// Where ended requests are written to.
    pub access: Option<AccessLog>,
}

/// Who gets the details of our own answers: the reason, and the worker's last lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Who asks from this machine, and not for somebody else.
    #[default]
    Local,
    All,
    Nobody,
}

/// What a pool thread owns and lends to all that it drives.
#[derive(Debug)]
pub struct Context {
    pub epoll: Epoll,
    pub router: Router,
    pub upstreams: Upstreams,
    pub settings: Arc<Settings>,
    pub front: Arc<FrontGauges>,
    /// Milliseconds of `CLOCK_MONOTONIC`; taken once a batch.
    pub now_ms: u64,
    /// Workers whose tunnels are to end one by one; mostly none.
    pub drains: Vec<Leaver>,
    /// The same moment in microseconds: what times of requests are measured by.
    pub now_us: u64,
    /// The number of this pool thread.
    pub thread: usize,
    pub ids: Ids,
    /// What time it is elsewhere, and the date of answers; looked at anew each second.
    pub wall: Wall,
    pub date: Date,
    /// Requests that have ended.
    pub recent: Recent,
    /// Where lines of the access log are composed.
    pub line: Vec<u8>,
    /// Where reads go. Taken out while its bytes are looked at, and put back.
    pub input: Vec<u8>,
    /// Where large uploads go through; None until the first one.
    pub pipe: Option<Pipe>,
    /// Where heads are composed.
    pub output: Vec<u8>,
    pub spare: Spare,
}

/// A worker that leaves and whose tunnels the relay has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaver {
    pub slot: Slot,
    pub life: u32,
    pub drain: Drain,
}

impl Context {
    /// A request has ended: remembers it, and writes its line.
    pub fn note(&mut self, record: &Record) {
        if record.is_empty() {
            return;
        }
        self.recent.push(record, self.now_us);
        if let Some(log) = &self.settings.access {
            let names = Names::of(self.router.roster(), record);
            log.write(&mut self.line, &mut self.wall, record, names, self.now_us);
        }
    }
}

/// How much one read takes. Large enough that a MiB costs few calls, small enough for the cache.
pub const INPUT_BYTES: usize = 64 * 1024;

/// The most of a body or a tunnel that is passed on in one go. TCP over the loopback interface carries
/// 65,483 bytes in a segment: of 64 KiB the last 53 bytes would travel alone, which halves the rate.
pub const MOVE_BYTES: usize = 60 * 1024;
const _: () = assert!(MOVE_BYTES <= INPUT_BYTES);

/// Milliseconds on the pool's clock when `timeout` after `from_ms` is over; `u64::MAX`: never.
pub fn deadline_ms(from_ms: u64, timeout: Duration) -> u64 {
    if timeout.is_zero() {
        return u64::MAX;
    }
    // Without the 128 bits of `Duration::as_millis`: each step of each connection asks.
    let millis = timeout.as_secs().saturating_mul(1000);
    from_ms.saturating_add(millis.saturating_add(u64::from(timeout.subsec_millis())))
}

/// How much of an answer of ours is its head.
pub fn head_bytes(answer: &[u8]) -> u64 {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|bytes| bytes == END);
    end.map_or(0, |at| (at + END.len()) as u64)
}

/// What became of something that was driven. The connection does what it says; nothing else
/// decides the socket's fate.
#[derive(Debug)]
pub enum Outcome {
    /// It waits for an event.
    Parked,
    /// It could go on, but has had its turn.
    Yield,
    /// The answer is complete and the connection can carry another request.
    Done,
    /// Everything is complete and the connection ends.
    Close(CloseReason),
    /// The answer is complete, but the client may still be sending: what it sends is read away
    /// for a moment, so that the answer is not lost to a reset.
    Linger(CloseReason),
    /// Something is incomplete: the connection is reset, so that it cannot look complete.
    Abort(CloseReason),
    /// The worker has answered 101.
    Tunnel(Box<Tunnel>),
    /// A tunnel streams or is stuck: relay threads take over.
    Relay,
    /// The worker is to have the client's connection itself.
    HandOff(Box<HandOff>),
}

/// Why a connection ends; logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client asked for it, or speaks HTTP/1.0.
    ClientAsked,
    /// The client closed its side between requests.
    ClientClosed,
    /// The client left, or reset, while something was under way.
    ClientLeft,
    /// We refused the request.
    Refused,
    /// The answer came before the request was complete.
    AnsweredEarly,
    /// The answer's end is the connection's end.
    UntilClose,
    /// The connection carried as many requests as it may.
    RequestsMax,
    /// The worker closed in the middle of its answer.
    WorkerDied,
    /// The worker said what cannot be passed on after the answer had begun.
    WorkerBroke,
    /// No request came in time.
    KeepaliveTimeout,
    /// The client took no byte in time.
    WriteTimeout,
    /// The worker was silent in the middle of an answer.
    AnswerTimeout,
    /// The tunnel's worker leaves.
    WorkerLeaves,
    /// A tunnel was silent.
    TunnelIdle,
    /// A tunnel ended on both sides.
    TunnelEnded,
    /// We are shutting down.
    Shutdown,
    /// The system ran out of something.
    System,
}

as_json!(
    enum CloseReason {
        ClientAsked,
        ClientClosed,
        ClientLeft,
        Refused,
        AnsweredEarly,
        UntilClose,
        RequestsMax,
        WorkerDied,
        WorkerBroke,
        KeepaliveTimeout,
        WriteTimeout,
        AnswerTimeout,
        WorkerLeaves,
        TunnelIdle,
        TunnelEnded,
        Shutdown,
        System,
    }
);

impl CloseReason {
    /// For the access log, where it says why something was cut.
    pub fn word(self) -> &'static str {
        match self {
            CloseReason::ClientAsked
            | CloseReason::ClientClosed
            | CloseReason::AnsweredEarly
            | CloseReason::UntilClose
            | CloseReason::RequestsMax => "closed",
            CloseReason::ClientLeft => "client-left",
            CloseReason::Refused => "refused:body",
            CloseReason::WorkerDied => "worker-died",
            CloseReason::WorkerBroke => "worker-broke",
            CloseReason::KeepaliveTimeout => "timeout:keepalive",
            CloseReason::WriteTimeout => "timeout:write",
            CloseReason::AnswerTimeout => "timeout:answer",
            CloseReason::WorkerLeaves => "worker-leaves",
            CloseReason::TunnelIdle => "timeout:tunnel",
            CloseReason::TunnelEnded => "tunnel-ended",
            CloseReason::Shutdown => "shutdown",
            CloseReason::System => "out-of-resources",
        }
    }
}
