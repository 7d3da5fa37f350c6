//! The access log: one line for each request that has ended, in one of a few formats. A line is
//! composed on the thread that knows of the end, mostly a pool thread, and given to a sink that
//! never waits. What others may have chosen (targets, names of browsers) is escaped, so that no
//! request can write a line of its own, or speak to a terminal.

use super::Record;
use crate::http::date::Date;
use crate::http::head::{Version, push, push_decimal, push_ip};
use crate::roster::{App, Roster, Slot, Worker};
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// All that is known, for people and for grep.
    #[default]
    Text,
    /// NCSA's common format.
    Common,
    /// The same with `Referer` and `User-Agent`.
    Combined,
    /// All that is known, an object a line.
    Json,
}

/// Takes finished lines, without their newline. Never waits; what it has no room for it counts.
pub trait Sink: Send + Sync {
    fn line(&self, line: &[u8]);
}

/// The access log of the process, shared by all threads that see requests end.
#[derive(Clone)]
pub struct AccessLog {
    pub format: Format,
    /// Targets are logged with their query.
    pub query: bool,
    pub sink: Arc<dyn Sink>,
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessLog({:?})", self.format)
    }
}

/// What time it is on the wall when the monotonic clock says something. Asked for once a second; the
/// text of the last second is kept.
#[derive(Clone, Debug)]
pub struct Wall {
    offset_us: u64,
    second: u64,
    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    date: [u8; 29],
}

impl Wall {
    /// `now_us` is this moment on the monotonic clock.
    pub fn look(now_us: u64) -> Wall {
        // A clock before 1970 gives 1970: a wrong date is all that it can do.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_us = since_1970.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0));
        let second = unix_us / 1_000_000;
        Wall {
            offset_us: unix_us.saturating_sub(now_us),
            second,
            date: *Date::from_unix_secs(second).text(),
        }
    }

    /// The date that answers have.
    pub fn date(&self) -> Date {
        Date::from_unix_secs(self.second)
    }

    /// The date at that moment, and its milliseconds.
    fn at(&mut self, moment_us: u64) -> (&[u8; 29], u64) {
        let unix_ms = moment_us.saturating_add(self.offset_us) / 1000;
        if unix_ms / 1000 != self.second {
            self.second = unix_ms / 1000;
            self.date = *Date::from_unix_secs(self.second).text();
        }
        (&self.date, unix_ms % 1000)
    }
}

/// The names of a request's app and worker, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    pub app: Option<&'a str>,
    pub instance: Option<u32>,
}

impl<'a> Names<'a> {
    pub fn of(roster: &'a Roster, record: &Record) -> Names<'a> {
        Names::find(roster, record.app, record.slot)
    }

    pub fn find(roster: &'a Roster, app: Option<usize>, slot: Option<Slot>) -> Names<'a> {
        let app = app.and_then(|index| roster.apps.get(index));
        let worker = app.zip(slot).and_then(|(app, slot)| worker(app, slot));
        Names {
            app: app.map(|app| &*app.name),
            instance: worker.map(|worker| worker.instance),
        }
    }
}

fn worker(app: &App, slot: Slot) -> Option<&Worker> {
    app.workers.iter().find(|worker| worker.slot == slot)
}

impl AccessLog {
    /// Composes the line of a request that ended at `now_us` in `line`, and gives it away.
    pub fn write(
        &self,
        line: &mut Vec<u8>,
        wall: &mut Wall,
        record: &Record,
        names: Names<'_>,
        now_us: u64,
    ) {
        line.clear();
        match self.format {
            Format::Text => self.text(line, wall, record, names, now_us),
            Format::Common => self.common(line, wall, record),
            Format::Combined => {
                self.common(line, wall, record);
                for said in [record.referer(), record.user_agent()] {
                    line.extend_from_slice(b" \"");
                    push_escaped(line, if said.is_empty() { b"-" } else { said });
                    line.push(b'"');
                }
            }
            Format::Json => self.json(line, wall, record, names, now_us),
        }
        self.sink.line(line);
    }

    fn text(
        &self,
        line: &mut Vec<u8>,
        wall: &mut Wall,
        record: &Record,
        names: Names<'_>,
        now_us: u64,
    ) {
        push_iso(line, wall, record.began_us);
        line.push(b' ');
        push_client(line, record, true);
        line.push(b' ');
        push_escaped(line, or_dash(record.id_text()));
        line.push(b' ');
        push_worker(line, names);
        line.push(b' ');
        push(line, or_dash(record.why.as_bytes()));
        line.push(b' ');
        push_status(line, record.status);
        line.push(b' ');
        push(line, record.end.word().as_bytes());
        line.extend_from_slice(b" \"");
        self.push_request(line, record);
        line.push(b'"');
        for (name, time) in times(record, now_us) {
            line.push(b' ');
            push(line, name);
            line.push(b'=');
            push_ms(line, time, b"-");
        }
        line.extend_from_slice(b" in=");
        push_decimal(line, record.bytes_in);
        line.extend_from_slice(b" out=");
        push_decimal(line, record.bytes_out);
    }

    fn common(&self, line: &mut Vec<u8>, wall: &mut Wall, record: &Record) {
        push_client(line, record, false);
        line.extend_from_slice(b" - - [");
        let (date, _) = wall.at(record.began_us);
        let part = |from: usize, to: usize| date.get(from..to).unwrap_or_default();
        push(line, part(5, 7));
        line.push(b'/');
        push(line, part(8, 11));
        line.push(b'/');
        push(line, part(12, 16));
        line.push(b':');
        push(line, part(17, 25));
        line.extend_from_slice(b" +0000] \"");
        self.push_request(line, record);
        line.extend_from_slice(b"\" ");
        push_status(line, record.status);
        line.push(b' ');
        push_decimal(line, record.bytes_out.saturating_sub(record.head_out));
    }

    fn json(
        &self,
        line: &mut Vec<u8>,
        wall: &mut Wall,
        record: &Record,
        names: Names<'_>,
        now_us: u64,
    ) {
        line.extend_from_slice(b"{\"time\":\"");
        push_iso(line, wall, record.began_us);
        line.extend_from_slice(b"\",\"client\":");
        match record.client {
            Some(client) => {
                line.push(b'"');
                push_ip(line, client.ip());
                line.extend_from_slice(b"\",\"port\":");
                push_decimal(line, u64::from(client.port()));
            }
            None => line.extend_from_slice(b"null,\"port\":null"),
        }
        line.extend_from_slice(b",\"request_id\":");
        push_json(line, record.id_text());
        line.extend_from_slice(b",\"app\":");
        push_json(line, names.app.unwrap_or_default().as_bytes());
        line.extend_from_slice(b",\"worker\":");
        match (names.app, names.instance) {
            (Some(_), Some(_)) => {
                line.push(b'"');
                push_worker(line, names);
                line.push(b'"');
            }
            (None, _) | (_, None) => line.extend_from_slice(b"null"),
        }
        line.extend_from_slice(b",\"why\":");
        push_json(line, record.why.as_bytes());
        line.extend_from_slice(b",\"method\":");
        push_json(line, record.method());
        line.extend_from_slice(b",\"target\":");
        if record.target().is_empty() {
            line.extend_from_slice(b"null");
        } else {
            line.push(b'"');
            self.push_target(line, record.target(), push_json_text);
            line.push(b'"');
        }
        line.extend_from_slice(b",\"version\":");
        push(
            line,
            match record.version {
                Version::Http10 => b"\"1.0\"",
                Version::Http11 => b"\"1.1\"",
            },
        );
        line.extend_from_slice(b",\"status\":");
        match record.status {
            0 => line.extend_from_slice(b"null"),
            status => push_decimal(line, u64::from(status)),
        }
        line.extend_from_slice(b",\"end\":");
        push_json(line, record.end.word().as_bytes());
        for (name, time) in times(record, now_us) {
            line.extend_from_slice(b",\"");
            push(line, name);
            line.extend_from_slice(b"_ms\":");
            push_ms(line, time, b"null");
        }
        line.extend_from_slice(b",\"bytes_in\":");
        push_decimal(line, record.bytes_in);
        line.extend_from_slice(b",\"bytes_out\":");
        push_decimal(line, record.bytes_out);
        line.extend_from_slice(b",\"referer\":");
        push_json(line, record.referer());
        line.extend_from_slice(b",\"user_agent\":");
        push_json(line, record.user_agent());
        line.push(b'}');
    }

    /// `GET /path HTTP/1.1`, or a dash where no request could be read.
    fn push_request(&self, line: &mut Vec<u8>, record: &Record) {
        if record.method().is_empty() {
            return line.push(b'-');
        }
        push_escaped(line, record.method());
        line.push(b' ');
        self.push_target(line, record.target(), push_escaped);
        push(
            line,
            match record.version {
                Version::Http10 => b" HTTP/1.0",
                Version::Http11 => b" HTTP/1.1",
            },
        );
    }

    fn push_target(&self, line: &mut Vec<u8>, target: &[u8], write: fn(&mut Vec<u8>, &[u8])) {
        push_target(line, target, self.query, write);
    }
}

/// How much of a session's id is shown: enough to find its lines, too little to take it over.
const SID_BYTES_SHOWN: usize = 4;

/// A target without what is secret in it: who knows a whole `sid` can speak for its client.
pub fn push_target(
    out: &mut Vec<u8>,
    target: &[u8],
    query: bool,
    write: impl Fn(&mut Vec<u8>, &[u8]),
) {
    let Some(mark) = target.iter().position(|byte| *byte == b'?') else {
        return write(out, target);
    };
    write(out, target.get(..mark).unwrap_or_default());
    if !query {
        return;
    }
    let pairs = target.get(mark + 1..).unwrap_or_default();
    for (index, pair) in pairs.split(|byte| *byte == b'&').enumerate() {
        out.push(if index == 0 { b'?' } else { b'&' });
        match pair.strip_prefix(b"sid=") {
            Some(sid) if sid.len() > SID_BYTES_SHOWN => {
                out.extend_from_slice(b"sid=");
                write(out, sid.get(..SID_BYTES_SHOWN).unwrap_or_default());
                out.extend_from_slice(b"***");
            }
            Some(_) | None => write(out, pair),
        }
    }
}

/// Name and microseconds of each phase; None: it was not reached.
fn times(record: &Record, now_us: u64) -> [(&'static [u8], Option<u64>); 4] {
    let since =
        |moment_us: u64, from_us: u64| (moment_us > 0).then(|| moment_us.saturating_sub(from_us));
    [
        (b"queue", since(record.sent_us, record.began_us)),
        (
            b"connect",
            since(record.sent_us, 0).map(|_| record.connect_us),
        ),
        (b"first", since(record.first_us, record.began_us)),
        (b"total", since(now_us, record.began_us)),
    ]
}

fn or_dash(text: &[u8]) -> &[u8] {
    if text.is_empty() { b"-" } else { text }
}

fn push_client(line: &mut Vec<u8>, record: &Record, port: bool) {
    let Some(client) = record.client else {
        return line.extend_from_slice(b"unix:");
    };
    let bracket = port && client.ip().to_canonical().is_ipv6();
    if bracket {
        line.push(b'[');
    }
    push_ip(line, client.ip());
    if bracket {
        line.push(b']');
    }
    if port {
        line.push(b':');
        push_decimal(line, u64::from(client.port()));
    }
}

fn push_worker(line: &mut Vec<u8>, names: Names<'_>) {
    push_escaped(line, or_dash(names.app.unwrap_or_default().as_bytes()));
    line.push(b'.');
    match names.instance {
        Some(instance) => push_decimal(line, u64::from(instance)),
        None => line.push(b'-'),
    }
}

fn push_status(line: &mut Vec<u8>, status: u16) {
    match status {
        0 => line.push(b'-'),
        status => push_decimal(line, u64::from(status)),
    }
}

/// Milliseconds with three decimals.
fn push_ms(line: &mut Vec<u8>, time_us: Option<u64>, none: &[u8]) {
    let Some(time_us) = time_us else {
        return push(line, none);
    };
    push_decimal(line, time_us / 1000);
    line.push(b'.');
    push_three(line, time_us % 1000);
}

fn push_three(line: &mut Vec<u8>, number: u64) {
    let digit = |place: u64| b'0' + (number / place % 10) as u8;
    line.extend_from_slice(&[digit(100), digit(10), digit(1)]);
}

/// `1994-11-06T08:49:37.123Z`
fn push_iso(line: &mut Vec<u8>, wall: &mut Wall, moment_us: u64) {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let (date, ms) = wall.at(moment_us);
    let part = |from: usize, to: usize| date.get(from..to).unwrap_or_default();
    let name = part(8, 11);
    let month = MONTHS
        .chunks(3)
        .position(|month| month == name)
        .unwrap_or(0)
        + 1;
    push(line, part(12, 16));
    line.push(b'-');
    line.extend_from_slice(&[b'0' + (month / 10) as u8, b'0' + (month % 10) as u8, b'-']);
    push(line, part(5, 7));
    line.push(b'T');
    push(line, part(17, 25));
    line.push(b'.');
    push_three(line, ms);
    line.push(b'Z');
}

/// What stands in quotes as it is.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        table[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    table
};

/// Plain bytes as they are, all others by `escape`.
fn push_with(out: &mut Vec<u8>, text: &[u8], escape: impl Fn(&mut Vec<u8>, u8)) {
    let mut rest = text;
    while let Some(end) = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]) {
        let (plain, behind) = rest.split_at(end);
        push(out, plain);
        let Some((byte, behind)) = behind.split_first() else {
            return;
        };
        escape(out, *byte);
        rest = behind;
    }
    push(out, rest);
}

fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)])
}

/// As Apache and nginx do it: `\"`, `\\`, `\x1b`.
fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    push_quoted(out, text, b"\\x");
}

/// The inside of a JSON string. Bytes above ASCII become the letters that they are in Latin-1: no
/// header says which encoding it has, and so every byte can be told again.
fn push_json_text(out: &mut Vec<u8>, text: &[u8]) {
    push_quoted(out, text, b"\\u00");
}

/// What must not stand between quotes as it is: either gets a backslash, other bytes `number` and two digits.
fn push_quoted(out: &mut Vec<u8>, text: &[u8], number: &[u8]) {
    push_with(out, text, |out, byte| match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        byte => {
            out.extend_from_slice(number);
            out.extend_from_slice(&hex(byte));
        }
    });
}

/// A JSON string; nothing is null.
fn push_json(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() {
        return out.extend_from_slice(b"null");
    }
    out.push(b'"');
    push_json_text(out, text);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
