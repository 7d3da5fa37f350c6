//! Measures one worker for the policy: what its main thread did since the last look, what the hook
//! has said, what waits in its socket. Supervisor thread; a look costs one small read of `/proc`.

use crate::fleet::place::Place;
use crate::fleet::scale::Meter;
use crate::fleet::scale::policy::{Measured, Role, Seen};
use crate::fleet::status::Open;
use crate::fleet::worker::State;
use front::sys::process::Pid;
use front::sys::procfs;
use front::sys::socket::wait_ready;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often it is looked up which process of a worker is the real one.
const FAMILY_EVERY: Duration = Duration::from_secs(5);

/// How a worker stands at this moment.
pub fn see(place: &mut Place, now: Instant) -> Seen {
    match place.worker.state {
        State::Ready { pid, .. } => {
            let measured = Measured {
                thread: busy(&mut place.meter, pid, now),
                event_loop: place.stats.map(|stats| stats.utilization),
                lag_ms: place.stats.map(|stats| stats.lag_ms),
                silent: place.takes_connections().then(|| place.vigil.silence(now)),
                waits: place.listener.as_ref().is_some_and(|it| {
                    matches!(wait_ready(it.as_fd(), false, Duration::ZERO), Ok(true))
                }),
                in_flight: Open::of(&place.gauges).requests,
                in_flight_target: place.version.spec.scale.requests_per_worker,
            };
            Seen::serving(&measured)
        }
        State::Waiting { .. }
        | State::Spawning
        | State::Starting(_)
        | State::Closed { .. }
        | State::Condemned { .. } => Seen::idle(Role::Coming),
        State::Stopping { .. } | State::Leaving { .. } if place.worker.again => {
            Seen::idle(Role::Coming)
        }
        State::Draining { .. }
        | State::Stopping { .. }
        | State::Leaving { .. }
        | State::Stopped => Seen::idle(Role::Out),
    }
}

/// Share of the time since the last look that the main thread ran or wanted to; None: this is the first.
fn busy(kept: &mut Option<Meter>, pid: Pid, now: Instant) -> Option<f64> {
    let last = kept.filter(|meter| meter.pid == pid);
    let (main, family_at) = match last {
        Some(meter) if now.saturating_duration_since(meter.family_at) < FAMILY_EVERY => {
            (meter.main, meter.family_at)
        }
        Some(_) | None => (procfs::family_usage(pid)?.main, now),
    };
    let ran_ns = procfs::main_thread_ns(main)?;
    *kept = Some(Meter {
        pid,
        main,
        family_at,
        ran_ns,
        at: now,
    });
    let last = last.filter(|meter| meter.main == main)?;
    let passed = now.saturating_duration_since(last.at).as_secs_f64();
    let ran = Duration::from_nanos(ran_ns.saturating_sub(last.ran_ns)).as_secs_f64();
    (passed > 0.0).then(|| (ran / passed).min(1.0))
}
