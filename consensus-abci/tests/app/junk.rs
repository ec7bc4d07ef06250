//! Transactions of every kind that are none: each has its code, and the state is untouched.

use bytes::Bytes;
use chain_types::{
    Balance, ChannelId, Domain, Params, Payload, Policy, Preimage, ResultCode, StreamId,
    TransactionBody,
    staking::{Evidence, Upgrade},
};
use consensus_abci::application::Application;
use ed25519_dalek::Signer;
use tendermint_proto::v0_38::abci::{CheckTxType, RequestCheckTx};

use crate::{staked::*, world::*};

/// Found again in the bytes of a transaction.
const AMOUNT: u64 = 0x1122_3344_5566_7788;

/// One of each kind; every amount is [`AMOUNT`].
fn kinds() -> Vec<Payload> {
    let (stream, channel) = (StreamId([1; 32]), ChannelId([2; 32]));
    let (viewer, amount) = (id("viewer"), sut(AMOUNT));
    let reserve = keep("relay", AMOUNT, 1_000);
    let reserves = vec![reserve];
    let mut price = price(1_000);
    price.ticket_price = amount;
    let split = chain_types::SplitShares { creator_bps: 1, origin_bps: 1 };
    let relay = || chain_types::RelayFacts { wholesale_per_gb: amount, ..relay_facts("relay") };
    let (title, text) = (String::new(), String::new());
    let mut new_stream = register(Policy::Paid);
    if let Payload::RegisterStream { price: terms, .. } = &mut new_stream {
        *terms = price.clone();
    }
    vec![
        Payload::Transfer { to: viewer, amount },
        new_stream,
        Payload::UpdateStream {
            stream,
            title: None,
            policy: None,
            origin_relay: None,
            codecs: None,
            ext: None,
        },
        Payload::EndStream { stream },
        Payload::SetPrice { stream, price, from_height: 0 },
        Payload::SetSplit { stream, split, from_height: 0 },
        Payload::SetIssuers { stream, issuers: vec![viewer] },
        Payload::RegisterRelay { relay: relay(), bond: amount },
        Payload::UpdateRelay { relay: relay() },
        Payload::UnbondRelay,
        Payload::OpenChannel { deposit: amount, voucher_key: viewer, expires_height: 9, reserves },
        Payload::TopUp { channel, amount, reserves: Vec::new() },
        Payload::Reserve { channel, reserve },
        redeem(vec![signed(voucher(channel, stream, 5))]),
        Payload::RequestClose { channel },
        Payload::Finalize { channel },
        Payload::BuyAccess { stream, terms_version: 1, max_price: amount },
        Payload::GrantAccess { stream, viewer, valid_until: 9, payment_status: 1, max_layer: 1 },
        Payload::RevokeAccess { stream, viewer },
        Payload::BumpRevocation { stream },
        create("other", AMOUNT, 100),
        Payload::EditValidator { moniker: None, website: None, commission_bps: Some(1) },
        delegate("v1", AMOUNT),
        undelegate("v1", AMOUNT),
        redelegate("v1", "v2", AMOUNT),
        withdraw("v1"),
        Payload::Unjail,
        Payload::SubmitEvidence {
            evidence: Evidence::DearTerms { terms: text.clone(), bind: vec![1], ack: vec![2] },
        },
        Payload::Propose {
            title: title.clone(),
            text,
            params: Box::new(Params { relay_bond_min: amount, ..Params::for_tests() }),
        },
        Payload::Vote { proposal: 1, approve: true },
        Payload::ScheduleUpgrade {
            upgrade: Upgrade { name: "two".to_owned(), height: 1_000, info: title },
        },
    ]
}

/// Signed over whatever bytes the body has.
fn sealed(body: &[u8]) -> Bytes {
    let preimage = Preimage::new(Domain::TRANSACTION, CHAIN_ID).bytes(body);
    let signature = key("other").sign(preimage.as_slice()).to_bytes();
    [body, &signature].concat().into()
}

/// The same with one amount of 2⁹⁶, for each that is in it.
fn overflown(body: &TransactionBody) -> Vec<Bytes> {
    let bytes = body.encode();
    let (found, large) = (u128::from(AMOUNT).to_le_bytes(), (1u128 << 96).to_le_bytes());
    let places = (0..bytes.len().saturating_sub(15)).filter(|at| bytes[*at..at + 16] == found);
    places
        .map(|at| {
            let mut bytes = bytes.clone();
            bytes[at..at + 16].copy_from_slice(&large);
            sealed(&bytes)
        })
        .collect()
}

fn check_tx(world: &World, tx: &Bytes) -> Option<ResultCode> {
    let request = RequestCheckTx { tx: tx.clone(), r#type: CheckTxType::New.into() };
    ResultCode::from_code(world.app.check_tx(request).unwrap().code)
}

/// R4: garbage, oversize, wrong signature, wrong nonce, wrong chain, overflow and replay of each
/// kind, in CheckTx and in a block.
#[test]
fn junk_of_every_kind_has_its_code_and_changes_nothing() {
    let mut world = World::staked();
    let kinds = kinds();
    assert_eq!(borsh::to_vec(kinds.last().unwrap()).unwrap()[0], 30, "the last kind there is");
    assert_eq!(kinds.len(), 31);
    let mut overflows = 0;
    for payload in kinds {
        let kind = payload.kind();
        let good = world.body("other", payload);
        let sign = |body: TransactionBody, chain: &str| -> Bytes {
            body.sign(&key("other"), chain).encode().into()
        };
        let with = |change: &dyn Fn(&mut TransactionBody)| {
            let mut body = good.clone();
            change(&mut body);
            sign(body, CHAIN_ID)
        };
        let bytes = sign(good.clone(), CHAIN_ID);
        let body = good.encode();
        let mut unknown = body.clone();
        let tag_at = body.len() - borsh::to_vec(&good.payload).unwrap().len();
        unknown[tag_at] = 31;
        let forged: Bytes = good.clone().sign(&key("viewer"), CHAIN_ID).encode().into();
        let mut cases = vec![
            (bytes.slice(..bytes.len() - 1), ResultCode::Decode),
            (bytes.slice(..body.len() / 2), ResultCode::Decode),
            ([&bytes[..], b"x"].concat().into(), ResultCode::Decode),
            (sealed(&[&body[..], b"x"].concat()), ResultCode::Decode),
            (sealed(&unknown), ResultCode::Decode),
            ([&bytes[..], &[0; 131_072][..]].concat().into(), ResultCode::TooLarge),
            (forged, ResultCode::Signature),
            (sign(good.clone(), "sutantra-test-2"), ResultCode::Signature),
            (with(&|body| body.nonce += 100), ResultCode::Nonce),
            (with(&|body| body.nonce = body.nonce.wrapping_sub(1)), ResultCode::Nonce),
            (with(&|body| body.fee = sut(1)), ResultCode::Fee),
            (with(&|body| body.fee = Balance::MAX), ResultCode::Funds),
        ];
        if world.height > 0 {
            let past = world.height;
            cases.push((with(&|body| body.valid_until_height = past), ResultCode::Expired));
        }
        let large = overflown(&good);
        overflows += large.len();
        cases.extend(large.into_iter().map(|tx| (tx, ResultCode::Decode)));
        for (at, (tx, code)) in cases.iter().enumerate() {
            assert_eq!(check_tx(&world, tx), Some(*code), "{kind}, case {at}");
        }
        let before = content(&world.app.snapshot());
        let response = world.block(cases.iter().map(|(tx, _)| tx.clone()).collect());
        for (at, ((_, code), result)) in cases.iter().zip(&response.tx_results).enumerate() {
            assert_eq!(ResultCode::from_code(result.code), Some(*code), "{kind}, case {at}");
            assert!(result.events.is_empty() && !result.log.is_empty());
        }
        assert!(response.validator_updates.is_empty());
        assert_eq!(content(&world.app.snapshot()), before, "{kind}");
        // The good one is charged, whatever it does; a second time it is nothing.
        let response = world.block(vec![bytes.clone(), bytes.clone()]);
        assert_eq!(response.tx_results[0].events[0].r#type, "fee", "{kind}");
        assert_eq!(response.tx_results[1].code, ResultCode::Nonce.code(), "{kind}");
        let before = content(&world.app.snapshot());
        world.block(vec![bytes]);
        assert_eq!(content(&world.app.snapshot()), before, "{kind} again");
    }
    assert_eq!(overflows, 16, "amounts in all kinds");
}
