//! One opened RTP packet, and the pool that packets live in.

use str0m::format::CodecSpec;
use str0m::media::Frequency;

use crate::limits::{PAYLOAD_BYTES_MAX, POOL_PACKETS_MAX};
use crate::ports::Codec;

/// What subscribers must agree on to be sent a track's packets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Format {
    pub codec: Codec,
    pub spec: CodecSpec,
}

impl Format {
    /// `codec` without parameters: an in-process source has no SDP.
    pub fn plain(codec: Codec) -> Format {
        let (name, clock_rate) = match codec {
            Codec::Opus => (str0m::format::Codec::Opus, Frequency::FORTY_EIGHT_KHZ),
            Codec::Vp8 => (str0m::format::Codec::Vp8, Frequency::NINETY_KHZ),
            Codec::Vp9 => (str0m::format::Codec::Vp9, Frequency::NINETY_KHZ),
            Codec::H264 => (str0m::format::Codec::H264, Frequency::NINETY_KHZ),
            Codec::Av1 => (str0m::format::Codec::Av1, Frequency::NINETY_KHZ),
        };
        let channels = (codec == Codec::Opus).then_some(2);
        let spec = CodecSpec { codec: name, clock_rate, channels, format: Default::default() };
        Format { codec, spec }
    }
}

/// An opened packet: what is left of its header, and its plaintext.
#[derive(Debug)]
pub struct Packet {
    /// Extended sequence number at the publisher.
    pub sequence: u64,
    pub timestamp: u32,
    pub marker: bool,
    /// First packet of a keyframe: a decoder can start here.
    pub starts_keyframe: bool,
    /// Which run of the publisher it belongs to; a publisher that comes back starts another.
    pub epoch: u32,
    pub format: Format,
    start: u16,
    len: u16,
    /// One byte more than the longest payload: the padding count behind it (RFC 3550 §5.1).
    buffer: [u8; PAYLOAD_BYTES_MAX + 1],
}

impl Packet {
    fn empty() -> Packet {
        Packet {
            sequence: 0,
            timestamp: 0,
            marker: false,
            starts_keyframe: false,
            epoch: 0,
            format: Format::plain(Codec::Vp8),
            start: 0,
            len: 0,
            buffer: [0; PAYLOAD_BYTES_MAX + 1],
        }
    }

    /// Where the opener writes the plaintext; [`Packet::set_payload`] says how much of it counts.
    pub fn buffer_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..PAYLOAD_BYTES_MAX]
    }

    /// Declares `buffer[start..start + len_bytes]` the payload and puts one byte of padding behind.
    pub fn set_payload(&mut self, start: usize, len_bytes: usize) {
        assert!(start + len_bytes <= PAYLOAD_BYTES_MAX, "the opener was given that much room");
        self.start = start as u16;
        self.len = len_bytes as u16;
        self.buffer[start + len_bytes] = 1;
    }

    /// Copies `payload` in; false if it is longer than [`PAYLOAD_BYTES_MAX`].
    pub fn copy_payload(&mut self, payload: &[u8]) -> bool {
        let fits = payload.len() <= PAYLOAD_BYTES_MAX;
        if fits {
            self.buffer[..payload.len()].copy_from_slice(payload);
            self.set_payload(0, payload.len());
        }
        fits
    }

    pub fn payload(&self) -> &[u8] {
        let start = usize::from(self.start);
        &self.buffer[start..start + usize::from(self.len)]
    }

    /// The payload with `padding` (0 or 1) bytes of RTP padding behind it.
    #[inline]
    pub fn padded(&self, padding: usize) -> &[u8] {
        debug_assert!(padding <= 1, "one byte makes a frame one run; more is never needed");
        let start = usize::from(self.start);
        &self.buffer[start..start + usize::from(self.len) + padding]
    }

    pub fn payload_bytes(&self) -> usize {
        usize::from(self.len)
    }

    /// A copy for another shard: header values and payload, into `copy`.
    pub fn copy_into(&self, copy: &mut Packet) {
        copy.sequence = self.sequence;
        copy.timestamp = self.timestamp;
        copy.marker = self.marker;
        copy.starts_keyframe = self.starts_keyframe;
        copy.epoch = self.epoch;
        copy.format = self.format;
        let fits = copy.copy_payload(self.payload());
        debug_assert!(fits, "both buffers have the same size");
    }
}

/// Packets that wait to be filled. Grows to what the caches hold, then never allocates again; what
/// is given beyond [`POOL_PACKETS_MAX`] (an in-process source brings its own packets) is freed.
#[derive(Debug, Default)]
pub struct Pool {
    #[expect(clippy::vec_box, reason = "packets move by pointer between cache, pool and lanes")]
    free: Vec<Box<Packet>>,
}

impl Pool {
    pub fn take(&mut self) -> Box<Packet> {
        self.free.pop().unwrap_or_else(|| Box::new(Packet::empty()))
    }

    pub fn give(&mut self, packet: Box<Packet>) {
        if self.free.len() < POOL_PACKETS_MAX {
            self.free.push(packet);
        }
    }

    pub fn len(&self) -> usize {
        self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_is_given_more_than_it_lends_stays_bounded() {
        let mut pool = Pool::default();
        for _ in 0..2 * POOL_PACKETS_MAX {
            pool.give(Box::new(Packet::empty()));
        }
        assert_eq!(pool.len(), POOL_PACKETS_MAX);
    }

    #[test]
    fn one_byte_of_padding_stands_behind_every_payload() {
        let mut packet = Packet::empty();
        assert!(packet.copy_payload(&[9; PAYLOAD_BYTES_MAX]));
        assert_eq!(packet.padded(1).last(), Some(&1), "the padding count (RFC 3550 §5.1)");
        assert_eq!(packet.padded(0), packet.payload());
        assert!(!packet.copy_payload(&[9; PAYLOAD_BYTES_MAX + 1]), "too long");
    }
}
