//! A steady load of GETs that counts what fails: what a test asks of a proxy whose workers are
//! being killed. Not a benchmark.

use crate::http::{Answer, read_answer};
use echo_wire::wire::{Address, Stream};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

pub struct Load {
    pub address: Address,
    pub targets: Vec<String>,
    pub connections: usize,
    /// Requests a connection; none means until `end` or until `load_while` is gone.
    pub count: Option<usize>,
    pub end: Instant,
    pub load_while: Option<PathBuf>,
    /// Longest wait for one answer.
    pub answer_max: Duration,
    /// A new connection for every request.
    pub fresh: bool,
    pub pause: Duration,
    pub status: u16,
    /// Every body must be the same as the first one of its target.
    pub same: bool,
    pub fields: String,
}

#[derive(Default)]
struct Tally {
    requests: usize,
    failures: Vec<String>,
    slowest: Duration,
    workers: BTreeMap<String, usize>,
}

/// True if nothing failed and something was asked.
pub fn run(load: Load) -> bool {
    let load = Arc::new(load);
    let threads: Vec<_> = (0..load.connections)
        .map(|i| {
            let load = Arc::clone(&load);
            thread::spawn(move || one_client(&load, i))
        })
        .collect();
    let mut total = Tally::default();
    for thread in threads {
        let Ok(tally) = thread.join() else {
            total.failures.push("a client panicked".to_owned());
            continue;
        };
        total.requests += tally.requests;
        total.slowest = total.slowest.max(tally.slowest);
        total.failures.extend(tally.failures);
        for (worker, count) in tally.workers {
            *total.workers.entry(worker).or_default() += count;
        }
    }
    for failure in total.failures.iter().take(10) {
        eprintln!("raw: {failure}");
    }
    let workers: Vec<String> = total
        .workers
        .iter()
        .map(|(worker, count)| format!("{worker}:{count}"))
        .collect();
    println!(
        "requests {} failed {} slowest_ms {} workers {}",
        total.requests,
        total.failures.len(),
        total.slowest.as_millis(),
        workers.join(",")
    );
    total.failures.is_empty() && total.requests > 0
}

fn one_client(load: &Load, index: usize) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<BufReader<Stream>> = None;
    let mut first_bodies: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let goes_on = |done: usize| {
        load.count.is_none_or(|count| done < count)
            && Instant::now() < load.end
            && load.load_while.as_ref().is_none_or(|path| path.exists())
    };
    while goes_on(tally.requests) {
        let target = &load.targets[(index + tally.requests) % load.targets.len()];
        let reused = kept.is_some();
        let begun = Instant::now();
        let outcome = exchange(load, &mut kept, target);
        tally.requests += 1;
        tally.slowest = tally.slowest.max(begun.elapsed());
        let failure = match outcome {
            Err(error) => {
                kept = None;
                Some(format!("{error} ({:?})", error.kind()))
            }
            Ok(answer) if answer.status != load.status => Some(format!("status {}", answer.status)),
            Ok(answer) => {
                let worker = answer.field("x-worker").unwrap_or("?").to_owned();
                *tally.workers.entry(worker).or_default() += 1;
                let first = first_bodies
                    .entry(target)
                    .or_insert_with(|| answer.body.clone());
                (load.same && *first != answer.body)
                    .then(|| "body differs from the first one".to_owned())
            }
        };
        if let Some(failure) = failure {
            let connection = if reused { "kept" } else { "new" };
            tally.failures.push(format!(
                "GET {target} on a {connection} connection: {failure}"
            ));
        }
        thread::sleep(load.pause);
    }
    tally
}

fn exchange(load: &Load, kept: &mut Option<BufReader<Stream>>, target: &str) -> io::Result<Answer> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = load.address.connect()?;
            stream.set_read_timeout(Some(load.answer_max))?;
            BufReader::new(stream)
        }
    };
    let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n{}\r\n", load.fields);
    stream.get_mut().write_all(request.as_bytes())?;
    let answer = read_answer(&mut stream)?;
    if answer.keeps_alive && !load.fresh {
        *kept = Some(stream);
    }
    Ok(answer)
}
