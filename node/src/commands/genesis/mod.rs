//! `genesis …`: how several operators begin a chain together, each with its own keys.
//!
//! One of them makes the home whose genesis all begin with and adds the others' accounts; each signs
//! with `gentx` what makes it a validator; one collects what they signed, and all begin with the
//! file that comes of it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chain_types::{AccountId, Balance, Payload, SigningKey};
use clap::{Args, Subcommand};
use consensus_abci::engine::NodeKey;

use super::{
    comet,
    keys::{Store, Who},
    say,
    tx::{Output, ValidatorArgs, sut},
};
use crate::{
    chain::genesis::Founder,
    config::{Config, chain::Peer, home},
};

mod document;
mod gentx;

pub use document::{Document, write};
pub use gentx::{Gentx, file_of};

/// Where a home keeps what was signed for its genesis.
const GENTX_DIR: &str = "config/gentx";
/// Files that are collected; each is a validator of the first block.
const GENTXS_MAX: usize = 1000;

/// `genesis`.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum GenesisCommand {
    /// Gives an account money at the beginning
    AddAccount {
        /// Its id, or the name of a key of the home
        account: Who,
        /// How much, such as 1000
        #[arg(value_name = "SUT", value_parser = sut)]
        amount: Balance,
    },
    /// Signs what makes the home's validator one of the first; sends nothing
    Gentx(Box<GentxArgs>),
    /// Puts the validators that were signed for into the genesis, and no others
    CollectGentxs {
        /// Where the files lie [default: config/gentx of the home]
        #[arg(long, value_name = "DIR")]
        gentx_dir: Option<PathBuf>,
    },
    /// Looks for everything that is wrong with a genesis
    Validate {
        /// Which [default: config/genesis.json of the home]
        file: Option<PathBuf>,
        /// Form of the answer
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

/// `genesis gentx`.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct GentxArgs {
    /// Key of the home that will be the validator's operator
    pub key: Who,
    /// What it stakes, of its balance in the genesis
    #[arg(value_name = "SUT", value_parser = sut)]
    pub amount: Balance,
    #[command(flatten)]
    pub facts: ValidatorArgs,
    /// Where others will reach this node's CometBFT; `collect-gentxs` tells them
    #[arg(long, value_name = "HOST:PORT")]
    pub p2p: Option<String>,
    /// Where it is written [default: config/gentx/gentx-NODE-ID.json of the home]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Carries out one of them.
///
/// # Errors
/// A sentence that says what to do next; all that is wrong with a genesis at once.
pub fn run(command: GenesisCommand, config: &Config) -> anyhow::Result<()> {
    let home = config.home.as_path();
    match command {
        GenesisCommand::AddAccount { account, amount } => add_account(&account, amount, home),
        GenesisCommand::Gentx(args) => gentx(&args, config),
        GenesisCommand::CollectGentxs { gentx_dir } => {
            collect(home, &gentx_dir.unwrap_or_else(|| home.join(GENTX_DIR)))
        }
        GenesisCommand::Validate { file, output } => {
            validate(&file.unwrap_or_else(|| of_home(home)), output)
        }
    }
}

fn of_home(home: &Path) -> PathBuf {
    home.join("config/genesis.json")
}

/// The genesis of a home in which no chain has begun: afterwards no file could change it.
fn unbegun(home: &Path) -> anyhow::Result<Document> {
    for blocks in ["chain/blocks", "chain/state", "data/blockstore.db"] {
        if home.join(blocks).try_exists()? {
            bail!(
                "the chain of {} has begun ({blocks}): its genesis cannot be another one now. Make a \
                 new home with `sutantra-node init MONIKER --home DIR`",
                home.display()
            );
        }
    }
    Document::open(&of_home(home))
}

fn add_account(account: &Who, amount: Balance, home: &Path) -> anyhow::Result<()> {
    let account = account.account(&Store::at(home))?;
    let mut document = unbegun(home)?;
    document.add_account(account, amount)?;
    document.save()?;
    say(&format!("{account} begins with {} SUT\n", amount.in_sut()))
}

fn gentx(args: &GentxArgs, config: &Config) -> anyhow::Result<()> {
    let home = config.home.as_path();
    let operator = args.key.key(&Store::at(home))?;
    let document = unbegun(home)?;
    let (moniker, website, commission) = args.facts.facts(config.on_chain.moniker.as_deref())?;
    let validator = args.facts.key(home)?;
    let node_key = comet::node_key(home)?;
    let founder = Founder {
        operator: &operator,
        validator: &validator,
        moniker: &moniker,
        website: &website,
        commission,
        stake: args.amount,
    };
    affords(&document, AccountId::from(&operator), args.amount)?;
    let peer = args.p2p.as_deref().map(|at| peer(&node_key, at)).transpose()?;
    let gentx = Gentx::new(&document.chain_id()?, &founder, node_key.id(), peer);
    let faults = document.with_gentxs(std::slice::from_ref(&gentx))?.faults();
    if !faults.is_empty() {
        bail!("no chain could begin with this:\n  {}", faults.join("\n  "));
    }
    let path = match &args.output {
        Some(path) => path.clone(),
        None => {
            home::create_dir(&home.join(GENTX_DIR))?;
            file_of(home, &node_key.id())
        }
    };
    write(&path, gentx.to_json().as_bytes())?;
    say(&format!(
        "{}\n\
         Give it to whoever collects: `sutantra-node genesis collect-gentxs`. It holds no secret.\n",
        path.display()
    ))
}

fn affords(document: &Document, operator: AccountId, amount: Balance) -> anyhow::Result<()> {
    match document.balance(&operator)? {
        None => bail!(
            "the genesis gives {operator} nothing: whoever makes it says `sutantra-node genesis \
             add-account {operator} SUT` first; take its genesis.json then"
        ),
        Some(balance) if balance < amount => bail!(
            "the genesis gives {operator} {} SUT, and {} are to be staked: stake less",
            balance.in_sut(),
            amount.in_sut()
        ),
        Some(_) => Ok(()),
    }
}

fn peer(node_key: &NodeKey, at: &str) -> anyhow::Result<Peer> {
    let peer = format!("{}@{at}", node_key.id()).parse::<Peer>();
    peer.map_err(|_| anyhow::anyhow!("--p2p {at}: write a host, a colon and a port"))
}

/// What `init` and `gentx` sign for the operator of a home.
pub fn sign_own(
    chain_id: &str,
    operator: &SigningKey,
    validator: &consensus_abci::engine::ValidatorKey,
    moniker: &str,
    node_id: String,
) -> Gentx {
    Gentx::new(chain_id, &Founder::usual(operator, validator, moniker), node_id, None)
}

fn collect(home: &Path, dir: &Path) -> anyhow::Result<()> {
    let document = unbegun(home)?;
    let gentxs = gentx::read_all(dir, GENTXS_MAX)?;
    let chain_id = document.chain_id()?;
    let mut faults = Vec::new();
    for (file, gentx) in &gentxs {
        faults.extend(gentx.faults(&chain_id).into_iter().map(|fault| format!("{file}: {fault}")));
    }
    let signed: Vec<Gentx> = gentxs.iter().map(|(_, gentx)| gentx.clone()).collect();
    let collected = document.with_gentxs(&signed)?;
    if faults.is_empty() {
        faults = collected.faults();
        // The list is made in the order of the files.
        for (at, (file, _)) in gentxs.iter().enumerate() {
            let place = format!("gentxs[{at}]");
            faults.iter_mut().filter(|fault| fault.contains(&place)).for_each(|fault| {
                *fault = fault.replace(&place, &format!("{place} ({file})"));
            });
        }
    }
    if !faults.is_empty() {
        bail!(
            "these cannot begin a chain, and the genesis is as it was:\n  {}",
            faults.join("\n  ")
        );
    }
    collected.save()?;
    let mut text = String::new();
    for (_, gentx) in &gentxs {
        if let Payload::CreateValidator { moniker, self_delegation, .. } = &gentx.body.payload {
            text += &format!(
                "{:>14} SUT  {}  {}\n",
                self_delegation.in_sut().to_string(),
                gentx.body.signer,
                plain(moniker)
            );
        }
    }
    let peers: Vec<_> = gentxs.iter().filter_map(|(_, gentx)| gentx.peer.as_deref()).collect();
    if !peers.is_empty() {
        text += &format!("peers = [\"{}\"]\n", peers.join("\", \""));
    }
    text += &format!(
        "{} validators begin {chain_id}; all of them need this very file:\n{}  sha256 {}\n",
        gentxs.len(),
        of_home(home).display(),
        collected.hash(),
    );
    say(&text)
}

fn validate(file: &Path, output: Output) -> anyhow::Result<()> {
    let document = Document::open(file)?;
    let faults = document.faults();
    if output == Output::Json {
        let report = serde_json::json!({
            "file": file.display().to_string(),
            "sha256": document.hash(),
            "is_valid": faults.is_empty(),
            "faults": faults,
        });
        say(&format!("{report}\n"))?;
    }
    if !faults.is_empty() {
        bail!("{} cannot begin a chain:\n  {}", file.display(), faults.join("\n  "));
    }
    match output {
        Output::Json => Ok(()),
        Output::Text => say(&format!(
            "{} begins {} with {} validators, without a fault\nsha256 {}\n",
            file.display(),
            document.chain_id().context("it has no fault")?,
            document.validators_count(),
            document.hash(),
        )),
    }
}

/// What a stranger wrote does not steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
