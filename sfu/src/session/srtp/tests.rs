//! The vectors of RFC 3711 appendix B, RFC 6188 §7, RFC 7714 §16, §17; then what a peer may do.

use proptest::prelude::*;

use super::cipher::{Cipher, RtpNonce, apply_keystream, cm_iv};
use super::kdf::derive;
use super::*;

const PROFILES: [SrtpProfile; 3] =
    [SrtpProfile::AES128_CM_SHA1_80, SrtpProfile::AEAD_AES_128_GCM, SrtpProfile::AEAD_AES_256_GCM];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    assert_eq!(digits.len() % 2, 0, "whole bytes");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn material_bytes(profile: SrtpProfile) -> usize {
    match profile {
        SrtpProfile::AES128_CM_SHA1_80 => 60,
        SrtpProfile::AEAD_AES_128_GCM => 56,
        _ => 88,
    }
}

fn keys(profile: SrtpProfile, is_client: bool) -> SrtpKeys {
    let material = (0..material_bytes(profile)).map(|at| at as u8 ^ 0x5A).collect();
    SrtpKeys { profile, material, is_client }
}

/// The client's sealing context and the server's opening one.
fn pair(profile: SrtpProfile) -> (SealContext, OpenContext) {
    let (seal, _) = contexts(&keys(profile, true)).unwrap();
    let (_, open) = contexts(&keys(profile, false)).unwrap();
    (seal, open)
}

const SSRC: u32 = 0xCAFE_BABE;
const HEADER: [u8; 12] = [0x80, 96, 0, 1, 0, 0, 0, 2, 0xCA, 0xFE, 0xBA, 0xBE];

fn sealed(seal: &SealContext, payload: &[u8], index: u64) -> Vec<u8> {
    let mut out = vec![0xEE; HEADER.len() + payload.len() + seal.tag_bytes()];
    out[..HEADER.len()].copy_from_slice(&HEADER);
    let bytes = seal.seal_rtp(&mut out, HEADER.len(), payload, SSRC, index);
    assert_eq!(bytes, out.len());
    out
}

fn opened(open: &OpenContext, packet: &[u8], index: u64) -> Result<Vec<u8>, SrtpError> {
    let mut out = vec![0; packet.len()];
    let bytes = open.open_rtp(packet, HEADER.len(), SSRC, index, &mut out)?;
    out.truncate(bytes);
    Ok(out)
}

#[test]
fn keys_are_derived_as_in_rfc_3711_b3() {
    let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
    let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
    assert_eq!(derive::<16>(&key, &salt, 0)[..], hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(derive::<14>(&key, &salt, 2)[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
    let authentication = "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE
        E049646C43D9327AD175578EF7227098 6371C10C9A369AC2F94A8C5FBCDDDC25
        6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2";
    assert_eq!(derive::<94>(&key, &salt, 1)[..], hex(authentication));
}

#[test]
fn keys_of_256_bits_are_derived_as_in_rfc_6188_7_2() {
    let key = hex("f0f04914b513f2763a1b1fa130f10e29 98f6f6e43e4309d1e622a0e332b9f1b6");
    let salt = hex("3b04803de51ee7c96423ab5b78d2");
    let encryption = "5ba1064e30ec51613cad926c5a28ef73 1ec7fb397f70a960653caf06554cd8c4";
    assert_eq!(derive::<32>(&key, &salt, 0)[..], hex(encryption));
    assert_eq!(derive::<20>(&key, &salt, 1)[..], hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
    assert_eq!(derive::<14>(&key, &salt, 2)[..], hex("fa31791685ca444a9e07c6c64e93"));
}

#[test]
fn the_counter_keystream_is_that_of_rfc_3711_b2() {
    use aes::cipher::KeyInit;
    let key = aes::Aes128::new_from_slice(&hex("2B7E151628AED2A6ABF7158809CF4F3C")).unwrap();
    let salt = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
    let iv = cm_iv(&salt, RtpNonce { ssrc: 0, index: 0 });
    let mut keystream = [0xFF; 0xFF02 * 16];
    apply_keystream(&key, iv, &[0; 0xFF02 * 16], &mut keystream);
    let begin = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
        41E95B3BB0A2E8DD477901E4FCA894C0";
    let end = "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE
        6A2CC3787889374FBEB4C81B17BA6C44";
    assert_eq!(keystream[..48], hex(begin));
    assert_eq!(keystream[0xFEFF * 16..], hex(end));
}

#[test]
fn gcm_seals_rtp_as_in_rfc_7714_16() {
    #[track_caller]
    fn check(key: &str, expected: &str) {
        let cipher = Cipher::gcm(&hex(key), *b"Quid pro quo");
        let header = hex("8040f17b 8041f8d3 5501a0b2");
        let payload = b"Gallia est omnis divisa in partes tres";
        let nonce = RtpNonce { ssrc: 0x5501_A0B2, index: 0xF17B };
        let mut ciphertext = [0; 38];
        let mut tag = [0; 16];
        cipher.seal_rtp(nonce, &header, payload, &mut ciphertext, &mut tag);
        assert_eq!([&ciphertext[..], &tag[..]].concat(), hex(expected));
        let mut plaintext = [0; 38];
        assert_eq!(cipher.open_rtp(nonce, &header, &ciphertext, &tag, &mut plaintext), Ok(()));
        assert_eq!(&plaintext, payload);
    }
    check(
        "000102030405060708090a0b0c0d0e0f",
        "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833
         899d7f27 beb16a91 52cf765e e4390cce",
    );
    check(
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b
         7aa3db36 dfffd6b0 f9bb7878 d7a76c13",
    );
}

#[test]
fn gcm_seals_rtcp_as_in_rfc_7714_17() {
    #[track_caller]
    fn check(key: &str, expected: &str) {
        let cipher = Cipher::gcm(&hex(key), *b"Quid pro quo");
        let compound = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930
            4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef");
        let trailer = 0x8000_05D4;
        let mut out = Vec::new();
        cipher.seal_rtcp(trailer, &compound, &mut out);
        assert_eq!(out, hex(expected));
        assert_eq!(cipher.rtcp_trailer(&out), trailer);
        let mut plain = Vec::new();
        assert_eq!(cipher.open_rtcp(trailer, &out, &mut plain), Ok(()));
        assert_eq!(plain, compound);
    }
    check(
        "000102030405060708090a0b0c0d0e0f",
        "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1
         730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
    );
    check(
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1
         110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4",
    );
}

#[test]
fn both_ends_derive_the_same_keys_in_both_directions() {
    for profile in PROFILES {
        let (client_seal, client_open) = contexts(&keys(profile, true)).unwrap();
        let (server_seal, server_open) = contexts(&keys(profile, false)).unwrap();
        let up = sealed(&client_seal, b"up", 7);
        let down = sealed(&server_seal, b"down", 7);
        assert_eq!(opened(&server_open, &up, 7).unwrap(), b"up");
        assert_eq!(opened(&client_open, &down, 7).unwrap(), b"down");
        assert_eq!(opened(&client_open, &up, 7), Err(SrtpError::Authentication));
        assert_eq!(opened(&server_open, &down, 7), Err(SrtpError::Authentication));
    }
}

#[test]
fn material_of_another_length_is_refused() {
    for profile in PROFILES {
        let need_bytes = material_bytes(profile);
        for material_bytes in [0, need_bytes - 1, need_bytes + 1] {
            let material = vec![0; material_bytes];
            let refused = contexts(&SrtpKeys { profile, material, is_client: true });
            let expected = KeyError::MaterialLength { material_bytes, need_bytes };
            assert_eq!(refused.err(), Some(expected));
        }
    }
}

#[test]
fn debug_output_keeps_the_keys_to_itself() {
    let keys = SrtpKeys { material: vec![0xAB; 88], ..keys(SrtpProfile::AEAD_AES_256_GCM, true) };
    let (seal, open) = contexts(&keys).unwrap();
    let text = format!("{keys:?} {seal:?} {open:?}");
    assert!(text.contains("AEAD_AES_256_GCM"), "{text}");
    assert!(!text.contains("171") && !text.to_lowercase().contains("ab, ab"), "{text}");
}

#[test]
fn any_change_to_an_rtp_packet_is_noticed() {
    for profile in PROFILES {
        let (seal, open) = pair(profile);
        let packet = sealed(&seal, b"media", 0x1_0001);
        for bit in 0..8 * packet.len() {
            let mut forged = packet.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&open, &forged, 0x1_0001), Err(SrtpError::Authentication));
        }
        assert_eq!(opened(&open, &packet, 0x2_0001), Err(SrtpError::Authentication));
        assert_eq!(opened(&open, &packet, 0x1_0001).unwrap(), b"media");
    }
}

#[test]
fn rtp_packets_of_every_length_open_or_fail_by_name() {
    for profile in PROFILES {
        let (seal, open) = pair(profile);
        let packet = sealed(&seal, b"media", 1);
        for bytes in 0..packet.len() {
            let expected = if bytes < HEADER.len() + seal.tag_bytes() {
                SrtpError::TooShort
            } else {
                SrtpError::Authentication
            };
            assert_eq!(opened(&open, &packet[..bytes], 1), Err(expected));
        }
        let mut small = [0; 4];
        let refused = open.open_rtp(&packet, HEADER.len(), SSRC, 1, &mut small);
        assert_eq!(refused, Err(SrtpError::PlaintextTooLarge));
        assert_eq!(opened(&open, &sealed(&seal, b"", 2), 2).unwrap(), b"");
    }
}

fn receiver_report(sender: u8) -> Vec<u8> {
    vec![0x80, 201, 0, 1, 0, 0, 0, sender]
}

#[test]
fn rtcp_round_trips_and_is_taken_once() {
    for profile in PROFILES {
        let (mut seal, mut open) = pair(profile);
        let (mut first, mut second, mut out) = (Vec::new(), vec![1, 2, 3], vec![9; 100]);
        let compound = [receiver_report(1), b"and more".to_vec()].concat();
        seal.seal_rtcp(&compound, &mut first);
        seal.seal_rtcp(&receiver_report(1), &mut second);
        assert_eq!(open.open_rtcp(&second, &mut out), Ok(()));
        assert_eq!(out, receiver_report(1));
        assert_eq!(open.open_rtcp(&first, &mut out), Ok(()), "an older packet is welcome once");
        assert_eq!(out, compound);
        for packet in [&first, &second] {
            assert_eq!(open.open_rtcp(packet, &mut out), Err(SrtpError::Replay));
            assert!(out.is_empty());
        }
    }
}

#[test]
fn any_change_to_an_rtcp_packet_is_noticed_and_changes_no_window() {
    for profile in PROFILES {
        let (mut seal, mut open) = pair(profile);
        let (mut packet, mut out) = (Vec::new(), Vec::new());
        seal.seal_rtcp(&[receiver_report(1), vec![7; 8]].concat(), &mut packet);
        for bit in 0..8 * packet.len() {
            let mut forged = packet.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open.open_rtcp(&forged, &mut out), Err(SrtpError::Authentication));
            assert!(out.is_empty());
        }
        for bytes in 0..packet.len() {
            assert!(open.open_rtcp(&packet[..bytes], &mut out).is_err());
        }
        assert_eq!(open.open_rtcp(&packet, &mut out), Ok(()));
    }
}

#[test]
fn each_rtcp_sender_counts_its_own_packets() {
    for profile in PROFILES {
        let (_, mut open) = pair(profile);
        let (mut packet, mut out) = (Vec::new(), Vec::new());
        for sender in 0..=RTCP_SENDERS_MAX {
            // A fresh context each time: every sender begins with index 0, as libsrtp's do.
            let (mut seal, _) = pair(profile);
            seal.seal_rtcp(&receiver_report(u8::try_from(sender).unwrap()), &mut packet);
            let expected = if sender < RTCP_SENDERS_MAX { Ok(()) } else { Err(SrtpError::Replay) };
            assert_eq!(open.open_rtcp(&packet, &mut out), expected, "sender {sender}");
        }
    }
}

#[test]
fn no_rtcp_index_is_used_twice() {
    let (mut seal, mut open) = pair(SrtpProfile::AEAD_AES_128_GCM);
    let (mut packet, mut out) = (Vec::new(), Vec::new());
    seal.rtcp_index = RTCP_INDEX_END - 1;
    seal.seal_rtcp(&receiver_report(1), &mut packet);
    assert_eq!(open.open_rtcp(&packet, &mut out), Ok(()));
    seal.seal_rtcp(&receiver_report(1), &mut packet);
    assert!(packet.is_empty(), "the key is used up");
}

proptest! {
    #[test]
    fn any_payload_round_trips(
        profile in proptest::sample::select(&PROFILES[..]),
        payload in proptest::collection::vec(any::<u8>(), 0..1400), index in 0u64..1 << 48,
    ) {
        let (seal, open) = pair(profile);
        let packet = sealed(&seal, &payload, index);
        prop_assert_eq!(&packet[..HEADER.len()], &HEADER);
        prop_assert_eq!(opened(&open, &packet, index).unwrap(), payload);
    }

    #[test]
    fn any_compound_round_trips(
        profile in proptest::sample::select(&PROFILES[..]),
        compound in proptest::collection::vec(any::<u8>(), 8..1400),
    ) {
        let (mut seal, mut open) = pair(profile);
        let (mut packet, mut out) = (Vec::new(), Vec::new());
        seal.seal_rtcp(&compound, &mut packet);
        prop_assert_eq!(open.open_rtcp(&packet, &mut out), Ok(()));
        prop_assert_eq!(out, compound);
    }

    #[test]
    fn any_datagram_is_refused_by_name(
        profile in proptest::sample::select(&PROFILES[..]),
        datagram in proptest::collection::vec(any::<u8>(), 0..100), header_bytes in 0usize..120,
    ) {
        let (_, mut open) = pair(profile);
        let mut out = Vec::new();
        prop_assert!(open.open_rtcp(&datagram, &mut out).is_err());
        prop_assert!(open.open_rtp(&datagram, header_bytes, SSRC, 1, &mut [0; 100]).is_err());
    }
}
