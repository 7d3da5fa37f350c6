//! The screen that says what runs where, printed once when the apps are up. Pure.

use crate::config::candidate::LeftOut;
use crate::config::show::columns;
use std::fmt::Write;
use std::time::Duration;

/// How an app came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Its first worker was ready after this time.
    Ready(Duration),
    /// Its workers keep failing.
    Failing,
    /// It has no worker until it is asked for.
    Asleep,
    /// Nothing is known yet.
    Coming,
}

/// One app of the table.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub route: String,
    pub workers: String,
    pub command: String,
    pub arrival: Arrival,
}

/// What stands on the screen.
#[derive(Debug)]
pub struct Banner<'a> {
    pub addresses: &'a [String],
    pub rows: &'a [Row],
    pub left_out: &'a [LeftOut],
}

/// Composes the screen, with colours if it goes to a terminal that wants them.
pub fn compose(banner: &Banner<'_>, colours: bool) -> String {
    let paint = |code: &str, text: &str| match colours {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\n{} {}\n",
        paint("1", "sidekeeper"),
        env!("CARGO_PKG_VERSION")
    );
    for address in banner.addresses {
        let _ = writeln!(text, "  {}", paint("1;36", &to_open(address)));
    }
    let mut rows = vec![["APP", "ROUTE", "WORKERS", "READY", "COMMAND"].map(str::to_owned)];
    rows.extend(banner.rows.iter().map(|row| {
        let arrival = match row.arrival {
            Arrival::Ready(took) => format!("in {}", humane(took)),
            Arrival::Failing => "failing".to_owned(),
            Arrival::Asleep => "when asked for".to_owned(),
            Arrival::Coming => "not yet".to_owned(),
        };
        [
            row.name.clone(),
            row.route.clone(),
            row.workers.clone(),
            arrival,
            row.command.clone(),
        ]
    }));
    text.push('\n');
    for (index, line) in columns(&rows).lines().enumerate() {
        let _ = writeln!(
            text,
            "  {}",
            if index == 0 {
                paint("2", line)
            } else {
                line.to_owned()
            }
        );
    }
    text.push('\n');
    if banner
        .rows
        .iter()
        .any(|row| row.arrival == Arrival::Failing)
    {
        let _ = writeln!(
            text,
            "  {}",
            paint(
                "33",
                "What fails is tried again for ever; the log says why it fails."
            )
        );
    }
    for left in banner.left_out {
        let _ = writeln!(
            text,
            "  {} {}: {}",
            paint("33", "left out"),
            left.name,
            left.reason
        );
    }
    let _ = writeln!(text, "  Ctrl-C stops.\n");
    text
}

/// A time in the unit that a person would choose.
fn humane(time: Duration) -> String {
    match time.as_millis() {
        millis @ ..1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// What to type into a browser, or into a shell.
fn to_open(address: &str) -> String {
    if let Some(path) = address.strip_prefix("unix:") {
        return format!("curl --unix-socket {path} http://localhost/");
    }
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    match host {
        "0.0.0.0" | "[::]" => {
            format!("http://localhost:{port}/  (on every address of this machine)")
        }
        host => format!("http://{host}:{port}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_humane() {
        assert_eq!(humane(Duration::from_millis(999)), "999 ms");
        assert_eq!(humane(Duration::from_millis(6056)), "6.1 s");
    }

    #[test]
    fn one_screen() {
        let rows = [
            Row {
                name: "chat".to_owned(),
                route: "/".to_owned(),
                workers: "4".to_owned(),
                command: "node server.js".to_owned(),
                arrival: Arrival::Ready(Duration::from_millis(320)),
            },
            Row {
                name: "echo".to_owned(),
                route: "/echo".to_owned(),
                workers: "1-2".to_owned(),
                command: "bin/echo".to_owned(),
                arrival: Arrival::Failing,
            },
        ];
        let left_out = [LeftOut {
            name: "wsgi".to_owned(),
            reason: "needs `python3`".to_owned(),
        }];
        let addresses = [
            "127.0.0.1:8000".to_owned(),
            "0.0.0.0:80".to_owned(),
            "unix:/x".to_owned(),
        ];
        let banner = Banner {
            addresses: &addresses,
            rows: &rows,
            left_out: &left_out,
        };
        let plain = compose(&banner, false);
        for part in [
            "  http://127.0.0.1:8000/\n",
            "  http://localhost:80/  (on every address",
            "  curl --unix-socket /x http://localhost/\n",
            "  chat  /      4        in 320 ms  node server.js\n",
            "  echo  /echo  1-2      failing    bin/echo\n",
            "  left out wsgi: needs `python3`\n",
            "tried again",
        ] {
            assert!(plain.contains(part), "{part}\n{plain}");
        }
        assert!(!plain.contains('\x1b') && compose(&banner, true).contains('\x1b'));
    }
}
