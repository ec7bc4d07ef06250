//! `vectors/token.json`: the same file is read by the wallet's JavaScript tests.

use chain_types::{
    AccountId, ChainTag, Grants, PaymentStatus, Revocation, Revoked, SignedRevocation, SignedToken,
    SigningKey, StreamId, Token, TokenId,
};
use expect_test::expect_file;
use serde_json::{Value, json};

const CHAINS: [&str; 2] = ["local", "sutantra-test-1"];
const SEED: [u8; 32] = [7; 32];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn subscriber(key: &SigningKey) -> Token {
    Token {
        token_id: TokenId([0x11; 16]),
        stream: StreamId::local("demo"),
        viewer: AccountId::ZERO,
        holder_key: AccountId::ZERO,
        issuer_key: AccountId::from(key),
        grants: Grants::SUBSCRIBE,
        max_layer: 255,
        payment_status: PaymentStatus::Free,
        rev_epoch: 0,
        not_before_ms: 1_700_000_000_000,
        valid_until_ms: 1_700_000_600_000,
    }
}

fn everything(key: &SigningKey) -> Token {
    Token {
        token_id: TokenId(std::array::from_fn(|i| 0xf0 | i as u8)),
        stream: StreamId([3; 32]),
        viewer: AccountId([4; 32]),
        holder_key: AccountId([5; 32]),
        grants: Grants::from_bits(63).expect("the six known grants"),
        max_layer: 2,
        payment_status: PaymentStatus::Sponsored,
        rev_epoch: 0x0102_0304,
        not_before_ms: 0x0102_0304_0506_0708,
        valid_until_ms: u64::MAX,
        ..subscriber(key)
    }
}

fn token_json(name: &str, chain_id: &str, token: Token, key: &SigningKey) -> Value {
    let signed = token.sign(key, chain_id).expect("the vector is well formed");
    let bytes = signed.encode();
    json!({
        "name": name,
        "chain_id": chain_id,
        "chain_tag": hex(ChainTag::of(chain_id).as_bytes()),
        "token_id": token.token_id.to_string(),
        "stream": token.stream.to_string(),
        "viewer": token.viewer.to_string(),
        "holder_key": token.holder_key.to_string(),
        "issuer_key": token.issuer_key.to_string(),
        "grants": token.grants.bits(),
        "max_layer": token.max_layer,
        "payment_status": token.payment_status.code(),
        "rev_epoch": token.rev_epoch,
        // Text: JavaScript's numbers end at 2^53.
        "not_before_ms": token.not_before_ms.to_string(),
        "valid_until_ms": token.valid_until_ms.to_string(),
        "body": hex(&bytes[..170]),
        "signature": hex(&bytes[170..]),
        "bearer": signed.to_bearer(),
    })
}

fn revocation_json(name: &str, what: Revoked, key: &SigningKey) -> Value {
    let revocation =
        Revocation { issuer_key: AccountId::from(key), what, issued_ms: 1_700_000_300_000 };
    let signed = revocation.sign(key, "local").expect("the key is the issuer's");
    json!({ "name": name, "chain_id": "local", "body": hex(&revocation.encode()), "text": signed.to_text() })
}

fn refused_json(
    name: &str,
    key: &SigningKey,
    edit: impl FnOnce(&mut Vec<u8>),
    now_ms: u64,
) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut bytes = subscriber(key).sign(key, "local").expect("well formed").encode().to_vec();
    edit(&mut bytes);
    let bearer = URL_SAFE_NO_PAD.encode(&bytes);
    let error = SignedToken::from_bearer(&bearer)
        .and_then(|signed| signed.verify("local", now_ms).copied())
        .expect_err("the vector is refused");
    let error = format!("{error:?}");
    let variant = error.split([' ', '{']).next().expect("an error has a name");
    json!({ "name": name, "now_ms": now_ms.to_string(), "bearer": bearer, "error": variant })
}

fn render() -> Value {
    let key = SigningKey::from_bytes(&SEED);
    let inside = 1_700_000_000_000;
    json!({
        "about": "Access tokens and revocations: fixed big-endian layouts, ed25519 over domain || chain tag || body.",
        "issuer_seed": hex(&SEED),
        "issuer_key": AccountId::from(&key).to_string(),
        "local_stream": { "name": "demo", "id": StreamId::local("demo").to_string() },
        "tokens": [
            token_json("whoever bears it may watch for ten minutes", CHAINS[0], subscriber(&key), &key),
            token_json("each field at a value of its own", CHAINS[1], everything(&key), &key),
        ],
        "refused": [
            refused_json("one byte short", &key, |b| b.truncate(233), inside),
            refused_json("an unknown grant", &key, |b| b[144] = 1, inside),
            refused_json("no grant", &key, |b| b[147] = 0, inside),
            refused_json("payment status Grace", &key, |b| b[149] = 3, inside),
            refused_json("an empty time span", &key, |b| b[162..170].fill(0), inside),
            refused_json("another layer than was signed", &key, |b| b[148] = 1, inside),
            refused_json("a flipped bit in the signature", &key, |b| b[200] ^= 1, inside),
            refused_json("one millisecond early", &key, |_| (), inside - 1),
            refused_json("at its last instant", &key, |_| (), 1_700_000_600_000),
        ],
        "revocations": [
            revocation_json("one token", Revoked::Token(TokenId([0x11; 16])), &key),
            revocation_json(
                "a viewer on a stream",
                Revoked::Viewer { stream: StreamId([3; 32]), viewer: AccountId([4; 32]) },
                &key,
            ),
        ],
    })
}

#[test]
fn the_vector_file_is_what_this_crate_writes() {
    let text = serde_json::to_string_pretty(&render()).expect("values of text and numbers") + "\n";
    expect_file!["../vectors/token.json"].assert_eq(&text);
}

#[test]
fn what_stands_in_the_vector_file_verifies() {
    let file: Value = serde_json::from_str(include_str!("../vectors/token.json")).expect("JSON");
    let text = |value: &Value, key: &str| value[key].as_str().expect("a text").to_owned();
    for case in file["tokens"].as_array().expect("a list") {
        let signed = SignedToken::from_bearer(&text(case, "bearer")).expect("well formed");
        let now_ms = text(case, "not_before_ms").parse().expect("a number");
        let token = signed.verify(&text(case, "chain_id"), now_ms).expect("accepted");
        assert_eq!(hex(&token.encode()), text(case, "body"));
        assert_eq!(token.issuer_key.to_string(), text(&file, "issuer_key"));
        let other = CHAINS.iter().find(|chain| **chain != text(case, "chain_id")).expect("two");
        assert!(signed.verify(other, now_ms).is_err());
    }
    for case in file["revocations"].as_array().expect("a list") {
        let signed = SignedRevocation::from_text(&text(case, "text")).expect("well formed");
        let revocation = signed.verify("local").expect("accepted");
        assert_eq!(hex(&revocation.encode()), text(case, "body"));
    }
}
