//! RTCP both ways: what subscribers ask and report, what publishers are told.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::core::{Core, Retransmit};
use super::lane::LaneMessage;
use crate::forward::track::SenderTime;
use crate::limits::{NACKED_SEQUENCES_PER_PACKET_MAX, RETRANSMITS_PER_TICK_MAX};
use crate::ports::{Kind, Role};
use crate::session::srtp::SrtpError;
use crate::session::transport::{Path, REPORT_INTERVAL};
use crate::wire::rtcp::{self, Rtcp};
use crate::wire::twcc;

/// SSRC of our receiver reports and feedback; we send no media on it.
const FEEDBACK_SSRC: u32 = 1;
/// Common to all RTP streams that leave here, so that receivers synchronise them.
const CNAME: &str = "sutantra";

impl Core {
    pub(super) fn handle_rtcp(&mut self, index: usize, path: Path, datagram: &[u8]) {
        let now = self.now;
        let Some(session) = self.sessions[index].as_mut() else { return };
        let Some(open) = session.open.as_mut() else {
            self.counters.dropped_early_packets += 1;
            return;
        };
        let mut compound = std::mem::take(&mut self.compound);
        match open.open_rtcp(datagram, &mut compound) {
            Ok(()) => {
                session.heard(path, now);
                self.counters.rtcp_received_packets += 1;
                let role = session.role;
                for packet in rtcp::parse(&compound) {
                    match (packet, role) {
                        (Ok(packet), Role::Subscriber) => {
                            self.handle_subscriber_rtcp(index, &packet)
                        }
                        (Ok(packet), Role::Publisher) => self.handle_publisher_rtcp(index, &packet),
                        (Err(_), _) => self.counters.dropped_malformed_packets += 1,
                    }
                }
            }
            Err(SrtpError::Replay) => self.counters.dropped_replayed_packets += 1,
            Err(SrtpError::Authentication) => self.counters.dropped_unauthentic_packets += 1,
            Err(SrtpError::TooShort | SrtpError::PlaintextTooLarge) => {
                self.counters.dropped_malformed_packets += 1;
            }
        }
        self.compound = compound;
    }

    fn handle_subscriber_rtcp(&mut self, index: usize, packet: &Rtcp<'_>) {
        let Some(session) = self.sessions[index].as_mut() else { return };
        match packet {
            Rtcp::SenderReport { reports, .. } | Rtcp::ReceiverReport { reports, .. } => {
                for block in reports.clone() {
                    for outlet in session.outlets.iter_mut().flatten() {
                        if outlet.ssrc == block.ssrc {
                            outlet.handle_report();
                            if let (Some(meter), false) = (&mut session.meter, outlet.uses_twcc()) {
                                meter.handle_report(outlet.kind, block.fraction_lost, self.now);
                            }
                        }
                    }
                }
            }
            Rtcp::Nack { media, lost, .. } => {
                let asked = session.outlets.iter().flatten().find(|outlet| outlet.ssrc == *media);
                let Some(kind) = asked.map(|outlet| outlet.kind) else { return };
                for sequence in lost.clone().take(NACKED_SEQUENCES_PER_PACKET_MAX) {
                    self.counters.nack_received_packets += 1;
                    if self.retransmits.len() < RETRANSMITS_PER_TICK_MAX {
                        self.retransmits.push(Retransmit { session: index, kind, sequence });
                    }
                }
            }
            Rtcp::Pli { media, .. } | Rtcp::Fir { media, .. } => {
                let video = session.outlets[Kind::Video as usize].as_ref();
                if video.is_some_and(|outlet| outlet.ssrc == *media) {
                    let stream = session.stream;
                    self.counters.keyframe_requests_received += 1;
                    // Only who is sent to may ask: a closed gate costs its publisher nothing.
                    if self.gate_is_open(index) {
                        self.want_keyframe(stream);
                    }
                }
            }
            Rtcp::TransportFeedback { body, .. } => match twcc::count(body) {
                Ok(count) => {
                    self.counters.feedback_received_packets += u64::from(count.received);
                    self.counters.feedback_lost_packets += u64::from(count.lost);
                    if let Some(meter) = &mut session.meter {
                        meter.handle_feedback(body);
                    }
                }
                Err(_) => self.counters.dropped_malformed_packets += 1,
            },
            Rtcp::Remb | Rtcp::Bye { .. } | Rtcp::Other { .. } => {}
        }
    }

    /// May this subscriber be sent to, right now?
    pub(super) fn gate_is_open(&mut self, index: usize) -> bool {
        let Some(session) = self.sessions[index].as_ref() else { return false };
        let Some(stream) = self.streams[session.stream].as_mut() else { return false };
        self.counters.gates_expired += stream.gates.expire(self.now) as u64;
        stream.gates.is_open(session.bit)
    }

    fn handle_publisher_rtcp(&mut self, index: usize, packet: &Rtcp<'_>) {
        let now = self.now;
        let Rtcp::SenderReport { ssrc, ntp, rtp_timestamp, .. } = packet else { return };
        let Some(session) = self.sessions[index].as_mut() else { return };
        let sender = session.receivers.iter_mut().find(|receiver| receiver.ssrc == *ssrc);
        let Some(receiver) = sender else { return };
        receiver.reception.handle_sender_report(*ntp, now);
        let (kind, is_rtx, epoch) = (receiver.kind, receiver.is_rtx, receiver.epoch);
        let Some(stream) = self.streams[session.stream].as_mut() else { return };
        let track = stream.track_mut(kind);
        if is_rtx || track.epoch != epoch {
            return;
        }
        let time = SenderTime { ntp: *ntp, rtp_timestamp: *rtp_timestamp, at: now };
        track.sender_time = Some(time);
        let (key, interested) = (stream.key, stream.interested);
        for (other, lane) in self.lanes.iter_mut().enumerate() {
            if let (Some(lane), 1) = (lane, interested >> other & 1) {
                lane.send(LaneMessage::SenderTime { stream: key, kind, time });
            }
        }
    }

    /// Feedback to publishers and repeated keyframe requests; every [`FEEDBACK_INTERVAL`].
    pub(super) fn feedback(&mut self) {
        let now = self.now;
        for stream in 0..self.streams.len() {
            let due = self.streams[stream].as_mut().is_some_and(|stream| {
                let video = stream.existing_track_mut(Kind::Video);
                video.is_some_and(|track| track.keyframes.handle_timeout(now))
            });
            if due {
                self.ask_for_keyframe(stream);
            }
            let publisher = self.streams[stream].as_ref().and_then(|stream| stream.publisher);
            if let Some(publisher) = publisher {
                self.ask_for_missing(publisher);
                self.send_transport_feedback(publisher);
            }
        }
    }

    fn ask_for_missing(&mut self, index: usize) {
        let now = self.now;
        let mut compound = std::mem::take(&mut self.compound);
        compound.clear();
        let Some(session) = self.sessions[index].as_mut() else { return };
        for receiver in session.receivers.iter_mut().filter(|receiver| !receiver.is_rtx) {
            self.asked.clear();
            receiver.loss.handle_timeout(now, &mut self.asked);
            if !self.asked.is_empty() {
                if compound.is_empty() {
                    rtcp::write_receiver_report(&mut compound, FEEDBACK_SSRC, &[]);
                }
                rtcp::write_nack(&mut compound, FEEDBACK_SSRC, receiver.ssrc, &self.asked);
                self.counters.nack_sent_packets += self.asked.len() as u64;
            }
        }
        self.compound = compound;
        if !self.compound.is_empty() {
            self.send_compound(index);
        }
    }

    fn send_transport_feedback(&mut self, index: usize) {
        let mut compound = std::mem::take(&mut self.compound);
        compound.clear();
        rtcp::write_receiver_report(&mut compound, FEEDBACK_SSRC, &[]);
        let built = self.sessions[index].as_mut().is_some_and(|session| {
            let media = session.receivers.last().map_or(0, |receiver| receiver.ssrc);
            session.twcc.build(FEEDBACK_SSRC, media, &mut compound)
        });
        self.compound = compound;
        if built {
            self.send_compound(index);
        }
    }

    pub(super) fn send_keyframe_request(&mut self, publisher: usize) {
        let Some(session) = self.sessions[publisher].as_ref() else { return };
        let Some(at) = session.current_receiver(Kind::Video, false) else { return };
        let media = session.receivers[at].ssrc;
        self.compound.clear();
        rtcp::write_receiver_report(&mut self.compound, FEEDBACK_SSRC, &[]);
        rtcp::write_pli(&mut self.compound, FEEDBACK_SSRC, media);
        self.counters.keyframe_requests_sent += 1;
        self.send_compound(publisher);
    }

    /// Receiver reports to publishers, sender reports to subscribers, each once a second.
    pub(super) fn report(&mut self) {
        let now = self.now;
        for index in 0..self.sessions.len() {
            let Some(session) = self.sessions[index].as_mut() else { continue };
            if !session.is_connected() || session.next_report > now {
                continue;
            }
            session.next_report = now + REPORT_INTERVAL;
            self.compound.clear();
            match session.role {
                Role::Publisher => {
                    let blocks = session
                        .receivers
                        .iter_mut()
                        .filter_map(|receiver| receiver.reception.report(receiver.ssrc, now));
                    // Eight SSRCs at most: the vector is short, and built once a second.
                    let blocks: Vec<_> = blocks.collect();
                    rtcp::write_receiver_report(&mut self.compound, FEEDBACK_SSRC, &blocks);
                }
                Role::Subscriber => {
                    let Some(stream) = self.streams[session.stream].as_ref() else { continue };
                    for outlet in
                        session.outlets.iter().flatten().filter(|outlet| outlet.packets > 0)
                    {
                        let time = stream
                            .track(outlet.kind)
                            .and_then(|track| track.time_at(now, ntp_now()));
                        let Some((ntp, timestamp)) = time else { continue };
                        let Some(timestamp) = outlet.own_timestamp(timestamp) else { continue };
                        let (ssrc, packets, octets) = (outlet.ssrc, outlet.packets, outlet.octets);
                        rtcp::write_sender_report(
                            &mut self.compound,
                            ssrc,
                            ntp,
                            timestamp,
                            packets,
                            octets,
                        );
                        rtcp::write_sdes_cname(&mut self.compound, ssrc, CNAME);
                    }
                }
            }
            if !self.compound.is_empty() {
                self.send_compound(index);
            }
        }
    }
}

/// Time between two looks at what publishers must be told.
pub(super) const FEEDBACK_INTERVAL: Duration = Duration::from_millis(20);
/// Time between two looks at reports and silent sessions.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// Wall-clock time as NTP 32.32 fixed point (RFC 3550 §4), for sources that send no reports.
fn ntp_now() -> u64 {
    const NTP_OFFSET_S: u64 = 2_208_988_800;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ((since.as_secs() + NTP_OFFSET_S) << 32)
        | ((u64::from(since.subsec_nanos()) << 32) / 1_000_000_000)
}

/// Deadlines of the periodic work, kept by the loop.
#[derive(Debug)]
pub(super) struct Chores {
    feedback_at: Instant,
    sweep_at: Instant,
}

impl Chores {
    pub fn new(now: Instant) -> Chores {
        Chores { feedback_at: now, sweep_at: now }
    }

    /// Does what is due; returns when to come back. An idle shard sleeps for long.
    pub fn run(&mut self, core: &mut Core) -> Option<Instant> {
        let now = core.now;
        if core.session_count() == 0 && !core.streams.iter().flatten().any(|stream| stream.is_local)
        {
            return None;
        }
        if now >= self.feedback_at {
            self.feedback_at = now + FEEDBACK_INTERVAL;
            core.feedback();
        }
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_INTERVAL;
            core.report();
            core.sweep();
        }
        let publishes = core
            .streams
            .iter()
            .flatten()
            .any(|stream| stream.publisher.is_some() || stream.subscribers() > 0);
        Some(if publishes { self.feedback_at.min(self.sweep_at) } else { self.sweep_at })
    }
}
