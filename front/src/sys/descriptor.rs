//! Descriptors: inheritance over an exec, placing at a fixed number, advisory locks.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A copy of `fd` that a program started now inherits, numbered 10 or higher, so that it is not
/// in the way of the numbers at which the program expects it. Only the thread that starts
/// programs may hold one, and only around the start: whoever forks meanwhile leaks it.
pub fn inheritable_copy(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: no pointer; the descriptor that F_DUPFD returns is ours alone.
    unsafe {
        let copy = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, 10);
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(copy))
    }
}

/// Takes what whoever started us has left open for us at this number (sd_listen_fds(3)), so that
/// nobody whom we start has it too. To be called once for a number: it belongs to the result then.
pub fn take_inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointer; the call fails if the number is not open. It was open before this process
    // opened anything, so no object of ours owns it.
    unsafe {
        if libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Moves an inherited descriptor to the number `to`, which the next exec keeps open. For the short
/// life between our own exec and the program's, when nothing in this process owns descriptors
/// above 2.
pub fn move_inherited(from: i32, to: i32) -> io::Result<()> {
    // SAFETY: no pointer. Neither number belongs to an object of this process (see above); dup2
    // clears close-on-exec on `to`.
    unsafe {
        if libc::dup2(from, to) < 0 {
            return Err(io::Error::last_os_error());
        }
        if from != to {
            libc::close(from);
        }
    }
    Ok(())
}

/// Marks every descriptor above 2 close-on-exec: what we have inherited ourselves from whoever
/// started us is not for the program. Kernels before 5.11 leave such descriptors open, harmlessly.
pub fn close_all_on_exec() {
    // SAFETY: a flag is set and nothing is closed, so no object loses its descriptor.
    unsafe {
        let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags);
    }
}

/// Takes an exclusive flock(2) without waiting; false if somebody else holds one. It ends with
/// the last copy of the descriptor, and so with the process, however that ends.
pub fn try_lock(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: no pointer.
    if unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        e if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        e => Err(e),
    }
}
