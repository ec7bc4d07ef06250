//! The genesis of a staked chain, with every fault at once; a state that goes on as another chain.

use std::collections::BTreeSet;

use chain_types::{Balance, ChannelId, LaneKey, Params, Payload, StateKey, StreamId, hex};
use consensus_abci::{
    app::{App, AppState, GenesisAccount, GenesisRecord},
    application::Application,
};

use crate::{staked::*, world::*};

/// What InitChain says about it.
fn refusal(state: &AppState, initial_height: i64) -> String {
    let dir = Dir::new();
    let app = App::open(dir.path()).unwrap();
    let error = app.init_chain(init(state, initial_height)).unwrap_err().to_string();
    assert!(app.snapshot().head().is_none(), "nothing was written");
    error
}

#[track_caller]
fn check(state: &AppState, parts: &[&str]) {
    let faults = state.check(CHAIN_ID);
    let told = refusal(state, 1);
    for part in parts {
        assert!(faults.iter().any(|fault| fault.contains(part)), "{part}: {faults:#?}");
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(faults.len(), parts.len(), "{faults:#?}");
}

/// Genesis with errors: all listed at once.
#[test]
fn every_fault_of_a_genesis_is_told_at_once() {
    let mut state = staked_state(Params::for_tests(), &FIRSTS);
    state.accounts.push(state.accounts[0]);
    state.accounts.push(GenesisAccount { account: id("poor"), balance: Balance::ZERO });
    state.params.unbonding_ms = 0;
    let of = |payload: Payload| signed_for_genesis("other", payload, |_| {});
    let mut forged = create("other", STAKE, 0);
    if let Payload::CreateValidator { possession, .. } = &mut forged {
        possession[0] ^= 1;
    }
    let mut nameless = create("other", STAKE, 0);
    if let Payload::CreateValidator { moniker, .. } = &mut nameless {
        moniker.clear();
    }
    let mut elsewhere = hex::bytes(&gentx("other", STAKE, 0)).unwrap();
    *elsewhere.last_mut().unwrap() ^= 1;
    let mut copied = create("v1", STAKE, 0);
    if let Payload::CreateValidator { consensus_key, possession, .. } = &mut copied {
        use ed25519_dalek::Signer;
        let proved = chain_types::staking::possession_preimage(&id("other"), CHAIN_ID);
        *consensus_key = (&engine_key("v1")).into();
        *possession = engine_key("v1").sign(proved.as_slice()).to_bytes();
    }
    state.gentxs.extend([
        "zz".to_owned(),
        "00".to_owned(),
        of(delegate("v1", STAKE)),
        signed_for_genesis("other", create("other", STAKE, 0), |body| body.nonce = 1),
        hex::text(&elsewhere),
        of(forged),
        gentx("other", STAKE, 5_001),
        gentx("other", SUT - 1, 0),
        gentx("other", BEGIN + 1, 0),
        gentx("nobody", STAKE, 0),
        of(nameless),
        gentx("v2", STAKE, 0),
        of(copied),
    ]);
    check(
        &state,
        &[
            "accounts[9] and accounts[0] are both",
            "has nothing",
            "unbonding_ms",
            "gentxs[3]: it is no hexadecimal",
            "gentxs[4]: the transaction's body cannot be read",
            "gentxs[5]: it is a delegate",
            "gentxs[6]: its nonce is 0",
            "gentxs[7]: its operator did not sign",
            "gentxs[8]: the consensus key did not sign",
            "gentxs[9]: the commission is above its own greatest",
            "gentxs[10]: it stakes 999999999 units",
            "gentxs[11]: it stakes 1000000000001 units of",
            "gentxs[12]: its operator",
            "gentxs[13]: a validator's name",
            "gentxs[14] and gentxs[1] have one operator",
            "gentxs[14] and gentxs[1] have one consensus key",
            "gentxs[15] and gentxs[0] have one consensus key",
        ],
    );
}

#[test]
fn the_power_of_a_genesis_fits_into_the_engine() {
    let mut params = Params::for_tests();
    params.power_unit = sut(1);
    let mut state = staked_state(params, &FIRSTS);
    state.accounts.push(GenesisAccount { account: id("rich"), balance: sut(1 << 61) });
    check(&state, &["params.power_unit is too small"]);
    let mut params = Params::for_tests();
    params.validators_max = 1;
    check(&staked_state(params, &FIRSTS), &["there are 3 gentxs, params.validators_max is 1"]);
    let later = refusal(&staked_state(Params::for_tests(), &FIRSTS), 2);
    assert!(later.contains("only an exported state begins later"), "{later}");
}

/// Everything that a chain can have in its state.
fn lived() -> World {
    let mut world = World::staked();
    world.done("viewer", delegate("v1", 50 * SUT));
    world.done("viewer", redelegate("v1", "v2", 10 * SUT));
    world.done("viewer", undelegate("v1", 5 * SUT));
    world.done("relay", delegate("v3", 70 * SUT));
    world.relays(&["relay", "origin"], "relay's key");
    world.signed_twice("v3", world.height);
    world.engine.absent.insert(address("v1"));
    world.skip(4);
    world.engine.absent.clear();
    let params = Box::new(Params { voting_ms: 90_000, ..Params::for_tests() });
    let (title, text) = ("Time".to_owned(), String::new());
    world.done("v2", Payload::Propose { title, text, params });
    world.done("v2", Payload::Vote { proposal: 1, approve: true });
    world.skip(2);
    world
}

fn exported(world: &World) -> Vec<GenesisRecord> {
    let records = content(&world.app.snapshot()).into_iter();
    records
        .map(|(key, value)| GenesisRecord { key: hex::text(&key), value: hex::text(&value) })
        .collect()
}

/// R3: the same records give the same hash, and the same blocks on them too.
#[test]
fn an_exported_state_goes_on_elsewhere_as_if_nothing_had_happened() {
    let mut world = lived();
    let state = AppState { records: exported(&world), ..AppState::default() };
    assert_eq!(state.check(CHAIN_ID), Vec::<String>::new());
    let request = init(&state, i64::try_from(world.height + 1).unwrap());
    let mut other = World::begin_staked(request.clone());
    other.time_ms = world.time_ms;
    let (here, there) = (world.app.snapshot(), other.app.snapshot());
    assert_eq!(content(&there), content(&here));
    assert_eq!(there.head().unwrap().app_hash, here.head().unwrap().app_hash);
    assert_eq!(there.height(), world.height);
    assert_eq!(other.engine.sets[&(world.height + 1)], world.engine.sets[&(world.height + 1)]);
    for path in ["/validators", "/supply", "/proposals"] {
        assert_eq!(other.answer(path), world.answer(path));
    }
    let delegators = format!("/delegators/{}", id("v2"));
    assert_eq!(other.answer(&delegators), world.answer(&delegators), "indices are made anew");
    // Asked again before the first block, as an engine that crashed does.
    let again = other.app.init_chain(request).unwrap().app_hash;
    assert_eq!(again, there.head().unwrap().app_hash[..]);
    for payload in [withdraw("v2"), delegate("v2", SUT), undelegate("v2", SUT)] {
        let bytes = world.sign("viewer", payload);
        let (one, two) = (world.block(vec![bytes.clone()]), other.block(vec![bytes]));
        assert_eq!(one.tx_results[0].code, 0, "{}", one.tx_results[0].log);
        assert_eq!(one, two);
    }
    world.next_at(world.time_ms + 30_000);
    other.next_at(other.time_ms + 30_000);
    let bytes = world.sign("viewer", withdraw("v1"));
    assert_eq!(world.block(vec![bytes.clone()]), other.block(vec![bytes]));
}

/// One bad record of every kind, and each is told with its place and its key.
#[test]
fn a_record_of_any_kind_that_cannot_be_read_is_named() {
    let mut records = exported(&lived());
    let (account, stream, channel) = (id("viewer"), StreamId([1; 32]), ChannelId([2; 32]));
    let lane = LaneKey { channel, payee: account, stream, lane: 1 };
    let more = [
        StateKey::Stream(stream),
        StateKey::Access(stream, account),
        StateKey::Channel(channel),
        StateKey::Lane(lane),
        StateKey::Evidence([3; 32]),
        StateKey::Upgrade,
        StateKey::UpgradesDone,
    ];
    records.extend(
        more.map(|key| GenesisRecord { key: hex::text(&key.to_bytes()), value: "0203".to_owned() }),
    );
    for record in &mut records {
        record.value.truncate(record.value.len() - 2);
    }
    let state = AppState { records, ..AppState::default() };
    let faults = state.check(CHAIN_ID);
    for (at, record) in state.records.iter().enumerate() {
        let begin = format!("records[{at}] ({}): the record ", record.key);
        let is_told = |fault: &&String| fault.starts_with(&begin) && fault.contains("cannot be");
        assert_eq!(faults.iter().filter(is_told).count(), 1, "{begin}: {faults:#?}");
    }
    assert_eq!(faults.len(), state.records.len(), "{faults:#?}");
    let kinds: BTreeSet<_> = state
        .records
        .iter()
        .map(|record| StateKey::parse(&hex::bytes(&record.key).unwrap()).unwrap())
        .map(|key| std::mem::discriminant(&key))
        .map(|kind| format!("{kind:?}"))
        .collect();
    assert_eq!(kinds.len(), 22, "every kind was spoiled");
    let told = refusal(&state, 1);
    assert!(faults.iter().all(|fault| told.contains(fault)));
}

#[test]
fn records_that_are_no_state_are_refused_with_every_fault() {
    let records = exported(&lived());
    let state = |change: &dyn Fn(&mut AppState)| {
        let mut state = AppState { records: records.clone(), ..AppState::default() };
        change(&mut state);
        state
    };
    let is = |record: &GenesisRecord, key: StateKey| record.key == hex::text(&key.to_bytes());
    check(
        &state(&|state| {
            let none = GenesisRecord { key: "00".to_owned(), value: String::new() };
            let odd = GenesisRecord { value: "0".to_owned(), ..state.records[0].clone() };
            let account = GenesisAccount { account: id("viewer"), balance: sut(1) };
            state.accounts.push(account);
            state.records.retain(|record| !is(record, StateKey::Params));
            state.records.extend([none, odd]);
        }),
        &[
            "records stand alone",
            "its key is none",
            "its key stands there twice",
            "its value is no hexadecimal text",
            "the record Params is missing",
        ],
    );
    // Parameters that nobody could have decided.
    check(
        &state(&|state| {
            let params = Params { notice_blocks: 0, ..Params::for_tests() };
            let here = state.records.iter_mut().find(|record| is(record, StateKey::Params));
            here.unwrap().value = hex::text(&borsh::to_vec(&params).unwrap());
        }),
        &["params.notice_blocks is zero"],
    );
    check(
        &state(&|state| {
            let account = StateKey::Account(id("viewer"));
            state.records.retain(|record| !is(record, account));
        }),
        &["units, 9000000000000 were there in the beginning"],
    );
}
