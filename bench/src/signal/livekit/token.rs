//! Access tokens: a JWT (RFC 7519) signed with HMAC-SHA256 that grants one room to one participant.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::Access;
use crate::client::Role;

/// A run is shorter.
const VALID_SECONDS: u64 = 6 * 3600;
/// The server's clock may be behind ours.
const EARLY_SECONDS: u64 = 60;

/// A token for `identity` in `room`. Viewers are hidden, as those of a large audience are: the room
/// is not told of each of them.
pub fn sign(access: &Access, role: Role, room: &str, identity: &str, now_seconds: u64) -> String {
    let claims = json!({
        "iss": access.key,
        "sub": identity,
        "nbf": now_seconds.saturating_sub(EARLY_SECONDS),
        "exp": now_seconds + VALID_SECONDS,
        "video": {
            "roomJoin": true,
            "room": room,
            "canPublish": role == Role::Publisher,
            "canSubscribe": role == Role::Viewer,
            "canPublishData": false,
            "hidden": role == Role::Viewer,
        },
    });
    jwt(&claims.to_string(), access.secret.as_bytes())
}

/// JWS compact serialization with HS256 (RFC 7515 §7.1, RFC 7518 §3.2).
fn jwt(claims: &str, secret: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Base;

    #[test]
    fn a_token_has_the_signature_that_others_compute() {
        // The example that jwt.io shows for HS256.
        let claims = r#"{"sub":"1234567890","name":"John Doe","iat":1516239022}"#;
        assert_eq!(
            jwt(claims, b"your-256-bit-secret"),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
             eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.\
             SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
        );
    }

    #[test]
    fn a_publisher_may_not_subscribe_and_a_viewer_not_publish() {
        let base = Base::parse("http://127.0.0.1:1").expect("an address");
        let access = Access { base, key: "key".into(), secret: "secret".into() };
        for (role, publish) in [(Role::Publisher, true), (Role::Viewer, false)] {
            let token = sign(&access, role, "room", "me", 1_000_000);
            let claims = token.split('.').nth(1).expect("three parts");
            let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
            let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
            assert_eq!((&claims["iss"], &claims["sub"]), (&json!("key"), &json!("me")));
            assert_eq!(claims["exp"], 1_000_000 + VALID_SECONDS);
            let grant = &claims["video"];
            assert_eq!((&grant["room"], &grant["roomJoin"]), (&json!("room"), &json!(true)));
            assert_eq!(grant["canPublish"], publish);
            assert_eq!(grant["canSubscribe"], !publish);
            assert_eq!(grant["hidden"], !publish);
        }
    }
}
