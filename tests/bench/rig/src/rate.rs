//! Load at a constant rate. Each connection has a thread and a timetable of its own; a latency runs
//! from when a request was due, so an answer that comes late makes the next ones late as well and
//! nothing is left out (no coordinated omission).

use crate::latency::Latencies;
use crate::options::{Options, wrong};
use crate::websocket::head_end;
use echo_wire::wire::Address;
use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

pub fn run(options: &Options) -> io::Result<()> {
    let connections: u32 = options.number("connections", 64)?;
    let rate: f64 = options.number("rate", 5000.0)?;
    let between = Duration::from_secs_f64(f64::from(connections) / rate);
    let time = options.time()?;
    let address = Address::parse(options.to()?);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: bench\r\n\r\n",
        options.text("path", "/small")
    );
    let begin = Instant::now() + Duration::from_millis(200);
    let threads: Vec<_> = (0..connections)
        .map(|number| {
            let mut stream = address.connect()?;
            let request = request.clone();
            let first = begin + between * number / connections;
            thread::Builder::new()
                .stack_size(128 << 10)
                .spawn(move || keep_time(&mut stream, request.as_bytes(), first, between, time))
        })
        .collect::<io::Result<_>>()?;
    let mut latencies = Latencies::default();
    let mut errors = 0;
    for thread in threads {
        match thread.join() {
            Ok(Ok(some)) => latencies.append(some),
            Ok(Err(_)) | Err(_) => errors += 1,
        }
    }
    let seconds = (begin.elapsed()).as_secs_f64();
    println!(
        "{{\"count\": {}, \"seconds\": {seconds:.4}, \"errors\": {errors}, {}}}",
        latencies.count(),
        latencies.json()
    );
    Ok(())
}

fn keep_time(
    stream: &mut (impl Read + Write),
    request: &[u8],
    first: Instant,
    between: Duration,
    time: Duration,
) -> io::Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut due = first;
    let mut buffer = [0; 4096];
    while due.saturating_duration_since(first) < time {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request)?;
        let mut have = 0;
        loop {
            let count = stream.read(buffer.get_mut(have..).unwrap_or_default())?;
            if count == 0 {
                return Err(wrong("the connection was closed"));
            }
            have += count;
            // A small answer: its body comes with its head, and is 128 bytes long.
            if head_end(&buffer[..have]).is_some_and(|end| have >= end + 128) {
                break;
            }
        }
        latencies.add(due.elapsed());
        due += between;
    }
    Ok(latencies)
}
