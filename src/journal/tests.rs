//! The journal with real files: what is written where, and what happens when that is not possible.

use super::date::DateFormat;
use super::rotation::{Every, Rotation};
use super::*;
use std::fs;
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(20);

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let name = format!("sidekeeper-journal-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("the temporary directory can be written");
        Dir(dir)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("our folder").flatten();
        let mut names: Vec<String> = entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// All that is in the files, the oldest first.
    fn all(&self) -> String {
        let mut files: Vec<_> = self.names().iter().map(|name| self.0.join(name)).collect();
        files.sort_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok());
        files
            .iter()
            .map(|path| fs::read_to_string(path).unwrap_or_default())
            .collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn rotation() -> Rotation {
    Rotation {
        bytes_max: 0,
        every: Every::Never,
        files_max: 0,
        total_bytes_max: 0,
        compress: false,
        date: DateFormat::read("YYYY-MM-DD_HH-mm-ss").0,
    }
}

fn start(rotation: Rotation) -> Journal {
    Journal::start(rotation).expect("a thread")
}

fn gap() -> Gap {
    Box::new(|count| format!("-- {count} --").into_bytes())
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn lines_reach_their_files_and_one_path_is_one_file() {
    let dir = Dir::new("lines");
    let journal = start(rotation());
    let path = dir.0.join("made/on/the/way/a.log");
    let (one, other) = (journal.open(&path, gap()), journal.open(&path, gap()));
    one.write(b"one");
    other.write(b"two");
    until("the lines", || {
        fs::read_to_string(&path).is_ok_and(|text| text == "one\ntwo\n")
    });
    drop((one, other));
    journal.open(&path, gap()).write(b"three");
    assert!(journal.flush(PATIENCE));
    assert_eq!(
        fs::read_to_string(&path).expect("the file"),
        "one\ntwo\nthree\n"
    );
}

#[test]
fn a_full_file_is_put_aside_between_two_lines() {
    let dir = Dir::new("size");
    let journal = start(Rotation {
        bytes_max: 1000,
        ..rotation()
    });
    let file = journal.open(&dir.0.join("a.log"), gap());
    let mut expected = String::new();
    for number in 0..100 {
        let line = format!("{number:090}");
        expected.push_str(&line);
        expected.push('\n');
        assert_eq!(file.write(line.as_bytes()), Written::Queued);
    }
    assert!(journal.flush(PATIENCE));
    let names = dir.names();
    assert_eq!(names.len(), 10, "{names:?}");
    for name in &names {
        let bytes = fs::metadata(dir.0.join(name)).expect("the file").len();
        assert_eq!(bytes, 910, "{name}");
    }
    assert_eq!(dir.all().len(), expected.len());
}

#[test]
fn old_ones_go_and_the_rest_is_handed_out_for_compressing() {
    let dir = Dir::new("keep");
    let journal = start(Rotation {
        bytes_max: 100,
        files_max: 3,
        compress: true,
        ..rotation()
    });
    let file = journal.open(&dir.0.join("a.log"), gap());
    for number in 0..20 {
        file.write(format!("{number:090}").as_bytes());
    }
    assert!(journal.flush(PATIENCE));
    until("fewer files", || dir.names().len() == 4);
    let job = journal.jobs().recv_timeout(PATIENCE).expect("a job");
    assert!(journal.jobs().try_recv().is_err(), "one at a time");
    journal.job_ended(job.clone(), JobEnd::Done);
    let next = journal.jobs().recv_timeout(PATIENCE).expect("the next job");
    assert_ne!(next, job);
    journal.job_ended(next, JobEnd::NoProgram);
    assert!(journal.flush(PATIENCE));
    assert!(journal.jobs().try_recv().is_err());
}

#[test]
fn age_puts_a_file_aside_though_nothing_comes() {
    let dir = Dir::new("age");
    let journal = start(Rotation {
        every: Every::Seconds(1),
        ..rotation()
    });
    let file = journal.open(&dir.0.join("a.log"), gap());
    file.write(b"old");
    until("the new file", || dir.names().len() == 2);
    file.write(b"new");
    assert!(journal.flush(PATIENCE));
    // The file may be put aside once more while we read.
    until("both lines", || dir.all() == "old\nnew\n");
}

#[test]
fn what_was_moved_away_gets_what_waited_and_a_new_file_the_rest() {
    let dir = Dir::new("reopen");
    let path = dir.0.join("a.log");
    let journal = start(rotation());
    let file = journal.open(&path, gap());
    file.write(b"one");
    assert!(journal.flush(PATIENCE));
    fs::rename(&path, dir.0.join("a.log.1")).expect("our own file");
    file.write(b"two");
    journal.reopen();
    until("the new file", || path.exists());
    file.write(b"three");
    assert!(journal.flush(PATIENCE));
    assert_eq!(
        fs::read_to_string(dir.0.join("a.log.1")).expect("the file"),
        "one\ntwo\n"
    );
    assert_eq!(fs::read_to_string(&path).expect("the file"), "three\n");
}

#[test]
fn a_file_that_cannot_be_written_keeps_what_fits_into_memory_and_goes_on() {
    let dir = Dir::new("failing");
    fs::write(dir.0.join("in-the-way"), "").expect("our folder");
    let path = dir.0.join("in-the-way/a.log");
    let journal = start(rotation());
    let file = journal.open(&path, gap());
    let line = vec![b'x'; 100_000];
    let mut dropped = 0;
    for _ in 0..50 {
        dropped += u64::from(file.write(&line) == Written::Dropped);
    }
    assert!(dropped > 10);
    until("the failure", || {
        journal.health().failing.load(Relaxed) == 1
    });
    fs::remove_file(dir.0.join("in-the-way")).expect("our folder");
    until("the recovery", || {
        journal.reopen();
        path.exists()
    });
    assert!(journal.flush(PATIENCE));
    let text = fs::read_to_string(&path).expect("the file");
    assert!(
        text.ends_with(&format!("-- {dropped} --\n")),
        "{}",
        text.len()
    );
    assert_eq!(journal.health().failing.load(Relaxed), 0);
    assert_eq!(journal.health().dropped.load(Relaxed), dropped);
}

#[test]
fn a_full_disk_is_known_as_such() {
    let journal = start(rotation());
    let file = journal.open(Path::new("/dev/full"), gap());
    file.write(b"anything");
    until("the complaint", || {
        journal.health().disk_full.load(Relaxed) == 1
    });
}

#[test]
fn a_folder_or_pipe_in_the_way_does_not_hold_anybody_up() {
    let dir = Dir::new("way");
    let journal = start(rotation());
    let file = journal.open(&dir.0, gap());
    file.write(b"anything");
    until("the complaint", || {
        journal.health().failing.load(Relaxed) == 1
    });
    assert_eq!(journal.health().disk_full.load(Relaxed), 0);
    drop(file);
}
