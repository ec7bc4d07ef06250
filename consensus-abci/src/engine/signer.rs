//! The guard against double signing: what was signed last is on the disk before the signature is
//! anywhere else (CometBFT's `priv_validator_state.json`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::files;
use super::hex::{hex_decode, hex_upper};
use super::keys::ValidatorKey;
use super::params::int64;

/// CometBFT's step number of a precommit.
const STEP_PRECOMMIT: i64 = 3;

/// Signs precommits, each height and round once.
#[derive(Debug)]
pub(crate) struct Signer {
    key: ValidatorKey,
    path: PathBuf,
    last: LastSigned,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct LastSigned {
    height: u64,
    round: u32,
    step: i64,
    signature: Vec<u8>,
    sign_bytes: Vec<u8>,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("sign state {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("sign state {path} cannot be read: {reason}")]
    Invalid { path: PathBuf, reason: String },
    #[error(
        "height {height} round {round} is not after the last signed height {last_height} round \
         {last_round}; a second signature there would be double signing"
    )]
    DoubleSign { height: u64, round: u32, last_height: u64, last_round: u32 },
}

impl Signer {
    /// Reads the sign state; a missing file is a key that has signed nothing yet.
    pub(crate) fn open(key: ValidatorKey, path: &Path) -> Result<Self, SignError> {
        let failed = |source| SignError::Io { path: path.to_owned(), source };
        let last = match fs::read(path) {
            Ok(bytes) => parse(&bytes)
                .map_err(|reason| SignError::Invalid { path: path.to_owned(), reason })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files::create_parent(path).map_err(failed)?;
                LastSigned::default()
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Signer { key, path: path.to_owned(), last })
    }

    pub(crate) fn key(&self) -> &ValidatorKey {
        &self.key
    }

    /// Greatest height with a signature; 0 when there is none.
    pub(crate) fn height(&self) -> u64 {
        self.last.height
    }

    /// The first round of `height` that was not signed.
    ///
    /// A crash between signature and block leaves a round that nobody saw. Its block is gone, a
    /// different one must not take its signature's place, so the next attempt is a round later.
    pub(crate) fn free_round(&self, height: u64) -> u32 {
        match self.last.height == height {
            true => self.last.round.saturating_add(1),
            false => 0,
        }
    }

    /// Signs a precommit's canonical bytes, after the sign state is durable.
    pub(crate) fn sign(
        &mut self,
        height: u64,
        round: u32,
        sign_bytes: Vec<u8>,
    ) -> Result<[u8; 64], SignError> {
        let last = &self.last;
        if (height, round, STEP_PRECOMMIT) <= (last.height, last.round, last.step) {
            return Err(SignError::DoubleSign {
                height,
                round,
                last_height: last.height,
                last_round: last.round,
            });
        }
        let signature = self.key.sign(&sign_bytes);
        let next = LastSigned {
            height,
            round,
            step: STEP_PRECOMMIT,
            signature: signature.to_vec(),
            sign_bytes,
        };
        let text = serde_json::to_vec_pretty(&to_json(&next)).expect("JSON values serialize");
        files::write_atomic(&self.path, &text)
            .map_err(|source| SignError::Io { path: self.path.clone(), source })?;
        self.last = next;
        Ok(signature)
    }
}

fn to_json(last: &LastSigned) -> Value {
    json!({
        "height": last.height.to_string(),
        "round": last.round,
        "step": last.step,
        "signature": BASE64.encode(&last.signature),
        "signbytes": hex_upper(&last.sign_bytes),
    })
}

fn parse(bytes: &[u8]) -> Result<LastSigned, String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let number = |name: &str| int64(&file[name]).ok_or(format!("{name} is {}", file[name]));
    let height = u64::try_from(number("height")?).map_err(|_| "height is negative")?;
    let round = u32::try_from(number("round")?).map_err(|_| "round is out of range")?;
    let text = |name: &str| file[name].as_str().unwrap_or_default();
    Ok(LastSigned {
        height,
        round,
        step: number("step")?,
        signature: BASE64.decode(text("signature")).map_err(|_| "signature is not base64")?,
        sign_bytes: hex_decode(text("signbytes")).ok_or("signbytes is not hex")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_height_and_round_is_signed_twice_even_after_a_restart() {
        let dir = std::env::temp_dir().join(format!("sutantra-signer-{}", std::process::id()));
        let path = dir.join("data/priv_validator_state.json");
        let key = ValidatorKey::from_seed([5; 32]);
        let open = || Signer::open(key.clone(), &path);
        let mut signer = open().expect("a missing file is a fresh key");
        assert_eq!((signer.height(), signer.free_round(1)), (0, 0));
        signer.sign(7, 0, b"block".to_vec()).expect("nothing was signed");

        let mut signer = open().expect("the file was written");
        assert_eq!((signer.height(), signer.free_round(7), signer.free_round(8)), (7, 1, 0));
        for (height, round) in [(7, 0), (6, 9), (1, 0)] {
            let refused = signer.sign(height, round, b"other".to_vec());
            assert!(matches!(refused, Err(SignError::DoubleSign { .. })), "{height} {round}");
        }
        signer.sign(7, 1, b"other".to_vec()).expect("a later round");
        signer.sign(8, 0, b"next".to_vec()).expect("a later height");

        for damaged in ["", "{}", r#"{"height":"-1","round":0,"step":3}"#] {
            fs::write(&path, damaged).expect("the directory is there");
            assert!(matches!(open(), Err(SignError::Invalid { .. })), "{damaged}");
        }
        fs::remove_dir_all(&dir).expect("the test made it");
    }
}
