//! From a directory and a configuration to a chain that is ready for its next block.

use std::sync::Arc;

use super::core::{Core, CoreParts};
use super::mempool::Mempool;
use super::producer::Producer;
use super::signer::Signer;
use super::state::State;
use super::store::BlockStore;
use super::{EngineConfig, EngineError, ValidatorKey, handshake};
use crate::application::Application;

impl Producer {
    /// Opens the store and brings the application to its height.
    pub(crate) fn open(
        config: EngineConfig,
        app: Arc<dyn Application>,
    ) -> Result<Self, EngineError> {
        let store_error = |source| EngineError::Store { dir: config.dir.clone(), source };
        let store = BlockStore::open(&config.dir).map_err(store_error)?;
        let is_signing_known = config.state_file.exists();
        let signer = Signer::open(config.key.clone(), &config.state_file)?;
        let (state, info) = handshake::handshake(&*app, &store, &config.genesis, config.fail_at)?;
        check_only_validator(&state, &config.key)?;
        let height = state.last_block_height;
        if height > 0 && !is_signing_known {
            tracing::warn!(
                path = %config.state_file.display(),
                height,
                "the record of what the key has signed is gone: nothing but the block store keeps it \
                 from signing a height twice. See that no other node runs with this key"
            );
        }
        if signer.height() > state.next_height() {
            return Err(EngineError::SignedBeyondStore {
                path: config.state_file,
                signed: signer.height(),
                store: height,
            });
        }
        let parts = CoreParts {
            app,
            validator: config.key.public_key(),
            genesis: config.genesis,
            store,
            mempool: Mempool::new(config.mempool),
            info,
            node_id: config.node_key.id(),
            moniker: config.moniker,
        };
        let core = Arc::new(Core::new(parts, &state));
        tracing::info!(chain_id = %core.genesis.chain_id, height, "the embedded engine starts");
        Ok(Producer {
            core,
            state,
            signer,
            min_block_interval: config.min_block_interval,
            empty_block_interval: config.empty_block_interval,
            fail_at: config.fail_at,
        })
    }
}

fn check_only_validator(state: &State, key: &ValidatorKey) -> Result<(), EngineError> {
    let own = key.address();
    match state.validators.validators().as_slice() {
        [validator] if validator.address == own => Ok(()),
        others => {
            let addresses = others.iter().map(|validator| validator.address.to_string());
            let found = match addresses.collect::<Vec<_>>() {
                none if none.is_empty() => "nobody".to_owned(),
                found => found.join(", "),
            };
            Err(EngineError::NotTheOnlyValidator { own: own.to_string(), found })
        }
    }
}
