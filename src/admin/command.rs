//! The table of commands that a running instance answers. A command is one item: its name, what
//! follows it, its sentence in the help, and the function that answers. The command line and its
//! help are made from the same item (`console`); a line of an answer that has a `text` is shown as
//! that text, and `--json` shows every line as it came.

use crate::admin::ask::{Answer, Ask, Refusal, Reply};
use crate::admin::{
    Order, Shared, alarms, drain, names, reload, requests, restart, scale, sessions, status,
    upgrade, why,
};
use front::as_json;
use front::json;
use std::io;

/// One command.
pub struct Command {
    pub name: &'static str,
    /// What may follow the name, as the help shows it.
    pub operands: &'static str,
    /// How many operands there must and may be.
    pub operands_min: usize,
    pub operands_max: usize,
    /// Switches of its own, besides `--json` and `--run-dir`.
    pub switches: &'static [Switch],
    pub help: &'static str,
    pub pace: Pace,
    pub act: Act,
}

/// A switch of one command.
pub struct Switch {
    /// `-f`, or empty.
    pub short: &'static str,
    pub long: &'static str,
    pub help: &'static str,
}

/// Which thread answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The admin thread, at once.
    Quick,
    /// A thread of its own: it waits for something.
    Slow,
}

/// Answers one request. Lines go out by [`Reply::line`].
pub type Act = fn(&Shared, &Ask, &mut Reply) -> Result<Answer, Refusal>;

const FOLLOW: Switch = Switch {
    short: "-f",
    long: "--follow",
    help: "go on with what is printed from now on",
};
const WATCH: Switch = Switch {
    short: "-w",
    long: "--watch",
    help: "show it anew every second, until interrupted",
};

/// All commands, in the order of the help.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "status",
        operands: "",
        operands_min: 0,
        operands_max: 0,
        switches: &[WATCH],
        help: "show the apps and their workers",
        pace: Pace::Quick,
        act: status::act,
    },
    Command {
        name: "top",
        operands: "",
        operands_min: 0,
        operands_max: 0,
        switches: &[],
        help: "show apps and workers live, the busiest first, until interrupted",
        pace: Pace::Quick,
        act: status::act,
    },
    Command {
        name: "alarms",
        operands: "",
        operands_min: 0,
        operands_max: 0,
        switches: &[],
        help: "show what is wrong now, and what was lately (docs/alarms.md says what to do)",
        pace: Pace::Quick,
        act: alarms::act,
    },
    Command {
        name: "logs",
        operands: "[APP|WORKER]",
        operands_min: 0,
        operands_max: 1,
        switches: &[FOLLOW],
        help: "show what workers have printed lately",
        pace: Pace::Quick,
        act: logs,
    },
    Command {
        name: "sessions",
        operands: "",
        operands_min: 0,
        operands_max: 0,
        switches: &[],
        help: "count the sessions of each worker",
        pace: Pace::Quick,
        act: sessions::act,
    },
    Command {
        name: "requests",
        operands: "[APP|WORKER]",
        operands_min: 0,
        operands_max: 1,
        switches: &[WATCH],
        help: "show the requests that are under way, the oldest first",
        pace: Pace::Slow,
        act: requests::act,
    },
    Command {
        name: "why",
        operands: "SID|IP|REQUEST-ID",
        operands_min: 1,
        operands_max: 1,
        switches: &[],
        help: "say where a session (sid or cookie value), a client or a request goes or went, and why",
        pace: Pace::Slow,
        act: why::act,
    },
    Command {
        name: "restart",
        operands: "[APP|WORKER]",
        operands_min: 0,
        operands_max: 1,
        switches: &[],
        help: "stop workers and start them again; ends when they are ready",
        pace: Pace::Slow,
        act: restart::act,
    },
    Command {
        name: "reload",
        operands: "[APP]",
        operands_min: 0,
        operands_max: 1,
        switches: &[],
        help: "read the configuration anew and replace workers one by one; nobody is dropped",
        pace: Pace::Slow,
        act: reload::act,
    },
    Command {
        name: "scale",
        operands: "APP N|+N|-N|auto",
        operands_min: 2,
        operands_max: 2,
        switches: &[],
        help: "give an app so many workers, until a reload; auto: as its min, max and load say",
        pace: Pace::Slow,
        act: scale::act,
    },
    Command {
        name: "drain",
        operands: "WORKER",
        operands_min: 1,
        operands_max: 1,
        switches: &[],
        help: "have a worker leave without dropping anybody; counts who is left until it has ended",
        pace: Pace::Slow,
        act: drain::act,
    },
    Command {
        name: "start",
        operands: "[APP|WORKER]",
        operands_min: 0,
        operands_max: 1,
        switches: &[],
        help: "start what is stopped or errored, without waiting; ends when it is ready",
        pace: Pace::Slow,
        act: scale::start,
    },
    Command {
        name: "upgrade",
        operands: "[PATH]",
        operands_min: 0,
        operands_max: 1,
        switches: &[],
        help: "let the binary as it is on the disk now, or at PATH, take over; nobody notices",
        pace: Pace::Quick,
        act: upgrade::act,
    },
    Command {
        name: "stop",
        operands: "",
        operands_min: 0,
        operands_max: 0,
        switches: &[],
        help: "stop the instance as SIGTERM does; ends when it has ended",
        pace: Pace::Quick,
        act: stop,
    },
    Command {
        name: "version",
        operands: "",
        operands_min: 0,
        operands_max: 0,
        switches: &[],
        help: "print the version, and that of the running instance",
        pace: Pace::Quick,
        act: version,
    },
];

pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|item| item.name == name)
}

/// Each command with its operands and switches, and its sentence, as documents show them.
pub fn names_and_helps() -> impl Iterator<Item = (String, &'static str)> {
    COMMANDS.iter().map(|item| {
        let switches = item
            .switches
            .iter()
            .map(|switch| format!(" [{}]", switch.long));
        let name = format!("{} {}", item.name, item.operands);
        (
            name.trim_end().to_owned() + &switches.collect::<String>(),
            item.help,
        )
    })
}

/// Reads a request. Anyone may have written it, so it is checked as strictly as the command line.
pub fn understand(line: &[u8]) -> Result<(&'static Command, Ask), Refusal> {
    let ask: Ask = json::read(line)
        .map_err(|error| Refusal::usage(format!("this is not a request: {error}")))?;
    admitted(&ask).map(|item| (item, ask))
}

/// The command that is asked for, if it may be asked so.
pub fn admitted(ask: &Ask) -> Result<&'static Command, Refusal> {
    let Some(item) = find(&ask.command) else {
        return Err(Refusal {
            unknown: Some(ask.command.clone()),
            known: COMMANDS.iter().map(|item| item.name.to_owned()).collect(),
            ..Refusal::usage(format!(
                "the running instance has no command `{}`; it may be of another version",
                ask.command
            ))
        });
    };
    item.admit(ask)?;
    Ok(item)
}

/// Does what `item` is for, and ends the answer.
pub fn run(item: &Command, shared: &Shared, ask: &Ask, reply: &mut Reply) -> io::Result<()> {
    match (item.act)(shared, ask, reply) {
        Ok(Answer::Done) => reply.end(),
        Ok(Answer::Elsewhere) => Ok(()),
        Err(refusal) => reply.refuse(&refusal),
    }
}

impl Command {
    /// Whether these operands and switches may follow the name.
    pub fn admit(&self, ask: &Ask) -> Result<(), Refusal> {
        let name = self.name;
        if ask.operands.len() < self.operands_min {
            return Err(Refusal::usage(format!("{name} needs {}", self.operands)));
        }
        if let Some(extra) = ask.operands.get(self.operands_max) {
            return Err(Refusal::usage(match self.operands {
                "" => format!("nothing can follow {name}, so `{extra}` means nothing"),
                operands => format!("{name} takes {operands}, so `{extra}` is too much"),
            }));
        }
        let known = |given: &&String| !self.switches.iter().any(|item| item.word() == **given);
        match ask.switches.iter().find(known) {
            Some(given) => Err(Refusal::usage(format!("{name} has no --{given}"))),
            None => Ok(()),
        }
    }
}

impl Switch {
    /// The long name without dashes, as it goes over the socket.
    pub fn word(&self) -> &'static str {
        self.long.trim_start_matches('-')
    }
}

fn logs(shared: &Shared, ask: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let fleet = &shared.instance.fleet;
    let slots = match ask.operand() {
        Some(name) => names::workers(&fleet.snapshot(), name)?
            .iter()
            .map(|worker| worker.slot)
            .collect(),
        None => Vec::new(),
    };
    fleet.send_logs(reply.socket()?, slots, ask.has("follow"));
    Ok(Answer::Elsewhere)
}

struct Said {
    text: String,
    pid: u32,
    version: &'static str,
}

as_json!(to struct Said { text, pid, version });

impl Said {
    fn new(text: String) -> Said {
        Said {
            text,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// The socket is held open until the process has ended: that is what tells the client.
fn stop(shared: &Shared, _: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    reply.line(&Said::new(format!(
        "stopping sidekeeper {}",
        std::process::id()
    )))?;
    let socket = reply.socket()?;
    // Full: nobody has obeyed the orders before it yet, and they say the same.
    let _ = shared.instance.orders.try_send(Order::Stop);
    // One descriptor for each who asks; the process is about to end.
    std::mem::forget(socket);
    Ok(Answer::Elsewhere)
}

fn version(_: &Shared, _: &Ask, reply: &mut Reply) -> Result<Answer, Refusal> {
    let running = format!(
        "running: sidekeeper {} (pid {})",
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    );
    reply.line(&Said::new(running))?;
    Ok(Answer::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ask::EXIT_USAGE;

    #[test]
    fn requests_are_read_strictly() {
        let table = [
            (r#"{"command":"status"}"#, None),
            (
                r#"{"command":"logs","operands":["chat"],"switches":["follow"]}"#,
                None,
            ),
            (
                r#"{"command":"logs","operands":["chat","echo"]}"#,
                Some("too much"),
            ),
            (
                r#"{"command":"status","operands":["chat"]}"#,
                Some("means nothing"),
            ),
            (
                r#"{"command":"status","switches":["follow"]}"#,
                Some("no --follow"),
            ),
            (r#"{"command":"why"}"#, Some("needs SID|IP|REQUEST-ID")),
            (r#"{"command":"fly"}"#, Some("no command `fly`")),
            (r#"{"command":7}"#, Some("not a request")),
            ("", Some("not a request")),
        ];
        for (line, wanted) in table {
            match (understand(line.as_bytes()), wanted) {
                (Ok(_), None) => {}
                (Err(refusal), Some(part)) => {
                    assert!(refusal.text.contains(part), "{line}: {}", refusal.text);
                    assert_eq!(refusal.code, EXIT_USAGE);
                }
                (outcome, _) => panic!("{line}: {:?}", outcome.map(|(_, ask)| ask)),
            }
        }
    }

    #[test]
    fn names_and_sentences_are_fit_for_the_help() {
        for item in COMMANDS {
            assert!(item.name.chars().all(|c| c.is_ascii_lowercase()));
            assert!(
                item.help.len() > 20 && !item.help.ends_with('.'),
                "{}",
                item.name
            );
            assert!(item.operands_min <= item.operands_max);
        }
    }
}
