//! Upgrades: from the block on that was decided, only a program that knows the upgrade goes on.
//!
//! The block's execution begins with the upgrade's own change of the state. A program that does not
//! know it stops there, with nothing executed, and says what to install; so does one that is older
//! than the state it was given.

use std::{fs, path::Path};

use borsh::{BorshDeserialize, BorshSerialize};
use chain_types::{
    ChainEvent, StateKey,
    staking::{DoneUpgrade, Upgrade},
};
use serde_json::json;

use super::{
    abci::Failure,
    state::{BlockState, StateError},
};
use crate::store::Snapshot;

/// An upgrade that a program knows.
#[derive(Debug, Clone, Copy)]
pub struct KnownUpgrade {
    /// As it is scheduled.
    pub name: &'static str,
    /// What it changes in the state before anything else of its block; an error stops the chain.
    pub migrate: fn(&mut Migration<'_>) -> Result<(), StateError>,
}

/// All upgrades that this program knows, the oldest first: a release that changes the rules adds
/// its own. `rehearsal` changes nothing, and is for networks that practise.
pub const UPGRADES: &[KnownUpgrade] = &[KnownUpgrade { name: "rehearsal", migrate: |_| Ok(()) }];

/// In the state's directory while an upgrade is missing: `{"name", "height", "info"}`, for programs
/// that install what is missing.
pub const UPGRADE_INFO_FILE: &str = "upgrade-info.json";

/// The state under an upgrade's hands. Parameters that it writes hold from the next block on.
pub struct Migration<'a>(&'a mut BlockState);

impl Migration<'_> {
    /// A record as it is now.
    ///
    /// # Errors
    /// The disk's, or another layout.
    pub fn get<T: BorshDeserialize>(&self, key: StateKey) -> Result<Option<T>, StateError> {
        self.0.get(key)
    }

    /// Writes a record.
    pub fn put(&mut self, key: StateKey, record: &impl BorshSerialize) {
        self.0.put(key, record);
    }

    /// Removes a record.
    pub fn delete(&mut self, key: StateKey) {
        self.0.delete(key);
    }

    /// All keys that begin so, in the order of their bytes.
    ///
    /// # Errors
    /// The disk's.
    pub fn keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StateError> {
        self.0.keys(prefix, usize::MAX)
    }
}

/// An upgrade of the state that the program is too old for.
pub(super) fn unknown(
    snapshot: &Snapshot,
    known: &[KnownUpgrade],
) -> Result<Option<DoneUpgrade>, StateError> {
    let Some(bytes) = snapshot.get(&StateKey::UpgradesDone.to_bytes())? else { return Ok(None) };
    let done: Vec<DoneUpgrade> = super::state::decode(StateKey::UpgradesDone, &bytes)?;
    Ok(done.into_iter().find(|done| knows(known, &done.name).is_none()))
}

/// Why a program that is older than the state does nothing with it.
pub(super) fn too_old(DoneUpgrade { name, height }: &DoneUpgrade) -> Failure {
    let version = env!("CARGO_PKG_VERSION");
    Failure::Said(format!(
        "the state went through the upgrade {name} at height {height}, which this program \
         ({version}) does not know: install the version that wrote the state, or a later one"
    ))
}

pub(super) fn knows<'a>(known: &'a [KnownUpgrade], name: &str) -> Option<&'a KnownUpgrade> {
    known.iter().find(|one| one.name == name)
}

impl BlockState {
    /// Goes through the upgrade that is due with this block, if one is; what happened. Nothing was
    /// executed before it.
    pub(super) fn upgrade(
        &mut self,
        known: &[KnownUpgrade],
        dir: &Path,
    ) -> Result<Vec<ChainEvent>, Failure> {
        let next: Option<Upgrade> = self.get(StateKey::Upgrade)?;
        let Some(upgrade) = next.filter(|next| next.height <= self.height) else {
            return Ok(Vec::new());
        };
        let Some(KnownUpgrade { migrate, .. }) = knows(known, &upgrade.name) else {
            return Err(missing(&upgrade, self.height, dir));
        };
        migrate(&mut Migration(self))?;
        let Upgrade { name, height, info: _ } = upgrade;
        let mut done: Vec<DoneUpgrade> = self.get(StateKey::UpgradesDone)?.unwrap_or_default();
        done.push(DoneUpgrade { name: name.clone(), height: self.height });
        self.put(StateKey::UpgradesDone, &done);
        self.delete(StateKey::Upgrade);
        // What the program before left; that there is none is as well.
        let _ = fs::remove_file(dir.join(UPGRADE_INFO_FILE));
        tracing::info!(height, "the chain goes through the upgrade {name}");
        self.event(ChainEvent::Upgraded { name, height: self.height });
        Ok(self.keep())
    }

    /// Whether an upgrade of this name was gone through.
    pub(super) fn is_upgraded(&self, name: &str) -> Result<bool, StateError> {
        let done: Option<Vec<DoneUpgrade>> = self.get(StateKey::UpgradesDone)?;
        Ok(done.unwrap_or_default().iter().any(|done| done.name == name))
    }
}

fn missing(upgrade: &Upgrade, height: u64, dir: &Path) -> Failure {
    let Upgrade { name, height: needed, info } = upgrade;
    let text = json!({ "name": name, "height": needed, "info": info }).to_string();
    if let Err(error) = fs::write(dir.join(UPGRADE_INFO_FILE), text) {
        tracing::warn!("{UPGRADE_INFO_FILE} cannot be written: {error}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let info = if info.is_empty() { "no place is told" } else { info };
    Failure::Said(format!(
        "block {height} needs the upgrade {name}, which this program ({version}) does not know: \
         install the version that has it ({info}) and start again. Nothing of the block was executed"
    ))
}

/// Says early that the program will not do: there is time to install another.
pub(super) fn warn(events: &[ChainEvent], known: &[KnownUpgrade]) {
    for event in events {
        if let ChainEvent::UpgradeScheduled { name, height } = event
            && knows(known, name).is_none()
        {
            tracing::warn!(
                "the upgrade {name} is decided for height {height}, and this program does not know \
                 it: it stops before that block. Have the version that knows it ready"
            );
        }
    }
}
