//! A session's end of the side channel: which data channel it is, what came over it, what may leave.

use std::sync::Arc;

use str0m::Rtc;
use str0m::channel::{ChannelData, ChannelId};

use crate::limits::{FRAME_BYTES_MAX, FRAMES_PER_SESSION_MAX, FRAMES_UNACKNOWLEDGED_BYTES_MAX};

/// What happened on the side channel, in order.
#[derive(Debug)]
pub enum SideEvent {
    Opened,
    /// A second channel with the label; the first stays the one.
    Refused,
    /// A frame, and its place among those that wait.
    Frame(Box<[u8]>, Arc<()>),
    /// As many frames as may wait for the owner already do.
    DroppedWaiting,
    DroppedTooLong,
    DroppedText,
}

/// The side channel of a session; exists from its first opening on.
#[derive(Debug)]
pub struct SideChannel {
    /// `None` after the peer closed it, until it opens another.
    id: Option<ChannelId>,
    /// One more holder for each frame that waits for the owner.
    places: Arc<()>,
}

/// A peer opened a data channel with the side channel's label.
pub fn handle_open(side: &mut Option<SideChannel>, id: ChannelId) -> SideEvent {
    let side = side.get_or_insert_with(|| SideChannel { id: None, places: Arc::new(()) });
    if side.id.is_some() {
        return SideEvent::Refused;
    }
    side.id = Some(id);
    SideEvent::Opened
}

impl SideChannel {
    /// A message of any data channel; `None` if it is of another than this.
    pub fn handle_data(&self, message: ChannelData) -> Option<SideEvent> {
        if self.id != Some(message.id) {
            return None;
        }
        Some(if !message.binary {
            SideEvent::DroppedText
        } else if message.data.len() > FRAME_BYTES_MAX {
            SideEvent::DroppedTooLong
        } else if Arc::strong_count(&self.places) > FRAMES_PER_SESSION_MAX {
            SideEvent::DroppedWaiting
        } else {
            SideEvent::Frame(message.data.into_boxed_slice(), self.places.clone())
        })
    }

    /// Any data channel closed.
    pub fn handle_close(&mut self, id: ChannelId) {
        self.id = self.id.filter(|own| *own != id);
    }

    /// Queues a frame for the peer. False: the channel is not open, or the peer takes nothing.
    pub fn write(&self, rtc: &mut Rtc, frame: &[u8]) -> bool {
        let Some(mut channel) = self.id.and_then(|id| rtc.channel(id)) else { return false };
        let has_room = channel.buffered_amount() + frame.len() <= FRAMES_UNACKNOWLEDGED_BYTES_MAX;
        has_room && channel.write(true, frame).unwrap_or(false)
    }
}
