//! RTP headers (RFC 3550 §5.1, RFC 8285): read from a publisher, written for a subscriber.

const FIXED_BYTES: usize = 12;
const VERSION: u8 = 2;
/// "defined by profile" value of one-byte header extensions (RFC 8285 §4.2).
const PROFILE_ONE_BYTE: u16 = 0xBEDE;
/// The same of two-byte header extensions without the four appbits (RFC 8285 §4.3).
const PROFILE_TWO_BYTE: u16 = 0x1000;
/// Longest value of a one-byte header extension element (RFC 8285 §4.2).
const ONE_BYTE_VALUE_MAX: usize = 16;

/// Why a datagram is not an RTP packet. A peer can cause every variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpParseError {
    /// The datagram ends inside the header.
    #[error("datagram has {len_bytes} bytes, header needs {need_bytes}")]
    Truncated {
        /// Bytes in the datagram.
        len_bytes: usize,
        /// Bytes of header, as far as it could be read.
        need_bytes: usize,
    },
    /// The version field is not 2.
    #[error("RTP version {0}, expected 2")]
    UnsupportedVersion(u8),
}

/// An RTP header; the payload (encrypted or not) starts at `header_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// 0–127.
    pub payload_type: u8,
    /// M bit; its meaning belongs to the payload format.
    pub marker: bool,
    /// P bit: the last payload byte counts the padding, see [`payload_without_padding`].
    pub padding: bool,
    /// Sequence number.
    pub sequence: u16,
    /// In units of the payload's clock rate.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
    /// Fixed header, CSRCs and extension block.
    pub header_bytes: usize,
    /// Profile value, start and end of the extension elements in the packet.
    extension: Option<(u16, usize, usize)>,
}

impl RtpHeader {
    /// Reads the header; padding and extension elements are not checked here.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<RtpHeader, RtpParseError> {
        let len_bytes = packet.len();
        let truncated = |need_bytes| RtpParseError::Truncated { len_bytes, need_bytes };
        let fixed: &[u8; FIXED_BYTES] = packet.first_chunk().ok_or(truncated(FIXED_BYTES))?;
        if fixed[0] >> 6 != VERSION {
            return Err(RtpParseError::UnsupportedVersion(fixed[0] >> 6));
        }
        let mut header_bytes = FIXED_BYTES + 4 * usize::from(fixed[0] & 0x0F);
        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            let start = header_bytes + 4;
            let &[profile_high, profile_low, words_high, words_low] =
                packet.get(header_bytes..).and_then(<[u8]>::first_chunk).ok_or(truncated(start))?;
            let words = u16::from_be_bytes([words_high, words_low]);
            header_bytes = start + 4 * usize::from(words);
            let profile = u16::from_be_bytes([profile_high, profile_low]);
            extension = Some((profile, start, header_bytes));
        }
        if header_bytes > len_bytes {
            return Err(truncated(header_bytes));
        }
        Ok(RtpHeader {
            payload_type: fixed[1] & 0x7F,
            marker: fixed[1] & 0x80 != 0,
            padding: fixed[0] & 0x20 != 0,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            header_bytes,
            extension,
        })
    }

    /// The header extension elements of `packet`, the one this header was parsed from. Empty for a
    /// profile that is not RFC 8285's.
    #[inline]
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> ExtensionIter<'a> {
        let Some((profile, start, end)) = self.extension else {
            return ExtensionIter { form: Form::OneByte, rest: &[] };
        };
        let rest = packet.get(start..end).unwrap_or(&[]);
        match profile {
            PROFILE_ONE_BYTE => ExtensionIter { form: Form::OneByte, rest },
            _ if profile & 0xFFF0 == PROFILE_TWO_BYTE => {
                ExtensionIter { form: Form::TwoByte, rest }
            }
            _ => ExtensionIter { form: Form::OneByte, rest: &[] },
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Form {
    OneByte,
    TwoByte,
}

/// Yields (id, value) of each header extension element; ends early at a malformed one.
#[derive(Debug, Clone)]
pub struct ExtensionIter<'a> {
    form: Form,
    rest: &'a [u8],
}

impl<'a> ExtensionIter<'a> {
    /// The element's id, its length, and what follows; `None` where RFC 8285 says to stop.
    #[inline]
    fn split_head(&self) -> Option<(u8, usize, &'a [u8])> {
        match (self.form, self.rest) {
            // Id 0 with a length, and id 15, end the processing of a one-byte block (§4.2).
            (Form::OneByte, &[first @ 0x10..=0xEF, ref tail @ ..]) => {
                Some((first >> 4, usize::from(first & 0x0F) + 1, tail))
            }
            (Form::TwoByte, &[id, len_bytes, ref tail @ ..]) => {
                Some((id, usize::from(len_bytes), tail))
            }
            _ => None,
        }
    }
}

impl<'a> Iterator for ExtensionIter<'a> {
    type Item = (u8, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        while let [0, tail @ ..] = self.rest {
            self.rest = tail; // A zero byte between elements is padding in both forms.
        }
        let element = self.split_head().and_then(|(id, len_bytes, tail)| {
            let (value, rest) = tail.split_at_checked(len_bytes)?;
            self.rest = rest;
            Some((id, value))
        });
        if element.is_none() {
            self.rest = &[];
        }
        element
    }
}

/// Why a padded payload is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PaddingError {
    /// P bit set on an empty payload.
    #[error("the padding bit is set and the payload is empty")]
    Empty,
    /// The count is zero, or more than there is.
    #[error("{count_bytes} bytes of padding in a payload of {payload_bytes} bytes")]
    Count {
        /// Last byte of the payload.
        count_bytes: usize,
        /// Bytes of payload, padding included.
        payload_bytes: usize,
    },
}

/// Cuts the padding off a decrypted payload (RFC 3550 §5.1, P bit). What remains may be empty: a
/// padding-only packet probes bandwidth.
#[inline]
pub fn payload_without_padding(payload: &[u8], padding: bool) -> Result<&[u8], PaddingError> {
    if !padding {
        return Ok(payload);
    }
    let payload_bytes = payload.len();
    let count_bytes = usize::from(*payload.last().ok_or(PaddingError::Empty)?);
    if count_bytes == 0 || count_bytes > payload_bytes {
        return Err(PaddingError::Count { count_bytes, payload_bytes });
    }
    Ok(&payload[..payload_bytes - count_bytes])
}

/// Bound on [`HeaderTemplate::header_bytes`]: fixed header, extension header, elements.
pub const HEADER_BYTES_MAX: usize = FIXED_BYTES + 4 + 32;

const EXTENSION_ELEMENTS_AT: usize = FIXED_BYTES + 4;
/// Where the TWCC number of a template without TWCC goes: never copied out.
const TWCC_NOWHERE: usize = HEADER_BYTES_MAX - 2;
const _: () = assert!(EXTENSION_ELEMENTS_AT + 3 + 1 + ONE_BYTE_VALUE_MAX <= TWCC_NOWHERE);

/// The header of one subscriber's RTP stream with all that stays the same filled in.
#[derive(Debug, Clone, Copy)]
pub struct HeaderTemplate {
    bytes: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    twcc_at: usize,
}

impl HeaderTemplate {
    /// `twcc_id` and `mid` are the negotiated one-byte header extension ids, with the value of
    /// MID (RFC 9143 §15). An id outside 1–14 or a MID that is not of 1–16 bytes cannot be said in
    /// the one-byte form (RFC 8285 §4.2) and is left out: the receiver then knows the stream by
    /// its SSRC and payload type.
    pub fn new(
        ssrc: u32,
        payload_type: u8,
        twcc_id: Option<u8>,
        mid: Option<(u8, &str)>,
    ) -> HeaderTemplate {
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[0] = VERSION << 6;
        bytes[1] = payload_type & 0x7F;
        bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let mut template =
            HeaderTemplate { bytes, header_bytes: FIXED_BYTES, twcc_at: TWCC_NOWHERE };
        let mut end = EXTENSION_ELEMENTS_AT;
        if let Some(id @ 1..=14) = twcc_id {
            template.twcc_at = end + 1;
            end = template.put_element(end, id, &[0, 0]);
        }
        if let Some((id @ 1..=14, mid)) = mid
            && (1..=ONE_BYTE_VALUE_MAX).contains(&mid.len())
        {
            end = template.put_element(end, id, mid.as_bytes());
        }
        let words = (end - EXTENSION_ELEMENTS_AT).div_ceil(4);
        if words > 0 {
            template.bytes[0] |= 0x10;
            template.bytes[12..14].copy_from_slice(&PROFILE_ONE_BYTE.to_be_bytes());
            template.bytes[15] = u8::try_from(words).expect("at most 20 bytes of elements");
            template.header_bytes = EXTENSION_ELEMENTS_AT + 4 * words;
        }
        template
    }

    fn put_element(&mut self, at: usize, id: u8, value: &[u8]) -> usize {
        let len_field = u8::try_from(value.len() - 1).expect("1 to 16 bytes of value");
        self.bytes[at] = id << 4 | len_field;
        let end = at + 1 + value.len();
        self.bytes[at + 1..end].copy_from_slice(value);
        end
    }

    /// Bytes that [`HeaderTemplate::write`] writes: 12, or 20–36 with extensions.
    #[inline]
    pub fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    /// Writes one packet's header to the front of `out` and returns its length.
    ///
    /// Runs once per packet and subscriber; no branch depends on what was negotiated.
    ///
    /// # Panics
    /// When `out` is shorter than [`HeaderTemplate::header_bytes`].
    #[inline]
    pub fn write(
        &self,
        out: &mut [u8],
        marker: bool,
        padding: bool,
        sequence: u16,
        timestamp: u32,
        twcc: u16,
    ) -> usize {
        let mut header = self.bytes;
        header[0] |= u8::from(padding) << 5;
        header[1] |= u8::from(marker) << 7;
        header[2..4].copy_from_slice(&sequence.to_be_bytes());
        header[4..8].copy_from_slice(&timestamp.to_be_bytes());
        header[self.twcc_at..self.twcc_at + 2].copy_from_slice(&twcc.to_be_bytes());
        out[..self.header_bytes].copy_from_slice(&header[..self.header_bytes]);
        self.header_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Version 2, PT 111 with marker, sequence 0x1234, timestamp 0x01020304, SSRC 0xAABBCCDD.
    const FIXED: [u8; 12] = [0x80, 0xEF, 0x12, 0x34, 1, 2, 3, 4, 0xAA, 0xBB, 0xCC, 0xDD];

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut out = FIXED.to_vec();
        out[0] = first;
        out.extend_from_slice(rest);
        out
    }

    #[track_caller]
    fn check(packet: &[u8], expected: Result<usize, RtpParseError>) {
        assert_eq!(RtpHeader::parse(packet).map(|header| header.header_bytes), expected);
    }

    #[track_caller]
    fn check_extensions(profile: [u8; 2], elements: &[u8], expected: &[(u8, &[u8])]) {
        assert_eq!(elements.len() % 4, 0, "an extension block is whole words");
        let words = u8::try_from(elements.len() / 4).unwrap();
        let mut rest = vec![profile[0], profile[1], 0, words];
        rest.extend_from_slice(elements);
        rest.extend([0xFF; 8]); // Payload, which no element may reach.
        let packet = packet(0x90, &rest);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.extensions(&packet).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_field_is_read_from_its_place() {
        let header = RtpHeader::parse(&packet(0xA0, &[9, 9, 2])).unwrap();
        assert_eq!(
            header,
            RtpHeader {
                payload_type: 111,
                marker: true,
                padding: true,
                sequence: 0x1234,
                timestamp: 0x0102_0304,
                ssrc: 0xAABB_CCDD,
                header_bytes: 12,
                extension: None,
            }
        );
    }

    #[test]
    fn the_header_ends_after_csrcs_and_extension() {
        check(&packet(0x80, &[]), Ok(12));
        check(&packet(0x82, &[0; 8]), Ok(20));
        check(&packet(0x90, &[0xBE, 0xDE, 0, 1, 0x10, 1, 0, 0]), Ok(20));
        check(&packet(0x91, &[0, 0, 0, 0, 0xBE, 0xDE, 0, 0]), Ok(20));
    }

    #[test]
    fn a_header_cut_short_is_refused() {
        let truncated =
            |len_bytes, need_bytes| Err(RtpParseError::Truncated { len_bytes, need_bytes });
        check(&[], truncated(0, 12));
        check(&FIXED[..11], truncated(11, 12));
        check(&packet(0x81, &[0; 3]), truncated(15, 16));
        check(&packet(0x90, &[0xBE, 0xDE, 0]), truncated(15, 16));
        check(&packet(0x9F, &[]), truncated(12, 76));
        check(&packet(0x90, &[0xBE, 0xDE, 0, 2, 0, 0, 0, 0]), truncated(20, 24));
        check(&packet(0x90, &[0xBE, 0xDE, 0xFF, 0xFF]), truncated(16, 16 + 4 * 0xFFFF));
    }

    #[test]
    fn other_versions_are_refused() {
        for version in [0, 1, 3] {
            check(&packet(version << 6, &[]), Err(RtpParseError::UnsupportedVersion(version)));
        }
    }

    #[test]
    fn both_extension_forms_are_read() {
        check_extensions([0xBE, 0xDE], &[0x10, 7, 0, 0x31, 1, 2, 0, 0], &[(1, &[7]), (3, &[1, 2])]);
        check_extensions([0x10, 0x00], &[1, 0, 0, 200, 1, 9, 0, 0], &[(1, &[]), (200, &[9])]);
        check_extensions([0x10, 0x0F], &[15, 1, 9, 0], &[(15, &[9])]);
        check_extensions([0xBE, 0xDE], &[], &[]);
        check_extensions([0x12, 0x34], &[0x10, 7, 0, 0], &[]);
    }

    #[test]
    fn extensions_end_at_a_malformed_element() {
        check_extensions([0xBE, 0xDE], &[0x10, 7, 0x37, 1], &[(1, &[7])]);
        check_extensions([0xBE, 0xDE], &[0x10, 7, 0xF0, 0x20], &[(1, &[7])]);
        check_extensions([0xBE, 0xDE], &[0x10, 7, 0x02, 0x20], &[(1, &[7])]);
        check_extensions([0x10, 0x00], &[1, 1, 7, 2], &[(1, &[7])]);
        check_extensions([0x10, 0x00], &[1, 1, 7, 0, 2, 3, 1, 1], &[(1, &[7])]);
    }

    #[test]
    fn extensions_of_a_shorter_packet_are_none() {
        let long = packet(0x90, &[0xBE, 0xDE, 0, 1, 0x10, 1, 0, 0]);
        let header = RtpHeader::parse(&long).unwrap();
        assert_eq!(header.extensions(&long[..14]).count(), 0);
    }

    #[test]
    fn padding_is_cut_off_by_its_count() {
        assert_eq!(payload_without_padding(&[5, 6, 2], false), Ok(&[5, 6, 2][..]));
        assert_eq!(payload_without_padding(&[5, 6, 1], true), Ok(&[5, 6][..]));
        assert_eq!(payload_without_padding(&[5, 6, 3], true), Ok(&[][..]));
        assert_eq!(payload_without_padding(&[], false), Ok(&[][..]));
    }

    #[test]
    fn padding_that_does_not_fit_is_refused() {
        let count = |count_bytes| Err(PaddingError::Count { count_bytes, payload_bytes: 3 });
        assert_eq!(payload_without_padding(&[], true), Err(PaddingError::Empty));
        assert_eq!(payload_without_padding(&[5, 6, 0], true), count(0));
        assert_eq!(payload_without_padding(&[5, 6, 4], true), count(4));
    }

    #[test]
    fn a_template_carries_what_was_negotiated_and_nothing_else() {
        #[track_caller]
        fn check(twcc: Option<u8>, mid: Option<(u8, &str)>, expected: &[(u8, &[u8])]) {
            let template = HeaderTemplate::new(0xAABB_CCDD, 111, twcc, mid);
            let mut out = [0xFF; HEADER_BYTES_MAX];
            let written = template.write(&mut out, true, false, 0x1234, 0x0102_0304, 0x5678);
            assert_eq!(written, template.header_bytes());
            assert_eq!(out[1..12], FIXED[1..]);
            assert!(out[written..].iter().all(|byte| *byte == 0xFF), "writes its header only");
            let header = RtpHeader::parse(&out[..written]).unwrap();
            assert_eq!(header.header_bytes, written);
            assert_eq!(header.extension.is_some(), !expected.is_empty());
            assert_eq!(header.extensions(&out).collect::<Vec<_>>(), expected);
        }
        check(None, None, &[]);
        check(Some(3), None, &[(3, &[0x56, 0x78])]);
        check(None, Some((4, "0")), &[(4, b"0")]);
        check(Some(3), Some((4, "video")), &[(3, &[0x56, 0x78]), (4, b"video")]);
        check(
            Some(14),
            Some((1, "0123456789abcdef")),
            &[(14, &[0x56, 0x78]), (1, b"0123456789abcdef")],
        );
        // What the one-byte form cannot say is left out.
        check(Some(15), Some((0, "0")), &[]);
        check(Some(0), Some((15, "0")), &[]);
        check(None, Some((4, "")), &[]);
        check(Some(3), Some((4, "0123456789abcdef!")), &[(3, &[0x56, 0x78])]);
    }

    proptest! {
        #[test]
        fn a_written_header_reads_back(
            ssrc: u32, payload_type in 0u8..128, marker: bool, padding: bool, sequence: u16,
            timestamp: u32, twcc: u16, twcc_id in proptest::option::of(1u8..7),
            mid in proptest::option::of((7u8..15, "[a-z0-9]{1,16}")),
        ) {
            let mid = mid.as_ref().map(|(id, value)| (*id, value.as_str()));
            let template = HeaderTemplate::new(ssrc, payload_type, twcc_id, mid);
            let mut out = [0; HEADER_BYTES_MAX];
            let header_bytes =
                template.write(&mut out, marker, padding, sequence, timestamp, twcc);
            let header = RtpHeader::parse(&out[..header_bytes]).unwrap();
            let extension = header.extension;
            prop_assert_eq!(header, RtpHeader {
                payload_type, marker, padding, sequence, timestamp, ssrc, header_bytes, extension,
            });
            let expected: Vec<(u8, Vec<u8>)> = twcc_id
                .map(|id| (id, twcc.to_be_bytes().to_vec()))
                .into_iter()
                .chain(mid.map(|(id, value)| (id, value.as_bytes().to_vec())))
                .collect();
            let read: Vec<_> =
                header.extensions(&out).map(|(id, value)| (id, value.to_vec())).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_bytes_parse_or_fail_by_name(
            packet in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            if let Ok(header) = RtpHeader::parse(&packet) {
                prop_assert!(header.header_bytes <= packet.len());
                let bytes: usize =
                    header.extensions(&packet).map(|(_, value)| value.len() + 1).sum();
                prop_assert!(bytes <= header.header_bytes);
                let _ = payload_without_padding(&packet[header.header_bytes..], header.padding);
            }
        }
    }
}
