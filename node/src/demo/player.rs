//! Packets of an endless loop in the order and at the times in which they are due.

use std::time::Duration;

use bytes::Bytes;
use rtp::{
    codecs::{opus::OpusPayloader, vp8::Vp8Payloader},
    packetizer::Payloader,
};
use sfu::ports::{Codec, Kind};

use super::clip::{AUDIO_FRAME, Clip};

/// Bytes of an RTP payload: with every header it stays below a path MTU of 1280 (IPv6's least).
const PAYLOAD_BYTES_MAX: usize = 1160;
/// Picture ids below this fit in 7 bits, and the payloader would write them so. They are skipped:
/// one width for the stream's life (RFC 7741 §4.2), and room for a rewriter to count on.
const PICTURE_ID_MIN: u16 = 128;
/// Picture ids have 15 bits.
const PICTURE_IDS: u16 = 1 << 15;

/// What an RTP packet of the demo holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Which of the two tracks.
    pub kind: Kind,
    /// Last packet of a video frame; never set for audio (RFC 7587 §4.1: start of a talk spurt).
    pub marker: bool,
    /// Goes on over the loop's turns.
    pub sequence: u16,
    /// 90 kHz or 48 kHz; goes on over the loop's turns.
    pub timestamp: u32,
    /// Payload with its descriptor.
    pub payload: &'a [u8],
}

/// Where one track stands.
#[derive(Debug)]
struct Track {
    /// Frames played so far, over all turns.
    played: u64,
    sequence: u16,
    timestamp_start: u32,
}

impl Track {
    fn new(rng: &mut impl rand::Rng) -> Self {
        Self { played: 0, sequence: rng.random(), timestamp_start: rng.random() }
    }

    fn timestamp(&self, frame: Duration, codec: Codec) -> u32 {
        let ticks_per_frame = frame.as_nanos() * u128::from(codec.clock_rate_hz()) / 1_000_000_000;
        let ticks = u128::from(self.played) * ticks_per_frame;
        #[expect(clippy::cast_possible_truncation, reason = "RTP time is modulo 2^32")]
        let ticks = ticks as u32;
        self.timestamp_start.wrapping_add(ticks)
    }
}

/// The loop's state.
#[derive(Debug)]
pub struct Player {
    clip: Clip,
    video: Track,
    audio: Track,
    vp8: Vp8Payloader,
    opus: OpusPayloader,
    picture_id: u16,
}

impl Player {
    /// At the start of the loop, with random sequence numbers and timestamps.
    pub fn new(clip: Clip, rng: &mut impl rand::Rng) -> Self {
        let mut vp8 = Vp8Payloader::default();
        vp8.enable_picture_id = true;
        let opus = OpusPayloader;
        let (video, audio) = (Track::new(rng), Track::new(rng));
        Self { clip, video, audio, vp8, opus, picture_id: 0 }
    }

    /// When the next frame is due, since the start.
    pub fn due(&self) -> Duration {
        self.video_due().min(self.audio_due())
    }

    /// Gives the packets of the next frame.
    pub fn advance(&mut self, send: &mut dyn FnMut(Packet<'_>)) {
        if self.video_due() <= self.audio_due() { self.video(send) } else { self.audio(send) }
    }

    fn video_due(&self) -> Duration {
        at(self.clip.video_frame, self.video.played)
    }

    fn audio_due(&self) -> Duration {
        at(AUDIO_FRAME, self.audio.played)
    }

    fn video(&mut self, send: &mut dyn FnMut(Packet<'_>)) {
        let frame = nth(&self.clip.video, self.video.played).clone();
        let timestamp = self.video.timestamp(self.clip.video_frame, Codec::Vp8);
        self.skip_short_picture_ids();
        let payloads = self.payload_vp8(&frame);
        let last = payloads.len() - 1;
        for (number, payload) in payloads.iter().enumerate() {
            let sequence = self.video.sequence;
            self.video.sequence = sequence.wrapping_add(1);
            let marker = number == last;
            send(Packet { kind: Kind::Video, marker, sequence, timestamp, payload });
        }
        self.video.played += 1;
    }

    fn audio(&mut self, send: &mut dyn FnMut(Packet<'_>)) {
        let packet = nth(&self.clip.audio, self.audio.played);
        let timestamp = self.audio.timestamp(AUDIO_FRAME, Codec::Opus);
        let payloads = self.opus.payload(PAYLOAD_BYTES_MAX, packet);
        for payload in payloads.expect("an Opus packet is its own payload") {
            let sequence = self.audio.sequence;
            self.audio.sequence = sequence.wrapping_add(1);
            let (kind, marker) = (Kind::Audio, false);
            send(Packet { kind, marker, sequence, timestamp, payload: &payload });
        }
        self.audio.played += 1;
    }

    fn payload_vp8(&mut self, frame: &Bytes) -> Vec<Bytes> {
        self.picture_id = (self.picture_id + 1) % PICTURE_IDS;
        let payloads = self.vp8.payload(PAYLOAD_BYTES_MAX, frame);
        payloads.expect("there is room for more than a descriptor")
    }

    /// The payloader counts by itself; frames that go nowhere move its count on.
    fn skip_short_picture_ids(&mut self) {
        while self.picture_id < PICTURE_ID_MIN {
            self.payload_vp8(&Bytes::from_static(b"-"));
        }
    }
}

fn at(frame: Duration, played: u64) -> Duration {
    let nanos = frame.as_nanos() * u128::from(played);
    Duration::from_nanos(u64::try_from(nanos).expect("585 years of demo do not pass"))
}

fn nth(frames: &[Bytes], played: u64) -> &Bytes {
    let count = frames.len() as u64;
    let index = usize::try_from(played % count).expect("less than the length");
    &frames[index]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rtp::{codecs::vp8::Vp8Packet, packetizer::Depacketizer};

    use super::*;

    struct Sent {
        at: Duration,
        marker: bool,
        sequence: u16,
        timestamp: u32,
        payload: Vec<u8>,
    }

    /// Everything that is sent up to a time, by track.
    fn sent_until(end: Duration) -> BTreeMap<Kind, Vec<Sent>> {
        let mut player = Player::new(Clip::embedded().expect("committed"), &mut rand::rng());
        let mut sent: BTreeMap<Kind, Vec<Sent>> = BTreeMap::new();
        while player.due() < end {
            let at = player.due();
            player.advance(&mut |Packet { kind, marker, sequence, timestamp, payload }| {
                let payload = payload.to_vec();
                let packet = Sent { at, marker, sequence, timestamp, payload };
                sent.entry(kind).or_default().push(packet);
            });
        }
        sent
    }

    #[test]
    fn numbers_and_times_go_on_over_the_turns() {
        let sent = sent_until(Duration::from_secs(25));
        assert_eq!(sent.keys().copied().collect::<Vec<_>>(), [Kind::Audio, Kind::Video]);
        for (kind, packets) in &sent {
            let clock_hz = if *kind == Kind::Video { 90_000 } else { 48_000 };
            for pair in packets.windows(2) {
                assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
                let passed = u64::from(pair[1].timestamp.wrapping_sub(pair[0].timestamp));
                let nanos = (pair[1].at - pair[0].at).as_nanos() as u64;
                assert_eq!(passed * 1_000_000_000, nanos * clock_hz);
            }
        }
        assert_eq!(sent[&Kind::Audio].len(), 1250);
        assert!(sent[&Kind::Audio].iter().all(|packet| !packet.marker));
        assert_eq!(sent[&Kind::Video].iter().filter(|packet| packet.marker).count(), 625);
    }

    #[test]
    fn the_frames_come_out_whole_under_15_bit_picture_ids_without_a_gap() {
        let clip = Clip::embedded().expect("committed");
        let (mut frame, mut frames, mut ids) = (Vec::new(), 0, Vec::new());
        // Past the turn of the ids at 32768 (22 minutes).
        for packet in &sent_until(Duration::from_secs(1400))[&Kind::Video] {
            assert!(packet.payload.len() <= PAYLOAD_BYTES_MAX);
            let mut descriptor = Vp8Packet::default();
            let payload = Bytes::from(packet.payload.clone());
            let part = descriptor.depacketize(&payload).expect("our own payload");
            assert_eq!(descriptor.s == 1, frame.is_empty(), "S marks the first packet of a frame");
            assert_eq!(payload[2] & 0x80, 0x80, "15 bits");
            frame.extend_from_slice(&part);
            if packet.marker {
                assert_eq!(frame, *nth(&clip.video, frames));
                frames += 1;
                frame.clear();
                ids.push(descriptor.picture_id);
            }
        }
        assert_eq!(frames, 35_000);
        assert_eq!(ids[0], PICTURE_ID_MIN);
        for pair in ids.windows(2) {
            let next = if pair[0] == PICTURE_IDS - 1 { PICTURE_ID_MIN } else { pair[0] + 1 };
            assert_eq!(pair[1], next);
        }
    }
}
