//! The head that a worker gets: what the client said to it, and what this hop has to say.
//!
//! Order and case of the client's fields are kept. Everything that frames or routes the message,
//! or says who the client is, is written from what was decided and not copied.

use super::Request;
use crate::as_json;
use crate::http::field::{push, push_decimal, push_fields};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Who sent a request and how it reached us.
#[derive(Clone, Copy, Debug)]
pub struct ClientSide {
    /// The other end of the connection. `None`: of a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Who asks: the peer, or the client that a trusted proxy names (then without a port, 0).
    pub client: Option<SocketAddr>,
    /// The client speaks https with the proxy in front of us.
    pub secure: bool,
    /// The peer is a trusted proxy: what it says of the client goes on to the worker.
    pub trusted: bool,
}

as_json!(struct ClientSide { peer, client, secure, trusted });

impl ClientSide {
    /// A client of our own, before or without anybody's word for another one.
    pub fn direct(peer: Option<SocketAddr>) -> ClientSide {
        ClientSide {
            peer,
            client: peer,
            secure: false,
            trusted: false,
        }
    }
}

impl Request<'_, '_> {
    /// Appends the head that the worker gets.
    /// `id` is what the worker can call the request in its own log; empty: it gets none.
    pub fn write_for_worker(&self, out: &mut Vec<u8>, from: &ClientSide, id: &[u8]) {
        push(out, self.method.as_str().as_bytes());
        out.push(b' ');
        push(out, self.path.as_bytes());
        if let Some(query) = self.query {
            out.push(b'?');
            push(out, query.as_bytes());
        }
        // RFC 9112 2.3: an intermediary sends its own version.
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        // RFC 9112 3.2 demands a Host, and 3.3 lets a server choose for a client that sent none.
        let host = if self.host.is_empty() {
            "localhost"
        } else {
            self.host
        };
        push(out, host.as_bytes());
        out.extend_from_slice(b"\r\n");
        push_fields(out, self.head, self.fields, &self.withheld);
        self.write_own_fields(out, from);
        if !id.is_empty() {
            out.extend_from_slice(b"X-Request-Id: ");
            push(out, id);
            out.extend_from_slice(b"\r\n");
        }
        // The hook takes this one away again, which costs V8 least with the last that was added.
        if let Some(address) = from.client {
            out.extend_from_slice(b"X-Sidekeeper-Client: ");
            push_ip(out, address.ip());
            out.push(b' ');
            push_decimal(out, u64::from(address.port()));
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// What this hop says: the framing and the upgrade as decided, the client as we know it.
    fn write_own_fields(&self, out: &mut Vec<u8>, from: &ClientSide) {
        self.framing.push_field(out);
        if self.expects_continue {
            out.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        if let Some(left) = self.max_forwards {
            out.extend_from_slice(b"Max-Forwards: ");
            push_decimal(out, left);
            out.extend_from_slice(b"\r\n");
        }
        self.write_forwarded_for(out, from);
        if from.secure {
            out.extend_from_slice(b"X-Forwarded-Proto: https\r\n");
        } else {
            out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
        }
        let said = if from.trusted {
            self.said_before("x-forwarded-host").last()
        } else {
            None
        };
        match said.unwrap_or(self.host.as_bytes()) {
            [] => {}
            host => {
                out.extend_from_slice(b"X-Forwarded-Host: ");
                push(out, host);
                out.extend_from_slice(b"\r\n");
            }
        }
        // RFC 9110 7.6.3: after the client's own, in the order of the hops.
        out.extend_from_slice(self.version.via());
        if self.websocket {
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        }
    }
}

impl<'b> Request<'_, 'b> {
    /// The whole way that the request has come, as far as somebody trusted says it.
    fn write_forwarded_for(&self, out: &mut Vec<u8>, from: &ClientSide) {
        let mut between: &[u8] = b"X-Forwarded-For: ";
        if from.trusted {
            let said = self.said_before("x-forwarded-for");
            for line in said.filter(|line| !line.is_empty()) {
                push(out, between);
                push(out, line);
                between = b", ";
            }
        }
        if let Some(peer) = from.peer {
            push(out, between);
            push_ip(out, peer.ip());
            between = b", ";
        }
        if between == b", " {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// What is said in the fields of this name, which only a trusted proxy is believed.
    fn said_before(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        let named = self.fields();
        let named = named.filter(move |(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value)
    }
}

/// An IPv4 client of a listener for both families is shown as the IPv4 client it is.
pub fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            for octet in ip.octets() {
                let (digits, used) = &OCTETS[usize::from(octet)];
                out.extend_from_slice(digits);
                out.truncate(out.len() - digits.len() + usize::from(*used));
            }
            // The last one has no dot behind it.
            out.pop();
        }
        IpAddr::V6(ip) => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "{ip}");
        }
    }
}

/// Each octet with the dot behind it, and how many bytes that is: a request has eight of them.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut table = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < table.len() {
        let [hundreds, tens, ones] = [octet / 100, octet / 10 % 10, octet % 10];
        let [hundreds, tens, ones] = [b'0' + hundreds as u8, b'0' + tens as u8, b'0' + ones as u8];
        table[octet] = match octet {
            100.. => ([hundreds, tens, ones, b'.'], 4),
            10.. => ([tens, ones, b'.', 0], 3),
            0.. => ([ones, b'.', 0, 0], 2),
        };
        octet += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::push_ip;

    #[test]
    fn addresses_are_written_as_the_standard_library_writes_them() {
        for octet in 0..=255u8 {
            let ip = std::net::IpAddr::from([octet, 255 - octet, 0, octet / 2]);
            let mut out = Vec::new();
            push_ip(&mut out, ip);
            assert_eq!(out, ip.to_string().into_bytes());
        }
    }
}
