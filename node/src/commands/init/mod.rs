//! `init`: makes a home, with everything that `start` needs and nothing that could be lost twice.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use chain_types::{AccountId, Params};
use clap::{Args, ValueEnum};
use consensus_abci::engine::{NodeKey, ValidatorKey};

use super::{comet::validator_json, say};
use crate::{
    chain::Keys,
    config::{
        FILE_NAME,
        chain::{Peer, Role},
        home::{self, Home},
        stamp,
    },
};

mod beginning;
mod settings;

use beginning::Beginning;

/// `init`.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct InitArgs {
    /// This node's name for people
    pub moniker: String,
    /// Id of the chain: of a new one, or to be compared with the one that is joined
    #[arg(long, value_name = "ID")]
    pub chain_id: Option<String>,
    /// What this node will be
    #[arg(long, value_enum, default_value_t = RoleName::ValidatorRelay)]
    pub role: RoleName,
    /// Genesis of the chain that is joined: a file, or the RPC of a node of it [default: a new
    /// chain of this node alone; for a relay the one of its --chain-rpc]
    #[arg(long, value_name = "FILE|URL")]
    pub genesis: Option<String>,
    /// RPC of a node of the chain, twice, of different operators; for a relay
    #[arg(long, value_name = "URL")]
    pub chain_rpc: Vec<String>,
    /// Peer of the chain that is joined, repeatable
    #[arg(long = "peer", value_name = "ID@HOST:PORT")]
    pub peers: Vec<Peer>,
    /// Fees and windows of a new chain
    #[arg(long, value_enum, default_value_t = ParamsName::Dev)]
    pub params: ParamsName,
    /// Write genesis.json and sutantra.toml anew; keys stay
    #[arg(long)]
    pub overwrite: bool,
}

/// [`Role`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// The chain, no media
    Validator,
    /// Media, on a chain that others keep
    Relay,
    /// Both
    ValidatorRelay,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Validator => Self::Validator,
            RoleName::Relay => Self::Relay,
            RoleName::ValidatorRelay => Self::ValidatorRelay,
        }
    }
}

/// Parameters of a new chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ParamsName {
    /// For trying things out: windows of ten seconds
    Dev,
    /// To last: windows of half an hour
    Mainnet,
}

impl From<ParamsName> for Params {
    fn from(name: ParamsName) -> Self {
        match name {
            ParamsName::Dev => Self::for_tests(),
            ParamsName::Mainnet => Self::default(),
        }
    }
}

/// Makes the home.
///
/// # Errors
/// A sentence for each thing that is in the way; nothing was replaced then.
pub fn run(args: InitArgs, home: &Path) -> anyhow::Result<()> {
    let role = Role::from(args.role);
    refuse(&args, home)?;
    // Whatever comes from elsewhere is looked at before the first file is written.
    let joined = beginning::joined(&args)?;
    let comet = if joined.is_some() && role != Role::Relay { "spawn" } else { "embedded" };
    let settings = settings::Settings {
        moniker: &args.moniker,
        role,
        comet,
        peers: &args.peers,
        chain_rpc: &args.chain_rpc,
    };
    let toml = settings.text()?;

    let locked = Home::open(home)?;
    stamp::open(locked.dir())?;
    let own_chain = joined.is_none();
    let keys = Keys::open(home, own_chain)?;
    home::issuer_key(home)?;
    let config = home.join("config");
    home::create_dir(&config)?;
    let node_key = NodeKey::load_or_create(&config.join("node_key.json"))?;
    let validator = match role {
        Role::Relay => None,
        Role::Validator | Role::ValidatorRelay => {
            Some(ValidatorKey::load_or_create(&config.join("priv_validator_key.json"))?)
        }
    };
    let beginning = match (joined, &validator) {
        (Some(joined), _) => joined,
        (None, Some(validator)) => beginning::own(&args, validator, &keys)?,
        (None, None) => bail!("a relay joins a chain: say --chain-rpc twice, or --genesis"),
    };
    replace(&config.join("genesis.json"), &beginning.text)?;
    replace(&home.join(FILE_NAME), toml.as_bytes())?;
    say(&report(&args, home, &beginning, &keys, &node_key, validator.as_ref(), own_chain))
}

/// What is in the way of a new home.
fn refuse(args: &InitArgs, home: &Path) -> anyhow::Result<()> {
    let there = |path: &str| {
        let path = home.join(path);
        path.try_exists().with_context(|| path.display().to_string())
    };
    let dir = home.display();
    for blocks in ["chain/blocks", "chain/state", "data/blockstore.db"] {
        if there(blocks)? {
            bail!(
                "{dir} holds the blocks of a chain ({blocks}): choose another --home, or move it away"
            );
        }
    }
    for file in ["config/genesis.json", FILE_NAME] {
        if !args.overwrite && there(file)? {
            bail!(
                "{dir} is a home already ({file}): choose another --home, or say --overwrite to \
                 write genesis.json and {FILE_NAME} anew"
            );
        }
    }
    if Role::from(args.role) == Role::Relay && args.chain_rpc.len() < 2 {
        bail!(
            "a relay follows a chain that others keep: say --chain-rpc URL twice, of nodes of \
             different operators, so that one cannot lie alone"
        );
    }
    if Role::from(args.role) != Role::Relay && !args.chain_rpc.is_empty() {
        bail!("--chain-rpc is for --role relay: a validator keeps the chain itself; drop it");
    }
    Ok(())
}

/// Writes a file whole or not at all.
fn replace(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let temp = path.with_extension(format!("new-{}", std::process::id()));
    let written = fs::write(&temp, text)
        .and_then(|()| fs::File::open(&temp)?.sync_all())
        .and_then(|()| fs::rename(&temp, path));
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written.with_context(|| path.display().to_string())
}

/// What was made, and what to do next.
fn report(
    args: &InitArgs,
    home: &Path,
    beginning: &Beginning,
    keys: &Keys,
    node_key: &NodeKey,
    validator: Option<&ValidatorKey>,
    own_chain: bool,
) -> String {
    let role = Role::from(args.role);
    let mut rows = vec![
        ("home", home.display().to_string()),
        ("role", role.name().to_owned()),
        ("chain", beginning.chain_id.clone()),
        ("genesis", format!("sha256 {}", beginning.hash())),
    ];
    if let Some(validator) = validator {
        let place = match beginning.has_validator(validator) {
            true => "in the genesis",
            false => "not in the genesis",
        };
        rows.push(("node id", node_key.id()));
        rows.push(("validator", format!("{} ({place})", validator_json(validator))));
    }
    if role.relays() {
        rows.push(("relay", format!("account {}", AccountId::from(&keys.operator))));
    }
    let mut text: String =
        rows.into_iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
    text += "\nnext\n";
    let dir = home.display();
    text += &format!(
        "  sutantra-node keys backup FILE --home {dir}   # the keys exist only here, until then\n"
    );
    if !own_chain && validator.is_some() && args.peers.is_empty() {
        text += &format!("  write `peers` into {dir}/{FILE_NAME}: whom this node joins\n");
    }
    if !own_chain && role.relays() {
        text += "  fund the relay's account: it registers itself, and pays the fee of that\n";
    }
    text += &format!("  sutantra-node start --home {dir}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::TempDir;

    fn args(words: &str) -> InitArgs {
        use clap::{Args as _, FromArgMatches as _};
        let command = InitArgs::augment_args(clap::Command::new("init"));
        let words = std::iter::once("init").chain(words.split_whitespace());
        let matches = command.try_get_matches_from(words).expect("in the grammar");
        InitArgs::from_arg_matches(&matches).expect("in the grammar")
    }

    #[track_caller]
    fn check(words: &str, home: &Path, expected: Result<(), &str>) {
        let found = run(args(words), home).map_err(|error| format!("{error:#}"));
        match (expected, found) {
            (Ok(()), Ok(())) => {}
            (Err(part), Err(error)) => assert!(error.contains(part), "{words}: {error}"),
            (expected, found) => panic!("{words}: {found:?}, expected {expected:?}"),
        }
    }

    /// R111, R112
    #[test]
    fn a_home_is_made_once_and_its_keys_survive_a_second_beginning() {
        let dir = TempDir::new();
        let home = dir.path().join("home");
        check("alice --chain-id sutantra-1", &home, Ok(()));
        let read = |file: &str| fs::read_to_string(home.join(file)).expect("made");
        let (genesis, key) = (read("config/genesis.json"), read("keys/operator.key"));
        let validator = read("config/priv_validator_key.json");
        assert!(genesis.contains("\"sutantra-1\"") && read("VERSION").contains("layout"));
        for key in ["relay", "creator", "faucet", "issuer"] {
            assert!(home.join(format!("keys/{key}.key")).exists(), "{key}");
        }
        check("alice", &home, Err("is a home already"));
        assert_eq!(read("config/genesis.json"), genesis, "nothing was replaced");
        check("alice --chain-id sutantra-2 --overwrite", &home, Ok(()));
        assert!(read("config/genesis.json").contains("\"sutantra-2\""));
        assert_eq!(
            (read("keys/operator.key"), read("config/priv_validator_key.json")),
            (key, validator)
        );
        fs::create_dir_all(home.join("chain/blocks")).expect("ours");
        check("alice --overwrite", &home, Err("blocks of a chain"));
    }

    #[test]
    fn what_cannot_be_a_home_leaves_nothing_behind() {
        let dir = TempDir::new();
        let home = dir.path().join("home");
        check("alice --chain-id a/b", &home, Err("chain id"));
        check("alice --role relay", &home, Err("--chain-rpc URL twice"));
        check("alice --chain-rpc http://127.0.0.1:1", &home, Err("drop it"));
        let long = "m".repeat(71);
        check(&long, &home, Err("at most 70"));
        check("alice --genesis nowhere.json", &home, Err("nowhere.json"));
        assert!(!home.exists());
    }

    #[test]
    fn a_chain_is_joined_with_its_own_genesis_file() {
        let dir = TempDir::new();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        check("alice --chain-id sutantra-1 --role validator", &first, Ok(()));
        let genesis = first.join("config/genesis.json");
        let joins = format!("bob --role validator --genesis {}", genesis.display());
        check(&format!("{joins} --chain-id sutantra-2"), &second, Err("sutantra-1"));
        check(&joins, &second, Ok(()));
        let read = |home: &Path| fs::read(home.join("config/genesis.json")).expect("made");
        assert_eq!(read(&first), read(&second), "to the byte");
        let toml = fs::read_to_string(second.join(FILE_NAME)).expect("made");
        assert!(toml.contains("\ncomet = \"spawn\"\n"), "{toml}");

        // Every fault of a genesis is told at once.
        let mut broken: serde_json::Value = serde_json::from_slice(&read(&first)).expect("JSON");
        broken["initial_height"] = serde_json::json!("-1");
        broken["app_state"]["accounts"][0]["balance"] = serde_json::json!("0");
        broken["validators"][0]["power"] = serde_json::json!("0");
        let file = dir.path().join("broken.json");
        fs::write(&file, broken.to_string()).expect("ours");
        let third = dir.path().join("third");
        for fault in ["initial_height", "has nothing", "validators[0] power"] {
            check(&format!("carol --genesis {}", file.display()), &third, Err(fault));
        }
        assert!(!third.exists());
    }
}
