//! What a peer tells its user.

use std::time::Duration;

use crate::{
    connection::CloseReason,
    framing::{Body, Message},
    signal::{SignalError, Transport},
};

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// We are in the room, again after each loss of the coordinator.
    Joined {
        /// How the coordinator is spoken to.
        transport: Transport,
    },
    /// Somebody is in the room.
    PeerJoined {
        /// Its id.
        id: String,
        /// Its name, which anybody may choose.
        name: String,
    },
    /// Somebody is no longer.
    PeerLeft {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// A channel is open.
    Connected {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// The key of its id has signed the certificate of the connection.
        is_verified: bool,
    },
    /// A channel is closed, or never opened.
    Disconnected {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// Whether there was a [`Event::Connected`].
        was_open: bool,
        /// Why.
        reason: CloseReason,
    },
    /// A message.
    Message {
        /// Its sender's id.
        from: String,
        /// Its sender's name.
        name: String,
        /// What it says.
        message: Message,
    },
    /// Data of a channel that carries no frames.
    Raw {
        /// Its sender's id.
        from: String,
        /// Its sender's name.
        name: String,
        /// The channel's.
        label: String,
        /// What it says.
        body: Body,
    },
    /// The coordinator is lost; channels stay.
    CoordinatorLost {
        /// What happened.
        why: String,
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// Something was dropped or cannot be used.
    Warning(String),
    /// The coordinator will not have us: the last event.
    Refused(SignalError),
}
