//! Whose rights a process has: user, groups and the few capabilities that outlive root.

use crate::as_json;
use std::io;

/// A user with its groups, as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

as_json!(struct Identity { uid, gid, groups });

/// What starting and ending workers of other users takes: CAP_KILL, CAP_SETGID, CAP_SETUID.
const TO_CHANGE_USERS: [u32; 3] = [5, 6, 7];
const TO_CHANGE_USERS_BITS: u32 = 1 << 5 | 1 << 6 | 1 << 7;
/// capget(2): the version with 64 bits in two halves.
const CAPABILITIES_V3: u32 = 0x2008_0522;

/// The bits of /proc/PID/status (`CapEff`) that [`TO_CHANGE_USERS`] are.
pub fn can_change_users(effective: u64) -> bool {
    let wanted = u64::from(TO_CHANGE_USERS_BITS);
    effective & wanted == wanted
}

/// Takes over another user's rights for good, in all threads.
pub fn become_user(identity: &Identity) -> io::Result<()> {
    let count = identity.groups.len();
    // SAFETY: the list lives through the call and its length is given.
    check(unsafe { libc::setgroups(count as _, identity.groups.as_ptr()) })?;
    // SAFETY: no pointer.
    check(unsafe { libc::setresgid(identity.gid, identity.gid, identity.gid) })?;
    // SAFETY: no pointer.
    check(unsafe { libc::setresuid(identity.uid, identity.uid, identity.uid) })
}

/// [`become_user`], but what [`TO_CHANGE_USERS`] names stays. Capabilities belong to threads: this
/// must be called before there is a second one.
pub fn become_user_who_changes_users(identity: &Identity) -> io::Result<()> {
    // SAFETY: no pointer.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
    become_user(identity)?;
    let low = Half {
        effective: TO_CHANGE_USERS_BITS,
        permitted: TO_CHANGE_USERS_BITS,
        inheritable: TO_CHANGE_USERS_BITS,
    };
    set_capabilities([low, EMPTY])
}

/// Has what this thread starts keep, or lose, the capabilities of [`TO_CHANGE_USERS`]: those that it
/// has itself and that are not kept otherwise. Root has no need of it.
pub fn pass_capabilities_on(pass: bool) {
    let how = if pass {
        libc::PR_CAP_AMBIENT_RAISE
    } else {
        libc::PR_CAP_AMBIENT_LOWER
    };
    for capability in TO_CHANGE_USERS {
        // SAFETY: no pointer. Refused for what the thread does not have, and before Linux 4.3:
        // then there is nothing to pass on.
        unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                how as libc::c_ulong,
                libc::c_ulong::from(capability),
                0,
                0,
            )
        };
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const EMPTY: Half = Half {
    effective: 0,
    permitted: 0,
    inheritable: 0,
};

/// This thread. The kernel writes into it when it knows another version only.
fn header() -> Header {
    Header {
        version: CAPABILITIES_V3,
        pid: 0,
    }
}

/// The capabilities of [`TO_CHANGE_USERS`] go, in this thread and in what it becomes.
pub fn lose_capabilities() -> io::Result<()> {
    let (mut header, mut halves) = (header(), [EMPTY; 2]);
    // SAFETY: both live through the call and are laid out as capget(2) says for this version.
    check_long(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) })?;
    let [low, _] = &mut halves;
    low.effective &= !TO_CHANGE_USERS_BITS;
    low.permitted &= !TO_CHANGE_USERS_BITS;
    low.inheritable &= !TO_CHANGE_USERS_BITS;
    set_capabilities(halves)
}

/// capset(2), which libc leaves to libcap. What is not permitted any more is not passed on either.
fn set_capabilities(halves: [Half; 2]) -> io::Result<()> {
    let mut header = header();
    // SAFETY: both live through the call and are laid out as capget(2) says for this version.
    check_long(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) })
}

fn check_long(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_are_needed_to_change_users() {
        assert!(can_change_users(u64::MAX));
        assert!(can_change_users(0b1110_0000));
        assert!(!can_change_users(0b0110_0000));
        assert!(!can_change_users(0));
    }
}
