//! Every JSON of the specification, sent to a real server by the real curl and over WebSockets; each
//! answer has exactly the keys and the types that the specification shows.
#![allow(clippy::unwrap_used)] // A test may panic.

mod examples;
mod http;
#[allow(dead_code, reason = "the other binary uses the rest")]
mod options;
mod socket;
#[allow(dead_code, reason = "the other binary uses the rest")]
mod world;
