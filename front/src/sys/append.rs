//! Copies of a few bytes that need no call: what heads, lines and ids are composed of.

/// Longer pieces are worth the call.
const SHORT_BYTES_MAX: usize = 256;

/// Appends a piece. musl's memcpy takes longer to begin than the pieces of a head take to move,
/// and a head has dozens: a copy of known length needs no call.
pub fn append(out: &mut Vec<u8>, piece: &[u8]) {
    let bytes = piece.len();
    if bytes > SHORT_BYTES_MAX {
        return out.extend_from_slice(piece);
    }
    out.reserve(bytes);
    let before = out.len();
    // SAFETY: `bytes` can be read at `from`, and after the reservation as many written at `to`. Each
    // block lies within them: the last one of a size ends where they end, over what the one before
    // it has written. The two do not overlap, since `out` is borrowed exclusively.
    unsafe {
        let (from, to) = (piece.as_ptr(), out.as_mut_ptr().add(before));
        match bytes {
            16.. => {
                let last = bytes - 16;
                let mut at = 0;
                while at < last {
                    block::<16>(from, to, at);
                    at += 16;
                }
                block::<16>(from, to, last);
            }
            8.. => {
                block::<8>(from, to, 0);
                block::<8>(from, to, bytes - 8);
            }
            4.. => {
                block::<4>(from, to, 0);
                block::<4>(from, to, bytes - 4);
            }
            2.. => {
                block::<2>(from, to, 0);
                block::<2>(from, to, bytes - 2);
            }
            1 => block::<1>(from, to, 0),
            0 => {}
        }
        // All of them are written now.
        out.set_len(before + bytes);
    }
}

/// Copies a block of known length.
///
/// # Safety
/// `at` and the `N` bytes behind it lie within what both pointers lead to, which does not overlap.
#[inline(always)]
unsafe fn block<const N: usize>(from: *const u8, to: *mut u8, at: usize) {
    // SAFETY: the caller's.
    unsafe { std::ptr::copy_nonoverlapping(from.add(at), to.add(at), N) };
}

#[cfg(test)]
mod tests {
    use super::append;

    #[test]
    fn pieces_of_every_length_are_appended() {
        let piece: Vec<u8> = (0..400).map(|n| (n % 251) as u8).collect();
        for bytes in 0..piece.len() {
            let mut out = b"before".to_vec();
            append(&mut out, &piece[..bytes]);
            append(&mut out, b"behind");
            assert_eq!(out, [b"before", &piece[..bytes], b"behind"].concat());
        }
    }
}
