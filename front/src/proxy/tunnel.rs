//! A connection after 101: bytes in both directions, whose meaning is not ours.
//!
//! A silent tunnel is parked: two descriptors and a few fields. Small frames are moved by the pool
//! thread when they are ready. A direction that streams, or whose reader does not keep up, makes
//! the tunnel ask for relay threads ([`Outcome::Relay`]); if there are none it goes on here, one
//! outbox at a time.

use super::intake::Intake;
use super::record::Peer;
use super::slab::Id;
use super::upstream::Upstream;
use super::{
    Client, CloseReason, Context, Farewell, MOVE_BYTES, Outbox, Outcome, Record, deadline_ms,
};
use super::{End as Ending, record};
use crate::as_json;
use crate::roster::traffic::{Progress, Request, Stage};
use crate::roster::{Looks, Returning, Slot};
use crate::sys::clock::monotonic_ms;
use crate::sys::socket::{self, End};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A tunnel as its pool thread holds it.
#[derive(Debug)]
pub struct Tunnel {
    pub upstream: Id,
    pub to_worker: Direction,
    pub to_client: Direction,
    /// The pool's milliseconds when a byte last moved.
    pub active_ms: u64,
    open: OpenTunnel,
}

/// How far one direction has come. It only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Its source may send.
    Open,
    /// Its source has ended; what is left has to go out first.
    Ending,
    /// Its reader has been told the end.
    Ended,
}

as_json!(
    enum Direction {
        Open,
        Ending,
        Ended,
    }
);

/// Counts a tunnel for as long as it is open.
#[derive(Debug)]
struct OpenTunnel {
    front: Arc<crate::gauges::FrontGauges>,
    worker: Arc<crate::gauges::WorkerGauges>,
    /// Where its end is noted, if the client may come back.
    returning: Arc<Returning>,
    looks: Looks,
    slot: Slot,
    life: u32,
    /// Its request, with what has moved since.
    farewell: Farewell,
}

impl OpenTunnel {
    fn gauges(&self) -> [&AtomicU32; 2] {
        [&self.front.tunnels, &self.worker.tunnels]
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        for gauge in self.gauges() {
            gauge.fetch_sub(1, Relaxed);
        }
        self.farewell.tell(self.farewell.record.end);
        if self.looks.is_known() {
            self.returning
                .left(self.looks, self.slot, self.life, monotonic_ms());
        }
    }
}

/// A direction that moves this much in one go streams, and is worth two threads.
const STREAM_BYTES: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    /// Nothing more to read now.
    Dry,
    /// The reader does not take more.
    Stuck,
    /// More than [`STREAM_BYTES`] went through at once.
    Streams,
}

impl Tunnel {
    /// Begins a tunnel between `client` and the upstream. What the client sent behind its head
    /// goes first; what the worker sent behind its own is in the client's outbox already.
    pub fn begin(
        ctx: &mut Context,
        client: &mut Client,
        id: Id,
        looks: Looks,
        mut record: Record,
    ) -> Option<Box<Tunnel>> {
        let early = std::mem::take(&mut client.unread);
        // What moved before is told already.
        (record.bytes_in, record.bytes_out, record.head_out) = (early.len() as u64, 0, 0);
        record.end = Ending::Open;
        let upstream = ctx.upstreams.get(id)?;
        upstream.end_exchange();
        upstream.outbox = Outbox::holding(early);
        Tunnel::open(ctx, id, looks, record)
    }

    /// A tunnel over an upstream, open in both directions.
    pub fn open(ctx: &mut Context, id: Id, looks: Looks, record: Record) -> Option<Box<Tunnel>> {
        let farewell = Farewell::new(ctx, record);
        let upstream = ctx.upstreams.get(id)?;
        let open = OpenTunnel {
            front: ctx.front.clone(),
            worker: upstream.gauges.clone(),
            returning: ctx.router.returning().clone(),
            looks,
            slot: upstream.slot,
            life: upstream.life,
            farewell,
        };
        for gauge in open.gauges() {
            gauge.fetch_add(1, Relaxed);
        }
        Some(Box::new(Tunnel {
            upstream: id,
            to_worker: Direction::Open,
            to_client: Direction::Open,
            active_ms: ctx.now_ms,
            open,
        }))
    }

    /// What is known of it.
    pub fn farewell(&self) -> &Farewell {
        &self.open.farewell
    }

    /// What is told of it to those who ask.
    pub fn told(&self, now_us: u64) -> Request {
        let progress = Progress::UnderWay(Stage::Upgraded);
        let Farewell { record, .. } = &self.open.farewell;
        record.told(self.open.farewell.names(), now_us, progress)
    }

    /// So much has moved, by whoever moved it.
    pub fn count(&mut self, to_worker: u64, to_client: u64) {
        let record = &mut self.open.farewell.record;
        record.bytes_in += to_worker;
        record.bytes_out += to_client;
    }

    /// Which side has ended its direction, as soon as one has.
    pub fn note_end(&mut self) {
        let by = match (self.to_worker, self.to_client) {
            (Direction::Open, Direction::Open) => return,
            (Direction::Open, Direction::Ending | Direction::Ended) => Peer::Worker,
            (Direction::Ending | Direction::Ended, _) => Peer::Client,
        };
        self.close(Ending::TunnelBy(by));
    }

    /// How it ends; what was known first counts.
    pub fn close(&mut self, end: record::End) {
        let record = &mut self.open.farewell.record;
        if record.end == Ending::Open {
            record.end = end;
        }
    }

    /// What its client looks like.
    pub fn looks(&self) -> Looks {
        self.open.looks
    }

    /// Moves what is ready in both directions.
    pub fn drive(&mut self, ctx: &mut Context, client: &mut Client) -> Outcome {
        let mut input = std::mem::take(&mut ctx.input);
        let piece = input.get_mut(..MOVE_BYTES).unwrap_or_default();
        let moved = match ctx.upstreams.get(self.upstream) {
            Some(upstream) => self.move_both(client, upstream, piece, ctx.now_ms),
            None => Err(io::Error::from(io::ErrorKind::NotConnected)),
        };
        ctx.input = input;
        let moved = match moved {
            Ok(moved) => moved,
            // A client sees a reset. A Unix socket has none: the worker sees the end.
            Err(_) => {
                if client.gone {
                    self.close(Ending::TunnelBy(Peer::Client));
                }
                return Outcome::Abort(CloseReason::TunnelEnded);
            }
        };
        self.note_end();
        if self.to_worker == Direction::Ended && self.to_client == Direction::Ended {
            return Outcome::Close(CloseReason::TunnelEnded);
        }
        match moved {
            [Moved::Dry, Moved::Dry] => Outcome::Parked,
            [Moved::Dry | Moved::Stuck | Moved::Streams, _] => Outcome::Relay,
        }
    }

    fn move_both(
        &mut self,
        client: &mut Client,
        upstream: &mut Upstream,
        input: &mut [u8],
        now_ms: u64,
    ) -> io::Result<[Moved; 2]> {
        if client.gone && !client.intake.readable {
            return Err(io::Error::from(io::ErrorKind::ConnectionReset));
        }
        let (mut active, mut bytes) = (false, [0, 0]);
        let [up_bytes, down_bytes] = &mut bytes;
        let up = run(
            &mut self.to_worker,
            (&mut active, up_bytes),
            input,
            (&mut client.intake, client.socket.as_fd()),
            (&mut upstream.outbox, upstream.socket.as_fd()),
        );
        let moved = up.and_then(|up| {
            let down = run(
                &mut self.to_client,
                (&mut active, down_bytes),
                input,
                (&mut upstream.intake, upstream.socket.as_fd()),
                (&mut client.outbox, client.socket.as_fd()),
            )?;
            Ok([up, down])
        });
        if active {
            self.active_ms = now_ms;
        }
        let [up_bytes, down_bytes] = bytes;
        self.count(up_bytes, down_bytes);
        moved
    }

    /// No relay thread is to be had: the pool goes on when the slow side can take more.
    pub fn stay(&mut self, ctx: &mut Context, client: &Client) -> Outcome {
        let stuck_worker = ctx
            .upstreams
            .get(self.upstream)
            .is_some_and(|u| !u.outbox.is_empty());
        if stuck_worker
            && ctx
                .upstreams
                .watch_write(&ctx.epoll, self.upstream)
                .is_err()
        {
            return Outcome::Abort(CloseReason::TunnelEnded);
        }
        if stuck_worker || !client.outbox.is_empty() {
            Outcome::Parked
        } else {
            Outcome::Yield
        }
    }

    /// When the tunnel has to end for its silence.
    pub fn deadline_ms(&self, ctx: &mut Context, client: &Client) -> u64 {
        let stuck_worker = ctx
            .upstreams
            .get(self.upstream)
            .is_some_and(|u| !u.outbox.is_empty());
        let timeout = if stuck_worker || !client.outbox.is_empty() {
            ctx.settings.write_timeout
        } else {
            ctx.settings.tunnel_idle_timeout
        };
        let leaves_ms = self.leaves_ms(ctx, client).unwrap_or(u64::MAX);
        deadline_ms(self.active_ms, timeout).min(leaves_ms)
    }

    /// When the tunnel has to end because its worker leaves.
    fn leaves_ms(&self, ctx: &mut Context, client: &Client) -> Option<u64> {
        if ctx.drains.is_empty() {
            return None;
        }
        let upstream = ctx.upstreams.get(self.upstream)?;
        let (slot, life) = (upstream.slot, upstream.life);
        let mut leavers = ctx.drains.iter();
        let leaver = leavers.find(|l| l.slot == slot && l.life == life)?;
        Some(leaver.drain.due_ms(client.token))
    }

    /// The deadline has passed: it is over, unless a slow side has taken something all the same.
    pub fn expire(&mut self, ctx: &mut Context, client: &mut Client) -> Outcome {
        let leaves_ms = self.leaves_ms(ctx, client);
        if leaves_ms.is_some_and(|leaves_ms| leaves_ms <= ctx.now_ms) {
            return Outcome::Close(CloseReason::WorkerLeaves);
        }
        let mut moves = !client.outbox.is_empty() && client.takes();
        if let Some(upstream) = ctx.upstreams.get(self.upstream) {
            moves |= !upstream.outbox.is_empty() && upstream.takes();
        }
        if !moves {
            return Outcome::Close(CloseReason::TunnelIdle);
        }
        self.active_ms = ctx.now_ms;
        Outcome::Parked
    }
}

/// Moves one direction until its source is dry or its reader stuck.
fn run(
    direction: &mut Direction,
    (active, bytes): (&mut bool, &mut u64),
    input: &mut [u8],
    (intake, source): (&mut Intake, BorrowedFd<'_>),
    (outbox, reader): (&mut Outbox, BorrowedFd<'_>),
) -> io::Result<Moved> {
    let mut total = 0;
    loop {
        if !outbox.is_empty() {
            *active |= outbox.flush(reader)? > 0;
            if !outbox.is_empty() {
                return Ok(Moved::Stuck);
            }
        }
        match direction {
            Direction::Open => {}
            Direction::Ending => {
                socket::shutdown(reader, End::Write);
                *direction = Direction::Ended;
                return Ok(Moved::Dry);
            }
            Direction::Ended => return Ok(Moved::Dry),
        }
        if total >= STREAM_BYTES {
            return Ok(Moved::Streams);
        }
        match intake.recv(source, input)? {
            None => return Ok(Moved::Dry),
            Some(0) => *direction = Direction::Ending,
            Some(n) => {
                *active = true;
                total += n;
                *bytes += n as u64;
                outbox.send(reader, input.get(..n).unwrap_or_default())?;
            }
        }
    }
}
