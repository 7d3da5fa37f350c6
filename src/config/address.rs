//! Addresses as they are typed: `HOST:PORT`, or `unix:PATH` with who may connect. What it refuses is told with
//! what to write instead. Groups stay names here, for reading text does no I/O; [`Address::resolve`] looks them up.

use super::accounts::Accounts;
use super::suggest::nearest;
use super::values::digits_only;
use front::server::{ListenAddr, SocketAccess};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Mode of a socket that is opened to a group, if nobody says another one.
const MODE_WITH_GROUP: u32 = 0o660;
/// Whoever connects to a socket needs the right to write.
const MODE_WRITE: u32 = 0o222;
const MODE_MAX: u32 = 0o777;

/// An address to listen on. A host name is looked up when it is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(String),
    Unix {
        path: PathBuf,
        /// None: what the umask leaves.
        mode: Option<u32>,
        /// Name or number.
        group: Option<String>,
    },
}

impl Address {
    /// The address as it can be bound. The error says what to do.
    pub fn resolve(&self, accounts: &Accounts) -> Result<ListenAddr, String> {
        let (path, mode, group) = match self {
            Address::Tcp(address) => return Ok(ListenAddr::Tcp(address.clone())),
            Address::Unix { path, mode, group } => (path, *mode, group.as_deref()),
        };
        let group = group.map(|group| accounts.group(group)).transpose()?;
        let mode = mode.or(group.map(|_| MODE_WITH_GROUP));
        Ok(ListenAddr::Unix {
            path: path.clone(),
            access: mode.map(|mode| SocketAccess { mode, group }),
        })
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(place) = text.strip_prefix("unix:") {
            return unix(place);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(match digits_only::<u16>(text) {
                Some(port) => format!("expected HOST:PORT; did you mean 127.0.0.1:{port}?"),
                None if text.starts_with('/') => {
                    format!("expected HOST:PORT; did you mean unix:{text}?")
                }
                None => "expected HOST:PORT or unix:PATH".to_owned(),
            });
        };
        if digits_only::<u16>(port).is_none() {
            return Err("the port must be a number from 0 to 65535".to_owned());
        }
        match host {
            "" => Err(format!(
                "a host is missing; every address of the machine is 0.0.0.0:{port}"
            )),
            "*" => Err(format!(
                "every address of the machine is written 0.0.0.0:{port}"
            )),
            // Without brackets nobody can tell the address from the port.
            host if host.contains(':') && !host.starts_with('[') => Err(format!(
                "an IPv6 address stands in brackets: [{host}]:{port}"
            )),
            host if host.starts_with('[') => {
                let inner = host
                    .strip_prefix('[')
                    .and_then(|h| h.strip_suffix(']'))
                    .unwrap_or("");
                match inner.parse::<IpAddr>() {
                    Ok(IpAddr::V6(_)) => Ok(Address::Tcp(text.to_owned())),
                    Ok(IpAddr::V4(_)) | Err(_) => {
                        Err("no IPv6 address stands in the brackets".to_owned())
                    }
                }
            }
            _ => Ok(Address::Tcp(text.to_owned())),
        }
    }
}

/// `PATH`, `PATH,mode=0660`, `PATH,mode=0660,group=web`.
fn unix(place: &str) -> Result<Address, String> {
    let mut words = place.split(',');
    let path = words.next().unwrap_or("");
    if path.is_empty() {
        return Err("a path must follow `unix:`".to_owned());
    }
    let (mut mode, mut group) = (None, None);
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let twice = match key {
            "mode" => mode.replace(mode_of(value)?).is_some(),
            "group" if !value.is_empty() => group.replace(value.to_owned()).is_some(),
            _ => return Err(not_known(key)),
        };
        if twice {
            return Err(format!("`{key}` is said twice"));
        }
    }
    Ok(Address::Unix {
        path: PathBuf::from(path),
        mode,
        group,
    })
}

fn mode_of(text: &str) -> Result<u32, String> {
    let octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= MODE_MAX && mode & MODE_WRITE == 0 => Err(format!(
            "with mode {text} nobody could connect, for that takes the right to write; such as 0660"
        )),
        Ok(mode) if octal && mode <= MODE_MAX => Ok(mode),
        Ok(_) | Err(_) => Err("the mode is octal, from 0 to 0777, such as 0660".to_owned()),
    }
}

fn not_known(word: &str) -> String {
    match nearest(word, ["mode", "group"]) {
        Some("group") => "expected `,group=NAME`".to_owned(),
        Some(meant) => format!("`{word}` is not known; did you mean `{meant}`?"),
        None => {
            "after a comma stands `mode=0660` or `group=NAME`; a path with a comma cannot be told"
                .to_owned()
        }
    }
}

/// An address that is no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort(pub String);

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse()? {
            Address::Tcp(address) => Ok(HostPort(address)),
            Address::Unix { .. } => {
                Err("expected HOST:PORT; a path cannot be opened in a browser".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        let accounts = Accounts::default();
        for text in [
            "127.0.0.1:8000",
            "localhost:0",
            "[::1]:80",
            "0.0.0.0:65535",
            "unix:/run/x.sock",
        ] {
            let address = text.parse::<Address>().expect(text);
            let resolved = address.resolve(&accounts).expect(text);
            assert_eq!(resolved.to_string(), text);
        }
        let bad = [
            ("8000", "did you mean 127.0.0.1:8000?"),
            (":8000", "0.0.0.0:8000"),
            ("*:8000", "0.0.0.0:8000"),
            ("::1:8000", "[::1]:8000"),
            ("[::1:8000", "brackets"),
            ("[1.2.3.4]:8000", "no IPv6"),
            ("host:http", "number"),
            ("host:65536", "65535"),
            ("host", "HOST:PORT"),
            ("/run/x.sock", "did you mean unix:/run/x.sock?"),
            ("unix:", "path"),
            ("unix:,mode=0660", "path"),
            ("unix:/x,mode=", "octal"),
            ("unix:/x,mode=0888", "octal"),
            ("unix:/x,mode=1777", "octal"),
            ("unix:/x,mode=+660", "octal"),
            ("unix:/x,mode=0444", "nobody could connect"),
            ("unix:/x,mode=0660,mode=0600", "twice"),
            ("unix:/x,group=", "group=NAME"),
            ("unix:/x,mod=0660", "did you mean `mode`?"),
            ("unix:/x,grop=web", "group=NAME"),
            ("unix:/x,y.sock", "comma"),
        ];
        for (text, part) in bad {
            let message = text.parse::<Address>().expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn who_may_connect_to_a_path() {
        let accounts = Accounts::default();
        let access = |text: &str| match text.parse::<Address>()?.resolve(&accounts)? {
            ListenAddr::Unix { access, .. } => Ok(access.map(|a| (a.mode, a.group))),
            other => Err(format!("{other:?}")),
        };
        for (text, wanted) in [
            ("unix:/x", None),
            ("unix:/x,mode=0666", Some((0o666, None))),
            ("unix:/x,mode=660,group=33", Some((0o660, Some(33)))),
            ("unix:/x,group=33", Some((0o660, Some(33)))),
        ] {
            assert_eq!(access(text), Ok(wanted), "{text}");
        }
        let unknown = access("unix:/x,group=web").expect_err("there is no such group");
        assert!(unknown.contains("no group `web`"), "{unknown}");
    }
}
