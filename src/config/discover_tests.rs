//! Table of folders: what lies in them, how they start.

use super::*;
use crate::config::scratch::Scratch;

fn found(scratch: &Scratch) -> Vec<(String, Result<Start, String>)> {
    let folders = folders(scratch.root(), None).expect("readable folders");
    folders
        .into_iter()
        .map(|folder| (folder.name, folder.start))
        .collect()
}

fn words(words: &[&str]) -> Start {
    Start::Words(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn each_convention_in_its_turn() {
    let scratch = Scratch::new();
    scratch.file("a-own/sidekeeper.json", r#"{"command": "own {socket}"}"#);
    scratch.file("a-own/Procfile", "web: never\n");
    scratch.file(
        "b-procfile/Procfile",
        "# comment\nworker: other\nweb: python3 app.py $PORT\n",
    );
    scratch.file(
        "b-procfile/package.json",
        r#"{"scripts": {"start": "never"}}"#,
    );
    scratch.file(
        "c-start/package.json",
        r#"{"main": "main.js", "scripts": {"start": "node x.js"}}"#,
    );
    scratch.file("d-main/package.json", r#"{"main": "lib/main.js"}"#);
    scratch.file("d-main/lib/main.js", "");
    scratch.file("e-main-gone/package.json", r#"{"main": "gone.js"}"#);
    scratch.file("e-main-gone/server.mjs", "");
    scratch.file("f-order/index.js", "");
    scratch.file("f-order/server.js", "");
    scratch.file("f-order/app.js", "");
    scratch.program("g-run/run", "#!/bin/sh\n");
    scratch.file("h-both/sidekeeper.json", r#"{"path": "/"}"#);
    scratch.file("h-both/server.js", "");
    scratch.file(".hidden/server.js", "");
    scratch.file("node_modules/x/server.js", "");
    scratch.file("a-file.js", "");
    let table = [
        ("a-own", Start::Line("own {socket}".to_owned())),
        ("b-procfile", Start::Line("python3 app.py $PORT".to_owned())),
        ("c-start", Start::PackageScript("start".to_owned())),
        ("d-main", words(&["node", "lib/main.js"])),
        ("e-main-gone", words(&["node", "server.mjs"])),
        ("f-order", words(&["node", "app.js"])),
        ("g-run", words(&["./run"])),
        ("h-both", words(&["node", "server.js"])),
    ];
    let wanted: Vec<_> = table
        .into_iter()
        .map(|(name, start)| (name.to_owned(), Ok(start)))
        .collect();
    assert_eq!(found(&scratch), wanted);
}

#[test]
fn what_cannot_start_says_what_to_do() {
    let scratch = Scratch::new();
    scratch.file("empty/README", "");
    scratch.file("broken/package.json", "{");
    scratch.file("runs-not/run", "");
    let reasons: Vec<_> = found(&scratch)
        .into_iter()
        .map(|(name, start)| (name, start.expect_err("a reason")))
        .collect();
    let table = [
        ("broken", "package.json:1:"),
        ("empty", "says how it starts"),
        ("runs-not", "chmod +x"),
    ];
    for ((name, reason), (wanted, part)) in reasons.iter().zip(table) {
        assert_eq!(name, wanted);
        assert!(reason.contains(part), "{name}: {reason}");
    }
}

#[test]
fn no_folder_and_no_app_are_refused() {
    let scratch = Scratch::new();
    let message = |dir: &Path| folders(dir, None).expect_err("nothing there").to_string();
    assert!(message(scratch.root()).contains("no app in"));
    assert!(message(&scratch.path("gone")).contains("--apps"));
    scratch.file("app/sidekeeper.json", r#"{"instnaces": 1}"#);
    assert!(message(scratch.root()).contains(
        "sidekeeper.json:1:2: app `app`: unknown key `instnaces`; did you mean `instances`?"
    ));
}
