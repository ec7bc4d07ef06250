//! `RtpHeader::parse` against the `rtp` crate: two readers written apart must agree.

use bytes::Bytes;
use proptest::prelude::*;
use rtp::header::{EXTENSION_PROFILE_ONE_BYTE, EXTENSION_PROFILE_TWO_BYTE, Extension, Header};
use sfu::wire::rtp::{HEADER_BYTES_MAX, HeaderTemplate, RtpHeader};
use webrtc_util::marshal::{Marshal, MarshalSize, Unmarshal};

type Elements = Vec<(u8, Vec<u8>)>;

fn one_byte_elements() -> impl Strategy<Value = Elements> {
    let element = (1u8..15, proptest::collection::vec(any::<u8>(), 1..17));
    proptest::collection::vec(element, 1..5)
}

fn two_byte_elements() -> impl Strategy<Value = Elements> {
    let element = (1u8..=255, proptest::collection::vec(any::<u8>(), 0..40));
    proptest::collection::vec(element, 1..5)
}

fn extension() -> impl Strategy<Value = Option<(u16, Elements)>> {
    prop_oneof![
        Just(None),
        one_byte_elements().prop_map(|elements| Some((EXTENSION_PROFILE_ONE_BYTE, elements))),
        two_byte_elements().prop_map(|elements| Some((EXTENSION_PROFILE_TWO_BYTE, elements))),
    ]
}

fn any_header() -> impl Strategy<Value = Header> {
    (
        any::<(bool, bool, u16, u32, u32)>(),
        0u8..128,
        proptest::collection::vec(any::<u32>(), 0..16),
        extension(),
    )
        .prop_map(
            |((padding, marker, sequence, timestamp, ssrc), payload_type, csrc, extension)| {
                let (extension_profile, elements) = extension.clone().unwrap_or_default();
                Header {
                    version: 2,
                    padding,
                    extension: extension.is_some(),
                    marker,
                    payload_type,
                    sequence_number: sequence,
                    timestamp,
                    ssrc,
                    csrc,
                    extension_profile,
                    extensions: elements
                        .into_iter()
                        .map(|(id, payload)| Extension { id, payload: Bytes::from(payload) })
                        .collect(),
                    extensions_padding: 0,
                }
            },
        )
}

/// What both readers are asked.
fn assert_agree(packet: &[u8], theirs: &Header) -> Result<(), TestCaseError> {
    let ours = RtpHeader::parse(packet);
    prop_assert!(ours.is_ok(), "{:?}", ours);
    let ours = ours.expect("asserted above");
    prop_assert_eq!(ours.payload_type, theirs.payload_type);
    prop_assert_eq!(ours.marker, theirs.marker);
    prop_assert_eq!(ours.padding, theirs.padding);
    prop_assert_eq!(ours.sequence, theirs.sequence_number);
    prop_assert_eq!(ours.timestamp, theirs.timestamp);
    prop_assert_eq!(ours.ssrc, theirs.ssrc);
    let elements: Elements =
        ours.extensions(packet).map(|(id, value)| (id, value.to_vec())).collect();
    let theirs: Elements = theirs
        .extensions
        .iter()
        .map(|extension| (extension.id, extension.payload.to_vec()))
        .collect();
    prop_assert_eq!(elements, theirs);
    Ok(())
}

proptest! {
    /// R109
    #[test]
    fn a_header_of_the_rtp_crate_is_read_as_it_was_written(
        header in any_header(), payload in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut packet = header.marshal().expect("a valid header").to_vec();
        let header_bytes = header.marshal_size();
        packet.extend_from_slice(&payload);
        assert_agree(&packet, &header)?;
        let ours = RtpHeader::parse(&packet).expect("agreed above");
        prop_assert_eq!(ours.header_bytes, header_bytes);
        for bytes in 0..header_bytes {
            prop_assert!(RtpHeader::parse(&packet[..bytes]).is_err());
        }
    }

    /// R109
    #[test]
    fn the_rtp_crate_reads_what_a_template_writes(
        ssrc: u32, payload_type in 0u8..128, marker: bool, padding: bool, sequence: u16,
        timestamp: u32, twcc: u16, twcc_id in proptest::option::of(1u8..7),
        mid in proptest::option::of((7u8..15, "[a-z0-9]{1,16}")),
    ) {
        let mid = mid.as_ref().map(|(id, value)| (*id, value.as_str()));
        let template = HeaderTemplate::new(ssrc, payload_type, twcc_id, mid);
        let mut out = [0; HEADER_BYTES_MAX];
        let bytes = template.write(&mut out, marker, padding, sequence, timestamp, twcc);
        let theirs = Header::unmarshal(&mut &out[..bytes]).expect("a header of ours");
        prop_assert_eq!(theirs.version, 2);
        prop_assert_eq!(theirs.sequence_number, sequence);
        prop_assert_eq!(theirs.get_extension(twcc_id.unwrap_or(15)).map(|value| value.to_vec()),
            twcc_id.map(|_| twcc.to_be_bytes().to_vec()));
        assert_agree(&out[..bytes], &theirs)?;
    }

    /// R109
    ///
    /// Arbitrary bytes: a header that both take has the same fields, and ours takes what theirs
    /// takes. (Of a block that ends in a malformed element ours returns the elements before it, as
    /// RFC 8285 §4.2 says; theirs reads on into the payload.)
    #[test]
    fn readers_agree_on_arbitrary_bytes(
        mut packet in proptest::collection::vec(any::<u8>(), 0..80), words in 0u8..6,
    ) {
        if let [first, _, _, _, _, _, _, _, _, _, _, _, profile @ ..] = &mut packet[..] {
            // Mostly version 2, few CSRCs, extension blocks that could fit.
            *first = 0x80 | *first & 0x30;
            if let [high, low, words_high, words_low, ..] = profile {
                (*high, *low, *words_high, *words_low) = (0xBE, 0xDE, 0, words);
            }
        }
        if RtpHeader::parse(&packet).is_ok() {
            packet.extend([0; 17]); // Payload, or their reader runs off the end and panics.
        }
        let theirs = Header::unmarshal(&mut &packet[..]);
        match (RtpHeader::parse(&packet), theirs) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(ours.sequence, theirs.sequence_number);
                prop_assert_eq!(ours.ssrc, theirs.ssrc);
                prop_assert_eq!(ours.header_bytes, 12 + 4 * theirs.csrc.len()
                    + if theirs.extension { 4 + 4 * usize::from(words) } else { 0 });
            }
            (Err(_), Ok(theirs)) => prop_assert!(false, "only theirs: {:?}", theirs),
            (Ok(_) | Err(_), Err(_)) => {}
        }
    }
}
