//! `sidekeeper init`: writes a configuration with comments and a systemd unit for the app in a folder.
//! What is there already is never written over.

use super::accounts::Accounts;
use super::discover::by_convention;
use super::entry::refused_name;
use super::launch::Start;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const CONFIGURATION: &str = "ecosystem.json";
const UNIT: &str = "sidekeeper.service";
/// The unit that is shipped, and what of it belongs to the place where it is installed.
const UNIT_TEXT: &str = include_str!("../../docs/packaging/sidekeeper.service");
const UNIT_BINARY: &str = "/usr/local/bin/sidekeeper";
const UNIT_CONFIGURATION: &str = "/etc/sidekeeper/ecosystem.json";
const UNIT_USER: &str = "DynamicUser=yes\n";

/// Writes both for the app in `dir`, and tells what to do next. The error is one line.
pub fn init(dir: &Path, binary: &Path) -> Result<String, String> {
    let dir = fs::canonicalize(dir)
        .map_err(|error| format!("{}: {error}; name a folder that is there", dir.display()))?;
    let start = by_convention(&dir).ok().flatten();
    let files = [
        (CONFIGURATION, configuration(&dir, start.as_ref())),
        (UNIT, unit(&dir, binary)?),
    ];
    let (mut told, mut written) = (String::new(), 0);
    for (name, text) in files {
        let path = dir.join(name);
        match write_new(&path, &text) {
            Ok(()) => {
                written += 1;
                told.push_str(&format!("{} is written\n", path.display()));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                told.push_str(&format!(
                    "{} is there already, and is kept\n",
                    path.display()
                ));
            }
            Err(error) => return Err(format!("cannot write {}: {error}", path.display())),
        }
    }
    if written == 0 {
        return Err(format!(
            "{CONFIGURATION} and {UNIT} are there already in {} and are kept; remove one to have it written anew",
            dir.display()
        ));
    }
    if start.is_none() {
        told.push_str(&format!(
            "Nothing here says how the app starts: correct `script` in {CONFIGURATION}.\n"
        ));
    }
    let (configuration, unit) = (dir.join(CONFIGURATION), dir.join(UNIT));
    told.push_str(&format!(
        "\nTry it:    sidekeeper run --config {}\nAt boot:   sudo systemctl enable --now {}\n",
        configuration.display(),
        unit.display(),
    ));
    Ok(told)
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

fn configuration(dir: &Path, start: Option<&Start>) -> String {
    let name = dir.file_name().and_then(|name| name.to_str());
    let name = name.filter(|name| refused_name(name).is_none());
    let (key, value) = match start {
        Some(Start::Script { script, .. }) => ("script", json!(script)),
        Some(Start::Words(words)) => ("command", json!(words)),
        Some(Start::Line(line)) => ("command", json!(line)),
        Some(Start::PackageScript(name)) if name == "start" => ("command", json!("npm start")),
        Some(Start::PackageScript(name)) => ("command", json!(format!("npm run {name}"))),
        None => ("script", json!("server.js")),
    };
    let name: Value = json!(name.unwrap_or("app"));
    format!(
        r#"{{
    "//": "What sidekeeper runs. A key \"//\" is a comment; the README lists all others.",
    "//": "Beside `apps` stands any option of `sidekeeper --help`, with _ for -.",
    "listen": "127.0.0.1:8000",

    "apps": [
        {{
            "name": {name},
            "//": "How a worker starts: `script`, or `command` with a line as you would type it.",
            "{key}": {value},
            "//": "The app at \"/\" gets everything that no other app has; another one says \"/api\".",
            "path": "/",
            "//": "Workers: a number, or \"max\" for one a core.",
            "instances": "max",

            "//": "Variables; those of env_NAME come on top with --env NAME.",
            "env": {{"NODE_ENV": "development"}},
            "env_production": {{"NODE_ENV": "production"}},

            "//": "Cookies by which the app knows a session, such as [\"connect.sid\"]. Socket.IO needs none.",
            "session_cookies": [],
            "//": "true: Socket.IO's rooms span all workers, without Redis.",
            "broadcast": false,

            "//": "Milliseconds that a worker may take to come up, and to end when it is asked to.",
            "listen_timeout": 30000,
            "kill_timeout": 5000
        }}
    ]
}}
"#
    )
}

fn unit(dir: &Path, binary: &Path) -> Result<String, String> {
    let word = |path: PathBuf| {
        // systemd.unit(5): blanks end a word, % and $ begin something else.
        let text = path
            .to_str()
            .map(|text| text.replace('%', "%%").replace('$', "$$"));
        match text {
            Some(text) if !text.contains([' ', '\t', '"', '\'', '\\']) => Ok(text),
            Some(_) | None => Err(format!(
                "{}: a unit cannot hold this path; rename the folder",
                path.display()
            )),
        }
    };
    let binary = word(binary.to_owned())?;
    let configuration = word(dir.join(CONFIGURATION))?;
    let owner = fs::metadata(dir).map(|metadata| metadata.uid());
    let user = match owner {
        // Root's folders are for everybody to read, mostly, and the app need not be root.
        Ok(0) | Err(_) => UNIT_USER.to_owned(),
        Ok(uid) => format!("User={}\n", Accounts::read().name_of(uid)),
    };
    let place = format!("WorkingDirectory={}\n{user}", word(dir.to_owned())?);
    let text = UNIT_TEXT
        .replace(UNIT_BINARY, &binary)
        .replace(UNIT_CONFIGURATION, &configuration)
        .replace(UNIT_USER, &place);
    // What lies above the sections speaks of the file that is shipped.
    let sections = text.find("[Unit]").and_then(|at| text.get(at..));
    Ok(sections.unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ecosystem::from_source;
    use crate::config::source::Source;

    #[test]
    fn what_is_written_is_read_again() {
        let scripts = [
            None,
            Some(Start::PackageScript("start".to_owned())),
            Some(Start::Line("node \"a b.js\"".to_owned())),
        ];
        for start in scripts {
            let text = configuration(Path::new("/srv/my app"), start.as_ref());
            let source = Source::parse(CONFIGURATION.to_owned(), text).expect("JSON");
            let ecosystem = from_source(&source, Some("production")).expect("a configuration");
            assert_eq!(ecosystem.warnings, Vec::<String>::new());
            let entry = ecosystem.entries.first().expect("an app");
            assert_eq!(entry.name.as_deref(), Some("my app"));
            assert_eq!(entry.warnings, Vec::<String>::new());
            assert!(entry.env_found);
        }
    }

    #[test]
    fn the_unit_is_made_for_the_place() {
        let text = unit(Path::new("/"), Path::new("/opt/100%/sidekeeper")).expect("a unit");
        assert!(text.starts_with("[Unit]\n"));
        assert!(text.contains("ExecStart=/opt/100%%/sidekeeper run --config /ecosystem.json "));
        assert!(text.contains("\nWorkingDirectory=/\n"));
        assert!(!text.contains(UNIT_BINARY));
        assert!(unit(Path::new("/"), Path::new("/a b/sidekeeper")).is_err());
    }
}
