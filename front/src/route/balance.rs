//! Which worker takes a request that no session binds. Pure: a choice among the roster's workers.

use crate::roster::{App, Availability, Policy, Slot, Worker, mixed};
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

/// The index of the worker to ask. Serving workers come first; if there is none, one that is on
/// its way is asked, because its listener holds the connection until it is up. Slots in `failed`
/// are taken only when nothing else is left, one that leaves only then too, and not if a new one can be
/// had. None: there is no worker to ask.
pub fn choose(app: &App, client: Option<IpAddr>, failed: &[Slot]) -> Option<usize> {
    // As it nearly always is.
    let serving = |w: &Worker| w.availability == Availability::Serving;
    choose_among(app, client, |w| serving(w) && !failed.contains(&w.slot))
        .or_else(|| second_best(app, client, failed))
}

#[cold]
fn second_best(app: &App, client: Option<IpAddr>, failed: &[Slot]) -> Option<usize> {
    let coming = |w: &Worker| w.availability == Availability::Coming;
    let serving = |w: &Worker| w.availability == Availability::Serving;
    let leaving = |w: &Worker| w.availability == Availability::Draining && app.asleep.is_none();
    choose_among(app, client, |w| coming(w) && !failed.contains(&w.slot))
        .or_else(|| choose_among(app, client, serving))
        .or_else(|| choose_among(app, client, coming))
        .or_else(|| choose_among(app, client, leaving))
}

fn choose_among(
    app: &App,
    client: Option<IpAddr>,
    eligible: impl Fn(&Worker) -> bool,
) -> Option<usize> {
    match (app.policy, client) {
        (Policy::IpHash, Some(ip)) => rendezvous(app, ip, eligible),
        (Policy::RoundRobin, _) | (Policy::IpHash, None) => round_robin(app, eligible),
        (Policy::LeastBusy, _) => least_busy(app, eligible),
        (Policy::RandomTwo, _) => random_two(app, eligible),
    }
}

/// The next one in turn; the turn is shared by all pool threads.
fn round_robin(app: &App, eligible: impl Fn(&Worker) -> bool) -> Option<usize> {
    let start = match app.workers.len() {
        0 => return None,
        // Nobody to take turns with, and nothing to share with the other threads.
        1 => 0,
        count => app.turn.fetch_add(1, Relaxed) % count,
    };
    let (before, from) = app.workers.split_at_checked(start)?;
    let next = from.iter().position(&eligible).map(|index| start + index);
    next.or_else(|| before.iter().position(&eligible))
}

/// The one with the fewest exchanges and tunnels; among equals the next one in turn.
fn least_busy(app: &App, eligible: impl Fn(&Worker) -> bool) -> Option<usize> {
    let count = app.workers.len();
    let start = app.turn.fetch_add(1, Relaxed).checked_rem(count)?;
    (0..count)
        .map(|step| (start + step) % count)
        .filter_map(|index| app.workers.get(index).map(|w| (index, w)))
        .filter(|(_, w)| eligible(w))
        .min_by_key(|(_, w)| load(w))
        .map(|(index, _)| index)
}

/// Exchanges and tunnels of a worker, wherever their bytes go.
fn load(worker: &Worker) -> u64 {
    let gauges = &worker.gauges;
    [&gauges.in_flight, &gauges.tunnels, &gauges.handed_off]
        .map(|gauge| u64::from(gauge.load(Relaxed)))
        .iter()
        .sum()
}

/// Two by lot, and the less busy one of them: nearly as even as asking all, and no herd runs to the
/// one that was idle a moment ago.
fn random_two(app: &App, eligible: impl Fn(&Worker) -> bool) -> Option<usize> {
    let count = app.workers.iter().filter(|w| eligible(w)).count();
    let lot = mixed(app.turn.fetch_add(1, Relaxed) as u64);
    let first = usize::try_from(lot >> 32).ok()?.checked_rem(count)?;
    // The second one stands anywhere but at the first one's place.
    let step = usize::try_from(lot & u64::from(u32::MAX)).ok()?;
    let second = match step.checked_rem(count - 1) {
        Some(step) => (first + 1 + step) % count,
        None => first,
    };
    let nth = |n| {
        let mut among = app.workers.iter().enumerate().filter(|(_, w)| eligible(w));
        among.nth(n)
    };
    let (one, other) = (nth(first)?, nth(second)?);
    let choice = if load(other.1) < load(one.1) {
        other
    } else {
        one
    };
    Some(choice.0)
}

/// What of an address stays with a client. A /64 of IPv6 is one household, whose hosts change the
/// lower half at will.
pub fn household(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

/// Rendezvous hashing: each client ranks the workers in an order of its own, so a worker that
/// comes or goes moves only the clients that rank it first.
fn rendezvous(app: &App, ip: IpAddr, eligible: impl Fn(&Worker) -> bool) -> Option<usize> {
    let client = household(ip);
    app.workers
        .iter()
        .enumerate()
        .filter(|(_, w)| eligible(w))
        .max_by_key(|(_, w)| mixed(client ^ mixed(u64::from(w.slot.0) + 1)))
        .map(|(index, _)| index)
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
            affinity_cookie: None,
            answer_timeout: None,
            body_bytes_max: None,
            asleep: None,
            gauges: Default::default(),
            workers: workers
                .iter()
                .zip(0..)
                .map(|(&availability, n)| Worker {
                    slot: Slot(n),
                    life: 1,
                    instance: n,
                    socket: Arc::from(Path::new("/s")),
                    availability,
                    drain: None,
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
            choose(&app(Policy::RoundRobin, &[Down, Down]), None, &[]),
            None
        );
        assert_eq!(
            choose(&app(Policy::RoundRobin, &[Draining, Coming]), None, &[]),
            Some(1)
        );
        assert_eq!(
            choose(&app(Policy::RoundRobin, &[Down, Draining]), None, &[]),
            Some(1)
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
    fn random_two_takes_the_less_busy_of_two() {
        let app = app(
            Policy::RandomTwo,
            &[Serving, Down, Serving, Serving, Serving],
        );
        app.workers[3].gauges.handed_off.store(9, Relaxed);
        let mut seen = [0; 5];
        for _ in 0..3000 {
            seen[choose(&app, None, &[]).unwrap()] += 1;
        }
        // The busiest one loses against each of the others, and none is left out.
        assert_eq!((seen[1], seen[3]), (0, 0));
        assert!([0, 2, 4].iter().all(|i| seen[*i] > 800), "{seen:?}");
        let single = &self::app(Policy::RandomTwo, &[Down, Serving]);
        assert_eq!(choose(single, None, &[]), Some(1));
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
