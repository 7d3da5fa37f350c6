//! What is known of one request besides the way of its bytes: who asked for what, which worker has
//! it and why, when what happened, and how it ended. The access log is written from it, `requests`
//! and `why` tell it, our own answers name its id. Owned by the request's exchange, later by its tunnel.

use super::access::{AccessLog, Names, Wall, push_target};
use super::{Again, CloseReason, Context, Own};
use crate::as_json;
use crate::http::head::{ClientSide, Request, Version, push};
use crate::http::id::{self, RequestId, Run};
use crate::json::{FromJson, ToJson, Value, Writer, Wrong};
use crate::roster::Slot;
use crate::roster::traffic::{self, Progress};
use crate::route::Why;
use crate::sys::clock::monotonic_us;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Where a pool thread takes the ids of its requests from.
#[derive(Debug)]
pub struct Ids {
    /// What those of all threads have in common.
    pub run: Run,
    pub counter: id::Counter,
}

/// One of the words of [`Why`].
type Word = &'static str;

/// See the module's text.
#[derive(Debug)]
pub struct Record {
    pub id: RequestId,
    /// The pieces one behind the other; its memory is used again.
    text: Vec<u8>,
    /// Where each piece ends.
    ends: [u32; PIECES],
    pub client: Option<SocketAddr>,
    pub version: Version,
    /// The client is on this machine, and nothing says that it asks for another one.
    pub local: bool,
    /// Index into the roster.
    pub app: Option<usize>,
    /// The worker that was asked last.
    pub slot: Option<Slot>,
    /// Why that one; empty: none was chosen.
    pub why: Word,
    /// When the head was complete, on the pool's clock.
    pub began_us: u64,
    /// When a worker's socket had room for it; 0: not yet.
    pub sent_us: u64,
    /// What connecting took; 0: a connection was there.
    pub connect_us: u64,
    /// When the head of the answer came; 0: not yet.
    pub first_us: u64,
    /// From the client, heads included.
    pub bytes_in: u64,
    /// To the client, heads included.
    pub bytes_out: u64,
    /// Of them, what was before the answer's body.
    pub head_out: u64,
    /// Of the final answer; 0: none.
    pub status: u16,
    pub end: End,
}

as_json!(struct Record or default {
    id, text, ends, client, version, local, app, slot, why, began_us, sent_us, connect_us, first_us,
    bytes_in, bytes_out, head_out, status, end
});

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// It has not.
    #[default]
    Open,
    /// The worker's answer is with the client, whole.
    Completed,
    /// We answered instead.
    Own(Own),
    /// The answer was cut, or nobody waited for it any more.
    Cut(CloseReason),
    /// The worker has answered 101: the tunnel tells the rest.
    Upgraded,
    /// The worker has taken the client's connection over.
    HandedOff,
    /// A tunnel is over, for a reason of ours.
    Tunnel(CloseReason),
    /// A tunnel is over because this side ended it first.
    TunnelBy(Peer),
}

/// An end, as far as the next binary can tell of it.
enum CarriedEnd {
    Open,
    Completed,
    Cut(CloseReason),
    Upgraded,
    HandedOff,
    Tunnel(CloseReason),
    TunnelBy(Peer),
}

as_json!(
    enum CarriedEnd {
        Open,
        Completed,
        Cut(reason),
        Upgraded,
        HandedOff,
        Tunnel(reason),
        TunnelBy(peer),
    }
);

impl ToJson for End {
    fn to_json(&self, to: &mut Writer) {
        CarriedEnd::from(*self).to_json(to);
    }
}

impl FromJson for End {
    fn from_json(value: &Value) -> Result<End, Wrong> {
        CarriedEnd::from_json(value).map(End::from)
    }
}

impl From<End> for CarriedEnd {
    fn from(end: End) -> CarriedEnd {
        match end {
            End::Open => CarriedEnd::Open,
            End::Completed => CarriedEnd::Completed,
            End::Own(_) => CarriedEnd::Cut(CloseReason::Refused),
            End::Cut(reason) => CarriedEnd::Cut(reason),
            End::Upgraded => CarriedEnd::Upgraded,
            End::HandedOff => CarriedEnd::HandedOff,
            End::Tunnel(reason) => CarriedEnd::Tunnel(reason),
            End::TunnelBy(peer) => CarriedEnd::TunnelBy(peer),
        }
    }
}

impl From<CarriedEnd> for End {
    fn from(end: CarriedEnd) -> End {
        match end {
            CarriedEnd::Open => End::Open,
            CarriedEnd::Completed => End::Completed,
            CarriedEnd::Cut(reason) => End::Cut(reason),
            CarriedEnd::Upgraded => End::Upgraded,
            CarriedEnd::HandedOff => End::HandedOff,
            CarriedEnd::Tunnel(reason) => End::Tunnel(reason),
            CarriedEnd::TunnelBy(peer) => End::TunnelBy(peer),
        }
    }
}

/// A word of ours that has been written down.
impl FromJson for Word {
    fn from_json(value: &Value) -> Result<Word, Wrong> {
        let word = String::from_json(value)?;
        let known = Why::words().find(|known| *known == word);
        Ok(known.unwrap_or_default())
    }
}

/// One of the two that we stand between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Client,
    Worker,
}

as_json!(
    enum Peer {
        Client,
        Worker,
    }
);

impl End {
    /// For the access log; README lists them.
    pub fn word(self) -> &'static str {
        match self {
            End::Open => "closed",
            End::Completed => "completed",
            End::Own(own) => own.word(),
            End::Cut(reason) => reason.word(),
            End::Upgraded => "upgraded",
            End::HandedOff => "handed-off",
            End::Tunnel(reason) => reason.word(),
            End::TunnelBy(Peer::Client) => "client-closed",
            End::TunnelBy(Peer::Worker) => "worker-closed",
        }
    }

    /// Whether somebody may ask what went wrong.
    pub fn is_trouble(self) -> bool {
        match self {
            End::Completed | End::Upgraded | End::HandedOff | End::TunnelBy(_) => false,
            End::Open | End::Own(_) | End::Cut(_) | End::Tunnel(_) => true,
        }
    }
}

const ID: usize = 0;
const METHOD: usize = 1;
const TARGET: usize = 2;
const REFERER: usize = 3;
const USER_AGENT: usize = 4;
const ACCEPT: usize = 5;
const PIECES: usize = 6;

/// What of a target is told to those who ask.
const TOLD_BYTES_MAX: usize = 300;
/// Longer ones are cut. A log line is to be read.
const TARGET_BYTES_MAX: usize = 2048;
const ACCEPT_BYTES_MAX: usize = 256;
const REFERER_BYTES_MAX: usize = 1024;
const USER_AGENT_BYTES_MAX: usize = 512;

impl Default for Record {
    fn default() -> Self {
        Record {
            id: RequestId::default(),
            text: Vec::new(),
            ends: [0; PIECES],
            client: None,
            version: Version::Http11,
            local: false,
            app: None,
            slot: None,
            why: "",
            began_us: 0,
            sent_us: 0,
            connect_us: 0,
            first_us: 0,
            bytes_in: 0,
            bytes_out: 0,
            head_out: 0,
            status: 0,
            end: End::Open,
        }
    }
}

impl Record {
    /// Begins anew for a request whose head is complete. Keeps the memory that it has.
    pub fn begin(
        &mut self,
        ids: &mut Ids,
        now_us: u64,
        from: &ClientSide,
        request: &Request<'_, '_>,
        again: Option<&Again>,
    ) {
        let said = &request.said;
        let believed = said
            .request_id
            .filter(|text| from.trusted && id::is_believable(text));
        self.clear(ids, now_us, from.client, believed);
        if let Some(again) = again {
            self.began_us = again.began_us;
            if believed.is_none() {
                self.keep_id(&ids.run, again.id);
            }
        }
        self.version = request.version;
        self.local = !said.forwarded
            && !from.trusted
            && request.version == Version::Http11
            && from
                .peer
                .is_some_and(|peer| peer.ip().to_canonical().is_loopback())
            && names_this_machine(request.host);
        self.bytes_in = request.len as u64;
        self.add(METHOD, request.method.as_str().as_bytes(), usize::MAX);
        let query = request.query.unwrap_or_default();
        push(
            &mut self.text,
            cut(request.path.as_bytes(), TARGET_BYTES_MAX),
        );
        if !query.is_empty() && request.path.len() < TARGET_BYTES_MAX {
            self.text.push(b'?');
            let room = TARGET_BYTES_MAX - request.path.len();
            push(&mut self.text, cut(query.as_bytes(), room));
        }
        self.add(TARGET, b"", 0);
        self.add(REFERER, said.referer, REFERER_BYTES_MAX);
        self.add(USER_AGENT, said.user_agent, USER_AGENT_BYTES_MAX);
        self.add(ACCEPT, said.accept, ACCEPT_BYTES_MAX);
    }

    /// Begins anew for what did not become a request.
    pub fn clear(
        &mut self,
        ids: &mut Ids,
        now_us: u64,
        client: Option<SocketAddr>,
        believed: Option<&[u8]>,
    ) {
        // All fields, which the pattern sees to, without a move of the whole.
        let Record {
            id,
            text,
            ends,
            client: asks,
            version,
            local,
            app,
            slot,
            why,
            began_us,
            sent_us,
            connect_us,
            first_us,
            bytes_in,
            bytes_out,
            head_out,
            status,
            end,
        } = self;
        text.clear();
        match believed {
            Some(foreign) => {
                *id = ids.run.foreign(foreign);
                push(text, foreign);
            }
            None => {
                *id = ids.counter.draw();
                text.extend_from_slice(&ids.run.text(*id));
            }
        }
        *ends = [text.len() as u32; PIECES];
        *asks = client;
        *version = Version::Http11;
        *local = false;
        *app = None;
        *slot = None;
        *why = "";
        *began_us = now_us;
        for number in [sent_us, connect_us, first_us, bytes_in, bytes_out, head_out] {
            *number = 0;
        }
        *status = 0;
        *end = End::Open;
    }

    /// Takes the id that the request had before; there is nothing else yet.
    fn keep_id(&mut self, run: &Run, id: RequestId) {
        self.id = id;
        self.text.clear();
        push(&mut self.text, &run.text(id));
        self.ends = [self.text.len() as u32; PIECES];
    }

    fn add(&mut self, piece: usize, text: &[u8], bytes_max: usize) {
        if !text.is_empty() {
            push(&mut self.text, cut(text, bytes_max));
        }
        // Each piece is shorter than a head.
        self.ends[piece] = self.text.len() as u32;
    }

    fn piece(&self, piece: usize) -> &[u8] {
        let begin = match piece
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
        {
            Some(end) => *end as usize,
            None => 0,
        };
        let end = self.ends.get(piece).map_or(begin, |end| *end as usize);
        self.text.get(begin..end).unwrap_or_default()
    }

    /// Gives back what nobody will ask for any more, before it is kept for long: there may be very
    /// many tunnels. `logged`: a line will be made from it.
    pub fn slim(&mut self, logged: bool) {
        let last = if logged { USER_AGENT } else { TARGET };
        let end = self.ends[last];
        self.text.truncate(end as usize);
        self.text.shrink_to_fit();
        for piece in self.ends.iter_mut().skip(last) {
            *piece = end;
        }
    }

    /// The id's text: ours, or the client's if it is believed.
    pub fn id_text(&self) -> &[u8] {
        self.piece(ID)
    }

    /// Method and target without a blank between them, as they are kept.
    pub fn line(&self) -> &[u8] {
        let [id, target] = [self.ends[ID], self.ends[TARGET]].map(|end| end as usize);
        self.text.get(id..target).unwrap_or_default()
    }

    /// Empty: no request could be read.
    pub fn method(&self) -> &[u8] {
        self.piece(METHOD)
    }

    /// Path and query, as they came.
    pub fn target(&self) -> &[u8] {
        self.piece(TARGET)
    }

    pub fn accept(&self) -> &[u8] {
        self.piece(ACCEPT)
    }

    pub fn referer(&self) -> &[u8] {
        self.piece(REFERER)
    }

    pub fn user_agent(&self) -> &[u8] {
        self.piece(USER_AGENT)
    }

    /// It holds no request: that has gone elsewhere.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The request as it is told to those who ask.
    pub fn told(&self, names: Names<'_>, now_us: u64, progress: Progress) -> traffic::Request {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut target = Vec::new();
        push_target(&mut target, self.target(), true, |out, piece| {
            out.extend_from_slice(piece)
        });
        target.truncate(TOLD_BYTES_MAX);
        traffic::Request {
            id: text(self.id_text()),
            client: self.client,
            app: names.app.map(Into::into),
            slot: self.slot,
            instance: names.instance,
            method: text(self.method()),
            target: text(&target),
            why: self.why,
            age_ms: now_us.saturating_sub(self.began_us) / 1000,
            progress,
        }
    }
}

/// A record whose end is seen on another thread than the one that it was made on, with what is
/// needed to tell of it there.
#[derive(Debug, Default)]
pub struct Farewell {
    pub record: Record,
    app: Option<Arc<str>>,
    instance: Option<u32>,
    log: Option<AccessLog>,
}

impl Farewell {
    pub fn new(ctx: &Context, mut record: Record) -> Self {
        record.slim(ctx.settings.access.is_some());
        let roster = ctx.router.roster();
        let app = record.app.and_then(|index| roster.apps.get(index));
        Farewell {
            app: app.map(|app| app.name.clone()),
            instance: Names::of(roster, &record).instance,
            log: ctx.settings.access.clone(),
            record,
        }
    }

    pub fn names(&self) -> Names<'_> {
        Names {
            app: self.app.as_deref(),
            instance: self.instance,
        }
    }

    /// It is over.
    pub fn tell(&mut self, end: End) {
        self.record.end = end;
        if let Some(log) = &self.log {
            let now_us = monotonic_us();
            let mut wall = Wall::look(now_us);
            log.write(
                &mut Vec::new(),
                &mut wall,
                &self.record,
                self.names(),
                now_us,
            );
        }
    }
}

fn cut(text: &[u8], bytes_max: usize) -> &[u8] {
    text.get(..bytes_max).unwrap_or(text)
}

/// Whether a `Host` can only mean this machine. A page of elsewhere that has its own name lead here
/// is asked for by that name.
fn names_this_machine(host: &str) -> bool {
    // Each request of a client on this machine is asked, and most names are seen through at once.
    if !matches!(host.as_bytes(), [b'l' | b'L' | b'[' | b'1', ..]) {
        return false;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_name_it() {
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1",
            "127.8.0.1:1",
            "[::1]:80",
            "[::1]",
        ] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "10.0.0.1",
            "[::2]:80",
            "127.0.0.1.nip.io",
        ] {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
