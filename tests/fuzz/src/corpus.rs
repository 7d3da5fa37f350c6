//! A target's corpus: one file, an input a line, escaped, so that it can be read and compared.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What is merely new is added up to here: a corpus is to be read and replayed in seconds.
const INPUTS_MAX: usize = 120;

pub struct Corpus {
    file: PathBuf,
    pub inputs: Vec<Vec<u8>>,
}

impl Corpus {
    pub fn open(dir: &Path, name: &str) -> Corpus {
        let file = dir.join(format!("{name}.txt"));
        let text = fs::read_to_string(&file).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Corpus {
            inputs: lines.map(unescape).collect(),
            file,
        }
    }

    pub fn has_room(&self) -> bool {
        self.inputs.len() < INPUTS_MAX
    }

    pub fn add(&mut self, input: &[u8]) {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.file);
        let written = file.and_then(|mut file| writeln!(file, "{}", input.escape_ascii()));
        if let Err(error) = written {
            eprintln!("cannot write {}: {error}", self.file.display());
        }
        self.inputs.push(input.to_vec());
    }
}

/// The reverse of `escape_ascii`.
fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'x') => {
                    let digit =
                        |d: Option<u8>| d.and_then(|d| (d as char).to_digit(16)).unwrap_or(0);
                    let high = digit(rest.next());
                    (high * 16 + digit(rest.next())) as u8
                }
                Some(other) => other,
                None => b'\\',
            },
            byte => byte,
        });
    }
    bytes
}
