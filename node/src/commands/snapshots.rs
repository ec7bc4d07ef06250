//! `snapshots …`: the states that others can join from, in files of their own and carried by hand.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use chain_types::{StateKey, hex};
use clap::Subcommand;
use consensus_abci::store::statesync::{Archive, Chunk, Incoming, pack, unpack};

use super::{say, state};
use crate::config::Config;

/// `snapshots`.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum SnapshotsCommand {
    /// Shows those of this home, the newest first
    List,
    /// Writes one into a file, to be carried to another machine
    Export {
        /// Which
        height: u64,
        /// A file that is not there yet
        file: PathBuf,
    },
    /// Makes the state of this home, which must have none, from such a file
    Restore {
        /// As `snapshots export` wrote it
        file: PathBuf,
        /// The app hash that it must have, as the header of the next height says it
        #[arg(long, value_name = "HEX")]
        app_hash: Option<String>,
    },
    /// Removes one
    Delete {
        /// Which
        height: u64,
    },
}

/// Carries out one of them.
///
/// # Errors
/// A sentence that says what to do next.
pub fn run(command: SnapshotsCommand, config: &Config) -> anyhow::Result<()> {
    let archive = Archive::of(&state::dir(&config.home));
    match command {
        SnapshotsCommand::List => say(&list(&archive)?),
        SnapshotsCommand::Export { height, file } => {
            let metadata = pack(&archive, height, &file)?;
            say(&format!(
                "{}: height {height}, app hash {}\n",
                file.display(),
                hex::text(&metadata.app_hash)
            ))
        }
        SnapshotsCommand::Restore { file, app_hash } => {
            restore(config, &archive, &file, app_hash.as_deref())
        }
        SnapshotsCommand::Delete { height } => {
            // Held so that no node serves it meanwhile.
            let _app = state::open(config)?;
            Ok(archive.delete(height)?)
        }
    }
}

fn list(archive: &Archive) -> anyhow::Result<String> {
    let snapshots = archive.list()?;
    if snapshots.is_empty() {
        let sentence = "there are none: a node makes one each `snapshot-interval` blocks\n";
        return Ok(sentence.to_owned());
    }
    let mut text =
        format!("{:>10} {:>7} {:>13}  {:<64}\n", "height", "chunks", "bytes", "app hash");
    for metadata in snapshots {
        let (height, chunks) = (metadata.height, metadata.chunks.len());
        let len_bytes = archive.len_bytes(height)?;
        let app_hash = hex::text(&metadata.app_hash);
        text += &format!("{height:>10} {chunks:>7} {len_bytes:>13}  {app_hash}\n");
    }
    Ok(text)
}

fn restore(
    config: &Config,
    archive: &Archive,
    file: &std::path::Path,
    app_hash: Option<&str>,
) -> anyhow::Result<()> {
    let app = state::open_or_make(config)?;
    if let Some(head) = app.snapshot().head() {
        bail!(
            "{} has a state already ({}): move {} away first",
            config.home.display(),
            state::show(&head),
            state::dir(&config.home).display()
        );
    }
    let incoming = unpack(archive, file)?;
    let found = hex::text(&incoming.metadata().app_hash);
    if let Some(wanted) = app_hash.filter(|wanted| !wanted.eq_ignore_ascii_case(&found)) {
        bail!(
            "{} has app hash {found}, not {wanted}: it is of another chain or height",
            file.display()
        );
    }
    let theirs = chain_id(&incoming)?;
    let genesis = config.home.join("config/genesis.json");
    if genesis.exists() {
        let ours = super::genesis::Document::open(&genesis)?.chain_id()?;
        if ours != theirs {
            bail!("{} is of the chain {theirs}, {} of {ours}", file.display(), genesis.display());
        }
    }
    app.restore_snapshot(incoming)?;
    let head = app.snapshot().head().context("the state is not there")?;
    say(&format!(
        "the state of {theirs} at {}\n{}An engine that has the blocks behind this height goes on \
         from here.\n",
        state::show(&head),
        match app_hash {
            Some(_) => "",
            None =>
                "Nobody vouches for it: compare the app hash with the one in the header of the \
                 next height.\n",
        },
    ))
}

/// The chain of a snapshot, by its own record.
fn chain_id(incoming: &Incoming) -> anyhow::Result<String> {
    let key = StateKey::ChainId.to_bytes();
    for at in 0..incoming.metadata().chunks.len() {
        let chunk = Chunk::decode(&incoming.chunk(at)?).context("a chunk cannot be read")?;
        if let Some((_, value)) = chunk.entries.into_iter().find(|(found, _)| *found == key) {
            return borsh::from_slice(&value).context("the chain's id cannot be read");
        }
    }
    bail!("the snapshot does not say which chain it is of")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use super::*;
    use crate::commands::state::testing::config;

    #[track_caller]
    fn refused(command: SnapshotsCommand, config: &Config, part: &str) {
        let error = format!("{:#}", run(command, config).expect_err("refused"));
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn a_snapshot_is_carried_to_another_home_and_becomes_its_state() {
        let (home, other, file) =
            (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
        let (here, there) = (config(home.path()), config(other.path()));
        let file = file.path().join("carried");
        let app = state::testing::chain(&here, 4);
        let archive = Archive::of(&state::dir(home.path()));
        let begin = Instant::now();
        while archive.metadata(4).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(20), "no snapshot");
            std::thread::sleep(Duration::from_millis(2));
        }
        let head = app.snapshot().head().expect("a state");
        let app_hash = hex::text(&head.app_hash);
        // A running node keeps what it serves.
        refused(SnapshotsCommand::Delete { height: 4 }, &here, "a node runs on");
        let export = |height| SnapshotsCommand::Export { height, file: file.clone() };
        run(export(4), &here).expect("is there");
        refused(export(4), &here, "carried");
        refused(export(9), &here, "no snapshot of height 9");
        let text = list(&archive).expect("readable");
        assert!(text.contains(&app_hash) && text.lines().count() >= 2, "{text}");

        let restore =
            |app_hash: Option<String>| SnapshotsCommand::Restore { file: file.clone(), app_hash };
        refused(restore(None), &here, "a node runs on");
        drop(app);
        refused(restore(None), &here, "has a state already");
        refused(restore(Some("00".repeat(32))), &there, "of another chain or height");
        run(restore(Some(app_hash.to_uppercase())), &there).expect("restored");
        let app = state::open(&there).expect("a state");
        assert_eq!(app.snapshot().head(), Some(head));
        assert_eq!(app.snapshot().chain_id(), Some(state::testing::CHAIN_ID));
        drop(app);

        run(SnapshotsCommand::Delete { height: 4 }, &there).expect("is there");
        refused(SnapshotsCommand::Delete { height: 4 }, &there, "`snapshots list`");
        std::fs::write(&file, b"something else").expect("ours");
        let third = TempDir::new().unwrap();
        refused(restore(None), &config(third.path()), "carried");
        refused(
            SnapshotsCommand::Delete { height: 1 },
            &config(&third.path().join("no")),
            "start the node once",
        );
    }

    #[test]
    fn a_snapshot_of_another_chain_is_refused() {
        let (home, other, file) =
            (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
        let (here, there) = (config(home.path()), config(other.path()));
        let app = state::testing::chain(&here, 2);
        let archive = Archive::of(&state::dir(home.path()));
        let begin = Instant::now();
        while archive.metadata(2).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(20), "no snapshot");
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(app);
        let file = file.path().join("carried");
        run(SnapshotsCommand::Export { height: 2, file: file.clone() }, &here).expect("is there");
        std::fs::create_dir_all(other.path().join("config")).expect("ours");
        let genesis = std::fs::read_to_string(home.path().join("config/genesis.json"))
            .expect("written")
            .replace(state::testing::CHAIN_ID, "another-chain-9");
        std::fs::write(other.path().join("config/genesis.json"), genesis).expect("ours");
        refused(
            SnapshotsCommand::Restore { file, app_hash: None },
            &there,
            "is of the chain sutantra-commands-1",
        );
    }
}
