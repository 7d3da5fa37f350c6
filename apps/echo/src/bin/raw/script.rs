//! What to send, said as words on the command line: bytes with escapes, and steps that begin with
//! a plus sign.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Send(Vec<u8>),
    /// The next `Send` is sent this many times.
    Times(usize),
    Stdin,
    File(String),
    Sleep(Duration),
    /// From here on one byte at a time with this pause after each; zero ends it.
    Drip(Duration),
    /// Wait until this has arrived after what earlier waits have matched.
    Until(Vec<u8>),
    /// Wait for the peer's end of stream.
    End,
    /// Half-close: no more will be sent.
    Shut,
    Close,
}

pub fn parse(words: &[String]) -> Result<Vec<Step>, String> {
    words.iter().map(|word| step(word)).collect()
}

fn step(word: &str) -> Result<Step, String> {
    let Some(order) = word.strip_prefix('+') else {
        return unescape(word).map(Step::Send);
    };
    let (name, value) = order.split_once(':').unwrap_or((order, ""));
    let number = || {
        value
            .parse::<u64>()
            .map_err(|_| format!("{word}: {value:?} is not a number"))
    };
    Ok(match name {
        "get" => Step::Send(format!("GET {value} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes()),
        "last" => Step::Send(
            format!("GET {value} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").into_bytes(),
        ),
        "times" => Step::Times(usize::try_from(number()?).map_err(|error| error.to_string())?),
        "stdin" => Step::Stdin,
        "file" => Step::File(value.to_owned()),
        "sleep" => Step::Sleep(Duration::from_millis(number()?)),
        "drip" => Step::Drip(Duration::from_millis(number()?)),
        "until" => Step::Until(unescape(value)?),
        "end" => Step::End,
        "shut" => Step::Shut,
        "close" => Step::Close,
        _ => {
            return Err(format!(
                "{word}: no such step (to send a plus sign first, write \\x2b)"
            ));
        }
    })
}

pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let pair: Vec<u8> = rest.by_ref().take(2).collect();
                let pair = String::from_utf8_lossy(&pair).into_owned();
                u8::from_str_radix(&pair, 16).map_err(|_| format!("\\x{pair} is not a byte"))?
            }
            other => {
                return Err(format!(
                    "unknown escape \\{}",
                    other.map_or(' ', char::from)
                ));
            }
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_steps() {
        let words =
            ["GET /\\r\\n\\x00\\\\", "+until:\\r\\n", "+sleep:5", "+shut"].map(str::to_owned);
        let steps = parse(&words).unwrap();
        let five = Duration::from_millis(5);
        let wanted = [
            Step::Send(b"GET /\r\n\0\\".to_vec()),
            Step::Until(b"\r\n".to_vec()),
            Step::Sleep(five),
            Step::Shut,
        ];
        assert_eq!(steps, wanted);
        for wrong in ["+jump", "\\q", "\\xg0", "+sleep:soon"] {
            assert!(parse(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
