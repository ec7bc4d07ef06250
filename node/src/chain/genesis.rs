//! The beginning of a chain of one's own: who has money there, and the demo stream.

use std::collections::BTreeMap;

use chain_types::{AccountId, Balance, Params, Payload, Policy, Price, SplitShares};
use consensus_abci::engine::{Genesis, ValidatorKey};

use super::Keys;

/// What each of the node's own accounts begins with.
const OWN_BALANCE: Balance = Balance::of(10_000_000_000_000);
/// What the faucet begins with.
pub const FAUCET_BALANCE: Balance = Balance::of(1_000_000_000_000_000_000);
/// Price of the demo stream, units per second: 0.001 SUT.
const DEMO_RATE: u64 = 1_000_000;
/// Share of the demo stream's creator; the relay has the rest.
const DEMO_SPLIT: SplitShares = SplitShares { creator_bps: 7_000, origin_bps: 0 };
/// An hour of the demo.
const DEMO_TICKET: (Balance, u64) = (Balance::of(2_000_000_000), 3_600_000);

/// A chain of one validator with a new name.
pub fn development(validator: &ValidatorKey, keys: &Keys) -> Genesis {
    use rand::RngCore;
    let name = format!("sutantra-dev-{:08x}", rand::rng().next_u32());
    Genesis::single(
        name.parse().expect("letters, digits and dashes, under 50 characters"),
        tendermint::Time::now(),
        validator.public_key(),
        app_state(&Params::for_tests(), keys),
    )
}

/// The application's part of a genesis on which the keys of a home have money: its own accounts
/// some, the faucet nearly all.
pub fn app_state(params: &Params, keys: &Keys) -> serde_json::Value {
    let own = [&keys.operator, &keys.relay, &keys.creator].map(|key| (key, OWN_BALANCE));
    let faucet = keys.faucet.as_ref().map(|key| (key, FAUCET_BALANCE));
    let accounts: Vec<_> = own
        .into_iter()
        .chain(faucet)
        .map(|(key, balance)| {
            serde_json::json!({"account": AccountId::from(key), "balance": balance})
        })
        .collect();
    serde_json::json!({"params": params, "accounts": accounts})
}

/// Makes the demo stream known.
pub fn demo_stream() -> Payload {
    let (ticket_price, ticket_ms) = DEMO_TICKET;
    Payload::RegisterStream {
        title: crate::demo::TITLE.to_owned(),
        policy: Policy::Paid,
        price: Price {
            rate_per_second: DEMO_RATE,
            tier_bps: [2_500, 5_000, 10_000],
            ticket_price,
            ticket_ms,
        },
        split: DEMO_SPLIT,
        origin_relay: None,
        issuers: Vec::new(),
        codecs: vec!["VP8".to_owned(), "opus".to_owned()],
        ext: BTreeMap::new(),
    }
}
