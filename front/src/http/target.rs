//! The request target, RFC 9112 3.2: origin-form and asterisk-form as they are, absolute-form
//! reduced to what a worker is sent. Nothing is decoded and no dot segment is removed: the worker
//! sees the path that the client wrote.

use super::host::is_host;
use super::request::Method;

/// A target that can be forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'b> {
    pub path: &'b str,
    pub query: Option<&'b str>,
    /// Of an absolute-form target. It replaces `Host` (RFC 9112 3.2.2).
    pub authority: Option<&'b str>,
}

/// Reads a target; `None` if it has no allowed form for this method.
pub fn read<'b>(method: &Method, text: &'b str) -> Option<Target<'b>> {
    if text.starts_with('/') {
        let end = path_bytes(text.as_bytes());
        let (path, query) = match text.as_bytes().get(end) {
            None => (text, None),
            Some(b'?') => (text.get(..end)?, Some(text.get(end + 1..)?)),
            Some(_) => return None,
        };
        return is_query(query.unwrap_or_default()).then_some(Target {
            path,
            query,
            authority: None,
        });
    }
    if text == "*" {
        // RFC 9112 3.2.4: for OPTIONS alone.
        return matches!(method, Method::Options).then_some(Target {
            path: text,
            query: None,
            authority: None,
        });
    }
    let rest = after_scheme(text)?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (path, query) = split_query(rest);
    let path = match (path, query, method) {
        // RFC 9112 3.2.4: the last proxy sends OPTIONS for the whole server with an asterisk.
        ("", None, Method::Options) => "*",
        ("", _, _) => "/",
        (path, _, _) => path,
    };
    (is_host(authority) && (path == "*" || allowed(path, query))).then_some(Target {
        path,
        query,
        authority: Some(authority),
    })
}

/// RFC 9110 4.2: only `http` and `https` are ours; schemes have no case.
fn after_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    }
}

fn allowed(path: &str, query: Option<&str>) -> bool {
    path.starts_with('/')
        && path_bytes(path.as_bytes()) == path.len()
        && is_query(query.unwrap_or_default())
}

/// RFC 3986 3.4.
fn is_query(query: &str) -> bool {
    query.bytes().all(|byte| class(byte) & QUERY != 0)
}

/// How much of it may stand in a path: RFC 3986 3.3. A percent sign must begin an octet: `%zz` is
/// decoded differently by everyone.
fn path_bytes(text: &[u8]) -> usize {
    let mut rest = text;
    loop {
        rest = match rest {
            [byte, rest @ ..] if class(*byte) & PATH != 0 => rest,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [] | [_, ..] => return text.len() - rest.len(),
        };
    }
}

const PATH: u8 = 1;
const QUERY: u8 = 2;

fn class(byte: u8) -> u8 {
    CLASS[usize::from(byte)]
}

/// RFC 3986 `pchar`, and beyond it what browsers send unescaped (the URL standard's percent-encode
/// sets leave `[ ] | ^ { }` alone, in a query the backslash and the backtick as well). A fragment,
/// quotes, angle brackets, controls and bytes above ASCII are refused.
const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => PATH | QUERY,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' => PATH | QUERY,
            b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' => PATH | QUERY,
            b'@' | b'/' | b'[' | b']' | b'|' | b'^' | b'{' | b'}' => PATH | QUERY,
            b'?' | b'%' | b'\\' | b'`' => QUERY,
            _ => 0,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// (target, method, path, query, authority)
    type Row = (
        &'static str,
        Method<'static>,
        &'static str,
        Option<&'static str>,
        Option<&'static str>,
    );

    #[rustfmt::skip]
    #[test]
    fn forms_that_are_forwarded() {
        let host = Some("h.example:81");
        let rows: [Row; 17] = [
            ("/", Method::Get, "/", None, None),
            ("/a/b;c=d", Method::Get, "/a/b;c=d", None, None),
            ("/?", Method::Get, "/", Some(""), None),
            ("/a?b=c?d=/", Method::Get, "/a", Some("b=c?d=/"), None),
            ("/a%20%2f", Method::Get, "/a%20%2f", None, None),
            ("/a?q=100%", Method::Get, "/a", Some("q=100%"), None),
            ("/a?x[]=1|2{}", Method::Get, "/a", Some("x[]=1|2{}"), None),
            ("//h/a", Method::Get, "//h/a", None, None),
            ("/http://x/", Method::Get, "/http://x/", None, None),
            ("/../a", Method::Get, "/../a", None, None),
            ("*", Method::Options, "*", None, None),
            ("http://h.example:81", Method::Get, "/", None, host),
            ("http://h.example:81", Method::Options, "*", None, host),
            ("http://h.example:81/", Method::Options, "/", None, host),
            ("http://h.example:81?q", Method::Options, "/", Some("q"), host),
            ("HTTPS://h.example:81/a?b", Method::Get, "/a", Some("b"), host),
            ("http://[::1]/a", Method::Get, "/a", None, Some("[::1]")),
        ];
        for (text, method, path, query, authority) in rows {
            let wanted = Target {
                path,
                query,
                authority,
            };
            assert_eq!(read(&method, text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn forms_that_are_refused() {
        for (text, method) in [
            ("", Method::Get),
            ("a", Method::Get),
            ("?a", Method::Get),
            ("*", Method::Get),
            ("*a", Method::Options),
            ("/#a", Method::Get),
            ("/a?b#c", Method::Get),
            ("http://h/#a", Method::Get),
            ("http://h#a", Method::Get),
            ("/a\"", Method::Get),
            ("/<a>", Method::Get),
            ("/a?<b>", Method::Get),
            ("/a\\b", Method::Get),
            ("/%", Method::Get),
            ("/%4", Method::Get),
            ("/%4g", Method::Get),
            ("/\u{e9}", Method::Get),
            ("/a?\u{e9}", Method::Get),
            ("h:80", Method::Get),
            ("h.example/a", Method::Get),
            ("ftp://h/a", Method::Get),
            ("http:/a", Method::Get),
            ("http:a", Method::Get),
            ("http://", Method::Get),
            ("http:///a", Method::Get),
            ("http://u@h/", Method::Get),
            ("http://u:p@h/", Method::Get),
            ("http://h:x/", Method::Get),
            ("http://h%/", Method::Get),
            ("://h/", Method::Get),
        ] {
            assert_eq!(read(&method, text), None, "{text}");
        }
    }
}
