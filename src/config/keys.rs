//! The keys of one app in a configuration: one item for each, with what we do about it. The
//! refusal of misspelt keys, the warnings, and the README's table all follow from this list.

use serde_json::Value;

/// What a key does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// As documented, by pm2 or by us.
    Honoured,
    /// Accepted in silence, because what it asks for holds here anyway.
    Always,
    /// Nothing needs to be done for this value (JSON); any other value is warned about.
    OnlyIf(&'static str),
    /// Known, not honoured, and warned about.
    Ignored,
}

/// One key.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    /// Other spellings that pm2 accepts.
    pub aliases: &'static [&'static str],
    pub treatment: Treatment,
    pub help: &'static str,
}

const fn key(
    name: &'static str,
    aliases: &'static [&'static str],
    treatment: Treatment,
    help: &'static str,
) -> Key {
    Key {
        name,
        aliases,
        treatment,
        help,
    }
}

use Treatment::{Always, Honoured, Ignored, OnlyIf};

// One line a key: this is read as a table.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    // Ours.
    key("command", &[], Honoured, "how a worker starts: a line, or an array of words; may hold {socket} and {port}"),
    key("path", &[], Honoured, "path prefix that belongs to the app; \"/\" makes it the default app"),
    key("host", &["hosts"], Honoured, "host name, or an array of them, that belongs to the app"),
    key("workers", &[], Honoured, "number of workers, \"max\" for one a core, -1 for one less; before instances; with min alone it is the most of them"),
    key("min", &[], Honoured, "least workers when their number follows the load; 0: the first request starts one; default: workers, or 1 if they are not said"),
    key("max", &[], Honoured, "most workers when their number follows the load, or \"max\" or -1 as with workers; default: workers"),
    key("cool_down", &[], Honoured, "seconds for which there must have been one worker too many before it leaves, and between two that leave; default: 60"),
    key("idle_timeout", &[], Honoured, "seconds without a request after which the last worker of an app with min 0 leaves; default: 300"),
    key("requests_per_worker", &[], Honoured, "requests that a worker is meant to have at once: so many are a full load; default: any number, for long polls count too"),
    key("policy", &[], Honoured, "who gets a request without a session: round-robin, least-busy, random-two, ip-hash"),
    key("session_cookies", &["session_cookie"], Honoured, "names of cookies by which the app knows a session"),
    key("affinity_cookie", &[], Honoured, "name of a cookie that we set, and that binds a browser to the worker it came to first"),
    key("answer_timeout", &[], Honoured, "seconds a worker may be silent before 504; 0: no limit"),
    key("hand_off", &[], Honoured, "false: WebSockets are relayed and not handed to the Node worker; default: true"),
    key("body_bytes_max", &[], Honoured, "longest request body of this app, such as \"10m\"; a longer one gets 413; 0: no limit"),
    key("drain_rate", &[], Honoured, "WebSockets and sessions a second that a leaving worker gives up; 0: all at once; default: 100"),
    key("drain_timeout", &[], Honoured, "seconds after which a leaving worker is stopped whoever it still serves; default: 30"),
    key("hang_timeout", &[], Honoured, "seconds of silence after which a worker counts as hung and is replaced; 0: never; default: 30, and 120 without the hook"),
    key("broadcast", &[], Honoured, "true: Socket.IO 4 without an adapter of its own reaches the clients of all workers; default: false"),
    key("limits", &[], Honoured, "most that one worker process may use, such as {\"nofile\": 4096, \"core\": 0, \"as\": \"2g\"}; also cpu, data, fsize, memlock, nproc, stack (setrlimit)"),
    key("umask", &[], Honoured, "permissions that files of the workers do not get, in octal, such as \"027\""),
    key("nice", &[], Honoured, "how far the workers stand back for others, to 19; below 0 for root only"),
    // pm2's, honoured.
    key("name", &[], Honoured, "name of the app; default: the script's or folder's name"),
    key("script", &["exec"], Honoured, "file to start, or a program on the PATH such as npm"),
    key("args", &[], Honoured, "arguments: an array, or a line split at blanks"),
    key("cwd", &[], Honoured, "working directory, from the configuration file's own; default: that one"),
    key("interpreter", &["exec_interpreter"], Honoured, "program that runs the script; \"none\": the script itself"),
    key("interpreter_args", &["interpreterArgs", "node_args", "nodeArgs"], Honoured, "arguments before the script"),
    key("instances", &[], Honoured, "number of workers, \"max\" or 0 for one a core, -1 for one less"),
    key("env", &[], Honoured, "environment variables; env_NAME comes on top with --env NAME"),
    key("port", &[], Honoured, "what PORT and {port} say; the real socket is ours"),
    key("min_uptime", &[], Honoured, "ms, or \"10s\": a life that ends before this is a failed start"),
    key("max_restarts", &[], Honoured, "failed starts in a row after which a worker is errored: tried every 30 s, never given up; default: 6"),
    key("restart_delay", &[], Honoured, "ms before every restart"),
    key("exp_backoff_restart_delay", &[], Honoured, "ms before the first restart after a failed start; doubles from there"),
    key("kill_timeout", &[], Honoured, "ms between the polite stop and SIGKILL"),
    key("wait_ready", &[], Honoured, "ready only after process.send('ready') as well"),
    key("listen_timeout", &[], Honoured, "ms after which a worker that does not listen is killed"),
    key("max_memory_restart", &[], Honoured, "bytes, or \"150M\": a worker that holds more is replaced by one that is ready before it leaves"),
    key("stop_exit_codes", &["stop_exit_code"], Honoured, "exit codes after which a worker stays stopped"),
    key("autorestart", &[], Honoured, "false: a worker that has ended by itself stays stopped; default: true"),
    key("cron_restart", &["cron"], Honoured, "times in local time, such as \"0 4 * * *\" (five fields of crontab, or @daily): the workers are renewed one by one, a ready successor first"),
    key("watch", &[], Honoured, "true, or files and folders: when one changes, the app is reloaded; a version that does not come up is refused"),
    key("ignore_watch", &[], Honoured, "names, paths or patterns (*, **) not to watch; node_modules and dotfiles never are"),
    key("watch_delay", &[], Honoured, "ms without a further change before the reload; default: 300"),
    key("uid", &["user"], Honoured, "user that the workers are, name or number; only when we were started as root"),
    key("gid", &[], Honoured, "group, in place of the user's own"),
    key("instance_var", &[], Honoured, "name of the variable with the instance's number; default: NODE_APP_INSTANCE"),
    key("increment_var", &[], Honoured, "name of a variable that grows with each instance, from its value in env or 0"),
    key("filter_env", &[], Honoured, "true: workers inherit no variables; texts: none whose name holds one of them"),
    key("append_env_to_name", &[], Honoured, "true: with --env NAME the app is called name-NAME"),
    key("source_map_support", &[], Honoured, "true: Node's --enable-source-maps; default: false"),
    key("out_file", &["out", "output", "out_log"], Honoured, "file for standard output, from cwd; ~ is HOME; /dev/null: none; default: see --log-dir"),
    key("error_file", &["error", "err", "err_file", "err_log"], Honoured, "file for standard error, likewise"),
    key("log_file", &["log"], Honoured, "file for both, beside the two others"),
    key("merge_logs", &["combine_logs"], Honoured, "true: all workers write to the same files; otherwise -NUMBER is added to the names if there are several"),
    key("log_date_format", &[], Honoured, "date before each line, in the tokens of moment.js"),
    key("time", &[], Honoured, "true: log_date_format is YYYY-MM-DDTHH:mm:ss, if it does not say itself"),
    key("log_format", &["log_type"], Honoured, "what lines look like: prefixed (chat.0 | line), plain (pm2: raw) or json; default: see --log-format"),
    key("disable_logs", &[], Honoured, "true: lines go nowhere but to sidekeeper logs"),
    // pm2's, where what they ask for is our way anyway.
    key("exec_mode", &[], Always, "fork and cluster are the same here: every worker has its own socket, and instances say how many"),
    key("shutdown_with_message", &[], Always, "the 'shutdown' message is always sent first, then SIGTERM"),
    key("namespace", &[], Always, "a label of pm2's lists"),
    key("name_prefix", &[], Always, "of pm2's modules"),
    key("kill_retry_time", &[], Always, "the kernel says when a process has ended"),
    key("autostart", &[], OnlyIf("true"), "every app is started"),
    key("force", &[], Always, "every entry is started"),
    key("treekill", &[], OnlyIf("true"), "a worker's whole process group is ended with it"),
    key("disable_source_map_support", &[], OnlyIf("true"), "source maps are off unless source_map_support asks for them"),
    key("vizion", &[], Always, "pm2's version metadata; nothing to do"),
    key("pmx", &["automation"], Always, "pm2's instrumentation; nothing to do"),
    key("trace", &[], OnlyIf("false"), "pm2's instrumentation"),
    key("disable_trace", &[], Always, "pm2's instrumentation; nothing to do"),
    key("windowsHide", &[], Always, "Windows only"),
    key("write", &[], Always, "pm2's own bookkeeping"),
    key("username", &[], Always, "pm2's own bookkeeping"),
    key("v8", &[], OnlyIf("false"), "pm2's instrumentation"),
    key("event_loop_inspector", &[], OnlyIf("false"), "pm2's instrumentation"),
    key("deep_monitoring", &[], OnlyIf("false"), "pm2's instrumentation"),
    key("execute_command", &[], OnlyIf("false"), "pm2's modules only"),
    // pm2's, not honoured.
    key("watch_options", &[], Ignored, "options of chokidar; see watch, ignore_watch and watch_delay"),
    key("pid_file", &["pid"], Ignored, "file for the worker's process id"),
    key("install_url", &[], Ignored, "pm2 modules only"),
    key("post_update", &[], Ignored, "commands after a pull"),
    key("io", &[], Ignored, "pm2's instrumentation"),
];

/// The key of this name, or of which this is another spelling.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.name == name || key.aliases.contains(&name))
}

/// Every accepted spelling.
pub fn spellings() -> impl Iterator<Item = &'static str> {
    KEYS.iter()
        .flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied()))
}

/// Every key that does something here, with its other spellings, and what it is.
#[cfg(test)]
pub fn honoured() -> impl Iterator<Item = (String, &'static str)> {
    KEYS.iter()
        .filter(|key| key.treatment == Honoured)
        .map(|key| {
            let mut names = vec![key.name];
            names.extend(key.aliases);
            (names.join(", "), key.help)
        })
}

impl Key {
    /// The warning that this value deserves, if any.
    pub fn warning(&self, written: &str, value: &Value) -> Option<String> {
        match self.treatment {
            Honoured | Always => None,
            OnlyIf(same)
                if serde_json::from_str::<Value>(same).is_ok_and(|same| same == *value) =>
            {
                None
            }
            OnlyIf(_) | Ignored => Some(format!("`{written}` is not honoured ({})", self.help)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_stands_for_two_keys() {
        let mut all: Vec<_> = spellings().collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn only_what_differs_from_our_way_is_warned_about() {
        let table = [
            ("watch", "[\"src\"]", false),
            ("watch_options", "{}", true),
            ("autostart", "false", true),
            ("treekill", "true", false),
            ("treekill", "false", true),
            ("max_memory_restart", "\"1G\"", false),
            ("exec_mode", "\"fork\"", false),
            ("instances", "4", false),
            ("instance_var", "\"NODE_APP_INSTANCE\"", false),
        ];
        for (name, value, warned) in table {
            let value = serde_json::from_str(value).expect("JSON of the table");
            let warning = find(name).expect(name).warning(name, &value);
            assert_eq!(warning.is_some(), warned, "{name}");
        }
    }
}
