//! A day of traffic against the policy: peaks, bursts, long sockets, a crash and a hung worker, with a
//! queue for each worker, in steps of a fifth of a second where something happens and of a second
//! where nothing does. `UPDATE_README=1 cargo test day` draws `docs/scaling-day.svg` anew.

use super::plot::{self, Point};
use super::policy::{Limits, Look, Measured, Role, Room, Scaler, Seen, Verdict, spared};
use front::roster::mixed;
use std::time::{Duration, Instant};
use std::{env, fs};

const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scaling-day.svg");
const HOUR: f64 = 3600.0;
/// From the start of a worker to its first answer.
const BOOT_S: f64 = 1.5;
/// What a request costs a worker.
const SERVICE_S: f64 = 0.01;
/// Sockets for one worker's worth of demand, and how long each stays.
const SOCKETS: f64 = 400.0;
const SOCKET_LIFE_S: f64 = 1200.0;
/// Sockets of a leaving worker that are sent elsewhere in a second, and when that begins.
const DRAIN_RATE: f64 = 100.0;
const FAREWELL_S: f64 = 20.0;
const LIMITS: Limits = Limits {
    min: 1,
    max: 8,
    cool_down: Duration::from_secs(60),
    idle_timeout: Duration::from_secs(300),
};
const WORKERS_MAX: u32 = 7;

/// Demand in workers that are busy all the time, by the hour.
const DEMAND: [(f64, f64); 10] = [
    (0.0, 0.2),
    (2.0, 0.05),
    (6.0, 0.05),
    (9.0, 1.7),
    (11.5, 2.4),
    (13.0, 1.9),
    (17.0, 2.6),
    (20.0, 3.4),
    (22.0, 1.2),
    (23.5, 0.1),
];
/// When a burst begins, for how many seconds, and what it adds.
const BURSTS: [(f64, f64, f64); 4] = [
    (4.0, 120.0, 2.2),
    (10.25, 60.0, 1.5),
    (15.5, 240.0, 2.0),
    // More than the cap allows.
    (20.25, 120.0, 6.0),
];
const CRASH: f64 = 11.0;
/// A worker hangs, and is replaced after half a minute.
const HANG: f64 = 14.0;
const HANG_S: f64 = 30.0;

fn demand(at_s: f64) -> f64 {
    let hour = at_s / HOUR;
    let after = DEMAND.iter().position(|(h, _)| *h > hour);
    let (next, last) = (
        DEMAND[after.unwrap_or(DEMAND.len() - 1)],
        DEMAND[after.unwrap_or(DEMAND.len()) - 1],
    );
    let part = ((hour - last.0) / (next.0 - last.0).max(0.001)).clamp(0.0, 1.0);
    let steady = last.1 + (next.1 - last.1) * part;
    let burst: f64 = BURSTS
        .iter()
        .filter(|(h, length, _)| (h * HOUR..h * HOUR + length).contains(&at_s))
        .map(|(_, _, more)| more)
        .sum();
    steady + burst
}

struct Worker {
    instance: u32,
    ready_at_s: f64,
    hung_since_s: Option<f64>,
    leaving_since_s: Option<f64>,
    /// Work that waits, in seconds, and what was done in the last step of the time.
    queue_s: f64,
    load: f64,
    sockets: f64,
}

impl Worker {
    fn new(instance: u32, at_s: f64) -> Worker {
        Worker {
            instance,
            ready_at_s: at_s + BOOT_S,
            hung_since_s: None,
            leaving_since_s: None,
            queue_s: 0.0,
            load: 0.0,
            sockets: 0.0,
        }
    }

    fn serves(&self, at_s: f64) -> bool {
        at_s >= self.ready_at_s && self.leaving_since_s.is_none()
    }

    fn seen(&self, at_s: f64) -> Seen {
        if !self.serves(at_s) {
            return Seen::idle(Role::Coming);
        }
        let silent = self.hung_since_s.map_or(0.0, |since| at_s - since);
        let waiting = (self.queue_s / SERVICE_S).ceil();
        Seen::serving(&Measured {
            thread: Some(self.load),
            silent: Some(Duration::from_secs_f64(silent)),
            in_flight: waiting as u32,
            ..Measured::default()
        })
    }
}

#[derive(Default)]
struct Day {
    workers: Vec<Worker>,
    points: Vec<Point>,
    changes: Vec<(f64, i32, String)>,
    held: u32,
}

impl Day {
    /// The next step; returns its length.
    fn step(&mut self, at_s: f64, scaler: &mut Scaler, began: Instant) -> f64 {
        let busy = self
            .workers
            .iter()
            .any(|w| w.load > 0.7 || at_s < w.ready_at_s || w.hung_since_s.is_some());
        let length_s = if busy { 0.2 } else { 1.0 };
        self.mishaps(at_s, length_s);
        let latency_s = self.work(at_s, length_s);
        let members = || self.workers.iter().filter(|w| w.leaving_since_s.is_none());
        let seen: Vec<Seen> = members().map(|w| w.seen(at_s)).collect();
        let look = Look {
            workers: &seen,
            waiting: 0,
            in_use: true,
        };
        let verdict = scaler.judge(began + Duration::from_secs_f64(at_s), LIMITS, look);
        match verdict {
            Verdict::Stay => {}
            Verdict::Grow { by, why } => {
                let there = u32::try_from(self.workers.len()).expect("few");
                let room = Room {
                    workers: WORKERS_MAX.saturating_sub(there),
                    workers_max: WORKERS_MAX,
                    memory: None,
                };
                match room.admit(by) {
                    Ok(by) => {
                        self.grow(by, at_s);
                        self.changes.push((at_s, by as i32, why));
                    }
                    Err(_) => {
                        self.held += 1;
                        scaler.hold(began + Duration::from_secs_f64(at_s));
                    }
                }
            }
            Verdict::Shrink { by, why } => {
                self.shrink(by, at_s);
                self.changes.push((at_s, -(by as i32), why));
            }
        }
        self.points.push(Point {
            at_s,
            demand: demand(at_s),
            serving: self.workers.iter().filter(|w| w.serves(at_s)).count(),
            there: self.workers.len(),
            latency_s,
        });
        length_s
    }

    fn mishaps(&mut self, at_s: f64, length_s: f64) {
        let begins = |hour: f64| (at_s..at_s + length_s).contains(&(hour * HOUR));
        for worker in self.workers.iter_mut().take(1) {
            if begins(CRASH) {
                *worker = Worker::new(worker.instance, at_s);
            }
            if begins(HANG) {
                worker.hung_since_s = Some(at_s);
            }
        }
        for worker in &mut self.workers {
            if worker
                .hung_since_s
                .is_some_and(|since| at_s - since > HANG_S)
            {
                *worker = Worker::new(worker.instance, at_s);
            }
        }
    }

    /// Requests and sockets come, are spread evenly, and are worked on. Returns how long the slowest
    /// request of this step waits at a healthy worker.
    fn work(&mut self, at_s: f64, length_s: f64) -> f64 {
        let noise = (mixed((at_s * 5.0) as u64) % 1000) as f64 / 1000.0;
        let work_s = demand(at_s) * (0.8 + 0.4 * noise) * length_s;
        let serving = self.workers.iter().filter(|w| w.serves(at_s)).count() as f64;
        let wanted = demand(at_s) * SOCKETS;
        let open: f64 = self.workers.iter().map(|w| w.sockets).sum();
        let new_sockets = (wanted - open).max(0.0).min(wanted * length_s / 30.0);
        let mut moved = 0.0;
        let mut latency_s: f64 = 0.0;
        for worker in &mut self.workers {
            if at_s < worker.ready_at_s {
                continue;
            }
            let share = if worker.serves(at_s) {
                1.0 / serving
            } else {
                0.0
            };
            if worker.serves(at_s) && worker.hung_since_s.is_none() {
                latency_s = latency_s.max(worker.queue_s + SERVICE_S);
            }
            worker.queue_s += work_s * share;
            worker.sockets += new_sockets * share;
            worker.sockets -= worker.sockets * length_s / SOCKET_LIFE_S;
            if let Some(since) = worker.leaving_since_s
                && at_s - since > FAREWELL_S
            {
                let leave = (DRAIN_RATE * length_s).min(worker.sockets);
                worker.sockets -= leave;
                moved += leave;
            }
            if worker.hung_since_s.is_some() {
                worker.load = 0.0;
                continue;
            }
            let done = worker.queue_s.min(length_s);
            worker.queue_s -= done;
            worker.load = done / length_s;
        }
        for worker in &mut self.workers {
            if worker.serves(at_s) {
                worker.sockets += moved / serving;
            }
        }
        // What is left of fractions is nobody.
        let gone = |w: &Worker| w.leaving_since_s.is_some() && w.queue_s == 0.0 && w.sockets < 0.5;
        self.workers.retain(|w| !gone(w));
        latency_s
    }

    fn grow(&mut self, by: u32, at_s: f64) {
        for _ in 0..by {
            let free = (0..).find(|n| !self.workers.iter().any(|w| w.instance == *n));
            self.workers
                .push(Worker::new(free.expect("numbers do not end"), at_s));
        }
    }

    fn shrink(&mut self, by: u32, at_s: f64) {
        let members = || self.workers.iter().filter(|w| w.leaving_since_s.is_none());
        let known: Vec<_> = members()
            .map(|w| {
                (
                    w.instance,
                    w.instance,
                    w.seen(at_s).role,
                    w.sockets as usize,
                )
            })
            .collect();
        let leavers = spared(&known, by);
        let left = members().filter(|w| w.serves(at_s) && !leavers.contains(&w.instance));
        assert!(left.count() > 0, "somebody serves on at {at_s} s");
        for worker in &mut self.workers {
            if leavers.contains(&worker.instance) {
                worker.leaving_since_s = Some(at_s);
            }
        }
    }
}

fn simulated() -> Day {
    let mut day = Day::default();
    day.grow(1, -BOOT_S);
    let (mut scaler, began) = (Scaler::default(), Instant::now());
    let mut at_s = 0.0;
    while at_s < 24.0 * HOUR {
        at_s += day.step(at_s, &mut scaler, began);
    }
    day
}

#[test]
fn a_day_of_traffic() {
    let day = simulated();
    let told = || format!("{:#?}", day.changes);

    // The cap is kept, leaving workers included, and was reached.
    let most = day.points.iter().map(|p| p.there).max();
    assert_eq!(most, Some(7), "{}", told());
    assert!(day.held > 0);

    // Back to the least at both ends of the night.
    for hour in [3.5, 5.9, 23.99] {
        let point = day.points.iter().find(|p| p.at_s >= hour * HOUR);
        assert_eq!(point.map(|p| p.there), Some(1), "{hour} h: {}", told());
    }

    // No swinging: who has just left is not missed, unless a burst or a mishap begins.
    for pair in day.changes.windows(2) {
        if let [(left_s, ..0, _), (came_s, 1.., why)] = pair {
            let begins = BURSTS.iter().map(|(hour, ..)| hour * HOUR);
            let excused = begins
                .chain([CRASH * HOUR, HANG * HOUR])
                .any(|begins_s| (0.0..5.0).contains(&(came_s - begins_s)));
            assert!(excused || came_s - left_s > 300.0, "{why}: {}", told());
        }
    }
    assert!(day.changes.len() < 50, "{}", told());

    // Requests wait for a second where a burst is, and for the workers' boot; else for nothing.
    let within = |point: &&Point, (hour, length, _): &(f64, f64, f64)| {
        (hour * HOUR..hour * HOUR + length + 120.0).contains(&point.at_s)
    };
    let burst = |point: &&Point| BURSTS.iter().any(|burst| within(point, burst));
    let mishap = |point: &&Point| {
        [CRASH, HANG]
            .iter()
            .any(|hour| (0.0..60.0).contains(&(point.at_s - hour * HOUR)))
    };
    let slowest = |points: Vec<&Point>| points.iter().map(|p| p.latency_s).fold(0.0, f64::max);
    let calm = |p: &&Point| !burst(p) && !mishap(p);
    let slowest_calm = slowest(day.points.iter().filter(calm).collect());
    assert!(slowest_calm < 1.2, "{slowest_calm}: {}", told());
    let [first, second, third, capped] = BURSTS;
    for (known, most_s) in [(first, 6.0), (second, 3.0), (third, 6.0), (capped, 120.0)] {
        let of = |p: &&Point| within(p, &known);
        let slowest = slowest(day.points.iter().filter(of).collect());
        assert!(slowest < most_s, "{known:?}: {slowest} s: {}", told());
    }

    let drawn = plot::draw(&day.points, WORKERS_MAX);
    if env::var_os("UPDATE_README").is_some() {
        fs::write(PLOT, &drawn).expect("the plot can be written");
    }
    let kept = fs::read_to_string(PLOT).unwrap_or_default();
    assert!(
        kept == drawn,
        "docs/scaling-day.svg is behind: run UPDATE_README=1 cargo test day"
    );
}
