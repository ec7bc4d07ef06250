//! `init`: makes a home, with everything that `start` needs and nothing that could be lost twice.

use std::path::Path;

use anyhow::{Context as _, bail};
use chain_types::{AccountId, Params};
use clap::{Args, ValueEnum};
use consensus_abci::engine::{NodeKey, ValidatorKey};

use super::{
    comet::validator_json,
    genesis::{self, write},
    say,
};
use crate::{
    chain::{Keys, genesis::ParamChange},
    config::{
        FILE_NAME,
        chain::{Peer, Role},
        home::{self, Home},
        stamp,
    },
};

mod beginning;
mod coordinator;
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
    /// Another value of a parameter of a new chain, repeatable; amounts in SUT
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub changes: Vec<ParamChange>,
    /// Who makes the blocks of a new chain: for one that others will join, spawn
    #[arg(long, value_enum, default_value_t = EngineName::Embedded)]
    pub comet: EngineName,
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
    /// Neither: rooms and signalling for peers
    Coordinator,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Validator => Self::Validator,
            RoleName::Relay => Self::Relay,
            RoleName::ValidatorRelay => Self::ValidatorRelay,
            RoleName::Coordinator => Self::Coordinator,
        }
    }
}

/// Who makes the blocks of a new chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// This process: one validator for ever
    Embedded,
    /// A CometBFT that the node starts: others may join
    Spawn,
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
    if role == Role::Coordinator {
        return coordinator::run(&args, home);
    }
    // Whatever comes from elsewhere is looked at before the first file is written.
    let joined = beginning::joined(&args)?;
    let is_spawned = args.comet == EngineName::Spawn || joined.is_some();
    let comet = if is_spawned && role != Role::Relay { "spawn" } else { "embedded" };
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
        Role::Relay | Role::Coordinator => None,
        Role::Validator | Role::ValidatorRelay => {
            Some(ValidatorKey::load_or_create(&config.join("priv_validator_key.json"))?)
        }
    };
    let beginning = match (joined, &validator) {
        (Some(joined), _) => joined,
        (None, Some(validator)) => {
            let (own, gentx) = beginning::own(&args, validator, &node_key, &keys)?;
            let file = genesis::file_of(home, &node_key.id());
            home::create_dir(file.parent().expect("it lies in the home"))?;
            write(&file, gentx.to_json().as_bytes())?;
            own
        }
        (None, None) => bail!("a relay joins a chain: say --chain-rpc twice, or --genesis"),
    };
    write(&config.join("genesis.json"), &beginning.text)?;
    write(&home.join(FILE_NAME), toml.as_bytes())?;
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
        bail!("--chain-rpc is for --role relay, which follows a chain that others keep; drop it");
    }
    Ok(())
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
    if !own_chain && validator.is_some_and(|key| !beginning.has_validator(key)) {
        text += &format!(
            "  sutantra-node tx staking create-validator --from operator --self-delegation SUT --home {dir}\n\
             \x20                          # once it has all blocks, and its account the money\n"
        );
    }
    if !own_chain && role.relays() {
        text += "  fund the relay's account: it registers itself, and pays the fee of that\n";
    }
    text += &format!("  sutantra-node start --home {dir}\n");
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

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
        let dir = TempDir::new().unwrap();
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
        let dir = TempDir::new().unwrap();
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
    fn a_coordinator_has_a_key_and_settings_and_no_chain() {
        let dir = TempDir::new().unwrap();
        let home = dir.path().join("home");
        check("carol --role coordinator --chain-id a", &home, Err("--chain-id"));
        check("carol --role coordinator --comet spawn", &home, Err("--comet"));
        assert!(!home.exists());
        check("carol --role coordinator", &home, Ok(()));
        let toml = fs::read_to_string(home.join(FILE_NAME)).expect("made");
        assert!(toml.contains("\nrole = \"coordinator\"\n"), "{toml}");
        let key = fs::read_to_string(home.join("keys/coordinator.key")).expect("made");
        assert!(!home.join("config").exists() && !home.join("keys/operator.key").exists());
        check("carol --role coordinator", &home, Err("is a home already"));
        check("carol --role coordinator --overwrite", &home, Ok(()));
        assert_eq!(fs::read_to_string(home.join("keys/coordinator.key")).expect("kept"), key);
    }

    #[test]
    fn a_chain_that_others_will_join_has_room_for_them_and_one_of_the_embedded_engine_has_not() {
        let dir = TempDir::new().unwrap();
        let params = |name: &str, words: &str| {
            let home = dir.path().join(name);
            check(&format!("{name} --role validator {words}"), &home, Ok(()));
            let text = fs::read_to_string(home.join("config/genesis.json")).expect("made");
            let genesis: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(genesis["app_state"]["gentxs"].as_array().expect("a list").len(), 1);
            assert_eq!(genesis["validators"][0]["power"], "10000");
            let toml = fs::read_to_string(home.join(FILE_NAME)).expect("made");
            assert_eq!(toml.contains("\ncomet = \"spawn\"\n"), words.contains("spawn"), "{toml}");
            genesis["app_state"]["params"].clone()
        };
        assert_eq!(params("alone", "")["validators_max"], 1);
        assert_eq!(params("many", "--comet spawn")["validators_max"], 100);
        let few = params("few", "--comet spawn --param validators_max=7 --param relay_bond_min=2");
        assert_eq!(
            (&few["validators_max"], &few["relay_bond_min"]),
            (&7.into(), &"2000000000".into())
        );
        let home = dir.path().join("none");
        check("none --param signed_min_bps=10001", &home, Err("signed_min_bps is above 10000"));
    }

    #[test]
    fn a_chain_is_joined_with_its_own_genesis_file() {
        let dir = TempDir::new().unwrap();
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
