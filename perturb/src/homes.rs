//! The homes of a network, made by the node's own commands: one genesis, validators that signed for
//! it, a bank for the load.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use chain_types::{AccountId, Balance, Params, SigningKey};
use serde_json::{Value, json};

use crate::{
    accounts,
    manifest::{Manifest, Mode},
    tools::Tools,
};

/// What each operator has besides its stake, SUT.
const OPERATOR_SUT: u64 = 10_000;
/// What each account of the bank begins with: 10,000 SUT.
const BANK: Balance = Balance::of(10_000_000_000_000);

/// All that is known about a network before it starts.
#[derive(Debug, Clone)]
pub struct Homes {
    /// The chain's id.
    pub chain_id: String,
    /// The application's parameters.
    pub params: Params,
    /// In the manifest's order.
    pub nodes: Vec<Home>,
    /// Who sends the load.
    pub bank: Vec<SigningKey>,
    /// Every account that the chain begins with.
    pub accounts: Vec<AccountId>,
}

/// The home of a node.
#[derive(Debug, Clone)]
pub struct Home {
    /// The node's name.
    pub name: String,
    /// Where it is.
    pub dir: PathBuf,
    /// Its operator's key.
    pub operator: SigningKey,
    /// The key that signs blocks; another node's where the manifest says so.
    pub validator: SigningKey,
    /// That key's name in the engine: 40 hex digits, upper case.
    pub address: String,
    /// Its name among peers.
    pub node_id: String,
}

impl Home {
    /// Its operator.
    pub fn account(&self) -> AccountId {
        AccountId::from(&self.operator)
    }
}

impl Homes {
    /// Makes all of them below `dir`.
    ///
    /// # Errors
    /// What a command refused, or a file that cannot be written.
    pub fn make(dir: &Path, manifest: &Manifest, tools: &Tools) -> anyhow::Result<Self> {
        let chain_id = format!("perturb-{}-{:x}", manifest.chain.seed, std::process::id());
        let params = manifest.params().map_err(|faults| anyhow::anyhow!(faults.join("; ")))?;
        let first = dir.join(&manifest.nodes[0].name);
        let first_genesis = first.join("config/genesis.json");
        for (at, node) in manifest.nodes.iter().enumerate() {
            let home = dir.join(&node.name);
            let mut words =
                vec!["init", &node.name, "--chain-id", &chain_id, "--role", "validator"];
            let genesis = first_genesis.display().to_string();
            if at > 0 {
                words.extend(["--genesis", &genesis]);
            }
            tools.run(&home, &words)?;
        }
        for node in &manifest.nodes {
            if let Some(other) = &node.key_of {
                let key = "config/priv_validator_key.json";
                fs::copy(dir.join(other).join(key), dir.join(&node.name).join(key))
                    .with_context(|| format!("the key of {other} for {}", node.name))?;
            }
        }
        let mut nodes = Vec::new();
        for node in &manifest.nodes {
            let home = dir.join(&node.name);
            let validator = accounts::validator_key(&home)?;
            nodes.push(Home {
                name: node.name.clone(),
                operator: accounts::operator_key(&home)?,
                address: accounts::address(&validator),
                validator,
                node_id: tools.run(&home, &["comet", "show-node-id"])?,
                dir: home,
            });
        }
        let count = manifest.load.as_ref().map_or(0, |load| load.accounts);
        let seed = manifest.chain.seed;
        let bank: Vec<SigningKey> = (0..count).map(|at| accounts::bank_key(seed, at)).collect();
        begin(&first, &params, &bank)?;
        for (home, node) in nodes.iter().zip(&manifest.nodes) {
            let stake = match node.mode {
                Mode::Validator => Manifest::stake_of(node),
                Mode::Full => Balance::ZERO,
            };
            let own = Balance::parse_sut(&OPERATOR_SUT.to_string())?;
            let all = own.checked_add(stake).context("a stake beyond all money")?;
            let (account, amount) = (home.account().to_string(), all.in_sut().to_string());
            tools.run(&first, &["genesis", "add-account", &account, &amount])?;
        }
        let gentxs = dir.join("gentx");
        fs::create_dir_all(&gentxs)?;
        for (home, node) in nodes.iter().zip(&manifest.nodes) {
            if !Manifest::is_first(node) {
                continue;
            }
            share(&first_genesis, home)?;
            let amount = Manifest::stake_of(node).in_sut().to_string();
            let output = gentxs.join(format!("{}.json", home.name)).display().to_string();
            tools
                .run(&home.dir, &["genesis", "gentx", "operator", &amount, "--output", &output])?;
        }
        let from = gentxs.display().to_string();
        tools.run(&first, &["genesis", "collect-gentxs", "--gentx-dir", &from])?;
        tools.run(&first, &["genesis", "validate"])?;
        nodes.iter().try_for_each(|home| share(&first_genesis, home))?;
        let accounts = accounts_of(&first_genesis)?;
        Ok(Self { chain_id, params, nodes, bank, accounts })
    }

    /// Which node has a validator of this operator.
    pub fn of_operator(&self, operator: &str) -> Option<usize> {
        self.nodes.iter().position(|home| home.account().to_string() == operator)
    }
}

fn share(genesis: &Path, home: &Home) -> anyhow::Result<()> {
    let own = home.dir.join("config/genesis.json");
    if own != genesis {
        fs::copy(genesis, &own).with_context(|| own.display().to_string())?;
    }
    Ok(())
}

/// Parameters and bank, which no command takes in number; without the accounts of the home, which
/// nobody uses here.
fn begin(home: &Path, params: &Params, bank: &[SigningKey]) -> anyhow::Result<()> {
    let path = home.join("config/genesis.json");
    let mut document = read(&path)?;
    let entry = |key| json!({"account": AccountId::from(key), "balance": BANK});
    let accounts: Vec<Value> = bank.iter().map(entry).collect();
    document["app_state"] = json!({"params": params, "accounts": accounts});
    let text = serde_json::to_vec_pretty(&document).expect("JSON has a text form");
    fs::write(&path, text).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn accounts_of(genesis: &Path) -> anyhow::Result<Vec<AccountId>> {
    let document = read(genesis)?;
    let Some(accounts) = document["app_state"]["accounts"].as_array() else {
        bail!("{} names no accounts", genesis.display())
    };
    let account = |entry: &Value| serde_json::from_value(entry["account"].clone());
    Ok(accounts.iter().map(account).collect::<Result<_, _>>()?)
}
