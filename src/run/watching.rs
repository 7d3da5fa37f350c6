//! Watches the folders of apps for changes, and tells an app's name when nothing has changed for a
//! while (pm2's `watch`). One thread for all apps, `files`, which waits in an epoll set; it ends when
//! the value is dropped. What a reload does with the news is not decided here.

mod patterns;

use crate::fleet::spec::Watch;
use front::channel::{Receiver, Sender, unbounded};
use front::sys::epoll::{Epoll, Interest, Waker};
use front::sys::inotify::{Change, Inotify, Watched};
use log::{debug, warn};
use patterns::{Pattern, is_ignored};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Folders watched at once, over all apps. Beyond them none is, which is told.
const FOLDERS_MAX: usize = 4096;
/// Who never stops changing is reloaded all the same, this long after the first change.
const RESTLESS: Duration = Duration::from_secs(10);

/// What is watched for one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    pub app: String,
    /// Its working directory, from which patterns are seen.
    pub dir: PathBuf,
    pub watch: Watch,
}

/// News of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub app: String,
    /// What changed first.
    pub path: PathBuf,
}

/// Files are watched as long as this value lives.
pub struct Watching {
    changed: Receiver<Changed>,
    waker: Arc<Waker>,
    ended: Arc<AtomicBool>,
}

impl Watching {
    pub fn start(apps: Vec<Folders>) -> io::Result<Watching> {
        let epoll = Epoll::new()?;
        let waker = Arc::new(Waker::new()?);
        let (tell, changed) = unbounded();
        let ended = Arc::new(AtomicBool::new(false));
        let mut lookout = Lookout {
            inotify: Inotify::new()?,
            apps: apps.into_iter().map(App::new).collect(),
            folders: BTreeMap::new(),
            full: false,
        };
        lookout.watch_all();
        epoll.add(lookout.inotify.as_fd(), 0, Interest::READ_LEVEL)?;
        epoll.add(waker.as_fd(), 1, Interest::READ_LEVEL)?;
        let is_over = Arc::clone(&ended);
        thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || {
                if let Err(error) = lookout.run(epoll, &tell, &is_over) {
                    warn!("files are not watched any more: {error}");
                }
            })?;
        Ok(Watching {
            changed,
            waker,
            ended,
        })
    }

    pub fn changed(&self) -> &Receiver<Changed> {
        &self.changed
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        self.waker.ring();
    }
}

struct App {
    folders: Folders,
    dir: PathBuf,
    ignored: Vec<Pattern>,
    settling: Option<Settling>,
}

/// Changes that have begun and may go on.
struct Settling {
    first: Instant,
    last: Instant,
    path: PathBuf,
}

impl App {
    fn new(folders: Folders) -> App {
        App {
            dir: fs::canonicalize(&folders.dir).unwrap_or_else(|_| folders.dir.clone()),
            ignored: folders
                .watch
                .ignored
                .iter()
                .map(|text| Pattern::new(text))
                .collect(),
            settling: None,
            folders,
        }
    }

    fn ignores(&self, root: &Path, path: &Path) -> bool {
        let below = path
            .strip_prefix(&self.dir)
            .or_else(|_| path.strip_prefix(root));
        is_ignored(below.unwrap_or(path), &self.ignored)
    }

    fn note(&mut self, path: PathBuf, now: Instant) {
        match &mut self.settling {
            Some(settling) => settling.last = now,
            None => {
                self.settling = Some(Settling {
                    first: now,
                    last: now,
                    path,
                });
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let settling = self.settling.as_ref()?;
        Some((settling.last + self.folders.watch.delay).min(settling.first + RESTLESS))
    }
}

/// Why a folder is watched.
#[derive(Clone)]
struct Reason {
    app: usize,
    root: PathBuf,
    folder: PathBuf,
    /// Only this file in it; None: all of it, and the folders below.
    only: Option<OsString>,
}

struct Lookout {
    inotify: Inotify,
    apps: Vec<App>,
    folders: BTreeMap<Watched, Vec<Reason>>,
    /// It has been told that there are too many folders.
    full: bool,
}

impl Lookout {
    fn run(
        mut self,
        mut epoll: Epoll,
        tell: &Sender<Changed>,
        ended: &AtomicBool,
    ) -> io::Result<()> {
        loop {
            let now = Instant::now();
            let due = self.apps.iter().filter_map(App::due).min();
            epoll.wait(due.map(|due| due.saturating_duration_since(now)))?;
            if ended.load(Relaxed) {
                return Ok(());
            }
            let now = Instant::now();
            for change in self.inotify.changes()? {
                self.hear(&change, now);
            }
            for app in &mut self.apps {
                if app.due().is_some_and(|due| due <= now)
                    && let Some(settling) = app.settling.take()
                {
                    let path = settling.path;
                    let path = path.strip_prefix(&app.dir).unwrap_or(&path).to_owned();
                    let app = app.folders.app.clone();
                    if tell.send(Changed { app, path }).is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn watch_all(&mut self) {
        for index in 0..self.apps.len() {
            let Some(app) = self.apps.get(index) else {
                return;
            };
            let name = app.folders.app.clone();
            for path in app.folders.watch.paths.clone() {
                // Links are followed here, and nowhere below.
                let Ok(path) = fs::canonicalize(&path) else {
                    warn!("app {name}: {} is not there to be watched", path.display());
                    continue;
                };
                match (path.is_dir(), path.parent()) {
                    (true, _) => self.watch_tree(index, &path, path.clone()),
                    (false, None) => {}
                    (false, Some(folder)) => self.watch(Reason {
                        app: index,
                        root: folder.to_owned(),
                        folder: folder.to_owned(),
                        only: path.file_name().map(OsStr::to_owned),
                    }),
                }
            }
        }
        debug!("{} folders are watched", self.folders.len());
    }

    /// Watches a folder and those below it.
    fn watch_tree(&mut self, app: usize, root: &Path, top: PathBuf) {
        let mut left = vec![top];
        while let Some(folder) = left.pop() {
            // First watched, then looked into: what comes between is told, or found.
            self.watch(Reason {
                app,
                root: root.to_owned(),
                folder: folder.clone(),
                only: None,
            });
            if self.full {
                return;
            }
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let path = entry.path();
                if is_folder
                    && self
                        .apps
                        .get(app)
                        .is_some_and(|app| !app.ignores(root, &path))
                {
                    left.push(path);
                }
            }
        }
    }

    fn watch(&mut self, reason: Reason) {
        if self.folders.len() >= FOLDERS_MAX {
            return self.tell_full(&format!("{FOLDERS_MAX} folders are watched"));
        }
        match self.inotify.add(&reason.folder) {
            Ok(number) => {
                let reasons = self.folders.entry(number).or_default();
                reasons.retain(|known| (known.app, &known.only) != (reason.app, &reason.only));
                reasons.push(reason);
            }
            // inotify(7): fs.inotify.max_user_watches.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.tell_full("fs.inotify.max_user_watches is reached");
            }
            // It has gone meanwhile, or is not ours to read.
            Err(error) => debug!("{} is not watched: {error}", reason.folder.display()),
        }
    }

    fn tell_full(&mut self, why: &str) {
        if !std::mem::replace(&mut self.full, true) {
            warn!(
                "{why}: changes in further ones go unnoticed; name less in `watch`, or more in `ignore_watch`"
            );
        }
    }

    fn hear(&mut self, change: &Change, now: Instant) {
        let Some(number) = change.folder else {
            // Too many changes at once: some are lost, and new folders with them.
            self.watch_all();
            for app in &mut self.apps {
                let path = app.dir.clone();
                app.note(path, now);
            }
            return;
        };
        if change.ended {
            self.folders.remove(&number);
            self.full = false;
            return;
        }
        for reason in self.folders.get(&number).cloned().unwrap_or_default() {
            let name = OsStr::from_bytes(&change.name);
            let path = reason.folder.join(name);
            let Some(app) = self.apps.get_mut(reason.app) else {
                continue;
            };
            let other = reason.only.as_deref().is_some_and(|only| only != name);
            if other || app.ignores(&reason.root, &path) {
                continue;
            }
            app.note(path.clone(), now);
            if change.new_folder && reason.only.is_none() {
                self.watch_tree(reason.app, &reason.root, path);
            }
        }
    }
}
