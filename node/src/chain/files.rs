//! What of a chain's files may be missing at a start, and what may not.

use std::path::Path;

use anyhow::{Context, bail};

/// Refuses a home that would begin another chain, or the same one anew, over what is left of one.
///
/// # Errors
/// What is gone, what its loss means, and what to do.
pub(super) fn check(home: &Path) -> anyhow::Result<()> {
    let exists = |path: &str| {
        let found = home.join(path).try_exists();
        found.with_context(|| format!("{} cannot be looked at", home.join(path).display()))
    };
    let genesis = exists("config/genesis.json")?;
    // Whichever engine's: the state can be made again from either.
    let blocks = exists("chain/blocks")? || exists("data/blockstore.db")?;
    let state = exists("chain/state")?;
    let dir = home.display();
    if !genesis && (blocks || state) {
        bail!(
            "{dir}/config/genesis.json is gone, and the chain in {dir} cannot be used without \
             it: put that file back; no other one fits"
        );
    }
    if genesis && !blocks && !state && exists("settlement/vouchers.log")? {
        bail!(
            "{dir}/chain is gone, and with it every account and channel, while the genesis and the \
             vouchers of its channels are still there: put {dir}/chain back. To begin another chain, \
             move {dir}/config/genesis.json and {dir}/settlement away: the vouchers in it are then \
             worth nothing"
        );
    }
    Ok(())
}

/// An error and what caused it, each said once though some repeat their cause in their own words.
pub(super) fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut text, cause| {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use tempfile::TempDir;

    use super::*;

    /// Prints its cause, and names it as well.
    #[derive(Debug, thiserror::Error)]
    #[error("genesis here: {source}")]
    struct Repeating {
        source: io::Error,
    }

    const ALL: [&str; 4] =
        ["config/genesis.json", "chain/blocks", "chain/state", "settlement/vouchers.log"];
    const COMETBFT: &str = "data/blockstore.db";

    /// A home with these files.
    #[track_caller]
    fn check_home(there: &[&str], expected: Option<&str>) {
        let home = TempDir::new().unwrap();
        for path in there {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().expect("below the home")).expect("ours");
            fs::write(path, "").expect("ours");
        }
        let found = check(home.path()).map_err(|error| error.to_string());
        match expected {
            None => assert_eq!(found, Ok(()), "{there:?}"),
            Some(what) => {
                let error = found.expect_err("it is refused");
                assert!(error.contains(what), "{there:?}: {error}");
            }
        }
        let left =
            ALL.iter().chain([&COMETBFT]).filter(|path| home.path().join(path).exists()).count();
        assert_eq!(left, there.len(), "nothing is made");
    }

    #[test]
    fn a_home_that_lost_its_chain_or_its_genesis_is_not_begun_anew() {
        let [genesis, blocks, state, vouchers] = ALL;
        check_home(&[], None);
        check_home(&ALL, None);
        // The first start ended early.
        check_home(&[genesis], None);
        // Rebuilt from the blocks.
        check_home(&[genesis, blocks, vouchers], None);
        check_home(&[genesis, COMETBFT, vouchers], None);
        // The engine says what the other way round means.
        check_home(&[genesis, state, vouchers], None);
        check_home(&[blocks, state], Some("genesis.json is gone"));
        check_home(&[blocks], Some("put that file back"));
        check_home(&[state, vouchers], Some("genesis.json is gone"));
        check_home(&[genesis, vouchers], Some("chain is gone"));
        // Without the chain's name the books refuse by themselves.
        check_home(&[vouchers], None);
    }

    #[test]
    fn a_cause_that_an_error_has_said_itself_is_not_said_again() {
        let error = || Repeating { source: io::Error::other("disk on fire") };
        let once = "genesis here: disk on fire";
        assert_eq!(sentence(&error().into()), once);
        let with_context = anyhow::Error::from(error()).context("no chain");
        assert_eq!(sentence(&with_context), format!("no chain: {once}"));
        let other = anyhow::anyhow!("one").context("two");
        assert_eq!(sentence(&other), "two: one");
    }
}
