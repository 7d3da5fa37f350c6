//! What a line of a worker looks like, on our output and in files. Pure.

use crate::fleet::spec::{LineForm, LogSpec};
use crate::journal::date::{DateFormat, Zone};
use crate::journal::harmless::harmless_json;
use front::as_json;
use front::json;
use std::sync::Arc;

/// Which of its outputs a worker has written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn word(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    /// As pm2 calls them in its JSON.
    fn pm2_word(self) -> &'static str {
        match self {
            Stream::Stdout => "out",
            Stream::Stderr => "err",
        }
    }
}

/// Who speaks.
#[derive(Clone, Debug)]
pub struct Speaker {
    pub app: Arc<str>,
    /// `chat.0`.
    pub worker: Arc<str>,
    pub instance: u32,
}

/// pm2's names, and ours for the worker.
struct JsonLine<'a> {
    message: &'a str,
    timestamp: &'a str,
    stream: &'static str,
    process_id: u32,
    app_name: &'a str,
    worker: &'a str,
}

as_json!(to struct JsonLine<'a> {
    message, timestamp, stream as "type", process_id, app_name, worker
});

/// The moment of a line, written at most once for all the places that it goes to.
pub struct Stamp<'a> {
    unix_ms: u64,
    zone: &'a mut Zone,
    local: Option<String>,
    universal: Option<String>,
}

impl<'a> Stamp<'a> {
    pub fn new(unix_ms: u64, zone: &'a mut Zone) -> Stamp<'a> {
        Stamp {
            unix_ms,
            zone,
            local: None,
            universal: None,
        }
    }

    fn local(&mut self, format: &DateFormat) -> &str {
        let (unix_ms, zone) = (self.unix_ms, &mut self.zone);
        self.local
            .get_or_insert_with(|| format.format(unix_ms, zone.offset_s(unix_ms)))
    }

    /// What JavaScript's `toISOString` says.
    fn universal(&mut self) -> &str {
        let unix_ms = self.unix_ms;
        self.universal.get_or_insert_with(|| {
            let (format, _) = DateFormat::read("YYYY-MM-DDTHH:mm:ss.SSS[Z]");
            format.format(unix_ms, 0)
        })
    }
}

/// Writes a line, without its newline, over what `to` holds. A stamp serves one date format: that of
/// one app.
pub fn compose(
    to: &mut Vec<u8>,
    form: LineForm,
    date: Option<&DateFormat>,
    stamp: &mut Stamp<'_>,
    (speaker, stream): (&Speaker, Stream),
    line: &[u8],
) {
    to.clear();
    match form {
        LineForm::Prefixed => {
            to.extend_from_slice(speaker.worker.as_bytes());
            to.extend_from_slice(b" | ");
        }
        LineForm::Plain => {}
        LineForm::Json => return json(to, date, stamp, (speaker, stream), line),
    }
    if let Some(date) = date {
        to.extend_from_slice(stamp.local(date).as_bytes());
        to.extend_from_slice(b": ");
    }
    to.extend_from_slice(line);
}

fn json(
    to: &mut Vec<u8>,
    date: Option<&DateFormat>,
    stamp: &mut Stamp<'_>,
    (speaker, stream): (&Speaker, Stream),
    line: &[u8],
) {
    let message = String::from_utf8_lossy(line);
    let json_line = JsonLine {
        message: &message,
        timestamp: match date {
            Some(date) => stamp.local(date),
            None => stamp.universal(),
        },
        stream: stream.pm2_word(),
        process_id: speaker.instance,
        app_name: &speaker.app,
        worker: &speaker.worker,
    };
    let text = json::text(&json_line);
    to.extend_from_slice(harmless_json(text).as_bytes());
}

/// The line that stands in a file where lines were dropped.
pub fn gap_line(spec: &LogSpec, app: &Arc<str>, count: u64, unix_ms: u64) -> Vec<u8> {
    let speaker = Speaker {
        app: Arc::clone(app),
        worker: Arc::from("sidekeeper"),
        instance: 0,
    };
    let text = match (count, spec.file_form()) {
        (1, LineForm::Plain) => "sidekeeper: 1 line dropped here".to_owned(),
        (_, LineForm::Plain) => format!("sidekeeper: {count} lines dropped here"),
        (1, LineForm::Prefixed | LineForm::Json) => "1 line dropped here".to_owned(),
        (_, LineForm::Prefixed | LineForm::Json) => format!("{count} lines dropped here"),
    };
    let mut zone = Zone::default();
    let mut line = Vec::new();
    compose(
        &mut line,
        spec.file_form(),
        spec.date.as_ref(),
        &mut Stamp::new(unix_ms, &mut zone),
        (&speaker, Stream::Stderr),
        text.as_bytes(),
    );
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn composed(form: LineForm, format: Option<&str>, line: &[u8]) -> String {
        let speaker = Speaker {
            app: Arc::from("chat"),
            worker: Arc::from("chat.1"),
            instance: 1,
        };
        let date = format.map(|format| DateFormat::read(format).0);
        let mut zone = Zone::default();
        let mut stamp = Stamp::new(90_061_001, &mut zone);
        let mut to = b"what was there before".to_vec();
        let whose = (&speaker, Stream::Stderr);
        compose(&mut to, form, date.as_ref(), &mut stamp, whose, line);
        String::from_utf8_lossy(&to).into_owned()
    }

    #[test]
    fn lines_look_as_they_were_asked_for() {
        let table = [
            (LineForm::Prefixed, None, "chat.1 | hello"),
            (
                LineForm::Prefixed,
                Some("[at] X"),
                "chat.1 | at 90061: hello",
            ),
            (LineForm::Plain, None, "hello"),
            (LineForm::Plain, Some("x"), "90061001: hello"),
            (
                LineForm::Json,
                Some("x"),
                r#"{"message":"hello","timestamp":"90061001","type":"err","process_id":1,"app_name":"chat","worker":"chat.1"}"#,
            ),
        ];
        for (form, date, expected) in table {
            assert_eq!(composed(form, date, b"hello"), expected);
        }
        let json = composed(LineForm::Json, None, b"hello");
        assert!(
            json.contains(r#""timestamp":"1970-01-02T01:01:01.001Z""#),
            "{json}"
        );
    }

    #[test]
    fn json_is_json_whatever_the_worker_prints() {
        let line = b"\xff \x1b[2J \"q\" \\ \x00 \xc2\x9b \x7f";
        let json = composed(LineForm::Json, None, line);
        assert!(!json.contains(char::is_control), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(
            read["message"],
            "\u{fffd} \u{1b}[2J \"q\" \\ \0 \u{9b} \u{7f}"
        );
    }

    #[test]
    fn a_gap_looks_like_its_neighbours() {
        let app: Arc<str> = Arc::from("chat");
        let spec = |form| LogSpec {
            form: Some(form),
            ..LogSpec::default()
        };
        let said = |form, count| String::from_utf8(gap_line(&spec(form), &app, count, 0));
        assert_eq!(
            said(LineForm::Prefixed, 2).as_deref(),
            Ok("sidekeeper | 2 lines dropped here")
        );
        assert_eq!(
            said(LineForm::Plain, 1).as_deref(),
            Ok("sidekeeper: 1 line dropped here")
        );
        assert!(said(LineForm::Json, 7).is_ok_and(|text| text.contains(r#""message":"7 lines"#)));
    }
}
