//! The secret of a table: what is hashed with it can be neither foreseen nor chosen from outside.
//! std's own keyed hashes cannot be told, and a table has to be read on by the binary that takes
//! this process over.

#![expect(deprecated, reason = "the only hash of std whose key can be told")]

use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, RandomState, SipHasher};

/// A key of SipHash.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Key(u64, u64);

impl Default for Key {
    /// A random one.
    fn default() -> Key {
        let random = || RandomState::new().hash_one(());
        Key(random(), random())
    }
}

impl BuildHasher for Key {
    type Hasher = SipHasher;

    fn build_hasher(&self) -> SipHasher {
        SipHasher::new_with_keys(self.0, self.1)
    }
}
