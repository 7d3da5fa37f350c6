//! Files that tell other programs about us: the pid file and the address file. Both appear whole
//! or not at all, and are gone when we end.

use std::io;
use std::path::{Path, PathBuf};

/// A file that is removed when this is dropped, if it is still ours.
#[derive(Debug)]
pub struct Trace {
    path: PathBuf,
    text: String,
}

impl Trace {
    /// Writes the file beside its place and moves it there, so that nobody reads half of it.
    pub fn leave(path: &Path, text: String) -> io::Result<Trace> {
        if std::fs::read_to_string(path).is_ok_and(|found| found == text) {
            // From this process's binary before: a full disk is no trouble then.
            let path = path.to_owned();
            return Ok(Trace { path, text });
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.new", std::process::id()));
        let written = std::fs::write(&beside, &text).and_then(|()| std::fs::rename(&beside, path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&beside);
            return Err(error);
        }
        Ok(Trace {
            path: path.to_owned(),
            text,
        })
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // A successor may have written its own by now.
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_whole_and_goes_with_its_owner() {
        let path = std::env::temp_dir().join(format!("sidekeeper-trace-{}", std::process::id()));
        let trace =
            Trace::leave(&path, "1\n".to_owned()).expect("the temporary directory can be written");
        assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), Some("1\n"));
        std::fs::write(&path, "2\n").expect("the temporary directory can be written");
        drop(trace);
        assert!(path.exists(), "a successor's file stays");
        drop(
            Trace::leave(&path, "3\n".to_owned()).expect("the temporary directory can be written"),
        );
        assert!(!path.exists());
        assert!(Trace::leave(Path::new("/nowhere/at/all"), String::new()).is_err());
    }
}
