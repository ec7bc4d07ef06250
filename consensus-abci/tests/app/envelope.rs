//! What every transaction has: bytes, signatures, nonce, last height, fee.

use chain_types::{Balance, Payload, ResultCode, TransactionBody};

use crate::world::*;

fn transfer(to: &str, amount: u64) -> Payload {
    Payload::Transfer { to: id(to), amount: sut(amount) }
}

/// R4
#[test]
fn a_transfer_moves_money_and_costs_its_fee_of_which_half_is_burned() {
    let mut world = World::new();
    let fee = world.body("viewer", transfer("relay", 0)).fee.units() as u64;
    let result = world.done("viewer", transfer("relay", 1_000_000));
    assert_eq!(events(&result), ["fee", "transfer"]);
    assert_eq!(attribute(&result, "fee", "amount"), fee.to_string());
    assert_eq!(attribute(&result, "transfer", "to"), id("relay").to_string());
    assert_eq!(world.balance("viewer"), BEGIN - 1_000_000 - fee);
    assert_eq!(world.balance("relay"), BEGIN + 1_000_000);
    let snapshot = world.app.snapshot();
    assert_eq!(snapshot.supply().unwrap().burned, sut(fee.div_ceil(2)));
    assert_eq!(snapshot.fee_pool().unwrap(), sut(fee / 2));
}

/// R4
#[test]
fn a_transfer_without_the_money_or_too_small_for_a_new_account_is_refused() {
    let mut world = World::new();
    world.refused("viewer", transfer("relay", BEGIN), ResultCode::Funds);
    let least = world.params().new_account_min().units() as u64;
    world.refused("viewer", transfer("nobody", least - 1), ResultCode::Funds);
    world.done("viewer", transfer("nobody", least));
    // Now it is an account.
    world.done("viewer", transfer("nobody", 1));
    assert_eq!(world.balance("nobody"), least + 1);
    world.done("viewer", transfer("viewer", 5));
}

/// R4
#[test]
fn bytes_that_are_no_transaction_change_nothing() {
    let mut world = World::new();
    let good = world.sign("viewer", transfer("relay", 5));
    world.ignored(b"".as_slice(), ResultCode::Decode);
    world.ignored(b"garbage".as_slice(), ResultCode::Decode);
    world.ignored(good[..good.len() - 1].to_vec(), ResultCode::Decode);
    world.ignored([&good[..], b"x"].concat(), ResultCode::Decode);
    let too_long = vec![0; world.params().transaction_bytes_max as usize + 1];
    world.ignored(too_long, ResultCode::TooLarge);
}

/// R4
#[test]
fn a_wrong_signature_changes_nothing() {
    let mut world = World::new();
    let body = world.body("viewer", transfer("relay", 5));
    let forged = body.clone().sign(&key("other"), CHAIN_ID).encode();
    world.ignored(forged, ResultCode::Signature);
    let other_chain = body.clone().sign(&key("viewer"), "sutantra-test-2").encode();
    world.ignored(other_chain, ResultCode::Signature);
    let mut changed = body.sign(&key("viewer"), CHAIN_ID);
    changed.body.payload = transfer("relay", 6);
    world.ignored(changed.encode(), ResultCode::Signature);
}

/// One bad signature among many is found, and the others are not harmed by it.
#[test]
fn a_block_of_many_finds_the_one_bad_signature() {
    let mut world = World::new();
    let names = ["viewer", "relay", "origin", "other", "submitter"];
    let mut txs: Vec<_> =
        names.iter().map(|name| world.sign(name, transfer("creator", 5))).collect();
    let forged = world.body("creator", transfer("relay", 5)).sign(&key("other"), CHAIN_ID);
    txs.insert(2, forged.encode().into());
    let results = world.block(txs).tx_results;
    let codes: Vec<u32> = results.iter().map(|result| result.code).collect();
    assert_eq!(codes, [0, 0, 2, 0, 0, 0]);
}

/// R4
#[test]
fn a_nonce_is_used_once_and_in_order() {
    let mut world = World::new();
    let first = world.sign("viewer", transfer("relay", 5));
    let mut body = world.body("viewer", transfer("relay", 5));
    body.nonce = 1;
    let second = body.clone().sign(&key("viewer"), CHAIN_ID).encode();
    world.ignored(second.clone(), ResultCode::Nonce);
    let results = world.block(vec![first.clone(), first.clone(), second.into()]).tx_results;
    let codes: Vec<u32> = results.iter().map(|result| result.code).collect();
    assert_eq!(codes, [0, 3, 0], "the replay is refused, the next goes");
    world.ignored(first, ResultCode::Nonce);
    assert_eq!(world.account("viewer").nonce, 2);
}

/// R4
#[test]
fn a_transaction_that_comes_too_late_changes_nothing() {
    let mut world = World::new();
    let mut body = world.body("viewer", transfer("relay", 5));
    body.valid_until_height = 2;
    let bytes = body.sign(&key("viewer"), CHAIN_ID).encode();
    world.skip(2);
    world.ignored(bytes, ResultCode::Expired);
    let mut body = world.body("viewer", transfer("relay", 5));
    body.valid_until_height = world.height + 1;
    let bytes = body.sign(&key("viewer"), CHAIN_ID).encode();
    assert_eq!(world.block(vec![bytes.into()]).tx_results[0].code, 0);
}

/// R4
#[test]
fn a_fee_below_the_table_or_beyond_the_purse_changes_nothing() {
    let mut world = World::new();
    let good = world.body("viewer", transfer("relay", 5));
    let with_fee = |fee: Balance| TransactionBody { fee, ..good.clone() };
    let little = with_fee(good.fee.checked_sub(sut(1)).unwrap());
    world.ignored(little.sign(&key("viewer"), CHAIN_ID).encode(), ResultCode::Fee);
    let much = with_fee(sut(BEGIN + 1));
    world.ignored(much.sign(&key("viewer"), CHAIN_ID).encode(), ResultCode::Funds);
    let mut poor = world.body("stranger", transfer("relay", 5));
    poor.fee = good.fee;
    world.ignored(poor.sign(&key("stranger"), CHAIN_ID).encode(), ResultCode::Funds);
    // All of it may go into the fee: then nothing is left to transfer, and the fee is gone.
    let all = with_fee(sut(BEGIN)).sign(&key("viewer"), CHAIN_ID).encode();
    assert_eq!(world.block(vec![all.into()]).tx_results[0].code, ResultCode::Funds.code());
    assert_eq!(world.balance("viewer"), 0);
}

#[test]
fn the_whole_fee_that_is_offered_is_charged() {
    let mut world = World::new();
    let mut body = world.body("viewer", transfer("relay", 0));
    body.fee = sut(7_000_001);
    let bytes = body.sign(&key("viewer"), CHAIN_ID).encode();
    world.block(vec![bytes.into()]);
    assert_eq!(world.balance("viewer"), BEGIN - 7_000_001);
    assert_eq!(world.app.snapshot().supply().unwrap().burned, sut(3_500_001));
}

#[test]
fn a_fee_payer_pays_and_the_signer_acts() {
    let mut world = World::new();
    let mut body = world.body("stranger", transfer("relay", 0));
    body.fee_payer = Some(id("other"));
    body.fee = world.params().fee_min(&body.payload, body.signed_len_bytes());
    let fee = body.fee.units() as u64;
    let alone = body.clone().sign(&key("stranger"), CHAIN_ID).encode();
    world.ignored(alone, ResultCode::Decode);
    let forged = body.clone().sign_with_fee_payer(&key("stranger"), &key("viewer"), CHAIN_ID);
    world.ignored(forged.encode(), ResultCode::Signature);
    let good = body.sign_with_fee_payer(&key("stranger"), &key("other"), CHAIN_ID).encode();
    assert_eq!(world.block(vec![good.clone().into()]).tx_results[0].code, 0);
    assert_eq!(world.balance("other"), BEGIN - fee);
    assert_eq!((world.account("other").nonce, world.account("stranger").nonce), (0, 1));
    world.ignored(good, ResultCode::Nonce);
}

#[test]
fn a_block_is_charged_in_the_order_given() {
    let mut world = World::new();
    let least = world.params().new_account_min().units() as u64;
    let give = world.sign("viewer", transfer("stranger", 20 * least));
    let mut body = world.body("stranger", transfer("relay", 5));
    body.nonce = 0;
    let spend: bytes::Bytes = body.sign(&key("stranger"), CHAIN_ID).encode().into();
    let results = world.block(vec![spend.clone(), give]).tx_results;
    assert_eq!((results[0].code, results[1].code), (ResultCode::Funds.code(), 0));
    assert_eq!(world.block(vec![spend]).tx_results[0].code, 0);
}
