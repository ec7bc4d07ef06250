//! A foreign source of access decisions: opens the gate of whoever's label holds a given word.
//!
//! ```text
//! cargo run --release -- dev --decisions unix:/tmp/gates
//! cargo run --release -p sfu --example decision_source -- /tmp/gates demo
//! ```
//!
//! It shares no code with the relay but the layout of a gate command, on purpose: any language can
//! do this. Frames: length u16, type u8, body (see `sfu::ports::foreign`).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

const HELLO: u8 = 1;
const JOINED: u8 = 2;
const LEFT: u8 = 3;
const GATE: u8 = 16;

/// Ten bytes that name a subscription: shard u16, index u32, generation u32.
type Slot = [u8; 10];

struct Source {
    relay: UnixStream,
    allowed: String,
}

impl Source {
    fn connect(path: &str, allowed: &str) -> io::Result<Source> {
        Ok(Source { relay: UnixStream::connect(path)?, allowed: allowed.to_owned() })
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            let (kind, body) = self.read_frame()?;
            match (kind, body.split_first_chunk::<10>()) {
                (HELLO, _) if body == [1] => println!("connected; allowing {:?}", self.allowed),
                (HELLO, _) => return Err(io::Error::other("the relay speaks another version")),
                (JOINED, Some((slot, label))) => {
                    self.decide(slot, &String::from_utf8_lossy(label))?
                }
                (LEFT, Some((slot, _))) => println!("{} left", number(slot)),
                _ => return Err(io::Error::other(format!("unknown frame {kind}"))),
            }
        }
    }

    fn decide(&mut self, slot: &Slot, label: &str) -> io::Result<()> {
        let open = label.contains(&self.allowed);
        println!("{} {label:?}: {}", number(slot), if open { "open" } else { "closed" });
        self.send_gate(slot, open)
    }

    /// One gate frame: shard u16, then the 32 bytes of a gate command.
    fn send_gate(&mut self, slot: &Slot, open: bool) -> io::Result<()> {
        let mut command = [0_u8; 32];
        command[0] = u8::from(open); // op: 1 opens, 0 closes
        command[4..12].copy_from_slice(&slot[2..]); // index, generation
        command[12] = 255; // every layer
        // valid_until stays 0: until told otherwise. A payer's deadline would stand here.
        let mut frame = vec![0, 35, GATE];
        frame.extend_from_slice(&slot[..2]);
        frame.extend_from_slice(&command);
        self.relay.write_all(&frame)
    }

    fn read_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 3];
        self.relay.read_exact(&mut head)?;
        let body_bytes = usize::from(u16::from_be_bytes([head[0], head[1]])).saturating_sub(1);
        let mut body = vec![0; body_bytes];
        self.relay.read_exact(&mut body)?;
        Ok((head[2], body))
    }
}

fn number(slot: &Slot) -> u32 {
    u32::from_be_bytes([slot[2], slot[3], slot[4], slot[5]])
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, allowed] = &arguments[..] else {
        eprintln!(
            "usage: decision_source SOCKET WORD\n\nOpens the gate of subscribers whose label contains WORD."
        );
        std::process::exit(2);
    };
    Source::connect(path, allowed)?.run()
}
