//! The tests' client for what curl cannot say: exact bytes, drips, half-closes, pipelines,
//! hundreds of held connections, WebSocket, and a steady load that counts failures.

mod hold;
mod http;
mod load;
mod options;
mod script;
mod soak;
mod talk;
mod ws;

use echo_wire::wire::Address;
use options::Options;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use talk::{Conversation, Ending, Reading};

const USAGE: &str = r"usage: raw [OPTIONS] ADDR STEP...           one conversation, printed as it comes
       raw hold N [OPTIONS] ADDR STEP...    N connections that stay; prints `held N`
       raw ws [OPTIONS] ADDR TARGET [TEXT...]   WebSocket client
       raw load [OPTIONS] ADDR TARGET...    steady GETs; prints `requests N failed N ...`
       raw soak [OPTIONS] ADDR              random traffic that checks itself; prints what it saw
ADDR is HOST:PORT, unix:PATH or /PATH.

STEPS, in order:
  TEXT            bytes to send, with \r \n \t \0 \\ \xHH
  +get:TARGET     GET TARGET HTTP/1.1 with a Host;   +last:TARGET  the same with Connection: close
  +times:N        the next text is sent N times
  +stdin +file:F  bytes from there
  +drip:MS        from here on a pause after every byte (0 ends it)
  +sleep:MS       +until:TEXT (has arrived since the last match)   +end (of the peer's stream)
  +shut           half-close   +close  close at once

raw             after the steps it waits for the end of the stream
  --until TEXT  ... or for this text; the stream's end without it is exit code 4
  --quiet       print nothing that arrives      --report  say on stderr how it ended
  --drip MS     as +drip first                  --shut    as +shut last
  --deaf        do not read at all              --slow MS --bite N   N bytes a read, a pause after each
hold            after `held N` it waits until all have ended
  --until TEXT  ... or have got this text: prints `answered K of N`
  --while FILE  ... or until FILE is gone: prints `open N ended N answered N`
ws              each TEXT is said and one message awaited and printed; then close and the peer's answer
  --count N --size B --binary --fragments N --connections N --pause MS   counted echoes
  --until TEXT  print messages until one has this      --print  the handshake too
  --eager       first TEXT in one write with the handshake   --shut  half-close at the end
  --hold [--while FILE]   stay open, print `held N`          --header 'Name: value'
load            GETs on kept connections; exit code 1 if any failed
  --connections N (4) --seconds S (10) --count N (a connection) --while FILE --pause MS
  --fresh (a connection a request) --status N (200) --same (bodies) --answer-max S (10) --header
soak            --clients N (6) --seconds S (10) --seed N --kill MS (kills a worker so often)
All: --timeout SECONDS (10).
Exit codes: 0 done, 1 failed, 2 usage, 3 time is up, 4 the stream ended first, 5 reset.
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.first().map(String::as_str) {
        None | Some("--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some("hold") => hold(&words[1..]),
        Some("ws") => websocket(&words[1..]),
        Some("load") => load(&words[1..]),
        Some("soak") => soak(&words[1..]),
        Some(_) => talk(&words),
    };
    outcome.unwrap_or_else(|problem| {
        eprintln!("raw: {problem}");
        ExitCode::from(2)
    })
}

/// The address and the words behind it.
fn address(options: &Options) -> Result<(Address, &[String]), String> {
    let (first, rest) = options
        .rest
        .split_first()
        .ok_or("no address (see raw --help)")?;
    Ok((Address::parse(first), rest))
}

fn deadline(options: &Options) -> Result<Instant, String> {
    Ok(Instant::now() + options.seconds("timeout", 10.0)?)
}

fn talk(words: &[String]) -> Result<ExitCode, String> {
    let flags = ["quiet", "report", "shut", "deaf"];
    let options = Options::parse(words, &flags, &["timeout", "until", "drip", "slow", "bite"])?;
    let (address, steps) = address(&options)?;
    let mut script = script::parse(steps)?;
    if let Some(drip) = options.millis("drip")? {
        script.insert(0, script::Step::Drip(drip));
    }
    if options.flag("shut") {
        script.push(script::Step::Shut);
    }
    let slow = options.millis("slow")?;
    let reading = Reading {
        print: !options.flag("quiet"),
        deaf: options.flag("deaf"),
        bite: options.number("bite", if slow.is_some() { 1 } else { 0 })?,
        pause: slow.unwrap_or_default(),
    };
    let until = options.text("until").map(script::unescape).transpose()?;
    let begun = Instant::now();
    let mut conversation = match Conversation::open(&address, reading, deadline(&options)?) {
        Ok(conversation) => conversation,
        Err(error) => {
            eprintln!("raw: {address}: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let ending = match conversation.play(&script) {
        Ok(Some(ending)) => ending,
        Ok(None) => match &until {
            Some(pattern) => conversation.wait_for(pattern),
            None => conversation.wait_for_end(),
        },
        Err(error) => {
            // The peer stopped reading; what it said before that still counts.
            eprintln!("raw: while sending: {error}");
            match conversation.wait_for_end() {
                Ending::EndOfStream => Ending::Reset,
                other => other,
            }
        }
    };
    if options.flag("report") {
        let millis = begun.elapsed().as_millis();
        eprintln!(
            "{ending:?} after {} bytes, {millis} ms",
            conversation.received()
        );
    }
    Ok(match ending {
        Ending::Found | Ending::Closed => ExitCode::SUCCESS,
        Ending::EndOfStream if until.is_none() => ExitCode::SUCCESS,
        Ending::EndOfStream => ExitCode::from(4),
        Ending::Timeout => ExitCode::from(3),
        Ending::Reset => ExitCode::from(5),
    })
}

fn hold(words: &[String]) -> Result<ExitCode, String> {
    let (count, words) = words.split_first().ok_or("hold wants a count")?;
    let count = count
        .parse()
        .map_err(|_| format!("{count} is not a count"))?;
    let options = Options::parse(words, &[], &["timeout", "until", "while"])?;
    let (address, steps) = address(&options)?;
    let script = script::parse(steps)?;
    let hold = hold::Hold {
        count,
        script: &script,
        until: options.text("until").map(script::unescape).transpose()?,
        hold_while: options.text("while").map(Path::new),
        deadline: deadline(&options)?,
    };
    Ok(code(hold::run(&address, &hold).unwrap_or_else(|error| {
        eprintln!("raw: {address}: {error}");
        false
    })))
}

fn websocket(words: &[String]) -> Result<ExitCode, String> {
    let flags = ["binary", "print", "eager", "shut", "hold"];
    let valued = [
        "timeout",
        "until",
        "while",
        "count",
        "size",
        "fragments",
        "connections",
        "pause",
        "header",
    ];
    let options = Options::parse(words, &flags, &valued)?;
    let (address, rest) = address(&options)?;
    let (target, messages) = rest.split_first().ok_or("ws wants a target")?;
    Ok(code(ws::run(ws::Plan {
        address,
        target: target.clone(),
        fields: fields(&options),
        messages: messages.to_vec(),
        connections: options.number("connections", 1)?,
        count: options.number("count", 0)?,
        size: options.number("size", 0)?,
        binary: options.flag("binary"),
        fragments: options.number("fragments", 1)?,
        pause: options.millis("pause")?.unwrap_or_default(),
        print: options.flag("print"),
        until: options.text("until").map(str::to_owned),
        shut: options.flag("shut"),
        eager: options.flag("eager"),
        hold: options.flag("hold"),
        hold_while: options.text("while").map(PathBuf::from),
        deadline: deadline(&options)?,
    })))
}

fn load(words: &[String]) -> Result<ExitCode, String> {
    let valued = [
        "connections",
        "seconds",
        "count",
        "while",
        "pause",
        "status",
        "answer-max",
        "header",
        "timeout",
    ];
    let options = Options::parse(words, &["fresh", "same"], &valued)?;
    let (address, targets) = address(&options)?;
    if targets.is_empty() {
        return Err("load wants a target".to_owned());
    }
    let count = options.number("count", 0)?;
    // With a count or a file to watch, the time is only a backstop.
    let bounded = count > 0 || options.flag("while");
    let seconds = options.seconds("seconds", if bounded { 600.0 } else { 10.0 })?;
    Ok(code(load::run(load::Load {
        address,
        targets: targets.to_vec(),
        connections: options.number("connections", 4)?,
        count: (count > 0).then_some(count),
        end: Instant::now() + seconds,
        load_while: options.text("while").map(PathBuf::from),
        answer_max: options.seconds("answer-max", 10.0)?,
        fresh: options.flag("fresh"),
        pause: options.millis("pause")?.unwrap_or(Duration::ZERO),
        status: u16::try_from(options.number("status", 200)?).map_err(|error| error.to_string())?,
        same: options.flag("same"),
        fields: fields(&options),
    })))
}

fn soak(words: &[String]) -> Result<ExitCode, String> {
    let options = Options::parse(words, &[], &["clients", "seconds", "seed", "kill"])?;
    let (address, _) = address(&options)?;
    Ok(code(soak::run(soak::Soak {
        address,
        clients: options.number("clients", 6)?,
        end: Instant::now() + options.seconds("seconds", 10.0)?,
        seed: options.number("seed", 1)? as u64,
        kill_every: options.millis("kill")?,
    })))
}

fn fields(options: &Options) -> String {
    options
        .texts("header")
        .map(|line| format!("{line}\r\n"))
        .collect()
}

fn code(fine: bool) -> ExitCode {
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
