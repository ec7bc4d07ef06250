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
fn to_abci(event: &ChainEvent) -> Event {
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

fn new(name: &str, attributes: &[(&str, &dyn ToString)]) -> Event {
    let attribute = |(key, value): &(&str, &dyn ToString)| EventAttribute {
        key: (*key).to_owned(),
        value: value.to_string(),
        index: true,
    };
    Event { r#type: name.to_owned(), attributes: attributes.iter().map(attribute).collect() }
}
