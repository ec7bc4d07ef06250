//! The node's chain: kept in this process or followed from afar, and what every node does on it.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, bail};
use axum::Router;
use chain_types::{
    AccountId, Balance, BlockDelta, Params, Payload, RelayFacts, RelayRecord, ResultCode,
    SigningKey, StreamId, StreamMetadata, TransactionBody, transaction_hash,
};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use settlement::{ChainError, SubmitError};
use tokio::sync::watch;

use crate::{config::home, metrics::EngineSight};

mod faucet;
mod files;
pub mod genesis;
mod halt;
mod local;
mod maker;
mod proxy;
mod remote;

pub use faucet::{FaucetRefused, Till};
pub use halt::Halted;
pub use local::{Begin, LocalChain, RPC_PORT};
pub use remote::RemoteChain;

/// How long a transaction of this node's own may take into a block.
const COMMIT_MAX: Duration = Duration::from_secs(20);
/// A block that is further from the clock is no present.
const BLOCK_AGE_MAX: Duration = Duration::from_secs(5);
/// For how many blocks such a transaction is good.
const VALID_BLOCKS: u64 = 100;

/// The node's own keys, each in `keys/` of the home.
pub struct Keys {
    /// The relay's account: it is paid.
    pub operator: SigningKey,
    /// Signs BindAck and receipts, presents vouchers and pays the fees for that; no more.
    pub relay: SigningKey,
    /// Creator of the demo stream.
    pub creator: SigningKey,
    /// Gives play money away, where the chain has some.
    pub faucet: Option<SigningKey>,
}

impl Keys {
    /// Reads them; makes those that are missing, the faucet's only where play money is wanted.
    pub fn open(home: &Path, faucet: bool) -> Result<Self, home::HomeError> {
        let key = |name| home::signing_key(home, name);
        let has_faucet = faucet || home.join("keys/faucet.key").exists();
        Ok(Self {
            operator: key("operator")?,
            relay: key("relay")?,
            creator: key("creator")?,
            faucet: has_faucet.then(|| key("faucet")).transpose()?,
        })
    }
}

/// The newest block that this node knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// Its height; 0 before the first.
    pub height: u64,
    /// Its time, unix ms.
    pub block_time_ms: u64,
}

/// What a node asks of its chain, beyond what MONEY does. No method waits for the network, but those
/// of [`settlement::Chain`].
pub trait NodeChain: settlement::Chain {
    /// The newest block.
    fn head(&self) -> Head;

    /// The newest height that this node has heard of. One that follows from afar knows what happened
    /// there a block later, when it is proved.
    fn tip(&self) -> u64 {
        self.head().height
    }

    /// Whether the state is kept by others.
    fn is_remote(&self) -> bool {
        false
    }

    /// Why nothing goes on, and what to do; `None`: it does.
    fn halted(&self) -> Option<String>;

    /// What to look at when no blocks come, where something was noticed.
    fn advice(&self) -> Option<String> {
        None
    }

    /// The engine, for metrics.
    fn engine_sight(&self) -> EngineSight;

    /// Transactions that wait for a block, where this process knows.
    fn waiting(&self) -> Option<usize>;

    /// The chain's parameters.
    ///
    /// # Errors
    /// The chain cannot be read now; so for those below.
    fn params(&self) -> Result<Params, ChainError>;

    /// What it says about a stream.
    fn stream(&self, stream: &StreamId) -> Result<Option<StreamMetadata>, ChainError>;

    /// What it says about a relay.
    fn relay(&self, account: &AccountId) -> Result<Option<RelayRecord>, ChainError>;

    /// Every block from now on; ends for who is too slow.
    fn blocks(&self) -> Receiver<Arc<BlockDelta>>;

    /// The chain's CometBFT RPC, for pages and tools.
    fn rpc_router(&self) -> Router;

    /// Where somebody else serves that RPC; `None`: nobody does yet.
    fn rpc_at(&self) -> Option<SocketAddr>;

    /// Who makes the blocks, for people.
    fn engine(&self) -> String;

    /// Tells when a stop that was asked for has come; `None`: none was.
    fn halting(&self) -> Option<watch::Receiver<Option<Halted>>> {
        None
    }

    /// Ends what goes on in this process.
    fn stop(&self);

    /// Why nobody can rely on the chain now, in a sentence that says what to do; `None`: it goes on.
    fn is_stale(&self) -> Option<String> {
        if let Some(halted) = self.halted() {
            return Some(format!("The chain has stopped ({halted})."));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest = Duration::from_millis(self.head().block_time_ms);
        let apart = now.abs_diff(newest);
        (apart > BLOCK_AGE_MAX).then(|| {
            let advice = self.advice();
            let advice = advice.as_deref().unwrap_or("look at the clock and at the log");
            let apart = apart.as_secs();
            format!("The newest block is {apart} s away from this machine's clock: {advice}.")
        })
    }
}

/// Signs, sends and waits until it is in a block. Blocks for a block's time.
///
/// # Errors
/// A refusal in the chain's words, or no block in time.
pub fn transact(
    chain: &dyn NodeChain,
    key: &SigningKey,
    payload: Payload,
) -> anyhow::Result<[u8; 32]> {
    let signer = AccountId::from(key);
    let nonce = chain.account(&signer)?.nonce;
    let params = chain.params()?;
    let mut body = TransactionBody {
        signer,
        fee_payer: None,
        nonce,
        valid_until_height: chain.head().height + VALID_BLOCKS,
        fee: Balance::ZERO,
        payload,
    };
    body.fee = params.fee_min(&body.payload, body.signed_len_bytes());
    let bytes = body.sign(key, chain.chain_id()).encode();
    let hash = transaction_hash(&bytes);
    // Before it is sent: the block may be faster than the answer.
    let blocks = chain.blocks();
    match chain.submit(bytes) {
        Ok(()) | Err(SubmitError::Known) => {}
        Err(SubmitError::Refused { log, .. }) => bail!("{log}"),
        Err(error) => return Err(error.into()),
    }
    let deadline = Instant::now() + COMMIT_MAX;
    loop {
        let block = match blocks.recv_deadline(deadline) {
            Ok(block) => block,
            Err(RecvTimeoutError::Timeout) => {
                bail!("no block took it within {} s", COMMIT_MAX.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the chain has stopped"),
        };
        match block.results.iter().find(|(known, _)| *known == hash) {
            Some((_, 0)) => return Ok(hash),
            Some((_, code)) => match ResultCode::from_code(*code) {
                Some(code) => bail!("{}", code.advice()),
                None => bail!("the chain refused it with code {code}"),
            },
            None => {}
        }
    }
}

/// What a relay tells the chain about itself.
pub struct Introduction<'a> {
    /// Its keys.
    pub keys: &'a Keys,
    /// Where it answers HTTP.
    pub endpoint: &'a str,
    /// What other relays pay it.
    pub wholesale_per_gb: Balance,
    /// Streams that leave it less are refused.
    pub min_share_bps: u16,
    /// Register the demo stream too.
    pub demo: bool,
}

impl Introduction<'_> {
    /// The demo stream's id: the first transaction of its creator, so known before it is sent.
    pub fn demo_stream(&self) -> StreamId {
        StreamId::of(&AccountId::from(&self.keys.creator), 0)
    }

    /// Makes this node's relay and its demo stream known to the chain, where they are not yet.
    ///
    /// # Errors
    /// Which account could not pay, or what else the chain says.
    pub fn make(&self, chain: &dyn NodeChain) -> anyhow::Result<()> {
        let account = AccountId::from(&self.keys.operator);
        let relay_key = AccountId::from(&self.keys.relay);
        let facts = RelayFacts {
            relay_key,
            endpoint: self.endpoint.to_owned(),
            region: String::new(),
            wholesale_per_gb: self.wholesale_per_gb,
            min_share_bps: self.min_share_bps,
        };
        match chain.relay(&account)? {
            None => {
                let payload = Payload::RegisterRelay { relay: facts, bond: Balance::ZERO };
                transact(chain, &self.keys.operator, payload).with_context(|| {
                    format!(
                        "the relay cannot be registered by account {account}, which pays for it"
                    )
                })?;
            }
            Some(known)
                if known.relay_key != relay_key
                    || known.endpoint != self.endpoint
                    || known.wholesale_per_gb != self.wholesale_per_gb
                    || known.min_share_bps != self.min_share_bps =>
            {
                transact(chain, &self.keys.operator, Payload::UpdateRelay { relay: facts })
                    .context("the relay's facts cannot be updated")?;
            }
            Some(_) => {}
        }
        if self.demo && chain.stream(&self.demo_stream())?.is_none() {
            transact(chain, &self.keys.creator, genesis::demo_stream()).with_context(|| {
                let creator = AccountId::from(&self.keys.creator);
                format!(
                    "the demo stream cannot be registered by account {creator}, which pays for it"
                )
            })?;
        }
        Ok(())
    }
}

/// Why the chain of this home cannot be used, in a sentence for the start-up screen. A stop that was
/// asked for is none.
pub fn unusable(error: anyhow::Error) -> anyhow::Error {
    if error.is::<Halted>() {
        return error;
    }
    anyhow!(
        "the chain of this home cannot be used: {}; start with another --home, or with --chain=false",
        files::sentence(&error)
    )
}
