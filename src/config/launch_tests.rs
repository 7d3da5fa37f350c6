//! Table of starts: what is written, what is run.

use super::*;
use crate::config::scratch::Scratch;

/// A machine with a `node`, a `python3` and an `npm` that are never run, only found.
fn machine() -> Scratch {
    let scratch = Scratch::new();
    for program in ["node", "python3", "sh"] {
        scratch.program(&format!("bin/{program}"), "#!/bin/sh\n");
    }
    scratch.program("bin/npm", "#!/usr/bin/env node\n");
    scratch.file("app/server.js", "");
    scratch.file("app/tool.py", "");
    scratch.file("app/plain", "");
    scratch.program("app/binary", "\x7fELF");
    scratch.program("app/node_modules/.bin/next", "#!/usr/bin/env node\n");
    scratch.program("app/node_modules/.bin/cross-env", "#!/usr/bin/env node\n");
    scratch.file(
        "app/package.json",
        r#"{"name": "shop", "version": "1.2.3", "scripts": {
            "start": "node server.js --fast",
            "env": "NODE_ENV=production node server.js",
            "cross": "cross-env A=1 B=2 node server.js",
            "nested": "npm run start",
            "shell": "node build.js && node server.js",
            "next": "next start",
            "circle": "npm run circle",
            "gone": "node dist/server.js",
            "prestart": "node build.js"}}"#,
    );
    scratch
}

fn try_resolve(scratch: &Scratch, start: &Start) -> Result<Resolved, Unstartable> {
    let path = scratch.path("bin");
    resolve(
        start,
        Search {
            dir: &scratch.path("app"),
            path: path.as_os_str(),
        },
    )
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn node(words: &[&str]) -> Launch {
    Launch::Node { argv: owned(words) }
}

fn program(words: &[&str]) -> Launch {
    Launch::Program { argv: owned(words) }
}

#[test]
fn lines_become_what_they_end_in() {
    let scratch = machine();
    let next = scratch
        .path("app/node_modules/.bin/next")
        .display()
        .to_string();
    let table = [
        ("node server.js", node(&["node", "server.js"])),
        ("node server", node(&["node", "server"])),
        (
            "exec node -r ./x.js server.js",
            node(&["node", "-r", "./x.js", "server.js"]),
        ),
        ("npm start", node(&["node", "server.js", "--fast"])),
        (
            "npm start -- --port 1",
            node(&["node", "server.js", "--fast", "--port", "1"]),
        ),
        ("npm run env", node(&["node", "server.js"])),
        ("yarn start", node(&["node", "server.js", "--fast"])),
        (
            "yarn nested --x",
            node(&["node", "server.js", "--fast", "--x"]),
        ),
        ("pnpm run nested", node(&["node", "server.js", "--fast"])),
        ("npm run cross", node(&["node", "server.js"])),
        ("npx next start", node(&[&next, "start"])),
        ("npm run next", node(&[&next, "start"])),
        (
            "npm run shell",
            Launch::NodeShell {
                line: "node build.js && node server.js".to_owned(),
            },
        ),
        ("sh -c 'exec node server.js'", node(&["node", "server.js"])),
        (
            "node --max-old-space-size=$MB server.js",
            Launch::NodeShell {
                line: "node --max-old-space-size=$MB server.js".to_owned(),
            },
        ),
        ("./binary {socket}", program(&["./binary", "{socket}"])),
        (
            "python3 tool.py {socket}",
            program(&["python3", "tool.py", "{socket}"]),
        ),
    ];
    for (line, launch) in table {
        let resolved = try_resolve(&scratch, &Start::Line(line.to_owned())).expect(line);
        assert_eq!(resolved.launch, launch, "{line}");
    }
}

#[test]
fn scripts_find_their_interpreter_as_under_pm2() {
    let scratch = machine();
    let table: [(&str, Option<&str>, Launch); 7] = [
        ("server.js", None, node(&["node", "server.js", "--x"])),
        ("./server.js", None, node(&["node", "./server.js", "--x"])),
        ("tool.py", None, program(&["python3", "tool.py", "--x"])),
        ("tool.py", Some("sh"), program(&["sh", "tool.py", "--x"])),
        ("binary", None, program(&["./binary", "--x"])),
        ("./binary", Some("none"), program(&["./binary", "--x"])),
        ("plain", None, node(&["node", "plain", "--x"])),
    ];
    for (script, interpreter, launch) in table {
        let start = Start::Script {
            script: script.to_owned(),
            args: owned(&["--x"]),
            interpreter: interpreter.map(str::to_owned),
            interpreter_args: Vec::new(),
        };
        assert_eq!(
            try_resolve(&scratch, &start).map(|r| r.launch),
            Ok(launch),
            "{script}"
        );
    }
    let npm = Start::Script {
        script: "npm".to_owned(),
        args: owned(&["start"]),
        interpreter: None,
        interpreter_args: Vec::new(),
    };
    assert_eq!(
        try_resolve(&scratch, &npm).map(|r| r.launch),
        Ok(node(&["node", "server.js", "--fast"]))
    );
}

#[test]
fn package_scripts_bring_npms_variables() {
    let scratch = machine();
    let resolved =
        try_resolve(&scratch, &Start::PackageScript("start".to_owned())).expect("a start");
    assert_eq!(
        resolved.env.get("npm_package_version").map(String::as_str),
        Some("1.2.3")
    );
    let path = resolved.env.get("PATH").expect("a PATH");
    assert!(path.starts_with(&scratch.path("app/node_modules/.bin").display().to_string()));
    assert_eq!(
        resolved.warnings.len(),
        1,
        "prestart is named: {:?}",
        resolved.warnings
    );
    let assigned =
        try_resolve(&scratch, &Start::Line("npm run cross".to_owned())).expect("a start");
    assert_eq!(assigned.env.get("B").map(String::as_str), Some("2"));
}

#[test]
fn what_is_missing_is_named() {
    let scratch = machine();
    let table = [
        ("node gone.js", "no script `gone.js`"),
        ("npm run gone", "no script `dist/server.js`"),
        ("npm run nothing", "no script `nothing`"),
        ("npm run circle", "ends in itself"),
        ("./nothing", "build it"),
        ("./server.js", "chmod +x"),
        ("ruby x.rb", "needs `ruby`"),
        ("", "empty"),
        ("node 'x", "not closed"),
    ];
    for (line, part) in table {
        let reason = try_resolve(&scratch, &Start::Line(line.to_owned()))
            .expect_err(line)
            .to_string();
        assert!(reason.contains(part), "{line}: {reason}");
    }
    std::fs::remove_file(scratch.path("bin/node")).expect("node was there");
    for line in ["node server.js", "npm run shell", "next start"] {
        let reason = try_resolve(&scratch, &Start::Line(line.to_owned())).expect_err(line);
        assert_eq!(reason, Unstartable::NoNode("node".to_owned()), "{line}");
    }
}
