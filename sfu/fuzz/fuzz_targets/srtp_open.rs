//! Any datagram is refused by name under fixed keys, and what we seal opens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_fuzz::ports::SrtpProfile;
use sfu_fuzz::session::srtp::{SrtpKeys, contexts};
use sfu_fuzz::wire::rtp::RtpHeader;

const PROFILES: [(SrtpProfile, usize); 3] = [
    (SrtpProfile::AES128_CM_SHA1_80, 60),
    (SrtpProfile::AEAD_AES_128_GCM, 56),
    (SrtpProfile::AEAD_AES_256_GCM, 88),
];

fuzz_target!(|datagram: &[u8]| {
    for (profile, material_bytes) in PROFILES {
        let material: Vec<u8> = (0..material_bytes).map(|at| at as u8).collect();
        let keys = |is_client| SrtpKeys { profile, material: material.clone(), is_client };
        let (mut seal, _) = contexts(&keys(true)).expect("material has the profile's length");
        let (_, mut open) = contexts(&keys(false)).expect("material has the profile's length");
        let (mut plain, mut packet) = (Vec::new(), Vec::new());
        let mut media = [0; 4096];

        // Nobody guesses a tag of 80 bits; the corpus holds sealed packets, which may open.
        let _ = open.open_rtcp(datagram, &mut plain);
        if let Ok(header) = RtpHeader::parse(datagram) {
            let index = u64::from(header.sequence);
            let bytes = header.header_bytes;
            let _ = open.open_rtp(datagram, bytes, header.ssrc, index, &mut media);

            let payload = &datagram[bytes..];
            packet.extend_from_slice(&datagram[..bytes]);
            packet.resize(datagram.len() + seal.tag_bytes(), 0);
            let sealed = seal.seal_rtp(&mut packet, bytes, payload, header.ssrc, index);
            assert_eq!(sealed, packet.len());
            if payload.len() <= media.len() {
                let opened = open.open_rtp(&packet, bytes, header.ssrc, index, &mut media);
                assert_eq!(opened, Ok(payload.len()));
                assert_eq!(&media[..payload.len()], payload);
            }
        }
        if datagram.len() >= 8 {
            // The second packet: a corpus file may be the first one, which has been opened above.
            for _ in 0..2 {
                seal.seal_rtcp(datagram, &mut packet);
            }
            assert_eq!(open.open_rtcp(&packet, &mut plain), Ok(()));
            assert_eq!(plain, datagram);
        }
    }
});
