//! The last requests that have ended on one pool thread, for whoever asks what became of one. The
//! memory is there from the beginning, so keeping them costs a copy. Those that went wrong are kept
//! apart, for longer: they are the ones that are asked for.

use super::access::{Names, push_target};
use super::record::{End, Record};
use crate::http::id::RequestId;
use crate::roster::traffic::{Progress, RECENT_MAX, Request};
use crate::roster::{Roster, Slot};
use std::net::SocketAddr;

/// What is kept of method and target.
const LINE_BYTES_MAX: usize = 120;

#[derive(Clone, Debug)]
struct Ended {
    id: RequestId,
    client: Option<SocketAddr>,
    app: Option<usize>,
    slot: Option<Slot>,
    why: &'static str,
    status: u16,
    end: End,
    ended_us: u64,
    took_us: u64,
    line: [u8; LINE_BYTES_MAX],
    method_bytes: u8,
    line_bytes: u8,
}

#[derive(Debug)]
struct Ring {
    ended: Vec<Ended>,
    next: usize,
}

/// See the module's text.
#[derive(Debug)]
pub struct Recent {
    all: Ring,
    trouble: Ring,
}

impl Default for Recent {
    fn default() -> Self {
        Recent {
            all: Ring::new(),
            trouble: Ring::new(),
        }
    }
}

impl Ring {
    fn new() -> Self {
        // Pages that nothing was written to cost no memory.
        Ring {
            ended: Vec::with_capacity(RECENT_MAX),
            next: 0,
        }
    }

    /// The place of the next one, to be written over: the oldest one's, once all are taken.
    fn place(&mut self) -> Option<&mut Ended> {
        let place = self.next;
        self.next = (place + 1) % RECENT_MAX;
        if place == self.ended.len() {
            self.ended.push(Ended::NOTHING);
        }
        self.ended.get_mut(place)
    }
}

impl Recent {
    /// Keeps a request that has ended just now.
    pub fn push(&mut self, record: &Record, now_us: u64) {
        let trouble = record.end.is_trouble() || record.status >= 500;
        let ring = if trouble {
            &mut self.trouble
        } else {
            &mut self.all
        };
        let Some(ended) = ring.place() else {
            return;
        };
        ended.id = record.id;
        ended.client = record.client;
        ended.app = record.app;
        ended.slot = record.slot;
        ended.why = record.why;
        ended.status = record.status;
        ended.end = record.end;
        ended.ended_us = now_us;
        ended.took_us = now_us.saturating_sub(record.began_us);
        let method_bytes = copy(&mut ended.line, record.method());
        let rest = ended.line.get_mut(method_bytes..).unwrap_or_default();
        ended.line_bytes = (method_bytes + copy(rest, record.target())) as u8;
        ended.method_bytes = method_bytes as u8;
    }

    /// What became of a request.
    pub fn find(&self, id: RequestId, roster: &Roster, now_us: u64) -> Option<Request> {
        let mut all = self.all.ended.iter().chain(&self.trouble.ended);
        let ended = all.find(|ended| ended.id == id)?;
        Some(ended.told(roster, now_us))
    }
}

/// Copies what fits; how much that was.
fn copy(to: &mut [u8], from: &[u8]) -> usize {
    let bytes = from.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..bytes), from.get(..bytes)) {
        to.copy_from_slice(from);
    }
    bytes
}

impl Ended {
    const NOTHING: Ended = Ended {
        id: RequestId(0),
        client: None,
        app: None,
        slot: None,
        why: "",
        status: 0,
        end: End::Open,
        ended_us: 0,
        took_us: 0,
        line: [0; LINE_BYTES_MAX],
        method_bytes: 0,
        line_bytes: 0,
    };

    fn told(&self, roster: &Roster, now_us: u64) -> Request {
        let names = Names::find(roster, self.app, self.slot);
        let line = self
            .line
            .get(..usize::from(self.line_bytes))
            .unwrap_or_default();
        let (method, target) = line.split_at(line.len().min(usize::from(self.method_bytes)));
        let mut shown = Vec::new();
        push_target(&mut shown, target, true, |out, piece| {
            out.extend_from_slice(piece)
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Request {
            // Who asks knows it.
            id: String::new(),
            client: self.client,
            app: names.app.map(Into::into),
            slot: self.slot,
            instance: names.instance,
            method: text(method),
            target: text(&shown),
            why: self.why,
            age_ms: (now_us.saturating_sub(self.ended_us) + self.took_us) / 1000,
            progress: Progress::Ended {
                status: self.status,
                end: self.end.word(),
                took_us: self.took_us,
            },
        }
    }
}
