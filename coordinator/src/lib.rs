//! Rooms and signalling for peers that talk to each other directly (`docs/coordinator.md`).
//!
//! The core (`room`, `peers`, `queue`, `signaling`, `tokens`, `state`) is sans-IO: it takes what a
//! peer asked and the time, changes what is remembered, and puts frames into the outboxes of
//! [`link::Link`]s; after every call all that follows from it is in those outboxes or in queues.
//! The edge (`http`, `ws`) moves bytes. Who hosts it fills the [`Ports`].

pub mod coordinator;
pub mod http;
pub mod identity;
pub mod limits;
pub mod link;
pub mod peers;
pub mod queue;
pub mod room;
pub mod signaling;
pub mod state;
pub mod tokens;
pub mod wire;
pub mod ws;

mod answers;
mod clock;
mod codes;
mod error;
mod figures;
mod intake;
mod object;
mod options;
mod portable;
mod ports;
mod proxies;
mod sessions;
mod shards;
mod turn;

pub use clock::Now;
pub use coordinator::{Coordinator, JoinRequest};
pub use error::Refusal;
pub use figures::Figures;
pub use limits::{Limits, Rate};
pub use options::{Cors, Mode, Options, OptionsError, STUN_DEFAULT, Turn, TurnSecret};
pub use ports::{Admission, Applicant, Directory, MediaControl, PortFuture, Ports, Refused};
pub use proxies::Network;
pub use sessions::Caller;
