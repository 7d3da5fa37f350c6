//! The options of `run` and `check`: one item for each, with name, value, default, unit and
//! sentence. Everything else follows from this table: the struct that argh fills, the defaults,
//! `--help`, the keys of the configuration file (the same names with `_`), and the README's table,
//! which a test compares with `--help`. Nothing is applied here; `config::plan` does that.

use super::address::{Address, HostPort};
use super::log_values::{DateText, FileBytes, FileCount, LogForm, NameDate, RotateEvery, Switch};
use super::values::{
    AccessFormat, Bytes, Count, Deadline, ErrorDetails, IdReaches, Keep, LogLevel, Percent,
    Seconds, Threads, Trusted, UserGroup, WorkerCount,
};
use std::path::PathBuf;

/// One option as `--help` and the documents show it.
#[derive(Debug)]
pub struct OptionItem {
    pub group: &'static str,
    /// Field name: with `_` in the configuration file, with `-` on the command line.
    pub key: &'static str,
    /// What stands for the value in the help.
    pub value: &'static str,
    /// Empty if the default is said by `otherwise`.
    pub default: &'static str,
    /// What happens without the option, if that is not a plain value.
    pub otherwise: &'static str,
    pub help: &'static str,
    pub repeatable: bool,
}

impl OptionItem {
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }
}

/// They say something about apps, so a reload follows them.
const FOLLOWED_BY_RELOADS: [&str; 8] = [
    "apps",
    "config",
    "env",
    "workers",
    "log_output",
    "log_dir",
    "log_format",
    "log_date_format",
];

macro_rules! options {
    ($(
        [$group:literal]
        $( $key:ident: $kind:ident<$type:ty> = $value:literal, default $default:literal,
           otherwise $otherwise:literal, $help:tt; )*
    )*) => {
        /// What the user typed. Nothing is filled in: an option that was not given is absent.
        #[derive(argh::FromArgs, Clone, Debug, Default)]
        /// options of run and check
        pub struct Options {
            $($( #[argh(option)] #[doc = $help] pub $key: $kind<$type>, )*)*
        }

        /// Every option, in the order of the help.
        pub const OPTIONS: &[OptionItem] = &[
            $($( OptionItem {
                group: $group,
                key: stringify!($key),
                value: $value,
                default: $default,
                otherwise: $otherwise,
                help: $help,
                repeatable: options!(@repeatable $kind),
            }, )*)*
        ];

        impl Options {
            /// Each option from here, or else from `lesser`: the command line beats the file.
            pub fn or(self, lesser: Options) -> Options {
                Options { $($( $key: options!(@or $kind, self.$key, lesser.$key), )*)* }
            }

            /// The keys that say something else in `other`, which was read later, and that nobody follows
            /// before the next start.
            pub fn wait_for_a_start(&self, other: &Options) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $($( if self.$key != other.$key { keys.push(stringify!($key)); } )*)*
                keys.retain(|key| !FOLLOWED_BY_RELOADS.contains(key));
                keys
            }
        }
    };
    (@repeatable Vec) => { true };
    (@repeatable Option) => { false };
    (@or Vec, $first:expr, $second:expr) => { if $first.is_empty() { $second } else { $first } };
    (@or Option, $first:expr, $second:expr) => { $first.or($second) };
}

options! {
    ["What to run"]
    apps: Option<PathBuf> = "DIR", default "apps", otherwise "",
        "folder of apps; every folder in it that says how it starts is an app";
    config: Option<PathBuf> = "FILE", default "", otherwise "the folder of --apps decides",
        "pm2-style JSON file that describes the apps, instead of a folder";
    env: Option<String> = "NAME", default "", otherwise "env alone",
        "take env_NAME of each app in the configuration in addition to its env";
    workers: Option<WorkerCount> = "N|max", default "", otherwise "one a core, at least two",
        "workers of an app that does not say itself";

    workers_max: Option<Count> = "N", default "", otherwise "four a core, or what the apps begin with if that is more",
        "workers of all apps at once that scaling may start; an app without a worker counts as one";
    memory_reserve: Option<Bytes> = "BYTES", default "", otherwise "a twentieth of the machine's",
        "memory that scaling leaves free: no worker is added that would take of it";

    ["Where to listen and what to write"]
    listen: Vec<Address> = "ADDR", default "127.0.0.1:8000", otherwise "",
        "HOST:PORT (port 0 picks a free one) or unix:PATH[,mode=MODE][,group=GROUP] to take requests on, repeatable";
    trusted_proxy: Vec<Trusted> = "NETWORK", default "", otherwise "nobody is believed",
        "address, network such as 10.0.0.0/8, or unix, of a proxy in front of us whose X-Forwarded-For, -Proto and -Host are believed; repeatable";
    dashboard: Option<HostPort> = "HOST:PORT", default "", otherwise "off",
        "address of the dashboard, /metrics, /healthz and /readyz; whoever can reach it can read it";
    dashboard_token_file: Option<PathBuf> = "FILE", default "", otherwise "nothing can be changed from the dashboard",
        "file whose first line is the token with which the dashboard may reload and scale";
    run_dir: Option<PathBuf> = "DIR", default "", otherwise "/run/sidekeeper for root and whoever owns it, else $XDG_RUNTIME_DIR/sidekeeper, else /tmp/sidekeeper-UID",
        "directory for the workers' sockets and our state; made with mode 0700";
    address_file: Option<PathBuf> = "FILE", default "", otherwise "not written",
        "file that gets the bound addresses, one a line, when every app has a ready worker";
    pid_file: Option<PathBuf> = "FILE", default "", otherwise "not written",
        "file that gets our process id and is removed when we end";
    user: Option<UserGroup> = "USER[:GROUP]", default "", otherwise "whoever starts us",
        "for root: who we and the workers become once the addresses are bound, by name or number";
    access_log: Option<PathBuf> = "FILE|-", default "", otherwise "off",
        "file that gets a line for each request when it has ended; - is standard output";
    access_log_format: Option<AccessFormat> = "FORMAT", default "text", otherwise "",
        "how the line looks: text and json hold all that is known, common and combined are those of Apache and nginx";
    access_log_query: Option<Keep> = "keep|drop", default "keep", otherwise "",
        "whether targets are logged with their query; of a sid in it four letters are shown, for who knows all of it can speak for its client";
    error_details: Option<ErrorDetails> = "local|all|none", default "local", otherwise "",
        "who sees in our own answers why, with the worker's last lines of stderr: who asks from this machine for this machine and through no proxy, everybody (for development), or nobody";
    request_id_to: Option<IdReaches> = "worker|client", default "worker", otherwise "",
        "how far X-Request-Id goes: to the worker and into our own answers, or into the worker's answers as well";

    ["Logs"]
    log_level: Option<LogLevel> = "LEVEL", default "info", otherwise "",
        "how much of our own goes to stderr: error, warn, info, debug or trace";
    log_output: Option<Switch> = "on|off", default "on", otherwise "",
        "whether workers' lines go to our stdout and stderr too";
    log_dir: Option<PathBuf> = "DIR", default "", otherwise "no files, but those that apps ask for",
        "folder that gets APP-out.log and APP-error.log of every app that does not say itself";
    log_format: Option<LogForm> = "FORM", default "", otherwise "prefixed on our output, plain in files",
        "what workers' lines look like: prefixed, plain or json; an app may have its own log_format";
    log_date_format: Option<DateText> = "FORMAT", default "", otherwise "YYYY-MM-DD HH:mm:ss.SSS Z for our own lines, no date for workers'",
        "date before each line, in the tokens of moment.js; an app may have its own";
    log_file_bytes_max: Option<FileBytes> = "BYTES", default "10m", otherwise "",
        "a log file that would become larger is put aside first; 0: never for its size";
    log_rotate_every: Option<RotateEvery> = "TIME", default "day", otherwise "",
        "how long one log file is written: hour, day, week (by the clock on the wall), seconds, or never";
    log_files_max: Option<FileCount> = "N", default "30", otherwise "",
        "files put aside that are kept of each log; 0: all";
    log_total_bytes_max: Option<Bytes> = "BYTES", default "1g", otherwise "",
        "all log files together; the oldest that were put aside go first; 0: no limit";
    log_compress: Option<Switch> = "on|off", default "on", otherwise "",
        "whether gzip compresses what is put aside, one file at a time, at low priority";
    log_rotated_date: Option<NameDate> = "FORMAT", default "YYYY-MM-DD_HH-mm-ss", otherwise "",
        "date in the name of a file that is put aside, in the tokens of moment.js";

    ["Alarms"]
    alarm_command: Option<String> = "LINE", default "", otherwise "none; alarms are in the log, the status and the metrics",
        "shell line that is run when an alarm is raised or cleared; its environment says which (docs/alarms.md)";
    alarm_latency: Option<Seconds> = "SECONDS", default "5", otherwise "",
        "for the p99 of an app's answers, above which that is an alarm; 0: never";
    alarm_errors: Option<Percent> = "PERCENT", default "5", otherwise "",
        "of an app's answers that may have a status of 5xx before that is an alarm; 0: never one";
    alarm_cpu: Option<Percent> = "PERCENT", default "95", otherwise "",
        "of a core (of all cores, for workers without the hook) that a worker may use for a minute; 0: any";

    ["Threads and counts"]
    threads: Option<Threads> = "N", default "", otherwise "one a core",
        "pool threads; none of them ever waits for a peer";
    relay_threads_max: Option<Threads> = "N", default "512", otherwise "",
        "threads that copy WebSockets which stream, two each; beyond them the pool threads do";
    connections_max: Option<Count> = "N", default "", otherwise "as many as the descriptor limit carries",
        "client connections open at once; further ones get 503";
    connections_per_client_max: Option<Count> = "N", default "", otherwise "no limit",
        "of them, by one IPv4 address or IPv6 /64; further ones get 503; Unix-socket clients are not counted";
    tunnels_max: Option<Count> = "N", default "", otherwise "as many as connections",
        "tunnels (WebSockets) open at once; further ones get 503";
    sessions_max: Option<Count> = "N", default "1000000", otherwise "",
        "sessions remembered at once; beyond them the oldest are forgotten, about 100 bytes each";
    requests_per_connection_max: Option<Count> = "N", default "", otherwise "no limit",
        "requests on one client connection before it is closed with its answer";

    ["Sizes of requests"]
    head_bytes_max: Option<Bytes> = "BYTES", default "16k", otherwise "",
        "longest request or response head; a longer request gets 431";
    head_fields_max: Option<Count> = "N", default "100", otherwise "",
        "most fields in a head; a request with more gets 431";
    target_bytes_max: Option<Bytes> = "BYTES", default "8k", otherwise "",
        "longest request target (path and query); a longer one gets 414";
    body_bytes_max: Option<Bytes> = "BYTES", default "0", otherwise "",
        "longest request body; a longer one gets 413; 0: no limit, for bodies are streamed, never held";

    ["Deadlines, in seconds (fractions allowed)"]
    head_timeout: Option<Deadline> = "SECONDS", default "10", otherwise "",
        "for a whole request head from its first byte, whatever trickles in; then 408";
    body_timeout: Option<Deadline> = "SECONDS", default "30", otherwise "",
        "for the next bytes of a request body; then 408";
    connect_timeout: Option<Deadline> = "SECONDS", default "5", otherwise "",
        "for room in a worker's backlog; then 503";
    answer_timeout: Option<Seconds> = "SECONDS", default "120", otherwise "",
        "for a worker's next bytes of an answer; then 504; an app may set its own; 0: no limit";
    keepalive_timeout: Option<Deadline> = "SECONDS", default "75", otherwise "",
        "for the first or next request on a connection; then it is closed";
    upstream_idle_timeout: Option<Deadline> = "SECONDS", default "4", otherwise "",
        "for the next use of a connection to a worker; keep it below the worker's own patience";
    tunnel_idle_timeout: Option<Seconds> = "SECONDS", default "90", otherwise "",
        "for the next bytes of a WebSocket in either direction; 0: no limit";
    write_timeout: Option<Deadline> = "SECONDS", default "30", otherwise "",
        "for a peer to take any of the bytes that we have for it; then it is cut off";
    half_close_timeout: Option<Deadline> = "SECONDS", default "3", otherwise "",
        "for the answer to a client that has ended its side; then it counts as gone";
    shutdown_timeout: Option<Seconds> = "SECONDS", default "30", otherwise "",
        "for what is in flight when we are asked to stop; 0: cut at once";
}

/// The option that is called `key` in the configuration file.
pub fn by_key(key: &str) -> Option<&'static OptionItem> {
    OPTIONS.iter().find(|item| item.key == key)
}

/// The option that is called `flag` on the command line.
pub fn by_flag(flag: &str) -> Option<&'static OptionItem> {
    OPTIONS.iter().find(|item| item.flag() == flag)
}

/// Reads options from words of the form `--name value`. The words have been told apart by the
/// caller already, so that what argh can still object to is a value or a repetition.
pub fn parse(words: &[&str]) -> Result<Options, String> {
    <Options as argh::FromArgs>::from_args(&["sidekeeper"], words).map_err(|exit| {
        let line = exit.output.lines().next();
        plainly(line.unwrap_or("unreadable option").trim())
    })
}

/// argh's words for a value that cannot be read, said as all our refusals are.
fn plainly(said: &str) -> String {
    said.strip_prefix("Error parsing option '")
        .and_then(|rest| rest.split_once("' with value '"))
        .and_then(|(flag, rest)| {
            let (value, why) = rest.split_once("': ")?;
            Some(format!("{flag} is `{value}`: {why}"))
        })
        .unwrap_or_else(|| said.to_owned())
}

/// The options with every plain default of the table filled in.
pub fn with_defaults(given: Options) -> Options {
    let flags: Vec<String> = OPTIONS.iter().map(OptionItem::flag).collect();
    let words: Vec<&str> = OPTIONS
        .iter()
        .zip(&flags)
        .filter(|(item, _)| !item.default.is_empty())
        .flat_map(|(item, flag)| [flag.as_str(), item.default])
        .collect();
    given.or(parse(&words).expect("the table's defaults are read by a test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_does_not_follow_is_known() {
        let read = |words: &[&str]| parse(words).expect("good options");
        let first = read(&[
            "--threads",
            "2",
            "--listen",
            "127.0.0.1:1",
            "--workers",
            "2",
        ]);
        let later = read(&[
            "--threads",
            "3",
            "--listen",
            "127.0.0.1:2",
            "--workers",
            "3",
        ]);
        assert_eq!(first.wait_for_a_start(&later), ["listen", "threads"]);
        assert_eq!(first.wait_for_a_start(&first.clone()), [""; 0]);
        for key in FOLLOWED_BY_RELOADS {
            assert!(by_key(key).is_some(), "{key}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_is_refused_plainly() {
        let said = parse(&["--listen", "8080"]).expect_err("no host");
        assert!(
            said.starts_with("--listen is `8080`: expected HOST:PORT"),
            "{said}"
        );
    }

    #[test]
    fn every_default_of_the_table_can_be_read() {
        let filled = with_defaults(Options::default());
        assert_eq!(filled.apps, Some(PathBuf::from("apps")));
        assert_eq!(filled.listen.len(), 1);
        assert!(filled.head_timeout.is_some() && filled.workers.is_none());
    }

    #[test]
    fn every_option_says_its_default_and_has_a_sentence() {
        for item in OPTIONS {
            assert!(
                item.default.is_empty() != item.otherwise.is_empty(),
                "{}",
                item.key
            );
            assert!(
                item.help.len() > 20 && !item.help.ends_with('.'),
                "{}",
                item.key
            );
        }
    }

    #[test]
    fn what_was_given_beats_the_default() {
        let given = parse(&["--listen", "unix:/x", "--head-timeout", "0.5"]).expect("good options");
        let filled = with_defaults(given);
        assert_eq!(filled.listen, ["unix:/x".parse().expect("an address")]);
        assert_eq!(filled.head_timeout.map(|d| d.0.as_millis()), Some(500));
    }

    #[test]
    fn refusals_name_the_option_and_what_is_expected() {
        for (words, part) in [
            (["--head-timeout", "0"], "above 0"),
            (["--threads", "none"], "whole number"),
            (["--listen", "8000"], "127.0.0.1:8000"),
        ] {
            let message = parse(&words).expect_err("a bad value");
            assert!(
                message.contains(words[0]) && message.contains(part),
                "{message}"
            );
        }
        assert!(parse(&["--threads", "1", "--threads", "2"]).is_err());
    }
}
