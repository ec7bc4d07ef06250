//! A thousand random blocks and the hash in which they end: the same from every build.

use std::collections::BTreeMap;

use bytes::Bytes;
use chain_types::{ChannelId, Params, Payload, StreamId, hex, staking::Upgrade};
use sha2::{Digest, Sha256};

use crate::{
    money::{Chaos, Dice},
    staked::*,
    world::*,
};

const BLOCKS: u64 = 1000;
/// App hash after the last block. Another one means that the rules changed: nodes with the old
/// program and with the new one would part, so the change is an upgrade, and this constant is new.
const GOLDEN: &str = "a16bca54a92cf1b4765c1e97fdd0a506ffbf257619672228c223b71570d090ee";
/// Hash over all that every block answered: app hashes, codes and data of transactions, powers.
const ANSWERS: &str = "cbaca363303d35f89dba9199f58198b2eba9f89459f0d3a99d9f3f7a67853880";

const OPERATORS: [&str; 5] = ["v1", "v2", "v3", "other", "relay"];
const PEOPLE: [&str; 9] =
    ["viewer", "creator", "origin", "submitter", "other", "relay", "v1", "v2", "v3"];

/// Who does what with stake, or decides what, next.
fn stake(dice: &mut Dice, world: &World) -> (&'static str, Payload) {
    let (who, operator) = (dice.one_of(&PEOPLE), dice.one_of(&OPERATORS));
    let amount = SUT + dice.below(60 * SUT);
    match dice.below(60) {
        0..=8 => (who, delegate(operator, amount)),
        9..=15 => (who, undelegate(operator, amount / 2)),
        16..=21 => (who, redelegate(operator, dice.one_of(&OPERATORS), amount / 2)),
        22..=27 => (who, withdraw(operator)),
        28..=31 => (operator, Payload::Unjail),
        32..=33 => {
            let creator = OPERATORS[3 + dice.below(2) as usize];
            (creator, create(creator, amount, dice.below(5_000) as u16))
        }
        34 => {
            let commission_bps = Some(dice.below(5_000) as u16);
            (operator, Payload::EditValidator { moniker: None, website: None, commission_bps })
        }
        35 => {
            let mut params = world.params();
            params.signed_window_blocks = 15 + dice.below(10) as u32;
            params.fee_base = sut(9_000 + dice.below(2_000));
            let (title, text) = ("Other numbers".to_owned(), String::new());
            (operator, Payload::Propose { title, text, params: Box::new(params) })
        }
        36 => {
            let (name, info) = ("rehearsal".to_owned(), String::new());
            let height = world.height + 30 + dice.below(20);
            (operator, Payload::ScheduleUpgrade { upgrade: Upgrade { name, height, info } })
        }
        37 => (dice.one_of(&["relay", "origin", "other"]), Payload::UnbondRelay),
        _ => {
            let newest = world.record(chain_types::StateKey::Proposals).unwrap_or(0u64);
            let proposal = newest.saturating_sub(dice.below(2));
            (operator, Payload::Vote { proposal, approve: dice.below(5) > 0 })
        }
    }
}

/// What the engine brings: somebody is away, somebody signed twice.
fn disturb(dice: &mut Dice, world: &mut World) {
    let (operator, height) = (dice.one_of(&OPERATORS), world.height);
    if dice.below(25) == 0 && !world.engine.absent.remove(&address(operator)) {
        world.engine.absent.insert(address(operator));
    }
    // Not all of the first three: somebody must go on.
    let infraction = height.saturating_sub(1 + dice.below(6)).max(1);
    let signed = world.engine.sets.get(&infraction);
    let has_signed = signed.is_some_and(|set| set.contains_key(&address(operator)));
    if dice.below(120) == 0 && operator != "v3" && height > 1 && has_signed {
        world.signed_twice(operator, infraction);
    }
    world.step_ms = match dice.below(12) {
        0 => 1 + dice.below(20_000),
        1 => 1,
        2 if dice.below(8) == 0 => 24 * 3_600_000,
        _ => 1000,
    };
}

/// R3: the same blocks, made from one seed, end in the same app hash in every build of the program:
/// release and dev profile, and whatever a process's hash maps are seeded with.
#[test]
fn a_thousand_random_blocks_end_in_the_golden_hash() {
    let mut world = World::staked_with(
        Params { validators_max: 4, terms_grace_blocks: 30, ..Params::for_tests() },
        &FIRSTS,
    );
    let mut chaos = Chaos::new(1907);
    let mut answers = Sha256::new();
    let mut kinds: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let mut events: BTreeMap<String, u32> = BTreeMap::new();
    let mut last = Bytes::new();
    while world.height < BLOCKS {
        disturb(&mut chaos.dice, &mut world);
        let mut nonces: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut txs, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..chaos.dice.below(8) {
            let (who, mut payload) = match chaos.dice.below(2) {
                0 => stake(&mut chaos.dice, &world),
                _ => chaos.next(&world),
            };
            if let Payload::BuyAccess { max_price, .. } = &mut payload {
                *max_price = sut(BEGIN); // Seldom enough, elsewhere.
            }
            let mut body = world.body(who, payload);
            let ahead = nonces.entry(who).or_default();
            body.nonce += *ahead;
            *ahead += 1;
            sent.push((body.payload.kind(), who, body.nonce));
            txs.push(Bytes::from(body.sign(&key(who), CHAIN_ID).encode()));
        }
        let response = world.quiet_block(txs);
        for ((kind, who, nonce), result) in sent.into_iter().zip(&response.tx_results) {
            let (done, refused) = kinds.entry(kind).or_default();
            *if result.code == 0 { done } else { refused } += 1;
            match kind {
                "register_stream" if result.code == 0 => {
                    chaos.streams.push((StreamId::of(&id(who), nonce), who));
                }
                "open_channel" if result.code == 0 => {
                    chaos.channels.push((ChannelId::of(&id(who), nonce), who));
                }
                _ => {}
            }
            answers.update(result.code.to_be_bytes());
            answers.update(&result.data);
        }
        let told = response.events.iter();
        told.for_each(|event| *events.entry(event.r#type.clone()).or_default() += 1);
        for update in &response.validator_updates {
            let (address, power) = Engine::address_of(update);
            answers.update(address);
            answers.update(power.to_be_bytes());
        }
        answers.update(&response.app_hash);
        last = response.app_hash;
        if world.height.is_multiple_of(100) {
            assert!(world.app.snapshot().audit().unwrap().is_balanced());
            stake_is_sound(&world);
        }
    }
    println!("{kinds:?}\n{events:?}");
    for kind in ["validator_jailed", "validator_tombstoned", "validator_power", "upgraded"] {
        assert!(events.contains_key(kind), "{kind} happened");
    }
    for (kind, (done, _)) in &kinds {
        assert!(*done > 0, "a {kind} was done");
    }
    assert_eq!(kinds.len(), 30, "every kind was tried");
    let found = (hex::text(&last), hex::text(&answers.finalize()));
    println!("golden: {BLOCKS} blocks end in {}, their answers in {}", found.0, found.1);
    assert_eq!(found, (GOLDEN.to_owned(), ANSWERS.to_owned()));
}
