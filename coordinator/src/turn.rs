//! The ICE servers that a joiner is told, with TURN credentials that expire where a secret is set.

use data_encoding::BASE64;
use sha1::{Digest, Sha1};

use crate::options::{Options, Turn, TurnSecret};
use crate::wire::IceServer;

const BLOCK_BYTES: usize = 64;

/// Configured TURN servers as `/nodes` and `/webrtc/info` say them: to everybody, so a secret's
/// credentials are not made here.
pub(crate) fn turn_servers(options: &Options) -> Vec<IceServer> {
    options.turn_servers.iter().map(Turn::ice_server).collect()
}

/// STUN and TURN for one node, good until `turn_ttl_ms` from now (Unix ms).
pub(crate) fn ice_servers(options: &Options, node_id: &str, unix_ms: u64) -> Vec<IceServer> {
    let stun = |url: &String| IceServer { urls: url.clone(), username: None, credential: None };
    let until_s = unix_ms.saturating_add(options.limits.turn_ttl_ms) / 1_000;
    let turn = |turn: &Turn| match &options.turn_secret {
        Some(secret) => timed(turn, secret, node_id, until_s),
        None => turn.ice_server(),
    };
    let stun = options.stun_servers.iter().map(stun);
    stun.chain(options.turn_servers.iter().map(turn)).collect()
}

/// Time-limited credentials as coturn's `use-auth-secret` checks them: the user name is the end and
/// the node, the password base64 of its HMAC-SHA1.
fn timed(turn: &Turn, secret: &TurnSecret, node_id: &str, until_s: u64) -> IceServer {
    let username = format!("{until_s}:{node_id}");
    let credential = BASE64.encode(&hmac_sha1(secret.0.as_bytes(), username.as_bytes()));
    IceServer { urls: turn.url.clone(), username: Some(username), credential: Some(credential) }
}

/// RFC 2104 over SHA-1: ten lines instead of a dependency, and SHA-1 is what TURN servers take.
fn hmac_sha1(key: &[u8], text: &[u8]) -> [u8; 20] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..20].copy_from_slice(&Sha1::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha1::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text);
    let outer = Sha1::new().chain_update(block.map(|byte| byte ^ 0x5C));
    outer.chain_update(inner.finalize()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_is_rfc_2202s() {
        let hex = |bytes: [u8; 20]| data_encoding::HEXLOWER.encode(&bytes);
        let short = hmac_sha1(&[0x0B; 20], b"Hi There");
        assert_eq!(hex(short), "b617318655057264e28bc0b6fb378c8ef146be00");
        let long = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(hex(hmac_sha1(&[0xAA; 80], long)), "aa4ae5e15272d00e95705637ce8a3b55ed402112");
    }

    /// R118
    #[test]
    fn a_joiner_is_told_stun_and_turn_with_static_or_expiring_credentials() {
        let mut options = Options::new("c");
        options.turn_servers.push("turn:u:p@h:3478".parse().unwrap());
        let servers = ice_servers(&options, "a", 1_000_000);
        assert_eq!(servers[0].urls, crate::STUN_DEFAULT);
        assert_eq!(
            (servers[1].urls.as_str(), servers[1].username.as_deref()),
            ("turn:h:3478", Some("u"))
        );
        options.turn_secret = Some(TurnSecret("north".to_owned()));
        let servers = ice_servers(&options, "a", 1_000_000);
        assert_eq!(servers[1].username.as_deref(), Some("4600:a"));
        let want = BASE64.encode(&hmac_sha1(b"north", b"4600:a"));
        assert_eq!(servers[1].credential, Some(want));
    }
}
