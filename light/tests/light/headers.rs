//! What an honest chain gives: skipping, bisection, going back, beginning, going on.

use std::sync::{Arc, atomic::Ordering};

use light::{LightBlock, LightClient, LightError, PlainBlock, Skipping, Trust};

use crate::chain::{
    CHAIN, FORTNIGHT, Node, Plan, client, height, providers, terms, time, trust, validators,
};

fn hash(block: &LightBlock) -> tendermint::Hash {
    block.signed_header.header.hash()
}

#[test]
fn a_steady_chain_is_followed_in_one_step() {
    let plan = Plan::steady();
    let blocks = plan.blocks(500);
    let node = Node::new("node", blocks.clone());
    let mut client = client(&plan, &[Arc::clone(&node)]).unwrap();
    let given = node.given.load(Ordering::SeqCst);
    let newest = client.verify_to(None, time(600)).unwrap();
    assert_eq!(hash(&newest), hash(&blocks[499]));
    assert_eq!(node.given.load(Ordering::SeqCst), given + 1);
    // Nothing new, nothing to verify.
    assert_eq!(client.verify_to(Some(height(500)), time(600)).unwrap(), newest);
}

#[test]
fn validators_that_change_are_followed_through_the_middle() {
    let mut plan = Plan::steady();
    plan.sets.insert(100, "ann bob eve fay");
    plan.sets.insert(200, "gus hal eve fay");
    plan.sets.insert(300, "gus hal ian joy");
    plan.sets.insert(400, "kim lea ian joy");
    let blocks = plan.blocks(450);
    let node = Node::new("node", blocks.clone());
    let mut client = client(&plan, &[Arc::clone(&node)]).unwrap();
    let newest = client.verify_to(None, time(500)).unwrap();
    assert_eq!(hash(&newest), hash(&blocks[449]));
    let given = node.given.load(Ordering::SeqCst);
    assert!((4..40).contains(&given), "{given} blocks of 450");
}

#[test]
fn all_validators_may_change_at_once() {
    let mut plan = Plan::steady();
    plan.sets.insert(50, "eve fay gus hal");
    let blocks = plan.blocks(80);
    let mut client = client(&plan, &[Node::new("node", blocks.clone())]).unwrap();
    assert_eq!(hash(&client.verify_to(None, time(90)).unwrap()), hash(&blocks[79]));
}

#[test]
fn a_height_before_the_newest_is_verified_too() {
    let plan = Plan::steady();
    let blocks = plan.blocks(60);
    let node = Node::new("node", blocks.clone());
    let trust = trust(&plan, 40);
    let mut client = LightClient::begin(terms(), providers(&[node]), &trust, time(70)).unwrap();
    client.verify_to(None, time(70)).unwrap();
    for number in [50, 40, 30] {
        let block = client.verify_to(Some(height(number)), time(70)).unwrap();
        assert_eq!(hash(&block), hash(&blocks[usize::try_from(number).unwrap() - 1]));
    }
    assert_eq!(client.newest().height(), height(60), "going back forgets nothing");
}

#[test]
fn blocks_can_be_handed_in_one_by_one_without_a_provider() {
    let mut plan = Plan::steady();
    plan.sets.insert(10, "ann eve fay gus");
    plan.sets.insert(20, "hal eve ian joy");
    let blocks = plan.blocks(30);
    let mut skipping = Skipping::new(terms(), blocks[0].clone(), height(30));
    while let Some(needed) = skipping.needs() {
        let block = blocks[usize::try_from(needed.value()).unwrap() - 1].clone();
        skipping.handle(block, "courier", time(40)).unwrap();
    }
    assert_eq!(hash(skipping.verified()), hash(&blocks[29]));
}

#[test]
fn trust_begins_with_a_header_a_genesis_file_or_two_that_agree() {
    let plan = Plan::steady();
    let nodes = [Node::new("one", plan.blocks(20)), Node::new("two", plan.blocks(20))];
    let both = || providers(&nodes);
    let one = || providers(&nodes[..1]);
    let genesis =
        |names| Trust::Genesis { initial_height: height(1), validators: validators(names) };
    let begin = |providers, trust: &Trust| LightClient::begin(terms(), providers, trust, time(30));

    assert_eq!(begin(one(), &trust(&plan, 7)).unwrap().newest().height(), height(7));
    assert_eq!(begin(one(), &genesis("dan cid bob ann")).unwrap().newest().height(), height(1));
    assert_eq!(begin(both(), &Trust::FirstUse).unwrap().newest().height(), height(20));

    let other = Trust::Header { height: height(7), hash: hash(&plan.blocks(8)[7]) };
    let error = begin(one(), &other).err().unwrap();
    assert!(matches!(error, LightError::OtherHeader { height: 7, .. }), "{error}");
    let error = begin(one(), &genesis("ann bob cid eve")).err().unwrap();
    assert!(matches!(error, LightError::OtherGenesis { .. }), "{error}");
    let error = begin(one(), &Trust::FirstUse).err().unwrap();
    assert!(matches!(error, LightError::Unconfirmed { height: 20, .. }), "{error}");
    nodes[1].is_gone.store(true, Ordering::SeqCst);
    let error = begin(both(), &Trust::FirstUse).err().unwrap();
    assert!(matches!(error, LightError::Unconfirmed { .. }), "{error}");
    // A header that somebody vouched for needs no second node.
    assert_eq!(begin(both(), &trust(&plan, 7)).unwrap().unheard(), ["two"]);
}

#[test]
fn what_was_verified_is_kept_over_a_restart() {
    let plan = Plan::steady();
    let node = Node::new("node", plan.blocks(90));
    let mut client = client(&plan, &[Arc::clone(&node)]).unwrap();
    for number in [10, 20, 30, 40, 50, 60, 70, 80, 90] {
        client.verify_to(Some(height(number)), time(100)).unwrap();
    }
    let text = serde_json::to_string(&client.keep()).unwrap();
    let kept: Vec<PlainBlock> = serde_json::from_str(&text).unwrap();
    assert_eq!(kept.len(), light::TRUSTED_MAX);
    let resumed = LightClient::resume(terms(), providers(&[node]), kept.clone()).unwrap();
    assert_eq!(resumed.newest(), client.newest());
    // Another chain's are none.
    let mut other = terms();
    other.chain_id = "other".parse().unwrap();
    assert!(LightClient::resume(other, providers(&[Node::new("x", Vec::new())]), kept).is_none());
}

#[test]
fn trust_that_is_too_old_asks_for_a_newer_header() {
    let plan = Plan::steady();
    let node = Node::new("node", plan.blocks(20));
    let mut client = client(&plan, &[node]).unwrap();
    let late = time(2).checked_add(FORTNIGHT).unwrap();
    let error = client.verify_to(None, late).unwrap_err();
    let age_s = FORTNIGHT.as_secs() + 1;
    let period_s = FORTNIGHT.as_secs();
    assert_eq!(error, LightError::Expired { height: 1, age_s, period_s });
    assert!(error.to_string().contains("give the height and hash of a newer one"));
    let error = client_at(late).err().unwrap();
    assert!(matches!(error, LightError::Expired { .. }), "{error}");
}

fn client_at(now: tendermint::Time) -> Result<LightClient, LightError> {
    let plan = Plan::steady();
    let node = Node::new("node", plan.blocks(20));
    LightClient::begin(terms(), providers(&[node]), &trust(&plan, 1), now)
}

#[test]
fn a_witness_that_is_gone_or_behind_is_named_and_does_not_stop_anything() {
    let plan = Plan::steady();
    let nodes = ["one", "two", "three"].map(|name| Node::new(name, plan.blocks(20)));
    let mut client = client(&plan, &nodes).unwrap();
    nodes[1].is_gone.store(true, Ordering::SeqCst);
    nodes[2].cut(10);
    client.verify_to(None, time(30)).unwrap();
    assert_eq!(client.unheard(), ["two", "three"]);
    nodes[0].is_gone.store(true, Ordering::SeqCst);
    let error = client.verify_to(None, time(30)).unwrap_err();
    assert_eq!(error, LightError::Unanswered("one is gone".to_owned()));
    assert_eq!(terms().chain_id.as_str(), CHAIN);
}
