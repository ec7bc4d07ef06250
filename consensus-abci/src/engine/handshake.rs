//! The start: store and application are brought to the same height (CometBFT's handshake).

use bytes::Bytes;
use tendermint_proto::v0_38::abci::{RequestInfo, RequestInitChain, ResponseInfo, ValidatorUpdate};

use super::execution::{HaltReason, apply_block, finalize_block, next_state, stored_block};
use super::fail::{FailAt, FailPoint, fail_point};
use super::genesis::Genesis;
use super::hex::hex_upper;
use super::index;
use super::state::{State, app_hash};
use super::store::{BlockStore, StoreError};
use crate::application::Application;

/// Version of ABCI that this engine speaks.
const ABCI_VERSION: &str = "2.0.0";
/// Version that RPC and `Info` name: the CometBFT release whose RPC shapes are served.
pub(crate) const COMETBFT_VERSION: &str = "0.38.26";
/// Version of CometBFT's peer-to-peer protocol, named though no peer is spoken to.
pub(crate) const P2P_PROTOCOL: u64 = 8;

/// Why store and application cannot be brought together.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error(transparent)]
    Halt(#[from] HaltReason),
    #[error(
        "the block store was begun with another genesis file, of chain {stored}; this one is of \
         chain {given} and differs: put the first one back, or use another directory"
    )]
    OtherGenesis { stored: String, given: String },
    #[error(
        "the blocks are gone: the store is empty and the application is at height {app}. Restore \
         both from the same moment; begun anew, the chain would repeat its heights and nonces"
    )]
    BlocksGone { app: u64 },
    #[error(
        "the application is at height {app}, the block store ends at {store}: one of them is from \
         another chain or from an older copy. Restore both from the same moment, or remove the \
         application's data: it is rebuilt from the block store"
    )]
    ApplicationAhead { app: u64, store: u64 },
    #[error(
        "the block store begins at height {base}, the application is at {app}: the blocks between \
         are gone. Restore the application's data from height {base} or later"
    )]
    BlocksMissing { app: u64, base: u64 },
    #[error(
        "the application's hash after height {height} is {app}, the chain has {chain}: its data is \
         damaged or was made by another version. Remove the application's data: it is rebuilt from \
         the block store"
    )]
    AppHashDiffers { height: u64, app: String, chain: String },
    #[error("the block store is damaged: state is at height {state}, blocks end at {store}")]
    StateAhead { state: u64, store: u64 },
}

impl From<StoreError> for HandshakeError {
    fn from(error: StoreError) -> Self {
        HandshakeError::Halt(error.into())
    }
}

/// Brings the application and the saved state to the last block of the store; what `Info` said and
/// the state to go on from.
pub(crate) fn handshake(
    app: &dyn Application,
    store: &BlockStore,
    genesis: &Genesis,
    fail_at: Option<FailAt>,
) -> Result<(State, ResponseInfo), HandshakeError> {
    let info = app
        .info(RequestInfo {
            version: COMETBFT_VERSION.to_owned(),
            block_version: super::block::BLOCK_PROTOCOL,
            p2p_version: P2P_PROTOCOL,
            abci_version: ABCI_VERSION.to_owned(),
        })
        .map_err(HaltReason::from)?;
    let app_height = u64::try_from(info.last_block_height).unwrap_or(0);
    let store_height = store.height()?;
    if app_height > 0 && store_height == 0 {
        return Err(HandshakeError::BlocksGone { app: app_height });
    }
    if app_height > store_height {
        return Err(HandshakeError::ApplicationAhead { app: app_height, store: store_height });
    }
    let base = store.base()?;
    if base > genesis.initial_height.max(app_height + 1) {
        return Err(HandshakeError::BlocksMissing { app: app_height, base });
    }

    let saved = store.state()?;
    if let Some(saved) = &saved
        && saved.genesis_hash != genesis.hash()
    {
        return Err(HandshakeError::OtherGenesis {
            stored: saved.chain_id.to_string(),
            given: genesis.chain_id.to_string(),
        });
    }
    let mut app_hash_now = info.last_block_app_hash.clone();
    let mut state = match (saved, app_height) {
        (Some(state), 1..) => state,
        (saved, 0) => {
            let initial = init_chain(app, genesis)?;
            app_hash_now = initial.app_hash.as_bytes().to_vec().into();
            fail_point(fail_at, FailPoint::AfterInitChain, 0);
            match saved {
                Some(state) if state.last_block_height > 0 => state,
                // Nothing was decided yet: the newest answer of InitChain counts.
                _ => {
                    store.save_state(&initial, None, Vec::new())?;
                    store.sync()?;
                    initial
                }
            }
        }
        // The state of height 0 is saved before the first block is.
        (None, 1..) => {
            return Err(HandshakeError::StateAhead { state: 0, store: store_height });
        }
    };
    let state_height = state.last_block_height;
    if state_height > store_height || state_height + 1 < store_height {
        let between = state_height == 0 && store_height == genesis.initial_height;
        if !between {
            return Err(HandshakeError::StateAhead { state: state_height, store: store_height });
        }
    }

    let first = if app_height == 0 { genesis.initial_height } else { app_height + 1 };
    for height in first..=store_height {
        let made = stored_block(store, height)?;
        expect_app_hash(height - 1, &app_hash_now, made.block.header().app_hash.as_bytes())?;
        let commit = || app.commit().map(|_| ()).map_err(HaltReason::from);
        let response = if height > state.last_block_height {
            let (next, response) = apply_block(app, store, &state, &made, fail_at, commit)?;
            state = next;
            response
        } else {
            let signers = match height == genesis.initial_height {
                true => State::genesis(genesis).last_validators,
                false => store.validators(height - 1)?.ok_or_else(|| {
                    StoreError::Damaged(format!("validators {} are missing", height - 1))
                })?,
            };
            let hash = made.id.hash.as_bytes();
            let response = finalize_block(app, &made.block, hash, &signers)?;
            commit()?;
            response
        };
        app_hash_now = response.app_hash;
    }

    // The application committed the last block, the engine's state did not come to the disk.
    if state.last_block_height < store_height {
        let made = stored_block(store, store_height)?;
        let response = store
            .results(store_height)?
            .ok_or_else(|| StoreError::Damaged(format!("results {store_height} are missing")))?;
        expect_app_hash(store_height, &app_hash_now, &response.app_hash)?;
        let next = next_state(&state, &made, &response)?;
        store.save_state(&next, Some(&state), index::entries(&made, &response))?;
        state = next;
    }
    expect_app_hash(state.last_block_height, &app_hash_now, state.app_hash.as_bytes())?;
    Ok((state, info))
}

fn init_chain(app: &dyn Application, genesis: &Genesis) -> Result<State, HandshakeError> {
    let state = State::genesis(genesis);
    let validators = genesis.validators.iter().map(|validator| ValidatorUpdate {
        pub_key: Some(validator.pub_key.into()),
        power: i64::try_from(validator.power).expect("the genesis was checked"),
    });
    let response = app
        .init_chain(RequestInitChain {
            time: Some(genesis.genesis_time.into()),
            chain_id: genesis.chain_id.to_string(),
            consensus_params: Some(genesis.consensus_params.to_proto()),
            validators: validators.collect(),
            app_state_bytes: Bytes::from(genesis.app_state_bytes()),
            initial_height: i64::try_from(genesis.initial_height).expect("heights are below 2^63"),
        })
        .map_err(HaltReason::from)?;
    let params = response.consensus_params.as_ref();
    let state = state
        .with_init_chain(&response.validators, params, &response.app_hash)
        .map_err(HaltReason::Protocol)?;
    Ok(state)
}

fn expect_app_hash(height: u64, app: &[u8], chain: &[u8]) -> Result<(), HandshakeError> {
    match app_hash(app) == app_hash(chain) {
        true => Ok(()),
        false => Err(HandshakeError::AppHashDiffers {
            height,
            app: hex_upper(app),
            chain: hex_upper(chain),
        }),
    }
}
