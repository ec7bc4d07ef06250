//! What an attacker does, by name: refused with the documented code, and others do not notice.
#![allow(clippy::unwrap_used)] // A test may panic.

mod floods;
mod identity;
#[path = "../spec/options.rs"]
#[allow(dead_code, reason = "the other binary uses the rest")]
mod options;
mod party;
mod rooms;
#[path = "../spec/world.rs"]
#[allow(dead_code, reason = "the other binary uses the rest")]
mod world;
