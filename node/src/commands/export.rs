//! `export`: the whole state as the genesis of a chain that goes on from it.

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::{Context as _, bail};
use chain_types::{StateKey, staking::Validator};
use clap::Args;
use consensus_abci::{
    app::{APP_VERSION, App, AppState, StateSnapshot},
    engine::GenesisValidator,
};
use serde_json::{Value, json};
use tendermint::PublicKey;

use super::{genesis::Document, say, state};
use crate::config::Config;

/// `export`.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct ExportArgs {
    /// Refuse unless the state is at this height [default: the newest]
    #[arg(long, value_name = "HEIGHT")]
    pub for_height: Option<u64>,
    /// Name of the new chain [default: that of the old one]
    #[arg(long, value_name = "ID")]
    pub chain_id: Option<String>,
    /// A file that is not there yet [default: it is printed]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Carries it out.
///
/// # Errors
/// A sentence that says what to do next.
pub fn run(args: &ExportArgs, config: &Config) -> anyhow::Result<()> {
    let app = state::open(config)?;
    let path = config.home.join("config/genesis.json");
    let text = fs::read(&path).with_context(|| {
        format!("{} is needed for what the engine's part of a genesis says", path.display())
    })?;
    let old: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let genesis = genesis(args, &app, old)?;
    let text = serde_json::to_vec_pretty(&genesis)?;
    let faults = Document::read(text.clone(), &path)?.faults();
    if !faults.is_empty() {
        bail!("the state makes no genesis: {}", faults.join("; "));
    }
    let Some(file) = &args.output else {
        return say(&format!("{}\n", String::from_utf8_lossy(&text)));
    };
    let write = || fs::File::create_new(file)?.write_all(&text);
    write().with_context(|| file.display().to_string())?;
    say(&format!("{}: begins at height {}\n", file.display(), genesis["initial_height"]))
}

/// The old genesis with the state in place of its own, from the next height on.
fn genesis(args: &ExportArgs, app: &App, mut genesis: Value) -> anyhow::Result<Value> {
    let snapshot = app.snapshot();
    let Some(head) = snapshot.head() else {
        bail!("there is no state yet: start the node once");
    };
    if let Some(wanted) = args.for_height.filter(|wanted| *wanted != head.height) {
        bail!(
            "the state is at height {}, not {wanted}: only the newest is exported; `rollback` \
             takes back a block, `halt-height` stops a node at one",
            head.height
        );
    }
    let exported: AppState = snapshot.export()?;
    let seconds = i64::try_from(head.block_time_ms / 1000)?;
    let nanos = u32::try_from(head.block_time_ms % 1000)? * 1_000_000;
    let time = tendermint::Time::from_unix_timestamp(seconds, nanos)?;
    let next = head.height.checked_add(1).context("heights end here")?;
    let fields = genesis.as_object_mut().context("the genesis is no JSON object")?;
    if let Some(chain_id) = &args.chain_id {
        fields.insert("chain_id".to_owned(), json!(chain_id));
    }
    fields.insert("genesis_time".to_owned(), json!(time.to_rfc3339()));
    fields.insert("initial_height".to_owned(), json!(next.to_string()));
    fields.insert("app_hash".to_owned(), json!(""));
    let validators = validators(&snapshot)?;
    if !validators.is_empty() {
        // The state names them itself; they stand here for who verifies with the file alone.
        let validators = validators.iter().map(GenesisValidator::to_json);
        fields.insert("validators".to_owned(), validators.collect());
    }
    // A chain may be older than what CometBFT's `rollback` needs.
    if let Some(params) = fields.get_mut("consensus_params").and_then(Value::as_object_mut) {
        params.insert("version".to_owned(), json!({ "app": APP_VERSION.to_string() }));
    }
    fields.insert("app_state".to_owned(), serde_json::to_value(&exported)?);
    Ok(genesis)
}

/// Who votes; none where the engine's own genesis names them.
fn validators(snapshot: &StateSnapshot) -> anyhow::Result<Vec<GenesisValidator>> {
    let mut voters = Vec::new();
    for entry in snapshot.records::<Validator>(StateKey::VALIDATORS) {
        let (_, validator) = entry?;
        if validator.power > 0 {
            let pub_key = PublicKey::from_raw_ed25519(&validator.consensus_key.0)
                .context("a validator's key is no key")?;
            let (power, name) = (validator.power, validator.moniker);
            voters.push(GenesisValidator { pub_key, power, name });
        }
    }
    Ok(voters)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::commands::state::testing::config;

    #[test]
    fn the_state_is_a_genesis_that_begins_at_the_next_height() {
        let home = TempDir::new().unwrap();
        let config = config(home.path());
        let output = home.path().join("next.json");
        let args = |for_height| ExportArgs {
            for_height,
            chain_id: Some("sutantra-commands-2".to_owned()),
            output: Some(output.clone()),
        };
        let refused = |args| format!("{:#}", run(&args, &config).expect_err("refused"));
        assert!(refused(args(None)).contains("start the node once"));
        let app = state::testing::chain(&config, 3);
        assert!(refused(args(None)).contains("a node runs on"));
        let app_hash = app.snapshot().head().expect("a state").app_hash;
        drop(app);
        assert!(
            refused(args(Some(2))).contains("at height 3, not 2"),
            "{}",
            refused(args(Some(2)))
        );
        run(&args(Some(3)), &config).expect("exported");
        assert!(refused(args(None)).contains("next.json"), "nothing is written over");

        let text = fs::read(&output).expect("written");
        let genesis = consensus_abci::engine::Genesis::from_json(&text).expect("a genesis");
        assert_eq!(genesis.initial_height, 4);
        assert_eq!(genesis.chain_id.as_str(), "sutantra-commands-2");
        assert_eq!(genesis.validators.len(), 1, "the state has none, so the old ones stay");
        assert_eq!(genesis.genesis_time.unix_timestamp(), 1_700_000_003);
        let state = AppState::read(&genesis.app_state_bytes()).expect("without a fault");
        assert!(!state.records.is_empty() && state.accounts.is_empty());
        assert_ne!(app_hash, [0; 32]);
    }
}
