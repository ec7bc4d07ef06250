//! The shard's part of the side channel: frames to the owner, frames to peers, each in bounds.

use super::core::Core;
use crate::ports::Frame;
use crate::ports::side_channel::FrameOut;
use crate::session::side_channel::SideEvent;

impl Core {
    /// The oldest frame that the owner has not been handed.
    pub fn next_frame(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// A frame for a peer. Without an open side channel it is dropped and counted.
    pub(crate) fn handle_frame_out(&mut self, frame: &FrameOut) {
        match self.by_key.get(&frame.session).copied() {
            Some(index) => {
                self.write_frame(index, &frame.bytes);
                self.drive(index);
            }
            None => self.counters.side_dropped_unsent_frames += 1,
        }
    }

    pub(super) fn write_frame(&mut self, index: usize, frame: &[u8]) {
        let Some(session) = self.sessions[index].as_mut() else { return };
        match session.write_frame(frame) {
            true => self.counters.side_sent_frames += 1,
            false => self.counters.side_dropped_unsent_frames += 1,
        }
    }

    /// What [`crate::session::transport::Session::drive`] saw on the side channel.
    pub(super) fn note_side_events(&mut self, index: usize, events: Vec<SideEvent>) {
        let Some(session) = self.sessions[index].as_ref() else { return };
        let (key, slot) = (session.key, session.slot);
        let counters = &mut self.counters;
        for event in events {
            match event {
                SideEvent::Opened => counters.side_channels_opened += 1,
                SideEvent::Refused => counters.side_channels_refused += 1,
                SideEvent::Frame(bytes, place) => {
                    counters.side_received_frames += 1;
                    self.frames.push_back(Frame::waiting(key, slot, bytes, place));
                }
                SideEvent::DroppedWaiting => counters.side_dropped_waiting_frames += 1,
                SideEvent::DroppedTooLong => counters.side_dropped_too_long_frames += 1,
                SideEvent::DroppedText => counters.side_dropped_text_frames += 1,
            }
        }
    }
}
