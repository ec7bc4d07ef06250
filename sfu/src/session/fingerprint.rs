//! Fingerprints of certificates: what an offer promises, and what our own is (RFC 8122).

use aws_lc_rs::digest::{SHA256, digest};
use str0m::config::DtlsCert;

/// Bytes of a SHA-256 digest.
pub const FINGERPRINT_BYTES: usize = 32;

/// Why an offer's fingerprints cannot be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    #[error("the offer names different fingerprints of one hash function")]
    Ambiguous,
    #[error("an a=fingerprint line is not as RFC 8122 section 5 has it")]
    Malformed,
}

/// SHA-256 of a certificate.
pub fn of_certificate(certificate: &DtlsCert) -> [u8; FINGERPRINT_BYTES] {
    let digest = digest(&SHA256, &certificate.certificate);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The one SHA-256 fingerprint of an offer; `None` if it has none, has two different ones, or has
/// lines that are no fingerprints.
///
/// It is this value that the peer's certificate is compared with before any key is used: see
/// [`crate::session::offer::prepare`].
pub fn offer_fingerprint(sdp: &str) -> Option<[u8; FINGERPRINT_BYTES]> {
    read(sdp).ok().flatten()
}

/// Reads every `a=fingerprint` of an SDP, at session and at media level. `None`: none is SHA-256.
///
/// Several are legal, of other hash functions too; but all sections share one transport (BUNDLE),
/// so two that differ under one function cannot both be meant.
pub fn read(sdp: &str) -> Result<Option<[u8; FINGERPRINT_BYTES]>, FingerprintError> {
    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    for line in sdp.lines() {
        let Some(value) = line.trim_end().strip_prefix("a=fingerprint:") else { continue };
        let (function, bytes) = parse(value).ok_or(FingerprintError::Malformed)?;
        match seen.iter().find(|(known, _)| *known == function) {
            Some((_, known)) if *known != bytes => return Err(FingerprintError::Ambiguous),
            Some(_) => {}
            None => seen.push((function, bytes)),
        }
    }
    let sha_256 = seen.into_iter().find(|(function, _)| function == "sha-256");
    let bytes = sha_256.map(|(_, bytes)| bytes.try_into().map_err(|_| FingerprintError::Malformed));
    bytes.transpose()
}

/// `hash-func SP 2UHEX *(":" 2UHEX)`; the function's name is case-insensitive, and so are digits
/// here, because some endpoints write them small.
fn parse(value: &str) -> Option<(String, Vec<u8>)> {
    let (function, digits) = value.split_once(' ')?;
    let byte = |pair: &str| {
        let is_hex = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_hex.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
    };
    let bytes: Option<Vec<u8>> = digits.trim().split(':').map(byte).collect();
    Some((function.to_ascii_lowercase(), bytes?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(byte: u8) -> String {
        vec![format!("{byte:02X}"); FINGERPRINT_BYTES].join(":")
    }

    #[track_caller]
    fn check(lines: &[String], want: Result<Option<u8>, FingerprintError>) {
        let sdp: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let want = want.map(|byte| byte.map(|byte| [byte; FINGERPRINT_BYTES]));
        assert_eq!(read(&sdp), want, "{sdp}");
        assert_eq!(offer_fingerprint(&sdp), want.ok().flatten(), "{sdp}");
    }

    #[test]
    fn the_one_fingerprint_is_read_from_session_or_media_level() {
        let of = |function: &str, byte| format!("a=fingerprint:{function} {}", digits(byte));
        let media = || "m=audio 9 UDP/TLS/RTP/SAVPF 111".to_owned();
        check(&[], Ok(None));
        check(&[of("sha-256", 1), media()], Ok(Some(1)));
        check(&[media(), of("SHA-256", 0xab)], Ok(Some(0xab)));
        check(&[media(), of("sha-256", 0xab).replace("AB", "ab")], Ok(Some(0xab)));
        check(
            &[of("sha-256", 1), media(), of("sha-256", 1), media(), of("sha-256", 1)],
            Ok(Some(1)),
        );
        check(&["a=fingerprint:sha-1 AA:BB".into(), of("sha-256", 1)], Ok(Some(1)));
        check(&["a=fingerprint:sha-1 AA:BB".into()], Ok(None));
    }

    #[test]
    fn two_different_fingerprints_and_bad_ones_are_refused() {
        let of = |byte| format!("a=fingerprint:sha-256 {}", digits(byte));
        let sha_1 = |digits: &str| format!("a=fingerprint:sha-1 {digits}");
        let line = |value: &str| format!("a=fingerprint:{value}");
        check(&[of(1), of(2)], Err(FingerprintError::Ambiguous));
        check(&[of(1), "m=video 9 x 96".into(), of(2)], Err(FingerprintError::Ambiguous));
        check(&[of(1), of(2).replace("sha", "SHA")], Err(FingerprintError::Ambiguous));
        check(&[of(1), sha_1("AA"), sha_1("AB")], Err(FingerprintError::Ambiguous));
        check(&[line("sha-256 AA:BB")], Err(FingerprintError::Malformed));
        check(&[line("sha-256")], Err(FingerprintError::Malformed));
        check(&[line("sha-256 ")], Err(FingerprintError::Malformed));
        check(&[line("sha-256 +A:0B")], Err(FingerprintError::Malformed));
        check(&[format!("{}:00", of(1))], Err(FingerprintError::Malformed));
    }

    #[test]
    fn our_own_fingerprint_is_the_digest_of_the_certificate() {
        // SHA-256 of "abc", FIPS 180-2 appendix B.1.
        let certificate = DtlsCert { certificate: b"abc".to_vec(), private_key: Vec::new() };
        let digest = of_certificate(&certificate);
        assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
