//! The fingerprint signature: what lets two peers see a coordinator that swaps certificates.

use super::{NodeKey, PublicKey, hex, hex_bytes};

/// Why an SDP and its `fpSig` do not vouch for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    #[error("the SDP has no `a=fingerprint` line")]
    None,
    #[error("the SDP names more than one fingerprint; which is meant cannot be signed")]
    Several,
    #[error("`pk` must be 64 hex digits, `fpSig` 128")]
    Form,
    #[error("the key in `pk` is not the sender's")]
    OtherKey,
    #[error("the fingerprint in the SDP is not the one that the sender signed")]
    Signature,
}

/// The one fingerprint of an SDP as `algorithm HEX`, the digits in upper case. The same line may
/// stand in several sections.
pub fn sdp_fingerprint(sdp: &str) -> Result<String, FingerprintError> {
    let mut found: Option<String> = None;
    for line in sdp.lines() {
        let Some(value) = line.trim_end().strip_prefix("a=fingerprint:") else { continue };
        let (algorithm, digits) = value.split_once(' ').ok_or(FingerprintError::None)?;
        let one = format!("{algorithm} {}", digits.trim().to_ascii_uppercase());
        match &found {
            None => found = Some(one),
            Some(first) if *first == one => {}
            Some(_) => return Err(FingerprintError::Several),
        }
    }
    found.ok_or(FingerprintError::None)
}

/// The text that `fpSig` covers.
pub fn fingerprint_text(from: &str, to: &str, room: &str, fingerprint: &str) -> String {
    format!("sutantra/fpsg/v1\n{from}\n{to}\n{room}\n{fingerprint}")
}

impl NodeKey {
    /// `fpSig` (128 hex digits) for an offer or answer to `to` in `room`; `pk` goes with it.
    pub fn sign_fingerprint(
        &self,
        to: &str,
        room: &str,
        sdp: &str,
    ) -> Result<String, FingerprintError> {
        let text = fingerprint_text(&self.node_id(), to, room, &sdp_fingerprint(sdp)?);
        Ok(hex(&self.sign(text.as_bytes())))
    }
}

/// Whether an offer or answer `from` → `to` in `room` carries the fingerprint that its sender's key
/// signed; gives that key.
pub fn check_fingerprint(
    from: &str,
    to: &str,
    room: &str,
    sdp: &str,
    pk: &str,
    fp_sig: &str,
) -> Result<PublicKey, FingerprintError> {
    let key: PublicKey = pk.parse().map_err(|_| FingerprintError::Form)?;
    let signature = hex_bytes::<64>(fp_sig).ok_or(FingerprintError::Form)?;
    if key.node_id() != from {
        return Err(FingerprintError::OtherKey);
    }
    let text = fingerprint_text(from, to, room, &sdp_fingerprint(sdp)?);
    if !key.verify(text.as_bytes(), &signature) {
        return Err(FingerprintError::Signature);
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str =
        "v=0\r\na=fingerprint:sha-256 ab:CD\r\nm=audio\r\na=fingerprint:sha-256 AB:CD\r\n";

    #[test]
    fn a_swapped_fingerprint_receiver_or_room_is_seen() {
        let key = NodeKey::from_seed([5; 32]);
        let (from, pk) = (key.node_id(), key.public().to_string());
        let sig = key.sign_fingerprint("bob", "global", SDP).unwrap();
        let check = |to, room, sdp: &str| check_fingerprint(&from, to, room, sdp, &pk, &sig);
        assert_eq!(check("bob", "global", SDP), Ok(key.public()));
        let swapped = SDP.replace("CD", "CE");
        let swapped = swapped.replace("ab:", "AB:");
        assert_eq!(check("bob", "global", &swapped), Err(FingerprintError::Signature));
        assert_eq!(check("eve", "global", SDP), Err(FingerprintError::Signature));
        assert_eq!(check("bob", "learning", SDP), Err(FingerprintError::Signature));
        let other = NodeKey::from_seed([6; 32]).public().to_string();
        let got = check_fingerprint(&from, "bob", "global", SDP, &other, &sig);
        assert_eq!(got, Err(FingerprintError::OtherKey));
    }

    #[test]
    fn an_sdp_has_one_fingerprint_or_cannot_be_signed() {
        assert_eq!(sdp_fingerprint(SDP).as_deref(), Ok("sha-256 AB:CD"));
        assert_eq!(sdp_fingerprint("v=0\r\n"), Err(FingerprintError::None));
        let two = "a=fingerprint:sha-256 AA\na=fingerprint:sha-256 BB";
        assert_eq!(sdp_fingerprint(two), Err(FingerprintError::Several));
    }
}
