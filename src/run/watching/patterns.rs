//! Which files are not watched (pm2's `ignore_watch`): names, paths and patterns, seen from the app's
//! folder. Pure.

use std::path::Path;

/// `node_modules`, `./logs`, `*.log`, `public/**/*.map`; what lies below a match is one too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// `**` stands for any number of folders.
    parts: Vec<String>,
}

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        let plain = text.trim_start_matches("./").trim_matches('/');
        let mut parts: Vec<String> = plain
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .map(str::to_owned)
            .collect();
        // A mere name is meant wherever it stands.
        if parts.len() == 1 && !text.starts_with("./") {
            parts.insert(0, "**".to_owned());
        }
        Pattern { parts }
    }
}

/// Whether changes at `path`, which is relative, mean nothing. Dotfiles and packages never do.
pub fn is_ignored(path: &Path, patterns: &[Pattern]) -> bool {
    let parts: Vec<String> = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    parts
        .iter()
        .any(|part| part.starts_with('.') || part == "node_modules")
        || patterns
            .iter()
            .any(|pattern| !pattern.parts.is_empty() && begins_with(&parts, &pattern.parts))
}

fn begins_with(path: &[String], pattern: &[String]) -> bool {
    match pattern.split_first() {
        None => true,
        Some((any, rest)) if any == "**" => {
            (0..=path.len()).any(|skipped| begins_with(path.get(skipped..).unwrap_or(&[]), rest))
        }
        Some((first, rest)) => path
            .split_first()
            .is_some_and(|(name, below)| is_like(name, first) && begins_with(below, rest)),
    }
}

/// Whether a name is what a pattern with `*` says.
fn is_like(name: &str, pattern: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return name == pattern;
    };
    let Some(mut rest) = name.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = tail.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else {
            return false;
        };
        rest = behind;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored() {
        let table = [
            ("app.js", "", false),
            ("node_modules/x/a.js", "", true),
            ("lib/node_modules/x.js", "", true),
            (".git/HEAD", "", true),
            ("src/.a.js.swp", "", true),
            ("logs/today.txt", "logs", true),
            ("lib/logs/x", "logs", true),
            ("lib/logs/x", "./logs", false),
            ("logs/x", "./logs/", true),
            ("mylogs/x", "logs", false),
            ("a/b.log", "*.log", true),
            ("a/b.log.js", "*.log", false),
            ("client/img/a.png", "client/img", true),
            ("client/imgs/a.png", "client/img", false),
            ("x/client/img", "client/img", false),
            ("public/a/b/c.map", "public/**/*.map", true),
            ("public/c.map", "public/**/*.map", true),
            ("public/c.js", "public/**/*.map", false),
            ("tmp/x", "**/tmp/**", true),
            ("a/tmp/x/y", "**/tmp/**", true),
            ("abcabd", "ab*ab*", true),
            ("ab", "ab*b", false),
            ("anything", "/", false),
        ];
        for (path, pattern, ignored) in table {
            let patterns = match pattern {
                "" => vec![],
                text => vec![Pattern::new(text)],
            };
            assert_eq!(
                is_ignored(Path::new(path), &patterns),
                ignored,
                "{path} {pattern}"
            );
        }
    }
}
