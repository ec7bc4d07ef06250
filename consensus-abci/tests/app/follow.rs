//! Following the chain: deltas after the commit, restarts, and what a crash leaves.

use chain_types::{ChainEvent, Payload, Policy, StateChange, transaction_hash};
use consensus_abci::{
    app::{App, AppError},
    application::{Application, Method},
    store::StoreError,
};
use crossbeam_channel::TryRecvError;
use tendermint_proto::v0_38::abci::RequestInfo;

use crate::world::*;

fn transfer(amount: u64) -> Payload {
    Payload::Transfer { to: id("relay"), amount: sut(amount) }
}

#[test]
fn a_delta_comes_after_the_commit_and_says_all_that_changed() {
    let world = World::new();
    let deltas = world.app.subscribe(8);
    let bytes = world.sign("viewer", transfer(5));
    let request = world.request(vec![bytes.clone(), b"garbage".as_slice().into()]);
    world.app.finalize_block(request).unwrap();
    assert_eq!(deltas.try_recv(), Err(TryRecvError::Empty), "nothing is committed yet");
    assert_eq!(world.app.snapshot().height(), 0);
    world.app.commit().unwrap();
    let delta = deltas.try_recv().unwrap();
    assert_eq!((delta.height, delta.time_ms), (1, GENESIS_MS + 1000));
    assert_eq!(delta.results, [(transaction_hash(&bytes), 0), (transaction_hash(b"garbage"), 1)]);
    assert!(matches!(delta.events[..], [ChainEvent::Fee { .. }, ChainEvent::Transfer { .. }]));
    let mut accounts: Vec<_> = delta
        .changes
        .iter()
        .map(|change| match change {
            StateChange::Account(id, account) => (*id, *account),
            other => panic!("{other:?}"),
        })
        .collect();
    let mut expected: Vec<_> =
        ["viewer", "relay"].map(|name| (id(name), world.account(name))).into();
    accounts.sort_by_key(|(id, _)| *id);
    expected.sort_by_key(|(id, _)| *id);
    assert_eq!(accounts, expected);
    assert_eq!(world.app.snapshot().height(), 1, "the commit came first");
}

#[test]
fn deltas_rebuild_the_state_of_streams_channels_lanes_and_access() {
    let mut world = World::new();
    let deltas = world.app.subscribe(64);
    let stream = world.register(Policy::Paid);
    let channel = world.open(1_000_000_000, &[("relay", 500, 900)]);
    let payload = Payload::GrantAccess {
        stream,
        viewer: id("other"),
        valid_until: u64::MAX,
        payment_status: 1,
        max_layer: 255,
    };
    world.done("creator", payload);
    world.done("relay", redeem(vec![signed(voucher(channel, stream, 1_000))]));
    world.done("creator", Payload::RevokeAccess { stream, viewer: id("other") });
    world.done("viewer", Payload::RequestClose { channel });
    world.skip(world.params().close_window_blocks);
    world.done("viewer", Payload::Finalize { channel });
    let (mut streams, mut channels, mut lanes, mut accesses) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut heights = Vec::new();
    for delta in deltas.try_iter() {
        heights.push(delta.height);
        for change in &delta.changes {
            match change.clone() {
                StateChange::Stream(record) => streams.push(record),
                StateChange::Channel(id, record) => channels.push((id, record)),
                StateChange::Lane(key, record) => lanes.push((key, record)),
                StateChange::Access { viewer, record, .. } => accesses.push((viewer, record)),
                StateChange::Account(..) | StateChange::Relay(..) | StateChange::Params(_) => {}
            }
        }
    }
    assert_eq!(heights, (1..=world.height).collect::<Vec<_>>());
    assert_eq!(**streams.last().unwrap(), world.stream(&stream));
    let (last, record) = channels.last().unwrap();
    assert_eq!((*last, &**record), (channel, &world.channel(&channel)));
    assert!(lanes[0].1.is_some() && lanes.last().unwrap().1.is_none());
    assert!(accesses[0].1.is_some() && accesses[1] == (id("other"), None));
}

#[test]
fn a_follower_that_does_not_read_is_let_go_and_the_others_are_not_held_up() {
    let mut world = World::new();
    let (slow, quick) = (world.app.subscribe(2), world.app.subscribe(100));
    world.skip(5);
    let seen: Vec<_> = slow.iter().map(|delta| delta.height).collect();
    assert_eq!(seen, [1, 2], "what was queued, and then the end");
    assert_eq!(quick.try_iter().count(), 5);
    // It begins anew from a snapshot.
    let again = world.app.subscribe(2);
    let from = world.app.snapshot().height();
    world.skip(1);
    assert_eq!(again.try_recv().unwrap().height, from + 1);
}

#[test]
fn a_block_that_was_not_committed_leaves_the_old_state() {
    let mut world = World::new();
    world.done("viewer", transfer(5));
    let before = content(&world.app.snapshot());
    let head = world.app.snapshot().head();
    let request = world.request(vec![world.sign("viewer", transfer(7))]);
    let first = world.app.finalize_block(request.clone()).unwrap();
    assert_eq!(content(&world.app.snapshot()), before, "nothing is visible before the commit");
    let World { app, dir, .. } = world;
    drop(app);
    let app = App::open(dir.path()).unwrap();
    assert_eq!((content(&app.snapshot()), app.snapshot().head()), (before, head));
    let info = app.info(RequestInfo::default()).unwrap();
    assert_eq!(info.last_block_height, 1);
    assert_eq!(info.last_block_app_hash, head.unwrap().app_hash[..]);
    // The same block again gives the same hash.
    assert_eq!(app.finalize_block(request).unwrap(), first);
    app.commit().unwrap();
    assert_eq!(app.snapshot().height(), 2);
}

#[test]
fn a_directory_serves_one_process() {
    let world = World::new();
    let Err(error) = App::open(world.dir.path()) else { panic!("two on one directory") };
    assert!(matches!(error, AppError::Store(StoreError::Locked { .. })), "{error}");
}

#[test]
fn the_genesis_state_may_be_asked_for_again_until_the_first_block() {
    let mut world = World::new();
    let first = world.app.snapshot().head().unwrap();
    let params = chain_types::Params::for_tests();
    let again = world.app.init_chain(genesis(params.clone())).unwrap();
    assert_eq!(again.app_hash, first.app_hash[..]);
    let mut other = params.clone();
    other.notice_blocks += 1;
    let error = world.app.init_chain(genesis(other)).unwrap_err();
    assert_eq!(error.method, Method::InitChain);
    assert!(error.reason.contains("another genesis"), "{error}");
    let renamed = tendermint_proto::v0_38::abci::RequestInitChain {
        chain_id: "sutantra-test-2".into(),
        ..genesis(params.clone())
    };
    assert!(world.app.init_chain(renamed).is_err());
    world.skip(1);
    assert!(world.app.init_chain(genesis(params)).is_err(), "the chain has begun");
}

#[test]
fn a_genesis_that_cannot_be_says_why() {
    let dir = Dir::new();
    let app = App::open(dir.path()).unwrap();
    let good = || genesis(chain_types::Params::for_tests());
    let refused = |request| app.init_chain(request).unwrap_err().reason;
    let mut bad = chain_types::Params::for_tests();
    bad.fee_per_voucher = sut(999);
    assert!(refused(genesis(bad)).contains("fee_per_voucher"));
    let mut request = good();
    request.initial_height = 5;
    assert!(refused(request).contains("initial_height"));
    let mut request = good();
    request.chain_id.clear();
    assert!(refused(request).contains("no id"));
    let mut request = good();
    request.app_state_bytes = b"[]".as_slice().into();
    assert!(refused(request).contains("app_state"));
    let mut request = good();
    request.time = None;
    assert!(refused(request).contains("time"));
    assert_eq!(app.snapshot().head(), None, "nothing was written");
    app.init_chain(good()).unwrap();
}

#[test]
fn blocks_out_of_order_and_commits_of_nothing_stop_the_chain() {
    let mut world = World::new();
    let error = world.app.commit().unwrap_err();
    assert_eq!(error.method, Method::Commit);
    let mut request = world.request(vec![]);
    request.height = 2;
    let error = world.app.finalize_block(request.clone()).unwrap_err();
    assert!(error.reason.contains("does not follow"), "{error}");
    request.height = -1;
    assert!(world.app.finalize_block(request.clone()).is_err());
    request.height = 1;
    request.time = None;
    assert!(world.app.finalize_block(request).is_err());
    world.skip(1);
}
