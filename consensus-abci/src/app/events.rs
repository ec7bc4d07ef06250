//! Events as CometBFT shows and indexes them: a type and attributes, all text.

use bytes::Bytes;
use chain_types::{CODESPACE, ChainEvent, follow, hex};
use tendermint_proto::v0_38::abci::{Event, EventAttribute, ExecTxResult};

use super::execute::Executed;
use crate::store::Writes;

/// What a block's results say about a transaction.
pub(super) fn result(done: &Executed) -> ExecTxResult {
    let (log, codespace) = match &done.refused {
        None => (String::new(), String::new()),
        Some((_, log)) => (log.clone(), CODESPACE.to_owned()),
    };
    ExecTxResult {
        code: done.code(),
        data: Bytes::copy_from_slice(&done.data),
        log,
        events: done.events.iter().map(to_abci).collect(),
        codespace,
        ..ExecTxResult::default()
    }
}

/// One event of a transaction. Ids are lower-case hex, amounts decimal units.
pub(super) fn to_abci(event: &ChainEvent) -> Event {
    match event {
        ChainEvent::Transfer { from, to, amount } => {
            new("transfer", &[("from", from), ("to", to), ("amount", amount)])
        }
        ChainEvent::StreamRegistered { stream, creator } => {
            new("stream_registered", &[("stream", stream), ("creator", creator)])
        }
        ChainEvent::StreamUpdated { stream } => new("stream_updated", &[("stream", stream)]),
        ChainEvent::StreamClosed { stream } => new("stream_closed", &[("stream", stream)]),
        ChainEvent::RelayRegistered { account, relay_key } => {
            new("relay_registered", &[("account", account), ("relay_key", relay_key)])
        }
        ChainEvent::RelayUpdated { account, relay_key } => {
            new("relay_updated", &[("account", account), ("relay_key", relay_key)])
        }
        ChainEvent::AccessGranted { stream, viewer, valid_until } => new(
            "access_granted",
            &[("stream", stream), ("viewer", viewer), ("valid_until", valid_until)],
        ),
        ChainEvent::AccessRevoked { stream, viewer } => {
            new("access_revoked", &[("stream", stream), ("viewer", viewer)])
        }
        ChainEvent::RevocationBumped { stream, rev_epoch } => {
            new("revocation_bumped", &[("stream", stream), ("rev_epoch", rev_epoch)])
        }
        ChainEvent::ChannelOpened { channel, payer, deposit } => {
            new("channel_opened", &[("channel", channel), ("payer", payer), ("deposit", deposit)])
        }
        ChainEvent::ChannelToppedUp { channel, amount } => {
            new("channel_topped_up", &[("channel", channel), ("amount", amount)])
        }
        ChainEvent::ChannelReserved { channel, payee, amount, until_height } => new(
            "channel_reserved",
            &[
                ("channel", channel),
                ("payee", payee),
                ("amount", amount),
                ("until_height", until_height),
            ],
        ),
        ChainEvent::ChannelRedeemed { lane, paid, fee, creator, origin, payee } => new(
            "channel_redeemed",
            &[
                ("channel", &lane.channel),
                ("payee", &lane.payee),
                ("stream", &lane.stream),
                ("lane", &lane.lane),
                ("paid", paid),
                ("fee", fee),
                ("creator_share", creator),
                ("origin_share", origin),
                ("payee_share", payee),
            ],
        ),
        ChainEvent::ChannelClosing { channel } => new("channel_closing", &[("channel", channel)]),
        ChainEvent::ChannelClosed { channel, payer, refund } => {
            new("channel_closed", &[("channel", channel), ("payer", payer), ("refund", refund)])
        }
        ChainEvent::RelayLeaving { account, until_ms } => {
            new("relay_leaving", &[("account", account), ("until_ms", until_ms)])
        }
        ChainEvent::RelayLeft { account, bond } => {
            new("relay_left", &[("account", account), ("bond", bond)])
        }
        ChainEvent::RelaySlashed { account, reporter, amount, reward } => new(
            "relay_slashed",
            &[("account", account), ("reporter", reporter), ("amount", amount), ("reward", reward)],
        ),
        ChainEvent::ValidatorCreated { validator, consensus_key } => {
            new("validator_created", &[("validator", validator), ("consensus_key", consensus_key)])
        }
        ChainEvent::ValidatorEdited { validator } => {
            new("validator_edited", &[("validator", validator)])
        }
        ChainEvent::ValidatorPower { validator, power } => {
            new("validator_power", &[("validator", validator), ("power", power)])
        }
        ChainEvent::ValidatorJailed { validator, missed } => {
            new("validator_jailed", &[("validator", validator), ("missed", missed)])
        }
        ChainEvent::ValidatorUnjailed { validator } => {
            new("validator_unjailed", &[("validator", validator)])
        }
        ChainEvent::ValidatorSlashed { validator, infraction_height, amount } => new(
            "validator_slashed",
            &[
                ("validator", validator),
                ("infraction_height", infraction_height),
                ("amount", amount),
            ],
        ),
        ChainEvent::ValidatorTombstoned { validator } => {
            new("validator_tombstoned", &[("validator", validator)])
        }
        ChainEvent::StakeBonded { delegator, validator, amount } => new(
            "stake_bonded",
            &[("delegator", delegator), ("validator", validator), ("amount", amount)],
        ),
        ChainEvent::StakeUnbonding { delegator, validator, amount, complete_ms } => new(
            "stake_unbonding",
            &[
                ("delegator", delegator),
                ("validator", validator),
                ("amount", amount),
                ("complete_ms", complete_ms),
            ],
        ),
        ChainEvent::StakeMoved { delegator, from, to, amount } => new(
            "stake_moved",
            &[("delegator", delegator), ("from", from), ("to", to), ("amount", amount)],
        ),
        ChainEvent::StakeComplete { delegator, validator, amount, burned } => new(
            "stake_complete",
            &[
                ("delegator", delegator),
                ("validator", validator),
                ("amount", amount),
                ("burned", burned),
            ],
        ),
        ChainEvent::RewardsPaid { account, validator, amount, commission } => new(
            "rewards_paid",
            &[
                ("account", account),
                ("validator", validator),
                ("amount", amount),
                ("commission", commission),
            ],
        ),
        ChainEvent::Proposed { proposal, proposer } => {
            new("proposed", &[("proposal", proposal), ("proposer", proposer)])
        }
        ChainEvent::Voted { proposal, validator, approve } => {
            new("voted", &[("proposal", proposal), ("validator", validator), ("approve", approve)])
        }
        ChainEvent::Decided { proposal, passed } => {
            new("decided", &[("proposal", proposal), ("passed", passed)])
        }
        ChainEvent::UpgradeScheduled { name, height } => {
            new("upgrade_scheduled", &[("name", name), ("height", height)])
        }
        ChainEvent::Upgraded { name, height } => {
            new("upgraded", &[("name", name), ("height", height)])
        }
        ChainEvent::Fee { payer, amount, burned } => {
            new("fee", &[("payer", payer), ("amount", amount), ("burned", burned)])
        }
    }
}

/// The block's own event: which followed records it changed. Not indexed: it is read by height.
pub(super) fn changes(writes: &Writes) -> Vec<Event> {
    let attribute =
        |key: &Vec<u8>| EventAttribute { key: hex::text(key), value: String::new(), index: false };
    let attributes: Vec<_> =
        writes.keys().filter(|key| follow::is_followed(key)).map(attribute).collect();
    match attributes.is_empty() {
        true => Vec::new(),
        false => vec![Event { r#type: follow::CHANGES_EVENT.to_owned(), attributes }],
    }
}

/// Attributes that name something are indexed, so that people find it; how much and until when are
/// not: an engine writes a record for each that is, which cost it more than the rest of a transfer.
const QUANTITIES: &[&str] = &[
    "amount",
    "bond",
    "burned",
    "commission",
    "complete_ms",
    "creator_share",
    "deposit",
    "fee",
    "missed",
    "origin_share",
    "paid",
    "payee_share",
    "power",
    "refund",
    "reward",
    "until_height",
    "until_ms",
    "valid_until",
];

fn new(name: &str, attributes: &[(&str, &dyn ToString)]) -> Event {
    let attribute = |(key, value): &(&str, &dyn ToString)| EventAttribute {
        key: (*key).to_owned(),
        value: value.to_string(),
        index: !QUANTITIES.contains(key),
    };
    Event { r#type: name.to_owned(), attributes: attributes.iter().map(attribute).collect() }
}
