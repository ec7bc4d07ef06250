//! The two questions asked of a STUN message before its session is known (RFC 8489): is it a
//! Binding request, for whom.
//!
//! Nothing here is authenticated; MESSAGE-INTEGRITY is checked by the session that is found.

const HEADER_BYTES: usize = 20;
const MAGIC_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const ATTRIBUTE_USERNAME: u16 = 0x0006;
/// RFC 8489 §14.3: fewer than 509 bytes; a longer one is refused.
const USERNAME_BYTES_MAX: usize = 508;

/// Why a datagram names no session of ours. A peer can cause every variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Shorter than a STUN header.
    #[error("datagram has {len_bytes} bytes, a STUN header needs {HEADER_BYTES}")]
    Truncated {
        /// Bytes in the datagram.
        len_bytes: usize,
    },
    /// The two top bits are not zero.
    #[error("the first two bits are not zero")]
    NotStun,
    /// The magic cookie of RFC 5389 and later is missing.
    #[error("magic cookie is missing")]
    MagicCookie,
    /// The length field disagrees with the datagram, or is no multiple of 4.
    #[error("length field says {stated_bytes} bytes, {actual_bytes} follow the header")]
    Length {
        /// The header's length field.
        stated_bytes: usize,
        /// Bytes after the header.
        actual_bytes: usize,
    },
    /// An attribute reaches beyond the message.
    #[error("attribute {kind:#06x} reaches beyond the message")]
    Attribute {
        /// Attribute type.
        kind: u16,
    },
    /// No USERNAME attribute.
    #[error("no USERNAME")]
    UsernameMissing,
    /// USERNAME is not `ours:theirs` in UTF-8 of at most 508 bytes, with `ours` not empty.
    #[error("USERNAME is malformed")]
    UsernameMalformed,
}

/// Whether the datagram has the header of a STUN Binding request (RFC 8489 §5).
#[inline]
pub fn is_binding_request(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_BYTES
        && datagram[..2] == BINDING_REQUEST
        && datagram[4..8] == MAGIC_COOKIE
}

/// The part of USERNAME before the colon: in a check that reaches us, our own ufrag (RFC 8445
/// §7.2.2).
pub fn username_local(datagram: &[u8]) -> Result<&str, StunError> {
    if datagram.len() < HEADER_BYTES {
        return Err(StunError::Truncated { len_bytes: datagram.len() });
    }
    let (header, mut rest) = datagram.split_at(HEADER_BYTES);
    if header[0] & 0xC0 != 0 {
        return Err(StunError::NotStun);
    }
    if header[4..8] != MAGIC_COOKIE {
        return Err(StunError::MagicCookie);
    }
    let stated_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if stated_bytes != rest.len() || stated_bytes % 4 != 0 {
        return Err(StunError::Length { stated_bytes, actual_bytes: rest.len() });
    }
    while let &[kind_high, kind_low, len_high, len_low, ref tail @ ..] = rest {
        let kind = u16::from_be_bytes([kind_high, kind_low]);
        let len_bytes = usize::from(u16::from_be_bytes([len_high, len_low]));
        let padded_bytes = len_bytes.next_multiple_of(4);
        if padded_bytes > tail.len() {
            return Err(StunError::Attribute { kind });
        }
        if kind == ATTRIBUTE_USERNAME {
            return local_part(&tail[..len_bytes]);
        }
        rest = &tail[padded_bytes..];
    }
    Err(StunError::UsernameMissing)
}

fn local_part(username: &[u8]) -> Result<&str, StunError> {
    if username.len() > USERNAME_BYTES_MAX {
        return Err(StunError::UsernameMalformed);
    }
    let username = str::from_utf8(username).map_err(|_| StunError::UsernameMalformed)?;
    match username.split_once(':') {
        Some((local, _)) if !local.is_empty() => Ok(local),
        _ => Err(StunError::UsernameMalformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = kind.to_be_bytes().to_vec();
        out.extend([0, 0]);
        out.extend(MAGIC_COOKIE);
        out.extend([7; 12]);
        for (kind, value) in attributes {
            out.extend(kind.to_be_bytes());
            out.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            out.extend_from_slice(value);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        let len = u16::try_from(out.len() - HEADER_BYTES).unwrap();
        out[2..4].copy_from_slice(&len.to_be_bytes());
        out
    }

    #[track_caller]
    fn check(datagram: &[u8], expected: Result<&str, StunError>) {
        assert_eq!(username_local(datagram), expected);
    }

    #[test]
    fn the_local_ufrag_is_what_stands_before_the_colon() {
        check(&message(1, &[(6, b"ours:theirs")]), Ok("ours"));
        check(&message(1, &[(0x24, &[0, 0, 0, 1]), (6, b"abcde:x")]), Ok("abcde"));
        check(&message(1, &[(0x8022, b"odd"), (6, b"a:")]), Ok("a"));
        check(&message(1, &[(6, b"a:b:c"), (6, b"second:x")]), Ok("a"));
    }

    #[test]
    fn a_username_that_names_nobody_is_refused() {
        check(&message(1, &[]), Err(StunError::UsernameMissing));
        check(&message(1, &[(8, &[0; 20])]), Err(StunError::UsernameMissing));
        check(&message(1, &[(6, b"no colon")]), Err(StunError::UsernameMalformed));
        check(&message(1, &[(6, b":theirs")]), Err(StunError::UsernameMalformed));
        check(&message(1, &[(6, b"")]), Err(StunError::UsernameMalformed));
        check(&message(1, &[(6, &[0xFF, b':'])]), Err(StunError::UsernameMalformed));
        check(&message(1, &[(6, &[b':'; 509])]), Err(StunError::UsernameMalformed));
    }

    #[test]
    fn a_message_whose_lengths_disagree_is_refused() {
        let good = message(1, &[(6, b"ours:theirs")]);
        for len_bytes in 0..HEADER_BYTES {
            check(&good[..len_bytes], Err(StunError::Truncated { len_bytes }));
        }
        check(
            &good[..good.len() - 4],
            Err(StunError::Length { stated_bytes: 16, actual_bytes: 12 }),
        );
        let mut odd = message(1, &[]);
        odd.push(0);
        odd[3] = 1;
        check(&odd, Err(StunError::Length { stated_bytes: 1, actual_bytes: 1 }));
        let mut long_attribute = good.clone();
        long_attribute[HEADER_BYTES + 3] = 13;
        check(&long_attribute, Err(StunError::Attribute { kind: 6 }));
        let mut cookie = good.clone();
        cookie[4] ^= 1;
        check(&cookie, Err(StunError::MagicCookie));
        let mut rtp = good;
        rtp[0] |= 0x80;
        check(&rtp, Err(StunError::NotStun));
    }

    #[test]
    fn only_a_binding_request_is_one() {
        assert!(is_binding_request(&message(0x0001, &[])));
        assert!(!is_binding_request(&message(0x0101, &[])));
        assert!(!is_binding_request(&message(0x0011, &[])));
        assert!(!is_binding_request(&message(0x0001, &[])[..19]));
        assert!(!is_binding_request(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    }

    proptest! {
        #[test]
        fn any_username_round_trips(
            local in "[a-zA-Z0-9+/]{1,100}", remote in "[a-zA-Z0-9+/]{4,100}",
        ) {
            let datagram = message(1, &[(6, format!("{local}:{remote}").as_bytes())]);
            prop_assert_eq!(username_local(&datagram), Ok(local.as_str()));
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0usize..60, value: u8) {
            let mut datagram = message(1, &[(0x24, &[0; 4]), (6, b"ours:theirs"), (8, &[0; 20])]);
            let at = at % datagram.len();
            datagram[at] = value;
            let _ = username_local(&datagram);
            let _ = is_binding_request(&datagram);
        }
    }
}
