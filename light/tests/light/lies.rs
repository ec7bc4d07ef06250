//! Every lie about headers that a node can tell, and what becomes of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use light::{LightBlock, LightError, PlainBlock, Skipping};
use proptest::prelude::*;
use tendermint::{AppHash, block::CommitSig, validator::Set};

use crate::chain::{Node, Plan, client, height, sign, terms, time, validators};

/// The primary changes its newest block, 20; what the client says about it.
fn primary_says(change: impl FnOnce(&mut LightBlock)) -> LightError {
    let plan = Plan::steady();
    let liar = Node::new("liar", plan.blocks(20));
    let mut client = client(&plan, &[Arc::clone(&liar)]).unwrap();
    liar.change(20, change);
    let error = client.verify_to(None, time(30)).expect_err("that is a lie");
    assert_eq!(client.newest().height(), height(1), "nothing of it is trusted");
    error
}

#[track_caller]
fn check(change: impl FnOnce(&mut LightBlock), reason: &str) {
    let error = primary_says(change);
    let LightError::Lying { provider, height, reason: found } = &error else {
        panic!("{error}");
    };
    assert_eq!((provider.as_str(), *height), ("liar", 20), "{error}");
    assert!(found.contains(reason), "{error}");
    assert!(error.to_string().contains("do not use this endpoint"), "{error}");
}

fn forget(block: &mut LightBlock, count: usize) {
    for signature in block.signed_header.commit.signatures.iter_mut().take(count) {
        *signature = CommitSig::BlockIdFlagAbsent;
    }
}

#[test]
fn a_header_that_was_changed_does_not_verify() {
    check(
        |block| block.signed_header.header.app_hash = AppHash::try_from(vec![9; 32]).unwrap(),
        "the signatures are for another header",
    );
    check(
        |block| {
            let header = &mut block.signed_header.header;
            header.app_hash = AppHash::try_from(vec![9; 32]).unwrap();
            block.signed_header.commit.block_id.hash = header.hash();
        },
        "a signature is wrong",
    );
    let error = primary_says(|block| {
        block.signed_header.header.height = height(21);
        block.signed_header.commit.height = height(21);
    });
    assert!(matches!(error, LightError::Lying { height: 21, .. }), "{error}");
}

#[test]
fn too_few_signatures_are_not_enough() {
    check(|block| forget(block, 4), "");
    check(|block| forget(block, 2), "signed with 20 of 40 power");
    check(|block| block.signed_header.commit.signatures.clear(), "a signature is missing");
    check(|block| block.signed_header.commit.signatures.truncate(3), "doesn't match");
    // Three of four are more than two thirds.
    let plan = Plan::steady();
    let node = Node::new("node", plan.blocks(20));
    node.change(20, |block| forget(block, 1));
    assert!(client(&plan, &[node]).unwrap().verify_to(None, time(30)).is_ok());
}

#[test]
fn one_signature_does_not_count_twice() {
    check(
        |block| {
            let signatures = &mut block.signed_header.commit.signatures;
            let first = signatures[0].clone();
            signatures.iter_mut().for_each(|signature| *signature = first.clone());
        },
        "duplicate",
    );
}

#[test]
fn other_validators_than_the_headers_are_not_believed() {
    let evil = || Set::without_proposer(validators("eve fay gus hal"));
    check(|block| block.validators = evil(), "the validators are not those");
    check(|block| block.next_validators = evil(), "the next validators are not those");
    // Their own header, signed by themselves.
    check(
        |block| {
            let header = &mut block.signed_header.header;
            header.validators_hash = evil().hash();
            header.proposer_address = evil().validators()[0].address;
            block.signed_header.commit =
                sign(&block.signed_header.header, "eve fay gus hal", "eve fay gus hal");
            block.validators = evil();
        },
        // Whatever the client asks for in between is the honest chain's, and does not lead here.
        "",
    );
    // An address is not believed to be a key's.
    check(
        |block| {
            let mut infos = block.validators.validators().clone();
            infos[0].address = infos[1].address;
            block.validators = Set::without_proposer(infos);
        },
        "does not have the address of its key",
    );
}

#[test]
fn a_header_of_another_time_names_the_clock() {
    let plan = Plan::steady();
    let node = Node::new("node", plan.blocks(200));
    let mut client = client(&plan, &[node]).unwrap();
    // Eleven seconds ahead; ten are allowed.
    let error = client.verify_to(None, time(189)).unwrap_err();
    assert_eq!(
        error,
        LightError::FromTheFuture { provider: "node".to_owned(), height: 200, ahead_s: 11 }
    );
    assert!(error.to_string().contains("set the clock"), "{error}");
    assert!(client.verify_to(None, time(191)).is_ok());
}

#[test]
fn an_old_header_as_the_newest_is_called_behind() {
    let plan = Plan::steady();
    let node = Node::new("node", plan.blocks(20));
    let mut client = client(&plan, &[Arc::clone(&node)]).unwrap();
    client.verify_to(None, time(30)).unwrap();
    node.cut(15);
    let error = client.verify_to(None, time(30)).unwrap_err();
    let provider = "node".to_owned();
    assert_eq!(error, LightError::Behind { provider, height: 15, trusted: 20 });
}

#[test]
fn an_old_header_under_a_new_height_is_a_lie() {
    let plan = Plan::steady();
    let node = Node::new("node", plan.blocks(20));
    let mut client = client(&plan, &[Arc::clone(&node)]).unwrap();
    node.change(20, |block| *block = plan.blocks(10).pop().unwrap());
    let error = client.verify_to(Some(height(20)), time(30)).unwrap_err();
    assert!(error.to_string().contains("it sends height 10"), "{error}");
}

#[test]
fn another_chain_is_named() {
    let plan = Plan::steady();
    let other = Plan { chain_id: "light-test-2", ..Plan::steady() };
    let error = client(&other, &[Node::new("node", other.blocks(9))]).err().unwrap();
    assert_eq!(
        error,
        LightError::ChainId {
            provider: "node".to_owned(),
            expected: "light-test-1".to_owned(),
            found: "light-test-2".to_owned(),
        }
    );
    // Also where it shows up later.
    let node = Node::new("node", plan.blocks(9));
    let mut client = client(&plan, &[Arc::clone(&node)]).unwrap();
    node.change(9, |block| *block = other.blocks(9).pop().unwrap());
    let error = client.verify_to(None, time(10)).unwrap_err();
    assert!(matches!(error, LightError::ChainId { .. }), "{error}");
}

/// R111: two thirds of the validators sign two chains; only a witness shows it.
#[test]
fn a_fork_by_two_thirds_is_caught_by_a_witness_and_both_are_named() {
    let plan = Plan::steady();
    let fork = Plan {
        words: BTreeMap::from([(10, "fork")]),
        signers: Some("ann bob cid"),
        ..Plan::steady()
    };
    let alone = client(&plan, &[Node::new("forker", fork.blocks(20))]).unwrap();
    assert_eq!(alone.unheard().len(), 0);
    let nodes = [Node::new("forker", fork.blocks(20)), Node::new("honest", plan.blocks(20))];
    let mut client = client(&plan, &nodes).unwrap();
    let error = client.verify_to(None, time(30)).unwrap_err();
    let LightError::Diverged { height: 20, primary, witness, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((primary.as_str(), witness.as_str()), ("forker", "honest"));
    let sentence = error.to_string();
    assert!(sentence.contains("somebody forks the chain"), "{sentence}");
    assert_eq!(client.newest().height(), height(1), "neither is trusted");
    // Before the fork they agree.
    assert!(client.verify_to(Some(height(9)), time(30)).is_ok());
}

#[test]
fn a_witness_that_lies_is_told_from_a_fork() {
    let plan = Plan::steady();
    let nodes = [Node::new("honest", plan.blocks(20)), Node::new("liar", plan.blocks(20))];
    let mut client = client(&plan, &nodes).unwrap();
    nodes[1].change(20, |block| {
        block.signed_header.header.app_hash = AppHash::try_from(vec![9; 32]).unwrap();
    });
    let error = client.verify_to(None, time(30)).unwrap_err();
    assert!(matches!(&error, LightError::Lying { provider, .. } if provider == "liar"), "{error}");
}

#[test]
fn a_newest_header_that_changes_its_mind_is_judged() {
    let plan = Plan::steady();
    let fork = Plan { words: BTreeMap::from([(20, "fork")]), ..Plan::steady() };
    let node = Node::new("node", plan.blocks(20));
    let mut client = client(&plan, &[Arc::clone(&node)]).unwrap();
    client.verify_to(None, time(30)).unwrap();
    node.change(20, |block| *block = fork.blocks(20).pop().unwrap());
    let error = client.verify_to(None, time(30)).unwrap_err();
    assert!(matches!(error, LightError::Diverged { height: 20, .. }), "{error}");
    node.change(20, |block| forget(block, 3));
    let error = client.verify_to(None, time(30)).unwrap_err();
    assert!(matches!(error, LightError::Lying { height: 20, .. }), "{error}");
}

#[test]
fn a_past_that_does_not_lead_to_the_present_is_a_lie() {
    let plan = Plan::steady();
    let fork = Plan { words: BTreeMap::from([(1, "fork")]), ..Plan::steady() };
    let node = Node::new("node", plan.blocks(20));
    let trust = crate::chain::trust(&plan, 15);
    let providers = crate::chain::providers(&[Arc::clone(&node)]);
    let mut client = light::LightClient::begin(terms(), providers, &trust, time(30)).unwrap();
    assert!(client.verify_to(Some(height(12)), time(30)).is_ok());
    node.change(13, |block| *block = fork.blocks(13).pop().unwrap());
    let error = client.verify_to(Some(height(12)), time(30)).unwrap_err();
    assert!(matches!(error, LightError::Lying { height: 13, .. }), "{error}");
}

#[test]
fn numbers_that_would_overflow_are_refused() {
    let plan = Plan::steady();
    let block = plan.blocks(1).pop().unwrap();
    let parts = PlainBlock::from(&block);
    let of = |parts: PlainBlock| LightBlock::try_from(parts);
    let mut powers = parts.clone();
    for info in &mut powers.validators {
        info.power = i64::MAX.cast_unsigned().try_into().unwrap();
    }
    assert_eq!(of(powers), Err(light::MalformedBlock::Power));
    let mut zero = parts.clone();
    zero.validators[0].power = 0_u32.into();
    assert_eq!(of(zero), Err(light::MalformedBlock::Power));
    let mut nobody = parts.clone();
    nobody.next_validators.clear();
    assert_eq!(of(nobody), Err(light::MalformedBlock::ValidatorCount(0)));
    let mut heights = parts.clone();
    let last = i64::MAX.cast_unsigned();
    heights.signed_header.header.height = height(last);
    heights.signed_header.commit.height = height(last);
    assert_eq!(of(heights), Err(light::MalformedBlock::Height(last)));
    let mut apart = parts;
    apart.signed_header.commit.height = height(2);
    assert_eq!(of(apart), Err(light::MalformedBlock::CommitHeight { header: 1, commit: 2 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens to a block's bytes on the way, what verifies is the block that was signed.
    #[test]
    fn no_flipped_bytes_verify_to_another_header(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..=255), 1..4),
    ) {
        let blocks = Plan::steady().blocks(20);
        let mut bytes = serde_json::to_vec(&PlainBlock::from(&blocks[19])).unwrap();
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            // Digits stay digits, so that most of them get as far as the verifier.
            bytes[at] = match bytes[at] {
                digit @ b'0'..=b'9' => b'0' + (digit - b'0' + flip % 10) % 10,
                letter @ b'A'..=b'F' => b'A' + (letter - b'A' + flip % 6) % 6,
                other => other ^ flip,
            };
        }
        let Ok(plain) = serde_json::from_slice::<PlainBlock>(&bytes) else { return Ok(()) };
        let Ok(block) = LightBlock::try_from(plain) else { return Ok(()) };
        let target = height(20);
        let mut skipping = Skipping::new(terms(), blocks[0].clone(), target);
        let now = time(30).checked_add(Duration::from_secs(1)).unwrap();
        let mut next = Some(block);
        while let Some(needed) = skipping.needs() {
            let honest = || blocks[usize::try_from(needed.value()).unwrap() - 1].clone();
            let block = next.take().unwrap_or_else(honest);
            if skipping.handle(block, "courier", now).is_err() {
                return Ok(());
            }
        }
        let (verified, signed) = (skipping.verified(), &blocks[19]);
        prop_assert_eq!(
            verified.signed_header.header.hash(),
            signed.signed_header.header.hash()
        );
        prop_assert_eq!(&verified.signed_header.header, &signed.signed_header.header);
        prop_assert_eq!(verified.next_validators.hash(), signed.next_validators.hash());
    }
}
