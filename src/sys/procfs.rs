//! What `/proc` tells about processes. Absent or odd files are None.

use crate::sys::process::Pid;
use std::fs;

/// The parent of a process.
pub fn parent(pid: Pid) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parent_in(&stat)
}

/// The name in parentheses may hold spaces and parentheses itself, so the last one counts.
fn parent_in(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// All children of this process, adopted ones included.
pub fn children() -> Vec<Pid> {
    let me = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::new)
        .filter(|pid| parent(*pid) == Some(me))
        .collect()
}

/// What a process, and those that it has started, have used so far and hold now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, user and system, in clock ticks ([`TICKS_PER_SECOND`]).
    pub cpu_ticks: u64,
    pub resident_bytes: u64,
}

/// USER_HZ: what `/proc` counts CPU time in, the same on every Linux. proc_pid_stat(5).
pub const TICKS_PER_SECOND: u64 = 100;

/// Processes that are looked at below one; a worker that forks without end must not hold us up.
const FAMILY_MAX: usize = 64;

/// The usage of a process and of its descendants: a worker is often a shell with the real one below.
pub fn family_usage(pid: Pid) -> Option<Usage> {
    let mut family = vec![pid.number()];
    let mut sum = None;
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        next += 1;
        let Some(usage) = usage(member) else { continue };
        let sum: &mut Usage = sum.get_or_insert_default();
        sum.cpu_ticks = sum.cpu_ticks.saturating_add(usage.cpu_ticks);
        sum.resident_bytes = sum.resident_bytes.saturating_add(usage.resident_bytes);
        if let Ok(children) = fs::read_to_string(format!("/proc/{member}/task/{member}/children")) {
            let room = FAMILY_MAX.saturating_sub(family.len());
            let children = children.split_ascii_whitespace();
            family.extend(
                children
                    .filter_map(|word| word.parse::<u32>().ok())
                    .take(room),
            );
        }
    }
    sum
}

/// The usage of this process, without its children that still run.
pub fn own_usage() -> Option<Usage> {
    usage(std::process::id())
}

/// Descriptors that this process has open, and may have.
pub fn own_descriptors() -> Option<(usize, u64)> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let max = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some((open, max))
}

fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    usage_in(&stat, page_bytes())
}

fn page_bytes() -> u64 {
    // SAFETY: sysconf takes no pointer; it knows the page size of every machine.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// proc_pid_stat(5): utime, stime and the same of children that have ended are fields 14 to 17, rss
/// in pages is field 24.
fn usage_in(stat: &str, page_bytes: u64) -> Option<Usage> {
    let (_, after_name) = stat.rsplit_once(')')?;
    // The first field here is the third of the file.
    let mut fields = after_name.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let mut cpu_ticks = user;
    for _ in 0..3 {
        let ticks: i64 = fields.next()?.parse().ok()?;
        cpu_ticks = cpu_ticks.saturating_add(u64::try_from(ticks).unwrap_or(0));
    }
    let pages: u64 = fields.nth(6)?.parse().ok()?;
    Some(Usage {
        cpu_ticks,
        resident_bytes: pages.saturating_mul(page_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_its_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 50 25 6 7 20 0 11 0 99 8888 123 18446744073709551615";
        let usage = usage_in(stat, 4096).expect("the fields are there");
        assert_eq!(
            (usage.cpu_ticks, usage.resident_bytes),
            (75 + 13, 123 * 4096)
        );
        assert_eq!(usage_in("7 (a) S 1", 4096), None);
        let own = family_usage(Pid::new(std::process::id()).expect("a number"));
        assert!(own.is_some_and(|usage| usage.resident_bytes > 0));
    }

    #[test]
    fn a_name_may_hold_anything() {
        assert_eq!(parent_in("12 (a) b) (c) S 7 12 12"), Some(7));
        assert_eq!(parent_in("12 (node) S"), None);
        assert_eq!(parent_in("nonsense"), None);
    }
}
