//! RTCP builders: each appends to a buffer that the caller keeps, so that nothing allocates once
//! the buffer has grown.

use super::{
    FMT_NACK, FMT_PLI, PT_BYE, PT_PAYLOAD_FEEDBACK, PT_RECEIVER_REPORT, PT_SENDER_REPORT,
    PT_SOURCE_DESCRIPTION, PT_TRANSPORT_FEEDBACK, ReportBlock, VERSION,
};

/// Report blocks of one packet (5-bit count); more go into further packets of the compound.
const REPORT_BLOCKS_MAX: usize = 31;
/// FCI entries of one NACK, which keeps it inside a datagram; more go into further packets.
const NACK_ENTRIES_MAX: usize = 256;
/// SDES item CNAME (RFC 3550 §6.5.1).
const SDES_CNAME: u8 = 1;

/// Appends a packet header whose length [`finish`] fills in; returns where the packet starts.
pub(in crate::wire) fn begin(out: &mut Vec<u8>, count: u8, packet_type: u8) -> usize {
    debug_assert!(count < 32, "count and FMT are 5 bits");
    let start = out.len();
    out.extend_from_slice(&[VERSION << 6 | count, packet_type, 0, 0]);
    start
}

/// Pads the packet begun at `start` to whole words and writes its length.
pub(in crate::wire) fn finish(out: &mut Vec<u8>, start: usize) {
    let words = (out.len() - start).div_ceil(4);
    out.resize(start + 4 * words, 0);
    let length = u16::try_from(words - 1).expect("builders split before 256 KiB");
    out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends receiver reports (RFC 3550 §6.4.2): one, or more when there are over 31 blocks.
pub fn write_receiver_report(out: &mut Vec<u8>, ssrc: u32, reports: &[ReportBlock]) {
    let mut rest = reports;
    loop {
        let (now, later) = rest.split_at(rest.len().min(REPORT_BLOCKS_MAX));
        let start = begin(out, now.len() as u8, PT_RECEIVER_REPORT);
        out.extend_from_slice(&ssrc.to_be_bytes());
        for block in now {
            write_report_block(out, block);
        }
        finish(out, start);
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
}

fn write_report_block(out: &mut Vec<u8>, block: &ReportBlock) {
    let ReportBlock {
        ssrc,
        fraction_lost,
        cumulative_lost,
        highest_sequence,
        jitter,
        last_sr,
        delay_since_last_sr,
    } = *block;
    let lost = cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF).to_be_bytes();
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[fraction_lost, lost[1], lost[2], lost[3]]);
    for word in [highest_sequence, jitter, last_sr, delay_since_last_sr] {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// Appends a sender report without report blocks (RFC 3550 §6.4.1). `ntp` is 32.32 fixed point.
pub fn write_sender_report(
    out: &mut Vec<u8>,
    ssrc: u32,
    ntp: u64,
    rtp_timestamp: u32,
    packets: u32,
    octets: u32,
) {
    let start = begin(out, 0, PT_SENDER_REPORT);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&ntp.to_be_bytes());
    for word in [rtp_timestamp, packets, octets] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    finish(out, start);
}

/// Appends a source description with one CNAME (RFC 3550 §6.5), cut to 255 bytes.
pub fn write_sdes_cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let fits = 0..=cname.len().min(usize::from(u8::MAX));
    let end = fits.rev().find(|at| cname.is_char_boundary(*at)).expect("0 is a boundary");
    let cname = &cname[..end];
    let start = begin(out, 1, PT_SOURCE_DESCRIPTION);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[SDES_CNAME, cname.len() as u8]);
    out.extend_from_slice(cname.as_bytes());
    out.push(0); // The list ends with at least one zero byte.
    finish(out, start);
}

/// Appends generic NACKs (RFC 4585 §6.2.1) for ascending extended sequence numbers; nothing when
/// there are none.
pub fn write_nack(out: &mut Vec<u8>, sender: u32, media: u32, lost: &[u64]) {
    debug_assert!(lost.is_sorted(), "lost packets come in ascending order");
    let mut rest = lost;
    while !rest.is_empty() {
        let start = begin(out, FMT_NACK, PT_TRANSPORT_FEEDBACK);
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&media.to_be_bytes());
        for _ in 0..NACK_ENTRIES_MAX {
            let [first, tail @ ..] = rest else { break };
            rest = tail;
            let mut following = 0u16;
            while let [next, tail @ ..] = rest
                && let distance @ 0..=16 = next.wrapping_sub(*first)
            {
                following |= ((1u32 << distance) >> 1) as u16; // Distance 0, a repetition: no bit.
                rest = tail;
            }
            out.extend_from_slice(&(*first as u16).to_be_bytes());
            out.extend_from_slice(&following.to_be_bytes());
        }
        finish(out, start);
    }
}

/// Appends a picture loss indication (RFC 4585 §6.3.1).
pub fn write_pli(out: &mut Vec<u8>, sender: u32, media: u32) {
    let start = begin(out, FMT_PLI, PT_PAYLOAD_FEEDBACK);
    out.extend_from_slice(&sender.to_be_bytes());
    out.extend_from_slice(&media.to_be_bytes());
    finish(out, start);
}

/// Appends a BYE without a reason (RFC 3550 §6.6).
pub fn write_bye(out: &mut Vec<u8>, ssrc: u32) {
    let start = begin(out, 1, PT_BYE);
    out.extend_from_slice(&ssrc.to_be_bytes());
    finish(out, start);
}
