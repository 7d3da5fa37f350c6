//! Passing descriptors to another process over a Unix socket: `SCM_RIGHTS` of unix(7).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Room for one control message with one descriptor, aligned as its header must be.
#[repr(C)]
union Control {
    header: libc::cmsghdr,
    bytes: [u8; 64],
}

/// Writes what fits of `bytes`, and with the first of them one descriptor; `WouldBlock` if nothing
/// fits, and then the descriptor has not gone either. sendmsg(2), `MSG_DONTWAIT`.
pub fn send_with_fd(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    passed: BorrowedFd<'_>,
) -> io::Result<usize> {
    const SIZE: libc::c_uint = mem::size_of::<libc::c_int>() as libc::c_uint;
    let mut control = Control { bytes: [0; 64] };
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain data, for which all zeros is a value. Its pointers lead to `part`,
    // `bytes` (only read) and `control`, which live through the call; `control` has room for
    // CMSG_SPACE(4) = 24 bytes, so CMSG_FIRSTHDR is within it.
    let sent = unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = libc::CMSG_SPACE(SIZE) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(SIZE) as _;
        let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
        data.write_unaligned(passed.as_raw_fd());
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        libc::sendmsg(socket.as_raw_fd(), &message, flags)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Reads what has come, up to the first descriptor; returns how many bytes and descriptors that
/// were, and closes these: for tests. recvmsg(2), `MSG_DONTWAIT`.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, usize)> {
    use std::os::fd::{FromRawFd, OwnedFd};
    let mut control = Control { bytes: [0; 64] };
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: as above; `buffer` is written within its length. The descriptors that the kernel has
    // put into `control` are ours alone, and each is taken once.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = mem::size_of::<Control>() as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let count = libc::recvmsg(socket.as_raw_fd(), &mut message, flags);
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let header = libc::CMSG_FIRSTHDR(&message);
        if header.is_null() {
            return Ok((count, 0));
        }
        let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
        let passed = ((*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize)
            / mem::size_of::<libc::c_int>();
        for index in 0..passed {
            drop(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
        }
        Ok((count, passed))
    }
}
