//! A relay's view of a chain behind two endpoints, held against the application itself.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chain_types::{
    AccountId, BlockDelta, ChainEvent, Payload, RelayFacts, ReserveRequest, StreamId, follow,
};
use serde_json::{Value, json};
use settlement::{Chain, Snapshot, SubmitError};
use tempfile::TempDir;

use super::{NodeChain, RemoteChain, records::Mirror};
use crate::chain::{genesis, transact};

mod world;

use world::{World, key};

/// Far more than anything here takes.
const WAIT_MAX: Duration = Duration::from_secs(20);

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A remote chain that follows `world` and what it was at first.
struct Relay {
    chain: RemoteChain,
    home: TempDir,
    snapshot: Snapshot,
    deltas: crossbeam_channel::Receiver<std::sync::Arc<BlockDelta>>,
}

impl Relay {
    fn start(world: &World) -> Self {
        let home = TempDir::new().unwrap();
        let chain = RemoteChain::open(home.path(), &world.urls(), Some(world.trust())).unwrap();
        let (snapshot, deltas) = until("the first reading", || chain.follow().ok());
        Self { chain, home, snapshot, deltas }
    }

    /// Waits for the delta of `height` and holds all up to it against the application's.
    fn check_to(&self, world: &World, height: u64) {
        let first = self.snapshot.height + 1;
        let own = world.deltas();
        let mut next = None;
        while next.is_none_or(|next| next <= height) {
            let delta = self.deltas.recv_timeout(WAIT_MAX).expect("the next block");
            if let Some(next) = next {
                assert_eq!(delta.height, next, "no gap");
            }
            assert!(delta.height >= first);
            assert_eq!(*delta, of_money(&own[&delta.height]), "height {}", delta.height);
            next = Some(delta.height + 1);
        }
    }
}

/// What MONEY sees of a block of the application.
fn of_money(delta: &BlockDelta) -> BlockDelta {
    let is_followed = |change: &&_| world::key_of(change).is_some();
    let is_read = |event: &&ChainEvent| event.subject().is_some();
    BlockDelta {
        changes: delta.changes.iter().filter(is_followed).cloned().collect(),
        events: delta.events.iter().filter(is_read).cloned().collect(),
        ..delta.clone()
    }
}

/// All records at a height, as the application's own blocks made them.
fn own_snapshot(world: &World, height: u64) -> Snapshot {
    let deltas = world.deltas();
    let mut mirror = Mirror::new(height, deltas[&height].time_ms, Vec::new());
    // The genesis state is no block's.
    let (key, params) = world::params(world.app.snapshot().params().unwrap());
    mirror.put(key, params);
    for delta in deltas.range(..=height).map(|(_, delta)| delta) {
        for change in &delta.changes {
            if let Some(key) = world::key_of(change) {
                mirror.put(key, change.clone());
            }
        }
    }
    mirror.snapshot()
}

/// A stream, its viewers, a channel, a relay: something in every table.
fn live(world: &World) -> StreamId {
    world.act("creator", genesis::demo_stream());
    let stream = StreamId::of(&AccountId::from(&key("creator")), 0);
    world.act("creator", grant(stream, "ann"));
    let reserve =
        ReserveRequest { payee: id("relay"), amount: world::sut(1_000), until_height: 100_000 };
    let open = Payload::OpenChannel {
        deposit: world::sut(1_000_000_000),
        voucher_key: id("voucher"),
        expires_height: 1_000_000,
        reserves: vec![reserve],
    };
    world.act("viewer", open);
    let facts = RelayFacts {
        relay_key: id("relay"),
        endpoint: "http://127.0.0.1:1".to_owned(),
        region: String::new(),
        wholesale_per_gb: world::sut(0),
        min_share_bps: 0,
    };
    world.act("relay", Payload::RegisterRelay { relay: facts, bond: world::sut(0) });
    stream
}

/// Somebody gets access, the epoch changes, somebody loses it; the last height.
fn change(world: &World, stream: StreamId) -> u64 {
    world.act("creator", grant(stream, "bob"));
    world.act("creator", Payload::BumpRevocation { stream });
    world.act("creator", Payload::RevokeAccess { stream, viewer: id("ann") })
}

fn grant(stream: StreamId, viewer: &str) -> Payload {
    let (viewer, valid_until) = (id(viewer), u64::MAX);
    Payload::GrantAccess { stream, viewer, valid_until, payment_status: 1, max_layer: 255 }
}

fn id(name: &str) -> AccountId {
    AccountId::from(&key(name))
}

#[test]
fn a_chain_from_afar_is_the_chain_itself() {
    let world = World::start(2);
    let stream = live(&world);
    let relay = Relay::start(&world);
    assert_eq!(relay.snapshot, own_snapshot(&world, relay.snapshot.height));
    let last = change(&world, stream);
    relay.check_to(&world, last);
    assert_eq!(relay.chain.lies(), 0);
    assert!(relay.chain.head().height >= last);
    assert_eq!(relay.chain.params().unwrap(), world.app.snapshot().params().unwrap());
    assert_eq!(relay.chain.stream(&stream).unwrap(), world.app.snapshot().stream(&stream).unwrap());
    assert!(relay.chain.relay(&id("relay")).unwrap().is_some());
    assert_eq!(relay.chain.relay(&id("ann")).unwrap(), None);
    assert_eq!(relay.chain.is_stale(), None);
}

#[test]
fn transactions_go_out_and_are_confirmed_by_the_blocks() {
    let world = World::start(2);
    let relay = Relay::start(&world);
    let payload = Payload::Transfer { to: id("ann"), amount: world::sut(5_000_000) };
    transact(&relay.chain, &key("viewer"), payload.clone()).unwrap();
    // At the height of the records, proved.
    let account = relay.chain.account(&id("viewer")).unwrap();
    assert_eq!(account, world.app.snapshot().account(&id("viewer")).unwrap().unwrap());
    assert_eq!(account.nonce, 1);
    assert_eq!(relay.chain.account(&id("nobody")).unwrap(), Default::default());
    let again = transact(&relay.chain, &key("viewer"), payload);
    assert!(again.is_ok(), "{again:?}");

    let refused = relay.chain.submit(b"no transaction".to_vec());
    assert!(matches!(refused, Err(SubmitError::Refused { .. })), "{refused:?}");
    let bytes = world.sign("viewer", Payload::Transfer { to: id("bob"), amount: world::sut(1) });
    assert_eq!(relay.chain.submit(bytes.clone()), Ok(()));
    assert_eq!(relay.chain.submit(bytes), Err(SubmitError::Known));
}

#[test]
fn the_loss_of_endpoints_is_made_up_within_a_second_of_their_return() {
    let mut world = World::start(2);
    let stream = live(&world);
    let relay = Relay::start(&world);
    world.doors[0].close();
    let height = world.act("creator", grant(stream, "bob"));
    relay.check_to(&world, height);

    world.doors[1].close();
    let note = until("the notice", || relay.chain.advice());
    assert!(note.contains("none of the chain's endpoints can be asked"), "{note}");
    assert!(note.contains(&world.urls()[0]) && note.contains(&world.urls()[1]), "{note}");
    let unsent = relay.chain.submit(vec![1]);
    assert!(matches!(unsent, Err(SubmitError::Unavailable(_))), "{unsent:?}");
    let height = world.act("creator", Payload::RevokeAccess { stream, viewer: id("ann") });
    let back = Instant::now();
    world.doors[0].open();
    relay.check_to(&world, height);
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    until("the good news", || relay.chain.advice().is_none().then_some(()));
}

#[test]
fn an_outage_of_many_blocks_ends_with_all_records_anew() {
    let mut world = World::start(2);
    let stream = live(&world);
    let relay = Relay::start(&world);
    world.doors[0].close();
    world.doors[1].close();
    world.wait_for_blocks(100);
    world.act("creator", Payload::RevokeAccess { stream, viewer: id("ann") });
    world.doors[1].open();
    // Whoever followed begins again.
    until("the end of the deltas", || match relay.deltas.recv_timeout(WAIT_MAX) {
        Ok(_) => None,
        Err(error) => error.is_disconnected().then_some(()),
    });
    let (snapshot, deltas) = until("the new reading", || relay.chain.follow().ok());
    assert!(snapshot.height > relay.snapshot.height + 64);
    assert_eq!(snapshot, own_snapshot(&world, snapshot.height));
    assert_eq!(deltas.recv_timeout(WAIT_MAX).unwrap().height, snapshot.height + 1);
}

#[test]
fn trusted_headers_outlive_a_restart_and_need_nobody() {
    let mut world = World::start(2);
    let Relay { chain, home, .. } = Relay::start(&world);
    drop(chain);
    world.doors[0].close();
    world.doors[1].close();
    let chain = RemoteChain::open(home.path(), &world.urls(), None).unwrap();
    assert_eq!(chain.chain_id(), world::CHAIN_ID);
    let error = chain.follow().err().unwrap();
    assert!(error.to_string().contains("cannot be read"), "{error}");
    assert_eq!(chain.head(), Default::default());
    assert!(chain.is_stale().is_some());
    world.doors[1].open();
    until("the first reading", || chain.follow().ok());
}

#[test]
fn what_cannot_be_trusted_is_refused_in_words() {
    let world = World::start(2);
    let urls = world.urls();
    let check = |urls: &[String], trust, genesis: Option<Value>, words: &str| {
        let home = TempDir::new().unwrap();
        if let Some(genesis) = genesis {
            std::fs::create_dir(home.path().join("config")).unwrap();
            let text = genesis.to_string();
            std::fs::write(home.path().join("config/genesis.json"), text).unwrap();
        }
        let error = RemoteChain::open(home.path(), urls, trust).err().expect("refused");
        let sentence = format!("{error:#}");
        assert!(sentence.contains(words), "{sentence}");
    };
    check(&[urls[0].clone(), urls[0].clone()], None, None, "two different --chain-rpc");
    check(&[], None, None, "two different --chain-rpc");
    check(&["nonsense".to_owned(), urls[0].clone()], None, None, "http://");
    let mut other = world.trust();
    other.hash[0] ^= 1;
    check(&urls, Some(other), None, "is to be trusted");
    check(&urls, None, Some(json!({})), "is no genesis file");
    let mut genesis = world.genesis();
    genesis["chain_id"] = json!("another-chain");
    check(&urls, None, Some(genesis), "take an endpoint of another-chain");
    let mut genesis = world.genesis();
    genesis["validators"][0]["power"] = json!("11");
    check(&urls, None, Some(genesis), "is not signed by the validators of the genesis file");
    // The chain's own, and two that agree.
    let home = TempDir::new().unwrap();
    std::fs::create_dir(home.path().join("config")).unwrap();
    std::fs::write(home.path().join("config/genesis.json"), world.genesis().to_string()).unwrap();
    assert!(RemoteChain::open(home.path(), &urls, None).is_ok());
    assert!(RemoteChain::open(TempDir::new().unwrap().path(), &urls, None).is_ok());
}

/// What a lie does to an answer: method, parameters, result.
type Lie = fn(&str, &Value, &mut Value);

fn flip_app_hash(method: &str, _: &Value, result: &mut Value) {
    if method == "commit" {
        let hash = &mut result["signed_header"]["header"]["app_hash"];
        let mut text = hash.as_str().unwrap().to_owned();
        let first = if text.starts_with('0') { "1" } else { "0" };
        text.replace_range(..1, first);
        *hash = text.into();
    }
}

fn flip_signature(method: &str, _: &Value, result: &mut Value) {
    if method == "commit" {
        let signature = &mut result["signed_header"]["commit"]["signatures"][0]["signature"];
        let mut bytes = BASE64.decode(signature.as_str().unwrap()).unwrap();
        bytes[3] ^= 1;
        *signature = BASE64.encode(bytes).into();
    }
}

fn is_query(method: &str, params: &Value, path: &str) -> bool {
    method == "abci_query" && params["path"] == path
}

fn flip_value(method: &str, params: &Value, result: &mut Value) {
    if is_query(method, params, follow::VALUES_PATH) {
        let value = &mut result["response"]["value"];
        let mut bytes = BASE64.decode(value.as_str().unwrap_or_default()).unwrap();
        if bytes.len() > 10 {
            *bytes.last_mut().unwrap() ^= 1;
            *value = BASE64.encode(bytes).into();
        }
    }
}

fn say_nothing_is_there(method: &str, params: &Value, result: &mut Value) {
    if is_query(method, params, follow::VALUES_PATH) {
        let count = result["response"]["proofOps"]["ops"].as_array().map_or(0, Vec::len);
        let nothing: Vec<Option<Vec<u8>>> = vec![None; count];
        result["response"]["value"] = BASE64.encode(borsh::to_vec(&nothing).unwrap()).into();
    }
}

fn drop_proofs(method: &str, params: &Value, result: &mut Value) {
    if is_query(method, params, follow::VALUES_PATH) {
        result["response"]["proofOps"] = Value::Null;
    }
}

fn change_codes(method: &str, _: &Value, result: &mut Value) {
    if method == "block_results"
        && let Some(results) = result["txs_results"].as_array_mut()
    {
        results.iter_mut().for_each(|result| result["code"] = 7.into());
    }
}

fn hide_transactions(method: &str, _: &Value, result: &mut Value) {
    if method == "block_results" {
        result["txs_results"] = Value::Null;
    }
}

fn hide_changes(method: &str, _: &Value, result: &mut Value) {
    if method == "block_results" {
        result["finalize_block_events"] = json!([]);
        let results = result["txs_results"].as_array_mut();
        results.into_iter().flatten().for_each(|result| result["events"] = json!([]));
    }
}

fn hide_keys(method: &str, params: &Value, result: &mut Value) {
    if is_query(method, params, follow::LIST_PATH) {
        let nothing: Vec<Vec<u8>> = Vec::new();
        result["response"]["value"] = BASE64.encode(borsh::to_vec(&nothing).unwrap()).into();
    }
}

fn invent_a_revocation(method: &str, _: &Value, result: &mut Value) {
    if method == "block_results" {
        let stream = StreamId::of(&id("creator"), 0).to_string();
        let attribute = |key: &str, value: String| json!({ "key": key, "value": value });
        let viewer = attribute("viewer", id("ann").to_string());
        let event = json!({
            "type": "access_revoked",
            "attributes": [attribute("stream", stream), viewer],
        });
        let results = result["txs_results"].as_array_mut();
        results.into_iter().flatten().for_each(|result| {
            result["events"].as_array_mut().unwrap().push(event.clone());
        });
    }
}

/// Endpoint `liar` of two tells the lie from the beginning, and from later on.
#[track_caller]
fn check(lie: Lie, is_caught: bool) {
    for liar in [0, 1] {
        let world = World::start(2);
        let stream = live(&world);
        world.act("creator", grant(stream, "carl"));
        let from_later = Relay::start(&world);
        world.doors[liar].lie(lie);
        let from_now = Relay::start_honestly(&world, liar);
        let mut last = world.act("creator", grant(stream, "bob"));
        from_later.check_to(&world, last);
        last = world.act("creator", Payload::RevokeAccess { stream, viewer: id("carl") });
        for relay in [&from_later, &from_now] {
            relay.check_to(&world, last.max(relay.snapshot.height + 1));
        }
        if is_caught && liar == 0 {
            assert!(from_later.chain.lies() > 0, "the primary's lie is noticed");
        }
        let expected: BTreeMap<_, _> = world.deltas();
        assert!(expected.contains_key(&last));
    }
}

impl Relay {
    /// Begins with the honest endpoint, so that the lie comes after the trust.
    fn start_honestly(world: &World, liar: usize) -> Self {
        let home = TempDir::new().unwrap();
        let mut urls = world.urls();
        urls.swap(0, 1 - liar);
        let lie = world.doors[liar].take_lie();
        let chain = RemoteChain::open(home.path(), &urls, Some(world.trust())).unwrap();
        world.doors[liar].give_lie(lie);
        let (snapshot, deltas) = until("the first reading", || chain.follow().ok());
        Self { chain, home, snapshot, deltas }
    }
}

#[test]
fn a_changed_header_is_caught() {
    check(flip_app_hash, true);
    check(flip_signature, true);
}

#[test]
fn a_changed_value_is_caught() {
    check(flip_value, true);
    check(say_nothing_is_there, true);
    check(drop_proofs, true);
}

#[test]
fn changed_results_are_caught() {
    check(change_codes, true);
    check(hide_transactions, true);
}

#[test]
fn what_one_endpoint_leaves_out_or_invents_the_other_makes_up_for() {
    check(hide_changes, false);
    check(hide_keys, false);
    check(invent_a_revocation, false);
}
