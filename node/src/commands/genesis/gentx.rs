//! One operator's signed wish to validate from the first block on, as a file that people can read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use chain_types::{Payload, Transaction, TransactionBody, hex};
use serde::{Deserialize, Serialize};

use super::GENTX_DIR;
use crate::chain::genesis::Founder;

/// Longest file that is read; ours have under 2 kB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What was signed, in both forms: `body` for people, `signed` for the genesis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gentx {
    /// The chain that it is for.
    pub chain_id: String,
    /// CometBFT's id of the validator's node.
    pub node_id: String,
    /// Where that node is reached, `ID@HOST:PORT`; nobody has signed this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What was signed.
    pub body: TransactionBody,
    /// The transaction with its signature, hex.
    pub signed: String,
}

/// Where a home keeps the one of a node.
pub fn file_of(home: &Path, node_id: &str) -> PathBuf {
    home.join(GENTX_DIR).join(format!("gentx-{node_id}.json"))
}

impl Gentx {
    /// Signs.
    pub fn new(
        chain_id: &str,
        founder: &Founder,
        node_id: String,
        peer: Option<crate::config::chain::Peer>,
    ) -> Self {
        let transaction = founder.sign(chain_id);
        Self {
            chain_id: chain_id.to_owned(),
            node_id,
            peer: peer.map(|peer| peer.to_string()),
            signed: hex::text(&transaction.encode()),
            body: transaction.body,
        }
    }

    /// For a file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("records have a JSON form") + "\n"
    }

    /// The signed transaction.
    ///
    /// # Errors
    /// It is none.
    pub fn transaction(&self) -> anyhow::Result<Transaction> {
        let bytes = hex::bytes(&self.signed).context("`signed` is not pairs of hex digits")?;
        Transaction::decode(&bytes).context("`signed` is no transaction")
    }

    /// What is wrong with it, whatever the genesis is.
    pub fn faults(&self, chain_id: &str) -> Vec<String> {
        let mut faults = Vec::new();
        if self.chain_id != chain_id {
            faults.push(format!("it is for the chain {}, not for {chain_id}", self.chain_id));
        }
        let transaction = match self.transaction() {
            Ok(transaction) => transaction,
            Err(error) => {
                faults.push(format!("{error:#}"));
                return faults;
            }
        };
        if transaction.body != self.body {
            faults.push("`body` is not what `signed` says: somebody changed the file".to_owned());
        }
        if let Err(error) = transaction.verify(&self.chain_id) {
            faults.push(format!("its signature: {error}"));
        }
        if !matches!(transaction.body.payload, Payload::CreateValidator { .. }) {
            let kind = transaction.body.payload.kind();
            faults.push(format!("it is a {kind}, and only create_validator begins a chain"));
        }
        faults
    }
}

/// All files of a directory, by name.
///
/// # Errors
/// There is none, or what is wrong with each that cannot be read, all at once.
pub fn read_all(dir: &Path, gentxs_max: usize) -> anyhow::Result<Vec<(String, Gentx)>> {
    let entries = fs::read_dir(dir).with_context(|| {
        format!("{}: put the files of `sutantra-node genesis gentx` there", dir.display())
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{} holds no file of `sutantra-node genesis gentx`", dir.display());
    }
    if files.len() > gentxs_max {
        bail!("{} holds {} files, at most {gentxs_max} are read", dir.display(), files.len());
    }
    let (mut gentxs, mut faults) = (Vec::new(), Vec::new());
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match read(&path) {
            Ok(gentx) => gentxs.push((name, gentx)),
            Err(error) => faults.push(format!("{name}: {error:#}")),
        }
    }
    if !faults.is_empty() {
        bail!(
            "{} holds what no `genesis gentx` wrote: take it out, or ask for it again\n  {}",
            dir.display(),
            faults.join("\n  ")
        );
    }
    Ok(gentxs)
}

fn read(path: &Path) -> anyhow::Result<Gentx> {
    let length = fs::metadata(path)?.len();
    if length > FILE_BYTES_MAX {
        bail!("it has {length} bytes, at most {FILE_BYTES_MAX} are read");
    }
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

#[cfg(test)]
mod tests {
    use chain_types::SigningKey;
    use consensus_abci::engine::ValidatorKey;
    use tempfile::TempDir;

    use super::*;

    const CHAIN: &str = "sutantra-test-1";

    fn gentx() -> Gentx {
        let (operator, validator) =
            (SigningKey::from_bytes(&[1; 32]), ValidatorKey::from_seed([2; 32]));
        let founder = Founder::usual(&operator, &validator, "alice");
        let peer = format!("{}@alice.example:26656", "ab".repeat(20)).parse().expect("a peer");
        Gentx::new(CHAIN, &founder, "ab".repeat(20), Some(peer))
    }

    #[test]
    fn a_file_says_twice_what_was_signed_and_both_must_agree() {
        #[track_caller]
        fn check(gentx: &Gentx, chain: &str, parts: &[&str]) {
            let faults = gentx.faults(chain);
            assert_eq!(faults.len(), parts.len(), "{faults:?}");
            for (fault, part) in faults.iter().zip(parts) {
                assert!(fault.contains(part), "{fault}, not {part}");
            }
        }
        let good = gentx();
        check(&good, CHAIN, &[]);
        assert_eq!(serde_json::from_str::<Gentx>(&good.to_json()).expect("ours"), good);
        check(&good, "other", &["for the chain sutantra-test-1, not for other"]);
        check(&Gentx { chain_id: "other".into(), ..good.clone() }, "other", &["its signature"]);
        let mut other = good.clone();
        other.body.nonce = 1;
        check(&other, CHAIN, &["somebody changed the file"]);
        check(&Gentx { signed: "zz".into(), ..good.clone() }, CHAIN, &["hex digits"]);
        check(&Gentx { signed: "00".into(), ..good.clone() }, CHAIN, &["no transaction"]);
        let operator = SigningKey::from_bytes(&[1; 32]);
        let mut body = good.body.clone();
        body.payload = Payload::Unjail;
        let signed = hex::text(&body.clone().sign(&operator, CHAIN).encode());
        check(&Gentx { body, signed, ..good }, CHAIN, &["it is a unjail"]);
    }

    #[test]
    fn every_file_that_is_none_is_named_at_once() {
        let dir = TempDir::new().unwrap();
        let error = read_all(dir.path(), 9).expect_err("none").to_string();
        assert!(error.contains("holds no file"), "{error}");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("ours");
        write("b.json", &gentx().to_json());
        write("notes.txt", "not looked at");
        let found = read_all(dir.path(), 9).expect("one");
        assert_eq!(found, [("b.json".to_owned(), gentx())]);
        write("a.json", "{}");
        write("c.json", &gentx().to_json().replacen('{', "{\"memo\": 1,", 1));
        write("d.json", &" ".repeat(FILE_BYTES_MAX as usize + 1));
        let error = read_all(dir.path(), 9).expect_err("three").to_string();
        for part in ["a.json: missing field", "c.json: unknown field `memo`", "d.json: it has"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(read_all(dir.path(), 3).expect_err("four").to_string().contains("at most 3"));
    }
}
