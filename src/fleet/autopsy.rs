//! What a worker was doing when it was found hung: gathered before it is killed, written to a file in
//! the run directory, and summed up in a few words. Runs on a thread of its own for each case, because
//! it takes a moment, and reading `/proc` of a process that hangs may take more.

use crate::fleet::hang::Cause;
use crate::fleet::life::LifeKey;
use crate::fleet::message::Stats;
use crate::fleet::status::Open;
use front::channel::{Receiver, Sender};
use front::order;
use front::roster::traffic::{Heard, Progress, Traffic};
use front::sys::process::Pid;
use front::sys::procfs::{self, Doing, TICKS_PER_SECOND};
use front::sys::threads::{Call, Thread, threads};
use std::fmt::Write;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Files that are kept; the oldest go.
const FILES_MAX: usize = 20;
/// Over how long it is watched which thread uses the processor.
const CPU_LOOK: Duration = Duration::from_millis(250);
/// How long the last lines of stderr are waited for.
const WORDS_TIME_MAX: Duration = Duration::from_millis(500);
/// How long pool threads are waited for.
const TRAFFIC_TIME_MAX: Duration = Duration::from_millis(500);
/// Requests that are listed, the oldest first.
const REQUESTS_MAX: usize = 50;
const PROCESSES_MAX: usize = 8;
const THREADS_MAX: usize = 32;

/// What is known before anybody has looked.
pub struct Case {
    pub key: LifeKey,
    /// `chat.0`
    pub name: Arc<str>,
    pub pid: Pid,
    pub cause: Cause,
    pub open: Open,
    /// How long those requests have got nothing.
    pub waiting: Option<Duration>,
    /// What the hook said last, and how long ago.
    pub stats: Option<Stats>,
    pub silence: Duration,
    /// Who knows the requests that it has.
    pub traffic: Option<Arc<dyn Traffic>>,
    /// The last lines of its stderr come here.
    pub words: Receiver<Vec<String>>,
    pub dir: PathBuf,
}

/// What came of it.
pub struct Finding {
    pub key: LifeKey,
    /// `running, 98 % of a core; 3 requests open, the oldest without a byte for 31 s`
    pub summary: String,
    /// None: it could not be written, and the summary says why.
    pub file: Option<PathBuf>,
}

/// Begins; what comes of it is sent to `findings`.
pub fn begin(case: Case, findings: Sender<Finding>) -> io::Result<()> {
    thread::Builder::new()
        .name("autopsy".to_owned())
        .spawn(move || {
            // Without a supervisor the process is about to end.
            let _ = findings.send(perform(&case));
        })?;
    Ok(())
}

/// A process of the worker, looked at twice.
struct Body {
    pid: u32,
    status: Vec<String>,
    descriptors: Option<u64>,
    threads: Vec<(Thread, f64)>,
}

fn perform(case: &Case) -> Finding {
    let mut family = procfs::family(case.pid);
    family.truncate(PROCESSES_MAX);
    let main = procfs::family_usage(case.pid);
    let began = Instant::now();
    let before: Vec<Vec<Thread>> = family
        .iter()
        .map(|pid| threads(*pid, THREADS_MAX))
        .collect();
    thread::sleep(CPU_LOOK);
    let bodies: Vec<Body> = family
        .iter()
        .zip(before)
        .map(|(pid, before)| body(*pid, &before, began))
        .collect();
    let heard = case
        .traffic
        .as_ref()
        .map_or_else(Heard::default, |traffic| {
            traffic.under_way(Some(case.key.slot), TRAFFIC_TIME_MAX)
        });
    let words = case.words.recv_timeout(WORDS_TIME_MAX).unwrap_or_default();
    let main_body = main.and_then(|main| bodies.iter().find(|body| body.pid == main.main));
    let doing = main_body.or(bodies.first()).map_or_else(
        || "its process cannot be seen".to_owned(),
        |body| doing(body, main.map(|main| main.doing).unwrap_or_default()),
    );
    let summary = match open_requests(case, &heard) {
        Some(open) => format!("{doing}; {open}"),
        None => doing,
    };
    let text = report(case, &summary, &bodies, &heard, &words);
    match write(case, &text) {
        Ok(file) => Finding {
            key: case.key,
            summary,
            file: Some(file),
        },
        Err(error) => Finding {
            key: case.key,
            summary: format!("{summary}; no autopsy could be written: {error}"),
            file: None,
        },
    }
}

fn body(pid: u32, before: &[Thread], began: Instant) -> Body {
    let now = threads(pid, THREADS_MAX);
    let seconds = began.elapsed().as_secs_f64().max(0.001);
    let with_cpu = now.into_iter().map(|thread| {
        let then = before.iter().find(|other| other.id == thread.id);
        let ticks = thread.cpu_ticks
            - then.map_or(thread.cpu_ticks, |then| {
                then.cpu_ticks.min(thread.cpu_ticks)
            });
        let percent = ticks as f64 * 100.0 / TICKS_PER_SECOND as f64 / seconds;
        (thread, percent)
    });
    Body {
        pid,
        status: procfs::status_lines(pid),
        descriptors: procfs::open_descriptors(pid),
        threads: with_cpu.collect(),
    }
}

/// What the process does, in a few words: its first thread is the one with the event loop.
fn doing(body: &Body, state: Doing) -> String {
    let Some((first, percent)) = body.threads.first() else {
        return "it has ended meanwhile".to_owned();
    };
    match (state, &first.call) {
        (Doing::Stopped, _) => "stopped by a signal".to_owned(),
        (Doing::Runs, None) => format!("running, {percent:.0} % of a core"),
        (Doing::Uninterruptible, Some(call)) => {
            format!(
                "in {}, in the kernel's {}",
                shown(call),
                or_dash(&first.waits_in)
            )
        }
        (Doing::Uninterruptible, None) => format!("in the kernel's {}", or_dash(&first.waits_in)),
        (_, Some(call)) => format!("waiting in {}", shown(call)),
        (_, None) => format!("waiting in the kernel's {}", or_dash(&first.waits_in)),
    }
}

fn shown(call: &Call) -> String {
    match &call.on {
        Some(on) => format!("{}({})", call.name, on.display()),
        None => format!("{}()", call.name),
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn open_requests(case: &Case, heard: &Heard) -> Option<String> {
    let count = case.open.requests;
    let noun = if count == 1 { "request" } else { "requests" };
    match (count, heard.requests.first(), case.waiting) {
        (0, _, _) => None,
        (_, Some(oldest), _) => Some(format!(
            "{count} {noun} open, the oldest for {} s ({} {})",
            oldest.age_ms / 1000,
            oldest.method,
            oldest.target
        )),
        (_, None, Some(time)) => Some(format!(
            "{count} {noun} open, without a byte for {} s",
            time.as_secs()
        )),
        (_, None, None) => Some(format!("{count} {noun} open")),
    }
}

/// The whole text. Writing to a String cannot fail.
fn report(case: &Case, summary: &str, bodies: &[Body], heard: &Heard, words: &[String]) -> String {
    let mut text = format!(
        "{} (pid {}, life {}) was found hung: {}\n{summary}\n\n",
        case.name, case.pid, case.key.life, case.cause
    );
    let _ = writeln!(text, "at, in seconds since 1970: {}", unix_s());
    let Open {
        requests,
        relayed,
        handed_off,
    } = case.open;
    let _ = writeln!(
        text,
        "open: {requests} requests, {relayed} WebSockets relayed, {handed_off} handed off"
    );
    if let Some(time) = case.waiting {
        let _ = writeln!(
            text,
            "no byte of an answer for: {:.1} s",
            time.as_secs_f64()
        );
    }
    match case.stats {
        Some(stats) => {
            let _ = writeln!(
                text,
                "last report of its event loop: {:.1} s ago; worst delay {} ms, busy {:.0} %, heap {} KiB, resident {} KiB, {} sockets",
                case.silence.as_secs_f64(),
                stats.lag_ms,
                stats.utilization * 100.0,
                stats.heap / 1024,
                stats.rss / 1024,
                stats.sockets
            );
        }
        None => text.push_str("last report of its event loop: none\n"),
    }
    let _ = writeln!(text, "\nopen requests, the oldest first:");
    if heard.requests.is_empty() {
        text.push_str("  (none)\n");
    }
    for request in heard.requests.iter().take(REQUESTS_MAX) {
        let stage = match request.progress {
            Progress::UnderWay(stage) => stage.word(),
            Progress::Ended { end, .. } => end,
        };
        let client = request
            .client
            .map_or_else(|| "-".to_owned(), |client| client.to_string());
        let _ = writeln!(
            text,
            "  {:.1} s {stage}: {} {} from {client}, id {}",
            request.age_ms as f64 / 1000.0,
            request.method,
            request.target,
            request.id
        );
    }
    let left_out = heard.more + heard.requests.len().saturating_sub(REQUESTS_MAX);
    if left_out > 0 {
        let _ = writeln!(text, "  and {left_out} more");
    }
    let _ = writeln!(text, "\nlast lines of stderr:");
    if words.is_empty() {
        text.push_str("  (none)\n");
    }
    for word in words {
        let _ = writeln!(text, "  {word}");
    }
    for body in bodies {
        let _ = writeln!(text, "\nprocess {}:", body.pid);
        for line in &body.status {
            let _ = writeln!(text, "  {line}");
        }
        if let Some(count) = body.descriptors {
            let _ = writeln!(text, "  open descriptors: {count}");
        }
        for (thread, percent) in &body.threads {
            let call = thread.call.as_ref().map_or_else(|| "-".to_owned(), shown);
            let _ = writeln!(
                text,
                "  thread {} {}: state {}, {percent:.0} % of a core, system call {call}, waits in {}",
                thread.id,
                thread.name,
                thread.state,
                or_dash(&thread.waits_in)
            );
            for line in thread.stack.lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
        if body
            .threads
            .iter()
            .all(|(thread, _)| thread.stack.is_empty())
        {
            text.push_str("  (the kernel shows its stacks to root only)\n");
        }
    }
    text
}

fn write(case: &Case, text: &str) -> io::Result<PathBuf> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&case.dir)?;
    make_room(&case.dir);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = case
        .name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    // The time comes first, so that the oldest stands first.
    let path = case
        .dir
        .join(format!("{}-{name}-{}.txt", unix_s(), case.pid));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

/// Removes the oldest files.
fn make_room(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    order::sort_by(&mut files, PathBuf::cmp);
    let surplus = (files.len() + 1).saturating_sub(FILES_MAX);
    for path in files.into_iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use front::channel::bounded;
    use front::roster::Slot;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_that_reads_for_ever_is_described() {
        let dir = std::env::temp_dir().join(format!("sidekeeper-autopsy-{}", std::process::id()));
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("cat");
        let (sender, words) = bounded(1);
        sender.send(vec!["oh no".to_owned()]).expect("room");
        let case = Case {
            key: LifeKey {
                slot: Slot(1),
                life: 2,
            },
            name: Arc::from("a/b.0"),
            pid: Pid::new(child.id()).expect("a number"),
            cause: Cause::Silent(Duration::from_secs(31)),
            open: Open {
                requests: 3,
                relayed: 0,
                handed_off: 2,
            },
            waiting: Some(Duration::from_secs(29)),
            stats: None,
            silence: Duration::from_secs(31),
            traffic: None,
            words,
            dir: dir.clone(),
        };
        for _ in 0..FILES_MAX + 3 {
            DirBuilder::new()
                .recursive(true)
                .create(&dir)
                .expect("a directory");
            let number = fs::read_dir(&dir).expect("it is there").count();
            fs::write(dir.join(format!("0-{number}.txt")), "").expect("a file");
        }
        let finding = perform(&case);
        let _ = child.kill();
        let _ = child.wait();
        assert!(
            finding
                .summary
                .ends_with("3 requests open, without a byte for 29 s"),
            "{}",
            finding.summary
        );
        let file = finding.file.expect("a file");
        let text = fs::read_to_string(&file).expect("it was written");
        for part in [
            "a/b.0",
            "life 2",
            "silent for 31 s",
            "oh no",
            "thread ",
            "VmRSS",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(fs::read_dir(&dir).expect("it is there").count(), FILES_MAX);
        fs::remove_dir_all(&dir).expect("clean");
    }
}
