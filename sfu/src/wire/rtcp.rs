//! RTCP packets (RFC 3550 §6, RFC 4585, RFC 5104) as read from a decrypted compound.

mod write;

pub(super) use write::{begin, finish};
pub use write::{
    write_bye, write_nack, write_pli, write_receiver_report, write_sdes_cname, write_sender_report,
};

const VERSION: u8 = 2;
const HEADER_BYTES: usize = 4;
const REPORT_BLOCK_BYTES: usize = 24;

const PT_SENDER_REPORT: u8 = 200;
const PT_RECEIVER_REPORT: u8 = 201;
const PT_SOURCE_DESCRIPTION: u8 = 202;
const PT_BYE: u8 = 203;
pub(super) const PT_TRANSPORT_FEEDBACK: u8 = 205;
const PT_PAYLOAD_FEEDBACK: u8 = 206;

const FMT_NACK: u8 = 1;
pub(super) const FMT_TRANSPORT_WIDE: u8 = 15;
const FMT_PLI: u8 = 1;
const FMT_FIR: u8 = 4;
const FMT_APPLICATION_LAYER: u8 = 15;

/// Why a compound packet ends early. A peer can cause every variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtcpParseError {
    /// The compound ends inside a packet.
    #[error("{left_bytes} bytes are left, the packet needs {need_bytes}")]
    Truncated {
        /// Bytes from the packet's start to the compound's end.
        left_bytes: usize,
        /// Bytes of the packet by its length field.
        need_bytes: usize,
    },
    /// The version field is not 2.
    #[error("RTCP version {0}, expected 2")]
    UnsupportedVersion(u8),
    /// The padding count is zero or more than the packet has.
    #[error("padding of {count_bytes} bytes in a packet body of {body_bytes}")]
    Padding {
        /// Last byte of the packet.
        count_bytes: usize,
        /// Bytes after the packet's header.
        body_bytes: usize,
    },
    /// The body is shorter than its type and count demand.
    #[error("packet type {packet_type} with a body of {body_bytes} bytes")]
    Body {
        /// RTCP packet type.
        packet_type: u8,
        /// Bytes after the packet's header, without padding.
        body_bytes: usize,
    },
}

/// One RTCP packet of a compound.
#[derive(Debug, Clone)]
pub enum Rtcp<'a> {
    /// RFC 3550 §6.4.1.
    SenderReport {
        /// The sender.
        ssrc: u32,
        /// NTP timestamp, 32.32 fixed point.
        ntp: u64,
        /// The same instant in the stream's clock.
        rtp_timestamp: u32,
        /// Packets sent since the start.
        packets: u32,
        /// Payload octets sent since the start.
        octets: u32,
        /// What the sender receives itself.
        reports: ReportBlocks<'a>,
    },
    /// RFC 3550 §6.4.2.
    ReceiverReport {
        /// The receiver.
        ssrc: u32,
        /// One block a stream.
        reports: ReportBlocks<'a>,
    },
    /// Generic NACK, RFC 4585 §6.2.1.
    Nack {
        /// Who asks.
        sender: u32,
        /// The stream.
        media: u32,
        /// Sequence numbers asked for.
        lost: NackIter<'a>,
    },
    /// Picture loss indication, RFC 4585 §6.3.1.
    Pli {
        /// Who asks.
        sender: u32,
        /// The stream.
        media: u32,
    },
    /// Full intra request, RFC 5104 §4.3.1.
    Fir {
        /// Who asks.
        sender: u32,
        /// The stream of the first FCI entry (the header's media SSRC is zero).
        media: u32,
    },
    /// Transport-wide congestion control, see [`super::twcc`].
    TransportFeedback {
        /// Who reports.
        sender: u32,
        /// Any stream of the transport.
        media: u32,
        /// From the base sequence number on.
        body: &'a [u8],
    },
    /// Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb); its value is not used.
    Remb,
    /// RFC 3550 §6.6.
    Bye {
        /// First source of the list.
        ssrc: u32,
    },
    /// Well framed, of no use here (SDES, APP, XR, BYE that names nobody, other feedback).
    Other {
        /// RTCP packet type.
        packet_type: u8,
    },
}

/// Walks a compound; after an error it ends.
pub fn parse(compound: &[u8]) -> RtcpIter<'_> {
    RtcpIter { rest: compound }
}

/// See [`parse`].
#[derive(Debug, Clone)]
pub struct RtcpIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for RtcpIter<'a> {
    type Item = Result<Rtcp<'a>, RtcpParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(match split_packet(self.rest) {
            Ok((packet, rest)) => {
                self.rest = rest;
                packet.read().inspect_err(|_| self.rest = &[])
            }
            Err(error) => {
                self.rest = &[];
                Err(error)
            }
        })
    }
}

/// One packet's header fields, with the padding cut off the body.
struct Packet<'a> {
    count: u8,
    packet_type: u8,
    body: &'a [u8],
}

fn split_packet(rest: &[u8]) -> Result<(Packet<'_>, &[u8]), RtcpParseError> {
    let left_bytes = rest.len();
    let Some((&[first, packet_type, words_high, words_low], _)) = rest.split_first_chunk() else {
        return Err(RtcpParseError::Truncated { left_bytes, need_bytes: HEADER_BYTES });
    };
    if first >> 6 != VERSION {
        return Err(RtcpParseError::UnsupportedVersion(first >> 6));
    }
    let need_bytes = HEADER_BYTES + 4 * usize::from(u16::from_be_bytes([words_high, words_low]));
    let (packet, rest) = rest
        .split_at_checked(need_bytes)
        .ok_or(RtcpParseError::Truncated { left_bytes, need_bytes })?;
    let mut body = &packet[HEADER_BYTES..];
    if first & 0x20 != 0 {
        let count_bytes = usize::from(body.last().copied().unwrap_or(0));
        if count_bytes == 0 || count_bytes > body.len() {
            return Err(RtcpParseError::Padding { count_bytes, body_bytes: body.len() });
        }
        body = &body[..body.len() - count_bytes];
    }
    Ok((Packet { count: first & 0x1F, packet_type, body }, rest))
}

impl<'a> Packet<'a> {
    fn read(&self) -> Result<Rtcp<'a>, RtcpParseError> {
        Ok(match (self.packet_type, self.count) {
            (PT_SENDER_REPORT, _) => {
                let (head, rest) = self.head::<24>(self.body)?;
                Rtcp::SenderReport {
                    ssrc: be32(head, 0),
                    ntp: u64::from(be32(head, 4)) << 32 | u64::from(be32(head, 8)),
                    rtp_timestamp: be32(head, 12),
                    packets: be32(head, 16),
                    octets: be32(head, 20),
                    reports: self.report_blocks(rest)?,
                }
            }
            (PT_RECEIVER_REPORT, _) => {
                let (head, rest) = self.head::<4>(self.body)?;
                Rtcp::ReceiverReport { ssrc: be32(head, 0), reports: self.report_blocks(rest)? }
            }
            (PT_BYE, 1..) => Rtcp::Bye { ssrc: be32(self.head::<4>(self.body)?.0, 0) },
            (PT_TRANSPORT_FEEDBACK, FMT_NACK) => {
                let (sender, media, fci) = self.feedback()?;
                Rtcp::Nack { sender, media, lost: NackIter::new(fci) }
            }
            (PT_TRANSPORT_FEEDBACK, FMT_TRANSPORT_WIDE) => {
                let (sender, media, body) = self.feedback()?;
                Rtcp::TransportFeedback { sender, media, body }
            }
            (PT_PAYLOAD_FEEDBACK, FMT_PLI) => {
                let (sender, media, _) = self.feedback()?;
                Rtcp::Pli { sender, media }
            }
            (PT_PAYLOAD_FEEDBACK, FMT_FIR) => {
                let (sender, _, fci) = self.feedback()?;
                Rtcp::Fir { sender, media: be32(self.head::<8>(fci)?.0, 0) }
            }
            (PT_PAYLOAD_FEEDBACK, FMT_APPLICATION_LAYER) => {
                let (_, _, fci) = self.feedback()?;
                if fci.starts_with(b"REMB") {
                    Rtcp::Remb
                } else {
                    Rtcp::Other { packet_type: self.packet_type }
                }
            }
            (packet_type, _) => Rtcp::Other { packet_type },
        })
    }

    /// The first `N` bytes of `bytes` (the body or a part of it), and the rest.
    fn head<const N: usize>(
        &self,
        bytes: &'a [u8],
    ) -> Result<(&'a [u8; N], &'a [u8]), RtcpParseError> {
        bytes.split_first_chunk().ok_or(self.too_short())
    }

    /// Sender SSRC, media SSRC, feedback control information (RFC 4585 §6.1).
    fn feedback(&self) -> Result<(u32, u32, &'a [u8]), RtcpParseError> {
        let (head, fci) = self.head::<8>(self.body)?;
        Ok((be32(head, 0), be32(head, 4), fci))
    }

    fn report_blocks(&self, rest: &'a [u8]) -> Result<ReportBlocks<'a>, RtcpParseError> {
        // What follows the counted blocks is a profile-specific extension.
        let blocks = rest.get(..REPORT_BLOCK_BYTES * usize::from(self.count));
        Ok(ReportBlocks { blocks: blocks.ok_or(self.too_short())?.as_chunks().0.iter() })
    }

    fn too_short(&self) -> RtcpParseError {
        RtcpParseError::Body { packet_type: self.packet_type, body_bytes: self.body.len() }
    }
}

/// A report block (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream reported on.
    pub ssrc: u32,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the start; 24 bits signed, clamped when written.
    pub cumulative_lost: i32,
    /// Extended highest sequence number received.
    pub highest_sequence: u32,
    /// Interarrival jitter in the stream's clock.
    pub jitter: u32,
    /// Middle 32 bits of the NTP timestamp of the last sender report; 0 if none came.
    pub last_sr: u32,
    /// Since that report, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// The report blocks of a sender or receiver report.
#[derive(Debug, Clone)]
pub struct ReportBlocks<'a> {
    blocks: std::slice::Iter<'a, [u8; REPORT_BLOCK_BYTES]>,
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let block = self.blocks.next()?;
        Some(ReportBlock {
            ssrc: be32(block, 0),
            fraction_lost: block[4],
            // The shift down carries the sign of the 24-bit field.
            cumulative_lost: i32::from_be_bytes([block[5], block[6], block[7], 0]) >> 8,
            highest_sequence: be32(block, 8),
            jitter: be32(block, 12),
            last_sr: be32(block, 16),
            delay_since_last_sr: be32(block, 20),
        })
    }
}

/// The sequence numbers of a generic NACK, in the order of its FCI.
#[derive(Debug, Clone)]
pub struct NackIter<'a> {
    entries: std::slice::Iter<'a, [u8; 4]>,
    packet_id: u16,
    /// Bitmask of following lost packets, what is left of it.
    following: u16,
}

impl<'a> NackIter<'a> {
    fn new(fci: &'a [u8]) -> NackIter<'a> {
        NackIter { entries: fci.as_chunks().0.iter(), packet_id: 0, following: 0 }
    }
}

impl Iterator for NackIter<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.following == 0 {
            let &[id_high, id_low, mask_high, mask_low] = self.entries.next()?;
            self.packet_id = u16::from_be_bytes([id_high, id_low]);
            self.following = u16::from_be_bytes([mask_high, mask_low]);
            return Some(self.packet_id);
        }
        let bit = self.following.trailing_zeros() as u16;
        self.following &= self.following - 1;
        Some(self.packet_id.wrapping_add(bit + 1))
    }
}

/// Big-endian word at `at`; every caller passes an array whose length covers it.
fn be32(bytes: &[u8], at: usize) -> u32 {
    let word = bytes[at..].first_chunk().expect("callers index inside fixed arrays");
    u32::from_be_bytes(*word)
}

#[cfg(test)]
mod tests;
