//! Processes: what std's `Command` and `ExitStatus` do not offer. Groups are signalled, never
//! single processes, and a [`Pid`] cannot be 0 or 1, so "everybody" cannot be hit by mistake.

use crate::json::{FromJson, ToJson, Value, Writer, Wrong};
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::mem;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A process that was started by us or has become our child; also names the group it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(i32);

impl ToJson for Pid {
    fn to_json(&self, to: &mut Writer) {
        self.number().to_json(to);
    }
}

impl FromJson for Pid {
    fn from_json(value: &Value) -> Result<Pid, Wrong> {
        Pid::new(u32::from_json(value)?).ok_or_else(|| Wrong::wanted("the number of a process"))
    }
}

impl Pid {
    /// None for numbers that no child can have: kill(2) gives 0 and 1 (as -1) other meanings.
    pub fn new(number: u32) -> Option<Pid> {
        i32::try_from(number).ok().filter(|n| *n > 1).map(Pid)
    }

    pub fn number(self) -> u32 {
        self.0.unsigned_abs()
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The signals that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Continue,
    Kill,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Continue => libc::SIGCONT,
            Signal::Kill => libc::SIGKILL,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    fn from_wait_status(status: libc::c_int) -> Exit {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => match signal_name(*signal) {
                Some(name) => f.write_str(name),
                None => write!(f, "signal {signal}"),
            },
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

/// Sends a signal to the group that `leader` leads or led; false if nobody is left in it.
pub fn signal_group(leader: Pid, signal: Signal) -> bool {
    // SAFETY: kill takes no pointer; a Pid is above 1, so its negative names one group. The only
    // failures are an empty group and one that we may not signal, and then there is nothing to do.
    unsafe { libc::kill(-leader.0, signal.number()) == 0 }
}

/// Whether any process, a zombie included, is in the group that `leader` leads or led.
pub fn group_exists(leader: Pid) -> bool {
    // SAFETY: signal 0 asks and sends nothing; the negative of a Pid names one group.
    let answer = unsafe { libc::kill(-leader.0, 0) };
    // A group of another user's processes (a setuid program) refuses, and so exists.
    answer == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Sends SIGKILL to one process, which must be an unreaped child of ours.
pub fn kill_child(child: Pid) {
    // SAFETY: no pointer; a child that has not been reaped still owns its number.
    unsafe { libc::kill(child.0, libc::SIGKILL) };
}

/// A child that has ended, left unreaped so that its number cannot name anybody else yet.
pub fn peek_ended_child() -> Option<Pid> {
    // SAFETY: siginfo_t is plain data, for which all zeros is a value; it lives through the call.
    let (result, pid) = unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let result = libc::waitid(libc::P_ALL, 0, &mut info, flags);
        // With WNOHANG and nobody ended, waitid succeeds and leaves the zero in place.
        (result, info.si_pid())
    };
    if result != 0 {
        return None; // ECHILD: no children at all.
    }
    u32::try_from(pid).ok().and_then(Pid::new)
}

/// Takes the end of a child that [`peek_ended_child`] has named.
pub fn reap(child: Pid) -> Option<Exit> {
    let mut status = 0;
    // SAFETY: `status` lives through the call.
    let reaped = unsafe { libc::waitpid(child.0, &mut status, libc::WNOHANG) };
    (reaped == child.0).then(|| Exit::from_wait_status(status))
}

/// Makes orphaned descendants our children instead of init's, so that we see them end.
pub fn adopt_orphans() {
    // SAFETY: no pointer. Kernels without it (before 3.4) leave orphans to init, as usual.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// The program will lead a session, and with it a process group, of its own: no terminal reaches it, and where
/// the kernel shares processors out among sessions (sched(7), autogroup) it has a share of its own.
pub fn lead_a_session(command: &mut Command) {
    let lead = || {
        // SAFETY: no pointer. A child that has just been forked leads no group, so it is not refused.
        match unsafe { libc::setsid() } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec it makes one system call and allocates nothing.
    unsafe { command.pre_exec(lead) };
}

/// Gives a child of ours the lowest priority: it runs when nobody else wants to.
pub fn yield_to_others(child: Pid) {
    const NICEST: libc::c_int = 19;
    // SAFETY: no pointer. That it fails (the child has ended) harms nobody.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, child.number(), NICEST) };
}

/// Ignores what may come before we are ready to heed it, or must never end us: SIGUSR1, which asks
/// that log files be opened anew, and SIGXFSZ, for which a failed write is enough. Programs that we
/// start as workers get both as usual.
pub fn ignore_what_must_not_end_us() {
    for signal in [libc::SIGUSR1, libc::SIGXFSZ] {
        // SAFETY: SIG_IGN installs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// The signals that the process hears of as a whole.
const HEARD: [libc::c_int; 7] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGCHLD,
    libc::SIGHUP,
    libc::SIGTTOU,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Keeps these signals from this thread and from those that it starts from now on. What comes while
/// every thread does so waits, even through an exec, for one that hears them again.
pub fn hold_signals() {
    mask_heard(libc::SIG_BLOCK);
}

/// This thread hears the signals that [`hold_signals`] keeps from all others.
pub fn hear_signals() {
    mask_heard(libc::SIG_UNBLOCK);
}

fn mask_heard(how: libc::c_int) {
    // SAFETY: the set is plain data, for which all zeros is a value, ours and initialised by
    // sigemptyset; the signals are valid, so nothing here can fail.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in HEARD {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(how, &set, std::ptr::null_mut());
    }
}

/// Asks for SIGKILL when the thread that started this process ends. It stays over an exec.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: no pointer.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The permissions that files of this process, and of what it becomes, do not get. umask(2).
pub fn set_umask(mask: u32) {
    // SAFETY: no pointer; it cannot fail.
    unsafe { libc::umask(mask as libc::mode_t) };
}

/// How far this process, and what it becomes, stands back: 19 most, -20 least. setpriority(2).
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: no pointer; 0 is the calling process.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The user whose rights we have.
pub fn user() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Sets the name that `ps` shows for this thread (for the process, on the first thread).
pub fn set_name(name: &CStr) {
    // SAFETY: the string ends in a NUL and the kernel copies it; longer ones are cut at 15 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Puts every signal back to its default and unblocks all: a program that is exec'd inherits
/// both, and std has ignored SIGPIPE.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no code. SIGKILL, SIGSTOP and libc's own two are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set is made empty by sigemptyset before it is used.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Ignores the signals by which a terminal or an operator ends a process.
pub fn ignore_requests_to_end() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: SIG_IGN installs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pid_means_everybody() {
        assert_eq!(Pid::new(0), None);
        assert_eq!(Pid::new(1), None);
        assert_eq!(Pid::new(u32::MAX), None);
        assert_eq!(Pid::new(2).map(Pid::number), Some(2));
    }

    #[test]
    fn exits_read_as_words() {
        assert_eq!(Exit::Code(3).to_string(), "exit code 3");
        assert_eq!(Exit::Signal(9).to_string(), "SIGKILL");
        assert_eq!(Exit::Signal(40).to_string(), "signal 40");
    }
}
