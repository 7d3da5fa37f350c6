//! The command line of the load programs: pairs of `--name value`.

use std::collections::HashMap;
use std::io;
use std::str::FromStr;
use std::time::Duration;

pub struct Options(HashMap<String, String>);

pub fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

impl Options {
    pub fn parse(words: &[String]) -> io::Result<Options> {
        let mut found = HashMap::new();
        for pair in words.chunks(2) {
            match pair {
                [name, value] if name.starts_with("--") => {
                    found.insert(name[2..].to_owned(), value.clone());
                }
                _ => return Err(wrong("options come as pairs: --name value")),
            }
        }
        Ok(Options(found))
    }

    pub fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    pub fn number<T: FromStr>(&self, name: &str, default: T) -> io::Result<T> {
        match self.0.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| wrong(format!("--{name} takes a number"))),
        }
    }

    pub fn to(&self) -> io::Result<&str> {
        self.0
            .get("to")
            .map(String::as_str)
            .ok_or_else(|| wrong("--to ADDR is missing"))
    }

    pub fn time(&self) -> io::Result<Duration> {
        Ok(Duration::from_secs_f64(self.number("seconds", 3.0)?))
    }
}
