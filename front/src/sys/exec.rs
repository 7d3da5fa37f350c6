//! Becoming another binary without ceasing to be this process, and what is left to it in memory.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// A file that lies in memory and nowhere else. memfd_create(2).
pub fn memory_file(name: &CStr) -> io::Result<File> {
    // SAFETY: the name lives through the call; the descriptor that it returns is ours alone.
    unsafe {
        let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::from(OwnedFd::from_raw_fd(fd)))
    }
}

/// Replaces the program of this process; returns only why it could not. Unlike std's, it leaves the
/// signals as they are: those that are blocked stay so, and wait for the new program. The thread
/// that calls it is the one whose children stay its children. execve(2).
pub fn exec(
    program: &Path,
    words: impl Iterator<Item = OsString>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> io::Error {
    let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::from);
    let pair = |(name, value): (OsString, OsString)| {
        let mut bytes = name.into_vec();
        bytes.push(b'=');
        bytes.extend_from_slice(value.as_bytes());
        c_string(bytes)
    };
    let made = c_string(program.as_os_str().as_bytes().to_vec()).and_then(|program| {
        let words: io::Result<Vec<CString>> = words.map(|word| c_string(word.into_vec())).collect();
        let environment: io::Result<Vec<CString>> = environment.map(pair).collect();
        Ok((program, words?, environment?))
    });
    let (program, words, environment) = match made {
        Ok(made) => made,
        Err(error) => return error,
    };
    let ended = |strings: &[CString]| {
        let pointers = strings.iter().map(|string| string.as_ptr());
        pointers.chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (words, environment) = ((ended(&words), words), (ended(&environment), environment));
    // SAFETY: both arrays end with a null pointer, and what they point to lives through the call.
    unsafe { libc::execve(program.as_ptr(), words.0.as_ptr(), environment.0.as_ptr()) };
    io::Error::last_os_error()
}
