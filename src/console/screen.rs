//! How answers look on a terminal. Pure.

use super::table::{Cell, Column, compose};
use crate::admin::humane;
use crate::admin::requests::{RequestLine, Requests};
use crate::admin::sessions::SessionCounts;
use crate::admin::status::{AppStatus, Status, WorkerLine};
use crate::journal::harmless::harmless;
use front::as_json;
use front::json::{self, FromJson, Wrong};

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// The loop of an app is slow from here on: somebody waits that long.
const LAG_SLOW_MS: f64 = 100.0;

const fn column(title: &'static str, right: bool, expendable: u8) -> Column {
    Column {
        title,
        right,
        expendable,
    }
}

pub const WORKER_COLUMNS: [Column; 14] = [
    column("WORKER", false, 0),
    column("PID", true, 3),
    column("STATE", false, 0),
    column("SINCE", true, 4),
    column("RESTARTS", true, 2),
    column("CPU", true, 0),
    column("MEMORY", true, 0),
    column("LOOP LAG", true, 5),
    column("IN FLIGHT", true, 6),
    column("SESSIONS", true, 7),
    column("SOCKETS", true, 1),
    column("REQ/S", true, 0),
    column("P99", true, 1),
    column("LAST DEATH", false, 8),
];

pub const APP_COLUMNS: [Column; 6] = [
    column("APP", false, 0),
    column("READY", true, 0),
    column("REQ/S", true, 0),
    column("P50", true, 1),
    column("P99", true, 0),
    column("5XX/S", true, 2),
];

/// `sidekeeper status`.
pub fn status(status: &Status, width: Option<usize>, colours: bool) -> String {
    let mut text = headline(status);
    text.push('\n');
    for alarm in &status.alarms {
        let line = format!("ALARM {}", alarm.text);
        let line = width.map_or(line.clone(), |width| fitted(&line, width));
        text.push_str(&match colours {
            true => format!("\x1b[{RED}m{line}\x1b[0m\n"),
            false => line + "\n",
        });
    }
    if !status.alarms.is_empty() {
        text.push('\n');
    }
    let rows: Vec<Vec<Cell>> = status.apps.iter().map(app).collect();
    text.push_str(&compose(&APP_COLUMNS, &rows, width, colours));
    text.extend(status.apps.iter().filter_map(scaled));
    text.push('\n');
    let rows: Vec<Vec<Cell>> = status.workers.iter().map(worker).collect();
    text.push_str(&compose(&WORKER_COLUMNS, &rows, width, colours));
    match width {
        Some(width) => text
            .lines()
            .map(|line| fitted(line, width) + "\n")
            .collect(),
        None => text,
    }
}

/// Two lines: which instance, and how it does.
pub fn headline(status: &Status) -> String {
    let mut text = format!(
        "sidekeeper {} (pid {}), up {}, on {}\n",
        status.version,
        status.pid,
        humane::time(status.uptime_s),
        status.addresses.join(", ")
    );
    let ready: usize = status.apps.iter().map(|app| app.ready).sum();
    let per_second: f64 = status.apps.iter().map(|app| app.requests_per_s).sum();
    text.push_str(&format!(
        "{ready} of {} workers ready, {} requests/s, {} connections, {} refused\n",
        status.workers.len(),
        figure(per_second),
        status.connections,
        status.refused
    ));
    text
}

/// A line of text without colours that is too long is cut; the table has seen to itself.
pub fn fitted(line: &str, width: usize) -> String {
    if line.contains('\x1b') || line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

pub fn app(line: &AppStatus) -> Vec<Cell> {
    let alarming = |text: String, alarm: bool| Cell {
        text,
        colour: alarm.then_some(RED),
    };
    vec![
        Cell::from(line.app.clone()),
        alarming(ready(line), line.ready == 0 && line.workers_min > 0),
        Cell::from(figure(line.requests_per_s)),
        time(line.p50_ms),
        time(line.p99_ms),
        alarming(figure(line.errors_per_s), line.errors_per_s > 0.0),
    ]
}

fn time(ms: Option<f64>) -> Cell {
    Cell::from(ms.map_or_else(|| "-".to_owned(), milliseconds))
}

/// `2/2`, and `2 of 1-4` where the number follows the load.
fn ready(line: &AppStatus) -> String {
    let (min, max) = (line.workers_min, line.workers_max);
    match line.by_hand {
        true => format!("{} of {max} by hand", line.ready),
        false if min < max => format!("{} of {min}-{max}", line.ready),
        false => format!("{}/{}", line.ready, line.workers),
    }
}

/// What is worth knowing about how many workers an app has.
fn scaled(line: &AppStatus) -> Option<String> {
    let name = &line.app;
    if let Some(held) = &line.held {
        return Some(format!("{name} gets no more workers: {held}\n"));
    }
    let scaled = line.scaled.as_ref()?;
    let ago = humane::short_time(scaled.ago_s);
    Some(format!("{name} {ago} ago: {}\n", scaled.text))
}

/// `0.31 ms`, `4.2 ms`, `120 ms`, `2.5 s`.
fn milliseconds(ms: f64) -> String {
    match ms {
        ..1.0 => format!("{ms:.2} ms"),
        ..10.0 => format!("{ms:.1} ms"),
        ..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

pub fn worker(line: &WorkerLine) -> Vec<Cell> {
    let plain = |text: String| Cell::from(text);
    let coloured = |text: String, colour| Cell {
        text,
        colour: Some(colour),
    };
    let state = match line.state.as_str() {
        "ready" => GREEN,
        "errored" | "stopped" => RED,
        _ => YELLOW,
    };
    let death = line.last_death.as_ref().map_or_else(String::new, |death| {
        format!("{} ago: {}", humane::short_time(death.ago_s), death.reason)
    });
    let or_dash = |text: Option<String>| plain(text.unwrap_or_else(|| "-".to_owned()));
    vec![
        plain(line.worker.clone()),
        or_dash(line.pid.map(|pid| pid.to_string())),
        coloured(line.state.clone(), state),
        plain(humane::short_time(line.state_s)),
        plain(line.restarts.to_string()),
        or_dash(line.cpu_percent.map(|percent| format!("{percent:.0}%"))),
        or_dash(line.memory_bytes.map(humane::bytes)),
        match line.loop_lag_ms {
            Some(lag) if lag >= LAG_SLOW_MS => coloured(format!("{lag:.0} ms"), YELLOW),
            Some(lag) => plain(format!("{lag:.0} ms")),
            None => plain("-".to_owned()),
        },
        plain(line.in_flight.to_string()),
        plain(line.sessions.to_string()),
        plain(line.sockets.to_string()),
        plain(figure(line.requests_per_s)),
        time(line.p99_ms),
        plain(death),
    ]
}

/// `0`, `0.5`, `12`: a fraction only where it matters.
fn figure(value: f64) -> String {
    match value {
        ..10.0 if value.fract() != 0.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

const REQUEST_COLUMNS: [Column; 8] = [
    column("AGE", true, 0),
    column("PHASE", false, 0),
    column("WORKER", false, 0),
    column("WHY", false, 1),
    column("CLIENT", false, 2),
    column("REQUEST ID", false, 3),
    column("METHOD", false, 0),
    column("TARGET", false, 0),
];

/// `sidekeeper requests`.
pub fn requests(told: &Requests, width: Option<usize>, colours: bool) -> String {
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned()).into();
    let row = |request: &RequestLine| -> Vec<Cell> {
        vec![
            humane::span(request.age_ms).into(),
            Cell {
                colour: (request.phase == "waiting").then_some(YELLOW),
                text: request.phase.clone(),
            },
            dash(&request.worker),
            dash(&request.why),
            request
                .client
                .clone()
                .unwrap_or_else(|| "unix".to_owned())
                .into(),
            request.request_id.clone().into(),
            request.method.clone().into(),
            request.target.clone().into(),
        ]
    };
    let rows: Vec<Vec<Cell>> = told.requests.iter().map(row).collect();
    let mut text = match rows.is_empty() {
        true => "no request is under way\n".to_owned(),
        false => compose(&REQUEST_COLUMNS, &rows, width, colours),
    };
    if told.more > 0 {
        text.push_str(&format!("{} younger ones are not shown\n", told.more));
    }
    if told.silent_threads > 0 {
        let silent = told.silent_threads;
        text.push_str(&format!(
            "{silent} threads did not answer in time; theirs are not shown\n"
        ));
    }
    text
}

/// `sidekeeper sessions`.
pub fn sessions(counts: &SessionCounts) -> String {
    let columns = [
        column("WORKER", false, 0),
        column("SIDS", true, 0),
        column("COOKIES", true, 0),
    ];
    let rows: Vec<Vec<Cell>> = counts
        .workers
        .iter()
        .map(|line| {
            let cells = [
                line.worker.clone(),
                line.sids.to_string(),
                line.cookies.to_string(),
            ];
            cells.map(Cell::from).to_vec()
        })
        .collect();
    let mut text = compose(&columns, &rows, None, false);
    if counts.lost > 0 {
        text.push_str(&format!("\n{} of workers that have ended\n", counts.lost));
    }
    text
}

struct LogLine {
    worker: String,
    stream: String,
    line: String,
}

as_json!(from struct LogLine { worker, stream, line });

/// In the place of lines.
struct LogGap {
    dropped: u64,
}

as_json!(from struct LogGap { dropped });

/// One line of `sidekeeper logs`.
pub fn log_line(text: &str, colours: bool) -> Result<String, Wrong> {
    let value = json::parse(text.as_bytes())?;
    if let Ok(LogGap { dropped }) = LogGap::from_json(&value) {
        return Ok(format!(
            "sidekeeper | {dropped} lines left out: they came faster than they were read\n"
        ));
    }
    let LogLine {
        worker,
        stream,
        line,
    } = LogLine::from_json(&value)?;
    let line = harmless(line.as_bytes());
    Ok(if colours {
        let colour = if stream == "stderr" { RED } else { CYAN };
        format!("\x1b[{colour}m{worker} |\x1b[0m {line}\n")
    } else {
        format!("{worker} | {line}\n")
    })
}

struct Text {
    text: String,
    /// The next line takes its place.
    passing: bool,
}

as_json!(from struct Text { text, passing or default });

/// A line that says itself how it reads. On a terminal one that passes is replaced by the next; it is
/// cut to `width`, since a line that wraps cannot be replaced.
pub fn text(line: &str, width: Option<usize>) -> Result<String, Wrong> {
    let Text { text, passing } = json::read(line.as_bytes())?;
    Ok(match width {
        Some(width) if passing => format!("\r{}\x1b[K", fitted(&text, width)),
        Some(_) => format!("\r\x1b[K{text}\n"),
        None => text + "\n",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_logs_read_like_the_output_of_run() {
        let line = r#"{"worker":"chat.0","stream":"stderr","time_ms":1,"line":"oh \"no\""}"#;
        assert_eq!(
            log_line(line, false).ok().as_deref(),
            Some("chat.0 | oh \"no\"\n")
        );
        assert!(log_line(line, true).is_ok_and(|text| text.contains("\x1b[31m")));
        assert!(log_line(r#"{"dropped":7}"#, false).is_ok_and(|text| text.contains("7 lines")));
    }

    #[test]
    fn what_passes_is_replaced_on_a_terminal_and_kept_elsewhere() {
        let passing = r#"{"text":"chat: 1 of 3 done","passing":true}"#;
        let last = r#"{"text":"chat: 3 workers serve"}"#;
        let on = |line: &str, width| text(line, width).expect("a line");
        assert_eq!(on(passing, None), "chat: 1 of 3 done\n");
        assert_eq!(on(passing, Some(80)), "\rchat: 1 of 3 done\x1b[K");
        assert_eq!(on(passing, Some(8)), "\rchat: 1…\x1b[K");
        assert_eq!(on(last, Some(8)), "\r\x1b[Kchat: 3 workers serve\n");
    }

    #[test]
    fn figures_are_short() {
        for (value, text) in [(0.0, "0"), (0.5, "0.5"), (9.94, "9.9"), (12.3, "12")] {
            assert_eq!(figure(value), text);
        }
    }
}
