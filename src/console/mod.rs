//! The user's side of the control socket: `sidekeeper status` and its like. Reads the words of a
//! command as the instance's own table of commands has them, asks over the socket, and shows what
//! comes back. Runs on the main thread of a short process of its own.
//!
//! A command without a form of its own here is shown by the `text` of its lines, so a new one needs
//! nothing in this room.

mod connection;
mod screen;
mod table;
mod top;

use crate::admin::ask::{Ask, EXIT_FAILURE, EXIT_NO_INSTANCE, EXIT_USAGE, Refusal};
use crate::admin::command::{Command, Pace, Switch};
use crate::admin::requests::Requests;
use crate::admin::{command, sessions::SessionCounts, status::Status};
use crate::config::suggest::nearest;
use connection::{Connection, Trouble};
use front::json::{self, FromJson, Wrong};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A command for a running instance, as it was typed.
#[derive(Debug)]
pub struct Question {
    pub ask: Ask,
    pub run_dir: Option<PathBuf>,
    pub json: bool,
}

/// What the words after a command's name come to.
#[derive(Debug)]
pub enum Words {
    Help(String),
    Question(Question),
}

/// Why there is no answer, or not the hoped one.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub why: String,
}

/// How often `--watch` asks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// An instance that is silent for longer is stuck.
const QUICK_TIME_MAX: Duration = Duration::from_secs(10);
/// Longer than the instance itself lets a command wait.
const SLOW_TIME_MAX: Duration = Duration::from_secs(600);

/// Switches that every command has.
const COMMON: [Switch; 2] = [
    Switch {
        short: "",
        long: "--json",
        help: "print JSON, one value a line, with names that stay",
    },
    Switch {
        short: "-h",
        long: "--help",
        help: "print this",
    },
];

/// Whether `name` is a command of this room.
pub fn knows(name: &str) -> bool {
    command::find(name).is_some()
}

/// Reads the words after a command's name. The error is one line that says what to do.
pub fn read(name: &str, words: &[String]) -> Result<Words, String> {
    let Some(item) = command::find(name) else {
        return Err(format!("unknown command `{name}`"));
    };
    let mut question = Question {
        ask: Ask {
            command: item.name.to_owned(),
            ..Ask::default()
        },
        run_dir: None,
        json: false,
    };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        // `scale APP -1` is no switch.
        let number = word
            .strip_prefix('-')
            .is_some_and(|rest| rest.parse::<u32>().is_ok());
        if number || !word.starts_with('-') {
            // The instance may have another working directory.
            let operand = match item.operands {
                "[PATH]" => absolute(word),
                _ => word.clone(),
            };
            question.ask.operands.push(operand);
            continue;
        }
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let own = item
            .switches
            .iter()
            .find(|own| flag == own.long || flag == own.short);
        match (flag, own) {
            ("--help" | "-h", _) => return Ok(Words::Help(help(item))),
            ("--json", _) => question.json = true,
            ("--run-dir", _) => match value.or_else(|| rest.next().cloned()) {
                Some(dir) if !dir.is_empty() => question.run_dir = Some(PathBuf::from(dir)),
                Some(_) | None => return Err("--run-dir needs a value: --run-dir DIR".to_owned()),
            },
            (_, Some(own)) => question.ask.switches.push(own.word().to_owned()),
            (_, None) => return Err(unknown(item, flag)),
        }
    }
    item.admit(&question.ask)
        .map_err(|refusal| format!("{}; see sidekeeper {name} --help", refusal.text))?;
    Ok(Words::Question(question))
}

fn unknown(item: &Command, flag: &str) -> String {
    let own = item
        .switches
        .iter()
        .chain(&COMMON)
        .map(|switch| switch.long);
    match nearest(flag, own.chain(["--run-dir"])) {
        Some(meant) => format!("unknown option {flag}; did you mean {meant}?"),
        None => format!("unknown option {flag}; see sidekeeper {} --help", item.name),
    }
}

fn help(item: &Command) -> String {
    let usage = format!("sidekeeper {} [OPTIONS] {}", item.name, item.operands);
    let mut text = format!(
        "sidekeeper {}: {}\n\nUsage: {}\n\nOptions:\n",
        item.name,
        item.help,
        usage.trim_end()
    );
    let mut row = |left: &str, right: &str| text.push_str(&format!("  {left:<20}{right}\n"));
    for switch in item.switches.iter().chain(&COMMON) {
        match switch.short {
            "" => row(switch.long, switch.help),
            short => row(&format!("{short}, {}", switch.long), switch.help),
        }
    }
    row(
        "--run-dir DIR",
        "the instance's run directory; the default is that of run",
    );
    text.push_str(concat!(
        "\nExit codes:\n",
        "  0   done\n",
        "  1   it did not come about\n",
        "  2   the command line is wrong, or names what is not there\n",
        "  3   no instance runs with this run directory\n",
    ));
    text
}

fn absolute(path: &str) -> String {
    let absolute = std::path::absolute(path).ok();
    let absolute = absolute.and_then(|path| path.into_os_string().into_string().ok());
    absolute.unwrap_or_else(|| path.to_owned())
}

/// Asks the instance of `run_dir`, and shows the answer.
pub fn ask(question: &Question, run_dir: &Path) -> Result<(), Failure> {
    let screen = Screen::new(question.json);
    if question.ask.command == "version" {
        // Ours, whether an instance runs or not.
        screen.say(concat!("sidekeeper ", env!("CARGO_PKG_VERSION")));
        return match converse(question, run_dir, &screen) {
            Err(failure) if failure.code == EXIT_NO_INSTANCE => Ok(()),
            other => other,
        };
    }
    if question.ask.command == "top" {
        return watch_live(question, run_dir, &screen);
    }
    if !question.ask.has("watch") {
        return converse(question, run_dir, &screen);
    }
    // What is watched is asked for again and again, so the instance need not know of it.
    let once = Question {
        ask: Ask {
            switches: Vec::new(),
            ..question.ask.clone()
        },
        run_dir: None,
        json: question.json,
    };
    loop {
        screen.begin_anew();
        converse(&once, run_dir, &screen)?;
        if screen.gone() {
            return Ok(());
        }
        thread::sleep(WATCH_EVERY);
    }
}

/// `top`: one picture a second on a terminal, one in all elsewhere.
fn watch_live(question: &Question, run_dir: &Path, screen: &Screen) -> Result<(), Failure> {
    let patience = Some(QUICK_TIME_MAX);
    let look = || -> Result<String, Failure> {
        let connection = Connection::open(run_dir, &question.ask, patience);
        let mut connection = connection.map_err(|trouble| told(trouble, run_dir))?;
        let line = connection
            .line()
            .map_err(|trouble| told(trouble, run_dir))?;
        line.ok_or_else(|| Failure {
            code: EXIT_FAILURE,
            why: "the instance ended before it had answered".to_owned(),
        })
    };
    let first = look()?;
    let Some(_) = screen.size().filter(|_| !screen.json) else {
        screen.show("status", &first);
        return Ok(());
    };
    let mut clock = top::Clock::new().map_err(|error| Failure {
        code: EXIT_FAILURE,
        why: format!("no signals can be heard: {error}"),
    })?;
    let mut past = top::Past::default();
    screen.write(top::ENTER);
    let mut next = Ok(first);
    let ended = loop {
        match next {
            Err(failure) => break Err(failure),
            Ok(line) => match (json::read::<Status>(line.as_bytes()), screen.size()) {
                (Ok(status), Some(size)) => {
                    past.add(&status);
                    screen.write(&top::picture(&status, &past, size, screen.colours));
                }
                (Ok(_) | Err(_), _) => break Ok(()),
            },
        }
        if screen.gone() || clock.wait() == top::Struck::Ended {
            break Ok(());
        }
        next = look();
    };
    screen.write(top::LEAVE);
    ended
}

fn converse(question: &Question, run_dir: &Path, screen: &Screen) -> Result<(), Failure> {
    let patience = match command::find(&question.ask.command).map(|item| item.pace) {
        _ if question.ask.has("follow") || question.ask.command == "stop" => None,
        Some(Pace::Slow) => Some(SLOW_TIME_MAX),
        Some(Pace::Quick) | None => Some(QUICK_TIME_MAX),
    };
    let mut connection = Connection::open(run_dir, &question.ask, patience)
        .map_err(|trouble| told(trouble, run_dir))?;
    let mut heard = false;
    let _settled = Settled(screen);
    loop {
        let Some(line) = connection
            .line()
            .map_err(|trouble| told(trouble, run_dir))?
        else {
            // The process holds its end of a `stop` until it has ended.
            if question.ask.command == "stop" && heard {
                screen.say("stopped");
                return Ok(());
            }
            return Err(Failure {
                code: EXIT_FAILURE,
                why: "the instance ended before it had answered".to_owned(),
            });
        };
        match json::read(line.as_bytes()) {
            Ok(Final::End { end: 0 }) => return Ok(()),
            Ok(Final::End { end }) => {
                return Err(Failure {
                    code: end,
                    why: "the instance refused".to_owned(),
                });
            }
            Ok(Final::Error { error }) => return Err(refused(error)),
            Err(_) => {
                heard = true;
                screen.show(&question.ask.command, &line);
            }
        }
        if screen.gone() {
            return Ok(());
        }
    }
}

/// The lines that end an answer.
enum Final {
    End { end: u8 },
    Error { error: Refusal },
}

impl FromJson for Final {
    fn from_json(value: &json::Value) -> Result<Final, Wrong> {
        let object = json::Object::of(value)?;
        match object.field("end") {
            Ok(end) => Ok(Final::End { end }),
            Err(_) => object.field("error").map(|error| Final::Error { error }),
        }
    }
}

fn refused(refusal: Refusal) -> Failure {
    let meant = refusal
        .unknown
        .as_deref()
        .and_then(|unknown| nearest(unknown, refusal.known.iter().map(String::as_str)));
    let why = match meant {
        Some(meant) => format!("{}; did you mean `{meant}`?", refusal.text),
        None => refusal.text,
    };
    Failure {
        code: refusal.code,
        why,
    }
}

fn told(trouble: Trouble, run_dir: &Path) -> Failure {
    let dir = run_dir.display();
    let (code, why) = match trouble {
        Trouble::Nobody => (
            EXIT_NO_INSTANCE,
            format!(
                "no instance runs in {dir}; start one with: sidekeeper run (--run-dir DIR names another)"
            ),
        ),
        Trouble::Forbidden => (
            EXIT_FAILURE,
            format!("the instance in {dir} belongs to another user; ask as that user or as root"),
        ),
        Trouble::TooLong => (
            EXIT_USAGE,
            format!("the path {dir} is too long for a socket in it"),
        ),
        Trouble::Silent => (
            EXIT_FAILURE,
            format!("the instance in {dir} does not answer"),
        ),
        Trouble::Other(error) => (EXIT_FAILURE, format!("the instance in {dir}: {error}")),
    };
    Failure { code, why }
}

/// Leaves no half line behind, however a conversation ends.
struct Settled<'a>(&'a Screen);

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        self.0.settle();
    }
}

/// Standard output.
struct Screen {
    json: bool,
    terminal: bool,
    colours: bool,
    /// Nobody reads any more, which is no failure: `sidekeeper logs | head`.
    gone: std::cell::Cell<bool>,
    /// The line that stands there is not complete.
    passing: std::cell::Cell<bool>,
}

impl Screen {
    fn new(json: bool) -> Screen {
        let terminal = io::stdout().is_terminal();
        Screen {
            json,
            terminal,
            colours: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            gone: std::cell::Cell::new(false),
            passing: std::cell::Cell::new(false),
        }
    }

    /// What passed has passed: the end is told elsewhere.
    fn settle(&self) {
        if self.passing.replace(false) {
            self.write("\r\x1b[K");
        }
    }

    fn gone(&self) -> bool {
        self.gone.get()
    }

    fn write(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        if stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .is_err()
        {
            self.gone.set(true);
        }
    }

    /// What we say ourselves.
    fn say(&self, text: &str) {
        if !self.json {
            self.write(&format!("{text}\n"));
        }
    }

    /// Makes room for the next picture.
    fn begin_anew(&self) {
        if self.terminal && !self.json {
            self.write("\x1b[H\x1b[2J");
        }
    }

    fn show(&self, command: &str, line: &str) {
        if self.json {
            return self.write(&format!("{line}\n"));
        }
        let text = match command {
            "status" => json::read::<Status>(line.as_bytes())
                .map(|status| screen::status(&status, self.width(), self.colours)),
            "sessions" => {
                json::read::<SessionCounts>(line.as_bytes()).map(|counts| screen::sessions(&counts))
            }
            "requests" => json::read::<Requests>(line.as_bytes())
                .map(|requests| screen::requests(&requests, self.width(), self.colours)),
            "logs" => screen::log_line(line, self.colours),
            _ => screen::text(line, self.width()),
        };
        // An instance of another version may say what we do not know: better raw than not at all.
        let text = text.unwrap_or_else(|_| format!("{line}\n"));
        self.passing.set(!text.ends_with('\n'));
        self.write(&text);
    }

    /// Columns; None: as many as are needed.
    fn width(&self) -> Option<usize> {
        self.size().map(|(columns, _)| columns)
    }

    /// Columns and lines of the terminal, if it is one.
    fn size(&self) -> Option<(usize, usize)> {
        use std::os::fd::AsFd;
        if !self.terminal {
            return None;
        }
        front::sys::terminal::size(io::stdout().as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Words, String> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let name = words.next().unwrap_or_default();
        read(&name, &words.collect::<Vec<_>>())
    }

    #[test]
    fn words_become_a_question() {
        let Ok(Words::Question(question)) = read_line("logs chat -f --run-dir=/r --json") else {
            panic!("a question");
        };
        assert_eq!(question.ask.operands, ["chat"]);
        assert_eq!(question.ask.switches, ["follow"]);
        assert_eq!(question.run_dir, Some(PathBuf::from("/r")));
        assert!(question.json);
        assert!(
            matches!(read_line("why --help"), Ok(Words::Help(text)) if text.contains("why [OPTIONS] SID|"))
        );
    }

    #[test]
    fn slips_are_told_with_what_was_meant() {
        let table = [
            ("status --wacth", "did you mean --watch?"),
            ("status chat", "nothing can follow status"),
            ("logs a b", "`b` is too much"),
            ("why", "why needs SID|IP|REQUEST-ID"),
            ("status --colour", "see sidekeeper status --help"),
            ("status --run-dir", "--run-dir needs a value"),
            ("status --rundir x", "did you mean --run-dir?"),
        ];
        for (line, part) in table {
            let message = read_line(line).expect_err(line);
            assert!(message.contains(part), "{line}: {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }

    #[test]
    fn a_wrong_name_is_told_with_the_right_one() {
        let refusal = Refusal {
            unknown: Some("caht".to_owned()),
            known: ["echo", "chat", "chat.0"].map(str::to_owned).to_vec(),
            ..Refusal::usage("no app is called `caht`")
        };
        assert!(refused(refusal).why.ends_with("did you mean `chat`?"));
    }
}
