//! Command-line words into options: `--name VALUE`, `--flag`, and everything else in order.

use std::time::Duration;

pub struct Options {
    given: Vec<(String, String)>,
    /// Words that are not options, in order.
    pub rest: Vec<String>,
}

impl Options {
    /// Options may stand anywhere; after `--` nothing is an option.
    pub fn parse(words: &[String], flags: &[&str], valued: &[&str]) -> Result<Options, String> {
        let mut options = Options {
            given: Vec::new(),
            rest: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                options.rest.push(word.clone());
                continue;
            };
            if name.is_empty() {
                options.rest.extend(words.by_ref().cloned());
            } else if flags.contains(&name) {
                options.given.push((name.to_owned(), String::new()));
            } else if valued.contains(&name) {
                let value = words
                    .next()
                    .ok_or_else(|| format!("--{name} wants a value"))?;
                options.given.push((name.to_owned(), value.clone()));
            } else {
                return Err(format!("--{name} is not an option here"));
            }
        }
        Ok(options)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).last()
    }

    pub fn texts<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.given
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn number(&self, name: &str, default: usize) -> Result<usize, String> {
        match self.text(name) {
            Some(text) => text
                .parse()
                .map_err(|_| format!("--{name}: {text} is not a number")),
            None => Ok(default),
        }
    }

    pub fn millis(&self, name: &str) -> Result<Option<Duration>, String> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let millis = text
            .parse()
            .map_err(|_| format!("--{name}: {text} is not a number of milliseconds"))?;
        Ok(Some(Duration::from_millis(millis)))
    }

    /// Seconds, with a fraction if need be.
    pub fn seconds(&self, name: &str, default: f64) -> Result<Duration, String> {
        let seconds = match self.text(name) {
            Some(text) => text.parse().ok(),
            None => Some(default),
        };
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.ok_or_else(|| format!("--{name} wants a number of seconds"))
    }
}
