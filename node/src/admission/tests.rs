//! The truth table of admission.

use std::{fs, path::Path};

use chain_types::{
    AccountId, Grants as GrantSet, PaymentStatus, REVOCATION_SIGNED_BYTES, Revocation,
    RevocationError, Revoked, SignedRevocation, SigningKey, StreamId, Token, TokenId,
};
use tempfile::TempDir;

use super::*;

const NOW_MS: u64 = 1_000_000;

fn issuer() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn stranger() -> SigningKey {
    SigningKey::from_bytes(&[8; 32])
}

fn grants(home: &Path) -> Grants {
    Grants::open(home, vec![AccountId::from(&issuer())]).expect("a home of this test")
}

fn token(grants: GrantSet) -> Token {
    Token {
        token_id: TokenId([1; 16]),
        stream: StreamId::local("demo"),
        viewer: AccountId([2; 32]),
        holder_key: AccountId::ZERO,
        issuer_key: AccountId::from(&issuer()),
        grants,
        max_layer: 1,
        payment_status: PaymentStatus::Free,
        rev_epoch: 0,
        not_before_ms: NOW_MS - 10,
        valid_until_ms: NOW_MS + 10,
    }
}

fn bearer(token: Token) -> String {
    token.sign(&issuer(), "local").expect("well formed").to_bearer()
}

fn revocation(key: &SigningKey, what: Revoked, issued_ms: u64) -> SignedRevocation {
    let issuer_key = AccountId::from(key);
    Revocation { issuer_key, what, issued_ms }.sign(key, "local").expect("its own key")
}

fn ask(admission: &dyn Admission, role: Role, bearer: Option<&str>) -> Result<Admitted, Refused> {
    admission.admit(&AdmissionRequest {
        stream: "demo",
        role,
        bearer,
        peer: SocketAddr::from(([127, 0, 0, 1], 9)),
        now_ms: NOW_MS,
    })
}

/// R33 (a local grant in place of the chain's record), R121
#[test]
fn a_token_opens_its_stream_in_its_role_in_its_time_and_nothing_else() {
    #[track_caller]
    fn check(role: Role, bearer: Option<&str>, expected: Result<(), (Refused, u16)>) {
        let home = TempDir::new().unwrap();
        let seen = ask(&grants(home.path()), role, bearer);
        assert_eq!(seen.map(|_| ()).map_err(|refused| (refused, refused.http_status())), expected);
    }
    let (watch, publish) = (GrantSet::SUBSCRIBE, GrantSet::PUBLISH);
    let good = bearer(token(watch));

    check(Role::Subscribe, Some(&good), Ok(()));
    check(Role::Publish, Some(&bearer(token(publish))), Ok(()));
    check(Role::Subscribe, Some(&bearer(token(watch.and(publish)))), Ok(()));

    check(Role::Subscribe, None, Err((Refused::Missing, 401)));
    let (wrong, subscribe) =
        (Refused::WrongRole(Role::Publish), Refused::WrongRole(Role::Subscribe));
    check(Role::Publish, Some(&good), Err((wrong, 403)));
    check(Role::Subscribe, Some(&bearer(token(publish))), Err((subscribe, 403)));
    check(Role::Subscribe, Some(&bearer(token(GrantSet::MODERATE))), Err((subscribe, 403)));

    let other = Token { stream: StreamId::local("other"), ..token(watch) };
    check(Role::Subscribe, Some(&bearer(other)), Err((Refused::WrongStream, 403)));
    let expired = Token { valid_until_ms: NOW_MS, ..token(watch) };
    check(Role::Subscribe, Some(&bearer(expired)), Err((Refused::Expired, 401)));
    let last = Token { valid_until_ms: NOW_MS + 1, ..token(watch) };
    check(Role::Subscribe, Some(&bearer(last)), Ok(()));
    let early = Token { not_before_ms: NOW_MS + 1, ..token(watch) };
    check(Role::Subscribe, Some(&bearer(early)), Err((Refused::NotYetValid, 401)));
    let first = Token { not_before_ms: NOW_MS, ..token(watch) };
    check(Role::Subscribe, Some(&bearer(first)), Ok(()));

    let foreign = Token { issuer_key: AccountId::from(&stranger()), ..token(watch) };
    let foreign = foreign.sign(&stranger(), "local").expect("well formed").to_bearer();
    check(Role::Subscribe, Some(&foreign), Err((Refused::UnknownIssuer, 401)));
    let chain = token(watch).sign(&issuer(), "sutantra-1").expect("well formed").to_bearer();
    let malformed = |error| Err((Refused::Malformed(error), 401));
    check(Role::Subscribe, Some(&chain), malformed(TokenError::Signature));
    check(Role::Subscribe, Some("?"), malformed(TokenError::Base64));
    let length = TokenError::Length { len_bytes: 0, need_bytes: 234 };
    check(Role::Subscribe, Some(""), malformed(length));
}

#[test]
fn what_is_admitted_carries_the_bounds_of_the_token() {
    let home = TempDir::new().unwrap();
    let admitted =
        ask(&grants(home.path()), Role::Subscribe, Some(&bearer(token(GrantSet::SUBSCRIBE))));
    assert_eq!(
        admitted,
        Ok(Admitted {
            subject: [2; 32],
            token_id: Some([1; 16]),
            valid_until_ms: NOW_MS + 10,
            max_layer: 1
        })
    );
    assert_eq!(ask(&Open, Role::Publish, None).map(|a| a.valid_until_ms), Ok(u64::MAX));
}

/// R121
#[test]
fn a_revoked_token_stays_revoked_after_a_restart() {
    let home = TempDir::new().unwrap();
    let good = bearer(token(GrantSet::SUBSCRIBE));
    let other = bearer(Token { token_id: TokenId([9; 16]), ..token(GrantSet::SUBSCRIBE) });
    let what = Revoked::Token(TokenId([1; 16]));
    {
        let grants = grants(home.path());
        assert!(ask(&grants, Role::Subscribe, Some(&good)).is_ok());
        let seen = grants.revoke(&revocation(&issuer(), what, NOW_MS)).expect("accepted");
        assert_eq!(seen, what);
        assert_eq!(ask(&grants, Role::Subscribe, Some(&good)), Err(Refused::Revoked));
        // The same word again changes nothing and takes no room.
        grants.revoke(&revocation(&issuer(), what, NOW_MS + 5)).expect("accepted");
    }
    let log = fs::metadata(home.path().join("revocations")).expect("written").len();
    assert_eq!(log, REVOCATION_SIGNED_BYTES as u64);
    let grants = grants(home.path());
    assert_eq!(ask(&grants, Role::Subscribe, Some(&good)), Err(Refused::Revoked));
    assert_eq!(Refused::Revoked.http_status(), 403);
    assert!(ask(&grants, Role::Subscribe, Some(&other)).is_ok(), "another token is untouched");
}

/// R121
#[test]
fn a_viewer_who_was_sent_away_comes_back_with_a_newer_grant_only() {
    let home = TempDir::new().unwrap();
    let old = bearer(token(GrantSet::SUBSCRIBE));
    let what = Revoked::Viewer { stream: StreamId::local("demo"), viewer: AccountId([2; 32]) };
    grants(home.path()).revoke(&revocation(&issuer(), what, NOW_MS - 10)).expect("accepted");
    let grants = grants(home.path());
    assert_eq!(ask(&grants, Role::Subscribe, Some(&old)), Err(Refused::Revoked));
    let newer = bearer(Token { not_before_ms: NOW_MS - 9, ..token(GrantSet::SUBSCRIBE) });
    assert!(ask(&grants, Role::Subscribe, Some(&newer)).is_ok());
    let neighbour = bearer(Token { viewer: AccountId([3; 32]), ..token(GrantSet::SUBSCRIBE) });
    assert!(ask(&grants, Role::Subscribe, Some(&neighbour)).is_ok());
}

#[test]
fn only_a_trusted_issuer_takes_back() {
    let home = TempDir::new().unwrap();
    let grants = grants(home.path());
    let what = Revoked::Token(TokenId([1; 16]));
    let foreign = grants.revoke(&revocation(&stranger(), what, NOW_MS));
    assert!(matches!(foreign, Err(RevokeError::UnknownIssuer)));
    let mut bytes = revocation(&issuer(), what, NOW_MS).encode();
    bytes[184] ^= 1;
    let forged = grants.revoke(&SignedRevocation::decode(&bytes).expect("the form is right"));
    assert!(matches!(forged, Err(RevokeError::Malformed(RevocationError::Signature))));
    assert!(ask(&grants, Role::Subscribe, Some(&bearer(token(GrantSet::SUBSCRIBE)))).is_ok());
    assert_eq!(fs::metadata(home.path().join("revocations")).expect("made").len(), 0);
}

#[test]
fn a_record_cut_short_is_dropped_and_a_damaged_one_stops_the_start() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("revocations");
    let first = revocation(&issuer(), Revoked::Token(TokenId([1; 16])), NOW_MS).encode();
    let second = revocation(&issuer(), Revoked::Token(TokenId([2; 16])), NOW_MS).encode();

    fs::write(&path, [&first[..], &second[..100]].concat()).expect("ours");
    let opened = grants(home.path());
    let good = bearer(token(GrantSet::SUBSCRIBE));
    assert_eq!(ask(&opened, Role::Subscribe, Some(&good)), Err(Refused::Revoked));
    let what = Revoked::Token(TokenId([3; 16]));
    opened.revoke(&revocation(&issuer(), what, NOW_MS)).expect("accepted");
    drop(opened);
    assert_eq!(fs::metadata(&path).expect("ours").len(), 2 * REVOCATION_SIGNED_BYTES as u64);
    drop(grants(home.path()));

    let mut damaged = [first, second].concat();
    damaged[REVOCATION_SIGNED_BYTES + 40] ^= 1;
    fs::write(&path, damaged).expect("ours");
    let refused = Grants::open(home.path(), Vec::new()).map(|_| ());
    assert!(matches!(refused, Err(LogError::Damaged { record: 1, .. })));
}
