//! The server from outside: real HTTP and WebSockets against a coordinator on a free port.

#![allow(clippy::unwrap_used)] // A test may panic.

mod compression;
mod hosting;
mod party;
mod poll;
mod presence;
mod private;
mod resume;
