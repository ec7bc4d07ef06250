//! `rollback`: takes back the newest block, of the state and of the engine, to be executed again.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, bail};
use clap::Args;
use comet::process::Binary;
use consensus_abci::app::APP_VERSION;
use serde_json::Value;

use super::{say, state};
use crate::config::{Config, stamp};

/// Arguments of `rollback`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct RollbackArgs {
    /// CometBFT forgets the block itself too, and takes it from its peers again: for a second block,
    /// or one that should not be
    #[arg(long)]
    hard: bool,
}

/// Carries it out.
///
/// # Errors
/// A sentence that says what to do next.
pub fn run(args: RollbackArgs, config: &Config) -> anyhow::Result<()> {
    let home = config.home.as_path();
    let engine = stamp::read(home)?.and_then(|stamp| stamp.engine);
    let is_comets = engine == Some(stamp::Engine::Cometbft);
    if args.hard && !is_comets {
        bail!("--hard is for a home whose blocks are CometBFT's: say `rollback` alone");
    }
    // An engine of another machine or user has its files elsewhere.
    let has_files = home.join("data/blockstore.db").try_exists()?;
    let program = match is_comets && has_files {
        true => Some(Binary::find(config.on_chain.comet_bin.as_deref())?),
        false => None,
    };
    if program.is_some() {
        check_version(home)?;
    }
    let app = state::open(config)?;
    let head = app.roll_back()?;
    drop(app);
    let height = head.height + 1;
    let what_next = match (is_comets, program) {
        (false, _) => format!(
            "The embedded engine executes the block of height {height} again when the node starts, \
             and must come to the same app hash."
        ),
        (true, None) => format!(
            "CometBFT's files are not in this home: say `{}` there, with CometBFT stopped.",
            words(args).join(" ")
        ),
        (true, Some(program)) => {
            let said = roll_back_engine(&program, home, args)?;
            let again = match args.hard {
                true => "comes from its peers again",
                false => "is executed again when the node starts",
            };
            format!("CometBFT says: {said}\nThe block of height {height} {again}.")
        }
    };
    say(&format!("the state is at {}\n{what_next}\n", state::show(&head)))
}

fn words(RollbackArgs { hard }: RollbackArgs) -> Vec<&'static str> {
    let all = ["cometbft", "rollback", "--hard"];
    all[..if hard { 3 } else { 2 }].to_vec()
}

/// CometBFT takes the application's version from the genesis when it goes back (`Rollback` of its
/// `state/rollback.go`), and then refuses every block of another one.
fn check_version(home: &Path) -> anyhow::Result<()> {
    let path = home.join("config/genesis.json");
    let text = fs::read(&path).with_context(|| path.display().to_string())?;
    let genesis: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let version = genesis.pointer("/consensus_params/version/app").and_then(Value::as_str);
    if version != Some(&APP_VERSION.to_string()) {
        bail!(
            "the genesis of this chain has consensus_params.version.app {}, its blocks have \
             {APP_VERSION}: after CometBFT's rollback it would refuse them all, so nothing is taken \
             back. Restore a snapshot of a lower height (`snapshots restore`), or remove chain/state \
             and the blocks are executed again",
            version.unwrap_or("0")
        );
    }
    Ok(())
}

/// What it said. The state is back already: what fails here is said with what is left to do.
fn roll_back_engine(program: &Binary, home: &Path, args: RollbackArgs) -> anyhow::Result<String> {
    let by_hand = || {
        let words = words(args).join(" ");
        format!(
            "the state is taken back, CometBFT's is not: say `{words} --home {}`",
            home.display()
        )
    };
    let mut command = Command::new(&program.path);
    command.args(&words(args)[1..]).arg("--home").arg(home);
    let output = command.output().with_context(by_hand)?;
    let last = |bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.trim().lines().last().unwrap_or("nothing").to_owned()
    };
    if output.status.success() {
        return Ok(last(&output.stdout));
    }
    let said = last(&output.stderr);
    Err(anyhow::anyhow!(said)).with_context(by_hand)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;
    use crate::commands::state::testing::config;

    const SOFT: RollbackArgs = RollbackArgs { hard: false };
    const HARD: RollbackArgs = RollbackArgs { hard: true };

    #[test]
    fn a_block_is_taken_back_when_no_node_runs() {
        let home = TempDir::new().unwrap();
        let config = config(home.path());
        let refused = |config: &Config| format!("{:#}", run(SOFT, config).expect_err("refused"));
        assert!(refused(&config).contains("start the node once"));
        let app = state::testing::chain(&config, 3);
        assert!(refused(&config).contains("a node runs on"), "{}", refused(&config));
        drop(app);
        for height in [2, 1, 0] {
            run(SOFT, &config).expect("a block");
            let app = state::open(&config).expect("a state");
            assert_eq!(app.snapshot().height(), height);
        }
        assert!(refused(&config).contains("the genesis state"), "{}", refused(&config));
        assert!(run(HARD, &config).is_err(), "there is no CometBFT");
    }

    /// A program that says it is CometBFT, notes its words, and ends as it is told.
    fn cometbft(home: &Path, code: u8) -> std::path::PathBuf {
        let program = home.join("cometbft");
        let text = format!(
            "#!/bin/sh\nif [ \"$1\" = version ]; then echo 0.38.26; exit 0; fi\n\
             echo \"$@\" >> {}/said\necho 'it is locked' >&2\nexit {code}\n",
            home.display()
        );
        fs::write(&program, text).expect("ours");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("ours");
        program
    }

    #[test]
    fn cometbfts_state_is_taken_back_with_ours() {
        let home = TempDir::new().unwrap();
        let mut config = config(home.path());
        drop(state::testing::chain(&config, 4));
        stamp::claim_engine(home.path(), stamp::Engine::Cometbft).expect("ours");
        // Its files are not here: it is left alone.
        config.on_chain.comet_bin = Some(cometbft(home.path(), 0));
        run(SOFT, &config).expect("a block");
        assert!(!home.path().join("said").exists());
        fs::create_dir_all(home.path().join("data/blockstore.db")).expect("ours");
        let genesis = |version: &str| {
            let text = format!(r#"{{"consensus_params":{{"version":{{"app":"{version}"}}}}}}"#);
            fs::create_dir_all(home.path().join("config")).expect("ours");
            fs::write(home.path().join("config/genesis.json"), text).expect("ours");
        };
        genesis("0");
        let error = format!("{:#}", run(SOFT, &config).expect_err("its blocks would be refused"));
        assert!(error.contains("version.app 0, its blocks have 1"), "{error}");
        assert_eq!(state::open(&config).expect("a state").snapshot().height(), 3);
        genesis("1");
        run(SOFT, &config).expect("a block");
        run(HARD, &config).expect("a block");
        let said = fs::read_to_string(home.path().join("said")).expect("it was asked");
        let at = home.path().display();
        assert_eq!(said, format!("rollback --home {at}\nrollback --hard --home {at}\n"));

        // What it refuses is said, with what is left to do.
        cometbft(home.path(), 1);
        let error = format!("{:#}", run(HARD, &config).expect_err("refused"));
        assert!(error.contains("`cometbft rollback --hard --home"), "{error}");
        assert!(error.ends_with("it is locked"), "{error}");
        // A program that is not there is found out before anything is touched.
        let before = state::open(&config).expect("a state").snapshot().height();
        config.on_chain.comet_bin = Some(home.path().join("nowhere"));
        assert!(run(SOFT, &config).is_err());
        assert_eq!(state::open(&config).expect("a state").snapshot().height(), before);
    }
}
