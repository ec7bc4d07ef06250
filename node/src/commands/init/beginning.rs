//! The genesis of a new home: one of its own, or the one of the chain that is joined, looked at
//! whole.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use chain_types::{Params, hex};
use comet::rpc::Client;
use consensus_abci::engine::{Genesis, NodeKey, ValidatorKey};
use rand::RngCore;
use sha2::{Digest, Sha256};

use super::{EngineName, InitArgs};
use crate::{
    chain::{
        Keys,
        genesis::{self, ParamChange},
    },
    commands::genesis::{Document, Gentx, sign_own},
};

/// Longest genesis file that is read: accounts and validators of a large chain.
const GENESIS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A genesis as it is written.
pub struct Beginning {
    /// The file.
    pub text: Vec<u8>,
    /// The chain's id.
    pub chain_id: String,
    genesis: Genesis,
}

impl Beginning {
    fn read(text: Vec<u8>, from: &str) -> anyhow::Result<Self> {
        let document = Document::read(text, Path::new(from))?;
        let faults = document.faults();
        if !faults.is_empty() {
            bail!("{from} cannot begin a chain:\n  {}", faults.join("\n  "));
        }
        let text = document.into_text();
        let genesis = Genesis::from_json(&text).with_context(|| from.to_owned())?;
        let chain_id = genesis.chain_id.to_string();
        Ok(Self { text, chain_id, genesis })
    }

    /// SHA-256 of the file, as `sha256sum` prints it.
    pub fn hash(&self) -> String {
        hex::text(&Sha256::digest(&self.text))
    }

    /// Whether a validator is there from the first block on.
    pub fn has_validator(&self, key: &ValidatorKey) -> bool {
        self.genesis.validators.iter().any(|known| known.pub_key == key.public_key())
    }
}

/// The genesis of the chain that is joined; `None`: a new one is to be made.
pub fn joined(args: &InitArgs) -> anyhow::Result<Option<Beginning>> {
    let beginning = match (&args.genesis, args.chain_rpc.as_slice()) {
        (Some(from), _) if from.contains("://") => of_rpc(from)?,
        (Some(file), _) => {
            let length = fs::metadata(file).with_context(|| file.clone())?.len();
            if length > GENESIS_BYTES_MAX {
                bail!("{file} is no genesis: it has {length} bytes");
            }
            Beginning::read(fs::read(file).with_context(|| file.clone())?, file)?
        }
        (None, []) => {
            if let Some(id) = &args.chain_id {
                parse_id(id)?;
            }
            return Ok(None);
        }
        (None, [first, others @ ..]) => {
            let beginning = of_rpc(first)?;
            for other in others {
                if of_rpc(other)?.genesis.hash() != beginning.genesis.hash() {
                    bail!(
                        "{first} and {other} have different genesis files: one of them is of \
                         another chain, or lies; take the file from somebody you trust, with --genesis"
                    );
                }
            }
            beginning
        }
    };
    match &args.chain_id {
        Some(id) if *id != beginning.chain_id => {
            bail!("the genesis is of the chain {}, not of {id} (--chain-id)", beginning.chain_id)
        }
        _ => Ok(Some(beginning)),
    }
}

/// The genesis that a node of the chain gives.
fn of_rpc(url: &str) -> anyhow::Result<Beginning> {
    let client = Client::new(url.trim_end_matches('/').trim_end_matches("/genesis"))?;
    let document = client.genesis()?.document;
    let text = serde_json::to_vec_pretty(&document).expect("JSON has a text form");
    Beginning::read(text, client.name())
}

/// A new chain of one validator, on which the home's own accounts have money, and what its operator
/// signed for that.
pub fn own(
    args: &InitArgs,
    validator: &ValidatorKey,
    node_key: &NodeKey,
    keys: &Keys,
) -> anyhow::Result<(Beginning, Gentx)> {
    let id = match &args.chain_id {
        Some(id) => id.clone(),
        None => format!("sutantra-{:08x}", rand::rng().next_u32()),
    };
    let mut params = Params::from(args.params);
    if args.comet == EngineName::Embedded {
        // It makes blocks alone, for ever.
        params.validators_max = 1;
    }
    let params = ParamChange::all(&args.changes, &params)?;
    let gentx = sign_own(&id, &keys.operator, validator, args.moniker.trim(), node_key.id());
    let signed = [gentx.transaction()?];
    let made = genesis::document(parse_id(&id)?, &params, &genesis::accounts(keys), &signed);
    let text = serde_json::to_vec_pretty(&made.to_json()).expect("JSON has a text form");
    Ok((Beginning::read(text, "the new genesis")?, gentx))
}

fn parse_id(id: &str) -> anyhow::Result<tendermint::chain::Id> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if id.is_empty() || id.len() > 50 || !id.bytes().all(is_plain) {
        bail!("{id:?} is no chain id: 1 to 50 letters, digits, dashes, dots and underscores");
    }
    id.parse().with_context(|| format!("{id:?} is no chain id"))
}
