//! A relay on loopback, its control side in the test's hands.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use sfu::io::{Endpoint, LinkKind};
use sfu::ports::{
    CloseReason, Event, Frame, GateSender, SessionKey, SideChannelConfig, SlotId, SlotUsage,
    StreamKey, UsageReport,
};
use sfu::{Relay, RelayConfig, Runs, Started, generate_certificate};

use super::{Peer, until};

pub struct Rig {
    pub relay: Relay,
    events: Receiver<Event>,
    pub gates: GateSender,
    pub frames: Receiver<Frame>,
    pub usage: Receiver<UsageReport>,
    pub seen: Vec<Event>,
}

pub const STREAM: StreamKey = StreamKey(7);
/// Label of the side channel.
pub const LABEL: &str = "side/1";

impl Rig {
    pub fn new(link: LinkKind, shards: usize) -> Rig {
        Rig::with(link, shards, |_| {})
    }

    /// A relay whose configuration is not quite the usual one.
    pub fn with(link: LinkKind, shards: usize, change: impl FnOnce(&mut RelayConfig)) -> Rig {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = RelayConfig {
            shards,
            link,
            endpoints: vec![Endpoint { bind: local, advertise: local }],
            pin: false,
            gather: Duration::from_micros(200),
            runs: Runs::default(),
            certificate: generate_certificate().expect("randomness"),
            sessions_max: 100,
            side_channel: Some(SideChannelConfig { label: LABEL.into() }),
            usage: true,
        };
        change(&mut config);
        let Started { relay, events, gates, frames, usage } =
            Relay::start(config).expect("loopback sockets");
        Rig { relay, events, gates, frames, usage, seen: Vec::new() }
    }

    pub fn pump(&mut self) {
        for event in self.events.try_iter() {
            self.relay.note_event(&event);
            self.seen.push(event);
        }
        self.gates.flush();
    }

    pub fn publish(&mut self) -> (Peer, SessionKey) {
        let mut peer = Peer::publisher();
        let accepted = self.relay.publish(STREAM, &peer.offer).expect("a good offer");
        peer.answer(&accepted.answer);
        (peer, accepted.session)
    }

    pub fn watch(&mut self) -> (Peer, SessionKey, SlotId) {
        self.watch_as(Peer::viewer())
    }

    pub fn watch_as(&mut self, mut peer: Peer) -> (Peer, SessionKey, SlotId) {
        let accepted = self.relay.subscribe(STREAM, &peer.offer).expect("a good offer");
        peer.answer(&accepted.answer);
        (peer, accepted.session, accepted.slot.expect("a subscriber has a slot"))
    }

    pub fn wait_connected(&mut self, peers: &mut [&mut Peer]) {
        until("connections", peers, |peers| {
            self.pump();
            peers.iter().all(|peer| peer.connected)
                && self.count(|event| matches!(event, Event::Connected { .. })) >= peers.len()
        });
    }

    /// A connected viewer whose data channels are open.
    pub fn watch_with_channels(&mut self, labels: &[&str]) -> (Peer, SessionKey, SlotId) {
        let (mut viewer, session, slot) = self.watch_as(Peer::viewer_with_channels(labels));
        until("open data channels", &mut [&mut viewer], |peers| {
            self.pump();
            peers[0].open_channels == labels.len()
        });
        (viewer, session, slot)
    }

    /// Waits for a counter to reach a value that it does not go beyond.
    pub fn wait_counter(&mut self, peers: &mut [&mut Peer], name: &str, value: u64) {
        until(name, peers, |_| {
            self.pump();
            self.counter(name) >= value
        });
        assert_eq!(self.counter(name), value, "{name}");
    }

    /// The next frame that a peer sent on its side channel.
    pub fn wait_frame(&mut self, peers: &mut [&mut Peer]) -> Frame {
        let mut frame = None;
        until("a frame", peers, |_| {
            self.pump();
            frame = self.frames.try_recv().ok();
            frame.is_some()
        });
        frame.expect("the wait ended")
    }

    /// The usage that came with a session's end.
    pub fn last_usage(&self, session: SessionKey) -> Option<SlotUsage> {
        self.seen.iter().find_map(|event| match event {
            Event::Closed { session: closed, usage, .. } if *closed == session => *usage,
            _ => None,
        })
    }

    pub fn wait_closed(&mut self, peers: &mut [&mut Peer], session: SessionKey) -> CloseReason {
        let mut reason = None;
        until("the session's end", peers, |_| {
            self.pump();
            reason = self.seen.iter().find_map(|event| match event {
                Event::Closed { session: closed, reason, .. } if *closed == session => {
                    Some(*reason)
                }
                _ => None,
            });
            reason.is_some()
        });
        reason.expect("the wait ended")
    }

    /// Publishes until the viewer has 300 packets without a gap. Slowly: str0m asks for lost packets
    /// at intervals, and there must be time to.
    pub fn wait_for_a_row_of_300(&mut self, publisher: &mut Peer, viewer: &mut Peer) {
        let (mut sent, mut paced) = (0, Instant::now());
        let mut numbers = BTreeSet::new();
        until("300 packets in a row", &mut [publisher, viewer], |peers| {
            self.pump();
            if paced.elapsed() > Duration::from_millis(4) {
                paced = Instant::now();
                send(peers[0], sent);
                sent += 1;
            }
            numbers.extend(peers[1].packets.drain(..).map(|packet| number_of(&packet.payload)));
            let first = numbers.first().copied().unwrap_or(0);
            (first..first + 300).all(|number| numbers.contains(&number))
        });
    }

    pub fn count(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.seen.iter().filter(|event| which(event)).count()
    }

    /// The newest value of a counter, over all shards. Snapshots are up to a second old.
    pub fn counter(&self, name: &str) -> u64 {
        let mut sum = 0;
        for snapshot in self.relay.counters() {
            snapshot.counters.each(&mut |known, _, value| {
                if known == name {
                    sum += value;
                }
            });
        }
        sum
    }
}

/// Packet `number` of a made-up VP8 stream: a frame each three packets, a keyframe each thirty.
pub fn vp8(number: u64) -> (bool, Vec<u8>) {
    let lead = match (number % 3, number % 30) {
        (0, 0) => [0x10, 0x10],
        (0, _) => [0x10, 0x11],
        _ => [0x00, 0x22],
    };
    let mut payload = vec![number as u8; 600 + (number % 7) as usize];
    payload[..2].copy_from_slice(&lead);
    payload[2..10].copy_from_slice(&number.to_be_bytes());
    (number % 3 == 2, payload)
}

pub fn send(publisher: &mut Peer, number: u64) {
    let (marker, payload) = vp8(number);
    publisher.write(5000 + number, (number / 3) as u32 * 3000, marker, payload);
}

pub fn number_of(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[2..10].try_into().expect("ten bytes at least"))
}
