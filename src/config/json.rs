//! Reads a JSON file so that every complaint can name the line and column. No I/O.
//!
//! serde_json says where a syntax error is but forgets where the values were. For complaints about
//! values the text is walked a second time, which may be slow because it happens at most once.

use serde_json::Value;
use std::collections::BTreeSet;

/// JSON has no comments; a key of this name is one, and may stand as often as needed.
pub const COMMENT: &str = "//";

/// A place in a JSON text: the keys and indexes that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// Where something is, counted from 1 as editors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// Parses the text; the error is a sentence and a place.
pub fn parse(text: &str) -> Result<Value, (Place, String)> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value = serde_json::from_slice(body.as_bytes()).map_err(|error| {
        // What ends too early ends behind the last line, where no editor shows anything.
        let place = Place {
            line: error.line().clamp(1, body.lines().count().max(1)),
            column: error.column().max(1),
        };
        (place, explain(body, &error))
    })?;
    match repeated_key(body) {
        Some((place, key)) => {
            let key = key.escape_debug();
            let why = format!("`{key}` stands twice in the same object; remove one of them");
            Err((place, why))
        }
        None => Ok(value),
    }
}

/// The first key that stands twice in one object, where it does so again. JSON allows that, and the
/// first value would be dropped in silence. The text has been parsed before.
fn repeated_key(text: &str) -> Option<(Place, String)> {
    let mut walk = Walk {
        text: text.as_bytes(),
        at: 0,
    };
    let mut open: Vec<BTreeSet<String>> = Vec::new();
    while let Some(byte) = walk.peek() {
        match byte {
            b'"' => {
                let start = walk.at;
                let key: Option<String> = serde_json::from_slice(walk.string()).ok();
                walk.blanks();
                if walk.peek() == Some(b':')
                    && key.as_deref() != Some(COMMENT)
                    && let (Some(key), Some(keys)) = (key, open.last_mut())
                    && !keys.insert(key.clone())
                {
                    return place_at(text, start).map(|place| (place, key));
                }
            }
            b'{' | b'[' => {
                open.push(BTreeSet::new());
                walk.step();
            }
            b'}' | b']' => {
                open.pop();
                walk.step();
            }
            _ => walk.step(),
        }
    }
    None
}

/// serde_json's words, and for the usual slips what they really are.
fn explain(text: &str, error: &serde_json::Error) -> String {
    let said = error.to_string();
    let said = said
        .split(" at line ")
        .next()
        .unwrap_or("not JSON")
        .to_owned();
    let line = text
        .lines()
        .nth(error.line().saturating_sub(1))
        .unwrap_or("");
    let at = error.column().saturating_sub(1);
    let rest = line.get(at..).unwrap_or("").trim_start();
    let before = line.get(..at).unwrap_or("").trim_end();
    if text.trim().is_empty() {
        "the file is empty".to_owned()
    } else if rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#') {
        "JSON has no comments; write \"//\": \"...\", or remove it".to_owned()
    } else if said.contains("trailing comma")
        || before.ends_with(',') && rest.starts_with([']', '}'])
    {
        "a comma stands before the closing bracket; remove it".to_owned()
    } else if rest.starts_with('\'') {
        "JSON texts stand in double quotes".to_owned()
    } else if text.trim_start().starts_with("module.exports") {
        "this is JavaScript; write the object it exports as JSON".to_owned()
    } else if said.contains("key must be a string") {
        "keys stand in double quotes".to_owned()
    } else {
        said
    }
}

/// Where the value at `path` begins, or where its key begins if the last step is a key.
/// The text has been parsed before, so that the walk need not judge it.
pub fn place_of(text: &str, path: &[Step]) -> Option<Place> {
    let mut walk = Walk {
        text: text.as_bytes(),
        at: 0,
    };
    let mut offset = 0;
    for step in path {
        offset = walk.enter(step)?;
    }
    place_at(text, offset)
}

fn place_at(text: &str, offset: usize) -> Option<Place> {
    let before = text.get(..offset)?;
    let line_start = before
        .rfind('\n')
        .map_or(0, |newline| newline.saturating_add(1));
    Some(Place {
        line: before.matches('\n').count().saturating_add(1),
        column: before.get(line_start..)?.chars().count().saturating_add(1),
    })
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    /// Passes blanks, commas and colons, and a byte order mark.
    fn gap(&mut self) {
        while self
            .peek()
            .is_some_and(|b| b" \t\r\n,:\xef\xbb\xbf".contains(&b))
        {
            self.step();
        }
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|b| b" \t\r\n".contains(&b)) {
            self.step();
        }
    }

    /// Passes a string and returns it with its quotes.
    fn string(&mut self) -> &[u8] {
        let start = self.at;
        self.step();
        while let Some(byte) = self.peek() {
            self.step();
            match byte {
                b'\\' => self.step(),
                b'"' => break,
                _ => {}
            }
        }
        self.text.get(start..self.at).unwrap_or(b"")
    }

    /// Passes one value of any kind.
    fn value(&mut self) {
        let mut depth = 0usize;
        self.gap();
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => drop(self.string()),
                b'{' | b'[' => {
                    depth = depth.saturating_add(1);
                    self.step();
                }
                b'}' | b']' if depth == 0 => return,
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.step();
                }
                b',' if depth == 0 => return,
                _ => {
                    self.step();
                    continue;
                }
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Goes to the value that `step` names in the container that comes next. Returns where its
    /// key, or the value itself in an array, begins.
    fn enter(&mut self, step: &Step) -> Option<usize> {
        self.gap();
        let opening = self.peek()?;
        self.step();
        let mut index = 0usize;
        loop {
            self.gap();
            let start = self.at;
            match (opening, self.peek()?) {
                (_, b'}' | b']') => return None,
                (b'{', _) => {
                    let key: Option<String> = serde_json::from_slice(self.string()).ok();
                    self.gap();
                    if matches!(step, Step::Key(wanted) if Some(wanted) == key.as_ref()) {
                        return Some(start);
                    }
                }
                (b'[', _) if matches!(step, Step::Index(wanted) if *wanted == index) => {
                    return Some(start);
                }
                (b'[', _) => index = index.saturating_add(1),
                (_, _) => return None,
            }
            self.value();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_named_with_their_place() {
        let table = [
            ("", 1, "empty"),
            ("{\n  // a comment\n}", 2, "no comments"),
            ("{\"a\": 1,\n}", 2, "comma"),
            ("[1,]", 1, "comma"),
            ("{\n\"a\": 'b'}", 2, "double quotes"),
            ("{a: 1}", 1, "double quotes"),
            ("module.exports = {}", 1, "JavaScript"),
            ("{\"a\": 1\n\"b\": 2}", 2, "expected"),
        ];
        for (text, line, part) in table {
            let (place, message) = parse(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
            assert_eq!(place.line, line, "{text}: {place:?}");
            assert!(place.column >= 1, "{text}: {place:?}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_found_where_it_does() {
        let table = [
            (
                r#"{"a": 1, "b": {"a": 1}, "c": ["a", "a"], "d": "a"}"#,
                None,
            ),
            (r#"[{"a": 1}, {"a": 2}]"#, None),
            (r#"{"//": "a", "a": 1, "//": "b"}"#, None),
            ("{\"a\": 1,\n \"a\": 2}", Some((2, 2))),
            (
                "{\"a\": \"a\", \"x\": {\"b\": 1, \"b\" : 2}}",
                Some((1, 26)),
            ),
            (r#"{"\u0061": 1, "a": 2}"#, Some((1, 15))),
            (r#"{"a\"": 1, "a": {"a": [{}], "a": 0}}"#, Some((1, 29))),
        ];
        for (text, place) in table {
            match (parse(text), place) {
                (Ok(_), None) => {}
                (Err((found, why)), Some(place)) => {
                    assert_eq!((found.line, found.column), place, "{text}");
                    assert!(why.contains("stands twice"), "{why}");
                }
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn places_of_keys_and_items() {
        let text = "{\n  \"x\": {\"apps\": [1, \"}\\\"\"]},\n  \"apps\": [\n    {\"a\": [1, {}], \"b\": \"c\"},\n    { \"instnaces\": 4 }\n  ]\n}";
        let key = |k: &str| Step::Key(k.to_owned());
        let table = [
            (vec![key("apps")], Some((3, 3))),
            (vec![key("apps"), Step::Index(1)], Some((5, 5))),
            (
                vec![key("apps"), Step::Index(1), key("instnaces")],
                Some((5, 7)),
            ),
            (vec![key("apps"), Step::Index(0), key("b")], Some((4, 20))),
            (vec![key("apps"), Step::Index(2)], None),
            (vec![key("none")], None),
            (vec![Step::Index(0)], None),
        ];
        for (path, place) in table {
            let found = place_of(text, &path).map(|p| (p.line, p.column));
            assert_eq!(found, place, "{path:?}");
        }
    }
}
