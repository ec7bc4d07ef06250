//! SRTP and SRTCP of one DTLS association: AEAD_AES_GCM (RFC 7714), AES_CM_128_HMAC_SHA1_80
//! (RFC 3711).
//!
//! The caller owns RTP's packet index: never the same (SSRC, index) twice on one [`SealContext`],
//! which under GCM would give the key away.

mod cipher;
mod kdf;

use std::fmt;

use crate::ports::SrtpProfile;

use self::cipher::{Cipher, RtpNonce};
use super::replay::ReplayWindow;

/// SRTCP packets of one key (31-bit index, RFC 3711 §9.2); at the end nothing more is sealed.
const RTCP_INDEX_END: u32 = 1 << 31;
/// RTCP senders of one peer whose replay windows are kept; packets of any further one are refused.
pub const RTCP_SENDERS_MAX: usize = 64;
/// Header and sender SSRC, sent in the clear (RFC 3711 §3.4).
const RTCP_CLEAR_BYTES: usize = 8;
/// E bit and SRTCP index.
const RTCP_TRAILER_BYTES: usize = 4;
const RTCP_ENCRYPTED: u32 = 1 << 31;

/// What DTLS-SRTP exported (RFC 5764 §4.2).
#[derive(Clone)]
pub struct SrtpKeys {
    /// Protection profile that was negotiated.
    pub profile: SrtpProfile,
    /// client_key | server_key | client_salt | server_salt.
    pub material: Vec<u8>,
    /// Whether we were the DTLS client, and seal with the client's half.
    pub is_client: bool,
}

impl fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SrtpKeys { profile, material: _, is_client } = self;
        let mut debug = f.debug_struct("SrtpKeys");
        debug.field("profile", profile).field("is_client", is_client).finish_non_exhaustive()
    }
}

/// Why keys cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The profile is not one of ours.
    #[error("SRTP profile {0:?} is not supported")]
    UnsupportedProfile(SrtpProfile),
    /// The material is not two keys, two salts.
    #[error("{material_bytes} bytes of keying material, the profile needs {need_bytes}")]
    MaterialLength {
        /// Bytes given.
        material_bytes: usize,
        /// Bytes of two keys, two salts.
        need_bytes: usize,
    },
}

/// Why a packet is not opened. A peer can cause every variant but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    /// Too short for header, tag, index.
    #[error("packet is too short")]
    TooShort,
    /// Forged, damaged, of another key, another index, or not encrypted.
    #[error("authentication failed")]
    Authentication,
    /// SRTCP index seen before, too old, or of one RTCP sender too many.
    #[error("replayed")]
    Replay,
    /// The plaintext does not fit the caller's buffer.
    #[error("plaintext is larger than the buffer")]
    PlaintextTooLarge,
}

/// Both directions of one DTLS association: (ours, theirs).
pub fn contexts(keys: &SrtpKeys) -> Result<(SealContext, OpenContext), KeyError> {
    let (key_bytes, salt_bytes) = match keys.profile {
        SrtpProfile::AES128_CM_SHA1_80 => (16, 14),
        SrtpProfile::AEAD_AES_128_GCM => (16, 12),
        SrtpProfile::AEAD_AES_256_GCM => (32, 12),
        // The enum is not ours and is marked non-exhaustive.
        other => return Err(KeyError::UnsupportedProfile(other)),
    };
    let need_bytes = 2 * (key_bytes + salt_bytes);
    if keys.material.len() != need_bytes {
        return Err(KeyError::MaterialLength { material_bytes: keys.material.len(), need_bytes });
    }
    let (master_keys, master_salts) = keys.material.split_at(2 * key_bytes);
    let (client_key, server_key) = master_keys.split_at(key_bytes);
    let (client_salt, server_salt) = master_salts.split_at(salt_bytes);
    let client = || Direction::derive(keys.profile, client_key, client_salt);
    let server = || Direction::derive(keys.profile, server_key, server_salt);
    let (ours, theirs) = if keys.is_client { (client(), server()) } else { (server(), client()) };
    Ok((
        SealContext { ciphers: ours, rtcp_index: 0 },
        OpenContext { ciphers: theirs, rtcp_windows: Vec::new() },
    ))
}

/// Session keys of one direction.
struct Direction {
    rtp: Cipher,
    rtcp: Cipher,
}

impl Direction {
    fn derive(profile: SrtpProfile, master_key: &[u8], master_salt: &[u8]) -> Direction {
        let cipher = |labels| Cipher::derive(profile, master_key, master_salt, labels);
        Direction { rtp: cipher(kdf::RTP_LABELS), rtcp: cipher(kdf::RTCP_LABELS) }
    }
}

/// Seals what we send. Costs one key schedule when made, no allocation afterwards.
pub struct SealContext {
    ciphers: Direction,
    /// Of the next SRTCP packet; one sequence for all our SSRCs, which keeps each of them unique.
    rtcp_index: u32,
}

impl fmt::Debug for SealContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealContext").field("rtcp_index", &self.rtcp_index).finish_non_exhaustive()
    }
}

impl SealContext {
    /// Bytes that sealing adds to an RTP packet: 16 for GCM, 10 for SHA1-80.
    #[inline]
    pub fn tag_bytes(&self) -> usize {
        self.ciphers.rtp.tag_bytes()
    }

    /// Seals one RTP packet whose header stands in `out[..header_bytes]`: ciphertext, tag follow
    /// it, read from `payload` without a copy between. Returns the packet's length.
    ///
    /// `index` is the rollover counter above the sequence number, 48 bits.
    ///
    /// # Panics
    /// When `out` is shorter than header, payload and tag together.
    #[inline]
    pub fn seal_rtp(
        &self,
        out: &mut [u8],
        header_bytes: usize,
        payload: &[u8],
        ssrc: u32,
        index: u64,
    ) -> usize {
        let total_bytes = header_bytes + payload.len() + self.tag_bytes();
        assert!(total_bytes <= out.len(), "the caller sizes the packet");
        debug_assert!(index >> 48 == 0, "a packet index has 48 bits");
        let (header, rest) = out[..total_bytes].split_at_mut(header_bytes);
        let (ciphertext, tag) = rest.split_at_mut(payload.len());
        self.ciphers.rtp.seal_rtp(RtpNonce { ssrc, index }, header, payload, ciphertext, tag);
        total_bytes
    }

    /// Replaces `out` by the sealed form of a compound that begins with a header and an SSRC. `out`
    /// stays empty when the key has sealed 2³¹ packets, which takes years.
    ///
    /// # Panics
    /// When `compound` is shorter than 8 bytes.
    pub fn seal_rtcp(&mut self, compound: &[u8], out: &mut Vec<u8>) {
        out.clear();
        assert!(compound.len() >= RTCP_CLEAR_BYTES, "a compound begins with header and SSRC");
        if self.rtcp_index == RTCP_INDEX_END {
            return;
        }
        let trailer = RTCP_ENCRYPTED | self.rtcp_index;
        self.rtcp_index += 1;
        self.ciphers.rtcp.seal_rtcp(trailer, compound, out);
    }
}

/// Opens what the peer sends.
pub struct OpenContext {
    ciphers: Direction,
    /// By sender SSRC: a peer counts the SRTCP packets of each of its SSRCs on its own.
    rtcp_windows: Vec<(u32, ReplayWindow)>,
}

impl fmt::Debug for OpenContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let senders = self.rtcp_windows.len();
        f.debug_struct("OpenContext").field("rtcp_senders", &senders).finish_non_exhaustive()
    }
}

impl OpenContext {
    /// Bytes of the tag on an RTP packet: 16 for GCM, 10 for SHA1-80.
    #[inline]
    pub fn tag_bytes(&self) -> usize {
        self.ciphers.rtp.tag_bytes()
    }

    /// Opens one RTP packet into the front of `out`; returns the bytes of plaintext. After an error
    /// `out` holds nothing of use. The caller keeps the stream's [`ReplayWindow`].
    #[inline]
    pub fn open_rtp(
        &self,
        packet: &[u8],
        header_bytes: usize,
        ssrc: u32,
        index: u64,
        out: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let (header, rest) = packet.split_at_checked(header_bytes).ok_or(SrtpError::TooShort)?;
        let bytes = rest.len().checked_sub(self.tag_bytes()).ok_or(SrtpError::TooShort)?;
        let (ciphertext, tag) = rest.split_at(bytes);
        let plaintext = out.get_mut(..bytes).ok_or(SrtpError::PlaintextTooLarge)?;
        self.ciphers.rtp.open_rtp(RtpNonce { ssrc, index }, header, ciphertext, tag, plaintext)?;
        Ok(bytes)
    }

    /// Replaces `out` by the compound in an SRTCP packet; after an error it is empty. An
    /// unencrypted packet (E bit clear) is refused: WebRTC has none (RFC 8827 §6.5).
    pub fn open_rtcp(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), SrtpError> {
        out.clear();
        let cipher = &self.ciphers.rtcp;
        if packet.len() < RTCP_CLEAR_BYTES + cipher.tag_bytes() + RTCP_TRAILER_BYTES {
            return Err(SrtpError::TooShort);
        }
        let trailer = cipher.rtcp_trailer(packet);
        if trailer & RTCP_ENCRYPTED == 0 {
            return Err(SrtpError::Authentication);
        }
        let index = u64::from(trailer & !RTCP_ENCRYPTED);
        let sender = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        let known = self.rtcp_windows.iter().position(|(ssrc, _)| *ssrc == sender);
        match known {
            Some(at) => self.rtcp_windows[at].1.check(index).map_err(|_| SrtpError::Replay)?,
            None if self.rtcp_windows.len() >= RTCP_SENDERS_MAX => return Err(SrtpError::Replay),
            None => {}
        }
        if let Err(error) = cipher.open_rtcp(trailer, packet, out) {
            out.clear();
            return Err(error);
        }
        let at = known.unwrap_or_else(|| {
            self.rtcp_windows.push((sender, ReplayWindow::new()));
            self.rtcp_windows.len() - 1
        });
        self.rtcp_windows[at].1.commit(index);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
