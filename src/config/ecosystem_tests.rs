//! Table of configuration files: pm2's, ours, and wrong ones.

use super::*;
use crate::config::launch::Start;
use crate::config::values::WorkerCount;
use std::time::Duration;

fn read_text(text: &str, env_name: Option<&str>) -> Result<Ecosystem, String> {
    Source::parse("pm2.json".to_owned(), text.to_owned())
        .and_then(|source| from_source(&source, env_name))
        .map_err(|error| error.to_string())
}

fn only(text: &str) -> Entry {
    let mut ecosystem = read_text(text, None).expect("a good file");
    assert_eq!(ecosystem.entries.len(), 1);
    ecosystem.entries.remove(0)
}

/// A file as people wrote it for pm2 long before us.
const PM2_FILE: &str = r#"{
  "apps": [
    {
      "name": "ws",
      "script": "./app.js",
      "env": {"NODE_ENV": "development", "PORT": 8080},
      "env_production": {"NODE_ENV": "production"},
      "instances": 4,
      "exec_mode": "cluster",
      "max_restarts" : 3,
      "restart_delay" : 5000,
      "log_date_format" : "YYYY-MM-DD HH:mm Z",
      "combine_logs" : true
    }
  ]
}"#;

#[test]
fn a_pm2_file_as_it_stands() {
    let entry = only(PM2_FILE);
    assert_eq!(entry.name.as_deref(), Some("ws"));
    assert_eq!(entry.workers, Some(WorkerCount::Exactly(4)));
    assert_eq!(entry.restart.max_restarts, 3);
    assert_eq!(entry.restart.restart_delay, Duration::from_secs(5));
    assert_eq!(entry.port, Some(8080));
    assert_eq!(
        entry.env.get("NODE_ENV").map(String::as_str),
        Some("development")
    );
    assert_eq!(entry.warnings, [""; 0]);
    let production = read_text(PM2_FILE, Some("production")).expect("a good file");
    assert_eq!(
        production.entries[0]
            .env
            .get("NODE_ENV")
            .map(String::as_str),
        Some("production")
    );
    assert!(production.entries[0].env_found);
}

#[test]
fn three_shapes_of_a_file() {
    let app = r#"{"script": "a.js", "args": "--x 'y z'", "node_args": ["--inspect"]}"#;
    let wanted = Some(Start::Script {
        script: "a.js".to_owned(),
        args: vec!["--x".to_owned(), "y z".to_owned()],
        interpreter: None,
        interpreter_args: vec!["--inspect".to_owned()],
    });
    for text in [
        app.to_owned(),
        format!("[{app}]"),
        format!("{{\"apps\": [{app}]}}"),
    ] {
        assert_eq!(only(&text).start, wanted, "{text}");
    }
}

#[test]
fn our_own_keys_stand_beside_pm2s() {
    let entry = only(
        r#"[{"command": ["python3", "app.py", "{socket}"], "path": "/wsgi/", "host": ["A.test", "b.test"],
            "workers": "max", "policy": "least-busy", "session_cookies": "connect.sid", "answer_timeout": 0.5, "body_bytes_max": "10m",
            "port": 4000, "min_uptime": "10s", "exp_backoff_restart_delay": 200, "kill_timeout": 1600,
            "wait_ready": true, "listen_timeout": 3000, "stop_exit_codes": [0, 3]}]"#,
    );
    assert_eq!(entry.path.as_deref(), Some("/wsgi"));
    assert_eq!(entry.hosts, ["a.test", "b.test"]);
    assert_eq!(entry.workers, Some(WorkerCount::CoresMinus(0)));
    assert_eq!(entry.policy, front::roster::Policy::LeastBusy);
    assert_eq!(entry.session_cookies, ["connect.sid"]);
    assert_eq!(entry.answer_timeout, Some(Duration::from_millis(500)));
    assert_eq!(entry.body_bytes_max, Some(10 << 20));
    assert_eq!(entry.restart.min_uptime, Duration::from_secs(10));
    assert_eq!(entry.restart.delay_first, Duration::from_millis(200));
    assert_eq!(entry.restart.stop_exit_codes, [0, 3]);
    assert_eq!(entry.listen_timeout, Duration::from_secs(3));
    assert!(entry.wait_ready);
    assert_eq!(
        only(r#"{"command": "a", "path": "/"}"#).path.as_deref(),
        Some("")
    );
}

#[test]
fn options_may_stand_beside_apps() {
    let text = r#"{"apps": [{"script": "a.js"}], "listen": ["127.0.0.1:1", "unix:/x"], "head_timeout": 0.5, "deploy": {}}"#;
    let ecosystem = read_text(text, None).expect("a good file");
    assert_eq!(ecosystem.options.listen.len(), 2);
    assert_eq!(
        ecosystem.options.head_timeout.map(|d| d.0),
        Some(Duration::from_millis(500))
    );
    assert!(ecosystem.warnings[0].contains("deploy"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let table = [
        (
            "{\"apps\": [\n  {\"script\": \"a\", \"instnaces\": 4}]}",
            "pm2.json:2:19: app 1: unknown key `instnaces`; did you mean `instances`?",
        ),
        (
            r#"[{"name": "x", "script": "a", "colour": 1}]"#,
            "app `x`: unknown key `colour`",
        ),
        (
            r#"[{"name": "x", "script": "a", "instances": true}]"#,
            "`instances` must be a number or a text, not true",
        ),
        (
            r#"[{"name": "x", "script": "a", "instances": "many"}]"#,
            "expected a number",
        ),
        (r#"[{"script": 4}]"#, "`script` must be a text, not 4"),
        (r#"[{"script": "a", "command": "b"}]"#, "exclude each other"),
        (r#"[{"name": "x"}]"#, "neither `script` nor `command`"),
        (
            r#"[{"script": "a", "env": "x"}]"#,
            "`env` must be an object",
        ),
        (
            r#"[{"script": "a", "env": {"A=B": "x"}}]"#,
            "name of a variable",
        ),
        (r#"[{"script": "a", "env": {"A": null}}]"#, "null"),
        (r#"[{"script": "a", "path": "x"}]"#, "begin with a slash"),
        (r#"[{"script": "a", "path": "/a/../b"}]"#, "must not hold"),
        (r#"[{"script": "a", "host": "http://x"}]"#, "host name"),
        (
            r#"[{"script": "a", "policy": "leastbusy"}]"#,
            "did you mean `least-busy`?",
        ),
        (r#"[{"script": "a", "min_uptime": "soon"}]"#, "milliseconds"),
        (r#"[{"script": "a", "listen_timeout": 0}]"#, "above 0"),
        (r#"[{"script": "a", "port": 70000}]"#, "65535"),
        (r#"[{"script": "a", "name": "a/b"}]"#, "slash"),
        (r#"[{"script": "a", "name": "a\nb"}]"#, "control character"),
        (
            r#"[{"script": "a", "session_cookies": "a;b"}]"#,
            "name of a cookie",
        ),
        (
            r#"[{"script": "a", "session_cookie": [""]}]"#,
            "name of a cookie",
        ),
        (r#"[{"script": "a", "kill_timeout": -1}]"#, "milliseconds"),
        (r#"[{"script": "a", "wait_ready": "yes"}]"#, "true or false"),
        (r#"[{"script": "a", "stop_exit_codes": ["x"]}]"#, "numbers"),
        (
            r#"[{"script": "a", "stop_exit_codes": [0, 300]}]"#,
            "300 cannot be an exit code",
        ),
        (r#"{"apps": {}}"#, "must be an array"),
        (r#"{"apps": []}"#, "empty"),
        (r#"{"apps": [1]}"#, "must be an object"),
        (r#"{"aps": []}"#, "did you mean `apps`?"),
        (r#"{"threads": 2}"#, "no `apps`"),
        (
            r#"{"apps": [{"script": "a"}], "listen": ["127.0.0.1:1", null]}"#,
            "`listen` must be",
        ),
        (
            r#"{"apps": [{"script": "a"}], "trusted_proxy": ["10.0.0.0/8", {}]}"#,
            "`trusted_proxy` must be",
        ),
        (
            r#"[{"command": "a", "args": "b"}]"#,
            "write it into `command`",
        ),
        (
            r#"[{"command": "a", "interpreter": "python3"}]"#,
            "write it into `command`",
        ),
        (r#"[{"node_args": "--inspect"}]"#, "needs a `script`"),
        (
            r#"[{"script": "a", "env_production": "x"}]"#,
            "`env_production` must be an object",
        ),
        (r#"[{"script": "a", "watch": 7}]"#, "`watch` must be true"),
        (
            r#"[{"script": "a", "watch_delay": "soon"}]"#,
            "milliseconds",
        ),
        (
            r#"{"apps": [{"script": "a"}], "lisen": "x:1"}"#,
            "did you mean `listen`?",
        ),
        (
            r#"{"apps": [{"script": "a"}], "listen": "8000"}"#,
            "127.0.0.1:8000",
        ),
        (
            r#"{"apps": [{"script": "a"}], "config": "x"}"#,
            "cannot stand",
        ),
        (
            r#"{"apps": [{"script": "a"}], "env": {"A": "b"}}"#,
            "belongs into an app",
        ),
        (
            r#"[{"script": "a", "exec_mode": "clutser"}]"#,
            "did you mean `cluster`?",
        ),
        ("{\"apps\": [\n{\"script\": \"a\",}]}", "pm2.json:2:"),
        ("// hello\n{}", "no comments"),
        ("4", "must hold an object"),
    ];
    for (text, part) in table {
        let message = read_text(text, None).expect_err(text);
        assert!(message.contains(part), "{text}: {message}");
        assert!(
            message.starts_with("pm2.json:") && message.lines().count() == 1,
            "{message}"
        );
    }
}

#[test]
fn a_javascript_file_is_turned_away_with_the_way_out() {
    let error =
        read(Path::new("/x"), Path::new("ecosystem.config.js"), None).expect_err("JavaScript");
    assert!(error.to_string().contains("JSON.stringify"));
}
