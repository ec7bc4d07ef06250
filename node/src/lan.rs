//! `--lan`: HTTPS that phones of the local network can trust, by a certificate authority that this
//! node makes for itself and that can speak for nothing but local addresses.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use qrcode::{QrCode, render::unicode::Dense1x2};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType, SerialNumber,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use time::OffsetDateTime;

use crate::{
    config::home::{self, HomeError},
    tls::{self, Tls, TlsError},
};

/// People install the authority once, by hand: it lives long.
const AUTHORITY_VALID: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Made anew at each start, and each [`LEAF_RENEW`]; browsers want short ones (at most 398 days).
const LEAF_VALID: Duration = Duration::from_secs(90 * 86_400);
/// Age at which a running node makes a new certificate.
pub const LEAF_RENEW: Duration = Duration::from_secs(30 * 86_400);
/// How often a running node looks whether its addresses have changed.
pub const ADDRESSES_CHECK: Duration = Duration::from_secs(30);
/// Phones whose clock is late must not find the certificate to be from the future.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// Why there is no local HTTPS.
#[derive(Debug, thiserror::Error)]
pub enum LanError {
    /// The authority's file.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The certificate could not be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody could connect.
    #[error("--lan: this host has no address of a local network; connect it, or use --tls-cert")]
    NoAddress,
}

/// The node's own certificate authority, kept in `<home>/lan/ca.pem` (certificate and key, mode
/// 600).
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// Reads the authority, or makes it at first use.
    pub fn open(home: &Path, now: SystemTime) -> Result<Self, LanError> {
        let dir = home.join("lan");
        home::create_dir(&dir)?;
        let path = dir.join("ca.pem");
        let text = home::read_secret_or_create(&path, || {
            make_authority(now).map_err(|_| "no certificate could be made")
        })?;
        let damaged =
            |reason: &str| HomeError::Damaged { path: path.clone(), reason: reason.to_owned() };
        // Not `KeyPair::from_pem`, which takes the first block for a key whatever its label says.
        let secret = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| damaged("no private key"))?;
        let key = KeyPair::try_from(&secret).map_err(|_| damaged("no usable private key"))?;
        let der = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|_| damaged("no certificate"))?;
        // A certificate with another key would sign what no phone accepts.
        tls::certified_key(vec![der.clone()], secret).map_err(|e| damaged(&e.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|_| damaged("no authority's certificate"))?;
        Ok(Self { issuer, pem: home::pem("CERTIFICATE", &der) })
    }

    /// What people install: served at `/ca.crt`, without the key.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A new certificate for those of the addresses that the authority may speak for.
    pub fn issue(&self, addresses: &[IpAddr], now: SystemTime) -> Result<CertifiedKey, LanError> {
        let names: Vec<_> = addresses.iter().copied().filter(|ip| is_local(*ip)).collect();
        if names.is_empty() {
            return Err(LanError::NoAddress);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = name("Sutantra relay");
        params.subject_alt_names = names.into_iter().map(SanType::IpAddress).collect();
        params.subject_alt_names.push(SanType::DnsName("localhost".try_into()?));
        params.not_before = date(now - BACKDATED);
        params.not_after = date(now + LEAF_VALID);
        params.serial_number = Some(serial_number());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(tls::certified_key(vec![leaf.der().clone()], key)?)
    }
}

fn make_authority(now: SystemTime) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Sutantra local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Whoever steals the key can pretend to be a machine of a local network, and nothing else:
    // the names below are all that the authority may speak for (RFC 5280 §4.2.1.10).
    let mut permitted_subtrees: Vec<_> = LOCAL_NETWORKS
        .iter()
        .map(|(network, prefix)| GeneralSubtree::IpAddress(subnet(*network, *prefix)))
        .collect();
    permitted_subtrees.push(GeneralSubtree::DnsName("localhost".to_owned()));
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    params.not_before = date(now - BACKDATED);
    params.not_after = date(now + AUTHORITY_VALID);
    params.serial_number = Some(serial_number());
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(home::pem("CERTIFICATE", certificate.der())
        + &home::pem("PRIVATE KEY", &key.serialize_der()))
}

/// Loopback, private (RFC 1918, RFC 4193), shared (RFC 6598) and link-local networks.
const LOCAL_NETWORKS: [(IpAddr, u8); 9] = [
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
];

/// Whether the authority may speak for the address.
pub fn is_local(ip: IpAddr) -> bool {
    LOCAL_NETWORKS.iter().any(|(network, prefix)| match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            (ip.to_bits() ^ network.to_bits()).leading_zeros() >= u32::from(*prefix)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            (ip.to_bits() ^ network.to_bits()).leading_zeros() >= u32::from(*prefix)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    })
}

fn subnet(network: IpAddr, prefix: u8) -> CidrSubnet {
    match network {
        IpAddr::V4(ip) => CidrSubnet::from_v4_prefix(ip.octets(), prefix),
        IpAddr::V6(ip) => CidrSubnet::from_v6_prefix(ip.octets(), prefix),
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// 16 random bytes, positive: two authorities or two leaves must never share one (RFC 5280
/// §4.1.2.2).
fn serial_number() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = bytes[0] & 0x7f | 1;
    SerialNumber::from_slice(&bytes)
}

fn date(time: SystemTime) -> OffsetDateTime {
    OffsetDateTime::from(time)
}

/// Gives `tls` a new certificate whenever the host's addresses change, and each [`LEAF_RENEW`].
pub async fn keep_fresh(authority: Arc<Authority>, tls: Tls) {
    let (mut addresses, mut issued) = (sfu::io::host_addresses(), SystemTime::now());
    loop {
        tokio::time::sleep(ADDRESSES_CHECK).await;
        let (now, seen) = (SystemTime::now(), sfu::io::host_addresses());
        // A clock set back makes an age unknown: renew.
        let is_old = now.duration_since(issued).map_or(true, |age| age > LEAF_RENEW);
        if seen == addresses && !is_old {
            continue;
        }
        match authority.issue(&seen, now) {
            Ok(leaf) => {
                tls.replace(leaf);
                tracing::info!("new certificate for this host's addresses");
            }
            Err(error) => tracing::warn!(%error, "the old certificate stays in use"),
        }
        (addresses, issued) = (seen, now);
    }
}

/// The QR code of `url` in half blocks. Drawn is what is light in the code: most terminals write
/// light on dark, and not every phone reads an inverted code.
pub fn qr_code(url: &str) -> Option<String> {
    let code = QrCode::new(url).ok()?;
    let image =
        code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Some(image)
}

/// How people make their machines trust the authority.
pub fn trust_guide(base_url: &str) -> String {
    format!(
        "To trust this relay, open {base_url}/ca.crt on the phone or laptop (go past the warning once), then\n\
         \x20 iPhone, iPad  Settings > Profile Downloaded > Install, then General > About >\n\
         \x20               Certificate Trust Settings > switch it on\n\
         \x20 Android       Settings > Security > More > Encryption & credentials >\n\
         \x20               Install a certificate > CA certificate > ca.crt\n\
         \x20 macOS         open ca.crt, in Keychain Access set it to Always Trust\n\
         \x20 Windows       open ca.crt > Install > Trusted Root Certification Authorities\n\
         \x20 Linux         Chromium: Settings > Privacy and security > Security > Manage certificates\n\
         \x20 Firefox       Settings > Privacy & Security > View Certificates > Authorities > Import\n\
         The authority can speak for addresses of local networks only. Remove it when you are done.\n"
    )
}

#[cfg(test)]
mod tests;
