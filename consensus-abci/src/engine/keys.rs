//! The validator's and the node's ed25519 keys, in CometBFT's file formats.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_consensus::SigningKey;
use serde_json::{Value, json};
use tendermint::{PublicKey, account};

use super::files;

/// The key that signs blocks (`priv_validator_key.json`).
#[derive(Clone)]
pub struct ValidatorKey(SigningKey);

/// The key that names the node (`node_key.json`).
#[derive(Clone)]
pub struct NodeKey(SigningKey);

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("key file {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("key file {path} is not a key: {reason}")]
    Invalid { path: PathBuf, reason: String },
}

impl ValidatorKey {
    /// The key of a 32-byte ed25519 seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        ValidatorKey(SigningKey::from(seed))
    }

    /// Reads `priv_validator_key.json`, or makes a random key and writes it (owner only, mode 600).
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        load_or_create(path, validator_key_json).map(ValidatorKey)
    }

    /// The public half, as it stands in a genesis file.
    pub fn public_key(&self) -> PublicKey {
        public_key(&self.0)
    }

    /// First 20 bytes of SHA-256 of the public key.
    pub fn address(&self) -> account::Id {
        account::Id::from(self.public_key())
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

impl NodeKey {
    /// The key of a 32-byte ed25519 seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        NodeKey(SigningKey::from(seed))
    }

    /// Reads `node_key.json`, or makes a random key and writes it (owner only, mode 600).
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        load_or_create(path, |key| json!({ "priv_key": private_json(key) })).map(NodeKey)
    }

    /// CometBFT's node id: the key's address in 40 lower hex digits.
    pub fn id(&self) -> String {
        account::Id::from(public_key(&self.0)).to_string().to_lowercase()
    }
}

// A private key has no place in a log.
impl fmt::Debug for ValidatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValidatorKey({})", self.address())
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.id())
    }
}

fn public_key(key: &SigningKey) -> PublicKey {
    PublicKey::from_raw_ed25519(&key.verification_key().to_bytes())
        .expect("a signing key's public half is an ed25519 key")
}

/// A public key as CometBFT's JSON has it: `{"type": …, "value": base64}`.
pub(crate) fn public_json(key: &PublicKey) -> Value {
    json!({ "type": "tendermint/PubKeyEd25519", "value": BASE64.encode(key.to_bytes()) })
}

fn private_json(key: &SigningKey) -> Value {
    let both = [key.to_bytes(), key.verification_key().to_bytes()].concat();
    json!({ "type": "tendermint/PrivKeyEd25519", "value": BASE64.encode(both) })
}

fn validator_key_json(key: &SigningKey) -> Value {
    let public = public_key(key);
    json!({
        "address": account::Id::from(public).to_string(),
        "pub_key": public_json(&public),
        "priv_key": private_json(key),
    })
}

fn load_or_create(
    path: &Path,
    to_json: impl Fn(&SigningKey) -> Value,
) -> Result<SigningKey, KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) => {
            parse(&bytes).map_err(|reason| KeyFileError::Invalid { path: path.to_owned(), reason })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SigningKey::from(rand::random::<[u8; 32]>());
            let text = serde_json::to_vec_pretty(&to_json(&key)).expect("JSON values serialize");
            files::create_parent(path).map_err(failed)?;
            files::write_atomic(path, &text).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}

fn parse(bytes: &[u8]) -> Result<SigningKey, String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let private = &file["priv_key"];
    if private["type"] != "tendermint/PrivKeyEd25519" {
        return Err(format!(
            "priv_key.type is {}, only tendermint/PrivKeyEd25519 signs here",
            private["type"]
        ));
    }
    let value = private["value"].as_str().ok_or("priv_key.value is missing")?;
    let both = BASE64.decode(value).map_err(|error| format!("priv_key.value: {error}"))?;
    let [seed, public]: [[u8; 32]; 2] = match both.len() {
        64 => [&both[..32], &both[32..]].map(|half| half.try_into().expect("halves of 64 bytes")),
        length => return Err(format!("priv_key.value has {length} bytes, needs 64")),
    };
    let key = SigningKey::from(seed);
    if key.verification_key().to_bytes() != public {
        return Err("priv_key.value: its public half does not belong to its seed".to_owned());
    }
    if let Some(address) = file.get("address") {
        let own = account::Id::from(public_key(&key)).to_string();
        if *address != own {
            return Err(format!("address is {address}, the key's address is {own}"));
        }
    }
    Ok(key)
}
