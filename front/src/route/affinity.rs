//! The affinity cookie: binds a browser to a worker for an app that asks for it. Pure.
//!
//! The cookie's value says which worker, but only to us: a number that is used once, and the slot
//! hidden under a keyed hash of it, with a check. No table is needed, no look-up, and nobody can
//! tell how many workers there are, or make a value that leads to one of them.

use crate::as_json;
use crate::roster::{Key, Slot};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Makes and reads the values of this run, over all the binaries that it has had. Shared by all pool threads.
#[derive(Debug, Default)]
pub struct Affinity {
    keys: [Key; 3],
    count: AtomicU64,
}

as_json!(struct Affinity { keys, count });

/// Two numbers of 64 bits in hexadecimal digits.
const VALUE_BYTES: usize = 32;

impl Clone for Affinity {
    fn clone(&self) -> Affinity {
        Affinity {
            keys: self.keys,
            count: AtomicU64::new(self.count.load(Relaxed)),
        }
    }
}

impl Affinity {
    /// A new value that leads to `slot`.
    pub fn value(&self, app: &str, slot: Slot) -> String {
        let [once, ..] = &self.keys;
        let once = once.hash_one(self.count.fetch_add(1, Relaxed));
        let hidden = (u64::from(slot.0) << 32 | self.check(app, once, slot)) ^ self.mask(app, once);
        format!("{once:016x}{hidden:016x}")
    }

    /// The slot that a value leads to, if it is one of ours for this app.
    pub fn slot(&self, app: &str, value: &str) -> Option<Slot> {
        let digits = value
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if value.len() != VALUE_BYTES || !digits {
            return None;
        }
        let (once, hidden) = value.split_at_checked(VALUE_BYTES / 2)?;
        let once = u64::from_str_radix(once, 16).ok()?;
        let shown = u64::from_str_radix(hidden, 16).ok()? ^ self.mask(app, once);
        let slot = Slot(u32::try_from(shown >> 32).ok()?);
        (shown & u64::from(u32::MAX) == self.check(app, once, slot)).then_some(slot)
    }

    fn mask(&self, app: &str, once: u64) -> u64 {
        let [_, mask, _] = &self.keys;
        mask.hash_one((app, once))
    }

    fn check(&self, app: &str, once: u64, slot: Slot) -> u64 {
        let [_, _, check] = &self.keys;
        check.hash_one((app, once, slot)) & u64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_leads_to_its_slot_and_looks_like_nothing() {
        let affinity = Affinity::default();
        let one = affinity.value("chat", Slot(3));
        let two = affinity.value("chat", Slot(3));
        assert_ne!(one, two);
        assert_eq!(affinity.slot("chat", &one), Some(Slot(3)));
        assert_eq!(affinity.slot("chat", &two), Some(Slot(3)));
        assert_eq!(affinity.slot("other", &one), None);
        assert_eq!(
            Affinity::default().slot("chat", &one),
            None,
            "of another run"
        );
    }

    #[test]
    fn what_is_not_ours_leads_nowhere() {
        let affinity = Affinity::default();
        let value = affinity.value("a", Slot(1));
        let changed = value.replacen(
            |_: char| true,
            if value.starts_with('0') { "1" } else { "0" },
            1,
        );
        let half = format!("{}+{}", &value[..16], &value[17..]);
        for wrong in [
            "",
            "0",
            &value[1..],
            &value.to_uppercase(),
            &half,
            &changed,
            "\u{e4}",
        ] {
            if wrong != value {
                assert_eq!(affinity.slot("a", wrong), None, "{wrong}");
            }
        }
    }
}
