//! How many connections each client has open, for `--connections-per-client-max`. A client is an
//! IPv4 address, or the /64 network that one IPv6 subscriber gets. An entry lives only as long as
//! a connection of its client, so there are never more than `--connections-max`. Pool threads
//! take the lock when a connection begins and when it ends; without the limit nobody does.

use crate::http::forwarded::{self, TrustedProxy};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who is counted as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    V4(u32),
    /// The first half of an IPv6 address. RFC 4291, 2.5.4: the second half is the host's own.
    V6Network(u64),
}

impl Origin {
    fn of(ip: IpAddr) -> Origin {
        // A listener on [::] names IPv4 clients ::ffff:a.b.c.d.
        match ip.to_canonical() {
            IpAddr::V4(ip) => Origin::V4(ip.to_bits()),
            IpAddr::V6(ip) => Origin::V6Network((ip.to_bits() >> 64) as u64),
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Tally {
    per_client_max: u32,
    /// Their connections are many clients', and are not limited.
    trusted: Vec<TrustedProxy>,
    open: Mutex<HashMap<Origin, u32>>,
}

/// One connection's place among its client's; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    tally: Arc<Tally>,
    origin: Origin,
}

impl Tally {
    pub fn new(per_client_max: u32, trusted: Vec<TrustedProxy>) -> Self {
        Tally {
            per_client_max,
            trusted,
            open: Mutex::default(),
        }
    }

    pub fn per_client_max(&self) -> u32 {
        self.per_client_max
    }

    /// A place for one more connection, or None if the client has as many as it may.
    pub fn admit(self: &Arc<Self>, address: SocketAddr) -> Option<Seat> {
        let origin = Origin::of(address.ip());
        let max = if forwarded::trusts(&self.trusted, Some(address.ip())) {
            u32::MAX
        } else {
            self.per_client_max
        };
        let mut open = self.lock();
        let count = open.entry(origin).or_insert(0);
        if *count >= max {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Seat {
            tally: self.clone(),
            origin,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.tally.lock();
        let left = open.get(&self.origin).map_or(0, |n| n.saturating_sub(1));
        if left == 0 {
            open.remove(&self.origin);
        } else {
            open.insert(self.origin, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_client_has_its_own_places() {
        let tally = Arc::new(Tally::new(2, Vec::new()));
        let first = tally.admit(address("10.0.0.1:1"));
        let second = tally.admit(address("[::ffff:10.0.0.1]:2"));
        assert!(first.is_some() && second.is_some());
        assert!(tally.admit(address("10.0.0.1:3")).is_none());
        assert!(tally.admit(address("10.0.0.2:3")).is_some());
        drop(first);
        assert!(tally.admit(address("10.0.0.1:4")).is_some());
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let tally = Arc::new(Tally::new(1, Vec::new()));
        let held = tally.admit(address("[2001:db8:1:2::1]:1"));
        assert!(held.is_some());
        assert!(tally.admit(address("[2001:db8:1:2:ffff::9]:1")).is_none());
        assert!(tally.admit(address("[2001:db8:1:3::1]:1")).is_some());
    }

    #[test]
    fn nothing_is_remembered_of_clients_that_left() {
        let tally = Arc::new(Tally::new(3, Vec::new()));
        let seats: Vec<_> = (1..=3)
            .map(|port| tally.admit(SocketAddr::from(([10, 0, 0, 1], port))))
            .collect();
        assert_eq!(tally.lock().len(), 1);
        drop(seats);
        assert!(tally.lock().is_empty());
    }
}
