//! The README's tables are those of the code. `UPDATE_README=1 cargo test readme` writes them anew.

use super::keys::{KEYS, Treatment};
use super::options::OPTIONS;
use std::fmt::Write;
use std::{env, fs};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

fn options_table() -> String {
    let mut text = String::from("| option | default | what it is |\n|---|---|---|\n");
    for item in OPTIONS {
        let default = match (item.default, item.otherwise) {
            ("", otherwise) => otherwise.to_owned(),
            (default, _) => format!("`{default}`"),
        };
        let value = item.value.replace('|', "\\|");
        let (flag, help) = (item.flag(), item.help);
        writeln!(text, "| `{flag} {value}` | {default} | {help} |").expect("a String takes all");
    }
    text
}

fn keys_table() -> String {
    let mut text = String::from("| key | here | what it is |\n|---|---|---|\n");
    for key in KEYS {
        let names: Vec<String> = std::iter::once(&key.name)
            .chain(key.aliases)
            .map(|name| format!("`{name}`"))
            .collect();
        let here = match key.treatment {
            Treatment::Honoured => "honoured".to_owned(),
            Treatment::Always => "not needed".to_owned(),
            Treatment::OnlyIf(value) => format!("as with `{value}`, else a warning"),
            Treatment::Ignored => "not honoured: a warning".to_owned(),
        };
        let help = key.help.replace('|', "\\|");
        writeln!(text, "| {} | {here} | {help} |", names.join(", ")).expect("a String takes all");
    }
    text
}

fn commands_table() -> String {
    let mut text = String::from("| command | what it does |\n|---|---|\n");
    for (name, help) in crate::admin::command::names_and_helps() {
        let name = name.replace('|', "\\|");
        writeln!(text, "| `{name}` | {help} |").expect("a String takes all");
    }
    text
}

fn metrics_table() -> String {
    let mut text = String::from("| metric | kind | what it is | what to do |\n|---|---|---|---|\n");
    for metric in crate::admin::metrics::METRICS {
        let (name, kind) = (metric.name, metric.kind.word());
        let (what, action) = (metric.what, metric.action);
        writeln!(text, "| `{name}` | {kind} | {what} | {action} |").expect("a String takes all");
    }
    text
}

/// The text with the lines between the two marks replaced.
fn replaced(text: &str, name: &str, table: &str) -> String {
    let (open, close) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let (before, rest) = text.split_once(&open).expect("README has the opening mark");
    let (_, after) = rest
        .split_once(&close)
        .expect("README has the closing mark");
    format!("{before}{open}{table}{close}{after}")
}

#[test]
fn the_readme_has_the_tables_of_the_code() {
    let readme = fs::read_to_string(README).expect("README.md");
    let wanted = replaced(&readme, "options", &options_table());
    let wanted = replaced(&wanted, "keys", &keys_table());
    let wanted = replaced(&wanted, "commands", &commands_table());
    let wanted = replaced(&wanted, "metrics", &metrics_table());
    if env::var_os("UPDATE_README").is_some() {
        fs::write(README, &wanted).expect("README.md can be written");
    } else {
        assert!(
            readme == wanted,
            "README.md is behind: run UPDATE_README=1 cargo test readme"
        );
    }
}
