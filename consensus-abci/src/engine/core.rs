//! What the block thread and every caller share: the application, the store, the head of the chain.

use std::sync::{Arc, OnceLock, RwLock};

use tendermint::account;
use tendermint_proto::v0_38::abci::ResponseInfo;

use super::bus::{BlockBus, CommittedBlock};
use super::genesis::Genesis;
use super::mempool::Mempool;
use super::state::State;
use super::store::BlockStore;
use crate::application::Application;

pub(crate) struct Core {
    pub app: Arc<dyn Application>,
    pub genesis: Genesis,
    pub store: BlockStore,
    pub mempool: Mempool,
    pub bus: BlockBus,
    /// Answer to `Info` at the start: version and data do not change while it runs.
    pub info: ResponseInfo,
    pub node_id: String,
    pub moniker: String,
    pub validator: tendermint::PublicKey,
    halt: OnceLock<String>,
    tip: RwLock<Arc<Tip>>,
}

/// The newest block whose state is durable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tip {
    /// 0 before the first block.
    pub height: u64,
    pub time_ms: u64,
    pub max_tx_bytes: usize,
}

impl Tip {
    fn of(state: &State) -> Self {
        let millis = state.last_block_time.unix_timestamp_nanos() / 1_000_000;
        Tip {
            height: state.last_block_height,
            time_ms: u64::try_from(millis).unwrap_or(0),
            max_tx_bytes: usize::try_from(state.params.tx_bytes_max()).unwrap_or(usize::MAX),
        }
    }
}

/// What [`Core`] is made from.
pub(crate) struct CoreParts {
    pub app: Arc<dyn Application>,
    pub genesis: Genesis,
    pub store: BlockStore,
    pub mempool: Mempool,
    pub info: ResponseInfo,
    pub node_id: String,
    pub moniker: String,
    pub validator: tendermint::PublicKey,
}

impl Core {
    pub(crate) fn new(parts: CoreParts, state: &State) -> Self {
        let CoreParts { app, genesis, store, mempool, info, node_id, moniker, validator } = parts;
        Core {
            app,
            genesis,
            store,
            mempool,
            bus: BlockBus::default(),
            info,
            node_id,
            moniker,
            validator,
            halt: OnceLock::new(),
            tip: RwLock::new(Arc::new(Tip::of(state))),
        }
    }

    pub(crate) fn tip(&self) -> Arc<Tip> {
        self.tip.read().expect("nothing panics with the tip").clone()
    }

    pub(crate) fn publish_tip(&self, state: &State, block: &CommittedBlock) {
        assert_eq!(state.last_block_height, block.height, "the tip is the block just made");
        *self.tip.write().expect("nothing panics with the tip") = Arc::new(Tip::of(state));
    }

    pub(crate) fn halted(&self) -> Option<&str> {
        self.halt.get().map(String::as_str)
    }

    /// No further block: the first reason stays, is logged once, and reaches whoever waits.
    pub(crate) fn halt(&self, sentence: &str) {
        if self.halt.set(sentence.to_owned()).is_ok() {
            tracing::error!(
                height = self.tip().height,
                reason = sentence,
                "the chain halted; reads are still served"
            );
        }
        self.mempool.halt(sentence);
        self.mempool.stop();
    }

    pub(crate) fn validator_address(&self) -> account::Id {
        account::Id::from(self.validator)
    }
}
