//! The side channel: opaque frames between a peer and an owner beside the shards, over one data
//! channel of the peer's own transport.
//!
//! The relay reads nothing in a frame. A lost frame is the owner's to repair: nothing here waits.

use std::sync::Arc;

use super::{SessionKey, SlotId};

/// Which data channel is the side channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideChannelConfig {
    /// Its label (RFC 8832 §5.1), to the byte; channels with another label are ignored.
    pub label: String,
}

/// A binary message of a peer, up to [`crate::limits::FRAME_BYTES_MAX`] long.
#[derive(Debug, Clone)]
pub struct Frame {
    pub session: SessionKey,
    /// Only subscribers hold a slot.
    pub slot: Option<SlotId>,
    pub bytes: Box<[u8]>,
    /// Shared with the session, which counts the holders: while this frame lives, it waits.
    _place: Option<Arc<()>>,
}

impl Frame {
    /// A frame that takes none of its session's places, as an owner's tests want it.
    pub fn new(session: SessionKey, slot: Option<SlotId>, bytes: Box<[u8]>) -> Frame {
        Frame { session, slot, bytes, _place: None }
    }

    /// A frame that takes one of its session's [`crate::limits::FRAMES_PER_SESSION_MAX`] places
    /// until it is dropped.
    pub(crate) fn waiting(
        session: SessionKey,
        slot: Option<SlotId>,
        bytes: Box<[u8]>,
        place: Arc<()>,
    ) -> Frame {
        Frame { session, slot, bytes, _place: Some(place) }
    }
}

/// A frame for a peer, on its way to the shard.
#[derive(Debug)]
pub(crate) struct FrameOut {
    pub session: SessionKey,
    pub bytes: Vec<u8>,
}
