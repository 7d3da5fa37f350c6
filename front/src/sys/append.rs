//! Copies of a few bytes that need no call: what heads, lines and ids are composed of.

/// Longer pieces are worth the call.
const SHORT_BYTES_MAX: usize = 256;

/// Appends a piece. musl's memcpy takes longer to begin than the pieces of a head take to move,
/// and a head has dozens: a copy of known length needs no call. (Nor may there be a loop, of which the
/// compiler would make that call again.)
pub fn append(out: &mut Vec<u8>, piece: &[u8]) {
    let bytes = piece.len();
    if bytes > SHORT_BYTES_MAX || out.capacity().wrapping_sub(out.len()) < bytes {
        return extend(out, piece);
    }
    let before = out.len();
    // SAFETY: `bytes` can be read at `from`, and as was just seen as many written at `to`. Each block
    // lies within them: the later ones end where they end, over what the ones before have written.
    // The two do not overlap, since `out` is borrowed exclusively.
    unsafe {
        let (from, to) = (piece.as_ptr(), out.as_mut_ptr().add(before));
        if bytes < 8 {
            match bytes {
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
        } else if bytes <= 16 {
            block::<8>(from, to, 0);
            block::<8>(from, to, bytes - 8);
        } else if bytes <= 32 {
            block::<16>(from, to, 0);
            block::<16>(from, to, bytes - 16);
        } else if bytes <= 64 {
            block::<32>(from, to, 0);
            block::<32>(from, to, bytes - 32);
        } else if bytes <= 128 {
            block::<64>(from, to, 0);
            block::<64>(from, to, bytes - 64);
        } else {
            block::<128>(from, to, 0);
            block::<128>(from, to, bytes - 128);
        }
        // All of them are written now.
        out.set_len(before + bytes);
    }
}

/// Apart, so that what nearly always happens has no call in it.
#[cold]
#[inline(never)]
fn extend(out: &mut Vec<u8>, piece: &[u8]) {
    out.extend_from_slice(piece);
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
