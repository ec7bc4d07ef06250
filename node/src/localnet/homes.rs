//! The homes of a network: one genesis, a key for each validator, the relay's accounts with money.

use std::{fs, io, path::PathBuf};

use anyhow::{Context, bail};
use chain_types::Params;
use consensus_abci::engine::{Genesis, NodeKey, ValidatorKey};

use super::net::{self, Dir, Net};
use crate::{
    chain::{
        Keys,
        genesis::{self, Founder, ParamChange},
    },
    config::home,
};

/// Blocks over which missed ones are counted, at 200 ms a block some minutes: whoever looks at one
/// node that is away should not lose it.
const SIGNED_WINDOW_BLOCKS: u32 = 1_000;

/// What the files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Homes {
    /// CometBFT's id of each validator's node.
    pub node_ids: Vec<String>,
}

/// Makes what is missing and reads the rest. Idempotent: what a start that was cut short has left out
/// is made by the next.
///
/// # Errors
/// A file cannot be used, or does not belong to the others.
pub fn prepare(dir: &Dir, net: &Net, changes: &[ParamChange]) -> anyhow::Result<Homes> {
    let mut validators = Vec::new();
    let mut node_ids = Vec::new();
    for number in 0..net.nodes.len() {
        let config = dir.node(number).join("config");
        home::create_dir(&config)?;
        let validator = ValidatorKey::load_or_create(&config.join("priv_validator_key.json"))?;
        node_ids.push(NodeKey::load_or_create(&config.join("node_key.json"))?.id());
        validators.push(validator);
    }
    home::create_dir(&dir.relay())?;
    let keys = Keys::open(&dir.relay(), true)?;
    let text = match existing(dir, net)? {
        Some(text) => text,
        None => {
            let genesis = begin(dir, net, &validators, &keys, changes)?;
            serde_json::to_string_pretty(&genesis.to_json()).expect("JSON values serialize")
        }
    };
    let genesis = Genesis::from_json(text.as_bytes())?;
    let known = genesis.validators.iter().map(|validator| validator.pub_key);
    let own = validators.iter().map(ValidatorKey::public_key);
    if genesis.chain_id.as_str() != net.chain_id || !known.eq(own) {
        bail!(
            "the genesis in {} is not of these validators: homes of two networks are mixed there; \
             begin another network with --fresh or another --dir",
            dir.path().display()
        );
    }
    for number in 0..net.nodes.len() {
        let path = genesis_file(dir, number);
        if !path.try_exists()? {
            net::write_whole(&path, text.as_bytes())?;
        }
    }
    Ok(Homes { node_ids })
}

/// A new chain: each validator staked by an operator of its own, whose key lies in its home.
fn begin(
    dir: &Dir,
    net: &Net,
    validators: &[ValidatorKey],
    relay: &Keys,
    changes: &[ParamChange],
) -> anyhow::Result<Genesis> {
    let usual = Params { signed_window_blocks: SIGNED_WINDOW_BLOCKS, ..Params::for_tests() };
    let params = ParamChange::all(changes, &usual)?;
    let mut accounts = genesis::accounts(relay);
    let mut gentxs = Vec::new();
    for (number, validator) in validators.iter().enumerate() {
        let operator = home::signing_key(&dir.node(number), "operator")?;
        let moniker = format!("node{number}");
        accounts.push(genesis::operator(&operator));
        gentxs.push(Founder::usual(&operator, validator, &moniker).sign(&net.chain_id));
    }
    let chain_id = net.chain_id.parse().context("the chain's name in localnet.json")?;
    Ok(genesis::document(chain_id, &params, &accounts, &gentxs))
}

fn genesis_file(dir: &Dir, number: usize) -> PathBuf {
    dir.node(number).join("config/genesis.json")
}

/// The genesis that is there; the same in every home that has one.
fn existing(dir: &Dir, net: &Net) -> anyhow::Result<Option<String>> {
    let mut found: Option<(PathBuf, String)> = None;
    for number in 0..net.nodes.len() {
        let path = genesis_file(dir, number);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).context(path.display().to_string()),
        };
        match &found {
            Some((first, known)) if *known != text => bail!(
                "{} and {} differ: a network has one genesis; copy the right one over the other, or \
                 begin another network with --fresh",
                first.display(),
                path.display()
            ),
            Some(_) => {}
            None => found = Some((path, text)),
        }
    }
    Ok(found.map(|(_, text)| text))
}

#[cfg(test)]
mod tests {
    use chain_types::AccountId;
    use consensus_abci::app::AppState;
    use tempfile::TempDir;

    use super::*;
    use crate::localnet::{net::Wish, ports::Ports};

    fn network(temp: &TempDir) -> (Dir, Net, Homes) {
        let dir = Dir::open(&temp.path().join("net")).expect("free");
        let net = dir.net(Wish::default(), &mut Ports::of(|_| true)).expect("a network");
        let homes = prepare(&dir, &net, &[]).expect("made");
        (dir, net, homes)
    }

    fn texts(dir: &Dir, net: &Net) -> Vec<String> {
        let read = |number| fs::read_to_string(genesis_file(dir, number)).expect("written");
        (0..net.nodes.len()).map(read).collect()
    }

    #[test]
    fn all_validators_have_one_genesis_that_names_them_and_gives_the_relay_money() {
        let temp = TempDir::new().unwrap();
        let (dir, net, homes) = network(&temp);
        let texts = texts(&dir, &net);
        assert!(texts.iter().all(|text| *text == texts[0]));
        let genesis = Genesis::from_json(texts[0].as_bytes()).expect("valid");
        assert_eq!(genesis.chain_id.as_str(), net.chain_id);
        assert_eq!(genesis.validators.len(), 4);
        let own = ValidatorKey::load_or_create(&dir.node(2).join("config/priv_validator_key.json"));
        assert_eq!(genesis.validators[2].pub_key, own.expect("made").public_key());
        let state = AppState::read(&genesis.app_state_bytes()).expect("without a fault");
        assert_eq!(state.check(&net.chain_id), Vec::<String>::new());
        assert!(genesis.validators.iter().all(|validator| validator.power == 10_000));
        let operator = home::signing_key(&dir.node(2), "operator").expect("made");
        assert!(texts[0].contains(&AccountId::from(&operator).to_string()), "it can stake");
        let keys = Keys::open(&dir.relay(), false).expect("made");
        for key in
            [Some(&keys.operator), Some(&keys.relay), Some(&keys.creator), keys.faucet.as_ref()]
        {
            let account = AccountId::from(key.expect("made")).to_string();
            assert!(texts[0].contains(&account), "{account} has no money");
        }
        let mut ids = homes.node_ids.clone();
        ids.dedup();
        assert_eq!(ids.len(), 4, "an id each");
    }

    #[test]
    fn a_second_start_changes_nothing_and_ends_what_a_first_left_undone() {
        let temp = TempDir::new().unwrap();
        let (dir, net, homes) = network(&temp);
        let before = texts(&dir, &net);
        fs::remove_file(genesis_file(&dir, 1)).expect("ours");
        assert_eq!(prepare(&dir, &net, &[]).expect("the same"), homes);
        assert_eq!(texts(&dir, &net), before);
    }

    #[test]
    fn homes_of_two_networks_are_not_mixed() {
        let temp = TempDir::new().unwrap();
        let (dir, net, _) = network(&temp);
        let good = texts(&dir, &net).remove(0);
        fs::write(genesis_file(&dir, 3), good.replace("node3", "node4")).expect("ours");
        let error = prepare(&dir, &net, &[]).expect_err("two").to_string();
        assert!(error.contains("differ"), "{error}");
        fs::write(genesis_file(&dir, 3), &good).expect("ours");
        fs::remove_file(dir.node(3).join("config/priv_validator_key.json")).expect("ours");
        let error = prepare(&dir, &net, &[]).expect_err("another key").to_string();
        assert!(error.contains("is not of these validators"), "{error}");
    }
}
