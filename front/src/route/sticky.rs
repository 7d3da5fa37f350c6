//! Which worker owns a session: a bounded, expiring table that all pool threads share.
//!
//! Sessions are learned from answers and looked up by a keyed hash of app and session, so the
//! table holds no secret of a client and no string. Each shard keeps two generations: a look-up
//! moves an entry to the young one, and when the young one is full or old enough, the old one is
//! dropped whole. That bounds memory and forgets what nobody asks for, with no timer per entry.
//! A shard's lock is held for one look-up, never across I/O.

use crate::as_json;
use crate::roster::{Key, Looks, Slot};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The life that owns a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Home {
    pub slot: Slot,
    pub life: u32,
}

/// A session as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub home: Home,
    /// When it was learned, in seconds of the monotonic clock. With the key beside it this takes no
    /// room of its own.
    pub learned_s: u32,
    /// What the client that opened the session looks like; takes no room of its own either.
    pub looks: Looks,
}

/// A table of sessions.
#[derive(Debug)]
pub struct Sessions {
    /// Two keyed hashes make 128 bits: a client can neither find nor force a collision.
    keys: [Key; 2],
    shards: Vec<Mutex<Shard>>,
    /// Entries of one generation of one shard.
    generation_max: usize,
    generation_ms: u64,
}

#[derive(Debug, Default)]
struct Shard {
    young: Generation,
    old: Generation,
    turned_ms: u64,
}

type Generation = HashMap<u128, Known, BuildHasherDefault<AlreadyHashed>>;

/// Enough that two pool threads seldom meet in one.
const SHARDS: usize = 64;

/// All sessions of a table, for the binary that takes over.
#[derive(Debug, Default)]
pub struct Carried {
    keys: [Key; 2],
    /// Each as its key and what is known of it, in whole records.
    old: Vec<u8>,
    young: Vec<u8>,
}

as_json!(struct Carried { keys, old, young });

/// A session among those that are carried: its key, slot, life, when it was learned, its looks.
const RECORD_BYTES: usize = 32;

fn write_record(out: &mut Vec<u8>, key: u128, known: &Known) {
    out.extend_from_slice(&key.to_le_bytes());
    let Known {
        home,
        learned_s,
        looks,
    } = known;
    for number in [home.slot.0, home.life, *learned_s, looks.number()] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn read_record(record: &[u8]) -> Option<(u128, Known)> {
    let (key, rest) = record.split_first_chunk()?;
    let mut numbers = rest.chunks_exact(4).map(|bytes| {
        let bytes = <[u8; 4]>::try_from(bytes).unwrap_or_default();
        u32::from_le_bytes(bytes)
    });
    let mut number = || numbers.next();
    let known = Known {
        home: Home {
            slot: Slot(number()?),
            life: number()?,
        },
        learned_s: number()?,
        looks: Looks::from_number(number()?),
    };
    Some((u128::from_le_bytes(*key), known))
}

impl Sessions {
    pub fn carried(&self) -> Carried {
        let mut carried = Carried {
            keys: self.keys,
            ..Carried::default()
        };
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, known) in &shard.old {
                write_record(&mut carried.old, *key, known);
            }
            for (key, known) in &shard.young {
                write_record(&mut carried.young, *key, known);
            }
        }
        carried
    }

    /// Knows what an earlier table knew, as far as there is room.
    pub fn take_over(&mut self, carried: &Carried, now_ms: u64) {
        self.keys = carried.keys;
        let generations = [(&carried.old, false), (&carried.young, true)];
        for (records, young) in generations {
            for (key, known) in records.chunks(RECORD_BYTES).filter_map(read_record) {
                let mut shard = self
                    .shard(key)
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                shard.turned_ms = now_ms;
                let generation = match young {
                    true => &mut shard.young,
                    false => &mut shard.old,
                };
                if generation.len() < self.generation_max {
                    generation.insert(key, known);
                }
            }
        }
    }

    /// A table of at most `sessions_max` sessions, each forgotten between `idle` and twice `idle`
    /// after it was last asked for.
    pub fn new(sessions_max: usize, idle: Duration) -> Self {
        Sessions {
            keys: Default::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            generation_max: (sessions_max / SHARDS / 2).max(1),
            generation_ms: u64::try_from(idle.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Remembers, or corrects, the owner of a session.
    pub fn learn(&self, app: &str, session: &[u8], home: Home, looks: Looks, now_ms: u64) {
        self.with(app, session, now_ms, |shard, key| {
            let before = shard.old.remove(&key);
            let before = shard.young.get(&key).copied().or(before);
            let known = before.filter(|known| known.home == home);
            let learned_s = u32::try_from(now_ms / 1000).unwrap_or(u32::MAX);
            let known = known.unwrap_or(Known {
                home,
                learned_s,
                looks,
            });
            shard.young.insert(key, known);
        });
    }

    /// The owner of a session, if it was learned and not forgotten.
    pub fn find(&self, app: &str, session: &[u8], now_ms: u64) -> Option<Known> {
        self.with(app, session, now_ms, |shard, key| {
            if let Some(known) = shard.young.get(&key) {
                return Some(*known);
            }
            let known = shard.old.remove(&key)?;
            shard.young.insert(key, known);
            Some(known)
        })
    }

    /// What is known of a session, for somebody who only wants to know: it is not kept any longer
    /// for that.
    pub fn look(&self, app: &str, session: &[u8]) -> Option<Known> {
        let (shard, key) = self.locate(app, session);
        let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shard.young.get(&key).or_else(|| shard.old.get(&key));
        known.copied()
    }

    /// How many sessions each life owns. Looks at every entry, one shard after the other.
    pub fn count(&self) -> HashMap<Home, usize> {
        let mut counts = HashMap::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for known in shard.young.values().chain(shard.old.values()) {
                *counts.entry(known.home).or_default() += 1;
            }
        }
        counts
    }

    fn locate(&self, app: &str, session: &[u8]) -> (&Mutex<Shard>, u128) {
        let [low, high] = self.keys.each_ref().map(|k| k.hash_one((app, session)));
        let key = u128::from(high) << 64 | u128::from(low);
        (self.shard(key), key)
    }

    fn shard(&self, key: u128) -> &Mutex<Shard> {
        let place = usize::try_from(key % SHARDS as u128).unwrap_or(0);
        &self.shards[place]
    }

    fn with<R>(
        &self,
        app: &str,
        session: &[u8],
        now_ms: u64,
        act: impl FnOnce(&mut Shard, u128) -> R,
    ) -> R {
        let (shard, key) = self.locate(app, session);
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full = shard.young.len() >= self.generation_max;
        if full || now_ms.saturating_sub(shard.turned_ms) >= self.generation_ms {
            shard.old = std::mem::take(&mut shard.young);
            shard.turned_ms = now_ms;
        }
        act(&mut shard, key)
    }
}

/// Passes a key on that is a hash already.
#[derive(Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        // The low half chose the shard, so the high half spreads better within it.
        self.0 = (key >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Home = Home {
        slot: Slot(7),
        life: 3,
    };

    #[test]
    fn learns_and_finds_for_each_app_apart() {
        let table = Sessions::new(1000, Duration::from_secs(10));
        table.learn("chat", b"abc", HOME, Looks::UNKNOWN, 0);
        assert_eq!(table.find("chat", b"abc", 1).map(|k| k.home), Some(HOME));
        assert_eq!(table.find("chat", b"abd", 1), None);
        assert_eq!(table.find("other", b"abc", 1), None);
    }

    #[test]
    fn tells_since_when_and_how_many() {
        let table = Sessions::new(100_000, Duration::from_secs(10));
        table.learn("a", b"one", HOME, Looks::UNKNOWN, 2000);
        table.learn("a", b"one", HOME, Looks::UNKNOWN, 9000);
        table.learn("a", b"two", HOME, Looks::UNKNOWN, 5000);
        assert_eq!(
            table.look("a", b"one").map(|known| known.learned_s),
            Some(2)
        );
        assert_eq!(table.look("b", b"one"), None);
        assert_eq!(table.count().get(&HOME), Some(&2));
        let moved = Home { life: 4, ..HOME };
        table.learn("a", b"one", moved, Looks::UNKNOWN, 9000);
        let known = Known {
            home: moved,
            learned_s: 9,
            looks: Looks::UNKNOWN,
        };
        assert_eq!(table.look("a", b"one"), Some(known));
    }

    #[test]
    fn forgets_what_nobody_asks_for() {
        // Large enough that only time turns the generations, wherever the hashes fall.
        let table = Sessions::new(100_000, Duration::from_secs(10));
        table.learn("a", b"asked", HOME, Looks::UNKNOWN, 0);
        table.learn("a", b"silent", HOME, Looks::UNKNOWN, 0);
        for second in 1..40 {
            assert_eq!(
                table.find("a", b"asked", second * 1000).map(|k| k.home),
                Some(HOME)
            );
            // Another session in every shard keeps the generations turning.
            for i in 0..2000u32 {
                table.learn("b", &i.to_le_bytes(), HOME, Looks::UNKNOWN, second * 1000);
            }
        }
        assert_eq!(table.find("a", b"silent", 40_000), None);
    }

    #[test]
    fn another_table_takes_it_over() {
        let idle = Duration::from_secs(10);
        let table = Sessions::new(100_000, idle);
        let looks = Looks::from_number(7);
        table.learn("a", b"old", HOME, looks, 20_000);
        // Turns the generations of every shard.
        for i in 0..2000u32 {
            table.learn("b", &i.to_le_bytes(), HOME, Looks::UNKNOWN, 30_000);
        }
        let text = crate::json::text(&table.carried());
        let carried = crate::json::read(text.as_bytes()).expect("comes back");
        let mut next = Sessions::new(100_000, idle);
        next.take_over(&carried, 31_000);
        for (app, session) in [("a", &b"old"[..]), ("b", &7u32.to_le_bytes())] {
            assert_eq!(next.look(app, session), table.look(app, session));
        }
        assert_eq!(next.look("a", b"old").map(|known| known.looks), Some(looks));
        assert_eq!(next.find("a", b"new", 32_000), None);
        let mut small = Sessions::new(SHARDS * 4, idle);
        small.take_over(&carried, 31_000);
        assert!(
            small
                .count()
                .get(&HOME)
                .is_some_and(|held| *held <= SHARDS * 4)
        );
    }

    #[test]
    fn stays_within_its_bound() {
        let table = Sessions::new(SHARDS * 4, Duration::from_secs(10));
        for i in 0..100_000u32 {
            table.learn("a", &i.to_le_bytes(), HOME, Looks::UNKNOWN, 0);
        }
        let held: usize = table
            .shards
            .iter()
            .map(|s| s.lock().map(|s| s.young.len() + s.old.len()).unwrap_or(0))
            .sum();
        assert!(held <= SHARDS * 4, "{held}");
    }
}
