//! Request ids: a number for each request that no other request of any run has, and its text.
//!
//! The text begins with the run and ends with the number, so an id of another run is known as such.
//! The numbers are a counter, mixed: who sees two of them learns nothing of what lay between.
//! Making one costs a few instructions; each pool thread counts for itself.

use crate::as_json;
use std::hash::{BuildHasher, RandomState};

/// Letters of an id: the digits and letters of Crockford's base 32, which nobody misreads.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const RUN_LETTERS: usize = 7;
const NUMBER_LETTERS: usize = 13;
/// Bytes of an id's text.
pub const ID_BYTES: usize = RUN_LETTERS + NUMBER_LETTERS;
/// A longer id of a client's is not believed.
const FOREIGN_BYTES_MAX: usize = 128;
/// A thread counts in the low bits, its number stands above them.
const COUNTER_BITS: u32 = 48;

/// One request's number, unique within its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

as_json!(struct RequestId(_));

/// What all ids of one run have in common. Shared by all threads that make or read ids.
#[derive(Clone, Debug)]
pub struct Run {
    letters: [u8; RUN_LETTERS],
    salt: u64,
    key: RandomState,
}

impl Run {
    /// A new run; no two are alike.
    pub fn begin() -> Self {
        let key = RandomState::new();
        let mut letters = [0; RUN_LETTERS];
        write(key.hash_one("run"), &mut letters);
        Run {
            letters,
            salt: key.hash_one("salt"),
            key,
        }
    }

    /// The id's text.
    pub fn text(&self, id: RequestId) -> [u8; ID_BYTES] {
        let mut text = [0; ID_BYTES];
        let (run, number) = text.split_at_mut(RUN_LETTERS);
        run.copy_from_slice(&self.letters);
        write(id.0, number);
        text
    }

    /// The number of the request that is called so, if there is one: by us, or by its client.
    pub fn number(&self, text: &str) -> RequestId {
        let ours = self.read(text);
        ours.unwrap_or_else(|| self.foreign(text.as_bytes()))
    }

    /// The number of an id that came from a client and is believed.
    pub fn foreign(&self, text: &[u8]) -> RequestId {
        RequestId(self.key.hash_one(text))
    }

    /// The number in an id of this run; None: it is none of them.
    fn read(&self, text: &str) -> Option<RequestId> {
        let number = text.as_bytes().strip_prefix(&self.letters)?;
        if number.len() != NUMBER_LETTERS {
            return None;
        }
        let mut value: u64 = 0;
        for byte in number {
            let digit = LETTERS.iter().position(|letter| letter == byte)?;
            if value >> (u64::BITS - 5) != 0 {
                return None;
            }
            value = value << 5 | digit as u64;
        }
        Some(RequestId(value))
    }
}

/// Whether a text has the form of an id, of whichever run.
pub fn looks_like_one(text: &str) -> bool {
    text.len() == ID_BYTES && text.bytes().all(|byte| LETTERS.contains(&byte))
}

/// Whether an id of a client's can be passed on and logged as it is.
pub fn is_believable(text: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=FOREIGN_BYTES_MAX).contains(&text.len()) && text.iter().all(plain)
}

/// Gives out the ids of one pool thread.
#[derive(Debug)]
pub struct Counter {
    salt: u64,
    next: u64,
}

impl Counter {
    /// No other thread of the run has this number.
    pub fn new(run: &Run, thread: usize) -> Self {
        Counter {
            salt: run.salt,
            next: (thread as u64) << COUNTER_BITS,
        }
    }

    pub fn draw(&mut self) -> RequestId {
        self.next = self.next.wrapping_add(1);
        RequestId(mixed(self.next ^ self.salt))
    }
}

/// The finalizer of SplitMix64: no two numbers become the same one.
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The lowest bits of a number, five a letter.
fn write(mut number: u64, letters: &mut [u8]) {
    for letter in letters.iter_mut().rev() {
        *letter = LETTERS[(number & 31) as usize];
        number >>= 5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_different_and_can_be_read_again() {
        let run = Run::begin();
        let mut seen = HashSet::new();
        for thread in [0, 1, 63] {
            let mut counter = Counter::new(&run, thread);
            for _ in 0..1000 {
                let id = counter.draw();
                let text = String::from_utf8(run.text(id).to_vec()).expect("letters");
                assert!(looks_like_one(&text), "{text}");
                assert_eq!(run.read(&text), Some(id));
                assert!(seen.insert(text));
            }
        }
        let other = Run::begin();
        let text = String::from_utf8(other.text(RequestId(7)).to_vec()).expect("letters");
        assert!(looks_like_one(&text));
        assert_eq!(run.read(&text), None, "another run's");
    }

    #[test]
    fn what_is_no_id_is_not_read_as_one() {
        let run = Run::begin();
        let good = String::from_utf8(run.text(RequestId(u64::MAX)).to_vec()).expect("letters");
        let mut too_large = good.clone();
        too_large.replace_range(RUN_LETTERS..=RUN_LETTERS, "z");
        for text in ["", "x", &good[1..], &too_large, &good.to_uppercase(), "ü"] {
            assert_eq!(run.read(text), None, "{text}");
        }
    }

    #[test]
    fn only_plain_ids_of_clients_are_believed() {
        for text in ["a", "7b0c-44:x/y=", &"a".repeat(128)] {
            assert!(is_believable(text.as_bytes()), "{text}");
        }
        for text in ["", "a b", "a\"", "a\u{1b}", "<b>", "ü", &"a".repeat(129)] {
            assert!(!is_believable(text.as_bytes()), "{text}");
        }
    }
}
