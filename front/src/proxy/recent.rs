//! The last requests that have ended on one pool thread, for whoever asks what became of one. Those
//! that went wrong are kept apart, for longer: they are the ones that are asked for.
//!
//! Each is written down in a few dozen bytes behind the one before, in memory that is there from the
//! beginning. When it is full, the older half is given up for the next ones.

use super::access::{Names, push_target};
use super::record::Record;
use crate::http::head::push;
use crate::http::id::RequestId;
use crate::roster::traffic::{Progress, Request};
use crate::roster::{Roster, Slot};
use std::net::{IpAddr, SocketAddr};

/// What is kept of method and target.
const LINE_BYTES_MAX: usize = 120;
/// A half of what is kept of all, and of those that went wrong: some 200 of the ones and 100 of the
/// others at least, if they are like most.
const ALL_BYTES_MAX: usize = 12 * 1024;
const TROUBLE_BYTES_MAX: usize = 8 * 1024;
/// The longest one: its numbers, an address of IPv6, and the line.
const ENTRY_BYTES_MAX: usize = NUMBERS_BYTES + 16 + LINE_BYTES_MAX;

/// See the module's text.
#[derive(Debug)]
pub struct Recent {
    all: Ring,
    trouble: Ring,
    /// Our own words that have occurred; an entry has their places.
    words: Vec<&'static str>,
}

impl Default for Recent {
    fn default() -> Self {
        Recent {
            all: Ring::new(ALL_BYTES_MAX),
            trouble: Ring::new(TROUBLE_BYTES_MAX),
            words: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct Ring {
    young: Vec<u8>,
    old: Vec<u8>,
    bytes_max: usize,
}

impl Ring {
    fn new(bytes_max: usize) -> Self {
        // Written to once, so that the memory is there, and traffic does not look like growth.
        let half = || {
            let mut half = vec![1; bytes_max];
            half.clear();
            half
        };
        Ring {
            young: half(),
            old: half(),
            bytes_max,
        }
    }

    /// Where the next entry goes.
    fn place(&mut self) -> &mut Vec<u8> {
        if self.young.len() + ENTRY_BYTES_MAX > self.bytes_max {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        &mut self.young
    }

    fn entries(&self) -> impl Iterator<Item = Ended<'_>> {
        let mut halves = [&*self.young, &*self.old];
        std::iter::from_fn(move || {
            halves.iter_mut().find_map(|half| {
                let (ended, rest) = Ended::read(half)?;
                *half = rest;
                Some(ended)
            })
        })
    }
}

/// The numbers of an entry, with no room between them, the largest first.
const NUMBERS_BYTES: usize = 3 * 8 + 4 + 3 * 2 + 5;

/// One entry, read.
struct Ended<'a> {
    id: RequestId,
    ended_us: u64,
    took_us: u64,
    slot: Option<Slot>,
    app: Option<usize>,
    status: u16,
    client: Option<SocketAddr>,
    why: u8,
    end: u8,
    method: &'a [u8],
    target: &'a [u8],
}

/// In the place of a slot or an app: there is none.
const NO_SLOT: u32 = u32::MAX;
const NO_APP: u16 = u16::MAX;

impl Recent {
    /// Keeps a request that has ended just now.
    pub fn push(&mut self, record: &Record, now_us: u64) {
        let trouble = record.end.is_trouble() || record.status >= 500;
        let (why, end) = (self.place_of(record.why), self.place_of(record.end.word()));
        let ring = match trouble {
            true => &mut self.trouble,
            false => &mut self.all,
        };
        let took_us = now_us.saturating_sub(record.began_us);
        let app = record
            .app
            .map_or(NO_APP, |app| u16::try_from(app).unwrap_or(NO_APP));
        let line = record.line();
        let line = line.get(..LINE_BYTES_MAX).unwrap_or(line);
        let (address, port) = match record.client {
            Some(client) => (Some(client.ip()), client.port()),
            None => (None, 0),
        };
        let v4;
        let v6;
        let address: &[u8] = match address {
            Some(IpAddr::V4(ip)) => {
                v4 = ip.octets();
                &v4
            }
            Some(IpAddr::V6(ip)) => {
                v6 = ip.octets();
                &v6
            }
            None => &[],
        };
        let out = ring.place();
        let slot = record.slot.map_or(NO_SLOT, |slot| slot.0);
        let lengths = [
            address.len(),
            record.method().len().min(line.len()),
            line.len(),
        ];
        let [address_bytes, method_bytes, line_bytes] = lengths.map(|length| length as u8);
        let mut numbers = [0; NUMBERS_BYTES];
        numbers[0..8].copy_from_slice(&record.id.0.to_le_bytes());
        numbers[8..16].copy_from_slice(&now_us.to_le_bytes());
        numbers[16..24].copy_from_slice(&took_us.to_le_bytes());
        numbers[24..28].copy_from_slice(&slot.to_le_bytes());
        numbers[28..30].copy_from_slice(&app.to_le_bytes());
        numbers[30..32].copy_from_slice(&record.status.to_le_bytes());
        numbers[32..34].copy_from_slice(&port.to_le_bytes());
        let bytes = [why, end, address_bytes, method_bytes, line_bytes];
        numbers[34..].copy_from_slice(&bytes);
        out.extend_from_slice(&numbers);
        push(out, address);
        push(out, line);
    }

    /// The place of one of our words, of which there are some dozens.
    fn place_of(&mut self, word: &'static str) -> u8 {
        let known = self
            .words
            .iter()
            .position(|known| std::ptr::eq(*known, word));
        let place = known.unwrap_or_else(|| {
            self.words.push(word);
            self.words.len() - 1
        });
        u8::try_from(place).unwrap_or(u8::MAX)
    }

    fn word(&self, place: u8) -> &'static str {
        self.words
            .get(usize::from(place))
            .copied()
            .unwrap_or_default()
    }

    /// What became of a request.
    pub fn find(&self, id: RequestId, roster: &Roster, now_us: u64) -> Option<Request> {
        let all = self.all.entries().chain(self.trouble.entries());
        // One that a worker has not taken has ended more than once; the last time counts.
        let its = all.filter(|ended| ended.id == id);
        let ended = its.max_by_key(|ended| ended.ended_us)?;
        Some(self.told(&ended, roster, now_us))
    }

    fn told(&self, ended: &Ended<'_>, roster: &Roster, now_us: u64) -> Request {
        let names = Names::find(roster, ended.app, ended.slot);
        let mut shown = Vec::new();
        push_target(&mut shown, ended.target, true, |out, piece| {
            out.extend_from_slice(piece)
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Request {
            // Who asks knows it.
            id: String::new(),
            client: ended.client,
            app: names.app.map(Into::into),
            slot: ended.slot,
            instance: names.instance,
            method: text(ended.method),
            target: text(&shown),
            why: self.word(ended.why),
            age_ms: (now_us.saturating_sub(ended.ended_us) + ended.took_us) / 1000,
            progress: Progress::Ended {
                status: ended.status,
                end: self.word(ended.end),
                took_us: ended.took_us,
            },
        }
    }
}

impl<'a> Ended<'a> {
    /// The first entry of `bytes`, and what lies behind it.
    fn read(bytes: &'a [u8]) -> Option<(Ended<'a>, &'a [u8])> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (ended_us, rest) = rest.split_first_chunk()?;
        let (took_us, rest) = rest.split_first_chunk()?;
        let (slot, rest) = rest.split_first_chunk()?;
        let (app, rest) = rest.split_first_chunk()?;
        let (status, rest) = rest.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let ([why, end, address_bytes, method_bytes, line_bytes], rest) =
            rest.split_first_chunk()?;
        let (address, rest) = rest.split_at_checked(usize::from(*address_bytes))?;
        let (line, rest) = rest.split_at_checked(usize::from(*line_bytes))?;
        let (method, target) = line.split_at_checked(usize::from(*method_bytes))?;
        let ip = match <[u8; 4]>::try_from(address) {
            Ok(v4) => Some(IpAddr::from(v4)),
            Err(_) => <[u8; 16]>::try_from(address).ok().map(IpAddr::from),
        };
        let slot = Some(u32::from_le_bytes(*slot)).filter(|slot| *slot != NO_SLOT);
        let app = Some(u16::from_le_bytes(*app)).filter(|app| *app != NO_APP);
        let ended = Ended {
            id: RequestId(u64::from_le_bytes(*id)),
            ended_us: u64::from_le_bytes(*ended_us),
            took_us: u64::from_le_bytes(*took_us),
            slot: slot.map(Slot),
            app: app.map(usize::from),
            status: u16::from_le_bytes(*status),
            client: ip.map(|ip| SocketAddr::new(ip, u16::from_le_bytes(*port))),
            why: *why,
            end: *end,
            method,
            target,
        };
        Some((ended, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::id::{Counter, Run};
    use crate::proxy::record::{End, Ids};

    fn ids() -> Ids {
        let run = Run::begin();
        Ids {
            counter: Counter::new(&run, 0),
            run,
        }
    }

    #[test]
    fn what_is_kept_is_told() {
        let (mut recent, mut ids, mut record) = (Recent::default(), ids(), Record::default());
        let clients = [None, Some("10.1.2.3:4"), Some("[2001:db8::1]:5")];
        for client in clients.map(|text| text.map(|text| text.parse().expect("an address"))) {
            record.clear(&mut ids, 5_000, client, None);
            (record.slot, record.app, record.why) = (Some(Slot(7)), Some(3), "rr");
            (record.status, record.end) = (204, End::Completed);
            recent.push(&record, 9_000);
            let found = recent.find(record.id, &Roster::default(), 11_000);
            let found = found.expect("it was kept");
            assert_eq!(
                (found.client, found.slot, found.why),
                (client, Some(Slot(7)), "rr")
            );
            assert_eq!(found.age_ms, 6);
            let progress = Progress::Ended {
                status: 204,
                end: "completed",
                took_us: 4_000,
            };
            assert_eq!(found.progress, progress);
        }
        record.clear(&mut ids, 0, None, None);
        assert_eq!(recent.find(record.id, &Roster::default(), 0), None);
    }

    #[test]
    fn the_last_ones_are_kept_in_the_memory_that_was_there() {
        let (mut recent, mut ids, mut record) = (Recent::default(), ids(), Record::default());
        let room = |ring: &Ring| (ring.young.capacity(), ring.old.capacity());
        let before = (room(&recent.all), room(&recent.trouble));
        let mut trouble = Vec::new();
        for number in 0..10_000u64 {
            record.clear(&mut ids, number, Some(([10, 0, 0, 1], 80).into()), None);
            record.end = End::Completed;
            record.status = match number % 50 {
                0 => {
                    trouble.push(record.id);
                    502
                }
                _ => 200,
            };
            recent.push(&record, number);
            assert!(recent.find(record.id, &Roster::default(), number).is_some());
        }
        assert_eq!((room(&recent.all), room(&recent.trouble)), before);
        for id in trouble.iter().rev().take(100) {
            assert!(recent.find(*id, &Roster::default(), 0).is_some());
        }
        assert!(recent.all.entries().count() > 200);
        assert_eq!(recent.words.len(), 2);
    }
}
