//! A folder for one test, removed afterwards.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static TURN: AtomicU32 = AtomicU32::new(0);
        let turn = TURN.fetch_add(1, Relaxed);
        let dir =
            std::env::temp_dir().join(format!("sidekeeper-config-{}-{turn}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("the temporary directory can be written");
        Scratch(dir.canonicalize().expect("it was just made"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.path(name);
        let dir = file.parent().expect("a file stands in a folder");
        std::fs::create_dir_all(dir).expect("the scratch folder can be written");
        std::fs::write(&file, text).expect("the scratch folder can be written");
        file
    }

    pub fn program(&self, name: &str, text: &str) {
        let file = self.file(name, text);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(file, mode).expect("our own file");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
