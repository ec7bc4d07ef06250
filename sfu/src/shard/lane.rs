//! From one shard to another: bounded queues of values, buffers come back to be used again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::forward::packet::Packet;
use crate::forward::track::SenderTime;
use crate::io::Waker;
use crate::limits::LANE_MESSAGES_MAX;
use crate::ports::{Kind, StreamKey};
use crate::session::transport::Path;

/// What shards tell one another.
#[derive(Debug)]
pub enum LaneMessage {
    /// Datagrams that reached the wrong shard (one GRO train).
    Datagrams {
        endpoint: usize,
        from: SocketAddr,
        segment_bytes: usize,
        bytes: Vec<u8>,
    },
    /// "That path is mine": the sender of `Datagrams` remembers it.
    Learned {
        path: Path,
    },
    /// "That path is nobody's now."
    Forget {
        path: Path,
    },
    /// A packet for the subscribers of the receiving shard.
    Packet {
        stream: StreamKey,
        kind: Kind,
        packet: Box<Packet>,
    },
    SenderTime {
        stream: StreamKey,
        kind: Kind,
        time: SenderTime,
    },
    /// The sending shard has subscribers of `stream`, or no more.
    Interest {
        stream: StreamKey,
        wanted: bool,
    },
    /// A subscriber of the sending shard needs a keyframe.
    Keyframe {
        stream: StreamKey,
    },
}

impl LaneMessage {
    /// May it be lost when the queue is full? Media may, what both sides must agree on may not.
    fn is_media(&self) -> bool {
        match self {
            LaneMessage::Datagrams { .. }
            | LaneMessage::Packet { .. }
            | LaneMessage::SenderTime { .. }
            | LaneMessage::Keyframe { .. } => true,
            LaneMessage::Learned { .. }
            | LaneMessage::Forget { .. }
            | LaneMessage::Interest { .. } => false,
        }
    }
}

/// One direction between two shards.
#[derive(Debug)]
struct Queue {
    messages: ArrayQueue<LaneMessage>,
    /// Buffers on their way back to who filled them.
    spent_packets: ArrayQueue<Box<Packet>>,
    spent_bytes: ArrayQueue<Vec<u8>>,
}

/// A shard's ends of the queues to and from one other shard.
#[derive(Debug)]
pub struct Lane {
    out: Arc<Queue>,
    inn: Arc<Queue>,
    waker: Waker,
    /// Lifecycle messages that found the queue full.
    held_back: VecDeque<LaneMessage>,
    woken: bool,
}

/// For each shard, its lane to each other shard (`None` to itself). Wakers come when the shards
/// have made their links.
pub struct Lanes(Vec<Vec<Arc<Queue>>>);

impl Lanes {
    pub fn new(shards: usize) -> Lanes {
        let queue = || {
            Arc::new(Queue {
                messages: ArrayQueue::new(LANE_MESSAGES_MAX),
                spent_packets: ArrayQueue::new(LANE_MESSAGES_MAX),
                spent_bytes: ArrayQueue::new(LANE_MESSAGES_MAX),
            })
        };
        // Alone a shard needs no queue, and the diagonal of the matrix is never used.
        let row = |from: usize| (0..shards).filter(|to| *to != from).map(|_| queue()).collect();
        Lanes((0..shards).map(row).collect())
    }

    fn queue(&self, from: usize, to: usize) -> Arc<Queue> {
        self.0[from][if to > from { to - 1 } else { to }].clone()
    }

    /// The lanes of `shard`, by the other's number.
    pub fn of(&self, shard: usize, wakers: &[Waker]) -> Vec<Option<Lane>> {
        let lane = |other: usize| {
            (other != shard).then(|| Lane {
                out: self.queue(shard, other),
                inn: self.queue(other, shard),
                waker: wakers[other].clone(),
                held_back: VecDeque::new(),
                woken: false,
            })
        };
        (0..wakers.len()).map(lane).collect()
    }
}

impl Lane {
    /// Queues `message`; false if it was dropped.
    pub fn send(&mut self, message: LaneMessage) -> bool {
        self.woken = true;
        if !message.is_media() && !self.held_back.is_empty() {
            // Behind those that wait already: of two interests the later one counts.
            self.held_back.push_back(message);
            return true;
        }
        match self.out.messages.push(message) {
            Ok(()) => true,
            Err(message) if message.is_media() => false,
            Err(message) => {
                self.held_back.push_back(message);
                true
            }
        }
    }

    pub fn receive(&self) -> Option<LaneMessage> {
        self.inn.messages.pop()
    }

    /// Once a turn: hands over what was held back and wakes the other shard if there is something.
    pub fn flush(&mut self) {
        while let Some(message) = self.held_back.pop_front() {
            if let Err(message) = self.out.messages.push(message) {
                self.held_back.push_front(message);
                break;
            }
            self.woken = true;
        }
        if std::mem::take(&mut self.woken) {
            self.waker.wake();
        }
    }

    /// Gives a packet back to the shard that filled it.
    pub fn give_back_packet(&self, packet: Box<Packet>) {
        // A full queue means that enough are on their way; this one is freed.
        let _ = self.inn.spent_packets.push(packet);
    }

    pub fn give_back_bytes(&self, bytes: Vec<u8>) {
        let _ = self.inn.spent_bytes.push(bytes);
    }

    /// A buffer that we filled earlier and that came back.
    pub fn spent_packet(&self) -> Option<Box<Packet>> {
        self.out.spent_packets.pop()
    }

    pub fn spent_bytes(&self) -> Vec<u8> {
        self.out.spent_bytes.pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_sides_must_agree_on_keeps_its_order_when_the_queue_is_full() {
        let lanes = Lanes::new(2);
        let wakers = [(); 2].map(|()| Waker::new().expect("an eventfd"));
        let mut here = lanes.of(0, &wakers).remove(1).expect("a lane to the other");
        let there = lanes.of(1, &wakers).remove(0).expect("a lane to the other");
        let stream = StreamKey(1);
        for _ in 0..LANE_MESSAGES_MAX {
            assert!(here.send(LaneMessage::Keyframe { stream }));
        }
        assert!(!here.send(LaneMessage::Keyframe { stream }), "media may be lost");
        assert!(here.send(LaneMessage::Interest { stream, wanted: true }));
        assert!(there.receive().is_some(), "one place is free again");
        assert!(here.send(LaneMessage::Interest { stream, wanted: false }));
        here.flush();
        while let Some(message) = there.receive() {
            assert!(!matches!(message, LaneMessage::Interest { wanted: false, .. }));
            if matches!(message, LaneMessage::Interest { .. }) {
                break;
            }
        }
        here.flush();
        let last = there.receive();
        assert!(matches!(last, Some(LaneMessage::Interest { wanted: false, .. })), "{last:?}");
    }
}
