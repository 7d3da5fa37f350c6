//! From the options to what the server is asked to be: units, derived limits, bounds. Pure.

use super::ConfigError;
use super::accounts::Accounts;
use super::options::Options;
use super::values::{Bytes, Count, Deadline, ErrorDetails, IdReaches, Seconds, Threads, Trusted};
use front::http::head::{FIELDS_MAX, HeadLimits};
use front::server::ListenAddr;
use front::{proxy, server};
use std::time::Duration;

/// More passed sockets than these are a mistake.
const PASSED_MAX: i32 = 64;
/// Descriptors that are not there for clients: listeners, epoll sets, files, relays' wake-ups.
const DESCRIPTORS_RESERVED: u64 = 128;
/// A worker's listener, channel and two pipes, and one to spare.
const DESCRIPTORS_A_WORKER: u64 = 5;
/// The most clients at once if nobody says: beyond this the kernel's memory is the limit.
const CONNECTIONS_MAX: u64 = 1 << 20;
/// Heads are read into a buffer of this size, so that a larger limit could not be kept.
const HEAD_BYTES_MAX: u64 = proxy::INPUT_BYTES as u64;
/// Less than this refuses what browsers really send.
const HEAD_BYTES_LEAST: u64 = 1024;
const TARGET_BYTES_LEAST: u64 = 256;

/// What of the machine matters to the front.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub cores: u32,
    pub descriptors_max: u64,
    /// Workers of all apps.
    pub workers: u64,
}

/// The server's settings. The options have their defaults already.
pub fn settings(
    options: &Options,
    room: Room,
    listen: Vec<ListenAddr>,
) -> Result<server::Settings, ConfigError> {
    let seconds = |typed: Option<Seconds>| typed.map_or(Duration::ZERO, |Seconds(time)| time);
    let deadline = |typed: Option<Deadline>| typed.map_or(Duration::ZERO, |Deadline(time)| time);
    let count = |typed: Option<Count>| typed.map(|Count(number)| number);
    let connections_max = count(options.connections_max).unwrap_or_else(|| carried(room));
    let head_bytes_max = within(
        "head_bytes_max",
        options.head_bytes_max,
        HEAD_BYTES_LEAST,
        HEAD_BYTES_MAX,
    )?;
    let target_bytes_max = within(
        "target_bytes_max",
        options.target_bytes_max,
        TARGET_BYTES_LEAST,
        HEAD_BYTES_MAX,
    )?;
    let head_fields_max = usize_of(count(options.head_fields_max).unwrap_or(1));
    if head_fields_max > FIELDS_MAX {
        return Err(ConfigError::Setup(format!(
            "--head-fields-max: at most {FIELDS_MAX}"
        )));
    }
    Ok(server::Settings {
        listen,
        threads: usize_of(options.threads.map_or(room.cores, |Threads(number)| number)),
        connections_max,
        connections_per_client_max: count(options.connections_per_client_max).unwrap_or(0),
        relay_threads_max: usize_of(
            options
                .relay_threads_max
                .map_or(1, |Threads(number)| number),
        ),
        sessions_max: usize_of(count(options.sessions_max).unwrap_or(1)),
        proxy: proxy::Settings {
            head: HeadLimits {
                head_bytes_max,
                head_fields_max,
                target_bytes_max,
            },
            body_bytes_max: options.body_bytes_max.map_or(0, |Bytes(number)| number),
            head_timeout: deadline(options.head_timeout),
            body_timeout: deadline(options.body_timeout),
            connect_timeout: deadline(options.connect_timeout),
            answer_timeout: seconds(options.answer_timeout),
            keepalive_timeout: deadline(options.keepalive_timeout),
            tunnel_idle_timeout: seconds(options.tunnel_idle_timeout),
            write_timeout: deadline(options.write_timeout),
            half_close_timeout: deadline(options.half_close_timeout),
            upstream_idle_timeout: deadline(options.upstream_idle_timeout),
            requests_per_connection_max: count(options.requests_per_connection_max).unwrap_or(0),
            tunnels_max: count(options.tunnels_max).unwrap_or(connections_max),
            trusted_proxies: options
                .trusted_proxy
                .iter()
                .map(|Trusted(proxy)| *proxy)
                .collect(),
            error_details: options
                .error_details
                .map_or(Default::default(), |ErrorDetails(audience)| audience),
            request_id_to_client: options.request_id_to == Some(IdReaches::Client),
            // A file that is not open yet: whoever starts the server opens it.
            access: None,
        },
    })
}

/// Where to listen: what was passed to us, or else what `--listen` says.
pub fn listen(
    options: &Options,
    passed: &[ListenAddr],
    accounts: &Accounts,
) -> Result<Vec<ListenAddr>, ConfigError> {
    if !passed.is_empty() {
        return Ok(passed.to_vec());
    }
    let resolved = options.listen.iter().map(|address| {
        let refused = |why| ConfigError::Setup(format!("--listen: {why}"));
        address.resolve(accounts).map_err(refused)
    });
    resolved.collect()
}

/// The sockets that were passed to process `pid`, as sd_listen_fds(3) says: they stand for `--listen`.
pub fn passed(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Vec<ListenAddr> {
    const FIRST: i32 = 3;
    if variable("LISTEN_PID").and_then(|text| text.parse().ok()) != Some(pid) {
        return Vec::new();
    }
    let count: i32 = variable("LISTEN_FDS")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').chain(std::iter::repeat(""));
    let numbers = FIRST..FIRST.saturating_add(count.min(PASSED_MAX));
    let passed = numbers.zip(names).map(|(number, name)| ListenAddr::Passed {
        number,
        name: match name {
            "" => "unnamed".to_owned(),
            name => name.to_owned(),
        },
    });
    passed.collect()
}

/// Clients that the descriptors carry: each may need a second one, for its worker.
fn carried(room: Room) -> u32 {
    let taken = room
        .workers
        .saturating_mul(DESCRIPTORS_A_WORKER)
        .saturating_add(DESCRIPTORS_RESERVED);
    let clients = room.descriptors_max.saturating_sub(taken) / 2;
    u32::try_from(clients.clamp(1, CONNECTIONS_MAX)).unwrap_or(1)
}

fn within(key: &str, typed: Option<Bytes>, least: u64, most: u64) -> Result<usize, ConfigError> {
    let number = typed.map_or(least, |Bytes(number)| number);
    match usize::try_from(number) {
        Ok(size) if (least..=most).contains(&number) => Ok(size),
        Ok(_) | Err(_) => {
            let flag = key.replace('_', "-");
            Err(ConfigError::Setup(format!(
                "--{flag}: {number} bytes; it must be from {least} to {most}"
            )))
        }
    }
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options;

    fn set(words: &[&str]) -> Result<server::Settings, ConfigError> {
        let typed = options::parse(words).expect("good options");
        let room = Room {
            cores: 2,
            descriptors_max: 1024,
            workers: 4,
        };
        settings(&options::with_defaults(typed), room, Vec::new())
    }

    #[test]
    fn defaults_are_derived_from_the_machine() {
        let settings = set(&[]).expect("the defaults");
        assert_eq!(settings.threads, 2);
        assert_eq!(settings.connections_max, 438);
        assert_eq!(settings.proxy.tunnels_max, 438);
        assert_eq!(settings.proxy.body_bytes_max, 0);
        assert_eq!(settings.proxy.head.head_bytes_max, 16 << 10);
        assert!(
            set(&["--threads", "7", "--connections-max", "5"])
                .is_ok_and(|s| s.threads == 7 && s.connections_max == 5)
        );
    }

    #[test]
    fn sockets_that_were_passed() {
        let said = |pid: &'static str, count: &'static str, names: &'static str| {
            let passed = passed(
                |name| {
                    let value = match name {
                        "LISTEN_PID" => pid,
                        "LISTEN_FDS" => count,
                        _ => names,
                    };
                    Some(value.to_owned())
                },
                7,
            );
            let shown: Vec<String> = passed.iter().map(ToString::to_string).collect();
            shown.join(", ")
        };
        assert_eq!(
            said("7", "2", "web:"),
            "descriptor 3 (web), descriptor 4 (unnamed)"
        );
        assert_eq!(said("8", "2", ""), "");
        assert_eq!(said("7", "-1", ""), "");
        assert_eq!(said("7", "two", ""), "");
        assert_eq!(said("7", "999999", "").matches(", ").count(), 63);
    }

    #[test]
    fn limits_have_limits() {
        for words in [
            ["--head-bytes-max", "10"],
            ["--head-bytes-max", "1m"],
            ["--target-bytes-max", "0"],
            ["--head-fields-max", "5000"],
        ] {
            let message = set(&words).expect_err(words[0]).to_string();
            assert!(message.starts_with(words[0]), "{message}");
        }
    }
}
