//! What the policy says of single moments and short stories; a whole day is in `day`.

use super::*;

const LIMITS: Limits = Limits {
    min: 1,
    max: 4,
    cool_down: Duration::from_secs(60),
    idle_timeout: Duration::from_secs(300),
};

fn at_load(load: f64) -> Seen {
    Seen {
        role: Role::Serving,
        load,
        lag_ms: 0.0,
        in_flight: if load >= FULL { 20 } else { 1 },
    }
}

/// Looks at the same thing for a while, until something is to be done.
fn watch(
    scaler: &mut Scaler,
    now: &mut Instant,
    limits: Limits,
    workers: &[Seen],
    time: Duration,
) -> (Verdict, Duration) {
    let began = *now;
    while *now - began < time {
        let look = Look {
            workers,
            waiting: 0,
            in_use: workers.iter().any(|seen| seen.load > 0.0),
        };
        let verdict = scaler.judge(*now, limits, look);
        if verdict != Verdict::Stay {
            return (verdict, *now - began);
        }
        *now += LOOK_EVERY;
    }
    (Verdict::Stay, time)
}

fn grown(verdict: &Verdict) -> u32 {
    match verdict {
        Verdict::Grow { by, .. } => *by,
        Verdict::Stay | Verdict::Shrink { .. } => 0,
    }
}

#[test]
fn what_follows_from_steady_loads() {
    let minutes = Duration::from_secs(300);
    let idle = at_load(0.0);
    let out = Seen::idle(Role::Out);
    let coming = Seen::idle(Role::Coming);
    let silent = Seen {
        role: Role::Silent,
        ..at_load(1.0)
    };
    let laggy = |load| Seen {
        lag_ms: 150.0,
        ..at_load(load)
    };
    // What is seen, and by how many it grows or shrinks.
    let table: [(&[Seen], i64); 17] = [
        (&[at_load(0.5)], 0),
        (&[at_load(0.8)], 1),
        (&[at_load(1.0)], 1),
        (&[at_load(1.0), at_load(1.0)], 2),
        (&[at_load(1.0), at_load(0.3)], 0),
        (&[at_load(0.9), at_load(0.7)], 1),
        // As many as there may be.
        (&[at_load(1.0), at_load(1.0), at_load(1.0), at_load(1.0)], 0),
        (&[at_load(1.0), at_load(1.0), at_load(1.0)], 1),
        // Fewer would do, or would only just do.
        (&[at_load(0.2), at_load(0.2)], -1),
        (&[at_load(0.3), at_load(0.3)], 0),
        (&[idle, idle, idle, idle], -1),
        (&[idle], 0),
        // One that does not come up is no reason for another, however full the others are.
        (&[at_load(1.0), coming], 0),
        (&[at_load(0.1), coming], -1),
        // Nor is one that hangs; and while it does, nobody leaves.
        (&[silent, idle], 0),
        (&[laggy(0.5)], 1),
        (&[laggy(0.1), out], 0),
    ];
    for (workers, wanted) in table {
        let (mut scaler, mut now) = (Scaler::default(), Instant::now());
        let (verdict, _) = watch(&mut scaler, &mut now, LIMITS, workers, minutes);
        let got = match verdict {
            Verdict::Stay => 0,
            Verdict::Grow { by, .. } => i64::from(by),
            Verdict::Shrink { by, .. } => -i64::from(by),
        };
        assert_eq!(got, wanted, "{workers:?}");
    }
}

#[test]
fn a_burst_is_answered_within_a_second() {
    let (mut scaler, mut now) = (Scaler::default(), Instant::now());
    let calm = [at_load(0.05)];
    watch(
        &mut scaler,
        &mut now,
        LIMITS,
        &calm,
        Duration::from_secs(30),
    );
    let full = [at_load(1.0)];
    let (verdict, after) = watch(&mut scaler, &mut now, LIMITS, &full, Duration::from_secs(5));
    assert_eq!(grown(&verdict), 1);
    // A look may come right before the burst, so one more passes.
    assert!(after + LOOK_EVERY < Duration::from_secs(1), "{after:?}");
}

#[test]
fn one_long_request_is_no_burst() {
    let (mut scaler, mut now) = (Scaler::default(), Instant::now());
    let alone = [Seen {
        in_flight: 1,
        ..at_load(1.0)
    }];
    let (verdict, _) = watch(
        &mut scaler,
        &mut now,
        LIMITS,
        &alone,
        Duration::from_secs(5),
    );
    assert_eq!(verdict, Verdict::Stay);
}

#[test]
fn who_has_just_come_is_given_time() {
    let (mut scaler, mut now) = (Scaler::default(), Instant::now());
    let full = [at_load(1.0), at_load(1.0)];
    watch(
        &mut scaler,
        &mut now,
        LIMITS,
        &full[..1],
        Duration::from_secs(5),
    );
    let (verdict, after) = watch(&mut scaler, &mut now, LIMITS, &full, Duration::from_secs(5));
    assert_eq!(grown(&verdict), 2);
    assert!(after >= SETTLE, "{after:?}");
}

#[test]
fn numbers_that_are_asked_for_are_kept() {
    let idle = at_load(0.0);
    let minutes = Duration::from_secs(600);
    for (count, wanted, by) in [(1, 3, 2), (3, 1, -2), (2, 2, 0), (1, 0, -1)] {
        let limits = Limits {
            min: wanted,
            max: wanted,
            ..LIMITS
        };
        let (mut scaler, mut now) = (Scaler::default(), Instant::now());
        let workers = vec![idle; count];
        let (verdict, _) = watch(&mut scaler, &mut now, limits, &workers, minutes);
        match verdict {
            Verdict::Grow { by: more, .. } => assert_eq!(i64::from(more), by),
            Verdict::Shrink { by: less, .. } => assert_eq!(-i64::from(less), by),
            Verdict::Stay => assert_eq!(by, 0),
        }
    }
}

#[test]
fn an_app_may_sleep() {
    let limits = Limits { min: 0, ..LIMITS };
    let (mut scaler, mut now) = (Scaler::default(), Instant::now());
    let asleep = |scaler: &mut Scaler, now: Instant, waiting: u32| {
        let look = Look {
            workers: &[],
            waiting,
            in_use: waiting > 0,
        };
        scaler.judge(now, limits, look)
    };
    assert_eq!(asleep(&mut scaler, now, 0), Verdict::Stay);
    assert_eq!(grown(&asleep(&mut scaler, now, 3)), 1);
    // It serves, and goes when nobody has asked for the time.
    let minutes = Duration::from_secs(900);
    let used = [at_load(0.01)];
    let (verdict, _) = watch(&mut scaler, &mut now, limits, &used, minutes);
    assert_eq!(verdict, Verdict::Stay);
    let idle = [at_load(0.0)];
    let (verdict, after) = watch(&mut scaler, &mut now, limits, &idle, minutes);
    assert!(matches!(verdict, Verdict::Shrink { by: 1, .. }));
    assert_eq!(after, limits.idle_timeout);
    // Off by hand is off.
    let off = Limits { max: 0, ..limits };
    let look = Look {
        workers: &[],
        waiting: 5,
        in_use: true,
    };
    assert_eq!(scaler.judge(now, off, look), Verdict::Stay);
}

#[test]
fn the_fullest_measure_counts() {
    let nothing = Measured::default();
    let seconds = |n| Some(Duration::from_secs(n));
    let table = [
        (nothing, Role::Serving, 0.0),
        (
            Measured {
                thread: Some(0.4),
                event_loop: Some(0.6),
                ..nothing
            },
            Role::Serving,
            0.6,
        ),
        (
            Measured {
                thread: Some(1.3),
                ..nothing
            },
            Role::Serving,
            1.0,
        ),
        (
            Measured {
                waits: true,
                ..nothing
            },
            Role::Serving,
            1.0,
        ),
        (
            Measured {
                in_flight: 3,
                in_flight_target: Some(4),
                ..nothing
            },
            Role::Serving,
            0.75,
        ),
        // What it said before it fell silent is out of date.
        (
            Measured {
                event_loop: Some(0.1),
                silent: seconds(4),
                ..nothing
            },
            Role::Serving,
            1.0,
        ),
        (
            Measured {
                silent: seconds(11),
                ..nothing
            },
            Role::Silent,
            1.0,
        ),
    ];
    for (measured, role, load) in table {
        let seen = Seen::serving(&measured);
        assert_eq!((seen.role, seen.load), (role, load), "{measured:?}");
    }
}

#[test]
fn room_is_looked_for_before_anybody_is_started() {
    const MIB: u64 = 1 << 20;
    let memory = |available| {
        Some(Memory {
            available: available * MIB,
            reserve: 256 * MIB,
            worker: 100 * MIB,
        })
    };
    let room = |workers, memory| Room {
        workers,
        workers_max: 8,
        memory,
    };
    assert_eq!(room(3, None).admit(5), Ok(3));
    assert_eq!(room(3, memory(1000)).admit(2), Ok(2));
    assert_eq!(room(3, memory(470)).admit(3), Ok(2));
    let refused = room(3, memory(300)).admit(1).expect_err("too little");
    assert!(refused.contains("300 MiB are available"), "{refused}");
    let refused = room(0, memory(1000)).admit(1).expect_err("too many");
    assert!(refused.contains("8 workers over all apps"), "{refused}");
}

#[test]
fn those_with_the_fewest_sessions_are_spared() {
    use Role::{Coming, Serving};
    let workers = [
        ('a', 0, Serving, 1),
        ('b', 1, Serving, 9),
        ('c', 2, Serving, 4),
        ('d', 3, Serving, 4),
        ('e', 4, Coming, 0),
    ];
    assert_eq!(spared(&workers, 1), ['e']);
    assert_eq!(spared(&workers, 3), ['e', 'd', 'c']);
    // The one with number 0 goes last.
    assert_eq!(spared(&workers[..4], 4), ['d', 'c', 'b', 'a']);
}
