//! What an operator does besides running a node: the home, its keys, the chain, a word each.

use anyhow::Context as _;
use clap::{Command, Subcommand};

use crate::config::Config;

mod comet;
mod completions;
mod endpoint;
mod export;
mod genesis;
mod init;
mod keys;
mod prompt;
mod query;
mod rollback;
mod snapshots;
mod state;
mod status;
mod tx;
mod version;

pub use version::version;

/// An operator's command.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum OperatorCommand {
    /// Makes a home: keys, genesis, settings
    Init(Box<init::InitArgs>),
    /// Begins a chain together with other operators
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Accounts of the home: their words, their ids, a backup of them
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Makes, signs, sends and reads transactions
    Tx(Box<tx::TxArgs>),
    /// Asks the chain, and checks the proof of what it says
    Query(Box<query::QueryArgs>),
    /// Shows how the node of the home, or another one, is
    Status(status::StatusArgs),
    /// What CometBFT calls this node and its validator
    #[command(subcommand)]
    Comet(comet::CometCommand),
    /// States that others can join from
    #[command(subcommand)]
    Snapshots(snapshots::SnapshotsCommand),
    /// Takes back the newest block of the state and the engine, to be executed again
    Rollback(rollback::RollbackArgs),
    /// Writes the whole state as the genesis of a chain that goes on from it
    Export(export::ExportArgs),
    /// Runs a network on this machine: validators with CometBFT, and a relay
    Localnet(Box<crate::localnet::LocalnetArgs>),
    /// Looks at this machine, the home and the chain, and says what to mend
    Doctor(crate::doctor::DoctorArgs),
    /// Prints a script that completes this program's commands in a shell
    Completions(completions::CompletionsArgs),
}

impl OperatorCommand {
    /// `command` with these commands, each with the arguments of `home`.
    pub fn add_to(command: Command, home: &[clap::Arg]) -> Command {
        let own = Self::augment_subcommands(Command::new("own"));
        let with_home =
            |own: &Command| own.clone().args(home.iter().cloned().map(|arg| arg.global(true)));
        command.subcommands(own.get_subcommands().map(with_home))
    }
}

/// Carries out one command.
///
/// # Errors
/// A sentence that says what to do next.
pub fn run(command: OperatorCommand, config: &Config) -> anyhow::Result<()> {
    let home = config.home.as_path();
    match command {
        OperatorCommand::Init(args) => init::run(*args, home),
        OperatorCommand::Genesis(command) => genesis::run(command, config),
        OperatorCommand::Keys(command) => keys::run(command, home),
        OperatorCommand::Tx(args) => tx::run(*args, config),
        OperatorCommand::Query(args) => query::run(*args, config),
        OperatorCommand::Status(args) => status::run(args, config),
        OperatorCommand::Comet(command) => comet::run(command, home),
        OperatorCommand::Snapshots(command) => snapshots::run(command, config),
        OperatorCommand::Rollback(args) => rollback::run(args, config),
        OperatorCommand::Export(args) => export::run(&args, config),
        OperatorCommand::Localnet(args) => crate::localnet::run(&args, home),
        OperatorCommand::Doctor(args) => crate::doctor::run(&args, config),
        OperatorCommand::Completions(args) => completions::run(args),
    }
}

/// Writes to stdout; a reader that went away is no failure of the command.
fn say(text: &str) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("stdout"),
        Ok(()) | Err(_) => Ok(()),
    }
}
