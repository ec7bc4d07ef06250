//! The readers of the coordinator and of its peers, without the servers around them.
#![allow(dead_code, unused_imports, reason = "the servers use the rest")]

// `peer` names the coordinator's crate, whose modules are here.
extern crate self as coordinator;

#[path = "../../../peer/src/framing/mod.rs"]
pub mod framing;
#[path = "../../src/identity/mod.rs"]
pub mod identity;
#[path = "../../src/limits.rs"]
pub mod limits;
#[path = "../../src/object.rs"]
pub mod object;
#[path = "../../src/wire/mod.rs"]
pub mod wire;

pub mod ws;
