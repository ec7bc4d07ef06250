//! The home of a coordinator: its key and its settings, no chain.

use std::path::Path;

use anyhow::bail;

use super::{EngineName, InitArgs, settings::Settings, write};
use crate::{
    commands::say,
    config::{
        FILE_NAME,
        chain::Role,
        home::{self, Home},
        stamp,
    },
};

/// Makes the home.
///
/// # Errors
/// What of the arguments is about a chain; nothing was made then. Or the home cannot be written.
pub fn run(args: &InitArgs, home: &Path) -> anyhow::Result<()> {
    let of_chain = [
        (args.chain_id.is_some(), "--chain-id"),
        (args.genesis.is_some(), "--genesis"),
        (!args.peers.is_empty(), "--peer"),
        (!args.changes.is_empty(), "--param"),
        (args.comet != EngineName::Embedded, "--comet"),
    ];
    if let Some((_, flag)) = of_chain.iter().find(|(is_given, _)| *is_given) {
        bail!("{flag} is about a chain, and a coordinator keeps none: drop it");
    }
    let settings = Settings {
        moniker: &args.moniker,
        role: Role::Coordinator,
        comet: "embedded",
        peers: &[],
        chain_rpc: &[],
    };
    let toml = settings.text()?;
    let locked = Home::open(home)?;
    stamp::open(locked.dir())?;
    let node_id = home::coordinator_key(home)?.node_id();
    write(&home.join(FILE_NAME), toml.as_bytes())?;
    let (dir, role) = (home.display(), Role::Coordinator.name());
    say(&format!(
        "home       {dir}\nrole       {role}\nnode id    {node_id}\n\nnext\n\
         \x20 sutantra-node start --home {dir} --http 0.0.0.0:8080   # behind HTTPS, for browsers\n"
    ))
}
