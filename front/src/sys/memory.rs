//! What of this process need not be resident.

use std::fs;
use std::ops::Range;

/// Lets go of the pages of our own code: what has run once, at the start, is not to be held by a process that sleeps
/// from now on. What still runs is mapped again when it is reached, from the file or from the kernel's cache of it.
pub fn give_code_back() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for range in maps.lines().filter_map(code_of_file) {
        // SAFETY: the range is one private mapping of a file that may be executed and not be written to, so its pages
        // have never been changed (code is relocated nowhere: no text relocations), and are read from the file
        // again as they were. Failure changes nothing.
        unsafe {
            libc::madvise(
                std::ptr::without_provenance_mut(range.start),
                range.len(),
                libc::MADV_DONTNEED,
            );
        }
    }
}

/// `7f01c000-7f0ea000 r-xp 00001000 fe:00 12 /usr/bin/sidekeeper`, and no other kind of line.
fn code_of_file(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let code = words.next()? == "r-xp" && words.nth(3)?.starts_with('/');
    let address = |text| usize::from_str_radix(text, 16).ok();
    code.then_some(address(start)?..address(end)?)
}

/// musl takes allocations of this size straight from the kernel.
const MAPPED_BYTES: usize = 128 << 10;

/// A buffer that becomes resident as far as it is used. A smaller allocation shares its pages with others, so its
/// zeros have to be written first.
pub fn buffer(bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes.max(MAPPED_BYTES)];
    buffer.truncate(bytes);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_given_back() {
        let rows = [
            (
                "1000-3000 r-xp 00001000 fe:00 12 /bin/a b",
                Some(0x1000..0x3000),
            ),
            ("1000-3000 r--p 00001000 fe:00 12 /bin/a", None),
            ("1000-3000 rwxp 00001000 fe:00 12 /bin/a", None),
            ("1000-3000 r-xs 00001000 fe:00 12 /bin/a", None),
            ("1000-3000 r-xp 00000000 00:00 0 [vdso]", None),
            ("1000-3000 r-xp 00000000 00:00 0", None),
            ("nonsense", None),
        ];
        for (line, wanted) in rows {
            assert_eq!(code_of_file(line), wanted, "{line}");
        }
        // And everything still runs.
        give_code_back();
    }
}
