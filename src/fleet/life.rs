//! Which life of which worker: the key under which its channel, its output and its hand-offs are kept.

use front::as_json;
use front::roster::Slot;

/// One life of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LifeKey {
    pub slot: Slot,
    pub life: u32,
}

as_json!(struct LifeKey { slot, life });

impl LifeKey {
    pub fn token(self) -> u64 {
        (u64::from(self.slot.0) << 32) | u64::from(self.life)
    }
}
