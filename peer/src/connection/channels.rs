//! The data channels of a connection: frames that wait for room in ours, and what comes out of all.

use std::{collections::VecDeque, time::Instant};

use str0m::{Rtc, RtcError, channel::ChannelId};

use super::Event;
use crate::framing::{
    Assembler, Batcher, Body, CHANNEL_LABEL, Compression, FrameError, Message, Trust,
};

/// Below this much that waits, a sender that holds back may go on.
const WRITABLE_BELOW_BYTES: usize = 128 * 1024;
/// Frames that wait here. A message beyond is refused.
const QUEUED_BYTES_MAX: usize = 16 << 20;
/// Of a label that the peer has chosen; the rest is cut.
const RAW_LABEL_CHARS_MAX: usize = 64;

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Not yet, or no longer.
    #[error("the channel is not open")]
    NotOpen,
    /// More waits than a sender may pile up.
    #[error("too much waits for this peer already: send slower")]
    Full,
    /// It does not fit a frame's rules.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Ours, and others that the peer has opened.
#[derive(Default)]
pub(super) struct Channels {
    ours: Option<ChannelId>,
    raw: Vec<(ChannelId, String)>,
    assembler: Assembler,
    batcher: Batcher,
    queued: VecDeque<Vec<u8>>,
    queued_bytes: usize,
}

impl Channels {
    /// Ours is open.
    pub fn open(&mut self, id: ChannelId) {
        self.ours = Some(id);
    }

    /// Whether this one is ours.
    pub fn is_ours(&self, id: ChannelId) -> bool {
        self.ours == Some(id)
    }

    /// One with another label is open.
    pub fn open_raw(&mut self, id: ChannelId, label: &str) {
        self.raw.push((id, label.chars().take(RAW_LABEL_CHARS_MAX).collect()));
    }

    /// One with another label is closed.
    pub fn close_raw(&mut self, id: ChannelId) {
        self.raw.retain(|(known, _)| *known != id);
    }

    /// Takes a message for ours.
    ///
    /// # Errors
    /// Too much waits, or it does not fit a frame's rules.
    pub fn push(
        &mut self,
        message: Message,
        compression: Compression,
        now: Instant,
    ) -> Result<(), SendError> {
        if self.queued_bytes + message.body.as_bytes().len() > QUEUED_BYTES_MAX {
            return Err(SendError::Full);
        }
        let frames = self.batcher.push(message, compression, now)?;
        self.queue(frames);
        Ok(())
    }

    /// Whether a sender that holds back may go on.
    pub fn is_writable(&self, rtc: &mut Rtc) -> bool {
        let channel = self.ours.and_then(|id| rtc.channel(id));
        let buffered = channel.map_or(0, |mut channel| channel.buffered_amount());
        self.queued_bytes + buffered < WRITABLE_BELOW_BYTES
    }

    /// When [`Channels::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.batcher.deadline()
    }

    /// Lets time pass: small messages do not wait for others for ever.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.flush();
        }
    }

    /// What waits for more, without the wait.
    pub fn flush(&mut self) {
        let frames = self.batcher.flush();
        self.queue(frames);
    }

    fn queue(&mut self, frames: Vec<Vec<u8>>) {
        self.queued_bytes += frames.iter().map(Vec::len).sum::<usize>();
        self.queued.extend(frames);
    }

    /// Hands over what there is room for.
    ///
    /// # Errors
    /// The channel's.
    pub fn write(&mut self, rtc: &mut Rtc) -> Result<(), RtcError> {
        while let Some(frame) = self.queued.front() {
            let Some(mut channel) = self.ours.and_then(|id| rtc.channel(id)) else { break };
            if !channel.write(true, frame)? {
                break; // No room: acknowledgements make some.
            }
            self.queued_bytes -= frame.len();
            self.queued.pop_front();
        }
        Ok(())
    }

    /// Nothing waits any more.
    pub fn clear(&mut self) {
        self.queued.clear();
        self.queued_bytes = 0;
    }

    /// Takes what came over any of them.
    pub fn handle_data(
        &mut self,
        id: ChannelId,
        is_binary: bool,
        data: &[u8],
        events: &mut VecDeque<Event>,
    ) {
        if self.is_ours(id) && is_binary {
            match self.assembler.push(data, Trust::Channel) {
                Ok(messages) => events.extend(messages.into_iter().map(Event::Message)),
                Err(error) => events.push_back(Event::Refused(error)),
            }
            return;
        }
        let label = self.raw.iter().find(|(known, _)| *known == id);
        let label = label.map_or(CHANNEL_LABEL, |(_, label)| label).to_owned();
        let body = match String::from_utf8(data.to_vec()) {
            Ok(text) if !is_binary => Body::Text(text),
            Ok(text) => Body::Bytes(text.into_bytes()),
            Err(error) => Body::Bytes(error.into_bytes()),
        };
        events.push_back(Event::Raw { label, body });
    }
}
