//! What a token must be, one refused input beside each accepted one.

use proptest::prelude::*;

use super::*;

const CHAIN: &str = "local";
const NOW_MS: u64 = 1_500;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn token() -> Token {
    Token {
        token_id: TokenId([1; 16]),
        stream: StreamId::local("demo"),
        viewer: AccountId([2; 32]),
        holder_key: AccountId([3; 32]),
        issuer_key: AccountId::from(&key()),
        grants: Grants::SUBSCRIBE.and(Grants::DATA),
        max_layer: 255,
        payment_status: PaymentStatus::Free,
        rev_epoch: 0,
        not_before_ms: 1_000,
        valid_until_ms: 2_000,
    }
}

fn signed() -> SignedToken {
    token().sign(&key(), CHAIN).expect("the token is well formed")
}

/// R33
#[test]
fn media_flows_in_four_of_seven_statuses_and_tokens_carry_three() {
    let current: Vec<u8> =
        PaymentStatus::ALL.iter().filter(|s| s.is_current()).map(|s| s.code()).collect();
    assert_eq!(current, [1, 2, 3, 6]);
    let in_token: Vec<u8> =
        PaymentStatus::ALL.iter().filter(|s| s.is_allowed_in_token()).map(|s| s.code()).collect();
    assert_eq!(in_token, [1, 2, 6]);
    for status in PaymentStatus::ALL {
        assert_eq!(PaymentStatus::from_code(status.code()), Some(status));
    }
    assert_eq!(PaymentStatus::from_code(7), None);
}

#[test]
fn each_malformed_token_has_its_own_error() {
    #[track_caller]
    fn check(edit: impl FnOnce(&mut Vec<u8>), expected: Result<(), TokenError>) {
        let mut bytes = signed().encode().to_vec();
        edit(&mut bytes);
        assert_eq!(SignedToken::decode(&bytes).map(|_| ()), expected);
    }
    let forbidden = |code| Err(TokenError::PaymentStatusForbidden { code });
    check(|_| (), Ok(()));
    check(|b| b.truncate(233), Err(TokenError::Length { len_bytes: 233, need_bytes: 234 }));
    check(|b| b.push(0), Err(TokenError::Length { len_bytes: 235, need_bytes: 234 }));
    check(|b| b.clear(), Err(TokenError::Length { len_bytes: 0, need_bytes: 234 }));
    check(|b| b[147] = 63, Ok(()));
    check(|b| b[147] = 64, Err(TokenError::GrantsUnknown { bits: 64 }));
    check(|b| b[144] = 0x80, Err(TokenError::GrantsUnknown { bits: 0x8000_0000 }));
    check(|b| b[147] = 0, Err(TokenError::GrantsEmpty));
    check(|b| b[149] = 0, forbidden(0));
    check(|b| b[149] = 2, Ok(()));
    check(|b| b[149] = 3, forbidden(3));
    check(|b| b[149] = 4, forbidden(4));
    check(|b| b[149] = 5, forbidden(5));
    check(|b| b[149] = 6, Ok(()));
    check(|b| b[149] = 7, forbidden(7));
    check(|b| b[149] = 255, forbidden(255));
    check(|b| b[162..170].copy_from_slice(&1_000u64.to_be_bytes()), Err(TokenError::SpanEmpty));
    check(|b| b[162..170].copy_from_slice(&1_001u64.to_be_bytes()), Ok(()));
}

#[test]
fn a_token_is_valid_from_its_first_to_before_its_last_millisecond() {
    #[track_caller]
    fn check(now_ms: u64, expected: Result<(), TokenError>) {
        assert_eq!(signed().verify(CHAIN, now_ms).map(|_| ()), expected);
    }
    check(0, Err(TokenError::NotYetValid { not_before_ms: 1_000, now_ms: 0 }));
    check(999, Err(TokenError::NotYetValid { not_before_ms: 1_000, now_ms: 999 }));
    check(1_000, Ok(()));
    check(1_999, Ok(()));
    check(2_000, Err(TokenError::Expired { valid_until_ms: 2_000, now_ms: 2_000 }));
    check(u64::MAX, Err(TokenError::Expired { valid_until_ms: 2_000, now_ms: u64::MAX }));
}

#[test]
fn a_signature_of_another_chain_domain_or_key_is_wrong() {
    assert_eq!(signed().verify(CHAIN, NOW_MS), Ok(&token()));
    assert_eq!(signed().verify("sutantra-test-1", NOW_MS), Err(TokenError::Signature));

    let body = token().encode();
    let other_domain = Preimage::new(Domain::VOUCHER, CHAIN).bytes(&body);
    let signature = key().sign(other_domain.as_slice()).to_bytes();
    let crossed = SignedToken { token: token(), signature };
    assert_eq!(crossed.verify(CHAIN, NOW_MS), Err(TokenError::Signature));

    let other = SigningKey::from_bytes(&[8; 32]);
    assert_eq!(token().sign(&other, CHAIN), Err(TokenError::IssuerKey));
    let forged = Token { issuer_key: AccountId::from(&other), ..token() };
    let forged = SignedToken { token: forged, signature: signed().signature };
    assert_eq!(forged.verify(CHAIN, NOW_MS), Err(TokenError::Signature));
}

/// The neutral point as key and R with s = 0 satisfies the group equation for any message.
#[test]
fn a_small_order_key_signs_nothing() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    let token = Token { issuer_key: AccountId(neutral), ..token() };
    let universal = SignedToken { token, signature };
    assert_eq!(universal.verify(CHAIN, NOW_MS), Err(TokenError::Signature));

    // y = 2 is on no point of the curve.
    let mut off_curve = [0; 32];
    off_curve[0] = 2;
    let token = Token { issuer_key: AccountId(off_curve), ..token };
    assert_eq!(SignedToken { token, signature }.verify(CHAIN, NOW_MS), Err(TokenError::IssuerKey));
}

#[test]
fn no_token_is_signed_that_nobody_would_accept() {
    let unpaid = Token { payment_status: PaymentStatus::Grace, ..token() };
    assert_eq!(unpaid.sign(&key(), CHAIN), Err(TokenError::PaymentStatusForbidden { code: 3 }));
    let empty = Token { valid_until_ms: 1_000, ..token() };
    assert_eq!(empty.sign(&key(), CHAIN), Err(TokenError::SpanEmpty));
}

#[test]
fn a_bearer_text_is_base64url_without_padding_and_of_one_length() {
    let text = signed().to_bearer();
    assert_eq!(text.len(), 312);
    assert_eq!(SignedToken::from_bearer(&text), Ok(signed()));
    let length = |len_bytes| Err(TokenError::Length { len_bytes, need_bytes: 234 });
    assert_eq!(SignedToken::from_bearer(""), length(0));
    assert_eq!(SignedToken::from_bearer(&text[..308]), length(231));
    assert_eq!(SignedToken::from_bearer(&format!("{text}AAAA")), length(237));
    assert_eq!(SignedToken::from_bearer(&"A".repeat(1 << 20)), length(786_432));
    let spaced = text.replacen(&text[4..5], " ", 1);
    assert_eq!(SignedToken::from_bearer(&spaced), Err(TokenError::Base64));
    assert_eq!(SignedToken::from_bearer("AA=="), Err(TokenError::Base64));
}

fn any_token() -> impl Strategy<Value = Token> {
    let keys = (any::<[u8; 16]>(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<[u8; 32]>());
    let rest = (1u32..64, any::<u8>(), 0usize..3, any::<u32>(), any::<u64>(), any::<u64>());
    (keys, rest).prop_filter_map("an empty time span", |(keys, rest)| {
        let (token_id, stream, viewer, holder_key) = keys;
        let (bits, max_layer, status, rev_epoch, not_before_ms, valid_until_ms) = rest;
        let statuses = [PaymentStatus::Free, PaymentStatus::Current, PaymentStatus::Sponsored];
        (not_before_ms < valid_until_ms).then(|| Token {
            token_id: TokenId(token_id),
            stream: StreamId(stream),
            viewer: AccountId(viewer),
            holder_key: AccountId(holder_key),
            issuer_key: AccountId::from(&key()),
            grants: Grants::from_bits(bits).expect("1..64 are the known sets"),
            max_layer,
            payment_status: statuses[status],
            rev_epoch,
            not_before_ms,
            valid_until_ms,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_well_formed_token_round_trips(token in any_token()) {
        prop_assert_eq!(Token::decode(&token.encode()), Ok(token));
        let signed = token.sign(&key(), CHAIN).expect("well formed");
        let back = SignedToken::from_bearer(&signed.to_bearer()).expect("just encoded");
        prop_assert_eq!(back.verify(CHAIN, token.not_before_ms), Ok(&token));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused(token in any_token(), bit in 0..TOKEN_SIGNED_BYTES * 8) {
        let mut bytes = token.sign(&key(), CHAIN).expect("well formed").encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let accepted = SignedToken::decode(&bytes).and_then(|signed| signed.verify_at_any_time(CHAIN).copied());
        prop_assert!(accepted.is_err());
    }

    #[test]
    fn decode_is_total_and_encode_is_its_inverse(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), TOKEN_SIGNED_BYTES),
            proptest::collection::vec(any::<u8>(), 0..400),
        ],
        grants in 1u8..64,
    ) {
        let mut bytes = bytes;
        // Random grants and statuses are nearly always refused: steer half-way in.
        if bytes.len() == TOKEN_SIGNED_BYTES {
            bytes[144..150].copy_from_slice(&[0, 0, 0, grants, 0, 1]);
        }
        if let Ok(decoded) = SignedToken::decode(&bytes) {
            prop_assert_eq!(&decoded.encode()[..], &bytes[..]);
            let _ = decoded.verify(CHAIN, NOW_MS);
        }
    }

    #[test]
    fn any_text_is_a_token_or_an_error(text in ".*") {
        prop_assert!(SignedToken::from_bearer(&text).is_err());
    }
}
