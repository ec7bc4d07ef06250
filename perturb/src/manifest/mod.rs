//! The manifest: which nodes there are, what happens to them when, what is expected.
//!
//! TOML. A word that is not known is refused with its place and the words that are.

use std::{collections::BTreeMap, path::Path, time::Duration};

use chain_types::{Balance, Params};
use serde::{Deserialize, Serialize};

mod check;
mod fault;
mod units;

pub use fault::{Fault, Perturbation, Word};
pub use units::{At, Span, Sut};

/// Nodes of one network; each is two processes.
pub const NODES_MAX: usize = 12;

/// A whole manifest.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Manifest {
    /// The chain and the run.
    #[serde(default)]
    pub chain: Chain,
    /// What is sent meanwhile; nothing where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// The nodes, in the order in which they are started.
    #[serde(default, rename = "node")]
    pub nodes: Vec<Node>,
    /// What changes the validator set, one after the other.
    #[serde(default, rename = "stake", skip_serializing_if = "Vec::is_empty")]
    pub stakes: Vec<Stake>,
}

/// `[chain]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all = "snake_case")]
pub struct Chain {
    /// Pause after a block, on every node alike.
    pub timeout_commit: Span,
    /// How long the run lasts at least, from the first block on; perturbations that are not done by
    /// then are waited for.
    pub duration: Span,
    /// What chance is made of.
    pub seed: u64,
    /// Which line of CometBFT is wanted, `0.38` or `0.39`; any where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// How long a node may take to be where the others are after its disturbance.
    pub recover_within: Span,
    /// How long the chain may take for its next blocks once everything is healed.
    pub blocks_within: Span,
    /// Blocks between two snapshots of each node; 0: none.
    pub snapshot_interval: u64,
    /// The application's parameters that are other than those for tests.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, toml::Value>,
}

impl Default for Chain {
    fn default() -> Self {
        let seconds = |seconds| Span(Duration::from_secs(seconds));
        Self {
            timeout_commit: Span(Duration::from_millis(500)),
            duration: seconds(60),
            seed: 1,
            engine: None,
            recover_within: seconds(90),
            blocks_within: seconds(45),
            snapshot_interval: 0,
            params: BTreeMap::new(),
        }
    }
}

/// `[load]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Load {
    /// Transactions a second, all senders together.
    pub tx_per_second: u32,
    /// Who sends: each has one transaction on its way at most.
    #[serde(default = "accounts_default")]
    pub accounts: u32,
    /// What is sent, each kind as often as it stands here.
    #[serde(default = "kinds_default")]
    pub kinds: Vec<Kind>,
}

fn accounts_default() -> u32 {
    100
}

fn kinds_default() -> Vec<Kind> {
    vec![Kind::Transfer]
}

/// A kind of transactions of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Money to another account of the bank.
    Transfer,
    /// A stream is registered.
    Stream,
    /// A channel is opened, or topped up where there is one.
    Channel,
    /// Stake is given to a validator, taken back, or its rewards are.
    Stake,
}

/// `[[node]]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Node {
    /// Its name: letters, digits and dashes.
    pub name: String,
    /// Whether it is in the genesis as a validator.
    #[serde(default)]
    pub mode: Mode,
    /// Whether application and engine are started apart, so that each can be killed alone.
    #[serde(default)]
    pub run: Run,
    /// What a validator of the genesis stakes, SUT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stake: Option<Sut>,
    /// When it joins; at the beginning where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<At>,
    /// Joins from a snapshot of the others instead of all blocks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub state_sync: bool,
    /// Signs with a copy of this node's validator key, which is punished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_of: Option<String>,
    /// What happens to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perturb: Vec<Perturbation>,
}

/// A node's part at the genesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It validates from the first block on.
    #[default]
    Validator,
    /// It follows; a stake step may make it a validator.
    Full,
}

/// How a node's processes are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// Application and engine by themselves (`--comet external`).
    #[default]
    Apart,
    /// The application starts its engine and watches it (`--comet spawn`).
    Together,
}

/// `[[stake]]`: a transaction of a node's operator, and what it makes of the validator set.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Stake {
    /// When it is sent, once the steps before it are done.
    pub at: At,
    /// The node whose operator sends it.
    pub from: String,
    /// What it does.
    #[serde(rename = "do")]
    pub action: Action,
    /// The node whose validator it is about; the sender's own where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How much, SUT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Sut>,
    /// Powers in the engine's set two blocks after its block; 0: not in the set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, u64>,
}

/// What a stake step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The sender's node becomes a validator.
    CreateValidator,
    /// Stake for `to`.
    Delegate,
    /// Stake of `to` comes back.
    Undelegate,
    /// Stake with the sender's own validator goes to `to`.
    Redelegate,
    /// The sender's validator, jailed, votes again.
    Unjail,
    /// Rewards with `to` are paid out.
    Withdraw,
}

/// Why a manifest cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not there.
    #[error("{0} cannot be read: {1}")]
    Io(String, std::io::Error),
    /// No TOML, or words that nobody knows.
    #[error("{0}: {1}")]
    Syntax(String, toml::de::Error),
    /// It says what cannot be.
    #[error("{name} cannot be run:\n  {}", faults.join("\n  "))]
    Faults {
        /// The manifest.
        name: String,
        /// Each in a sentence.
        faults: Vec<String>,
    },
}

impl Manifest {
    /// Reads a file.
    ///
    /// # Errors
    /// Syntax with its place, or all that is wrong with its sense.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ManifestError::Io(name.clone(), error))?;
        Self::parse(&name, &text)
    }

    /// Reads a text; `name` is for the sentences.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ManifestError> {
        let manifest: Self =
            toml::from_str(text).map_err(|error| ManifestError::Syntax(name.to_owned(), error))?;
        let faults = manifest.faults();
        match faults.is_empty() {
            true => Ok(manifest),
            false => Err(ManifestError::Faults { name: name.to_owned(), faults }),
        }
    }

    /// As TOML.
    pub fn text(&self) -> String {
        toml::to_string(self).expect("plain values with text keys are TOML")
    }

    /// The application's parameters.
    ///
    /// # Errors
    /// What is no parameter, each in a sentence.
    pub fn params(&self) -> Result<Params, Vec<String>> {
        let mut json =
            serde_json::to_value(Params::for_tests()).expect("parameters have a JSON form");
        let mut faults = Vec::new();
        for (name, value) in &self.chain.params {
            let known = json.as_object().is_some_and(|all| all.contains_key(name));
            match serde_json::to_value(value) {
                Ok(value) if known => json[name] = value,
                _ => {
                    let names = json.as_object().map(|all| all.keys().cloned().collect::<Vec<_>>());
                    let names = names.unwrap_or_default().join(", ");
                    faults.push(format!("chain.params.{name}: known parameters are {names}"));
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let params: Params =
            serde_json::from_value(json).map_err(|error| vec![format!("chain.params: {error}")])?;
        let faults = params.faults();
        if faults.is_empty() { Ok(params) } else { Err(faults) }
    }

    /// What a validator of the genesis stakes.
    pub fn stake_of(node: &Node) -> Balance {
        node.stake.map_or(Balance::of(100_000_000_000), |sut| sut.0)
    }

    /// Where the node of this name stands.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// Whether a node votes on the first block.
    pub fn is_first(node: &Node) -> bool {
        node.mode == Mode::Validator && node.key_of.is_none() && node.start_at.is_none()
    }
}

#[cfg(test)]
mod tests;
