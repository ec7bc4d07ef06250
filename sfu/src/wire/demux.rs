//! Which protocol a datagram belongs to (RFC 7983 §7; RTP or RTCP by RFC 5761 §4).

/// What a datagram claims to be; the claim is checked by the parser it is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatagramKind {
    /// First byte 0–3.
    Stun,
    /// First byte 20–63.
    Dtls,
    /// First byte 128–191, payload type outside 64–95.
    Rtp,
    /// First byte 128–191, second byte 192–223.
    Rtcp,
    /// Empty, or a first byte that no multiplexed protocol uses here (ZRTP, TURN channels, QUIC).
    Unknown,
}

/// Looks at two bytes. A one-byte datagram in RTP's range is [`DatagramKind::Rtp`], whose parser
/// refuses it as truncated.
#[inline]
pub fn classify(datagram: &[u8]) -> DatagramKind {
    match *datagram {
        [0..=3, ..] => DatagramKind::Stun,
        [20..=63, ..] => DatagramKind::Dtls,
        // With the marker bit set, RTP payload types 64–95 would read as 192–223: RFC 5761
        // reserves that range for RTCP.
        [128..=191, 192..=223, ..] => DatagramKind::Rtcp,
        [128..=191, ..] => DatagramKind::Rtp,
        _ => DatagramKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(datagram: &[u8], expected: DatagramKind) {
        assert_eq!(classify(datagram), expected, "{datagram:?}");
    }

    #[test]
    fn each_first_byte_belongs_to_exactly_one_protocol() {
        for first in 0..=255u8 {
            let expected = match first {
                0..=3 => DatagramKind::Stun,
                20..=63 => DatagramKind::Dtls,
                128..=191 => DatagramKind::Rtp,
                _ => DatagramKind::Unknown,
            };
            check(&[first, 96, 0, 0], expected);
            check(&[first], expected);
        }
    }

    #[test]
    fn rtcp_packet_types_are_told_from_payload_types() {
        for (second, expected) in [
            (0, DatagramKind::Rtp),
            (96, DatagramKind::Rtp),
            (127, DatagramKind::Rtp),
            (128 | 63, DatagramKind::Rtp),
            (192, DatagramKind::Rtcp),
            (200, DatagramKind::Rtcp),
            (206, DatagramKind::Rtcp),
            (223, DatagramKind::Rtcp),
            (128 | 96, DatagramKind::Rtp),
            (255, DatagramKind::Rtp),
        ] {
            check(&[0x80, second], expected);
        }
    }

    #[test]
    fn nothing_is_no_protocol() {
        check(&[], DatagramKind::Unknown);
    }
}
