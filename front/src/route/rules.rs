//! Which app a request belongs to: the longest path prefix first, then the host.
//!
//! A prefix matches whole segments only. The cost of a look-up grows with the number of different
//! prefix lengths, not with the number of routes.

use crate::order;
use crate::roster::Roster;
use std::borrow::Cow;
use std::collections::HashMap;

/// The routes of a roster, made ready for look-up.
#[derive(Debug, Default)]
pub struct Rules {
    /// For each path prefix: the app of each host, and the app of any host.
    prefixes: HashMap<Box<str>, Hosts>,
    /// The lengths of the prefixes, longest first, each once; without that of the empty one.
    lengths: Vec<usize>,
    /// Those of the empty prefix, which often is the only one.
    top: Hosts,
}

#[derive(Debug, Default)]
struct Hosts {
    named: HashMap<Box<str>, usize>,
    any: Option<usize>,
}

impl Rules {
    pub fn new(roster: &Roster) -> Self {
        let mut rules = Rules::default();
        for (index, app) in roster.apps.iter().enumerate() {
            let Some(routes) = &app.routes else {
                continue;
            };
            let prefix = routes.path.trim_end_matches('/');
            let hosts = match prefix {
                "" => &mut rules.top,
                prefix => {
                    rules.lengths.push(prefix.len());
                    rules.prefixes.entry(prefix.into()).or_default()
                }
            };
            if routes.hosts.is_empty() {
                hosts.any.get_or_insert(index);
            }
            for host in &routes.hosts {
                hosts.named.entry(host.as_str().into()).or_insert(index);
            }
        }
        order::sort_by(&mut rules.lengths, |a, b| b.cmp(a));
        rules.lengths.dedup();
        rules
    }

    /// The index of the app for a `Host` value and a path; None if no app has the route.
    pub fn find(&self, host: &str, path: &str) -> Option<usize> {
        for &length in &self.lengths {
            let whole_segments = match path.as_bytes().get(length) {
                Some(byte) => *byte == b'/',
                None => path.len() == length,
            };
            if !whole_segments {
                continue;
            }
            let hosts = path.get(..length).and_then(|p| self.prefixes.get(p));
            if let Some(app) = hosts.and_then(|hosts| hosts.find(host)) {
                return Some(app);
            }
        }
        self.top.find(host)
    }
}

impl Hosts {
    fn find(&self, host: &str) -> Option<usize> {
        if self.named.is_empty() {
            return self.any;
        }
        let named = self.named.get(bare_host(host).as_ref());
        named.copied().or(self.any)
    }
}

/// A `Host` value without its port and in lower case, which it nearly always is. RFC 9110, 7.2.
fn bare_host(host: &str) -> Cow<'_, str> {
    let name = match host.rfind(':') {
        Some(colon) if !host.get(colon..).is_some_and(|port| port.contains(']')) => {
            host.get(..colon).unwrap_or(host)
        }
        Some(_) | None => host,
    };
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    Cow::Borrowed(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::{App, Routes};
    use std::sync::Arc;

    fn app(path: &str, hosts: &[&str]) -> App {
        App {
            name: "app".into(),
            routes: Some(Routes {
                path: path.into(),
                hosts: hosts.iter().map(|h| h.to_string()).collect(),
            }),
            policy: Default::default(),
            session_cookies: Arc::new([]),
            affinity_cookie: None,
            answer_timeout: None,
            body_bytes_max: None,
            asleep: None,
            gauges: Default::default(),
            workers: Vec::new(),
            turn: Default::default(),
        }
    }

    #[test]
    fn an_app_that_has_been_removed_gets_nothing() {
        let removed = App {
            routes: None,
            ..app("/a", &[])
        };
        let rules = Rules::new(&Roster {
            apps: vec![app("", &[]), removed],
        });
        assert_eq!(rules.find("x", "/a/b"), Some(0));
    }

    #[test]
    fn longest_prefix_then_host() {
        let rules = Rules::new(&Roster {
            apps: vec![
                app("", &[]),
                app("/a", &[]),
                app("/a/b", &["x.example"]),
                app("", &["y.example", "[::1]"]),
            ],
        });
        let table = [
            ("h", "/", Some(0)),
            ("h", "*", Some(0)),
            ("h", "/ab", Some(0)),
            ("h", "/a", Some(1)),
            ("h", "/a/", Some(1)),
            ("h", "/a/b/c", Some(1)),
            ("x.example", "/a/b/c", Some(2)),
            ("X.example:8000", "/a/b", Some(2)),
            ("y.example", "/", Some(3)),
            ("[::1]:80", "/", Some(3)),
            ("[::1]", "/", Some(3)),
            ("y.example", "/a", Some(1)),
        ];
        for (host, path, want) in table {
            assert_eq!(rules.find(host, path), want, "{host} {path}");
        }
    }

    #[test]
    fn no_default_app_means_no_route() {
        let rules = Rules::new(&Roster {
            apps: vec![app("/a", &[])],
        });
        assert_eq!(rules.find("h", "/"), None);
        assert_eq!(rules.find("h", "/a?x"), None);
    }
}
