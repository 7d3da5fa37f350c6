//! Bodies that describe themselves: the same number always gives the same bytes, which no two
//! numbers share. Both ends of the soak make and check them. Also the dice that tests throw.

/// A small generator of numbers (xorshift64*), good enough for tests and the same every time.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        // Neighbouring seeds must not give neighbouring numbers, and zero gives nothing at all.
        Dice((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    pub fn throw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        usize::try_from(self.throw() >> 33).unwrap_or(0) % sides.max(1)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.roll(times) == 0
    }
}

/// `length` bytes that belong to `number`.
pub fn filler(number: u64, length: usize) -> Vec<u8> {
    let mut dice = Dice::new(number);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&dice.throw().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_bytes_of_their_own() {
        assert_eq!(filler(7, 100), filler(7, 100));
        assert_eq!(filler(7, 100)[..33], filler(7, 33));
        assert_ne!(filler(7, 16), filler(8, 16));
        assert!(filler(0, 16).iter().any(|byte| *byte != 0));
    }
}
