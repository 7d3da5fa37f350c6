//! The control socket: one line of JSON in, lines of JSON out, the last of them `{"end":CODE}`.
//!
//! The admin thread accepts and answers quick commands itself, one client at a time, each under a
//! deadline. A command that takes its time gets a thread of its own, of which there are few. The
//! socket lives in the 0700 run directory, has mode 0600, and answers its own user and root only.

use crate::admin::Shared;
use crate::admin::ask::{Refusal, Reply};
use crate::admin::command::{self, Pace};
use crate::admin::served::Served;
use front::sys::carried::Baton;
use front::sys::process::user;
use front::sys::socket;
use log::debug;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// For a whole request, and for the client to take each line of the answer.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(2);
const LINE_TIME_MAX: Duration = Duration::from_secs(5);
/// Commands at once that take their time.
const SLOW_MAX: usize = 8;

/// Where an instance with this run directory listens.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("control")
}

/// The running thread. Dropping it removes the socket.
pub struct Control {
    served: Served<UnixListener>,
    path: PathBuf,
}

impl Control {
    /// `left`: what an earlier binary has listened on. Else what lies at `path` was left by a run that
    /// was killed: the run directory is locked.
    pub fn start(
        path: &Path,
        left: Option<UnixListener>,
        shared: Arc<Shared>,
    ) -> io::Result<Control> {
        let listener = match left {
            Some(listener) => listener,
            None => {
                let _ = fs::remove_file(path);
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, Permissions::from_mode(0o600))?;
                listener
            }
        };
        let slow = Arc::new(AtomicUsize::new(0));
        let served = Served::start(
            "admin",
            listener,
            Arc::default(),
            |listener| Ok(listener.accept()?.0),
            move |stream| {
                // A client that has left is no trouble of ours.
                if let Err(e) = answer(stream, &shared, &slow) {
                    debug!("control: {e}");
                }
            },
        )?;
        Ok(Control {
            served,
            path: path.to_owned(),
        })
    }

    /// Of the listener, for the binary that takes over.
    pub fn baton(&self) -> Baton {
        self.served.baton()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn answer(stream: UnixStream, shared: &Arc<Shared>, slow: &Arc<AtomicUsize>) -> io::Result<()> {
    let peer = socket::peer_user(stream.as_fd())?;
    stream.set_write_timeout(Some(LINE_TIME_MAX))?;
    let mut reply = Reply::new(stream);
    let line = reply.read_line(Instant::now() + REQUEST_TIME_MAX)?;
    // Only now, so that the client is there to hear it.
    if peer != 0 && peer != user() {
        return reply.refuse(&Refusal::failed("this instance belongs to another user"));
    }
    let (item, ask) = match command::understand(&line) {
        Ok(understood) => understood,
        Err(refusal) => return reply.refuse(&refusal),
    };
    match item.pace {
        Pace::Quick => command::run(item, shared, &ask, &mut reply),
        Pace::Slow => {
            let Some(place) = Place::take(slow) else {
                let why = format!("{SLOW_MAX} such commands are under way; try again later");
                return reply.refuse(&Refusal::failed(why));
            };
            let shared = Arc::clone(shared);
            let body = move || {
                let _place = place;
                if let Err(e) = command::run(item, &shared, &ask, &mut reply) {
                    debug!("control: {e}");
                }
            };
            thread::Builder::new()
                .name(format!("admin-{}", item.name))
                .spawn(body)?;
            Ok(())
        }
    }
}

/// One of the few slow commands; given back when it is over.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(slow: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(Arc::clone(slow));
        (place.0.fetch_add(1, Relaxed) < SLOW_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
