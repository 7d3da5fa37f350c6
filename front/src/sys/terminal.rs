//! Terminals: how large one is.

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Columns and lines of the terminal behind `fd`; None if it is none, or does not know
/// its width. Lines are 0 where nobody has said. ioctl_tty(2).
pub fn size(fd: BorrowedFd<'_>) -> Option<(usize, usize)> {
    // SAFETY: winsize is plain integers, for which all zeros is a value; it lives through the call.
    let (result, size) = unsafe {
        let mut size: libc::winsize = mem::zeroed();
        let result = libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &mut size);
        (result, size)
    };
    let size = (usize::from(size.ws_col), usize::from(size.ws_row));
    (result == 0 && size.0 > 0).then_some(size)
}
