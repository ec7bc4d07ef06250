//! What a shard counts: plain numbers written by one core, copied out once a second.

use std::time::Duration;

use crate::io::LinkCounters;
use crate::ports::{SrtpProfile, StreamKey};

macro_rules! counters {
    ($(#[doc = $help:literal] $field:ident => $name:literal),+ $(,)?) => {
        /// Absolute values since the start; a lost copy costs freshness.
        #[derive(Debug, Clone, Default)]
        pub struct ShardCounters { $(#[doc = $help] pub $field: u64),+ }

        impl ShardCounters {
            /// Calls `emit(metric name, help, value)` for each counter.
            pub fn each(&self, emit: &mut dyn FnMut(&'static str, &'static str, u64)) {
                $(emit($name, $help.trim_start(), self.$field);)+
            }
        }
    };
}

counters! {
    /// RTP packets received, opened and authentic
    rtp_received_packets => "sutantra_sfu_rtp_received_packets_total",
    /// RTP payload bytes received, padding not counted
    rtp_received_bytes => "sutantra_sfu_rtp_received_bytes_total",
    /// RTP packets sealed and handed to the kernel, retransmissions not counted
    rtp_forwarded_packets => "sutantra_sfu_rtp_forwarded_packets_total",
    /// RTP payload bytes forwarded
    rtp_forwarded_bytes => "sutantra_sfu_rtp_forwarded_bytes_total",
    /// Packets that got one byte of padding so that a frame is one message
    rtp_padded_packets => "sutantra_sfu_rtp_padded_packets_total",
    /// Retransmissions sent to subscribers (RTX)
    rtx_sent_packets => "sutantra_sfu_rtx_sent_packets_total",
    /// Retransmissions received from publishers (RTX)
    rtx_received_packets => "sutantra_sfu_rtx_received_packets_total",
    /// Sequence numbers that subscribers asked for again
    nack_received_packets => "sutantra_sfu_nack_received_packets_total",
    /// Sequence numbers asked from publishers again
    nack_sent_packets => "sutantra_sfu_nack_sent_packets_total",
    /// Keyframe requests received from subscribers (PLI, FIR)
    keyframe_requests_received => "sutantra_sfu_keyframe_requests_received_total",
    /// Keyframe requests sent to publishers (PLI)
    keyframe_requests_sent => "sutantra_sfu_keyframe_requests_sent_total",
    /// RTCP compounds received and authentic
    rtcp_received_packets => "sutantra_sfu_rtcp_received_packets_total",
    /// RTCP compounds sent
    rtcp_sent_packets => "sutantra_sfu_rtcp_sent_packets_total",
    /// Packets that subscribers report received by transport-wide feedback
    feedback_received_packets => "sutantra_sfu_feedback_received_packets_total",
    /// Packets that subscribers report missing by transport-wide feedback
    feedback_lost_packets => "sutantra_sfu_feedback_lost_packets_total",
    /// Payload bytes copied between buffers on the way from a publisher to subscribers
    payload_copied_bytes => "sutantra_sfu_payload_copied_bytes_total",
    /// Datagrams whose first bytes are no STUN, DTLS, RTP or RTCP
    dropped_unknown_datagrams => "sutantra_sfu_dropped_unknown_datagrams_total",
    /// Datagrams from an address without an authenticated check
    dropped_unknown_path_datagrams => "sutantra_sfu_dropped_unknown_path_datagrams_total",
    /// Connectivity checks for a username that no session has, or that cannot be read
    dropped_unknown_ufrag_datagrams => "sutantra_sfu_dropped_unknown_ufrag_datagrams_total",
    /// STUN and DTLS datagrams that ICE or DTLS refused
    dropped_transport_datagrams => "sutantra_sfu_dropped_transport_datagrams_total",
    /// Datagrams of handshakes beyond those that may wait
    dropped_handshake_datagrams => "sutantra_sfu_dropped_handshake_datagrams_total",
    /// Media that came before the handshake was through
    dropped_early_packets => "sutantra_sfu_dropped_early_packets_total",
    /// RTP or RTCP that cannot be parsed
    dropped_malformed_packets => "sutantra_sfu_dropped_malformed_packets_total",
    /// RTP or RTCP whose authentication failed
    dropped_unauthentic_packets => "sutantra_sfu_dropped_unauthentic_packets_total",
    /// RTP or RTCP that was received before
    dropped_replayed_packets => "sutantra_sfu_dropped_replayed_packets_total",
    /// RTP with a payload type that was not negotiated, or from a subscriber
    dropped_unexpected_packets => "sutantra_sfu_dropped_unexpected_packets_total",
    /// RTP whose SSRC belongs to another track, or is one too many
    dropped_ssrc_collision_packets => "sutantra_sfu_dropped_ssrc_collision_packets_total",
    /// Packets that had come before by another way (retransmission)
    dropped_duplicate_packets => "sutantra_sfu_dropped_duplicate_packets_total",
    /// Packets older than the retransmission cache
    dropped_late_packets => "sutantra_sfu_dropped_late_packets_total",
    /// Packets beyond what one tick takes
    dropped_tick_full_packets => "sutantra_sfu_dropped_tick_full_packets_total",
    /// Messages to another shard whose queue was full
    dropped_lane_full_messages => "sutantra_sfu_dropped_lane_full_messages_total",
    /// Requests for a packet that is no longer cached or never was
    retransmit_misses => "sutantra_sfu_retransmit_misses_total",
    /// Datagrams handed to their home shard
    handed_over_datagrams => "sutantra_sfu_handed_over_datagrams_total",
    /// Packets copied to another shard
    crossed_packets => "sutantra_sfu_crossed_packets_total",
    /// Gate commands obeyed
    gate_commands => "sutantra_sfu_gate_commands_total",
    /// Gate commands for a slot that is another's by now
    gate_commands_stale => "sutantra_sfu_gate_commands_stale_total",
    /// Gates that closed because their time was up
    gates_expired => "sutantra_sfu_gates_expired_total",
    /// Sessions taken over from control
    sessions_opened => "sutantra_sfu_sessions_opened_total",
    /// Sessions that ended
    sessions_closed => "sutantra_sfu_sessions_closed_total",
    /// Handshakes that ended with a certificate other than the offer's
    fingerprint_mismatches => "sutantra_sfu_fingerprint_mismatches_total",
    /// Side channels that peers opened
    side_channels_opened => "sutantra_sfu_side_channels_opened_total",
    /// Further side channels of a session that has one
    side_channels_refused => "sutantra_sfu_side_channels_refused_total",
    /// Frames received on side channels
    side_received_frames => "sutantra_sfu_side_received_frames_total",
    /// Frames written to side channels
    side_sent_frames => "sutantra_sfu_side_sent_frames_total",
    /// Received frames longer than a frame may be
    side_dropped_too_long_frames => "sutantra_sfu_side_dropped_too_long_frames_total",
    /// Text received where frames are binary
    side_dropped_text_frames => "sutantra_sfu_side_dropped_text_frames_total",
    /// Received frames of a session that has too many waiting
    side_dropped_waiting_frames => "sutantra_sfu_side_dropped_waiting_frames_total",
    /// Received frames that the owner's queue had no room for
    side_dropped_queue_full_frames => "sutantra_sfu_side_dropped_queue_full_frames_total",
    /// Frames for a peer that has no side channel or takes nothing from it
    side_dropped_unsent_frames => "sutantra_sfu_side_dropped_unsent_frames_total",
    /// Usage reports that the owner's queue had no room for
    usage_reports_dropped => "sutantra_sfu_usage_reports_dropped_total",
    /// Turns of the loop
    ticks => "sutantra_sfu_ticks_total",
    /// Nanoseconds of work in all turns, waiting not counted
    tick_busy_nanoseconds => "sutantra_sfu_tick_busy_nanoseconds_total",
    /// Turns that worked for longer than one millisecond
    ticks_over_1ms => "sutantra_sfu_ticks_over_1ms_total",
    /// Turns that worked for longer than ten milliseconds
    ticks_over_10ms => "sutantra_sfu_ticks_over_10ms_total",
}

/// How long turns of the loop worked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TickTimes {
    /// Turns by [`TICK_BOUNDS`]; the last is for those beyond.
    pub counts: [u64; TICK_BOUNDS.len() + 1],
    pub sum: Duration,
}

/// Upper bounds of [`TickTimes::counts`].
pub const TICK_BOUNDS: [Duration; 9] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
];

impl TickTimes {
    pub fn note(&mut self, busy: Duration) {
        let at = TICK_BOUNDS.iter().position(|bound| busy <= *bound).unwrap_or(TICK_BOUNDS.len());
        self.counts[at] += 1;
        self.sum += busy;
    }
}

/// What a publisher's stream looked like to its home shard.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSnapshot {
    pub stream: StreamKey,
    pub received_packets: u64,
    pub received_bytes: u64,
    /// Subscribers on this shard, gate open or not.
    pub subscribers: u32,
    /// Those whose gate is open.
    pub open: u32,
}

/// A shard's state as of up to a second ago.
#[derive(Debug, Clone, Default)]
pub struct ShardSnapshot {
    pub shard: u16,
    pub counters: ShardCounters,
    pub link: LinkCounters,
    pub sessions: u64,
    /// Longest turn of the loop in the last second, nanoseconds.
    pub longest_tick_nanoseconds: u64,
    pub ticks: TickTimes,
    pub streams: Vec<StreamSnapshot>,
    /// Connected sessions by DTLS-SRTP profile.
    pub profiles: Vec<(SrtpProfile, u64)>,
}
