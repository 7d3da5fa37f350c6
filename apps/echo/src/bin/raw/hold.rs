//! Many connections held at once, each having played the same script. Says `held N` when all of
//! them stand, then watches them until they are done, the file of `--while` is gone, or time is up.

use crate::script::Step;
use crate::talk::{Conversation, Ending, Reading};
use echo_wire::wire::Address;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub struct Hold<'a> {
    pub count: usize,
    pub script: &'a [Step],
    pub until: Option<Vec<u8>>,
    pub hold_while: Option<&'a Path>,
    pub deadline: Instant,
}

/// True if every connection stood and, with `until`, every one got what it waited for.
pub fn run(address: &Address, hold: &Hold) -> io::Result<bool> {
    let mut held = Vec::new();
    for i in 0..hold.count {
        let mut conversation = Conversation::open(address, Reading::default(), hold.deadline)
            .map_err(|error| io::Error::new(error.kind(), format!("connection {i}: {error}")))?;
        if let Some(ending) = conversation.play(hold.script)?
            && ending != Ending::Found
        {
            eprintln!("raw: connection {i}: {ending:?} during the script");
        }
        held.push(conversation);
    }
    println!("held {}", held.len());
    io::stdout().flush()?;
    match &hold.until {
        Some(pattern) => Ok(wait_for_answers(held, pattern)),
        None => Ok(wait_for_the_end(&held, hold)),
    }
}

fn wait_for_answers(held: Vec<Conversation>, pattern: &[u8]) -> bool {
    let total = held.len();
    let (said, heard) = mpsc::channel();
    for mut conversation in held {
        let (said, pattern) = (said.clone(), pattern.to_vec());
        let thread = thread::Builder::new().stack_size(128 << 10);
        let spawned = thread.spawn(move || said.send(conversation.wait_for(&pattern)));
        if spawned.is_err() {
            eprintln!("raw: no thread for a connection");
        }
    }
    drop(said);
    let answered = heard
        .iter()
        .filter(|ending| *ending == Ending::Found)
        .count();
    println!("answered {answered} of {total}");
    answered == total
}

fn wait_for_the_end(held: &[Conversation], hold: &Hold) -> bool {
    let wanted = || hold.hold_while.is_none_or(Path::exists);
    let open = || {
        held.iter()
            .filter(|conversation| !conversation.has_ended())
            .count()
    };
    while wanted() && open() > 0 && Instant::now() < hold.deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let answered = held
        .iter()
        .filter(|conversation| conversation.received() > 0)
        .count();
    println!(
        "open {} ended {} answered {answered}",
        open(),
        held.len() - open()
    );
    true
}
