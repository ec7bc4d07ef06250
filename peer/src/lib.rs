//! A command-line peer: data channels to browsers, Node and its like, found through a coordinator.
//!
//! Cores without sockets, clocks or tasks ([`framing`], [`nat`], [`connection`], [`mesh`],
//! [`files::Inbox`]), and the
//! shells around them: [`net`] has the sockets, [`signal`] the coordinator, [`task`] drives all.
//! Driving contract of every core: *after every input poll outputs until only a deadline remains*.

mod cli;
pub mod connection;
pub mod event;
pub mod files;
pub mod framing;
pub mod key;
pub mod mesh;
pub mod nat;
pub mod net;
pub mod signal;
pub mod task;

pub use cli::{command, run};
