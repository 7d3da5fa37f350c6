//! Sockets: the calls that std's networking types do not offer. All of them work on TCP and on
//! Unix stream sockets alike.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Reads what is there; `WouldBlock` if nothing is, 0 at end of file. recv(2), `MSG_DONTWAIT`.
#[inline]
pub fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the buffer is ours and as long as we say.
        let n = unsafe {
            libc::recv(
                fd.as_raw_fd(),
                buf.as_mut_ptr().cast(),
                buf.len(),
                libc::MSG_DONTWAIT,
            )
        };
        match check_size(n) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Writes what fits; `WouldBlock` if nothing does. Never raises SIGPIPE. send(2), `MSG_DONTWAIT`.
#[inline]
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        // SAFETY: the bytes are borrowed through the call.
        let n = unsafe {
            libc::send(
                fd.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        match check_size(n) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Sends without waiting for acknowledgements; what a listener accepts inherits it. tcp(7).
pub fn set_nodelay(fd: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` lives through the call and its size is given.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Keeps clients in the kernel until they have said something, or this has passed. tcp(7),
/// `TCP_DEFER_ACCEPT`.
pub fn defer_accept(fd: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    let seconds = libc::c_int::try_from(patience.as_secs()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `seconds` lives through the call and its size is given.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Which direction [`shutdown`] ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Write,
    Both,
}

/// Ends a direction for all who hold the socket. A socket that is not connected any more is fine.
pub fn shutdown(fd: BorrowedFd<'_>, end: End) {
    let how = match end {
        End::Write => libc::SHUT_WR,
        End::Both => libc::SHUT_RDWR,
    };
    // SAFETY: no pointer. The only failures are a socket already ended and a descriptor that is
    // no socket; neither leaves anything to do.
    unsafe { libc::shutdown(fd.as_raw_fd(), how) };
}

/// Makes close(2) reset the connection, so that the peer cannot take a cut body for a whole one.
pub fn reset_on_close(fd: BorrowedFd<'_>) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: `linger` lives through the call and its size is given. Failure means that the
    // socket is dead already.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            mem::size_of::<libc::linger>() as libc::socklen_t,
        )
    };
}

/// Makes every use of the socket, by whoever holds it, return instead of wait. fcntl(2).
pub fn set_nonblocking(fd: BorrowedFd<'_>) {
    // SAFETY: no pointer. F_GETFL and F_SETFL cannot fail on a descriptor that is open.
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}

/// Waits until `fd` can be read (`write` false) or written, an error counting as both; false when
/// the time is up. poll(2).
pub fn wait_ready(fd: BorrowedFd<'_>, write: bool, timeout: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: if write { libc::POLLOUT } else { libc::POLLIN },
        revents: 0,
    };
    let millis = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: one initialised pollfd, ours through the call.
    match check(unsafe { libc::poll(&mut poll, 1, millis) }) {
        Ok(n) => Ok(n > 0),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(e) => Err(e),
    }
}

/// The user of the process at the other end of a Unix socket, as of its connect(2). unix(7),
/// `SO_PEERCRED`.
pub fn peer_user(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut len = mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` and `len` live through the call, and `len` says how large `peer` is.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &mut len,
        )
    })?;
    Ok(peer.uid)
}

/// A Unix socket path as the kernel takes it. unix(7): at most 107 bytes and a NUL.
fn unix_address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: sockaddr_un is plain integers, for which all zeros is a value.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (slot, byte) in address.sun_path.iter_mut().zip(bytes) {
        *slot = *byte as libc::c_char;
    }
    let len = mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
    Ok((address, len as libc::socklen_t))
}

fn unix_socket(flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointer; the descriptor it returns is ours alone.
    unsafe {
        let fd = check(libc::socket(
            libc::AF_UNIX,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags,
            0,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Bytes that were sent and that the peer has not taken: for TCP not acknowledged (tcp(7)), for a
/// Unix socket not read.
pub fn untaken(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the pointer is to a live integer, which the call fills in.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Bytes that wait to be read. tcp(7), `SIOCINQ`.
pub fn unread(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the pointer is to a live integer, which the call fills in.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// How much can be sent before the peer has to read. socket(7), `SO_SNDBUF`.
pub fn send_room(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut size: libc::c_int = 0;
    let mut len = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `size` and `len` live through the call, and `len` says how large `size` is.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            (&raw mut size).cast(),
            &mut len,
        )
    })?;
    Ok(usize::try_from(size)
        .unwrap_or(0)
        .saturating_sub(untaken(fd)?))
}

/// Connects to a Unix socket without ever waiting: a listener whose backlog is full answers
/// `WouldBlock` at once (unix(7)), one that is gone `ConnectionRefused` or `NotFound`.
pub fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    let (address, len) = unix_address(path)?;
    let socket = unix_socket(libc::SOCK_NONBLOCK)?;
    // SAFETY: the address lives through the call and `len` is within it.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(socket)
}

/// Binds and listens; only the process's own user may connect. The path must not exist; `backlog` is
/// capped by net.core.somaxconn.
pub fn listen_unix(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let (address, len) = unix_address(path)?;
    let socket = unix_socket(0)?;
    // SAFETY: no pointer. On Linux the mode of an unbound socket becomes that of its file.
    check(unsafe { libc::fchmod(socket.as_raw_fd(), 0o600) })?;
    // SAFETY: the address lives through the calls and `len` is within it.
    unsafe {
        check(libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            len,
        ))?;
        check(libc::listen(socket.as_raw_fd(), backlog))?;
    }
    Ok(socket)
}

/// Raises the accept backlog of a listener beyond the 128 that std asks for. listen(2).
pub fn set_backlog(fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: no pointer.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })?;
    Ok(())
}
