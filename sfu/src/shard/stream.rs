//! A live stream as one shard sees it: up to two tracks, and the slots of its subscribers here.

use crate::forward::gate::Gates;
use crate::forward::track::Track;
use crate::ports::{Kind, StreamKey};

/// A stream on one shard: its home, or one with subscribers of it.
#[derive(Debug)]
pub struct Stream {
    pub key: StreamKey,
    /// Shard of the publisher.
    pub home: u16,
    /// Publisher's session, on its home shard.
    pub publisher: Option<usize>,
    /// An in-process source feeds the stream: keyframes are asked of control.
    pub is_local: bool,
    tracks: [Option<Box<Track>>; 2],
    /// Epoch of the next publisher's track.
    pub next_epoch: u32,
    pub gates: Gates,
    /// Session of each slot, by its bit.
    pub slots: Vec<Option<usize>>,
    /// Other shards that want the packets, a bit each.
    pub interested: u64,
    pub received_packets: u64,
    pub received_bytes: u64,
}

impl Stream {
    pub fn new(key: StreamKey, home: u16) -> Stream {
        Stream {
            key,
            home,
            publisher: None,
            is_local: false,
            tracks: [None, None],
            next_epoch: 1,
            gates: Gates::default(),
            slots: Vec::new(),
            interested: 0,
            received_packets: 0,
            received_bytes: 0,
        }
    }

    pub fn track(&self, kind: Kind) -> Option<&Track> {
        self.tracks[kind as usize].as_deref()
    }

    pub fn track_mut(&mut self, kind: Kind) -> &mut Track {
        self.tracks[kind as usize].get_or_insert_with(|| Box::new(Track::new(kind)))
    }

    pub fn existing_track_mut(&mut self, kind: Kind) -> Option<&mut Track> {
        self.tracks[kind as usize].as_deref_mut()
    }

    /// Track, gates and slots at once, for the fan-out.
    pub fn parts(&mut self, kind: Kind) -> (Option<&mut Track>, &mut Gates, &[Option<usize>]) {
        (self.tracks[kind as usize].as_deref_mut(), &mut self.gates, &self.slots)
    }

    /// Gives `session` a slot of the stream, closed.
    pub fn add_slot(&mut self, session: usize) -> usize {
        let bit = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if bit == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[bit] = Some(session);
        self.gates.add(bit);
        bit
    }

    pub fn remove_slot(&mut self, bit: usize) {
        self.gates.close(bit);
        self.slots[bit] = None;
    }

    pub fn subscribers(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    pub fn has_pending(&self) -> bool {
        self.tracks.iter().flatten().any(|track| !track.pending.is_empty())
    }
}
