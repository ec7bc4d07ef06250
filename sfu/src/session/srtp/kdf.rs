//! Session keys from master key and salt (RFC 3711 §4.3; AES-256 by RFC 6188 §3).

use aes::cipher::{BlockEncrypt, KeyInit};

/// Which labels of RFC 3711 §4.3.1 a cipher's encryption key, authentication key, salt have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labels {
    pub encryption: u8,
    pub authentication: u8,
    pub salt: u8,
}

pub(super) const RTP_LABELS: Labels = Labels { encryption: 0, authentication: 1, salt: 2 };
/// RFC 3711 §4.3.2.
pub(super) const RTCP_LABELS: Labels = Labels { encryption: 3, authentication: 4, salt: 5 };

/// Fills `out` with AES-CM keystream (key derivation rate 0). A salt of 12 bytes (GCM) is padded
/// with zeros to 14 (RFC 7714 §11).
///
/// # Panics
/// When the key is not of 16 or 32 bytes, or the salt longer than 14.
pub(super) fn derive<const N: usize>(master_key: &[u8], master_salt: &[u8], label: u8) -> [u8; N] {
    const { assert!(N <= 16 * 256, "the block counter below is one byte") };
    let mut block = [0; 16];
    block[..master_salt.len()].copy_from_slice(master_salt);
    // The label stands above the 48-bit index, which is 0, in a 112-bit number.
    block[7] ^= label;
    let mut out = [0; N];
    for (counter, chunk) in (0u8..).zip(out.chunks_mut(16)) {
        block[15] = counter;
        let mut keystream = aes::Block::from(block);
        match master_key.len() {
            16 => {
                aes::Aes128::new_from_slice(master_key).map(|aes| aes.encrypt_block(&mut keystream))
            }
            _ => {
                aes::Aes256::new_from_slice(master_key).map(|aes| aes.encrypt_block(&mut keystream))
            }
        }
        .expect("callers pass 16 or 32 bytes");
        chunk.copy_from_slice(&keystream[..chunk.len()]);
    }
    out
}
