//! The man page and the shells' completions in docs/packaging follow from the tables of commands,
//! options and keys. `UPDATE_README=1 cargo test readme` writes them anew. They are files and not
//! commands of the binary, which is to be small.

use super::{COMMANDS, TAIL};
use crate::admin::command::{COMMANDS as OF_INSTANCE, Command};
use crate::config::keys_of_an_app;
use crate::config::options::{OPTIONS, OptionItem};
use std::fmt::Write;
use std::{env, fs};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/packaging/");
const LEVELS: &str = "error warn info debug trace";

#[test]
fn the_shipped_files_follow_the_tables_as_the_readme_does() {
    let files = [
        ("sidekeeper.1", man()),
        ("sidekeeper.bash", bash()),
        ("_sidekeeper", zsh()),
        ("sidekeeper.fish", fish()),
    ];
    for (name, wanted) in files {
        let path = format!("{FOLDER}{name}");
        if env::var_os("UPDATE_README").is_some() {
            fs::write(&path, &wanted).expect("the folder of packaging");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "docs/packaging/{name} is not what the tables say: UPDATE_README=1 cargo test readme"
        );
    }
}

/// What completes a value.
enum Value {
    File,
    Folder,
    Level,
    Other,
}

fn value_of(item: &OptionItem) -> Value {
    match item.value {
        "FILE" => Value::File,
        "DIR" => Value::Folder,
        "LEVEL" => Value::Level,
        _ => Value::Other,
    }
}

/// Name and sentence of every command.
fn commands() -> Vec<(&'static str, &'static str)> {
    let ours = COMMANDS
        .iter()
        .map(|(name, help)| (first_word(name), *help));
    ours.chain(OF_INSTANCE.iter().map(|item| (item.name, item.help)))
        .collect()
}

fn first_word(text: &'static str) -> &'static str {
    text.split(' ').next().unwrap_or(text)
}

/// Options of a command for a running instance: short, long, value, sentence.
fn switches(item: &Command) -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let own = item.switches.iter().map(|s| (s.short, s.long, "", s.help));
    own.chain([
        ("", "--json", "", "one JSON value a line"),
        ("", "--run-dir", "DIR", "the instance's run directory"),
    ])
    .collect()
}

// ---- bash ---------------------------------------------------------------------------------------

fn bash() -> String {
    let names: Vec<&str> = commands().iter().map(|(name, _)| *name).collect();
    let flags = |wanted: fn(&Value) -> bool| {
        let items = OPTIONS.iter().filter(|item| wanted(&value_of(item)));
        items.map(OptionItem::flag).collect::<Vec<_>>().join("|")
    };
    let mut text = format!(
        r#"# Completion of sidekeeper for bash.
_sidekeeper() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=run words=
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        # Behind the dashes stands the app's own command.
        [[ ${{COMP_WORDS[i]}} == -- ]] && return
    done
    [[ $COMP_CWORD -gt 1 && ${{COMP_WORDS[1]}} != -* ]] && command=${{COMP_WORDS[1]}}
    COMPREPLY=()
    case $before in
        {folders}) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
        {files}) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        {levels}) mapfile -t COMPREPLY < <(compgen -W '{LEVELS}' -- "$word"); return ;;
        {others}) return ;;
    esac
    case $command in
"#,
        folders = flags(|value| matches!(value, Value::Folder)),
        files = flags(|value| matches!(value, Value::File)),
        levels = flags(|value| matches!(value, Value::Level)),
        others = flags(|value| matches!(value, Value::Other)),
    );
    let options: Vec<String> = OPTIONS.iter().map(OptionItem::flag).collect();
    let options = options.join(" ");
    let mut row = |name: &str, words: &str| {
        writeln!(text, "        {name}) words='{words} --help' ;;").expect("a String takes all");
    };
    row("run|check", &options);
    for item in OF_INSTANCE {
        let words: Vec<&str> = switches(item).iter().map(|(_, long, _, _)| *long).collect();
        row(item.name, &words.join(" "));
    }
    let names = names.join(" ");
    write!(
        text,
        r#"        init) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
        help) words='{names}' ;;
    esac
    [[ $COMP_CWORD == 1 ]] && words="{names} $words --version"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}}
complete -F _sidekeeper sidekeeper
"#
    )
    .expect("a String takes all");
    text
}

// ---- zsh ----------------------------------------------------------------------------------------

/// In single quotes, where brackets and colons have a meaning for _arguments.
fn zsh_text(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("'\\''"),
            '[' | ']' | ':' | '\\' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted
}

fn zsh() -> String {
    let mut text = String::from(
        "#compdef sidekeeper\n# Completion of sidekeeper for zsh.\n\n_sidekeeper() {\n    local -a commands\n    commands=(\n",
    );
    for (name, help) in commands() {
        writeln!(text, "        '{name}:{}'", zsh_text(help)).expect("a String takes all");
    }
    text.push_str(
        "    )\n    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n        _describe command commands\n        return\n    fi\n    local command=run\n    if [[ $words[2] != -* ]]; then\n        command=$words[2]\n        shift words\n        (( CURRENT-- ))\n    fi\n    case $command in\n    run|check)\n        _arguments -S \\\n",
    );
    for item in OPTIONS {
        let star = if item.repeatable { "*" } else { "" };
        let action = match value_of(item) {
            Value::File => "_files".to_owned(),
            Value::Folder => "_files -/".to_owned(),
            Value::Level => format!("({LEVELS})"),
            Value::Other => String::new(),
        };
        writeln!(
            text,
            "            '{star}{}=[{}]:{}:{action}' \\",
            item.flag(),
            zsh_text(item.help),
            zsh_text(item.value),
        )
        .expect("a String takes all");
    }
    text.push_str("            '--help[print the help]'\n        ;;\n");
    for item in OF_INSTANCE {
        writeln!(text, "    {})\n        _arguments -S \\", item.name).expect("a String takes all");
        for (_, long, value, help) in switches(item) {
            let help = zsh_text(help);
            let spec = match value {
                "" => format!("{long}[{help}]"),
                value => format!("{long}=[{help}]:{value}:_files -/"),
            };
            writeln!(text, "            '{spec}' \\").expect("a String takes all");
        }
        text.push_str("            '--help[print the help]'\n        ;;\n");
    }
    text.push_str(
        "    init) _files -/ ;;\n    help) _describe command commands ;;\n    esac\n}\n\n_sidekeeper \"$@\"\n",
    );
    text
}

// ---- fish ---------------------------------------------------------------------------------------

fn fish_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

fn fish() -> String {
    let all: Vec<&str> = commands().iter().map(|(name, _)| *name).collect();
    let mut text = format!(
        "# Completion of sidekeeper for fish.\nset -l commands {}\nset -l none \"not __fish_seen_subcommand_from $commands\"\nset -l runs \"not __fish_seen_subcommand_from {}\"\n\ncomplete -c sidekeeper -f\n",
        all.join(" "),
        all.iter()
            .filter(|name| !matches!(**name, "run" | "check"))
            .copied()
            .collect::<Vec<_>>()
            .join(" "),
    );
    for (name, help) in commands() {
        let help = fish_text(help);
        writeln!(
            text,
            "complete -c sidekeeper -n $none -a {name} -d '{help}'"
        )
        .expect("a String takes all");
    }
    for item in OPTIONS {
        let (name, help) = (item.key.replace('_', "-"), fish_text(item.help));
        let action = match value_of(item) {
            Value::File => " -r -F".to_owned(),
            Value::Folder => " -x -a '(__fish_complete_directories)'".to_owned(),
            Value::Level => format!(" -x -a '{LEVELS}'"),
            Value::Other => " -x".to_owned(),
        };
        writeln!(
            text,
            "complete -c sidekeeper -n $runs -l {name}{action} -d '{help}'"
        )
        .expect("a String takes all");
    }
    for item in OF_INSTANCE {
        for (short, long, value, help) in switches(item) {
            let name = long.trim_start_matches('-');
            let short = match short.strip_prefix('-') {
                Some(letter) => format!(" -s {letter}"),
                None => String::new(),
            };
            let value = match value {
                "" => "",
                _ => " -x -a '(__fish_complete_directories)'",
            };
            writeln!(
                text,
                "complete -c sidekeeper -n '__fish_seen_subcommand_from {}'{short} -l {name}{value} -d '{}'",
                item.name,
                fish_text(help)
            )
            .expect("a String takes all");
        }
    }
    text.push_str("complete -c sidekeeper -n '__fish_seen_subcommand_from init' -a '(__fish_complete_directories)'\n");
    text.push_str("complete -c sidekeeper -l help -d 'print the help'\n");
    text
}

// ---- the man page -------------------------------------------------------------------------------

/// Plain text for roff(7): no line may begin a request, and a hyphen is one.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

fn man() -> String {
    let mut text = format!(
        ".\\\" Made from the tables of the code: UPDATE_README=1 cargo test readme\n.TH SIDEKEEPER 1 \"\" \"sidekeeper {}\" \"User Commands\"\n",
        env!("CARGO_PKG_VERSION")
    );
    text.push_str(concat!(
        ".SH NAME\nsidekeeper \\- starts an app's workers and keeps every session at its worker\n",
        ".SH SYNOPSIS\n.B sidekeeper\n.RI [ COMMAND ]\n.RI [ OPTIONS ]\n.RB [ \\-\\-\n.IR \"COMMAND ARG\" ...]\n",
        ".SH DESCRIPTION\nsidekeeper starts an application's workers on Unix sockets, keeps them alive, and stands in front of them\n",
        "as an HTTP/1.1 and WebSocket reverse proxy that keeps every session at the side of the worker that owns it.\n",
        ".SH COMMANDS\n",
    ));
    let item = |text: &mut String, bold: &str, rest: &str, help: &str| {
        let rest = match rest {
            "" => String::new(),
            rest => format!(" \\fI{}\\fR", roff(rest)),
        };
        writeln!(text, ".TP\n\\fB{}\\fR{rest}\n{}", roff(bold), roff(help))
            .expect("a String takes all");
    };
    for (name, help) in COMMANDS {
        let (name, rest) = name.split_once(' ').unwrap_or((name, ""));
        item(&mut text, name, rest, help);
    }
    for command in OF_INSTANCE {
        item(&mut text, command.name, command.operands, command.help);
        for switch in command.switches {
            let name = match switch.short {
                "" => switch.long.to_owned(),
                short => format!("{short}, {}", switch.long),
            };
            writeln!(
                text,
                ".RS\n.TP\n\\fB{}\\fR\n{}\n.RE",
                roff(&name),
                roff(switch.help)
            )
            .expect("a String takes all");
        }
    }
    text.push_str(concat!(
        ".P\nThe commands from \\fBstatus\\fR on speak to the running instance of a run directory\n",
        "(\\fB\\-\\-run\\-dir\\fR \\fIDIR\\fR); with \\fB\\-\\-json\\fR they print one JSON value a line.\n",
        ".SH OPTIONS\nOf \\fBrun\\fR and \\fBcheck\\fR. The same names, with _ for \\-, are keys beside \\fBapps\\fR in the\n",
        "configuration; the command line wins.\n",
    ));
    let mut group = "";
    for option in OPTIONS {
        if option.group != group {
            group = option.group;
            writeln!(text, ".SS {}", roff(group)).expect("a String takes all");
        }
        let default = match option.default {
            "" => option.otherwise,
            default => default,
        };
        let help = format!("{} (default: {default})", option.help);
        item(&mut text, &option.flag(), option.value, &help);
    }
    text.push_str(".SH KEYS OF AN APP\n");
    for (name, help) in keys_of_an_app() {
        item(&mut text, &name, "", help);
    }
    text.push_str(".P\nFurther keys of pm2 are accepted, or named in a warning.\n");
    text.push_str(".SH SIGNALS, EXIT CODES, EXAMPLES\n.nf\n");
    for line in TAIL.trim().lines() {
        writeln!(text, "{}", roff(line)).expect("a String takes all");
    }
    text.push_str(concat!(
        ".fi\n.SH ENVIRONMENT\n",
        ".TP\n\\fBLISTEN_FDS\\fR, \\fBLISTEN_PID\\fR, \\fBLISTEN_FDNAMES\\fR\nSockets passed by systemd; they stand for \\fB\\-\\-listen\\fR.\n",
        ".TP\n\\fBNOTIFY_SOCKET\\fR, \\fBWATCHDOG_USEC\\fR\nThe service manager is told READY, RELOADING, STOPPING and WATCHDOG.\n",
        ".TP\n\\fBNO_COLOR\\fR\nNo colours, even on a terminal.\n",
        ".SH SEE ALSO\n.BR systemd.socket (5),\n.BR sd_notify (3)\n",
    ));
    text
}
