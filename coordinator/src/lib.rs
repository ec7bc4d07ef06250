//! Rooms and signalling for peers that talk to each other directly (`docs/coordinator.md`).
//!
//! The core (`room`, `peers`, `queue`, `signaling`, `tokens`, `state`) is sans-IO: it takes what a
//! peer asked and the time, changes what is remembered, and puts frames into the outboxes of
//! [`link::Link`]s; after every call all that follows from it is in those outboxes or in queues.
//! The edge (`http`, `ws`) moves bytes. Who hosts it fills the [`Ports`].

pub mod identity;
pub mod limits;
pub mod link;
pub mod queue;
pub mod signaling;
pub mod tokens;
pub mod wire;
pub mod ws;

mod clock;
mod error;
mod options;
mod ports;
mod shards;

pub use clock::Now;
pub use error::Refusal;
pub use limits::{Limits, Rate};
pub use options::{Cors, Mode, Options, OptionsError, STUN_DEFAULT, Turn, TurnSecret};
pub use ports::{Admission, Applicant, Directory, MediaControl, PortFuture, Ports, Refused};
