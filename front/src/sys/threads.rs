//! What `/proc` tells of each thread of a process that hangs: its state, where in the kernel it
//! waits, the system call that it is in, and the kernel's stack for those who may see it. Files that
//! need the memory of the process (`cmdline`, `maps`) are left alone: to read them may wait for it.

use crate::order;
use std::fs;
use std::path::PathBuf;

/// One thread at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub id: u32,
    pub name: String,
    /// The kernel's letter: R, S, D, T, ...
    pub state: String,
    /// User and system time so far.
    pub cpu_ticks: u64,
    /// The kernel function that it waits in; empty if it runs, or the kernel does not say.
    pub waits_in: String,
    pub call: Option<Call>,
    /// The kernel's stack, innermost first; empty for those who may not see it (not root).
    pub stack: String,
}

/// A system call that a thread is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    /// What its first argument refers to, if that is a descriptor.
    pub on: Option<PathBuf>,
}

/// The threads of a process, at most `max` of them, the first one first.
pub fn threads(pid: u32, max: usize) -> Vec<Thread> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut ids: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    order::sort_by(&mut ids, u32::cmp);
    ids.into_iter()
        .take(max)
        .filter_map(|id| thread(pid, id))
        .collect()
}

fn thread(pid: u32, id: u32) -> Option<Thread> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/task/{id}/{name}")).ok();
    let stat = read("stat")?;
    let (name, state, cpu_ticks) = stat_in(&stat)?;
    let waits_in = read("wchan").filter(|text| text != "0").unwrap_or_default();
    Some(Thread {
        id,
        name,
        state,
        cpu_ticks,
        waits_in,
        call: read("syscall").and_then(|text| call_in(pid, &text)),
        stack: read("stack").unwrap_or_default(),
    })
}

/// proc_pid_stat(5): the name in parentheses, the state, and fields 14 and 15.
fn stat_in(stat: &str) -> Option<(String, String, u64)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?.to_owned();
    let user: u64 = fields.nth(10)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((name.to_owned(), state, user.saturating_add(system)))
}

/// proc_pid_syscall(5): the number and the arguments in hexadecimal; `running`, or -1 for none.
fn call_in(pid: u32, text: &str) -> Option<Call> {
    let mut words = text.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    if number < 0 {
        return None;
    }
    let first = words.next()?.strip_prefix("0x")?;
    let first = u64::from_str_radix(first, 16).ok()?;
    let known = CALLS.iter().find(|(known, ..)| *known == number);
    let Some((_, name, on_descriptor)) = known else {
        return Some(Call {
            name: format!("system call {number}"),
            on: None,
        });
    };
    let on = match on_descriptor {
        true => fs::read_link(format!("/proc/{pid}/fd/{first}")).ok(),
        false => None,
    };
    Some(Call {
        name: (*name).to_owned(),
        on,
    })
}

/// Calls in which threads are found waiting, and whether their first argument is a descriptor.
const CALLS: &[(i64, &str, bool)] = &[
    (libc::SYS_read, "read", true),
    (libc::SYS_write, "write", true),
    (libc::SYS_readv, "readv", true),
    (libc::SYS_writev, "writev", true),
    (libc::SYS_pread64, "pread", true),
    (libc::SYS_pwrite64, "pwrite", true),
    (libc::SYS_recvfrom, "recv", true),
    (libc::SYS_recvmsg, "recvmsg", true),
    (libc::SYS_sendto, "send", true),
    (libc::SYS_sendmsg, "sendmsg", true),
    (libc::SYS_connect, "connect", true),
    (libc::SYS_accept, "accept", true),
    (libc::SYS_accept4, "accept", true),
    (libc::SYS_fsync, "fsync", true),
    (libc::SYS_fdatasync, "fdatasync", true),
    (libc::SYS_flock, "flock", true),
    (libc::SYS_fcntl, "fcntl", true),
    (libc::SYS_fallocate, "fallocate", true),
    (libc::SYS_epoll_pwait, "epoll_wait", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_vfork, "vfork", false),
    (libc::SYS_ppoll, "poll", false),
    (libc::SYS_pselect6, "select", false),
    (libc::SYS_futex, "futex", false),
    (libc::SYS_wait4, "wait", false),
    (libc::SYS_waitid, "wait", false),
    (libc::SYS_nanosleep, "sleep", false),
    (libc::SYS_clock_nanosleep, "sleep", false),
    (libc::SYS_openat, "open", false),
    (libc::SYS_newfstatat, "stat", false),
    (libc::SYS_getdents64, "read a directory", true),
    (libc::SYS_unlinkat, "unlink", false),
    (libc::SYS_renameat2, "rename", false),
    (libc::SYS_mkdirat, "mkdir", false),
    (libc::SYS_execve, "exec", false),
    (libc::SYS_clone, "clone", false),
    (libc::SYS_rt_sigsuspend, "wait for a signal", false),
    (libc::SYS_rt_sigtimedwait, "wait for a signal", false),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_thread_that_reads_is_seen_reading() {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        let reader = std::thread::Builder::new()
            .name("reads (all) day".to_owned())
            .spawn(move || ours.read(&mut [0; 8]))
            .expect("a thread");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let found = loop {
            let all = threads(std::process::id(), usize::MAX);
            let found = all
                .into_iter()
                .find(|thread| thread.name == "reads (all) day");
            if let Some(thread) = found
                && thread.state == "S"
            {
                break thread;
            }
            assert!(std::time::Instant::now() < deadline, "it does not wait");
            std::thread::yield_now();
        };
        // Where the kernel does not show system calls, there is nothing to see.
        if let Some(call) = found.call {
            assert!(["read", "recv"].contains(&call.name.as_str()), "{call:?}");
            assert!(
                call.on
                    .is_some_and(|on| on.to_string_lossy().starts_with("socket:"))
            );
        }
        drop(theirs);
        let _ = reader.join();
    }

    #[test]
    fn odd_files_are_nothing() {
        assert_eq!(
            stat_in("7 (a) b) D 1 7 7 0 -1 0 1 2 3 4 50 25 6"),
            Some(("a) b".to_owned(), "D".to_owned(), 75))
        );
        assert_eq!(stat_in("7 a S"), None);
        for text in ["running", "-1 0x7 0x8", "0", "0 7", ""] {
            assert_eq!(call_in(1, text), None, "{text}");
        }
    }
}
