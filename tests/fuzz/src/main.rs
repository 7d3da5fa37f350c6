//! Fuzzers on the stable toolchain: the same dice always throw the same inputs. Every target is a
//! function from bytes to what was decided (a sentence), or to a violation. An input whose
//! sentence is new is kept and mutated further, which stands in for measured coverage.
//!
//! The HTTP room is the product's own; what it makes of an input is compared with a second,
//! naive reading of the grammar (`naive`) that shares no code with it.

mod bench;
mod bodies;
mod connections;
mod corpus;
mod heads;
mod mutate;
mod naive;

use corpus::Corpus;
use echo_wire::filler::Dice;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str =
    "usage: fuzz [--seconds N] [--seed N] [--grow] [--corpus DIR] [--sidekeeper FILE] [TARGET...]
Targets: request response chunks connection answer (default: all). Without --seconds the corpus is
replayed. What is found is added to the corpus; --grow adds what is merely new.";

/// What was decided, or what is wrong.
pub type Verdict = Result<String, String>;

/// Something that takes inputs.
pub trait Target {
    fn seeds(&self) -> Vec<Vec<u8>>;
    fn dictionary(&self) -> &'static [&'static [u8]];
    fn run(&mut self, input: &[u8]) -> Verdict;
}

struct Orders {
    seconds: Option<u64>,
    seed: u64,
    grow: bool,
    corpus: PathBuf,
    sidekeeper: PathBuf,
    targets: Vec<String>,
}

fn orders() -> Option<Orders> {
    let mut orders = Orders {
        seconds: None,
        seed: 1,
        grow: false,
        corpus: PathBuf::from("tests/fuzz/corpus"),
        sidekeeper: PathBuf::from("target/debug/sidekeeper"),
        targets: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => orders.seconds = Some(words.next()?.parse().ok()?),
            "--seed" => orders.seed = words.next()?.parse().ok()?,
            "--grow" => orders.grow = true,
            "--corpus" => orders.corpus = words.next()?.into(),
            "--sidekeeper" => orders.sidekeeper = words.next()?.into(),
            name if !name.starts_with('-') => orders.targets.push(word),
            _ => return None,
        }
    }
    if orders.targets.is_empty() {
        orders.targets = ["request", "response", "chunks", "connection", "answer"]
            .map(str::to_owned)
            .to_vec();
    }
    Some(orders)
}

fn main() -> ExitCode {
    let Some(orders) = orders() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut fine = true;
    for name in &orders.targets {
        let target: Result<Box<dyn Target>, String> = match name.as_str() {
            "request" => Ok(Box::new(heads::Requests)),
            "response" => Ok(Box::new(heads::Responses)),
            "chunks" => Ok(Box::new(bodies::Chunks)),
            "connection" => connections::requests(&orders.sidekeeper),
            "answer" => connections::answers(&orders.sidekeeper),
            _ => Err("there is no such target".to_owned()),
        };
        match target {
            Ok(mut target) => fine &= fuzz(&orders, name, &mut *target),
            Err(problem) => {
                println!("not ok - {name}: {problem}");
                fine = false;
            }
        }
    }
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Replays the corpus, then goes on with mutations for as long as was asked.
fn fuzz(orders: &Orders, name: &str, target: &mut dyn Target) -> bool {
    let mut corpus = Corpus::open(&orders.corpus, name);
    let mut pool = target.seeds();
    pool.extend(corpus.inputs.iter().cloned());
    let (mut seen, mut runs, mut found) = (HashSet::new(), 0u64, 0);
    for input in &pool {
        runs += 1;
        match attempt(target, input) {
            Ok(sentence) => drop(seen.insert(sentence)),
            Err(violation) => {
                found += 1;
                println!("not ok - {name}: {violation}\n#   {}", input.escape_ascii());
            }
        }
    }
    let share = orders
        .seconds
        .map(|all| all as f64 / orders.targets.len() as f64);
    let end = Instant::now() + Duration::from_secs_f64(share.unwrap_or(0.0));
    let mut dice = Dice::new(orders.seed);
    while Instant::now() < end && found < 5 {
        let input = mutate::next(&mut dice, &pool, target.dictionary());
        runs += 1;
        match attempt(target, &input) {
            Ok(sentence) => {
                if seen.insert(sentence) && input.len() < 4000 {
                    if orders.grow && input.len() < 300 && corpus.has_room() {
                        corpus.add(&input);
                    }
                    pool.push(input);
                }
            }
            Err(violation) => {
                found += 1;
                let small = mutate::shrink(input, |less| attempt(target, less).is_err());
                corpus.add(&small);
                println!("not ok - {name}: {violation}\n#   {}", small.escape_ascii());
            }
        }
    }
    let kept = pool.len();
    if found == 0 {
        println!(
            "ok - {name}: {runs} runs, {kept} kept, {} decisions, no violation",
            seen.len()
        );
    }
    found == 0
}

fn attempt(target: &mut dyn Target, input: &[u8]) -> Verdict {
    catch_unwind(AssertUnwindSafe(|| target.run(input))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}
