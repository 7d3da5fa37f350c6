//! Holds connections that say nothing, after one request or one handshake each, until stdin ends.

use crate::options::{Options, wrong};
use crate::websocket::{self, head_end};
use echo_wire::wire::Address;
use std::io::{self, Read, Write};
use std::time::Duration;

pub fn run(options: &Options) -> io::Result<()> {
    let connections: usize = options.number("connections", 5000)?;
    let address = Address::parse(options.to()?);
    let request = if options.text("kind", "http") == "ws" {
        websocket::handshake("/ws", "bench")
    } else {
        b"GET /small HTTP/1.1\r\nHost: bench\r\n\r\n".to_vec()
    };
    let mut held = Vec::with_capacity(connections);
    let mut buffer = [0; 4096];
    for _ in 0..connections {
        let mut stream = address.connect()?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&request)?;
        let mut have = 0;
        while head_end(&buffer[..have]).is_none() {
            let count = stream.read(&mut buffer[have..])?;
            if count == 0 {
                return Err(wrong("a connection was refused"));
            }
            have += count;
        }
        held.push(stream);
    }
    println!("{{\"count\": {}}}", held.len());
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
