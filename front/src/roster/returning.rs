//! Clients that have just lost their connection to a worker, and will be back. Pure; shared by all
//! pool threads and the ipc thread, a lock for each part of the table, held for one look-up.
//!
//! A client that reconnects says nothing of where it was: its new engine.io handshake has no
//! session. So the *end* of a connection is remembered, under what both handshakes have in common
//! (address and browser), and the next handshake that looks the same takes the memory with it. A
//! memory is good for one client, and a crowd that looks the same (behind one address, in one
//! browser) is balanced as ever: nobody in it could be told from the others. The end of a connection
//! is also exactly when Socket.IO begins to keep its state for the client.

use super::{Key, Slot};
use crate::as_json;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, PoisonError};

/// What two handshakes of one client have in common, hashed; None: nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks(u32);

as_json!(struct Looks(_));

impl Looks {
    pub const UNKNOWN: Looks = Looks(0);

    pub fn is_known(self) -> bool {
        self != Looks::UNKNOWN
    }

    /// As it travels through a worker that has taken the connection over.
    pub fn number(self) -> u32 {
        self.0
    }

    pub fn from_number(number: u32) -> Looks {
        Looks(number)
    }
}

/// How long a client is waited for: what Socket.IO's own recovery waits unless told otherwise.
const RETURN_MS_MAX: u64 = 120_000;
/// So many clients that look the same are a crowd: more than the tabs of a browser.
const CROWD_MIN: usize = 5;
/// Memories in one part of the table; a new one pushes out the oldest.
const LEFT_MAX: usize = 1024;
const SHARDS: usize = 64;

#[derive(Clone, Debug)]
struct Left {
    looks: Looks,
    slot: Slot,
    life: u32,
    at_ms: u64,
}

as_json!(struct Left { looks, slot, life, at_ms });

/// See the module's text.
#[derive(Debug)]
pub struct Returning {
    /// So that nobody can choose a browser's name that looks like another one's.
    key: Key,
    shards: Vec<Mutex<VecDeque<Left>>>,
}

impl Default for Returning {
    fn default() -> Self {
        Returning {
            key: Key::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

/// All that it holds, for the binary that takes over.
#[derive(Debug, Default)]
pub struct Carried {
    key: Key,
    left: Vec<Left>,
}

as_json!(struct Carried { key, left });

impl From<Carried> for Returning {
    fn from(carried: Carried) -> Returning {
        let returning = Returning {
            key: carried.key,
            ..Returning::default()
        };
        for left in carried.left {
            returning.left(left.looks, left.slot, left.life, left.at_ms);
        }
        returning
    }
}

impl Returning {
    pub fn carried(&self) -> Carried {
        let shards = self.shards.iter();
        let left = shards.flat_map(|shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.iter().cloned().collect::<Vec<_>>()
        });
        Carried {
            key: self.key,
            left: left.collect(),
        }
    }

    /// Looks at whatever makes a client.
    pub fn looks(&self, client: impl Hash) -> Looks {
        // Zero means that nothing is known.
        Looks((self.key.hash_one(client) as u32).max(1))
    }

    /// A client's connection to this life has ended.
    pub fn left(&self, looks: Looks, slot: Slot, life: u32, now_ms: u64) {
        if looks.is_known() {
            self.with(looks, now_ms, |shard| {
                if shard.len() >= LEFT_MAX {
                    shard.pop_front();
                }
                shard.push_back(Left {
                    looks,
                    slot,
                    life,
                    at_ms: now_ms,
                });
            });
        }
    }

    /// Where the client that is back was, the latest first; takes the memory, and those that
    /// `serves` says no to.
    pub fn back<T>(
        &self,
        looks: Looks,
        now_ms: u64,
        serves: impl Fn(Slot, u32) -> Option<T>,
    ) -> Option<T> {
        if !looks.is_known() {
            return None;
        }
        self.with(looks, now_ms, |shard| {
            let same = shard.iter().filter(|left| left.looks == looks).count();
            if same >= CROWD_MIN {
                return None;
            }
            while let Some(place) = shard.iter().rposition(|left| left.looks == looks) {
                let left = shard.remove(place)?;
                if let Some(found) = serves(left.slot, left.life) {
                    return Some(found);
                }
            }
            None
        })
    }

    fn with<R>(&self, looks: Looks, now_ms: u64, act: impl FnOnce(&mut VecDeque<Left>) -> R) -> R {
        let place = looks.0 as usize % SHARDS;
        let shard = &self.shards[place];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let too_old = |left: &Left| now_ms.saturating_sub(left.at_ms) > RETURN_MS_MAX;
        while shard.front().is_some_and(too_old) {
            shard.pop_front();
        }
        act(&mut shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Slot = Slot(1);
    const B: Slot = Slot(2);

    fn anyone(slot: Slot, life: u32) -> Option<(Slot, u32)> {
        Some((slot, life))
    }

    #[test]
    fn a_memory_is_good_for_one_client() {
        let table = Returning::default();
        let looks = table.looks(("10.0.0.1", "browser"));
        table.left(looks, A, 1, 0);
        table.left(looks, B, 1, 10);
        assert_eq!(table.back(looks, 20, anyone), Some((B, 1)));
        assert_eq!(table.back(looks, 20, anyone), Some((A, 1)));
        assert_eq!(table.back(looks, 20, anyone), None);
    }

    #[test]
    fn a_crowd_is_not_waited_for() {
        let table = Returning::default();
        let looks = table.looks("all the same");
        for _ in 0..CROWD_MIN {
            table.left(looks, A, 1, 0);
        }
        assert_eq!(table.back(looks, 1, anyone), None);
        assert_eq!(table.back(looks, RETURN_MS_MAX + 1, anyone), None);
        table.left(looks, A, 1, RETURN_MS_MAX + 1);
        assert_eq!(table.back(looks, RETURN_MS_MAX + 2, anyone), Some((A, 1)));
    }

    #[test]
    fn others_and_late_ones_and_those_of_dead_workers_find_nothing() {
        let table = Returning::default();
        let looks = table.looks("one");
        table.left(looks, A, 1, 0);
        assert_eq!(table.back(table.looks("other"), 1, anyone), None);
        assert_eq!(table.back(Looks::UNKNOWN, 1, anyone), None);
        assert_eq!(table.back(looks, RETURN_MS_MAX + 1, anyone), None);
        table.left(looks, A, 1, 0);
        table.left(looks, B, 1, 0);
        let only_a = |slot, life| (slot == A).then_some(life);
        assert_eq!(table.back(looks, 1, only_a), Some(1));
        assert_eq!(table.back(looks, 1, anyone), None, "B's is gone as well");
        table.left(Looks::UNKNOWN, A, 1, 0);
        assert!(
            table
                .shards
                .iter()
                .all(|s| s.lock().is_ok_and(|s| s.is_empty()))
        );
    }

    #[test]
    fn the_table_is_bounded() {
        let table = Returning::default();
        for n in 0..200_000u32 {
            table.left(table.looks(n), A, 1, 0);
        }
        let held: usize = table
            .shards
            .iter()
            .map(|s| s.lock().map(|s| s.len()).unwrap_or(0))
            .sum();
        assert_eq!(held, SHARDS * LEFT_MAX);
    }
}
