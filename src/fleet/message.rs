//! The lines that we and the hook in a Node worker say to each other. Pure. All other lines on the
//! channel are the app's own affair.

use crate::fleet::life::LifeKey;
use front::as_json;
use front::json::{self, FromJson};
use front::roster::Looks;
use std::time::Duration;

/// pm2's message to the app: time to go.
pub const SHUTDOWN: &[u8] = b"\"shutdown\"\n";
/// To the hook: close the server, let requests finish.
pub const DRAIN: &[u8] = b"{\"cmd\":\"NODE_SIDEKEEPER_DRAIN\"}\n";
/// To the hook: serve those that are there, and end the WebSockets among them one by one.
pub fn trickle(spread: Duration) -> Vec<u8> {
    let millis = spread.as_millis();
    format!("{{\"cmd\":\"NODE_SIDEKEEPER_TRICKLE\",\"spread_ms\":{millis}}}\n").into_bytes()
}
/// The answer to [`News::WantsListener`]; goes with a descriptor, in the form that Node itself uses
/// for messages that carry one.
pub const LISTENER: &[u8] = b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\
    \"msg\":{\"cmd\":\"NODE_SIDEKEEPER_LISTENER\"}}\n";

const CMD_PREFIX: &str = "NODE_SIDEKEEPER_";
/// How far into a line the prefix is looked for: parsing megabytes of an app's own messages only to
/// find that they are not for us would cost the reader its time.
const CMD_BYTES_MAX: usize = 64;

/// What a worker says of itself, once a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// The worst delay of the event loop in that second, milliseconds.
    pub lag_ms: f64,
    /// Busy share of the event loop, 0 to 1.
    pub utilization: f64,
    /// Bytes of heap in use.
    pub heap: u64,
    /// Bytes of resident memory.
    pub rss: u64,
    /// Sockets that the app's server has open.
    pub sockets: u64,
    /// Bytes that have come through connections that were handed over, since the worker's start.
    pub bytes_in: u64,
    /// Bytes that have gone through them.
    pub bytes_out: u64,
}

as_json!(struct Stats or default { lag_ms, utilization, heap, rss, sockets, bytes_in, bytes_out });

/// What the supervisor has to know.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The app's server listens on the socket that it was given.
    Listening,
    /// `process.send('ready')`.
    Ready,
    /// The app's server is closed; in a drain, its requests are done as well.
    Closed,
    /// It listens again after it had closed, and has no descriptor of its socket any more.
    WantsListener,
    Stats(Stats),
    /// The worker has closed its end: it has ended, disconnected, or lost the descriptor.
    ChannelGone,
}

/// What the supervisor is told.
#[derive(Debug)]
pub struct Notice {
    pub key: LifeKey,
    pub news: News,
}

/// What the worker says about an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Took(u64),
    Refused(u64),
    /// The connection has ended, and what its client looks like.
    Gone(u64, Looks),
    /// Node has received the next descriptor in order.
    Ack,
    /// Node has not: it is out of descriptors.
    Nack,
}

/// What a line says, if it is for us.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// For the supervisor.
    News(News),
    /// About a connection that is handed off.
    Word(Word),
}

/// Node's own words about a descriptor (`lib/internal/child_process.js`).
const HANDLE_ACK: &[u8] = br#"{"cmd":"NODE_HANDLE_ACK"}"#;
const HANDLE_NACK: &[u8] = br#"{"cmd":"NODE_HANDLE_NACK"}"#;

struct HookMessage {
    cmd: String,
    /// Of an offer.
    seq: u64,
    /// Of an offer's client; 0: unknown.
    looks: u32,
}

as_json!(from struct HookMessage { cmd, seq or default, looks or default });

/// Reads a line without its newline; None if it is not for us.
pub fn understand(line: &[u8]) -> Option<Heard> {
    match line {
        b"\"ready\"" => return Some(Heard::News(News::Ready)),
        HANDLE_ACK => return Some(Heard::Word(Word::Ack)),
        HANDLE_NACK => return Some(Heard::Word(Word::Nack)),
        _ => {}
    }
    let start = line.get(..CMD_BYTES_MAX).unwrap_or(line);
    let mut windows = start.windows(CMD_PREFIX.len());
    if !windows.any(|window| window == CMD_PREFIX.as_bytes()) {
        return None;
    }
    let value = json::parse(line).ok()?;
    let message = HookMessage::from_json(&value).ok()?;
    match message.cmd.strip_prefix(CMD_PREFIX)? {
        "LISTENING" => Some(Heard::News(News::Listening)),
        "CLOSED" => Some(Heard::News(News::Closed)),
        "RELISTEN" => Some(Heard::News(News::WantsListener)),
        "STATS" => Some(Heard::News(News::Stats(Stats::from_json(&value).ok()?))),
        "TOOK" => Some(Heard::Word(Word::Took(message.seq))),
        "REFUSED" => Some(Heard::Word(Word::Refused(message.seq))),
        "GONE" => Some(Heard::Word(Word::Gone(
            message.seq,
            Looks::from_number(message.looks),
        ))),
        // Of a newer or older hook, which an exec has left in a worker.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_hook_are_told_from_others() {
        let stats = Stats {
            lag_ms: 1.5,
            utilization: 0.25,
            heap: 10,
            rss: 20,
            sockets: 3,
            bytes_in: 4,
            bytes_out: 5,
        };
        let news = |news| Some(Heard::News(news));
        let word = |word| Some(Heard::Word(word));
        let rows = [
            ("\"ready\"", news(News::Ready)),
            (
                r#"{"cmd":"NODE_SIDEKEEPER_LISTENING","type":"path","path":"/r/a.0.sock","port":3001,"pid":7}"#,
                news(News::Listening),
            ),
            (r#"{"cmd":"NODE_SIDEKEEPER_CLOSED"}"#, news(News::Closed)),
            (
                r#"{"cmd":"NODE_SIDEKEEPER_RELISTEN"}"#,
                news(News::WantsListener),
            ),
            (
                r#"{"cmd":"NODE_SIDEKEEPER_STATS","lag_ms":1.5,"utilization":0.25,"heap":10,"rss":20,"sockets":3,"bytes_in":4,"bytes_out":5}"#,
                news(News::Stats(stats)),
            ),
            (
                r#"{"cmd":"NODE_SIDEKEEPER_STATS"}"#,
                news(News::Stats(Stats::default())),
            ),
            (r#"{"cmd":"NODE_SIDEKEEPER_STATS""#, None),
            (r#"{"cmd":"NODE_SIDEKEEPER_STATS","heap":-1}"#, None),
            (r#"{"cmd":"NODE_SIDEKEEPER_NEWER"}"#, None),
            (r#"{"cmd":"NODE_HANDLE_ACK"}"#, word(Word::Ack)),
            (r#"{"cmd":"NODE_HANDLE_NACK"}"#, word(Word::Nack)),
            (
                r#"{"cmd":"NODE_SIDEKEEPER_TOOK","seq":17}"#,
                word(Word::Took(17)),
            ),
            (
                r#"{"cmd":"NODE_SIDEKEEPER_REFUSED","seq":1}"#,
                word(Word::Refused(1)),
            ),
            (
                r#"{"cmd":"NODE_SIDEKEEPER_GONE","seq":2}"#,
                word(Word::Gone(2, Looks::UNKNOWN)),
            ),
            (
                r#"{"cmd":"NODE_SIDEKEEPER_GONE","seq":2,"looks":4275878552}"#,
                word(Word::Gone(2, Looks::from_number(0xfedc_ba98))),
            ),
            (
                r#"{"cmd":"NODE_SIDEKEEPER_GONE","seq":2,"looks":"nothing"}"#,
                None,
            ),
            (r#"{"cmd":"NODE_SIDEKEEPER_TOOK","seq":-1}"#, None),
            (r#"{"cmd":7,"text":"NODE_SIDEKEEPER_CLOSED"}"#, None),
            (r#"{"text":"NODE_SIDEKEEPER_CLOSED"}"#, None),
            (r#"["NODE_SIDEKEEPER_CLOSED"]"#, None),
            ("ready", None),
            ("", None),
        ];
        for (line, heard) in rows {
            assert_eq!(understand(line.as_bytes()), heard, "{line}");
        }
    }

    #[test]
    fn what_we_say_is_one_line_of_json() {
        let trickle = trickle(Duration::from_millis(1500));
        for line in [SHUTDOWN, DRAIN, LISTENER, &trickle] {
            let text = line.strip_suffix(b"\n").expect("a newline at the end");
            assert!(!text.contains(&b'\n'));
            serde_json::from_slice::<serde_json::Value>(text).expect("JSON");
        }
    }
}
