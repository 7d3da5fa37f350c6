//! Files of lines: what workers print and what the access log says. Whoever has a line puts it into
//! the bounded queue of its [`LogFile`] and goes on; one thread, `journal`, writes all files, and
//! is the only one that a slow disk can hold up. What finds no room is dropped, counted, and the
//! place in the file says so.
//!
//! Files are rotated by size and age (`rotation`), reopened when somebody else has moved them, and
//! written again by themselves once a full disk has room. Compressing needs another program, which
//! this room cannot start: it hands out one [`Job`] at a time and is told what came of it.

pub mod date;
pub mod harmless;
mod queue;
pub mod rotation;
mod shelf;
mod target;
mod writer;

use crate::journal::queue::Queue;
use crate::journal::rotation::Rotation;
use crate::journal::writer::{Order, Writer};
use front::channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// Makes the line that stands where lines were dropped, from their number.
pub type Gap = Box<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Queued,
    /// The writer cannot keep up, or the disk is full. It is counted.
    Dropped,
}

/// What is to be known of all files. Written by whoever drops a line and by the journal's thread,
/// read by admin.
#[derive(Debug, Default)]
pub struct Health {
    /// Lines ever dropped.
    pub dropped: AtomicU64,
    /// Files that cannot be written now.
    pub failing: AtomicU32,
    /// Those of them for which there is no room on the disk.
    pub disk_full: AtomicU32,
}

/// A rotated file that is to be compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub path: PathBuf,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    Done,
    Failed(String),
    /// There is no such program: no more jobs are handed out.
    NoProgram,
}

/// What all threads share.
struct Common {
    /// The writer waits for nothing but a bell.
    asleep: AtomicBool,
    /// Bytes that wait in all queues.
    waiting_bytes: AtomicUsize,
    health: Health,
    open: Mutex<HashMap<PathBuf, Weak<Queue>>>,
}

/// The way to the thread. Cloned freely; used by every thread that has lines or orders.
#[derive(Clone)]
pub struct Journal {
    common: Arc<Common>,
    bell: Sender<()>,
    orders: Sender<Order>,
    jobs: Receiver<Job>,
}

impl Journal {
    /// Starts the thread.
    pub fn start(rotation: Rotation) -> io::Result<Journal> {
        let (bell, bells) = bounded(1);
        let (orders, orders_in) = unbounded();
        let (jobs_out, jobs) = bounded(1);
        let common = Arc::new(Common {
            asleep: AtomicBool::new(false),
            waiting_bytes: AtomicUsize::new(0),
            health: Health::default(),
            open: Mutex::default(),
        });
        let writer = Writer::new(Arc::clone(&common), rotation, bells, orders_in, jobs_out);
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())?;
        Ok(Journal {
            common,
            bell,
            orders,
            jobs,
        })
    }

    /// The file of this absolute path: one that is open already is shared, with the gap line of whoever
    /// was first. It is opened by the thread; one that cannot be opened is tried again, and says so.
    pub fn open(&self, path: &Path, gap: Gap) -> LogFile {
        let mut open = self
            .common
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = open.get(path).and_then(Weak::upgrade) {
            return LogFile {
                queue,
                common: Arc::clone(&self.common),
                bell: self.bell.clone(),
            };
        }
        open.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::new(Queue::new(gap));
        open.insert(path.to_owned(), Arc::downgrade(&queue));
        // Under the lock, so that a file that is closed and opened again is opened in that order.
        self.order(Order::Open {
            path: path.to_owned(),
            queue: Arc::clone(&queue),
        });
        LogFile {
            queue,
            common: Arc::clone(&self.common),
            bell: self.bell.clone(),
        }
    }

    /// Somebody has moved the files away: what waits is still written to them, then they are opened anew.
    pub fn reopen(&self) {
        self.order(Order::Reopen);
    }

    /// Writes all that waits; false if that takes longer.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, told) = bounded(1);
        self.order(Order::Flush(done));
        told.recv_timeout(patience).is_ok()
    }

    /// What is to be compressed: one job at a time, the next after [`Journal::job_ended`].
    pub fn jobs(&self) -> &Receiver<Job> {
        &self.jobs
    }

    pub fn job_ended(&self, job: Job, end: JobEnd) {
        self.order(Order::JobEnded(job, end));
    }

    pub fn health(&self) -> &Health {
        &self.common.health
    }

    fn order(&self, order: Order) {
        // Only a panic can have ended the thread; then files are not written any more.
        let _ = self.orders.send(order);
        ring(&self.bell);
    }
}

/// A file that is written by the thread, and closed by it when nobody has this any more.
#[derive(Clone)]
pub struct LogFile {
    queue: Arc<Queue>,
    common: Arc<Common>,
    bell: Sender<()>,
}

impl LogFile {
    /// Takes a line, without its newline. Never waits for the disk: it costs a short lock and a copy.
    pub fn write(&self, line: &[u8]) -> Written {
        let pushed = self.queue.push(line, &self.common.waiting_bytes);
        if pushed.written == Written::Dropped {
            self.common.health.dropped.fetch_add(1, Relaxed);
        }
        // The queue's lock orders this: if the thread did not see the line before it went to sleep,
        // we see that it sleeps.
        let asleep = self.common.asleep.load(Relaxed) && self.common.asleep.swap(false, Relaxed);
        if asleep || pushed.urgent {
            ring(&self.bell);
        }
        pushed.written
    }
}

/// A bell that rings already need not be rung.
fn ring(bell: &Sender<()>) {
    match bell.try_send(()) {
        Ok(()) | Err(TrySendError::Full | TrySendError::Disconnected) => {}
    }
}

#[cfg(test)]
mod tests;
