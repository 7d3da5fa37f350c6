//! Where programs and scripts are: on the PATH, among an app's packages, behind a `#!` line. Reads
//! the file system, starts nothing.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// As much of a file as is looked at for its `#!` line; the kernel reads 256 bytes.
const SHEBANG_BYTES_MAX: u64 = 256;

/// Where programs are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Working directory of the app.
    pub dir: &'a Path,
    /// The app's PATH.
    pub path: &'a OsStr,
}

impl Search<'_> {
    pub fn find(&self, program: &str) -> Option<Found> {
        if program.contains('/') {
            let file = self.dir.join(program);
            return file.is_file().then(|| Found {
                file,
                word: program.to_owned(),
            });
        }
        if let Some(file) = package_bins(self.dir)
            .map(|bin| bin.join(program))
            .find(|f| is_executable(f))
        {
            // The worker's own PATH need not name this folder.
            let word = file.to_str()?.to_owned();
            return Some(Found { file, word });
        }
        let file = std::env::split_paths(self.path)
            .map(|dir| dir.join(program))
            .find(|f| is_executable(f))?;
        Some(Found {
            file,
            word: program.to_owned(),
        })
    }

    /// Whether Node or another interpreter would find this script.
    pub fn script_is_there(&self, script: &str) -> bool {
        let file = self.dir.join(script);
        let with_ending = self.dir.join(format!("{script}.js"));
        file.exists() || with_ending.is_file()
    }

    /// npm's PATH: the programs of the packages, from the app's folder upwards, then the rest.
    pub fn script_path(&self) -> OsString {
        let bins = package_bins(self.dir);
        let rest = std::env::split_paths(self.path);
        // A directory with a colon cannot stand in a PATH at all; then the old one must do.
        std::env::join_paths(bins.chain(rest)).unwrap_or_else(|_| self.path.to_owned())
    }
}

/// A program that was found: the file, and the word that starts it.
pub struct Found {
    pub file: PathBuf,
    pub word: String,
}

fn package_bins(dir: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    dir.ancestors()
        .map(|above| above.join("node_modules/.bin"))
        .filter(|bin| bin.is_dir())
}

pub fn is_node(program: &str) -> bool {
    matches!(
        Path::new(program).file_name().and_then(OsStr::to_str),
        Some("node" | "nodejs")
    )
}

pub fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The first line of a script, without `#!`.
fn shebang(file: &Path) -> Option<String> {
    let mut start = Vec::new();
    std::fs::File::open(file)
        .ok()?
        .take(SHEBANG_BYTES_MAX)
        .read_to_end(&mut start)
        .ok()?;
    let line = start.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    Some(String::from_utf8_lossy(line).into_owned())
}

/// Whether this is a script that begins with `#!` and the name of Node.
pub fn is_node_script(file: &Path) -> bool {
    shebang(file).is_some_and(|line| line.split_whitespace().any(is_node))
}

/// The package's script that `node --run NAME` names, and what follows it.
pub fn run_of(args: &[String]) -> Option<(&str, &[String])> {
    let at = args
        .iter()
        .position(|word| word.split('=').next() == Some("--run"))?;
    let (before, rest) = args.split_at_checked(at)?;
    // Behind a script the word is the script's own.
    if script_of(before).is_some() || before.iter().any(|word| word == "--") {
        return None;
    }
    match rest.split_first()? {
        (word, rest) if word == "--run" => {
            let (name, rest) = rest.split_first()?;
            Some((name, rest))
        }
        (word, rest) => Some((word.strip_prefix("--run=")?, rest)),
    }
}

/// The script among Node's arguments; none if there is none to be found, as with `-e`.
pub fn script_of(args: &[String]) -> Option<&str> {
    let mut rest = args.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        match word {
            "-e" | "--eval" | "-p" | "--print" | "-pe" | "-" | "-i" | "--test" | "--run" => {
                return None;
            }
            "-r"
            | "--require"
            | "--import"
            | "--loader"
            | "--experimental-loader"
            | "-C"
            | "--conditions"
            | "--env-file"
            | "--env-file-if-exists"
            | "--title"
            | "--input-type" => {
                rest.next();
            }
            "--" => return rest.next(),
            option if option.starts_with('-') => {}
            script => return Some(script),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_that_node_is_to_run() {
        type Row<'a> = (&'a [&'a str], Option<(&'a str, &'a [&'a str])>);
        let table: [Row<'_>; 5] = [
            (&["--run", "serve"], Some(("serve", &[]))),
            (&["--run=serve", "--", "-x"], Some(("serve", &["--", "-x"]))),
            (&["--no-warnings", "--run", "serve"], Some(("serve", &[]))),
            (&["server.js", "--run", "serve"], None),
            (&["--run"], None),
        ];
        for (args, wanted) in table {
            let args: Vec<String> = args.iter().map(|&word| word.to_owned()).collect();
            let found = run_of(&args);
            assert_eq!(
                found.map(|(name, _)| name),
                wanted.map(|(name, _)| name),
                "{args:?}"
            );
            let rest = found.map_or(0, |(_, rest)| rest.len());
            assert_eq!(rest, wanted.map_or(0, |(_, rest)| rest.len()), "{args:?}");
        }
    }

    #[test]
    fn the_script_is_found_among_nodes_options() {
        let table: [(&[&str], Option<&str>); 6] = [
            (&["a.js", "b.js"], Some("a.js")),
            (&["--inspect", "-r", "x", "a.js"], Some("a.js")),
            (
                &["--max-old-space-size=64", "--import=tsx", "a.ts"],
                Some("a.ts"),
            ),
            (&["-e", "1"], None),
            (&["--", "-a.js"], Some("-a.js")),
            (&[], None),
        ];
        for (args, script) in table {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            assert_eq!(script_of(&args), script, "{args:?}");
        }
    }
}
