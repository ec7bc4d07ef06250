//! A shard's core with ready-made sessions and no sockets, for measuring and for tests: real keys,
//! real packets, the very code of the loop, but no handshake before it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use str0m::Rtc;

use super::core::{Command, Core};
use crate::forward::packet::Format;
use crate::io::{Endpoint, Link, LinkCounters, Message, Train, Waker};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::ports::gate::{GateCmd, GateOp, MonotonicClock};
use crate::ports::{Codec, Event, Kind, Role, SessionKey, SlotId, SrtpProfile, StreamKey};
use crate::session::keys::KeySlot;
use crate::session::offer::{NegotiatedCodec, TrackFacts};
use crate::session::srtp::{self, OpenContext, SealContext, SrtpKeys};
use crate::session::transport::{NewSession, Path};
use crate::wire::rtp::HeaderTemplate;

/// A link that takes messages and keeps the last of them, or all.
#[derive(Debug)]
pub struct MemoryLink {
    room: Vec<u8>,
    waker: Waker,
    counters: LinkCounters,
    /// Keep what is sent: (destination, datagrams).
    pub keep: bool,
    pub sent: Vec<(SocketAddr, Vec<u8>)>,
    /// Datagrams of each message.
    pub runs: Vec<usize>,
}

impl MemoryLink {
    /// # Errors
    /// No eventfd to be had.
    pub fn new() -> std::io::Result<MemoryLink> {
        Ok(MemoryLink {
            room: vec![0; MESSAGE_BYTES_MAX],
            waker: Waker::new()?,
            counters: LinkCounters::default(),
            keep: false,
            sent: Vec::new(),
            runs: Vec::new(),
        })
    }
}

impl Link for MemoryLink {
    fn receive(
        &mut self,
        _deadline: Option<Instant>,
        _sink: &mut dyn FnMut(Train<'_>),
    ) -> std::io::Result<()> {
        Ok(())
    }

    fn pause(&mut self, _until: Instant) {}

    fn begin(&mut self) -> &mut [u8] {
        &mut self.room
    }

    fn commit(&mut self, message: Message) {
        let Message { to, len_bytes, segment_bytes, .. } = message;
        self.counters.sent_messages += 1;
        self.counters.sent_datagrams += len_bytes.div_ceil(segment_bytes.max(1)) as u64;
        self.counters.sent_bytes += len_bytes as u64;
        if self.keep {
            let datagrams = self.room[..len_bytes].chunks(segment_bytes);
            self.runs.push(datagrams.len());
            self.sent.extend(datagrams.map(|datagram| (to, datagram.to_vec())));
        }
    }

    fn flush(&mut self) {}

    fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// One subscriber's own view: its address, and the keys to open what it is sent.
#[derive(Debug)]
pub struct BenchSubscriber {
    pub address: SocketAddr,
    pub slot: SlotId,
    pub open: OpenContext,
    /// The peer's sending half, for RTCP.
    pub seal: SealContext,
    pub ssrc: u32,
}

/// One publisher of VP8 and its subscribers on one shard.
pub struct ForwardBench {
    pub core: Core,
    pub link: MemoryLink,
    pub subscribers: Vec<BenchSubscriber>,
    publisher: SealContext,
    /// The publisher's half for what it is sent.
    pub publisher_open: OpenContext,
    clock: MonotonicClock,
    twcc: u16,
    stream: StreamKey,
    publisher_path: Path,
}

/// SSRC, payload type and extension ids of the ready-made sessions.
pub const PUBLISHER_SSRC: u32 = 0x1111_1111;
pub const PAYLOAD_TYPE: u8 = 96;
pub const RTX_PAYLOAD_TYPE: u8 = 97;
const TWCC_ID: u8 = 3;
/// Extension id of the MID, whose value is "0".
pub const MID_ID: u8 = 4;

impl ForwardBench {
    /// `subscribers` viewers with open gates.
    ///
    /// # Errors
    /// No eventfd to be had.
    pub fn new(subscribers: usize, profile: SrtpProfile) -> std::io::Result<ForwardBench> {
        let now = Instant::now();
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let endpoint = Endpoint { bind: here, advertise: here };
        let clock = MonotonicClock::new(now, 1_000_000_000);
        let mut core = Core::new(0, vec![endpoint], vec![None], clock, now);
        core.usage = true;
        let stream = StreamKey(1);
        let (publisher, publisher_open) = peer(profile, 0);
        let publisher_path = path(0);
        let new = new_session(1, stream, Role::Publisher, None, facts(PUBLISHER_SSRC), now);
        core.handle_command(Command::Create(Box::new(new), 0));
        core.make_ready(0, ours(profile, 0), publisher_path);
        let mut bench = ForwardBench {
            core,
            link: MemoryLink::new()?,
            subscribers: Vec::new(),
            publisher,
            publisher_open,
            clock,
            twcc: 0,
            stream,
            publisher_path,
        };
        for number in 1..=subscribers {
            bench.subscribe(number, profile, now);
        }
        while bench.core.next_event().is_some() {}
        Ok(bench)
    }

    fn subscribe(&mut self, number: usize, profile: SrtpProfile, now: Instant) {
        let (seal, open) = peer(profile, number as u32);
        let slot = SlotId { shard: 0, index: number as u32 - 1, generation: 1 };
        let ssrc = 0x2000_0000 + number as u32;
        let new = new_session(
            number as u64 + 1,
            self.stream,
            Role::Subscriber,
            Some(slot),
            facts(ssrc),
            now,
        );
        self.core.handle_command(Command::Create(Box::new(new), 0));
        self.core.make_ready(number, ours(profile, number as u32), path(number as u16));
        let address = path(number as u16).remote;
        self.subscribers.push(BenchSubscriber { address, slot, open, seal, ssrc });
        self.set_gate(number - 1, true);
    }

    /// Opens or closes a subscriber's gate.
    pub fn set_gate(&mut self, subscriber: usize, open: bool) {
        let slot = self.subscribers[subscriber].slot;
        self.core.handle_gate(GateCmd {
            op: if open { GateOp::Open } else { GateOp::Close },
            slot: slot.index,
            generation: slot.generation,
            ..GateCmd::default()
        });
    }

    /// Opens a subscriber's gate for a while.
    pub fn set_gate_until(&mut self, subscriber: usize, span: Duration) {
        let slot = self.subscribers[subscriber].slot;
        self.core.handle_gate(GateCmd {
            op: GateOp::Open,
            slot: slot.index,
            generation: slot.generation,
            valid_until: self.clock.nanos(self.core.now + span),
            ..GateCmd::default()
        });
    }

    /// A packet as the publisher would put it on the wire, sealed.
    pub fn publisher_packet(
        &mut self,
        index: u64,
        timestamp: u32,
        marker: bool,
        payload: &[u8],
    ) -> Vec<u8> {
        self.publisher_packet_of(PUBLISHER_SSRC, index, timestamp, marker, payload)
    }

    /// The same on another SSRC.
    pub fn publisher_packet_of(
        &mut self,
        ssrc: u32,
        index: u64,
        timestamp: u32,
        marker: bool,
        payload: &[u8],
    ) -> Vec<u8> {
        let template = HeaderTemplate::new(ssrc, PAYLOAD_TYPE, Some(TWCC_ID), None);
        let mut out = vec![0; payload.len() + 64];
        let header = template.write(&mut out, marker, false, index as u16, timestamp, self.twcc);
        self.twcc = self.twcc.wrapping_add(1);
        let len = self.publisher.seal_rtp(&mut out, header, payload, ssrc, index);
        out.truncate(len);
        out
    }

    /// A datagram from the publisher reaches the shard.
    #[inline(never)]
    pub fn receive(&mut self, datagram: &[u8]) {
        self.receive_from(self.publisher_path, datagram);
    }

    /// A datagram from subscriber number `subscriber` reaches the shard.
    pub fn receive_from_subscriber(&mut self, subscriber: usize, datagram: &[u8]) {
        self.receive_from(path(subscriber as u16 + 1), datagram);
    }

    fn receive_from(&mut self, path: Path, datagram: &[u8]) {
        let train = Train {
            endpoint: path.endpoint,
            from: path.remote,
            bytes: datagram,
            segment_bytes: datagram.len(),
        };
        self.core.handle_train(&train);
    }

    /// The end of a tick: everything that is ready is sealed and sent.
    #[inline(never)]
    pub fn fan_out(&mut self) {
        self.fan_out_gathered(Duration::ZERO);
    }

    /// The same with a gathering budget: until when the rest waits.
    pub fn fan_out_gathered(&mut self, gather: Duration) -> Option<Instant> {
        let rest = self.core.fan_out(gather, &mut self.link);
        self.core.retransmit(&mut self.link);
        self.core.post(&mut self.link);
        rest
    }

    /// Lets time pass, as the loop would.
    pub fn advance(&mut self, span: Duration) {
        self.core.now += span;
    }

    /// What was told to control since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.core.next_event()).collect()
    }
}

fn path(number: u16) -> Path {
    Path { endpoint: 0, remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 10_000 + number)) }
}

fn keys(profile: SrtpProfile, number: u32, is_client: bool) -> SrtpKeys {
    let mut material = vec![0; profile.keying_material_len()];
    for (at, byte) in material.iter_mut().enumerate() {
        *byte = (at as u8)
            .wrapping_mul(7)
            .wrapping_add(number as u8)
            .wrapping_add((number >> 8) as u8 * 31);
    }
    SrtpKeys { profile, material, is_client }
}

fn ours(profile: SrtpProfile, number: u32) -> (SealContext, OpenContext) {
    srtp::contexts(&keys(profile, number, false)).expect("the material has the profile's length")
}

fn peer(profile: SrtpProfile, number: u32) -> (SealContext, OpenContext) {
    srtp::contexts(&keys(profile, number, true)).expect("the material has the profile's length")
}

pub(super) fn facts(ssrc: u32) -> TrackFacts {
    let format = Format::plain(Codec::Vp8);
    TrackFacts {
        mid: "0".into(),
        kind: Kind::Video,
        codecs: vec![NegotiatedCodec {
            codec: Codec::Vp8,
            spec: format.spec,
            payload_type: PAYLOAD_TYPE,
            rtx_payload_type: Some(RTX_PAYLOAD_TYPE),
        }],
        ssrc: Some(ssrc),
        rtx_ssrc: Some(ssrc ^ 0x0100_0000),
        twcc_id: Some(TWCC_ID),
        mid_id: Some(MID_ID),
    }
}

pub(super) fn new_session(
    key: u64,
    stream: StreamKey,
    role: Role,
    slot: Option<SlotId>,
    facts: TrackFacts,
    now: Instant,
) -> NewSession {
    NewSession {
        key: SessionKey(key),
        stream,
        role,
        slot,
        rtc: Rtc::builder()
            .set_crypto_provider(crate::session::keys::provider())
            .set_ice_lite(true)
            .build(now),
        keys: KeySlot::default(),
        ufrag: format!("00bench{key}"),
        tracks: vec![facts],
        offered_at: now,
    }
}
