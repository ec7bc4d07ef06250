//! State sync: what the engine asks about snapshots, and the state that comes from one.

use std::{
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use chain_types::StateKey;
use tendermint_proto::v0_38::abci::{
    RequestApplySnapshotChunk, RequestOfferSnapshot, ResponseApplySnapshotChunk, Snapshot,
    response_apply_snapshot_chunk::Result as Applied, response_offer_snapshot::Result as Offered,
};

use super::{
    App,
    abci::Failure,
    index,
    read::StateSnapshot,
    state::{StateError, decode},
};
use crate::store::{
    StoreError, VERSIONS_KEPT,
    statesync::{Archive, ChunkRefused, FORMAT, Incoming, Maker, Metadata},
};

/// Snapshots that are told to other nodes: CometBFT asks for no more.
const LISTED_MAX: usize = 10;

/// How a state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// A snapshot is made at heights that this divides; 0: none is.
    pub snapshot_interval: u64,
    /// Snapshots that are kept, at least 1.
    pub snapshot_keep: usize,
    /// Heights of which values can be proved, at least 1; `u64::MAX`: all.
    pub versions_kept: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { snapshot_interval: 1000, snapshot_keep: 2, versions_kept: VERSIONS_KEPT }
    }
}

/// Snapshots of this state, and the one that comes in.
pub(super) struct StateSync {
    archive: Archive,
    maker: Maker,
    incoming: Mutex<Option<Incoming>>,
}

impl StateSync {
    pub(super) fn start(dir: &Path, options: &Options) -> Result<Self, StoreError> {
        let archive = Archive::of(dir);
        archive.clean()?;
        let thread = |source: io::Error| StoreError::Directory { dir: dir.to_owned(), source };
        let (interval, keep) = (options.snapshot_interval, options.snapshot_keep);
        let maker = Maker::start(archive.clone(), interval, keep).map_err(thread)?;
        Ok(Self { archive, maker, incoming: Mutex::default() })
    }

    fn incoming(&self) -> MutexGuard<'_, Option<Incoming>> {
        // A panic in the middle leaves chunks that nobody will ask about.
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateSnapshot {
    /// The app hash after the block of a height (it is in the header of `height + 1`).
    ///
    /// # Errors
    /// The height is not kept, or the disk's.
    pub fn app_hash_at(&self, height: u64) -> Result<[u8; 32], StateError> {
        Ok(self.0.root_at(height)?)
    }
}

impl App {
    /// Makes a snapshot in the background where the newest height is one for it.
    pub(super) fn snapshot_if_due(&self) {
        let committed = self.committed();
        let height = committed.snapshot.height();
        self.statesync.maker.committed(height, || committed.snapshot.0.clone());
    }

    pub(super) fn listed_snapshots(&self) -> Result<Vec<Snapshot>, StoreError> {
        let listed = |metadata: &Metadata| Snapshot {
            height: metadata.height,
            format: metadata.format,
            chunks: u32::try_from(metadata.chunks.len()).unwrap_or(u32::MAX),
            hash: Bytes::copy_from_slice(&metadata.hash()),
            metadata: metadata.encode().into(),
        };
        Ok(self.statesync.archive.list()?.iter().take(LISTED_MAX).map(listed).collect())
    }

    /// A chunk's bytes; none where it is not there.
    pub(super) fn snapshot_chunk(&self, height: u64, format: u32, index: u32) -> Bytes {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if format != FORMAT {
            return Bytes::new();
        }
        self.statesync.archive.chunk(height, index).map_or_else(|_| Bytes::new(), Bytes::from)
    }

    /// Whether the chunks of a snapshot may come; the engine vouches for the app hash.
    pub(super) fn consider(&self, request: RequestOfferSnapshot) -> Result<Offered, Failure> {
        let mut incoming = self.statesync.incoming();
        *incoming = None;
        if let Some(head) = self.snapshot().head() {
            tracing::error!(
                height = head.height,
                "a snapshot was offered to a state that has begun: remove the node's data, or turn \
                 state sync off"
            );
            return Ok(Offered::Abort);
        }
        let Some(offered) = request.snapshot else { return Ok(Offered::Reject) };
        if offered.format != FORMAT {
            return Ok(Offered::RejectFormat);
        }
        let metadata = Metadata::decode(&offered.metadata).filter(|metadata| {
            metadata.hash()[..] == offered.hash[..]
                && metadata.height == offered.height
                && metadata.chunks.len() as u64 == u64::from(offered.chunks)
                && metadata.app_hash[..] == request.app_hash[..]
        });
        let Some(metadata) = metadata else {
            tracing::warn!(height = offered.height, "a snapshot of another state was offered");
            return Ok(Offered::Reject);
        };
        let (height, chunks) = (metadata.height, metadata.chunks.len());
        tracing::info!(height, chunks, "restoring the state from a snapshot");
        let begun = Incoming::begin(&self.statesync.archive, metadata).map_err(StoreError::from)?;
        *incoming = Some(begun);
        Ok(Offered::Accept)
    }

    /// Takes a chunk; with the last one the state is there.
    pub(super) fn take_chunk(
        &self,
        request: RequestApplySnapshotChunk,
    ) -> Result<ResponseApplySnapshotChunk, Failure> {
        let mut session = self.statesync.incoming();
        let answer = |result: Applied| ResponseApplySnapshotChunk {
            result: result.into(),
            ..ResponseApplySnapshotChunk::default()
        };
        let Some(mut incoming) = session.take() else { return Ok(answer(Applied::Abort)) };
        let index = usize::try_from(request.index).unwrap_or(usize::MAX);
        let is_complete = match incoming.add(index, &request.chunk) {
            Ok(is_complete) => is_complete,
            Err(ChunkRefused::Files(error)) => return Err(StoreError::from(error).into()),
            Err(refused) => {
                let sender = request.sender;
                tracing::warn!(%sender, "{refused}");
                let mut response = answer(match refused {
                    ChunkRefused::Sender { .. } => Applied::Retry,
                    ChunkRefused::Order { .. } => Applied::RetrySnapshot,
                    // Its session is over: another snapshot may come.
                    ChunkRefused::Snapshot { .. } | ChunkRefused::Files(_) => {
                        Applied::RejectSnapshot
                    }
                });
                if !matches!(refused, ChunkRefused::Order { .. }) && !sender.is_empty() {
                    response.reject_senders = vec![sender];
                }
                if matches!(refused, ChunkRefused::Sender { .. }) {
                    response.refetch_chunks = vec![request.index];
                    *session = Some(incoming);
                }
                return Ok(response);
            }
        };
        if is_complete {
            self.restore(incoming)?;
        } else {
            *session = Some(incoming);
        }
        Ok(answer(Applied::Accept))
    }

    /// Makes the state of a whole snapshot.
    fn restore(&self, incoming: Incoming) -> Result<(), Failure> {
        let restore = self.store.begin_restore(incoming.metadata(), |at| incoming.chunk(at))?;
        let view = restore.view()?;
        let chain_id = view.get(&StateKey::ChainId.to_bytes())?.ok_or(StateError::NoGenesis)?;
        let chain_id: String = decode(StateKey::ChainId, &chain_id)?;
        restore.set_chain_id(&chain_id)?;
        restore.add_index(index::of_state(view.prefix(b""))?)?;
        let head = restore.commit()?;
        self.refresh()?;
        tracing::info!(height = head.height, "the state is restored");
        if let Err(error) = incoming.keep() {
            // The state does not need it: only others do.
            tracing::warn!(%error, "the snapshot itself is not kept");
        }
        Ok(())
    }

    /// Makes the state of a snapshot that somebody carried here by hand. The chunks are checked
    /// against its own app hash; whether that is the chain's, the caller must know.
    ///
    /// # Errors
    /// There is a state here already, or the database fails.
    pub fn restore_snapshot(&self, incoming: Incoming) -> Result<(), StateError> {
        self.restore(incoming).map_err(|failure| match failure {
            Failure::State(error) => error,
            Failure::Said(_) => StateError::NoGenesis,
        })
    }

    /// Takes back the newest block; snapshots of its height go too. For a node that does not run.
    ///
    /// # Errors
    /// There is none that can be taken back, or the database fails.
    pub fn roll_back(&self) -> Result<crate::store::Head, StateError> {
        let head = self.store.roll_back()?;
        self.statesync.archive.delete_above(head.height).map_err(StoreError::from)?;
        self.refresh()?;
        Ok(head)
    }
}
