//! Who asks: the peer of a connection, or the client that a proxy which we were told to trust
//! names in `X-Forwarded-For` and `X-Forwarded-Proto`. Anybody else's word is removed by
//! `request`. Pure.
//!
//! Each proxy appends the address it was asked by, so the list is read from its end: the first
//! address that is not a trusted proxy's own is the client's. What stands before it was said by
//! that client and proves nothing.

use super::field::{members, trim};
use super::request::{ClientSide, Request};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// An address, or all that begin like it (`10.0.0.0/8`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

/// Whom we believe when it says who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    Network(Network),
    /// Whoever connects to a Unix socket of ours.
    Unix,
}

impl Network {
    fn contains(&self, ip: IpAddr) -> bool {
        let differ = match (self.address, ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => (own.to_bits() ^ ip.to_bits()).leading_zeros(),
            (IpAddr::V6(own), IpAddr::V6(ip)) => (own.to_bits() ^ ip.to_bits()).leading_zeros(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        differ >= self.prefix_bits
    }
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<TrustedProxy, String> {
        if text == "unix" {
            return Ok(TrustedProxy::Unix);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let wrong = || "expected an IP address, a network such as 10.0.0.0/8, or unix".to_owned();
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if prefix_bits > most {
            return Err(format!("a network of this kind has at most /{most}"));
        }
        Ok(TrustedProxy::Network(Network {
            address,
            prefix_bits,
        }))
    }
}

/// Whether the other end of a connection is among `trusted`. `None`: of a Unix socket.
pub fn trusts(trusted: &[TrustedProxy], peer: Option<IpAddr>) -> bool {
    trusted.iter().any(|one| match (one, peer) {
        (TrustedProxy::Network(network), Some(ip)) => network.contains(ip),
        (TrustedProxy::Unix, None) => true,
        (TrustedProxy::Network(_), None) | (TrustedProxy::Unix, Some(_)) => false,
    })
}

/// Who sent this request.
pub fn client_side(
    trusted: &[TrustedProxy],
    peer: Option<SocketAddr>,
    request: &Request<'_, '_>,
) -> ClientSide {
    let direct = ClientSide::direct(peer);
    if trusted.is_empty() || !trusts(trusted, peer.map(|address| address.ip())) {
        return direct;
    }
    let mut client = direct.client;
    let lines = values(request, FORWARDED_FOR).collect::<Vec<_>>();
    let hops = lines.iter().rev().flat_map(|line| {
        let mut hops: Vec<&[u8]> = members(line).collect();
        hops.reverse();
        hops
    });
    for hop in hops {
        // `unknown`, a name, garbage: the last proxy that spoke clearly is as near as we come.
        let Some(ip) = address(hop) else { break };
        // The port is not known, and 0 is no port.
        client = Some(SocketAddr::new(ip, 0));
        if !trusts(trusted, Some(ip)) {
            break;
        }
    }
    let proto = values(request, FORWARDED_PROTO).last();
    let nearest = proto.and_then(|line| members(line).last());
    ClientSide {
        client,
        secure: nearest.is_some_and(|proto| proto.eq_ignore_ascii_case(b"https")),
        trusted: true,
        ..direct
    }
}

/// `192.0.2.1`, `2001:db8::1`, and both with a port, as some proxies write them.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(trim(hop)).ok()?;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(text).parse() {
        return Some(ip);
    }
    text.parse().ok().map(|address: SocketAddr| address.ip())
}

/// The values of all fields of this name.
fn values<'b>(request: &Request<'_, 'b>, name: &str) -> impl Iterator<Item = &'b [u8]> {
    request
        .fields()
        .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{self, HeadLimits};

    fn trusted(list: &[&str]) -> Vec<TrustedProxy> {
        list.iter()
            .map(|text| text.parse().expect("a network"))
            .collect()
    }

    fn side(list: &[&str], peer: Option<&str>, fields: &str) -> ClientSide {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut storage = head::fields();
        let limits = HeadLimits {
            head_bytes_max: 4096,
            head_fields_max: 50,
            target_bytes_max: 1024,
        };
        let request = head::read_request(text.as_bytes(), &mut storage, &limits);
        let request = request.expect("a good head").expect("a whole head");
        let peer = peer.map(|text| text.parse().expect("an address"));
        client_side(&trusted(list), peer, &request)
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let said = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n";
        let cases = [
            (
                &["10.0.0.0/8"][..],
                Some("10.1.2.3:5"),
                "203.0.113.9:0",
                true,
            ),
            (&["10.0.0.0/8"], Some("11.1.2.3:5"), "11.1.2.3:5", false),
            (&[], Some("10.1.2.3:5"), "10.1.2.3:5", false),
            (&["unix"], Some("10.1.2.3:5"), "10.1.2.3:5", false),
            (&["unix"], None, "203.0.113.9:0", true),
            (&["::1"], Some("[::1]:7"), "203.0.113.9:0", true),
            (
                &["127.0.0.1"],
                Some("[::ffff:127.0.0.1]:7"),
                "203.0.113.9:0",
                true,
            ),
        ];
        for (list, peer, client, secure) in cases {
            let side = side(list, peer, said);
            let wanted = Some(client.parse().expect("an address"));
            assert_eq!(
                (side.client, side.secure),
                (wanted, secure),
                "{list:?} {peer:?}"
            );
            assert_eq!(side.trusted, secure);
        }
    }

    #[test]
    fn the_list_is_read_from_its_end() {
        let cases = [
            ("X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n", "203.0.113.9:0"),
            (
                "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.9.9.9\r\n",
                "203.0.113.9:0",
            ),
            (
                "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n",
                "203.0.113.9:0",
            ),
            ("X-Forwarded-For: 10.0.0.7, 10.0.0.8\r\n", "10.0.0.7:0"),
            ("X-Forwarded-For: 6.6.6.6, unknown\r\n", "10.1.2.3:5"),
            (
                "X-Forwarded-For: 6.6.6.6, unknown, 10.0.0.8\r\n",
                "10.0.0.8:0",
            ),
            ("X-Forwarded-For: 203.0.113.9:4711\r\n", "203.0.113.9:0"),
            ("X-Forwarded-For: [2001:db8::1]:4711\r\n", "[2001:db8::1]:0"),
            ("X-Forwarded-For: [2001:db8::1]\r\n", "[2001:db8::1]:0"),
            ("X-Forwarded-For: 2001:db8::1\r\n", "[2001:db8::1]:0"),
            ("X-Forwarded-For: \r\n", "10.1.2.3:5"),
            ("", "10.1.2.3:5"),
        ];
        for (fields, client) in cases {
            let side = side(&["10.0.0.0/8"], Some("10.1.2.3:5"), fields);
            let wanted = Some(client.parse().expect("an address"));
            assert_eq!(side.client, wanted, "{fields:?}");
            assert!(!side.secure);
        }
    }

    #[test]
    fn the_nearest_proxy_says_the_scheme() {
        let cases = [
            ("http", false),
            ("HTTPS", true),
            ("https, http", false),
            ("http, https", true),
            ("wss", false),
        ];
        for (value, secure) in cases {
            let fields = format!("X-Forwarded-Proto: {value}\r\n");
            let side = side(&["10.0.0.0/8"], Some("10.1.2.3:5"), &fields);
            assert_eq!(side.secure, secure, "{value}");
        }
    }

    #[test]
    fn networks_are_read_strictly() {
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "/8",
            "10.0.0/8",
            "host",
            "10.0.0.0/8/8",
            "10.0.0.0/-1",
        ] {
            assert!(text.parse::<TrustedProxy>().is_err(), "{text}");
        }
        let all = trusted(&["0.0.0.0/0"]);
        assert!(trusts(&all, Some("192.0.2.1".parse().expect("an address"))));
        assert!(!trusts(&all, Some("::1".parse().expect("an address"))));
    }
}
