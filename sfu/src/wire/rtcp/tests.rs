//! Bytes read by hand, builders read back, and what a peer may send instead.

use proptest::prelude::*;

use super::*;

/// A line a packet, so that one string shows what a compound was read as.
fn describe(compound: &[u8]) -> String {
    let line = |packet| match packet {
        Ok(Rtcp::SenderReport { ssrc, ntp, rtp_timestamp, packets, octets, reports }) => {
            let reports: Vec<_> = reports.map(|block| block.ssrc).collect();
            format!("SR {ssrc} ntp {ntp:x} at {rtp_timestamp}: {packets}/{octets} {reports:?}")
        }
        Ok(Rtcp::ReceiverReport { ssrc, reports }) => {
            format!("RR {ssrc} {:?}", reports.map(|block| block.ssrc).collect::<Vec<_>>())
        }
        Ok(Rtcp::Nack { sender, media, lost }) => {
            format!("NACK {sender} {media} {:?}", lost.collect::<Vec<_>>())
        }
        Ok(Rtcp::Pli { sender, media }) => format!("PLI {sender} {media}"),
        Ok(Rtcp::Fir { sender, media }) => format!("FIR {sender} {media}"),
        Ok(Rtcp::TransportFeedback { sender, media, body }) => {
            format!("TWCC {sender} {media} {body:?}")
        }
        Ok(Rtcp::Remb) => "REMB".to_owned(),
        Ok(Rtcp::Bye { ssrc }) => format!("BYE {ssrc}"),
        Ok(Rtcp::Other { packet_type }) => format!("other {packet_type}"),
        Err(error) => format!("error: {error}"),
    };
    parse(compound).map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(compound: &[u8], expected: &str) {
    assert_eq!(describe(compound), expected);
}

/// A packet with its length field filled in; `body` is whole words.
fn packet(first: u8, packet_type: u8, body: &[u8]) -> Vec<u8> {
    assert_eq!(body.len() % 4, 0);
    let mut out = vec![first, packet_type, 0, u8::try_from(body.len() / 4).unwrap()];
    out.extend_from_slice(body);
    out
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[test]
fn each_kind_of_packet_is_read() {
    let sender_report = words(&[1, 0xAABB, 0xCCDD, 4, 5, 6]);
    check(&packet(0x80, 200, &sender_report), "SR 1 ntp aabb0000ccdd at 4: 5/6 []");
    check(&packet(0x82, 201, &words(&[1, 7, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0])), "RR 1 [7, 8]");
    check(&packet(0x81, 205, &words(&[1, 2, 0x0064_8001])), "NACK 1 2 [100, 101, 116]");
    check(&packet(0x81, 205, &words(&[1, 2, 0xFFFF_0001, 5 << 16])), "NACK 1 2 [65535, 0, 5]");
    check(&packet(0x81, 205, &words(&[1, 2])), "NACK 1 2 []");
    check(&packet(0x8F, 205, &words(&[1, 2, 0x0003_0001])), "TWCC 1 2 [0, 3, 0, 1]");
    check(&packet(0x81, 206, &words(&[1, 2])), "PLI 1 2");
    check(&packet(0x84, 206, &words(&[1, 0, 2, 0x0700_0000])), "FIR 1 2");
    check(&packet(0x8F, 206, &[&words(&[1, 0]), &b"REMB"[..], &[0; 4]].concat()), "REMB");
    check(&packet(0x8F, 206, &words(&[1, 0, 0])), "other 206");
    check(&packet(0x81, 203, &words(&[9])), "BYE 9");
    check(&packet(0x80, 203, &[]), "other 203");
    check(&packet(0x81, 202, &words(&[1, 0x0100_0000])), "other 202");
    check(&packet(0x82, 205, &words(&[1, 2])), "other 205");
    check(&packet(0x80, 207, &words(&[1])), "other 207");
}

#[test]
fn report_blocks_carry_their_sign_and_order() {
    let body = words(&[1, 7, 0xFFFF_FFFE, 3, 4, 5, 6, 8, 0x0100_0002, 9, 10, 11, 12]);
    let compound = packet(0x82, 201, &[body, words(&[0xDEAD])].concat());
    let Some(Ok(Rtcp::ReceiverReport { reports, .. })) = parse(&compound).next() else {
        panic!("not a receiver report")
    };
    let lost: Vec<_> = reports.clone().map(|b| (b.fraction_lost, b.cumulative_lost)).collect();
    assert_eq!(lost, [(255, -2), (1, 2)]);
    let expected = ReportBlock {
        ssrc: 8,
        fraction_lost: 1,
        cumulative_lost: 2,
        highest_sequence: 9,
        jitter: 10,
        last_sr: 11,
        delay_since_last_sr: 12,
    };
    assert_eq!(reports.last(), Some(expected));
}

#[test]
fn a_compound_is_read_in_order_and_ends_at_the_first_error() {
    let good = [packet(0x80, 201, &words(&[1])), packet(0x81, 206, &words(&[1, 2]))].concat();
    check(&good, "RR 1 []\nPLI 1 2");
    check(&[], "");
    let bad = [&good, &[0x40, 201, 0, 0][..], &good].concat();
    check(&bad, "RR 1 []\nPLI 1 2\nerror: RTCP version 1, expected 2");
    let body_error = [packet(0x81, 201, &words(&[1])), good].concat();
    check(&body_error, "error: packet type 201 with a body of 4 bytes");
}

#[test]
fn padding_is_cut_off_before_the_body_is_read() {
    check(&packet(0xA1, 205, &words(&[1, 2, 5 << 16, 4])), "NACK 1 2 [5]");
    check(&packet(0xA1, 206, &words(&[1, 2, 0, 8])), "PLI 1 2");
    let error = |count| format!("error: padding of {count} bytes in a packet body of 8");
    check(&packet(0xA1, 206, &words(&[1, 0])), &error(0));
    check(&packet(0xA1, 206, &words(&[1, 9])), &error(9));
    check(&packet(0xA1, 206, &words(&[1, 4])), "error: packet type 206 with a body of 4 bytes");
    check(&packet(0xA0, 201, &[]), "error: padding of 0 bytes in a packet body of 0");
}

#[test]
fn a_packet_cut_short_is_refused() {
    check(&[0x80], "error: 1 bytes are left, the packet needs 4");
    check(&[0x80, 201, 0, 1, 0, 0, 0], "error: 7 bytes are left, the packet needs 8");
    check(&[0x80, 201, 255, 255], "error: 4 bytes are left, the packet needs 262144");
    for (first, packet_type, body_bytes) in [
        (0x80, 200, 20),
        (0x81, 200, 44),
        (0x80, 201, 0),
        (0x9F, 201, 4),
        (0x81, 203, 0),
        (0x81, 205, 4),
        (0x8F, 205, 4),
        (0x81, 206, 0),
        (0x84, 206, 12),
    ] {
        let expected =
            format!("error: packet type {packet_type} with a body of {body_bytes} bytes");
        check(&packet(first, packet_type, &vec![0; body_bytes]), &expected);
    }
}

#[test]
fn builders_append_what_is_read_back() {
    let mut out = Vec::new();
    write_sender_report(&mut out, 1, 0xAABB_0000_CCDD, 4, 5, 6);
    write_sdes_cname(&mut out, 1, "relay");
    write_nack(&mut out, 1, 2, &[65_535, 65_536, 65_552, 65_553, 70_000]);
    write_pli(&mut out, 3, 4);
    write_bye(&mut out, 9);
    check(
        &out,
        "SR 1 ntp aabb0000ccdd at 4: 5/6 []\nother 202\nNACK 1 2 [65535, 0, 16, 17, 4464]\n\
         PLI 3 4\nBYE 9",
    );
    assert_eq!(
        out[28..44],
        [&[0x81, 202, 0, 3, 0, 0, 0, 1, 1, 5][..], &b"relay"[..], &[0]].concat()
    );
}

#[test]
fn builders_split_what_one_packet_cannot_hold() {
    let block = ReportBlock {
        ssrc: 5,
        fraction_lost: 1,
        cumulative_lost: i32::MIN,
        highest_sequence: 2,
        jitter: 3,
        last_sr: 4,
        delay_since_last_sr: 5,
    };
    let mut out = Vec::new();
    write_receiver_report(&mut out, 1, &[block; 33]);
    let counts: Vec<_> = parse(&out)
        .map(|packet| match packet {
            Ok(Rtcp::ReceiverReport { ssrc: 1, reports }) => {
                assert!(reports.clone().all(|read| read.cumulative_lost == -0x80_0000));
                reports.count()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [31, 2]);

    out.clear();
    let apart: Vec<u64> = (0..300).map(|at| 100 * at).collect();
    write_nack(&mut out, 1, 2, &apart);
    assert_eq!(parse(&out).count(), 2);
    out.clear();
    write_nack(&mut out, 1, 2, &[]);
    assert!(out.is_empty());
    write_receiver_report(&mut out, 1, &[]);
    check(&out, "RR 1 []");
}

#[test]
fn a_long_cname_is_cut_at_a_character() {
    let mut out = Vec::new();
    write_sdes_cname(&mut out, 1, &"é".repeat(200));
    assert_eq!(out[9], 254);
    check(&out, "other 202");
}

#[test]
fn builders_do_not_allocate_within_the_capacity() {
    let mut out = Vec::with_capacity(256);
    let place = out.as_ptr();
    write_receiver_report(&mut out, 1, &[]);
    write_nack(&mut out, 1, 2, &[1, 2, 3, 500]);
    write_pli(&mut out, 1, 2);
    assert_eq!(out.as_ptr(), place);
}

fn any_block() -> impl Strategy<Value = ReportBlock> {
    (any::<[u32; 5]>(), any::<u8>(), -0x80_0000i32..0x80_0000).prop_map(
        |([ssrc, highest_sequence, jitter, last_sr, delay_since_last_sr], fraction_lost, lost)| {
            ReportBlock {
                ssrc,
                fraction_lost,
                cumulative_lost: lost,
                highest_sequence,
                jitter,
                last_sr,
                delay_since_last_sr,
            }
        },
    )
}

proptest! {
    #[test]
    fn report_blocks_round_trip(blocks in proptest::collection::vec(any_block(), 0..70)) {
        let mut out = Vec::new();
        write_receiver_report(&mut out, 1, &blocks);
        let mut read = Vec::new();
        for packet in parse(&out) {
            let Ok(Rtcp::ReceiverReport { ssrc: 1, reports }) = packet else {
                panic!("{packet:?}")
            };
            read.extend(reports);
        }
        prop_assert_eq!(read, blocks);
    }

    #[test]
    fn lost_packets_round_trip(
        first in 0u64..1 << 40, steps in proptest::collection::vec(1u64..40, 0..400),
    ) {
        let mut lost = vec![first];
        for step in steps {
            lost.push(lost[lost.len() - 1] + step);
        }
        let mut out = Vec::new();
        write_nack(&mut out, 1, 2, &lost);
        let mut read = Vec::new();
        for packet in parse(&out) {
            let Ok(Rtcp::Nack { sender: 1, media: 2, lost }) = packet else {
                panic!("{packet:?}")
            };
            read.extend(lost);
        }
        prop_assert_eq!(read, lost.iter().map(|lost| *lost as u16).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_parse_or_fail_by_name(
        mut compound in proptest::collection::vec(any::<u8>(), 0..200),
        packet_type in 198u8..208, length in 0u8..20,
    ) {
        if let [first, kind, _, words, ..] = &mut compound[..] {
            *first = 0x80 | *first & 0x3F;
            *kind = packet_type;
            *words = length;
        }
        describe(&compound);
        prop_assert!(parse(&compound).filter(Result::is_err).count() <= 1);
    }
}
