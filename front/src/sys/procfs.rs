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

/// What a process is doing, as the kernel says it in one letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    Runs,
    #[default]
    Sleeps,
    /// In a wait that no signal ends: a disk or a network file system that does not answer.
    Uninterruptible,
    /// By a signal.
    Stopped,
    /// By a debugger.
    Traced,
    Ended,
}

impl Doing {
    fn of(letter: &str) -> Doing {
        match letter {
            "R" => Doing::Runs,
            "D" => Doing::Uninterruptible,
            "T" => Doing::Stopped,
            "t" => Doing::Traced,
            "Z" | "X" | "x" => Doing::Ended,
            // S and I, and what newer kernels may say.
            _ => Doing::Sleeps,
        }
    }
}

/// What a process, and those that it has started, have used so far and hold now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, user and system, in clock ticks ([`TICKS_PER_SECOND`]).
    pub cpu_ticks: u64,
    pub resident_bytes: u64,
    pub threads: u64,
    /// The largest process of the family: a worker is often a shell with the real one below.
    pub main: u32,
    /// What that one does.
    pub doing: Doing,
}

/// USER_HZ: what `/proc` counts CPU time in, the same on every Linux. proc_pid_stat(5).
pub const TICKS_PER_SECOND: u64 = 100;

/// Processes that are looked at below one; a worker that forks without end must not hold us up.
const FAMILY_MAX: usize = 64;

/// The usage of a process and of its descendants.
pub fn family_usage(pid: Pid) -> Option<Usage> {
    let mut sum: Option<Usage> = None;
    let mut largest_bytes = 0;
    walk(pid, |member| {
        let Some(usage) = usage(member) else {
            return false;
        };
        let sum = sum.get_or_insert_default();
        sum.cpu_ticks = sum.cpu_ticks.saturating_add(usage.cpu_ticks);
        sum.resident_bytes = sum.resident_bytes.saturating_add(usage.resident_bytes);
        sum.threads = sum.threads.saturating_add(usage.threads);
        if sum.main == 0 || usage.resident_bytes > largest_bytes {
            largest_bytes = usage.resident_bytes;
            (sum.main, sum.doing) = (member, usage.doing);
        }
        true
    });
    sum
}

/// A process and its descendants.
pub fn family(pid: Pid) -> Vec<u32> {
    let mut family = Vec::new();
    walk(pid, |member| {
        family.push(member);
        true
    });
    family
}

/// Visits a process and its descendants; those below one for which `visit` says false are left out.
fn walk(pid: Pid, mut visit: impl FnMut(u32) -> bool) {
    let mut family = vec![pid.number()];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        next += 1;
        if !visit(member) {
            continue;
        }
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
}

/// Lines of `/proc/PID/status` that say something of a process that hangs.
pub fn status_lines(pid: u32) -> Vec<String> {
    const TELLING: [&str; 12] = [
        "Name:",
        "State:",
        "PPid:",
        "FDSize:",
        "VmPeak:",
        "VmRSS:",
        "VmSwap:",
        "Threads:",
        "SigPnd:",
        "ShdPnd:",
        "voluntary_ctxt",
        "nonvoluntary_ctxt",
    ];
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let telling = |line: &&str| TELLING.iter().any(|start| line.starts_with(start));
    text.lines().filter(telling).map(str::to_owned).collect()
}

/// The usage of this process, without its children that still run.
pub fn own_usage() -> Option<Usage> {
    usage(std::process::id())
}

/// Descriptors that this process has open, and may have.
pub fn own_descriptors() -> Option<(usize, u64)> {
    let me = std::process::id();
    let open = open_descriptors(me)?;
    Some((usize::try_from(open).ok()?, descriptors_max(me)?))
}

/// Descriptors that a process has open. Since Linux 6.2 the directory says how many there are;
/// before, they are counted one by one.
pub fn open_descriptors(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    match fs::metadata(&path).ok()?.len() {
        0 => u64::try_from(fs::read_dir(&path).ok()?.count()).ok(),
        count => Some(count),
    }
}

/// Descriptors that a process may have.
pub fn descriptors_max(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Memory of the machine, in bytes: what could be had without swapping, and all of it.
pub fn machine_memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kib.saturating_mul(1024))
    };
    Some((field("MemAvailable:")?, field("MemTotal:")?))
}

/// Memory that can still be had, and all of it: of the machine, or of our control group (cgroup v2)
/// where that is less.
pub fn memory() -> Option<(u64, u64)> {
    let machine = machine_memory()?;
    match control_group_memory() {
        Some(group) if group.0 < machine.0 => Some(group),
        Some(_) | None => Some(machine),
    }
}

fn control_group_memory() -> Option<(u64, u64)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let ours = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let dir = format!("/sys/fs/cgroup{}", ours.trim_end_matches('/'));
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("{dir}/{name}")).ok()?;
        text.trim().parse().ok()
    };
    // "max" is no number: no limit.
    let (max, used) = (number("memory.max")?, number("memory.current")?);
    let stat = fs::read_to_string(format!("{dir}/memory.stat")).unwrap_or_default();
    let cached = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "))
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(0);
    Some((max.saturating_sub(used.saturating_sub(cached)), max))
}

/// Nanoseconds that the main thread of a process has run so far, or wanted to and had to wait for a
/// core: what it would have had on a machine of its own.
pub fn main_thread_ns(pid: u32) -> Option<u64> {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/schedstat")) {
        let mut fields = text.split_ascii_whitespace();
        let ran: u64 = fields.next()?.parse().ok()?;
        let waited: u64 = fields.next()?.parse().ok()?;
        return Some(ran.saturating_add(waited));
    }
    // A kernel without scheduler statistics: in ticks, and of all its threads.
    let ticks = usage(pid)?.cpu_ticks;
    Some(ticks.saturating_mul(1_000_000_000 / TICKS_PER_SECOND))
}

fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    usage_in(&stat, page_bytes()).map(|usage| Usage { main: pid, ..usage })
}

fn page_bytes() -> u64 {
    // SAFETY: sysconf takes no pointer; it knows the page size of every machine.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// proc_pid_stat(5): the state is field 3; utime, stime and the same of children that have ended are
/// fields 14 to 17; the number of threads is field 20, rss in pages field 24.
fn usage_in(stat: &str, page_bytes: u64) -> Option<Usage> {
    let (_, after_name) = stat.rsplit_once(')')?;
    // The first field here is the third of the file.
    let mut fields = after_name.split_ascii_whitespace();
    let doing = Doing::of(fields.next()?);
    let user: u64 = fields.nth(10)?.parse().ok()?;
    let mut cpu_ticks = user;
    for _ in 0..3 {
        let ticks: i64 = fields.next()?.parse().ok()?;
        cpu_ticks = cpu_ticks.saturating_add(u64::try_from(ticks).unwrap_or(0));
    }
    let threads: u64 = fields.nth(2)?.parse().ok()?;
    let pages: u64 = fields.nth(3)?.parse().ok()?;
    Some(Usage {
        cpu_ticks,
        resident_bytes: pages.saturating_mul(page_bytes),
        threads,
        main: 0,
        doing,
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
            (usage.cpu_ticks, usage.resident_bytes, usage.threads),
            (75 + 13, 123 * 4096, 11)
        );
        assert_eq!(usage.doing, Doing::Sleeps);
        assert_eq!(usage_in("7 (a) S 1", 4096), None);
        let own = family_usage(Pid::new(std::process::id()).expect("a number"));
        assert!(own.is_some_and(|usage| usage.resident_bytes > 0 && usage.main != 0));
    }

    #[test]
    fn descriptors_and_memory_are_told() {
        let (open, max) = own_descriptors().expect("/proc is there");
        assert!(open > 2 && u64::try_from(open).is_ok_and(|open| open < max));
        let (available, total) = machine_memory().expect("/proc/meminfo is there");
        assert!(0 < available && available <= total);
        assert!(memory().is_some_and(|(left, _)| left > 0));
        assert!(main_thread_ns(std::process::id()).is_some());
    }

    #[test]
    fn a_name_may_hold_anything() {
        assert_eq!(parent_in("12 (a) b) (c) S 7 12 12"), Some(7));
        assert_eq!(parent_in("12 (node) S"), None);
        assert_eq!(parent_in("nonsense"), None);
    }
}
