//! Terminals: how wide one is.

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The columns of the terminal behind `fd`; None if it is none, or does not know. ioctl_tty(2).
pub fn columns(fd: BorrowedFd<'_>) -> Option<usize> {
    // SAFETY: winsize is plain integers, for which all zeros is a value; it lives through the call.
    let (result, size) = unsafe {
        let mut size: libc::winsize = mem::zeroed();
        let result = libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &mut size);
        (result, size)
    };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
