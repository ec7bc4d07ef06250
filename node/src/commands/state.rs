//! The state of a home on which no node runs: what commands read and change.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chain_types::hex;
use consensus_abci::{
    app::{App, AppError, Options},
    store::{Head, StoreError},
};

use crate::config::Config;

/// Where a home keeps it.
pub fn dir(home: &Path) -> PathBuf {
    home.join("chain/state")
}

/// Opens the state of a home; one that is not there is not made.
///
/// # Errors
/// There is none, a node runs on it, or it cannot be read.
pub fn open(config: &Config) -> anyhow::Result<App> {
    let dir = dir(&config.home);
    if !dir.try_exists().with_context(|| dir.display().to_string())? {
        bail!(
            "{} has no state: start the node once, or name the home with --home DIR",
            config.home.display()
        );
    }
    open_or_make(config)
}

/// As [`open`], and makes an empty one.
///
/// # Errors
/// A node runs on it, or it cannot be made or read.
pub fn open_or_make(config: &Config) -> anyhow::Result<App> {
    // Nothing of the state is made or removed beside what the command does.
    let options = Options { snapshot_interval: 0, ..config.on_chain.kept };
    App::open_with(&dir(&config.home), options).map_err(|error| match error {
        AppError::Store(StoreError::Locked { .. }) => anyhow::anyhow!(
            "a node runs on {}: stop it, then say this again",
            config.home.display()
        ),
        other => other.into(),
    })
}

/// A height and its app hash, for people.
pub fn show(head: &Head) -> String {
    format!("height {}, app hash {}", head.height, hex::text(&head.app_hash))
}

#[cfg(test)]
pub mod testing {
    //! A home with a state in it.

    use consensus_abci::{app::AppState, application::Application};
    use tendermint_proto::{
        google::protobuf::Timestamp,
        v0_38::abci::{RequestFinalizeBlock, RequestInitChain},
    };

    use super::*;

    pub const CHAIN_ID: &str = "sutantra-commands-1";

    /// The default configuration of a home.
    pub fn config(home: &Path) -> Config {
        let flags = [("home", vec![home.display().to_string()])].into();
        let around = crate::config::Surroundings {
            env: &|_| None,
            read_file: &|_| Ok(None),
            cores: 2,
            development: false,
        };
        crate::config::resolve(&flags, None, &around).expect("defaults").config
    }

    fn time(height: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds: 1_700_000_000 + height, nanos: 0 })
    }

    /// A genesis file, and a state that is `heights` blocks behind it.
    pub fn chain(config: &Config, heights: i64) -> App {
        let json = r#"{"accounts":[{"account":"ID","balance":"1000000000000"}]}"#;
        let app_state = json.replace("ID", &"07".repeat(32));
        std::fs::create_dir_all(config.home.join("config")).expect("ours");
        let key = consensus_abci::engine::ValidatorKey::from_seed([7; 32]).public_key();
        let genesis = consensus_abci::engine::Genesis::single(
            CHAIN_ID.parse().expect("an id"),
            tendermint::Time::from_unix_timestamp(1_700_000_000, 0).expect("a time"),
            key,
            serde_json::from_str(&app_state).expect("JSON"),
        );
        let file = config.home.join("config/genesis.json");
        std::fs::write(file, genesis.to_json().to_string()).expect("ours");
        AppState::read(app_state.as_bytes()).expect("sound");
        let options = Options { snapshot_interval: 2, ..Options::default() };
        let app = App::open_with(&dir(&config.home), options).expect("empty");
        app.init_chain(RequestInitChain {
            time: time(0),
            chain_id: CHAIN_ID.to_owned(),
            app_state_bytes: app_state.into(),
            initial_height: 1,
            ..RequestInitChain::default()
        })
        .expect("sound");
        for height in 1..=heights {
            let request = RequestFinalizeBlock { height, time: time(height), ..Default::default() };
            app.finalize_block(request).expect("sound");
            app.commit().expect("sound");
        }
        app
    }
}
