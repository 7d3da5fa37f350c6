//! The keys of an app's processes: what is read, what is usual, what is refused.

use super::*;
use crate::config::ecosystem::from_source;
use crate::config::source::Source;

fn read(keys: &str) -> Result<ProcessKeys, String> {
    let text = format!("[{{\"name\": \"x\", \"script\": \"a\", {keys}}}]");
    let source = Source::parse("pm2.json".to_owned(), text).map_err(|why| why.to_string())?;
    let ecosystem = from_source(&source, None).map_err(|why| why.to_string())?;
    let entry = ecosystem.entries.into_iter().next().ok_or("no app")?;
    Ok(entry.process)
}

#[test]
fn all_of_them() {
    let keys = read(
        r#""uid": "web", "gid": 33, "umask": "027", "nice": 5, "limits": {"nofile": 4096, "as": "2g", "core": "unlimited"},
           "instance_var": "I", "increment_var": "P", "source_map_support": true, "filter_env": ["AWS_"],
           "cron_restart": "0 4 * * *", "watch": ["src"], "ignore_watch": "tmp", "watch_delay": 1000"#,
    )
    .expect("all are good");
    assert_eq!(
        (keys.user.as_deref(), keys.group.as_deref()),
        (Some("web"), Some("33"))
    );
    assert_eq!(keys.confinement.umask, Some(0o27));
    assert_eq!(keys.confinement.nice, Some(5));
    let limits = [
        ("as", Some(2 << 30)),
        ("core", None),
        ("nofile", Some(4096)),
    ];
    let limits = limits.map(|(name, value)| (name.to_owned(), value));
    let mut read = keys.confinement.limits;
    read.sort();
    assert_eq!(read, limits);
    assert_eq!(keys.surroundings.instance_var, "I");
    assert_eq!(keys.surroundings.increment_var.as_deref(), Some("P"));
    assert!(keys.surroundings.source_maps);
    assert_eq!(
        keys.surroundings.inherited,
        Inherited::Without(vec!["AWS_".to_owned()])
    );
    assert!(keys.cron.is_some());
    let watch = WatchKeys {
        paths: vec!["src".to_owned()],
        ignored: vec!["tmp".to_owned()],
        delay: Duration::from_secs(1),
    };
    assert_eq!(keys.watch, Some(watch));
}

#[test]
fn what_switches_off_and_what_is_usual() {
    assert_eq!(read(r#""path": "/""#), Ok(ProcessKeys::default()));
    for off in ["0", "\"\"", "\"0\"", "false"] {
        let keys = read(&format!(
            "\"cron_restart\": {off}, \"watch\": false, \"filter_env\": false"
        ));
        assert_eq!(keys, Ok(ProcessKeys::default()), "{off}");
    }
    let watch = read(r#""watch": true"#)
        .expect("good")
        .watch
        .expect("watched");
    assert_eq!(
        (watch.paths, watch.delay),
        (vec![".".to_owned()], WATCH_DELAY)
    );
    assert_eq!(
        read(r#""filter_env": true"#).map(|k| k.surroundings.inherited),
        Ok(Inherited::None)
    );
}

#[test]
fn what_is_refused() {
    let table = [
        (r#""uid": ["a", "b"]"#, "a name or a number"),
        (r#""uid": true"#, "a text"),
        (r#""umask": 22"#, "octal text"),
        (r#""umask": "8""#, "octal text"),
        (r#""umask": "1777""#, "octal text"),
        (r#""nice": 20"#, "from -20 to 19"),
        (r#""limits": 4"#, "must be an object"),
        (r#""limits": {"nofiles": 4}"#, "did you mean `nofile`?"),
        (r#""limits": {"colour": 4}"#, "it is one of as, core"),
        (r#""limits": {"nofile": -1}"#, "whole number"),
        (r#""limits": {"as": "big"}"#, "whole number"),
        (r#""instance_var": "A=B""#, "name of a variable"),
        (r#""cron_restart": "at noon""#, "five"),
        (r#""cron": "0 25 * * *""#, "hour"),
        (r#""cron_restart": 5"#, "a text"),
        (r#""watch": 5, "watch_delay": "soon""#, "milliseconds"),
        (r#""autorestart": 1"#, "true or false"),
        (r#""umask": "027", "umask": "022""#, "stands twice"),
    ];
    for (keys, part) in table {
        let why = read(keys).expect_err(keys);
        assert!(
            why.contains(part) && why.starts_with("pm2.json:1:"),
            "{keys}: {why}"
        );
    }
}
