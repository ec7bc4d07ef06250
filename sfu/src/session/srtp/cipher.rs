//! The two kinds of cipher under one set of calls; every byte layout of SRTP is here.

use crate::ports::SrtpProfile;
use aes::Aes128;
use aes::cipher::{InnerIvInit, KeyInit, StreamCipher};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, hmac};

use super::kdf::{Labels, derive};
use super::{RTCP_CLEAR_BYTES, RTCP_ENCRYPTED, RTCP_TRAILER_BYTES, SrtpError};

const GCM_TAG_BYTES: usize = 16;
const GCM_SALT_BYTES: usize = 12;
const HMAC_TAG_BYTES: usize = 10;
const CM_SALT_BYTES: usize = 14;

/// What makes an RTP packet's nonce unique under one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct RtpNonce {
    pub ssrc: u32,
    pub index: u64,
}

pub(super) enum Cipher {
    Gcm {
        key: LessSafeKey,
        salt: [u8; GCM_SALT_BYTES],
    },
    /// AES counter mode, HMAC-SHA1 cut to 80 bits. Boxed, or each GCM context would be as large.
    Cm(Box<CmKeys>),
}

pub(super) struct CmKeys {
    key: Aes128,
    salt: [u8; CM_SALT_BYTES],
    mac: hmac::Key,
}

impl Cipher {
    pub(super) fn derive(
        profile: SrtpProfile,
        master_key: &[u8],
        master_salt: &[u8],
        labels: Labels,
    ) -> Cipher {
        let salt = derive::<CM_SALT_BYTES>(master_key, master_salt, labels.salt);
        match profile {
            SrtpProfile::AES128_CM_SHA1_80 => Cipher::cm(
                derive(master_key, master_salt, labels.encryption),
                salt,
                derive(master_key, master_salt, labels.authentication),
            ),
            _ => {
                // A shorter derivation is a prefix of the longer one.
                let key = derive::<32>(master_key, master_salt, labels.encryption);
                let salt = *salt.first_chunk().expect("14 bytes begin with 12");
                Cipher::gcm(&key[..master_key.len()], salt)
            }
        }
    }

    /// From session keys; `key` has 16 or 32 bytes.
    pub(super) fn gcm(key: &[u8], salt: [u8; GCM_SALT_BYTES]) -> Cipher {
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = UnboundKey::new(algorithm, key).expect("the length chose the algorithm");
        Cipher::Gcm { key: LessSafeKey::new(key), salt }
    }

    /// From session keys.
    pub(super) fn cm(key: [u8; 16], salt: [u8; CM_SALT_BYTES], mac: [u8; 20]) -> Cipher {
        let mac = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &mac);
        Cipher::Cm(Box::new(CmKeys { key: Aes128::new(&key.into()), salt, mac }))
    }

    #[inline]
    pub(super) fn tag_bytes(&self) -> usize {
        match self {
            Cipher::Gcm { .. } => GCM_TAG_BYTES,
            Cipher::Cm(_) => HMAC_TAG_BYTES,
        }
    }

    /// `ciphertext` is as long as `payload`, `tag` as [`Cipher::tag_bytes`] says.
    #[inline]
    pub(super) fn seal_rtp(
        &self,
        nonce: RtpNonce,
        header: &[u8],
        payload: &[u8],
        ciphertext: &mut [u8],
        tag: &mut [u8],
    ) {
        match self {
            Cipher::Gcm { key, salt } => {
                let aad = Aad::from(header);
                key.seal_out_of_place_scatter(
                    gcm_rtp_nonce(salt, nonce),
                    aad,
                    payload,
                    ciphertext,
                    &[],
                    tag,
                )
                .expect("lengths agree");
            }
            Cipher::Cm(keys) => {
                let CmKeys { key, salt, mac } = &**keys;
                apply_keystream(key, cm_iv(salt, nonce), payload, ciphertext);
                tag.copy_from_slice(&hmac_rtp(mac, header, ciphertext, nonce.index));
            }
        }
    }

    /// `plaintext` is as long as `ciphertext`, `tag` as [`Cipher::tag_bytes`] says.
    #[inline]
    pub(super) fn open_rtp(
        &self,
        nonce: RtpNonce,
        header: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), SrtpError> {
        match self {
            Cipher::Gcm { key, salt } => {
                let aad = Aad::from(header);
                key.open_separate_gather(
                    gcm_rtp_nonce(salt, nonce),
                    aad,
                    ciphertext,
                    tag,
                    plaintext,
                )
                .map_err(|_| SrtpError::Authentication)
            }
            Cipher::Cm(keys) => {
                let CmKeys { key, salt, mac } = &**keys;
                verify(&hmac_rtp(mac, header, ciphertext, nonce.index), tag)?;
                apply_keystream(key, cm_iv(salt, nonce), ciphertext, plaintext);
                Ok(())
            }
        }
    }

    /// Appends the sealed compound to `out`. `trailer` is E bit and index.
    pub(super) fn seal_rtcp(&self, trailer: u32, compound: &[u8], out: &mut Vec<u8>) {
        let (clear, secret) = compound.split_at(RTCP_CLEAR_BYTES);
        let start = out.len();
        out.extend_from_slice(compound);
        match self {
            Cipher::Gcm { key, salt } => {
                let secret = &mut out[start + RTCP_CLEAR_BYTES..];
                let aad = Aad::from(gcm_rtcp_aad(clear, trailer));
                let nonce = gcm_rtcp_nonce(salt, clear, trailer);
                let tag = key
                    .seal_in_place_separate_tag(nonce, aad, secret)
                    .expect("a compound is far below the AEAD's limit");
                out.extend_from_slice(tag.as_ref());
                out.extend_from_slice(&trailer.to_be_bytes());
            }
            Cipher::Cm(keys) => {
                let CmKeys { key, salt, mac } = &**keys;
                let iv = cm_iv(salt, rtcp_nonce(clear, trailer));
                apply_keystream(key, iv, secret, &mut out[start + RTCP_CLEAR_BYTES..]);
                out.extend_from_slice(&trailer.to_be_bytes());
                let tag = hmac::sign(mac, &out[start..]);
                out.extend_from_slice(&tag.as_ref()[..HMAC_TAG_BYTES]);
            }
        }
    }

    /// E bit and index: GCM has them after the tag (RFC 7714 §9.2), SHA1-80 before it (RFC 3711
    /// §3.4). `packet` has at least trailer and tag.
    pub(super) fn rtcp_trailer(&self, packet: &[u8]) -> u32 {
        let end = match self {
            Cipher::Gcm { .. } => packet.len(),
            Cipher::Cm(_) => packet.len() - HMAC_TAG_BYTES,
        };
        let trailer = packet[..end].last_chunk().expect("callers check the length");
        u32::from_be_bytes(*trailer)
    }

    /// Appends the compound to `out`; after an error what was appended is of no use.
    pub(super) fn open_rtcp(
        &self,
        trailer: u32,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SrtpError> {
        let (clear, rest) = packet.split_at(RTCP_CLEAR_BYTES);
        let secret_bytes = rest.len() - RTCP_TRAILER_BYTES - self.tag_bytes();
        let (secret, _) = rest.split_at(secret_bytes);
        let start = out.len() + RTCP_CLEAR_BYTES;
        out.extend_from_slice(clear);
        out.resize(start + secret_bytes, 0);
        let plaintext = &mut out[start..];
        match self {
            Cipher::Gcm { key, salt } => {
                let aad = Aad::from(gcm_rtcp_aad(clear, trailer));
                let nonce = gcm_rtcp_nonce(salt, clear, trailer);
                let tag = &rest[secret_bytes..secret_bytes + GCM_TAG_BYTES];
                key.open_separate_gather(nonce, aad, secret, tag, plaintext)
                    .map_err(|_| SrtpError::Authentication)
            }
            Cipher::Cm(keys) => {
                let CmKeys { key, salt, mac } = &**keys;
                let (signed, tag) = packet.split_at(packet.len() - HMAC_TAG_BYTES);
                verify(&hmac::sign(mac, signed).as_ref()[..HMAC_TAG_BYTES], tag)?;
                let iv = cm_iv(salt, rtcp_nonce(clear, trailer));
                apply_keystream(key, iv, secret, plaintext);
                Ok(())
            }
        }
    }
}

fn verify(expected: &[u8], tag: &[u8]) -> Result<(), SrtpError> {
    constant_time::verify_slices_are_equal(expected, tag).map_err(|_| SrtpError::Authentication)
}

/// RFC 3711 §4.1.1, from `input` to `output` of equal length.
#[inline]
pub(super) fn apply_keystream(key: &Aes128, iv: [u8; 16], input: &[u8], output: &mut [u8]) {
    // The cipher is borrowed: its key schedule is made once, when the context is.
    let core = ctr::CtrCore::<&Aes128, ctr::flavors::Ctr128BE>::inner_iv_init(key, &iv.into());
    ctr::Ctr128BE::from_core(core).apply_keystream_b2b(input, output).expect("lengths agree");
}

/// RFC 3711 §4.2: header, ciphertext, rollover counter; the leftmost 80 bits.
#[inline]
fn hmac_rtp(mac: &hmac::Key, header: &[u8], ciphertext: &[u8], index: u64) -> [u8; 10] {
    let mut context = hmac::Context::with_key(mac);
    context.update(header);
    context.update(ciphertext);
    context.update(&((index >> 16) as u32).to_be_bytes());
    *context.sign().as_ref().first_chunk().expect("SHA-1 gives 20 bytes")
}

/// RFC 7714 §8.1: two zero bytes, SSRC, rollover counter and sequence number, XOR salt.
#[inline]
fn gcm_rtp_nonce(salt: &[u8; GCM_SALT_BYTES], RtpNonce { ssrc, index }: RtpNonce) -> Nonce {
    xor_nonce(salt, u128::from(ssrc) << 48 | u128::from(index & 0xFFFF_FFFF_FFFF))
}

/// RFC 7714 §9.1: two zero bytes, SSRC, two zero bytes, 31-bit index, XOR salt.
fn gcm_rtcp_nonce(salt: &[u8; GCM_SALT_BYTES], clear: &[u8], trailer: u32) -> Nonce {
    let RtpNonce { ssrc, index } = rtcp_nonce(clear, trailer);
    xor_nonce(salt, u128::from(ssrc) << 48 | u128::from(index))
}

#[inline]
fn xor_nonce(salt: &[u8; GCM_SALT_BYTES], value: u128) -> Nonce {
    let mut wide = [0; 16];
    wide[4..].copy_from_slice(salt);
    let wide = (u128::from_be_bytes(wide) ^ value).to_be_bytes();
    let nonce = *wide.last_chunk().expect("16 bytes end with 12");
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 7714 §9.2: the clear header, then E bit and index.
fn gcm_rtcp_aad(clear: &[u8], trailer: u32) -> [u8; RTCP_CLEAR_BYTES + RTCP_TRAILER_BYTES] {
    let mut aad = [0; RTCP_CLEAR_BYTES + RTCP_TRAILER_BYTES];
    aad[..RTCP_CLEAR_BYTES].copy_from_slice(clear);
    aad[RTCP_CLEAR_BYTES..].copy_from_slice(&trailer.to_be_bytes());
    aad
}

fn rtcp_nonce(clear: &[u8], trailer: u32) -> RtpNonce {
    let ssrc = u32::from_be_bytes(*clear.last_chunk().expect("8 bytes end with 4"));
    RtpNonce { ssrc, index: u64::from(trailer & !RTCP_ENCRYPTED) }
}

/// RFC 3711 §4.1.1: salt · 2^16 XOR SSRC · 2^64 XOR index · 2^16.
#[inline]
pub(super) fn cm_iv(salt: &[u8; CM_SALT_BYTES], RtpNonce { ssrc, index }: RtpNonce) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..CM_SALT_BYTES].copy_from_slice(salt);
    let unique = u128::from(ssrc) << 64 | u128::from(index) << 16;
    (u128::from_be_bytes(iv) ^ unique).to_be_bytes()
}
