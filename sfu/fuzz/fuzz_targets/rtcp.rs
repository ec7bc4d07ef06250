//! Any compound is read to its end or its first error, and what was read survives our builders.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_fuzz::wire::rtcp::{Rtcp, parse, write_nack, write_receiver_report};
use sfu_fuzz::wire::twcc;

fuzz_target!(|compound: &[u8]| {
    let mut ended = false;
    for packet in parse(compound) {
        assert!(!ended, "nothing follows an error");
        match packet {
            Err(_) => ended = true,
            Ok(
                Rtcp::SenderReport { ssrc, reports, .. } | Rtcp::ReceiverReport { ssrc, reports },
            ) => {
                let blocks: Vec<_> = reports.collect();
                let mut out = Vec::new();
                write_receiver_report(&mut out, ssrc, &blocks);
                let Some(Ok(Rtcp::ReceiverReport { ssrc: again, reports })) = parse(&out).next()
                else {
                    panic!("a report of ours")
                };
                assert_eq!(again, ssrc);
                assert!(reports.eq(blocks));
            }
            Ok(Rtcp::Nack { sender, media, lost }) => {
                let mut lost: Vec<u64> = lost.map(u64::from).collect();
                lost.sort_unstable();
                lost.dedup();
                let mut out = Vec::new();
                write_nack(&mut out, sender, media, &lost);
                let mut again = Vec::new();
                for packet in parse(&out) {
                    let Ok(Rtcp::Nack { lost, .. }) = packet else { panic!("a NACK of ours") };
                    again.extend(lost.map(u64::from));
                }
                assert_eq!(again, lost);
            }
            Ok(Rtcp::TransportFeedback { body, .. }) => {
                let _ = twcc::count(body);
            }
            Ok(
                Rtcp::Pli { .. }
                | Rtcp::Fir { .. }
                | Rtcp::Remb
                | Rtcp::Bye { .. }
                | Rtcp::Other { .. },
            ) => {}
        }
    }
});
