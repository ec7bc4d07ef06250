//! The chain as a wallet sees it: records by name, and transactions followed into their block.
//!
//! What is read here is the word of whoever answers: until a light client checks headers and
//! proofs, rate and relay key are taken from it unproved.

use std::time::Duration;

use chain_types::{
    Account, AccountId, Balance, Channel, ChannelId, Params, Payload, RelayRecord, ResultCode,
    SigningKey, StreamId, StreamMetadata, Supply, TransactionBody, transaction_hash,
};
use serde::Deserialize;

use crate::rpc::{InBlock, Rpc, RpcError};

/// A transaction that is in no block by then never will be.
const VALID_BLOCKS: u64 = 120;
/// How long is waited for a block.
const INCLUSION: Duration = Duration::from_secs(30);

/// One chain behind one RPC.
#[derive(Debug, Clone)]
pub struct Chain {
    rpc: Rpc,
    id: String,
}

/// Why a transaction has no effect.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The account cannot pay it: nothing was sent, so not even a fee is lost.
    #[error(
        "the account holds {} SUT, {} SUT are needed with the fee: fund it or choose a smaller amount",
        .balance.in_sut(), .needed.in_sut()
    )]
    Funds {
        /// What the account holds.
        balance: Balance,
        /// Amount and fee.
        needed: Balance,
    },
    /// CheckTx: it is in no block and cost nothing.
    #[error("the chain does not take the transaction: {}", advice(*.code, .log))]
    Refused {
        /// A [`ResultCode`].
        code: u32,
        /// The chain's sentence.
        log: String,
    },
    /// In its block: the fee is spent.
    #[error("the transaction {hash} failed in block {height}, its fee is spent: {}", advice(*.code, .log))]
    Failed {
        /// A [`ResultCode`].
        code: u32,
        /// The chain's sentence.
        log: String,
        /// Hex.
        hash: String,
        /// Of the block.
        height: u64,
    },
    /// It may still come.
    #[error(
        "the transaction {0} is in no block yet and may still come: look at your balance before you try again"
    )]
    Lost(String),
    /// The chain.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

fn advice(code: u32, log: &str) -> String {
    let said = if log.is_empty() { String::new() } else { format!(" ({log})") };
    match ResultCode::from_code(code) {
        Some(known) => format!("{}{said}", known.advice()),
        None => format!("code {code}{said}"),
    }
}

/// What a transaction takes from its signer's account besides the fee, as far as it says so itself.
pub fn moved_by(payload: &Payload) -> Balance {
    match payload {
        Payload::Transfer { amount, .. } | Payload::TopUp { amount, .. } => *amount,
        Payload::OpenChannel { deposit, .. } => *deposit,
        Payload::RegisterRelay { bond, .. } => *bond,
        Payload::Delegate { amount, .. } => *amount,
        Payload::CreateValidator { self_delegation, .. } => *self_delegation,
        Payload::RegisterStream { .. }
        | Payload::UpdateStream { .. }
        | Payload::EndStream { .. }
        | Payload::SetPrice { .. }
        | Payload::SetSplit { .. }
        | Payload::SetIssuers { .. }
        | Payload::UpdateRelay { .. }
        | Payload::Reserve { .. }
        | Payload::Redeem { .. }
        | Payload::RequestClose { .. }
        | Payload::Finalize { .. }
        // At most `max_price`: the price itself may be less.
        | Payload::BuyAccess { .. }
        | Payload::GrantAccess { .. }
        | Payload::RevokeAccess { .. }
        | Payload::BumpRevocation { .. }
        | Payload::UnbondRelay
        | Payload::EditValidator { .. }
        | Payload::Undelegate { .. }
        | Payload::Redelegate { .. }
        | Payload::WithdrawRewards { .. }
        | Payload::Unjail
        | Payload::SubmitEvidence { .. }
        | Payload::Propose { .. }
        | Payload::Vote { .. }
        | Payload::ScheduleUpgrade { .. } => Balance::ZERO,
    }
}

/// A transaction that had its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// Hex.
    pub hash: String,
    /// Of the block.
    pub height: u64,
    /// What it cost.
    pub fee: Balance,
    /// The signer's nonce: names the stream or channel that it made.
    pub nonce: u64,
}

/// A channel and its id.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChannelEntry {
    /// Which.
    pub id: ChannelId,
    /// Its record.
    #[serde(flatten)]
    pub channel: Channel,
}

/// Steps of a transaction, for people who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The mempool has it.
    Sent,
    /// A block has it.
    InBlock,
}

impl Chain {
    /// The chain behind an RPC.
    ///
    /// # Errors
    /// It does not answer.
    pub fn connect(rpc: Rpc) -> Result<Self, RpcError> {
        let id = rpc.status()?.chain_id;
        Ok(Self { rpc, id })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it is asked.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Height of the newest block.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn height(&self) -> Result<u64, RpcError> {
        Ok(self.rpc.status()?.height)
    }

    /// An account; one that the chain does not know is empty.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn account(&self, account: &AccountId) -> Result<Account, RpcError> {
        Ok(self.rpc.query(&format!("/account/{account}"))?.unwrap_or_default())
    }

    /// A stream's record.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn stream(&self, stream: &StreamId) -> Result<Option<StreamMetadata>, RpcError> {
        self.rpc.query(&format!("/stream/{stream}"))
    }

    /// Streams of the chain, the first page.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn streams(&self) -> Result<Vec<StreamMetadata>, RpcError> {
        Ok(self.rpc.query("/streams")?.unwrap_or_default())
    }

    /// A channel's record.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn channel(&self, channel: &ChannelId) -> Result<Option<Channel>, RpcError> {
        self.rpc.query(&format!("/channel/{channel}"))
    }

    /// Channels that an account pays, the first page.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn channels_of(&self, payer: &AccountId) -> Result<Vec<ChannelEntry>, RpcError> {
        Ok(self.rpc.query(&format!("/channels/by-payer/{payer}"))?.unwrap_or_default())
    }

    /// A relay's record.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn relay(&self, account: &AccountId) -> Result<Option<RelayRecord>, RpcError> {
        self.rpc.query(&format!("/relay/{account}"))
    }

    /// Fees and windows.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn params(&self) -> Result<Params, RpcError> {
        Ok(self.rpc.query("/params")?.unwrap_or_default())
    }

    /// All money.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn supply(&self) -> Result<Supply, RpcError> {
        Ok(self.rpc.query("/supply")?.unwrap_or_default())
    }

    /// The nonce that the account's next transaction has.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub fn next_nonce(&self, account: &AccountId) -> Result<u64, RpcError> {
        Ok(self.account(account)?.nonce)
    }

    /// Signs `payload` with the least fee, sends it and waits for its block.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(
        &self,
        key: &SigningKey,
        payload: Payload,
        progress: impl FnMut(Step),
    ) -> Result<Included, SubmitError> {
        let nonce = self.next_nonce(&AccountId::from(key))?;
        self.submit_with_nonce(key, nonce, payload, progress)
    }

    /// As [`Chain::submit`] with a nonce that the caller has built on.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit_with_nonce(
        &self,
        key: &SigningKey,
        nonce: u64,
        payload: Payload,
        mut progress: impl FnMut(Step),
    ) -> Result<Included, SubmitError> {
        let valid_until_height = self.height()?.saturating_add(VALID_BLOCKS);
        let signer = AccountId::from(key);
        let fee = Balance::ZERO;
        let mut body =
            TransactionBody { signer, fee_payer: None, nonce, valid_until_height, fee, payload };
        // The fee has a fixed width: setting it does not change the length.
        body.fee = self.params()?.fee_min(&body.payload, body.signed_len_bytes());
        let fee = body.fee;
        let needed = fee.checked_add(moved_by(&body.payload)).unwrap_or(Balance::MAX);
        let balance = self.account(&signer)?.balance;
        if balance < needed {
            return Err(SubmitError::Funds { balance, needed });
        }
        let bytes = body.sign(key, &self.id).encode();
        let hash = transaction_hash(&bytes);
        let name: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
        let checked = self.rpc.broadcast_tx_sync(&bytes)?;
        if checked.code != 0 {
            return Err(SubmitError::Refused { code: checked.code, log: checked.log });
        }
        progress(Step::Sent);
        match self.rpc.wait_for(&hash, INCLUSION)? {
            None => Err(SubmitError::Lost(name)),
            Some(InBlock { height, code: 0, .. }) => {
                progress(Step::InBlock);
                Ok(Included { hash: name, height, fee, nonce })
            }
            Some(InBlock { height, code, log }) => {
                Err(SubmitError::Failed { code, log, hash: name, height })
            }
        }
    }

    /// Waits for a transaction that somebody else sent, such as the faucet.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn wait_for(&self, hash: &[u8; 32]) -> Result<InBlock, SubmitError> {
        let name: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
        match self.rpc.wait_for(hash, INCLUSION)? {
            None => Err(SubmitError::Lost(name)),
            Some(found) if found.code == 0 => Ok(found),
            Some(InBlock { height, code, log }) => {
                Err(SubmitError::Failed { code, log, hash: name, height })
            }
        }
    }
}
