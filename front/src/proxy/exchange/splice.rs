//! Large uploads of known length: the kernel moves them from the client's socket to the worker's by way
//! of a pipe of the thread, without a copy through our memory. What the worker does not take at
//! once is copied after all, so the pipe is empty when another exchange has its turn.

use super::{Exchange, Upload};
use crate::http::framing;
use crate::proxy::{Client, Context};
use crate::sys::pipe::Pipe;
use crate::sys::socket;
use std::os::fd::AsFd;

/// Less than this is copied: splicing takes more calls.
const SPLICE_BYTES_MIN: usize = 32 * 1024;

impl Exchange {
    /// Moves what waits of the body, if it is enough and the worker has room; false: it is to be
    /// copied, or there is nothing.
    pub(super) fn splice_upload(&mut self, ctx: &mut Context, client: &mut Client) -> bool {
        let Upload::Body {
            decoder,
            to,
            taken,
            held_back,
        } = &mut self.upload
        else {
            return false;
        };
        let left = framing::verbatim_left(decoder, *to).unwrap_or(0);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        // A Unix socket gives what another process wrote as it was written: small pieces.
        if left < SPLICE_BYTES_MIN || !client.intake.readable || client.peer().is_none() {
            return false;
        }
        let Some(upstream) = self.upstream.and_then(|id| ctx.upstreams.get(id)) else {
            return false;
        };
        let worker = upstream.socket.as_fd();
        let (Ok(there), Ok(room)) = (
            socket::unread(client.socket.as_fd()),
            socket::send_room(worker),
        ) else {
            return false;
        };
        // The kernel counts what it needs to hold the bytes as well.
        let want = left.min(there).min(room - room / 8).min(Pipe::BYTES);
        if want < SPLICE_BYTES_MIN {
            return false;
        }
        let Some(mut pipe) = ctx.pipe.take().or_else(|| Pipe::new().ok()) else {
            return false;
        };
        let moved = match pipe.fill(client.socket.as_fd(), want) {
            Ok(moved) if moved > 0 => moved,
            Ok(_) | Err(_) => {
                ctx.pipe = Some(pipe);
                return false;
            }
        };
        client.intake.passed(moved, there);
        *held_back = false;
        *taken = taken.saturating_add(moved as u64);
        framing::pass(decoder, moved);
        let done = decoder.is_done();
        self.record.bytes_in += moved as u64;
        self.farewell = false;
        self.progress_ms = ctx.now_ms;
        let sent = match pipe.drain(worker) {
            Ok(true) => Ok(()),
            Ok(false) => pipe.take().and_then(|rest| upstream.send(&rest).map(drop)),
            Err(e) => Err(e),
        };
        if done {
            self.upload = Upload::Done;
        }
        match sent {
            Ok(()) => ctx.pipe = Some(pipe),
            // The pipe goes with what is in it. The worker may have answered already.
            Err(_) => {
                upstream.intake.readable = true;
                self.reusable = false;
                if !done {
                    self.upload = Upload::Dropped;
                }
            }
        }
        true
    }
}
