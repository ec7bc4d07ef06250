//! Which session of a peer an SDP speaks for.

use coordinator::identity::sdp_fingerprint;

/// A peer's session: its certificate, and the id in its `o=` line (RFC 8866 §5.2). Both stay the same
/// while the session lives, and a restarted peer has others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteIdentity {
    fingerprint: String,
    session: String,
}

impl RemoteIdentity {
    /// Reads it off an SDP that has exactly one fingerprint.
    pub fn of(sdp: &str) -> Option<Self> {
        let fingerprint = sdp_fingerprint(sdp).ok()?;
        let origin = sdp.lines().find_map(|line| line.strip_prefix("o="));
        let session = origin.and_then(|origin| origin.split(' ').nth(1)).unwrap_or_default();
        Some(Self { fingerprint, session: session.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_its_certificate_and_origin_whatever_else_changes() {
        let sdp =
            "v=0\r\no=- 77 1 IN IP4 0.0.0.0\r\na=fingerprint:sha-256 ab:cd\r\na=ice-ufrag:x\r\n";
        let again = sdp.replace("77 1", "77 2").replace("ufrag:x", "ufrag:y").replace("ab", "AB");
        let first = RemoteIdentity::of(sdp);
        assert!(first.is_some());
        assert_eq!(first, RemoteIdentity::of(&again));
        assert_ne!(first, RemoteIdentity::of(&sdp.replace("77", "78")));
        assert_ne!(first, RemoteIdentity::of(&sdp.replace("cd", "ce")));
        assert_eq!(RemoteIdentity::of("v=0\r\n"), None);
    }
}
