//! The authority as a phone sees it: by the verifier of a TLS client.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt};

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{ServerName, UnixTime},
};
use tempfile::TempDir;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn now() -> SystemTime {
    SystemTime::now()
}

/// Whether a client that trusts `authority` believes that `leaf` is `name`, `later` from now.
fn trusts(authority_pem: &str, leaf: &CertifiedKey, name: IpAddr, later: Duration) -> bool {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority_pem.as_bytes()).expect("PEM");
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .expect("one root");
    let at = now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970") + later;
    let at = UnixTime::since_unix_epoch(at);
    verifier.verify_server_cert(&leaf.cert[0], &[], &ServerName::from(name), &[], at).is_ok()
}

#[test]
fn a_phone_that_trusts_the_authority_trusts_the_relay_at_its_local_addresses() {
    let home = TempDir::new().unwrap();
    let authority = Authority::open(home.path(), now()).expect("made");
    let addresses = [ip("192.168.1.7"), ip("fd00::7"), ip("127.0.0.1"), ip("203.0.113.1")];
    let leaf = authority.issue(&addresses, now()).expect("issued");
    let check = |name, later, expected| {
        assert_eq!(trusts(authority.pem(), &leaf, ip(name), later), expected, "{name}");
    };
    check("192.168.1.7", Duration::ZERO, true);
    check("fd00::7", Duration::ZERO, true);
    check("127.0.0.1", Duration::ZERO, true);
    check("192.168.1.8", Duration::ZERO, false);
    check("203.0.113.1", Duration::ZERO, false); // Not an address the authority speaks for.
    check("192.168.1.7", LEAF_VALID - Duration::from_secs(60), true);
    check("192.168.1.7", LEAF_VALID + Duration::from_secs(60), false);
    assert!(LEAF_RENEW < LEAF_VALID);

    let stranger = TempDir::new().unwrap();
    let stranger = Authority::open(stranger.path(), now()).expect("made");
    assert!(!trusts(stranger.pem(), &leaf, ip("192.168.1.7"), Duration::ZERO));
}

#[test]
fn a_stolen_authority_cannot_speak_for_public_addresses() {
    let home = TempDir::new().unwrap();
    let authority = Authority::open(home.path(), now()).expect("made");
    let sign = |name: SanType| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &authority.issuer).expect("signed");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        tls::certified_key(vec![leaf.der().clone()], key).expect("a pair")
    };
    let local = sign(SanType::IpAddress(ip("10.1.2.3")));
    assert!(trusts(authority.pem(), &local, ip("10.1.2.3"), Duration::ZERO));
    let public = sign(SanType::IpAddress(ip("203.0.113.1")));
    assert!(!trusts(authority.pem(), &public, ip("203.0.113.1"), Duration::ZERO));
}

#[test]
fn the_authority_survives_a_restart_and_its_key_is_not_given_out() {
    let home = TempDir::new().unwrap();
    let first = Authority::open(home.path(), now()).expect("made");
    let again = Authority::open(home.path(), now()).expect("read");
    assert_eq!(first.pem(), again.pem());
    assert!(!first.pem().contains("PRIVATE"));
    let leaf = again.issue(&[ip("10.0.0.1")], now()).expect("issued");
    assert!(trusts(first.pem(), &leaf, ip("10.0.0.1"), Duration::ZERO));
    let file = home.path().join("lan/ca.pem");
    assert_eq!(fs::metadata(&file).expect("made").permissions().mode() & 0o777, 0o600);
    fs::write(&file, first.pem()).expect("ours");
    let damaged = Authority::open(home.path(), now());
    assert!(matches!(damaged, Err(LanError::Home(HomeError::Damaged { .. }))));
}

#[test]
fn a_host_without_local_addresses_is_told_so() {
    let home = TempDir::new().unwrap();
    let authority = Authority::open(home.path(), now()).expect("made");
    let refused = authority.issue(&[ip("203.0.113.1"), ip("2001:db8::1")], now());
    assert!(matches!(refused, Err(LanError::NoAddress)));
}

#[test]
fn local_networks_are_told_from_public_ones_at_their_edges() {
    #[track_caller]
    fn check(text: &str, expected: bool) {
        assert_eq!(is_local(ip(text)), expected, "{text}");
    }
    for local in [
        "10.0.0.0",
        "10.255.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.1.1",
        "127.0.0.1",
        "::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "febf::1",
    ] {
        check(local, true);
    }
    for public in [
        "9.255.255.255",
        "11.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.169.0.1",
        "100.63.255.255",
        "100.128.0.0",
        "::2",
        "fe00::1",
        "fec0::1",
        "2001:db8::1",
    ] {
        check(public, false);
    }
}

#[test]
fn the_qr_code_is_a_square_of_half_blocks() {
    let code = qr_code("https://192.168.1.7:8443/").expect("a short text");
    let lines: Vec<_> = code.lines().collect();
    let width = lines[0].chars().count();
    assert!(lines.iter().all(|line| line.chars().count() == width));
    assert_eq!(lines.len(), width.div_ceil(2));
    assert!(code.chars().all(|c| matches!(c, ' ' | '▀' | '▄' | '█' | '\n')));
    assert!(qr_code(&"x".repeat(8000)).is_none());
}
