//! Keys: those of the load's bank, and those that lie in a home.

use std::path::Path;

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chain_types::{SigningKey, hex};
use sha2::{Digest, Sha256};

/// The bank's account `at` of a run with this seed.
pub fn bank_key(seed: u64, at: u32) -> SigningKey {
    let mut hash = Sha256::new();
    hash.update(b"perturb/bank");
    hash.update(seed.to_be_bytes());
    hash.update(at.to_be_bytes());
    SigningKey::from_bytes(&hash.finalize().into())
}

/// The operator's key of a home.
///
/// # Errors
/// The file is not there or no key.
pub fn operator_key(home: &Path) -> anyhow::Result<SigningKey> {
    let path = home.join("keys/operator.key");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let bytes = hex::bytes(text.trim()).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    match bytes {
        Some(bytes) => Ok(SigningKey::from_bytes(&bytes)),
        None => bail!("{} is no key of 64 hex digits", path.display()),
    }
}

/// The key with which a home's engine signs blocks (CometBFT's `priv_validator_key.json`).
///
/// # Errors
/// The file is not there or no key.
pub fn validator_key(home: &Path) -> anyhow::Result<SigningKey> {
    let path = home.join("config/priv_validator_key.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let document: serde_json::Value =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    // Seed and public key, 32 bytes each.
    let seed = document["priv_key"]["value"]
        .as_str()
        .and_then(|text| BASE64.decode(text).ok())
        .and_then(|bytes| <[u8; 32]>::try_from(bytes.get(..32)?).ok());
    match seed {
        Some(seed) => Ok(SigningKey::from_bytes(&seed)),
        None => bail!("{} holds no ed25519 key", path.display()),
    }
}

/// The engine's name of a key: 40 hex digits, upper case.
pub fn address(validator: &SigningKey) -> String {
    let key = chain_types::AccountId::from(validator);
    hex::text(&chain_types::staking::consensus_address(&key)).to_uppercase()
}
