//! Room on a file system.

use std::ffi::CString;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that a process without privileges may still write where `path` is, and all bytes there.
/// None: it cannot be said, or the file system has no limit of its own. statvfs(3).
#[allow(clippy::unnecessary_cast)]
pub fn room(path: &Path) -> Option<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: statvfs is plain data, for which all zeros is a value; the string ends in a NUL, and both
    // live through the call.
    let stat = unsafe {
        let mut stat: libc::statvfs = mem::zeroed();
        if libc::statvfs(path.as_ptr(), &raw mut stat) != 0 {
            return None;
        }
        stat
    };
    let block = stat.f_frsize as u64;
    let total = (stat.f_blocks as u64).saturating_mul(block);
    let free = (stat.f_bavail as u64).saturating_mul(block);
    (total > 0).then_some((free, total))
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_room_somewhere() {
        let (free, total) = super::room(&std::env::temp_dir()).expect("it is there");
        assert!(free <= total && total > 0);
        assert_eq!(super::room(std::path::Path::new("/no/such/place")), None);
    }
}
