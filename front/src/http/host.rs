//! The syntax of `Host` and of an authority: `uri-host [ ":" port ]`, RFC 9110 7.2 and RFC 3986
//! 3.2.2. Nothing here knows which hosts are served.

use super::field::decimal;
use std::net::Ipv6Addr;

/// Whether this names a host. An empty one is refused (RFC 9110 4.2.1), user information too
/// (4.2.4), and a port that no socket can have.
pub fn is_host(text: &str) -> bool {
    // Mostly it is a plain name, with a port or without.
    let plain = text.bytes().position(|byte| !PLAIN[usize::from(byte)]);
    match plain.map(|end| text.as_bytes().split_at(end)) {
        None => return !text.is_empty(),
        Some(([_, ..], [b':', port @ ..])) => return is_port(port),
        Some(_) => {}
    }
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, rest)) => match rest.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let literal = text.starts_with('[');
    let host = if literal {
        name.parse::<Ipv6Addr>().is_ok()
    } else {
        is_name(name.as_bytes())
    };
    host && port.is_none_or(|port| is_port(port.as_bytes()))
}

/// RFC 3986 `port = *DIGIT`: it may be empty.
fn is_port(port: &[u8]) -> bool {
    port.len() <= 5
        && (port.is_empty() || decimal(port).is_some_and(|port| port <= u64::from(u16::MAX)))
}

/// What a `reg-name` has besides what is percent-encoded.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$'
            | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=');
        byte += 1;
    }
    table
};

/// RFC 3986 `reg-name`, without the comma: two `Host` fields that someone has merged into a list
/// must not look like one name.
fn is_name(mut name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..] if PLAIN[usize::from(*byte)] => rest,
            [_, ..] => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn hosts() {
        for host in [
            "a",
            "example.com",
            "EXAMPLE.com:80",
            "example.com:",
            "my_app.local:65535",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:8000",
            "[2001:db8::1]:",
            "[::ffff:1.2.3.4]",
            "xn--bcher-kva.example",
            "a%20b",
        ] {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "",
            ":80",
            "a b",
            "a,b",
            "a/b",
            "a?b",
            "a#b",
            "user@a",
            "user:pw@a",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:+80",
            "a:80 ",
            "a:000080",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]80",
            "[]",
            "[fe80::1%25eth0]",
            "[g::1]",
            "a%",
            "a%2",
            "a%zz",
            "a\\b",
            "<a>",
            "a\"",
            "b\u{fc}cher",
            "a[b]",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }
}
