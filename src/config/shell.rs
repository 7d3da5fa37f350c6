//! Splits command lines into words as a shell would, and says when only a shell can. No I/O.

/// What a line is, seen from a shell.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// One command: these words, nothing for a shell to expand, join or redirect.
    Words(Vec<String>),
    /// Something that only a shell can run: `a && b`, `$PORT`, `*.js`, `> file`.
    ForShell,
}

/// Reads one line. An unclosed quote is an error.
pub fn read(line: &str) -> Result<Line, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('\'') => break,
                        Some(inner) => word.push(inner),
                        None => return Err(format!("a single quote is not closed in `{line}`")),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('"') => break,
                        Some('$' | '`') => return Ok(Line::ForShell),
                        Some('\\') => match letters.next() {
                            Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                            Some(other) => word.extend(['\\', other]),
                            None => {
                                return Err(format!("a double quote is not closed in `{line}`"));
                            }
                        },
                        Some(inner) => word.push(inner),
                        None => return Err(format!("a double quote is not closed in `{line}`")),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(letters.next()),
            '$' | '`' | '|' | '&' | ';' | '<' | '>' | '(' | ')' | '*' | '?' | '[' | ']' | '!'
            | '\n' => {
                return Ok(Line::ForShell);
            }
            // At the start of a word these are a comment and a home directory.
            '#' | '~' if word.is_none() => return Ok(Line::ForShell),
            ' ' | '\t' => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(Line::Words(words))
}

/// pm2's `args` in one text: split at blanks, quotes respected, nothing expanded.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    match read(text)? {
        Line::Words(words) => Ok(words),
        Line::ForShell => Ok(text.split_whitespace().map(str::to_owned).collect()),
    }
}

/// `NAME=value` at the start of a command.
pub fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let mut letters = name.bytes();
    let first = letters.next()?;
    let fits = (first.is_ascii_alphabetic() || first == b'_')
        && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_');
    fits.then_some((name, value))
}

/// One word so that `sh` reads it back unchanged.
pub fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./=:,@%+{}".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_a_shell_would() {
        let table: [(&str, &[&str]); 8] = [
            ("node server.js", &["node", "server.js"]),
            ("  node\t a  ", &["node", "a"]),
            ("node 'a b' \"c d\"", &["node", "a b", "c d"]),
            (r#"x a\ b "q\"q" "\n""#, &["x", "a b", "q\"q", "\\n"]),
            ("x ''", &["x", ""]),
            ("x a'b'\"c\"", &["x", "abc"]),
            (
                "./app --socket {socket} a#b a~",
                &["./app", "--socket", "{socket}", "a#b", "a~"],
            ),
            ("", &[]),
        ];
        for (line, words) in table {
            let words = words.iter().map(|w| (*w).to_owned()).collect();
            assert_eq!(read(line), Ok(Line::Words(words)), "{line}");
        }
        for line in [
            "a && b",
            "a | b",
            "a $PORT",
            "a \"$PORT\"",
            "a > b",
            "a; b",
            "ls *.js",
            "a `b`",
            "~/a",
            "a #b",
        ] {
            assert_eq!(read(line), Ok(Line::ForShell), "{line}");
        }
        for line in ["'a", "\"a", "a \"b\\"] {
            assert!(read(line).is_err(), "{line}");
        }
        assert_eq!(split("--a $B"), Ok(vec!["--a".to_owned(), "$B".to_owned()]));
    }

    #[test]
    fn assignments() {
        assert_eq!(
            assignment("NODE_ENV=production"),
            Some(("NODE_ENV", "production"))
        );
        assert_eq!(assignment("A="), Some(("A", "")));
        for word in ["=a", "1A=b", "a-b=c", "node", "./a=b"] {
            assert_eq!(assignment(word), None, "{word}");
        }
    }

    #[test]
    fn quoting_survives_a_round_trip() {
        for word in ["plain", "", "a b", "it's", "$HOME", "a\"b", "{socket}"] {
            assert_eq!(
                read(&quoted(word)),
                Ok(Line::Words(vec![word.to_owned()])),
                "{word}"
            );
        }
    }
}
