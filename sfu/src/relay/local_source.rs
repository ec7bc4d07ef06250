//! A publisher inside the process: its packets reach the home shard as commands.

use crossbeam_channel::Sender;

use crate::forward::codec;
use crate::forward::packet::{Format, Pool};
use crate::io::Waker;
use crate::ports::{Codec, Kind, StreamKey};
use crate::shard::Command;

/// A publisher inside the process: RTP without sockets or keys.
#[derive(Debug)]
pub struct LocalSource {
    stream: StreamKey,
    codecs: Vec<Codec>,
    commands: Sender<Command>,
    waker: Waker,
    /// Extended sequence number last pushed, by kind.
    sequences: [u64; 2],
}

impl LocalSource {
    pub(super) fn new(
        stream: StreamKey,
        codecs: Vec<Codec>,
        commands: Sender<Command>,
        waker: Waker,
    ) -> LocalSource {
        LocalSource { stream, codecs, commands, waker, sequences: [u64::from(u16::MAX); 2] }
    }

    /// Hands over one packet; `sequence` is that of its RTP stream and wraps. False if the payload
    /// is too long, the kind has no codec here, or the shard is too busy to take it.
    pub fn push(
        &mut self,
        kind: Kind,
        marker: bool,
        sequence: u16,
        timestamp: u32,
        payload: &[u8],
    ) -> bool {
        let Some(codec) = self.codecs.iter().copied().find(|codec| codec.kind() == kind) else {
            return false;
        };
        let mut packet = Pool::default().take();
        if !packet.copy_payload(payload) {
            return false;
        }
        let last = &mut self.sequences[kind as usize];
        let step = sequence.wrapping_sub(*last as u16);
        *last += u64::from(step);
        packet.sequence = *last;
        packet.timestamp = timestamp;
        packet.marker = marker;
        packet.epoch = 1;
        packet.format = Format::plain(codec);
        packet.starts_keyframe = codec::starts_keyframe(codec, payload);
        let taken = self.commands.try_send(Command::Ingest(self.stream, kind, packet)).is_ok();
        self.waker.wake();
        taken
    }

    pub fn stream(&self) -> StreamKey {
        self.stream
    }
}

impl Drop for LocalSource {
    fn drop(&mut self) {
        if self.commands.send(Command::EndStream(self.stream)).is_ok() {
            self.waker.wake();
        }
    }
}
