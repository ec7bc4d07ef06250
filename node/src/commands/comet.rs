//! `comet …`: node id, validator key and address, in the forms that CometBFT's own tools print.

use std::path::{Path, PathBuf};

use anyhow::bail;
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Subcommand;
use consensus_abci::engine::{NodeKey, ValidatorKey};
use serde_json::json;

/// `comet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
#[expect(clippy::enum_variant_names, reason = "they are the words of the command line")]
pub enum CometCommand {
    /// Prints the id by which other nodes name this one: ID@HOST:PORT
    ShowNodeId,
    /// Prints the validator's public key as a genesis file has it
    ShowValidator,
    /// Prints the validator's address
    ShowAddress,
}

/// Carries out one of them.
pub fn run(command: CometCommand, home: &Path) -> anyhow::Result<()> {
    let line = match command {
        CometCommand::ShowNodeId => node_key(home)?.id(),
        CometCommand::ShowValidator => validator_json(&validator_key(home)?).to_string(),
        CometCommand::ShowAddress => validator_key(home)?.address().to_string(),
    };
    super::say(&format!("{line}\n"))
}

/// The key that names the node; an absent one is not made.
pub fn node_key(home: &Path) -> anyhow::Result<NodeKey> {
    Ok(NodeKey::load_or_create(&existing(home, "config/node_key.json")?)?)
}

/// The key that signs blocks; an absent one is not made.
pub fn validator_key(home: &Path) -> anyhow::Result<ValidatorKey> {
    Ok(ValidatorKey::load_or_create(&existing(home, "config/priv_validator_key.json")?)?)
}

/// A public key as CometBFT's JSON has it.
pub fn validator_json(key: &ValidatorKey) -> serde_json::Value {
    let value = STANDARD.encode(key.public_key().to_bytes());
    json!({ "type": "tendermint/PubKeyEd25519", "value": value })
}

fn existing(home: &Path, file: &str) -> anyhow::Result<PathBuf> {
    let path = home.join(file);
    if !path.try_exists()? {
        bail!(
            "{} is not there: make a home with `sutantra-node init MONIKER`, or name yours with \
             --home DIR",
            path.display()
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn keys_are_shown_in_cometbfts_forms_and_never_made() {
        let home = TempDir::new().unwrap();
        let refused = node_key(home.path()).expect_err("there is none").to_string();
        assert!(refused.contains("init MONIKER"), "{refused}");
        assert!(validator_key(home.path()).is_err());
        assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 0, "nothing is made");

        let config = home.path().join("config");
        fs::create_dir(&config).expect("ours");
        ValidatorKey::load_or_create(&config.join("priv_validator_key.json")).expect("made");
        NodeKey::load_or_create(&config.join("node_key.json")).expect("made");
        let validator = validator_key(home.path()).expect("made above");
        assert_eq!(validator_json(&validator)["type"], "tendermint/PubKeyEd25519");
        let value = validator_json(&validator)["value"].as_str().expect("text").to_owned();
        assert_eq!(STANDARD.decode(value).expect("base64"), validator.public_key().to_bytes());
        let id = node_key(home.path()).expect("made above").id();
        assert!(id.len() == 40 && id.bytes().all(|b| b"0123456789abcdef".contains(&b)), "{id}");
    }
}
