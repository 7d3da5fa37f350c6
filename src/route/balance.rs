//! Which worker takes a request that no session binds. Pure: a choice among the roster's workers.

use crate::roster::{App, Availability, Policy, Slot, Worker};
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

/// The index of the worker to ask. Serving workers come first; if there is none, one that is on
/// its way is asked, because its listener holds the connection until it is up. Slots in `failed`
/// are taken only when nothing else is left. None: there is no worker to ask.
pub fn choose(app: &App, client: Option<IpAddr>, failed: &[Slot]) -> Option<usize> {
    for (availability, skip_failed) in [
        (Availability::Serving, true),
        (Availability::Coming, true),
        (Availability::Serving, false),
        (Availability::Coming, false),
    ] {
        let eligible = |w: &Worker| {
            w.availability == availability && !(skip_failed && failed.contains(&w.slot))
        };
        let choice = match app.policy {
            Policy::RoundRobin => round_robin(app, eligible),
            Policy::LeastBusy => least_busy(app, eligible),
            Policy::IpHash => match client {
                Some(ip) => rendezvous(app, ip, eligible),
                None => round_robin(app, eligible),
            },
        };
        if choice.is_some() {
            return choice;
        }
    }
    None
}

/// The next one in turn; the turn is shared by all pool threads.
fn round_robin(app: &App, eligible: impl Fn(&Worker) -> bool) -> Option<usize> {
    let count = app.workers.len();
    let start = app.turn.fetch_add(1, Relaxed).checked_rem(count)?;
    (0..count)
        .map(|step| (start + step) % count)
        .find(|&index| app.workers.get(index).is_some_and(&eligible))
}

/// The one with the fewest exchanges and tunnels; among equals the next one in turn.
fn least_busy(app: &App, eligible: impl Fn(&Worker) -> bool) -> Option<usize> {
    let count = app.workers.len();
    let start = app.turn.fetch_add(1, Relaxed).checked_rem(count)?;
    (0..count)
        .map(|step| (start + step) % count)
        .filter_map(|index| app.workers.get(index).map(|w| (index, w)))
        .filter(|(_, w)| eligible(w))
        .min_by_key(|(_, w)| {
            let gauges = [&w.gauges.in_flight, &w.gauges.tunnels, &w.gauges.handed_off];
            gauges
                .map(|g| u64::from(g.load(Relaxed)))
                .iter()
                .sum::<u64>()
        })
        .map(|(index, _)| index)
}

/// Rendezvous hashing: each client ranks the workers in an order of its own, so a worker that
/// comes or goes moves only the clients that rank it first.
fn rendezvous(app: &App, ip: IpAddr, eligible: impl Fn(&Worker) -> bool) -> Option<usize> {
    let client = match ip {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        // A /64 is one household: its hosts change the lower half at will.
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    };
    app.workers
        .iter()
        .enumerate()
        .filter(|(_, w)| eligible(w))
        .max_by_key(|(_, w)| mix(client ^ mix(u64::from(w.slot.0) + 1)))
        .map(|(index, _)| index)
}

/// The finalizer of SplitMix64: every input bit changes half of the output bits.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gauges::WorkerGauges;
    use std::path::Path;
    use std::sync::Arc;

    fn app(policy: Policy, workers: &[Availability]) -> App {
        App {
            name: "app".into(),
            routes: Default::default(),
            policy,
            session_cookies: Arc::new([]),
            answer_timeout: None,
            body_bytes_max: None,
            workers: workers
                .iter()
                .zip(0..)
                .map(|(&availability, n)| Worker {
                    slot: Slot(n),
                    life: 1,
                    instance: n,
                    socket: Arc::from(Path::new("/s")),
                    availability,
                    gauges: Arc::new(WorkerGauges::default()),
                    door: None,
                })
                .collect(),
            turn: Default::default(),
        }
    }

    use Availability::{Coming, Down, Draining, Serving};

    #[test]
    fn round_robin_takes_turns_and_skips_who_cannot() {
        let app = app(Policy::RoundRobin, &[Serving, Down, Serving, Draining]);
        let got: Vec<_> = (0..8).filter_map(|_| choose(&app, None, &[])).collect();
        assert!(got.iter().all(|i| *i == 0 || *i == 2));
        assert!(got.contains(&0) && got.contains(&2));
    }

    #[test]
    fn a_coming_worker_is_asked_only_when_none_serves() {
        assert_eq!(
            choose(&app(Policy::RoundRobin, &[Coming, Serving]), None, &[]),
            Some(1)
        );
        assert_eq!(
            choose(&app(Policy::RoundRobin, &[Coming, Down]), None, &[]),
            Some(0)
        );
        assert_eq!(
            choose(&app(Policy::RoundRobin, &[Down, Draining]), None, &[]),
            None
        );
        assert_eq!(choose(&app(Policy::RoundRobin, &[]), None, &[]), None);
    }

    #[test]
    fn a_failed_worker_is_the_last_resort() {
        let two = app(Policy::RoundRobin, &[Serving, Serving]);
        for _ in 0..4 {
            assert_eq!(choose(&two, None, &[Slot(0)]), Some(1));
        }
        assert_eq!(
            choose(&app(Policy::RoundRobin, &[Serving]), None, &[Slot(0)]),
            Some(0)
        );
    }

    #[test]
    fn least_busy_takes_the_idlest() {
        let app = app(Policy::LeastBusy, &[Serving, Serving, Serving]);
        app.workers[0].gauges.in_flight.store(2, Relaxed);
        app.workers[1].gauges.tunnels.store(1, Relaxed);
        app.workers[2].gauges.in_flight.store(3, Relaxed);
        assert_eq!(choose(&app, None, &[]), Some(1));
    }

    #[test]
    fn ip_hash_moves_only_the_clients_of_a_lost_worker() {
        let full = app(Policy::IpHash, &[Serving; 4]);
        let less = app(Policy::IpHash, &[Serving, Serving, Down, Serving]);
        let mut seen = [0; 4];
        for n in 0..4000u32 {
            let ip = Some(IpAddr::V4(n.into()));
            let before = choose(&full, ip, &[]).unwrap();
            let after = choose(&less, ip, &[]).unwrap();
            seen[before] += 1;
            assert!(before == 2 || before == after);
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
    }
}
