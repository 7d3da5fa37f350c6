//! Inputs from inputs: bytes changed, removed, repeated, taken from a dictionary, or two inputs
//! joined; and back again, to the smallest input that still shows the same.

use echo_wire::filler::Dice;

pub fn next(dice: &mut Dice, pool: &[Vec<u8>], dictionary: &[&[u8]]) -> Vec<u8> {
    let pick = |dice: &mut Dice| pool.get(dice.roll(pool.len())).cloned().unwrap_or_default();
    let mut bytes = pick(dice);
    if dice.once_in(4) {
        let other = pick(dice);
        let (cut, from) = (dice.roll(bytes.len() + 1), dice.roll(other.len() + 1));
        if dice.once_in(2) {
            bytes.extend_from_slice(&other);
        } else {
            bytes.truncate(cut);
            bytes.extend_from_slice(&other[from..]);
        }
    }
    for _ in 0..1 + dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + dice.roll(12)).min(bytes.len());
        let word = dictionary
            .get(dice.roll(dictionary.len()))
            .copied()
            .unwrap_or(b"");
        match dice.roll(7) {
            0 => drop(bytes.drain(at..end)),
            1 | 2 => drop(bytes.splice(at..at, word.iter().copied())),
            3 => drop(bytes.splice(at..end, word.iter().copied())),
            4 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            // At a line's beginning words mean most.
            5 => {
                let lines: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i] == b'\n').collect();
                let place = lines.get(dice.roll(lines.len())).map_or(0, |line| line + 1);
                drop(bytes.splice(place..place, word.iter().copied()));
            }
            _ => {
                let byte = dice.roll(256) as u8;
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
        }
    }
    bytes
}

/// Removes what can be removed while `still` holds.
pub fn shrink(mut bytes: Vec<u8>, mut still: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut tries = 300;
    let mut size = bytes.len() / 2;
    while size > 0 && tries > 0 {
        let mut at = 0;
        while at < bytes.len() && tries > 0 {
            let mut less = bytes.clone();
            less.drain(at..(at + size).min(less.len()));
            tries -= 1;
            if still(&less) {
                bytes = less;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    bytes
}
