//! Two shards' cores in one process: what it costs to hand a packet from one to the other.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sfu::forward::packet::{Format, Packet, Pool};
use sfu::io::{Endpoint, Link};
use sfu::ports::gate::MonotonicClock;
use sfu::ports::{Codec, Kind, Role, SessionKey, SlotId, StreamKey};
use sfu::session::offer;
use sfu::session::transport::NewSession;
use sfu::shard::bench::MemoryLink;
use sfu::shard::{Command, Core, Lanes};
use str0m::Rtc;
use str0m::media::{Direction, MediaKind};

const STREAM: StreamKey = StreamKey(1);
const PAYLOAD_BYTES: usize = 1150;

/// The shard where the stream is watched.
pub struct Away {
    core: Core,
    link: MemoryLink,
}

/// The shard where the stream comes in.
pub struct Home {
    core: Core,
    link: MemoryLink,
    sequence: u64,
}

/// The publisher's shard, and one with a subscriber that is not connected: packets cross, and end
/// in the other's cache.
pub struct Pair {
    home: Home,
    away: Away,
}

impl Pair {
    /// Both shards know of the stream and of the interest in it.
    ///
    /// # Errors
    /// No eventfd, no randomness.
    pub fn new() -> anyhow::Result<Pair> {
        let now = Instant::now();
        let links = [MemoryLink::new()?, MemoryLink::new()?];
        let wakers = links.each_ref().map(Link::waker);
        let lanes = Lanes::new(2);
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 7000));
        let endpoints = vec![Endpoint { bind: here, advertise: here }];
        let clock = MonotonicClock::new(now, 1);
        let core = |shard: u16| {
            let lanes = lanes.of(shard.into(), &wakers);
            Core::new(shard, endpoints.clone(), lanes, clock, now)
        };
        let [home, away] = links;
        let mut pair = Pair {
            home: Home { core: core(0), link: home, sequence: 65_536 },
            away: Away { core: core(1), link: away },
        };
        pair.home.core.handle_command(Command::OpenLocal(STREAM));
        let subscriber = subscriber(&endpoints, now)?;
        pair.away.core.handle_command(Command::Create(Box::new(subscriber), 0));
        pair.away.core.flush_lanes();
        pair.home.core.handle_lanes();
        pair.ingest(1)?;
        pair.hand_over();
        ensure!(pair.crossed() == 1, "the other shard's interest was not heard of");
        pair.take_over();
        Ok(pair)
    }

    /// See [`Home::ingest`].
    ///
    /// # Errors
    /// Never, with a payload of this size.
    pub fn ingest(&mut self, packets: usize) -> anyhow::Result<()> {
        self.home.ingest(packets)
    }

    /// See [`Home::hand_over`].
    pub fn hand_over(&mut self) {
        self.home.hand_over();
    }

    /// See [`Away::take_over`].
    pub fn take_over(&mut self) {
        self.away.take_over();
    }

    /// Both, for a thread each.
    pub fn split(&mut self) -> (&mut Home, &mut Away) {
        (&mut self.home, &mut self.away)
    }

    /// Packets that crossed so far.
    pub fn crossed(&self) -> u64 {
        self.home.core.counters.crossed_packets
    }
}

impl Home {
    /// A frame arrives from the publisher.
    ///
    /// # Errors
    /// Never, with a payload of this size.
    pub fn ingest(&mut self, packets: usize) -> anyhow::Result<()> {
        for at in 0..packets {
            self.sequence += 1;
            let packet = packet(self.sequence, at + 1 == packets)?;
            self.core.handle_command(Command::Ingest(STREAM, Kind::Video, packet));
        }
        Ok(())
    }

    /// The end of its tick.
    pub fn hand_over(&mut self) {
        self.core.fan_out(Duration::ZERO, &mut self.link);
        self.core.flush_lanes();
    }
}

impl Away {
    /// Its tick.
    pub fn take_over(&mut self) {
        self.core.handle_lanes();
        self.core.fan_out(Duration::ZERO, &mut self.link);
        self.core.flush_lanes();
    }
}

fn packet(sequence: u64, marker: bool) -> anyhow::Result<Box<Packet>> {
    let mut packet = Pool::default().take();
    ensure!(packet.copy_payload(&[7; PAYLOAD_BYTES]), "a payload of {PAYLOAD_BYTES} bytes fits");
    packet.sequence = sequence;
    packet.timestamp = sequence as u32 * 300;
    packet.marker = marker;
    packet.epoch = 1;
    packet.format = Format::plain(Codec::Vp8);
    packet.starts_keyframe = false;
    Ok(packet)
}

/// A subscriber whose handshake never comes.
fn subscriber(endpoints: &[Endpoint], now: Instant) -> anyhow::Result<NewSession> {
    let mut client = Rtc::builder().set_rtp_mode(true).build(now);
    let mut api = client.sdp_api();
    api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
    let (offer, _pending) = api.apply().context("an offer")?;
    let certificate = sfu::generate_certificate().context("the system has no randomness")?;
    let (role, shard) = (Role::Subscriber, 1);
    let text = offer.to_sdp_string();
    let prepared = offer::prepare(&text, role, shard, endpoints, &certificate, now)?;
    Ok(NewSession {
        key: SessionKey(1),
        stream: STREAM,
        role,
        slot: Some(SlotId { shard, index: 0, generation: 1 }),
        rtc: prepared.rtc,
        keys: prepared.keys,
        ufrag: prepared.ufrag,
        tracks: prepared.tracks,
        offered_at: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_of_the_home_shard_reaches_the_other() {
        let mut pair = Pair::new().expect("two cores");
        let received = pair.home.core.counters.rtp_received_packets;
        for _ in 0..1000 {
            pair.ingest(3).expect("small");
            pair.hand_over();
            pair.take_over();
        }
        assert_eq!(pair.crossed(), 3001);
        assert_eq!(pair.home.core.counters.rtp_received_packets, received + 3000);
        assert_eq!(pair.home.core.counters.dropped_lane_full_messages, 0);
    }
}
