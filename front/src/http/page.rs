//! What our own answers say to whom: a page to a browser, JSON to a program that takes it, a line of
//! text to everybody else. A page is whole in itself, small, and says nothing about our insides
//! unless the caller brings details, which are for the operator alone. Pure.

use super::field::{members, trim};
use super::reply::reason_phrase;

/// In which form a client is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Plain,
    Html,
    Json,
}

/// What only the operator is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// As logs name it; empty: no worker was asked.
    pub worker: String,
    pub reason: String,
    /// What the worker has written to its standard error last.
    pub stderr: Vec<String>,
}

impl Form {
    /// The form that a client prefers by its `Accept` (RFC 9110 12.5.1), of those that we have. One
    /// that takes anything, or nothing of ours, gets plain text, which everybody can read.
    pub fn wanted(accept: &[u8]) -> Form {
        let mut best = (Form::Plain, 0);
        for member in members(accept) {
            let mut parts = member.split(|byte| *byte == b';').map(trim);
            let kind = parts.next().unwrap_or_default();
            let is = |text: &str| kind.eq_ignore_ascii_case(text.as_bytes());
            let form = if is("text/html") || is("application/xhtml+xml") {
                Form::Html
            } else if is("application/json") || is("application/problem+json") {
                Form::Json
            } else if is("text/plain") {
                Form::Plain
            } else {
                continue;
            };
            let weight = parts.find_map(weight).unwrap_or(1000);
            // Among equals the first one named.
            if weight > best.1 {
                best = (form, weight);
            }
        }
        best.0
    }

    pub fn content_type(self) -> &'static [u8] {
        match self {
            Form::Plain => b"text/plain; charset=utf-8",
            Form::Html => b"text/html; charset=utf-8",
            Form::Json => b"application/json",
        }
    }
}

/// `q=0.8` in thousandths; None: another parameter.
fn weight(parameter: &[u8]) -> Option<u32> {
    let [b'q' | b'Q', b'=', digits @ ..] = parameter else {
        return None;
    };
    let (mut value, mut place) = (0, 1000);
    for byte in digits.iter().filter(|byte| byte.is_ascii_digit()).take(4) {
        value += u32::from(byte - b'0') * place;
        place /= 10;
    }
    Some(value.min(1000))
}

/// What an answer says.
pub struct Words<'a> {
    pub status: u16,
    /// Empty: the request never got one.
    pub request_id: &'a str,
    pub details: Option<&'a Details>,
}

impl Words<'_> {
    /// The body of the answer.
    pub fn body(&self, form: Form) -> String {
        match form {
            Form::Plain => self.plain(),
            Form::Html => self.html(),
            Form::Json => self.json(),
        }
    }

    fn plain(&self) -> String {
        let (phrase, sentence) = (reason_phrase(self.status), sentence(self.status));
        let mut text = format!("{phrase}: {sentence}\n");
        if !self.request_id.is_empty() {
            text.push_str(&format!("request id: {}\n", self.request_id));
        }
        if let Some(details) = self.details {
            text.push_str(&format!("reason: {}\n", details.reason));
            if !details.worker.is_empty() {
                text.push_str(&format!("worker: {}\n", details.worker));
            }
            for line in &details.stderr {
                // A terminal obeys control characters.
                let line: String = line.chars().map(shown).collect();
                text.push_str(&format!("stderr | {line}\n"));
            }
        }
        text
    }

    fn json(&self) -> String {
        let mut text = format!("{{\"status\":{},\"error\":", self.status);
        push_json(&mut text, reason_phrase(self.status));
        text.push_str(",\"message\":");
        push_json(&mut text, sentence(self.status));
        if !self.request_id.is_empty() {
            text.push_str(",\"request_id\":");
            push_json(&mut text, self.request_id);
        }
        if let Some(details) = self.details {
            text.push_str(",\"reason\":");
            push_json(&mut text, &details.reason);
            if !details.worker.is_empty() {
                text.push_str(",\"worker\":");
                push_json(&mut text, &details.worker);
            }
            text.push_str(",\"stderr\":[");
            for (index, line) in details.stderr.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                push_json(&mut text, line);
            }
            text.push(']');
        }
        text.push_str("}\n");
        text
    }

    fn html(&self) -> String {
        let (title, advice) = headline(self.status);
        let mut text = String::with_capacity(4096);
        text.push_str(PAGE_HEAD);
        text.push_str("<title>");
        push_html(&mut text, title);
        text.push_str("</title>\n</head>\n<body>\n<main>\n<p class=\"status\">");
        text.push_str(&format!("{} {}", self.status, reason_phrase(self.status)));
        text.push_str("</p>\n<h1>");
        push_html(&mut text, title);
        text.push_str("</h1>\n<p>");
        push_html(&mut text, advice);
        text.push_str("</p>\n");
        if self.status >= 500 {
            text.push_str("<p><a href=\"\">Try again</a></p>\n");
        }
        if !self.request_id.is_empty() {
            text.push_str("<p class=\"id\">Request id <code>");
            push_html(&mut text, self.request_id);
            text.push_str("</code></p>\n");
        }
        if let Some(details) = self.details {
            self.html_details(&mut text, details);
        }
        text.push_str("</main>\n</body>\n</html>\n");
        text
    }

    fn html_details(&self, text: &mut String, details: &Details) {
        text.push_str(
            "<section aria-labelledby=\"details\">\n<h2 id=\"details\">For the operator</h2>\n<p>",
        );
        if !details.worker.is_empty() {
            text.push_str("<strong>");
            push_html(text, &details.worker);
            text.push_str("</strong>: ");
        }
        push_html(text, &details.reason);
        text.push_str("</p>\n");
        if !details.stderr.is_empty() {
            text.push_str(match details.worker.is_empty() {
                false => "<p>Its last lines on standard error:</p>\n",
                true => "<p>The last lines of a worker on standard error:</p>\n",
            });
            text.push_str("<pre tabindex=\"0\">");
            for line in &details.stderr {
                push_html(text, line);
                text.push('\n');
            }
            text.push_str("</pre>\n");
        }
        text.push_str(
            "<p class=\"id\">Shown to this machine alone, unless <code>--error-details</code> says otherwise.</p>\n</section>\n",
        );
    }
}

/// No script and nothing from elsewhere, so that the page works when nothing else does.
const PAGE_HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<style>
:root { color-scheme: light dark; --ink: #1d2530; --quiet: #566273; --ground: #f5f6f8; --sheet: #fff; --line: #d9dee5; --accent: #1a5fb4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --quiet: #a0abb9; --ground: #14181d; --sheet: #1c2229; --line: #343d48; --accent: #8ab8f0; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: clamp(1rem, 8vh, 6rem) 1rem 2rem; background: var(--ground); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 44rem; margin: 0 auto; padding: clamp(1.25rem, 4vw, 2.5rem); background: var(--sheet); border: 1px solid var(--line); border-radius: .75rem; overflow-wrap: anywhere; }
h1 { margin: .25rem 0 .75rem; font-size: clamp(1.4rem, 5vw, 1.9rem); line-height: 1.25; text-wrap: balance; }
h2 { margin: 0 0 .5rem; font-size: 1.05rem; }
p { margin: 0 0 1rem; }
a { color: var(--accent); }
.status { margin: 0; color: var(--quiet); font-weight: 600; }
.id { margin: 0; color: var(--quiet); font-size: .875rem; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .875em; }
section { margin-top: 1.75rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
pre { overflow-wrap: normal; margin: 0 0 1rem; padding: .75rem; max-height: 24rem; overflow: auto; background: var(--ground); border: 1px solid var(--line); border-radius: .5rem; }
</style>
"#;

/// A page of ours shows text of others. It is escaped; should that fail, nothing in it may act. The
/// number is that of the page's style, by which a browser knows it (`tests/errors.sh` compares).
pub const POLICY: &[u8] = b"Content-Security-Policy: default-src 'none'; base-uri 'none'; \
      style-src 'sha256-fFjP7Dg0gTEt9B61lErO+WXk1g0/fNRYm0xfN0XPR9M='\r\n\
      X-Content-Type-Options: nosniff\r\n";

/// What a person in front of a browser is told: what has happened, and what to do.
fn headline(status: u16) -> (&'static str, &'static str) {
    match status {
        404 => (
            "Nothing is here",
            "No application is served at this address. Check it for a typing error.",
        ),
        408 => (
            "The request took too long",
            "It did not arrive in time. Check your connection and try again.",
        ),
        413 => (
            "That is too large",
            "What was sent is larger than this site accepts.",
        ),
        500 => (
            "Something went wrong",
            "The request could not be served. Trying again may help.",
        ),
        502 => (
            "The application broke off",
            "It ended or failed before it had answered. Trying again may help. If it happens again, \
             tell whoever runs this site, with the request id below.",
        ),
        503 => (
            "The application is not available right now",
            "It is starting, being changed, or very busy. Try again in a moment.",
        ),
        504 => (
            "The application took too long",
            "It did not answer in time. It may still be at work on what was asked, so look before you \
             send something for a second time.",
        ),
        _ => (
            "The request could not be served",
            "It is malformed, or asks for what is not offered here.",
        ),
    }
}

/// The same in a line for logs and programs.
fn sentence(status: u16) -> &'static str {
    match status {
        200 => "the methods that may be asked for are listed in Allow.",
        400 => "the request is malformed.",
        403 => "the request is not allowed.",
        404 => "nothing is served here.",
        405 => "this method is not served here.",
        408 => "the request took too long to arrive.",
        411 => "the request must say how long its body is.",
        413 => "the body of the request is too large.",
        414 => "the address in the request is too long.",
        417 => "the request expects what cannot be met.",
        429 => "too many requests; try again later.",
        431 => "the head of the request is too large.",
        501 => "the request needs something that is not implemented here.",
        502 => "the application did not answer properly.",
        503 => "the application cannot take the request now; try again soon.",
        504 => "the application did not answer in time.",
        505 => "this version of HTTP is not spoken here.",
        _ => "the request cannot be served.",
    }
}

/// Control characters as what they are called, so that they do nothing.
fn shown(letter: char) -> char {
    match letter {
        '\t' => ' ',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    }
}

fn push_html(text: &mut String, words: &str) {
    for letter in words.chars() {
        match letter {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            letter => text.push(shown(letter)),
        }
    }
}

fn push_json(text: &mut String, words: &str) {
    text.push('"');
    for letter in words.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            letter if letter.is_control() => {
                text.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_in_the_form_that_they_prefer() {
        for (accept, form) in [
            ("", Form::Plain),
            ("*/*", Form::Plain),
            ("image/avif,image/webp,*/*;q=0.8", Form::Plain),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Form::Html,
            ),
            ("application/json, text/plain, */*", Form::Json),
            ("text/plain, application/json", Form::Plain),
            ("Application/JSON", Form::Json),
            ("application/problem+json", Form::Json),
            ("text/html;q=0.5, application/json", Form::Json),
            (
                "text/html;level=1;q=0.7, application/json; q=0.3",
                Form::Html,
            ),
            ("application/json;q=0", Form::Plain),
            ("text/html;q=x", Form::Plain),
            (",,;,q=1", Form::Plain),
        ] {
            assert_eq!(Form::wanted(accept.as_bytes()), form, "{accept}");
        }
    }

    fn words<'a>(details: Option<&'a Details>) -> Words<'a> {
        Words {
            status: 502,
            request_id: "an-id",
            details,
        }
    }

    #[test]
    fn nobody_but_the_operator_learns_of_the_insides() {
        for form in [Form::Plain, Form::Html, Form::Json] {
            let body = words(None).body(form);
            assert!(
                body.contains("an-id") && body.contains("Bad Gateway"),
                "{body}"
            );
            assert!(
                !body.contains("operator") && !body.contains("worker"),
                "{body}"
            );
        }
    }

    #[test]
    fn what_workers_print_stays_text() {
        let details = Details {
            worker: "chat.0".to_owned(),
            reason: "it closed".to_owned(),
            stderr: vec!["</pre><script>alert('1')</script>\u{1b}[2J\u{9b}".to_owned()],
        };
        let html = words(Some(&details)).body(Form::Html);
        assert!(
            html.contains("&lt;/pre&gt;&lt;script&gt;alert(&#39;1&#39;)"),
            "{html}"
        );
        assert!(!html.contains("<script") && !html.contains('\u{1b}'));
        let plain = words(Some(&details)).body(Form::Plain);
        assert!(plain.contains("stderr | </pre>") && !plain.contains(['\u{1b}', '\u{9b}']));
        let json = words(Some(&details)).body(Form::Json);
        let line = r#""stderr":["</pre><script>alert('1')</script>\u001b[2J\u009b"]"#;
        assert!(json.contains(line), "{json}");
        assert!(
            json.starts_with(r#"{"status":502,"error":"Bad Gateway","#),
            "{json}"
        );
    }
}
