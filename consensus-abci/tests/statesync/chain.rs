//! A chain whose state is several chunks large, and somebody who takes its snapshots.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use chain_types::{Params, Policy, StateKey, StreamId, StreamMetadata, hex};
use consensus_abci::{
    app::{App, AppState, GenesisRecord, Options},
    application::Application,
};
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestInitChain, RequestLoadSnapshotChunk, RequestOfferSnapshot,
    ResponseApplySnapshotChunk, Snapshot, response_apply_snapshot_chunk::Result as Applied,
    response_offer_snapshot::Result as Offered,
};

use crate::world::{CHAIN_ID, Dir, World, content, genesis};

/// Streams of 1.1 MB: each is more than a chunk.
const LARGE_STREAMS: u8 = 5;
const LARGE_BYTES: usize = 1_100_000;
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A snapshot at each fifth height.
pub const OFTEN: Options = Options { snapshot_interval: 5, snapshot_keep: 2, versions_kept: 100 };

/// An `app_state` of large records.
pub fn large_state() -> AppState {
    let mut world = World::new();
    let stream = world.register(Policy::Free);
    let record = world.stream(&stream);
    let mut state = content(&world.app.snapshot());
    for at in 0..LARGE_STREAMS {
        let id = StreamId([at; 32]);
        let ext = [("large".to_owned(), vec![at; LARGE_BYTES])].into();
        let large = StreamMetadata { id, ext, ..record.clone() };
        state.insert(StateKey::Stream(id).to_bytes(), borsh::to_vec(&large).unwrap());
    }
    let text = |(key, value): (Vec<u8>, Vec<u8>)| GenesisRecord {
        key: hex::text(&key),
        value: hex::text(&value),
    };
    AppState { records: state.into_iter().map(text).collect(), ..AppState::default() }
}

pub fn large_genesis() -> RequestInitChain {
    let app_state_bytes = serde_json::to_vec(&large_state()).unwrap().into();
    RequestInitChain { app_state_bytes, ..genesis(Params::for_tests()) }
}

/// A chain in an application that makes snapshots often.
pub fn chain(genesis: RequestInitChain) -> World {
    let mut world = World::begin(genesis);
    // One application at a time has the directory.
    let spare = Dir::new();
    world.app = App::open(spare.path()).unwrap();
    world.app = open(world.dir.path());
    world
}

/// The snapshot of a height, as soon as it is there.
#[track_caller]
pub fn snapshot_of(app: &App, height: u64) -> Snapshot {
    let begin = Instant::now();
    loop {
        let listed = app.list_snapshots().unwrap().snapshots;
        if let Some(found) = listed.into_iter().find(|snapshot| snapshot.height == height) {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "no snapshot of height {height}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn chunks_of(app: &App, snapshot: &Snapshot) -> Vec<bytes::Bytes> {
    let Snapshot { height, format, .. } = *snapshot;
    let load = |chunk| RequestLoadSnapshotChunk { height, format, chunk };
    (0..snapshot.chunks).map(|at| app.load_snapshot_chunk(load(at)).unwrap().chunk).collect()
}

#[track_caller]
pub fn offer(app: &App, snapshot: &Snapshot, app_hash: &[u8]) -> Offered {
    let request = RequestOfferSnapshot {
        snapshot: Some(snapshot.clone()),
        app_hash: app_hash.to_vec().into(),
    };
    app.offer_snapshot(request).unwrap().result()
}

pub fn apply(app: &App, index: usize, chunk: &[u8], sender: &str) -> ResponseApplySnapshotChunk {
    let request = RequestApplySnapshotChunk {
        index: index as u32,
        chunk: chunk.to_vec().into(),
        sender: sender.to_owned(),
    };
    app.apply_snapshot_chunk(request).unwrap()
}

/// Offers a snapshot and applies all its chunks.
#[track_caller]
pub fn take(app: &App, snapshot: &Snapshot, chunks: &[bytes::Bytes], app_hash: &[u8]) {
    assert_eq!(offer(app, snapshot, app_hash), Offered::Accept);
    for (at, chunk) in chunks.iter().enumerate() {
        assert_eq!(apply(app, at, chunk, "honest").result(), Applied::Accept, "chunk {at}");
    }
}

pub fn open(dir: &Path) -> App {
    App::open_with(dir, OFTEN).unwrap()
}

pub fn chain_id() -> Option<&'static str> {
    Some(CHAIN_ID)
}
