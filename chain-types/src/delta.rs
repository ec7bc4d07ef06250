//! What a committed block changed, for whoever follows the chain in this process.

use crate::{
    balance::Balance,
    id::{AccountId, ChannelId, LaneKey, StreamId},
    keys::StateKey,
    params::Params,
    records::{AccessRecord, Account, Channel, LaneRecord, RelayRecord, StreamMetadata},
};

/// Sent once per block, after its commit is durable.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDelta {
    /// Height of the block.
    pub height: u64,
    /// Its time, unix ms.
    pub time_ms: u64,
    /// New values, in the order of their keys; `None`: deleted.
    pub changes: Vec<StateChange>,
    /// What happened, in the order in which it did.
    pub events: Vec<ChainEvent>,
    /// Each transaction's hash and code (0: success), in the order of the block.
    pub results: Vec<([u8; 32], u32)>,
}

/// One record's new value.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each holds the record of the same name and its key")]
pub enum StateChange {
    Account(AccountId, Account),
    Stream(Box<StreamMetadata>),
    Access { stream: StreamId, viewer: AccountId, record: Option<AccessRecord> },
    Channel(ChannelId, Box<Channel>),
    Lane(LaneKey, Option<LaneRecord>),
    Relay(AccountId, Box<RelayRecord>),
    Params(Box<Params>),
}

/// One thing that a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the records' fields")]
pub enum ChainEvent {
    Transfer {
        from: AccountId,
        to: AccountId,
        amount: Balance,
    },
    StreamRegistered {
        stream: StreamId,
        creator: AccountId,
    },
    StreamUpdated {
        stream: StreamId,
    },
    StreamClosed {
        stream: StreamId,
    },
    RelayRegistered {
        account: AccountId,
        relay_key: AccountId,
    },
    RelayUpdated {
        account: AccountId,
        relay_key: AccountId,
    },
    AccessGranted {
        stream: StreamId,
        viewer: AccountId,
        valid_until: u64,
    },
    AccessRevoked {
        stream: StreamId,
        viewer: AccountId,
    },
    /// Every token and access record of the stream is void.
    RevocationBumped {
        stream: StreamId,
        rev_epoch: u32,
    },
    ChannelOpened {
        channel: ChannelId,
        payer: AccountId,
        deposit: Balance,
    },
    ChannelToppedUp {
        channel: ChannelId,
        amount: Balance,
    },
    ChannelReserved {
        channel: ChannelId,
        payee: AccountId,
        amount: Balance,
        until_height: u64,
    },
    /// One voucher was paid; the four parts add up to `paid`.
    ChannelRedeemed {
        lane: LaneKey,
        paid: Balance,
        fee: Balance,
        creator: Balance,
        origin: Balance,
        payee: Balance,
    },
    ChannelClosing {
        channel: ChannelId,
    },
    ChannelClosed {
        channel: ChannelId,
        payer: AccountId,
        refund: Balance,
    },
    /// `UnbondRelay`, the first: the bond is free from this block time on.
    RelayLeaving {
        account: AccountId,
        until_ms: u64,
    },
    /// `UnbondRelay`, the second.
    RelayLeft {
        account: AccountId,
        bond: Balance,
    },
    /// A relay's fault was proved.
    RelaySlashed {
        account: AccountId,
        reporter: AccountId,
        amount: Balance,
        reward: Balance,
    },
    ValidatorCreated {
        validator: AccountId,
        consensus_key: AccountId,
    },
    ValidatorEdited {
        validator: AccountId,
    },
    /// What the engine is told at the end of the block; 0: it votes no more.
    ValidatorPower {
        validator: AccountId,
        power: u64,
    },
    ValidatorJailed {
        validator: AccountId,
        missed: u32,
    },
    ValidatorUnjailed {
        validator: AccountId,
    },
    /// It signed twice: the cut of its stake, and what it will take of what left it since.
    ValidatorSlashed {
        validator: AccountId,
        infraction_height: u64,
        amount: Balance,
    },
    ValidatorTombstoned {
        validator: AccountId,
    },
    StakeBonded {
        delegator: AccountId,
        validator: AccountId,
        amount: Balance,
    },
    StakeUnbonding {
        delegator: AccountId,
        validator: AccountId,
        amount: Balance,
        complete_ms: u64,
    },
    StakeMoved {
        delegator: AccountId,
        from: AccountId,
        to: AccountId,
        amount: Balance,
    },
    /// Unbonded stake came back; `burned` of it was cut.
    StakeComplete {
        delegator: AccountId,
        validator: AccountId,
        amount: Balance,
        burned: Balance,
    },
    RewardsPaid {
        account: AccountId,
        validator: AccountId,
        amount: Balance,
        commission: Balance,
    },
    Proposed {
        proposal: u64,
        proposer: AccountId,
    },
    Voted {
        proposal: u64,
        validator: AccountId,
        approve: bool,
    },
    /// Passed, or rejected.
    Decided {
        proposal: u64,
        passed: bool,
    },
    UpgradeScheduled {
        name: String,
        height: u64,
    },
    /// The first block that needed it: the program knew it.
    Upgraded {
        name: String,
        height: u64,
    },
    /// What a transaction cost whom.
    Fee {
        payer: AccountId,
        amount: Balance,
        burned: Balance,
    },
}

impl ChainEvent {
    /// The record that it is about, of those events that MONEY reads; `None`: it reads nothing of
    /// it. A new event has its place here, and nowhere else must anybody decide about it.
    pub fn subject(&self) -> Option<StateKey> {
        match *self {
            Self::StreamRegistered { stream, .. } | Self::RevocationBumped { stream, .. } => {
                Some(StateKey::Stream(stream))
            }
            Self::AccessGranted { stream, viewer, .. } | Self::AccessRevoked { stream, viewer } => {
                Some(StateKey::Access(stream, viewer))
            }
            Self::ChannelClosing { channel } => Some(StateKey::Channel(channel)),
            Self::ChannelRedeemed { lane, .. } => Some(StateKey::Lane(lane)),
            Self::Transfer { .. }
            | Self::StreamUpdated { .. }
            | Self::StreamClosed { .. }
            | Self::RelayRegistered { .. }
            | Self::RelayUpdated { .. }
            | Self::ChannelOpened { .. }
            | Self::ChannelToppedUp { .. }
            | Self::ChannelReserved { .. }
            | Self::ChannelClosed { .. }
            | Self::RelayLeaving { .. }
            | Self::RelayLeft { .. }
            | Self::RelaySlashed { .. }
            | Self::ValidatorCreated { .. }
            | Self::ValidatorEdited { .. }
            | Self::ValidatorPower { .. }
            | Self::ValidatorJailed { .. }
            | Self::ValidatorUnjailed { .. }
            | Self::ValidatorSlashed { .. }
            | Self::ValidatorTombstoned { .. }
            | Self::StakeBonded { .. }
            | Self::StakeUnbonding { .. }
            | Self::StakeMoved { .. }
            | Self::StakeComplete { .. }
            | Self::RewardsPaid { .. }
            | Self::Proposed { .. }
            | Self::Voted { .. }
            | Self::Decided { .. }
            | Self::UpgradeScheduled { .. }
            | Self::Upgraded { .. }
            | Self::Fee { .. } => None,
        }
    }
}
