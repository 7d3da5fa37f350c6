//! The journal's thread: waits for lines, writes them in large pieces, and looks after what has been
//! put aside. It is the only thread that waits for a disk.

use crate::journal::date::Zone;
use crate::journal::queue::Queue;
use crate::journal::rotation::Rotation;
use crate::journal::shelf;
use crate::journal::target::{Target, Terms};
use crate::journal::{Common, Job, JobEnd};
use front::channel::{Receiver, Sender, TryRecvError};
use log::warn;
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// While lines come, they are collected for so long before they are written.
const COLLECT: Duration = Duration::from_millis(50);
/// The longest sleep: clocks may be set, and files may have lost their last writer.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Folders are not read more often than this,
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// but for every so many times that something was put aside, lest a flood fill the disk meanwhile.
const UNSWEPT_MAX: u32 = 4;

/// What the thread is told.
pub enum Order {
    Open { path: PathBuf, queue: Arc<Queue> },
    Reopen,
    Flush(Sender<()>),
    JobEnded(Job, JobEnd),
}

/// How it stands with compressing.
enum Press {
    Off,
    Idle,
    /// A job has been handed out.
    Busy,
}

pub struct Writer {
    common: Arc<Common>,
    rotation: Rotation,
    bells: Receiver<()>,
    orders: Receiver<Order>,
    jobs: Sender<Job>,
    zone: Zone,
    targets: Vec<Target>,
    /// Every file that was ever opened: what was put aside from it is looked after.
    known: BTreeSet<PathBuf>,
    /// When the folders are to be read next.
    sweep_at: Option<Instant>,
    swept: Option<Instant>,
    /// How often something was put aside since.
    unswept: u32,
    plain: VecDeque<PathBuf>,
    press: Press,
    /// It has been told that a file could not be compressed.
    press_complained: bool,
}

impl Writer {
    pub fn new(
        common: Arc<Common>,
        rotation: Rotation,
        bells: Receiver<()>,
        orders: Receiver<Order>,
        jobs: Sender<Job>,
    ) -> Writer {
        Writer {
            press: if rotation.compress {
                Press::Idle
            } else {
                Press::Off
            },
            common,
            rotation,
            bells,
            orders,
            jobs,
            zone: Zone::default(),
            targets: Vec::new(),
            known: BTreeSet::new(),
            sweep_at: None,
            swept: None,
            unswept: 0,
            plain: VecDeque::new(),
            press_complained: false,
        }
    }

    pub fn run(mut self) {
        let mut awake = true;
        loop {
            let ended = self.obey().is_err();
            let wrote = self.pass();
            if ended {
                return;
            }
            self.sweep();
            self.hand_out();
            if wrote || awake {
                awake = false;
                let _ = self.bells.recv_timeout(COLLECT);
            } else {
                self.sleep();
                awake = true;
            }
        }
    }

    /// Sleeps until somebody rings, or something is due.
    fn sleep(&mut self) {
        for target in &self.targets {
            target.queue.shrink();
        }
        self.close_unused();
        let wait = self.nap();
        self.common.asleep.store(true, Relaxed);
        let now = Instant::now();
        // Whoever puts a line in after this look sees that we sleep: the queue's lock is between.
        if !self.targets.iter().any(|target| target.has_work(now)) && self.orders.is_empty() {
            let _ = self.bells.recv_timeout(wait);
        }
        self.common.asleep.store(false, Relaxed);
    }

    fn nap(&mut self) -> Duration {
        let mut terms = Terms::now(&self.rotation, &mut self.zone, &self.common.waiting_bytes);
        let now = terms.now;
        let due = self
            .targets
            .iter()
            .filter_map(|target| target.deadline(&mut terms));
        let next = due.chain(self.sweep_at).min();
        next.map_or(SLEEP_MAX, |at| at.saturating_duration_since(now))
            .min(SLEEP_MAX)
    }

    /// Err: nobody is left who could have lines.
    fn obey(&mut self) -> Result<(), ()> {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Open { path, queue }) => {
                    self.known.insert(path.clone());
                    self.targets.push(Target::new(path, queue));
                    self.sweep_soon();
                }
                Ok(Order::Reopen) => {
                    let mut terms =
                        Terms::now(&self.rotation, &mut self.zone, &self.common.waiting_bytes);
                    for target in &mut self.targets {
                        target.reopen(&mut terms);
                        // The new file is there at once, for whoever waits for it.
                        target.pass(&mut terms);
                    }
                }
                Ok(Order::Flush(done)) => {
                    self.pass();
                    let _ = done.send(());
                }
                Ok(Order::JobEnded(job, end)) => self.job_ended(&job, end),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(()),
            }
        }
    }

    /// One pass over all files; true if anything was written.
    fn pass(&mut self) -> bool {
        let mut terms = Terms::now(&self.rotation, &mut self.zone, &self.common.waiting_bytes);
        let (mut wrote, mut rotated) = (false, false);
        let (mut failing, mut full) = (0, 0);
        for target in &mut self.targets {
            let passed = target.pass(&mut terms);
            wrote |= passed.wrote;
            rotated |= passed.rotated;
            let (fails, is_full) = target.failing();
            failing += u32::from(fails);
            full += u32::from(is_full);
        }
        self.common.health.failing.store(failing, Relaxed);
        self.common.health.disk_full.store(full, Relaxed);
        if rotated {
            self.unswept += 1;
            self.sweep_soon();
        }
        wrote
    }

    /// Closes the files that nobody can write to any more.
    fn close_unused(&mut self) {
        // Under this lock nobody can open them meanwhile.
        let mut open = self
            .common
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let all_bytes = &self.common.waiting_bytes;
        self.targets.retain_mut(|target| {
            let used = Arc::strong_count(&target.queue) > 1;
            let (failing, _) = target.failing();
            if used || (!target.queue.is_empty() && !failing) {
                return true;
            }
            target.give_up(all_bytes);
            open.remove(&target.path);
            false
        });
    }

    fn sweep_soon(&mut self) {
        let now = Instant::now();
        let pause = match self.unswept {
            0..UNSWEPT_MAX => SWEEP_PAUSE,
            UNSWEPT_MAX.. => Duration::ZERO,
        };
        let earliest = self.swept.map_or(now, |swept| now.max(swept + pause));
        self.sweep_at = Some(self.sweep_at.map_or(earliest, |at| at.min(earliest)));
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_at = None;
            self.swept = Some(now);
            self.unswept = 0;
            self.plain = shelf::sweep(&self.rotation, &self.known).into();
        }
    }

    fn hand_out(&mut self) {
        // What has been removed or compressed since the folders were read is no job any more.
        let next = |plain: &mut VecDeque<PathBuf>| loop {
            let path = plain.pop_front()?;
            if path.exists() {
                return Some(path);
            }
        };
        if matches!(self.press, Press::Idle)
            && let Some(path) = next(&mut self.plain)
            && self.jobs.try_send(Job { path }).is_ok()
        {
            self.press = Press::Busy;
        }
    }

    fn job_ended(&mut self, job: &Job, end: JobEnd) {
        self.press = match end {
            JobEnd::Done => {
                self.press_complained = false;
                Press::Idle
            }
            JobEnd::Failed(why) => {
                if !std::mem::replace(&mut self.press_complained, true) {
                    warn!(
                        "{} cannot be compressed and stays as it is: {why}",
                        job.path.display()
                    );
                }
                Press::Idle
            }
            JobEnd::NoProgram => {
                warn!("old logs stay uncompressed: there is no gzip in PATH");
                Press::Off
            }
        };
        // It is smaller now, so that more may stay.
        self.hand_out();
    }
}
