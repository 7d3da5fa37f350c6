//! One WebSocket that streams 64 KiB frames in one direction, as fast as it goes.

use crate::options::{Options, wrong};
use crate::websocket::{self, BINARY, head_end};
use echo_wire::wire::Address;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

pub fn run(options: &Options) -> io::Result<()> {
    let up = options.text("direction", "up") == "up";
    let path = if up { "/ws-sink" } else { "/ws-source" };
    let time = options.time()?;
    let mut stream = Address::parse(options.to()?).connect()?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&websocket::handshake(path, "bench"))?;
    let mut buffer = vec![0; 256 << 10];
    let mut have = 0;
    while head_end(&buffer[..have]).is_none() {
        let count = stream.read(&mut buffer[have..])?;
        if count == 0 {
            return Err(wrong("the upgrade was refused"));
        }
        have += count;
    }
    let frame = websocket::frame(BINARY, &vec![b'x'; 64 << 10], true);
    let begun = Instant::now();
    let mut bytes = 0;
    while begun.elapsed() < time {
        bytes += if up {
            stream.write_all(&frame)?;
            frame.len()
        } else {
            stream.read(&mut buffer)?
        };
    }
    println!(
        "{{\"bytes\": {bytes}, \"seconds\": {:.4}}}",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}
