//! Every JSON of the specification, sent to a real server by the real curl and over WebSockets; each
//! answer has exactly the keys and the types that the specification shows.
#![allow(clippy::unwrap_used)] // A test may panic.

mod examples;
mod http;
mod options;
mod socket;
mod world;
