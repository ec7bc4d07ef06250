//! The whole state as the `app_state` of a genesis file.

use chain_types::hex;

use super::{
    genesis::{AppState, GenesisRecord},
    read::StateSnapshot,
    state::StateError,
};

impl StateSnapshot {
    /// All records in the order of their keys: a chain whose genesis has them, with
    /// `initial_height` one above this height, goes on from here.
    ///
    /// # Errors
    /// The disk's, and before the genesis state.
    pub fn export(&self) -> Result<AppState, StateError> {
        if self.head().is_none() {
            return Err(StateError::NoGenesis);
        }
        let record = |entry: Result<(Vec<u8>, Vec<u8>), _>| {
            let (key, value) = entry?;
            Ok(GenesisRecord { key: hex::text(&key), value: hex::text(&value) })
        };
        let records = self.iterate(b"").map(record).collect::<Result<_, StateError>>()?;
        Ok(AppState { records, ..AppState::default() })
    }
}
