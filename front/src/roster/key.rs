//! The secret of a table: what is hashed with it can be neither foreseen nor chosen from outside.
//! std's own keyed hashes cannot be told, and a table has to be read on by the binary that takes
//! this process over.

#![expect(deprecated, reason = "the only hash of std whose key can be told")]

use crate::json::{FromJson, ToJson, Value, Writer, Wrong};
use std::hash::{BuildHasher, RandomState, SipHasher};

/// A key of SipHash.
#[derive(Clone, Copy, Debug)]
pub struct Key(u64, u64);

impl ToJson for Key {
    fn to_json(&self, to: &mut Writer) {
        (self.0, self.1).to_json(to);
    }
}

impl FromJson for Key {
    fn from_json(value: &Value) -> Result<Key, Wrong> {
        FromJson::from_json(value).map(|(first, second)| Key(first, second))
    }
}

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
