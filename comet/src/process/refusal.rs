//! CometBFT's own words about why it will not go on, as a sentence with a remedy.

use super::journal::{LOG_FILE, Remembered};

/// A reason to end that is known. The program's own words are beside it where they name what it is
/// about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The state is newer than the blocks.
    #[error(
        "the application's state is at height {app}, CometBFT's blocks end at {core}: data/ is older \
         than chain/, or another chain's. Restore both from the same moment. If data/ is the right \
         one, move chain/state aside (do not delete it), and the state is made again from the \
         blocks; a validator must not start with an older data/priv_validator_state.json than its \
         last one, or it signs twice"
    )]
    AppAhead {
        /// Height of the application.
        app: u64,
        /// Height of CometBFT's blocks.
        core: u64,
    },
    /// Blocks and application do not agree on the state.
    #[error(
        "the application computes another state than the chain's blocks say ({words}): run the \
         version of this program that the other validators run; if it is that one, move \
         chain/state aside, and it is made again from the blocks"
    )]
    AppHash {
        /// CometBFT's.
        words: String,
    },
    /// Somebody has the address.
    #[error(
        "an address is taken by another program ({words}): stop that one, or choose others with \
         --rpc and --p2p"
    )]
    AddressInUse {
        /// CometBFT's.
        words: String,
    },
    /// Another process works on the same data.
    #[error(
        "another CometBFT works on this home's data/: stop it (a node that was killed may have left \
         one; `pgrep -a cometbft` shows its home)"
    )]
    Locked,
    /// The data cannot be read.
    #[error(
        "CometBFT cannot read its data ({words}): they are damaged, or another version wrote them. \
         Run the version that wrote them; or remove data/ but priv_validator_state.json, and \
         chain/state, and the blocks come again from the peers"
    )]
    Data {
        /// CometBFT's.
        words: String,
    },
    /// The record of signatures is missing or damaged.
    #[error(
        "the record of what this validator has signed cannot be used ({words}): restore \
         data/priv_validator_state.json from this very machine; an older one could make it sign \
         twice"
    )]
    SignState {
        /// CometBFT's.
        words: String,
    },
    /// Its signatures stand in the newest blocks, and it was told to look.
    #[error(
        "this validator's signature stands in the newest blocks: another node runs with its key, \
         which is punished. Stop that one first; if there is none, wait as many blocks as \
         double_sign_check_height in config/config.toml says"
    )]
    RunsElsewhere,
    /// A value in `config.toml`.
    #[error("config/config.toml or a CMT_ variable is wrong: {words}; mend that value")]
    Config {
        /// CometBFT's.
        words: String,
    },
    /// No room.
    #[error("the disk is full: make room and start the node again")]
    DiskFull,
}

impl Refusal {
    /// Reads it from the last words of a run.
    pub(super) fn of(run: &Remembered) -> Option<Self> {
        let line = run.last_words()?;
        let words = || line.strip_prefix("ERROR: ").unwrap_or(line).to_owned();
        let says = |texts: &[&str]| texts.iter().any(|text| line.contains(text));
        // A state above the blocks shows as a wrong hash too: at height 0 there is nothing else to
        // compare.
        let ahead = run.heights.filter(|(app, core)| app > core);
        if let (Some((app, core)), true) = (ahead, says(&["AppHash", "higher than core"])) {
            return Some(Self::AppAhead { app, core });
        }
        Some(
            if says(&["AppHash does not match", "wrong Block.Header.AppHash", "higher than core"]) {
                Self::AppHash { words: words() }
            } else if says(&["address already in use"]) {
                Self::AddressInUse { words: words() }
            } else if says(&["resource temporarily unavailable"]) {
                Self::Locked
            } else if says(&["no space left on device"]) {
                Self::DiskFull
            } else if says(&["found signature from the same key"]) {
                Self::RunsElsewhere
            } else if says(&["priv_validator_state.json", "PrivValidator state"]) {
                Self::SignState { words: words() }
            } else if says(&[
                "Data has been corrupted",
                "corrupted",
                "failed to initialize database",
            ]) {
                Self::Data { words: words() }
            } else if says(&[
                "error(s) decoding",
                "decoding failed",
                "failed to parse",
                "error in config file",
                "toml: ",
            ]) {
                Self::Config { words: words() }
            } else {
                return None;
            },
        )
    }

    /// Whether another start can have no other end.
    pub(super) fn is_final(&self) -> bool {
        match self {
            // The other program may be one of ours that is still ending.
            Self::AddressInUse { .. } | Self::Locked | Self::DiskFull | Self::RunsElsewhere => {
                false
            }
            Self::AppAhead { .. }
            | Self::AppHash { .. }
            | Self::Data { .. }
            | Self::SignState { .. }
            | Self::Config { .. } => true,
        }
    }
}

/// Trouble that does not end the program, and that the operator must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Warning {
    /// It refuses to sign what it may have signed before.
    SignedAlready,
    /// A peer is of another chain.
    OtherNetwork,
    /// The application cannot be reached.
    NoApplication,
}

impl Warning {
    pub(super) fn of(line: &str) -> Option<Self> {
        let says = |texts: &[&str]| texts.iter().any(|text| line.contains(text));
        if says(&["height regression", "round regression", "step regression", "conflicting data"]) {
            Some(Self::SignedAlready)
        } else if says(&["is on a different network"]) {
            Some(Self::OtherNetwork)
        } else if says(&["socketClient failed to connect"]) {
            Some(Self::NoApplication)
        } else {
            None
        }
    }

    /// For the log and the status.
    pub(super) fn sentence(self) -> String {
        match self {
            Self::SignedAlready => "this validator does not sign: data/priv_validator_state.json says that \
                it has signed these heights already. It signs again above them; until then, look whether \
                another node runs with its key"
                .to_owned(),
            Self::OtherNetwork => "a peer is of another chain: compare config/genesis.json with its, and the \
                addresses in --peers"
                .to_owned(),
            Self::NoApplication => {
                format!("CometBFT does not reach the application; it tries every 3 s (see {LOG_FILE})")
            }
        }
    }
}
