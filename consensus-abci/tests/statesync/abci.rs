//! State sync by ABCI: what is offered, taken and refused, and the state afterwards.

use chain_types::{Params, Policy};
use consensus_abci::application::Application;
use tendermint_proto::v0_38::abci::{
    RequestInfo, RequestLoadSnapshotChunk, response_apply_snapshot_chunk::Result as Applied,
    response_offer_snapshot::Result as Offered,
};

use crate::{
    chain::*,
    world::{World, content, genesis, id, keep, redeem, signed, voucher},
};

/// A chain with something of everything, at height 10 or a little above.
fn busy() -> World {
    let mut world = chain(genesis(Params::for_tests()));
    world.relays(&["relay", "origin"], "relay");
    let stream = world.register(Policy::Ticketed);
    let channel = world.open(50_000_000, &[("relay", 10_000_000, 90)]);
    world.done("relay", redeem(vec![signed(voucher(channel, stream, 1_000_000))]));
    world.done(
        "viewer",
        chain_types::Payload::Reserve { channel, reserve: keep("origin", 5_000_000, 80) },
    );
    while world.height < 10 {
        world.skip(1);
    }
    world
}

#[test]
fn an_empty_application_takes_a_snapshot_and_goes_on_as_the_others() {
    let mut world = busy();
    let snapshot = snapshot_of(&world.app, 10);
    let chunks = chunks_of(&world.app, &snapshot);
    let head = world.app.snapshot().head().unwrap();
    let dir = crate::world::Dir::new();
    let app = open(dir.path());
    assert_eq!(app.info(RequestInfo::default()).unwrap().last_block_height, 0);
    take(&app, &snapshot, &chunks, &head.app_hash);

    let info = app.info(RequestInfo::default()).unwrap();
    assert_eq!((info.last_block_height, &info.last_block_app_hash[..]), (10, &head.app_hash[..]));
    let (theirs, ours) = (world.app.snapshot(), app.snapshot());
    assert_eq!(ours.head(), theirs.head());
    assert_eq!(ours.chain_id(), chain_id());
    assert_eq!(content(&ours), content(&theirs));
    assert!(ours.audit().unwrap().is_balanced());
    // What no root covers is made again.
    let lists = |state: &consensus_abci::app::StateSnapshot| {
        let of = |name: &str| {
            let payees: Vec<_> = state.channels_by_payee(&id(name)).map(Result::unwrap).collect();
            let payers: Vec<_> = state.channels_by_payer(&id(name)).map(Result::unwrap).collect();
            let streams: Vec<_> = state.streams_by_creator(&id(name)).map(Result::unwrap).collect();
            (payees, payers, streams)
        };
        ["creator", "viewer", "relay", "origin"].map(of)
    };
    assert_eq!(lists(&ours), lists(&theirs));
    let [creator, viewer, relay, _] = lists(&ours);
    assert!(creator.2.len() == 1 && viewer.1.len() == 1 && relay.0.len() == 1);
    drop((theirs, ours));

    // The same blocks on top, the same snapshot of them, also after reopening.
    for _ in 0..5 {
        let request =
            world.request(vec![world.sign("viewer", crate::world::register(Policy::Free))]);
        let response = app.finalize_block(request.clone()).unwrap();
        app.commit().unwrap();
        let theirs = world.block(request.txs);
        assert_eq!(response, theirs);
    }
    assert_eq!(snapshot_of(&app, 15), snapshot_of(&world.app, 15));
    assert_eq!(snapshot_of(&app, 10), snapshot, "given on");
    drop(app);
    assert_eq!(open(dir.path()).snapshot().head(), world.app.snapshot().head());
}

#[test]
fn only_a_snapshot_of_the_verified_state_and_of_our_format_is_taken() {
    let world = busy();
    let good = snapshot_of(&world.app, 10);
    let app_hash = world.app.snapshot().head().unwrap().app_hash;
    let dir = crate::world::Dir::new();
    let app = open(dir.path());
    let check = |change: &dyn Fn(&mut tendermint_proto::v0_38::abci::Snapshot), what: &str| {
        let mut snapshot = good.clone();
        change(&mut snapshot);
        let offered = offer(&app, &snapshot, &app_hash);
        assert!(matches!(offered, Offered::Reject | Offered::RejectFormat), "{what}: {offered:?}");
        assert_eq!(apply(&app, 0, b"", "peer").result(), Applied::Abort, "{what}");
        offered
    };
    assert_eq!(check(&|snapshot| snapshot.format = 2, "format"), Offered::RejectFormat);
    check(&|snapshot| snapshot.height = 11, "height");
    check(&|snapshot| snapshot.chunks += 1, "chunks");
    check(&|snapshot| snapshot.hash = vec![0; 32].into(), "hash");
    check(&|snapshot| snapshot.metadata = b"garbage".to_vec().into(), "metadata");
    assert_eq!(offer(&app, &good, &[9; 32]), Offered::Reject, "of another app hash");
    assert_eq!(app.offer_snapshot(Default::default()).unwrap().result(), Offered::Reject);
    // Whoever has a state keeps it.
    assert_eq!(offer(&world.app, &good, &app_hash), Offered::Abort);
    assert_eq!(offer(&app, &good, &app_hash), Offered::Accept);
}

#[test]
fn a_bad_chunk_names_its_sender_and_the_good_one_completes_the_state() {
    let mut world = chain(large_genesis());
    world.skip(5);
    let snapshot = snapshot_of(&world.app, 5);
    let chunks = chunks_of(&world.app, &snapshot);
    assert!(chunks.len() >= 5, "{} chunks", chunks.len());
    let app_hash = world.app.snapshot().head().unwrap().app_hash;
    let dir = crate::world::Dir::new();
    let app = open(dir.path());
    assert_eq!(offer(&app, &snapshot, &app_hash), Offered::Accept);
    for (at, chunk) in chunks.iter().enumerate() {
        for bad in [&b"garbage"[..], b"", &chunk[1..], &chunks[(at + 1) % chunks.len()]] {
            let response = apply(&app, at, bad, "liar");
            assert_eq!(response.result(), Applied::Retry);
            assert_eq!(response.refetch_chunks, [at as u32]);
            assert_eq!(response.reject_senders, ["liar"]);
        }
        assert_eq!(app.snapshot().head(), None, "nothing before the last chunk");
        assert_eq!(apply(&app, at, chunk, "honest").result(), Applied::Accept);
    }
    assert_eq!(app.snapshot().head().unwrap().app_hash, app_hash);
    assert!(content(&app.snapshot()) == content(&world.app.snapshot()));
    assert_eq!(apply(&app, 0, &chunks[0], "late").result(), Applied::Abort);
}

#[test]
fn a_lying_snapshot_is_given_up_with_its_sender_and_an_honest_one_is_taken_after_it() {
    use consensus_abci::store::statesync::{Chunk, Metadata};
    use sha2::{Digest, Sha256};

    let mut world = chain(large_genesis());
    world.skip(5);
    let honest = snapshot_of(&world.app, 5);
    let chunks = chunks_of(&world.app, &honest);
    let app_hash = world.app.snapshot().head().unwrap().app_hash;
    // One unit more for somebody, and hashes that fit.
    let mut evil = chunks.clone();
    let mut chunk = Chunk::decode(&chunks[1]).unwrap();
    *chunk.entries[0].1.last_mut().unwrap() ^= 1;
    evil[1] = chunk.encode().into();
    let mut metadata = Metadata::decode(&honest.metadata).unwrap();
    metadata.chunks[1] = Sha256::digest(&evil[1]).into();
    let mut lie = honest.clone();
    lie.metadata = metadata.encode().into();
    lie.hash = metadata.hash().to_vec().into();

    let dir = crate::world::Dir::new();
    let app = open(dir.path());
    assert_eq!(offer(&app, &lie, &app_hash), Offered::Accept);
    assert_eq!(apply(&app, 0, &evil[0], "liar").result(), Applied::Accept);
    assert_eq!(apply(&app, 2, &evil[2], "fast").result(), Applied::RetrySnapshot, "out of order");
    assert_eq!(offer(&app, &lie, &app_hash), Offered::Accept);
    assert_eq!(apply(&app, 0, &evil[0], "liar").result(), Applied::Accept);
    let response = apply(&app, 1, &evil[1], "liar");
    assert_eq!(response.result(), Applied::RejectSnapshot);
    assert_eq!(response.reject_senders, ["liar"]);
    take(&app, &honest, &chunks, &app_hash);
    assert!(content(&app.snapshot()) == content(&world.app.snapshot()));
}

#[test]
fn a_chunk_that_is_not_there_is_empty() {
    let world = busy();
    let snapshot = snapshot_of(&world.app, 10);
    let load = |height, format, chunk| {
        let request = RequestLoadSnapshotChunk { height, format, chunk };
        world.app.load_snapshot_chunk(request).unwrap().chunk
    };
    assert!(!load(10, snapshot.format, 0).is_empty());
    assert!(load(10, snapshot.format, snapshot.chunks).is_empty());
    assert!(load(10, snapshot.format + 1, 0).is_empty());
    assert!(load(11, snapshot.format, 0).is_empty());
}

#[test]
fn a_block_taken_back_and_executed_again_gives_the_same_app_hash() {
    let mut world = busy();
    let (ten, head) = (snapshot_of(&world.app, 10), world.app.snapshot().head());
    let state = content(&world.app.snapshot());
    let block = world.blocks.last().unwrap().clone();
    let before = world.app.roll_back().unwrap();
    assert_eq!(before.height, 9);
    assert_eq!(world.app.info(RequestInfo::default()).unwrap().last_block_height, 9);
    assert!(world.app.list_snapshots().unwrap().snapshots.iter().all(|left| left.height < 10));
    world.app.finalize_block(block).unwrap();
    world.app.commit().unwrap();
    assert_eq!(world.app.snapshot().head(), head);
    assert_eq!(content(&world.app.snapshot()), state);
    assert_eq!(snapshot_of(&world.app, 10), ten);
    world.skip(1);
}
