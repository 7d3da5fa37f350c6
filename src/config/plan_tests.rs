//! Whole plans from small folders and files.

use super::*;
use crate::config::accounts::Accounts;
use crate::config::options;
use crate::config::scratch::Scratch;
use crate::fleet::spec::Launch;

/// A machine of four cores whose only programs are node and python3.
fn machine(scratch: &Scratch) -> Machine {
    for program in ["node", "python3"] {
        scratch.program(&format!("bin/{program}"), "#!/bin/sh\n");
    }
    Machine {
        cores: 4,
        descriptors_max: 1024,
        dir: scratch.root().to_owned(),
        path: scratch.path("bin").into_os_string(),
        runtime_dir: None,
        user: 1000,
        group: 1000,
        changes_users: false,
        accounts: Accounts::default(),
        home: None,
        passed: Vec::new(),
    }
}

fn planned(machine: &Machine, line: &str, command: Option<&str>) -> Result<Plan, ConfigError> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let typed = options::parse(&words).expect("good options");
    let command = command.map(|line| line.split_whitespace().map(str::to_owned).collect());
    plan(typed, command, machine)
}

fn summary(plan: &Plan) -> Vec<String> {
    let app = |app: &AppSpec| {
        format!(
            "{} {} {} {} {}",
            app.name,
            placement::shown(&app.routes),
            app.workers,
            app.port,
            launch::shown(&app.launch)
        )
    };
    plan.apps.iter().map(app).collect()
}

#[test]
fn a_folder_of_apps() {
    let scratch = Scratch::new();
    let machine = machine(&scratch);
    scratch.file("apps/chat/server.js", "");
    scratch.file(
        "apps/chat/sidekeeper.json",
        r#"{"path": "/", "workers": -1}"#,
    );
    scratch.file("apps/hello/server.js", "");
    scratch.file("apps/lib/README", "");
    scratch.file(
        "apps/wsgi/sidekeeper.json",
        r#"{"command": "python3 app.py {socket}", "workers": 1}"#,
    );
    scratch.file(
        "apps/zig/sidekeeper.json",
        r#"{"command": "./zig-out/server"}"#,
    );
    let plan = planned(&machine, "", None).expect("a plan");
    assert_eq!(
        summary(&plan),
        [
            "chat / 3 3000 node server.js",
            "hello /hello 4 3001 node server.js",
            "wsgi /wsgi 1 3002 python3 app.py {socket}"
        ],
    );
    let left: Vec<&str> = plan
        .left_out
        .iter()
        .map(|left| left.name.as_str())
        .collect();
    assert_eq!(left, ["lib", "zig"]);
    assert!(
        plan.left_out[0].reason.contains("nothing in apps/lib says"),
        "{:?}",
        plan.left_out
    );
    std::fs::remove_file(scratch.path("bin/node")).expect("node was there");
    let without_node = planned(&machine, "", None).expect("the rest is served");
    assert_eq!(
        summary(&without_node),
        ["wsgi /wsgi 1 3002 python3 app.py {socket}"]
    );
    assert!(
        without_node
            .left_out
            .iter()
            .any(|l| l.name == "chat" && l.reason.contains("install Node"))
    );
    std::fs::remove_file(scratch.path("bin/python3")).expect("python3 was there");
    assert!(matches!(
        planned(&machine, "", None),
        Err(ConfigError::Nothing(_))
    ));
}

#[test]
fn one_app_from_the_command_line() {
    let scratch = Scratch::new();
    let machine = machine(&scratch);
    scratch.file("server.js", "");
    let plan = planned(&machine, "--workers 2", Some("node server.js")).expect("a plan");
    assert_eq!(summary(&plan), ["server / 2 3000 node server.js"]);
    assert!(matches!(plan.apps[0].launch, Launch::Node { .. }));
    for (line, command, part) in [
        ("", "node gone.js", "no script `gone.js`"),
        ("", "ruby x.rb", "needs `ruby`"),
        ("--apps x", "node server.js", "exclude"),
        ("--config x", "node server.js", "exclude"),
    ] {
        let error = planned(&machine, line, Some(command)).expect_err(command);
        assert!(
            matches!(&error, ConfigError::Setup(text) if text.contains(part)),
            "{error}"
        );
    }
}

#[test]
fn a_file_of_apps() {
    let scratch = Scratch::new();
    let machine = machine(&scratch);
    scratch.file("deploy/a.js", "");
    scratch.file("deploy/sub/b.js", "");
    scratch.file(
        "deploy/pm2.json",
        r#"{"apps": [{"script": "a.js"}, {"name": "bee", "script": "b.js", "cwd": "sub", "instances": "max", "env": {"PORT": "81"}}],
            "listen": "127.0.0.1:1", "threads": 3}"#,
    );
    let plan = planned(&machine, "--config deploy/pm2.json --threads 5", None).expect("a plan");
    assert_eq!(
        summary(&plan),
        ["a /a 1 3000 node a.js", "bee /bee 4 81 node b.js"]
    );
    assert_eq!(plan.apps[1].dir, scratch.path("deploy/sub"));
    assert_eq!(
        (plan.server.threads, plan.server.listen.len()),
        (5, 1),
        "the command line beats the file"
    );
    assert_eq!(plan.server.listen[0].to_string(), "127.0.0.1:1");
    assert!(
        plan.warnings.iter().any(|w| w.contains("default")),
        "{:?}",
        plan.warnings
    );
    let more = planned(
        &machine,
        "--config deploy/pm2.json --workers 2 --env staging",
        None,
    )
    .expect("a plan");
    assert_eq!(more.apps[0].workers, 2);
    assert!(more.warnings.iter().any(|w| w.contains("env_staging")));
    scratch.file(
        "twice.json",
        r#"[{"name": "x", "script": "server.js"}, {"name": "x", "script": "server.js"}]"#,
    );
    let error = planned(&machine, "--config twice.json", None).expect_err("two of a name");
    assert!(error.to_string().contains("two apps are called `x`"));
    scratch.file("alike.json", r#"[{"name": "a b", "path": "/1", "script": "server.js"}, {"name": "a_b", "script": "server.js"}]"#);
    let error = planned(&machine, "--config alike.json", None).expect_err("two of a kind");
    assert!(error.to_string().contains("too much alike"));
    let error = planned(&machine, "--config gone.json", None).expect_err("no file");
    assert!(error.to_string().contains("gone.json cannot be read"));
}

#[test]
fn packages_must_be_there_before_an_app_of_a_folder_is_started() {
    let scratch = Scratch::new();
    let machine = machine(&scratch);
    scratch.file(
        "apps/shop/package.json",
        r#"{"dependencies": {"express": "5"}, "scripts": {"start": "node server.js"}}"#,
    );
    scratch.file("apps/shop/server.js", "");
    let error = planned(&machine, "", None)
        .expect_err("nothing to run")
        .to_string();
    assert!(
        error.contains(
            "shop: its package `express` is not installed; run `npm install` in apps/shop"
        ),
        "{error}"
    );
    scratch.file(
        "shop.json",
        r#"{"script": "apps/shop/server.js", "cwd": "."}"#,
    );
    scratch.file("package.json", r#"{"dependencies": {"koa": "3"}}"#);
    let plan = planned(&machine, "--config shop.json", None).expect("asked for by name");
    assert!(
        plan.warnings
            .iter()
            .any(|warning| warning.contains("`koa`")),
        "{:?}",
        plan.warnings
    );
    // A workspace keeps its packages in a folder above.
    scratch.file("node_modules/express/index.js", "");
    assert_eq!(
        summary(&planned(&machine, "", None).expect("a plan")),
        ["shop / 4 3000 node server.js"]
    );
}
