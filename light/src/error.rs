//! Why a header is not believed, by what a caller or a person can do about it.

/// Each sentence names who said it and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// The clocks of this machine and of the chain are apart.
    #[error(
        "the header of height {height} from {provider} is {ahead_s} s ahead of this machine's clock: \
         set the clock (by NTP); if it is right, {provider} lies"
    )]
    FromTheFuture {
        /// Who sent it.
        provider: String,
        /// The header's height.
        height: u64,
        /// Seconds between the header's time and the clock.
        ahead_s: u64,
    },
    /// Validators of that time may have left, and may sign anything now.
    #[error(
        "the trusted header of height {height} is {age_s} s old, and headers are trusted for \
         {period_s} s: give the height and hash of a newer one from a source that you trust; if it \
         is not that old, set this machine's clock"
    )]
    Expired {
        /// The newest trusted height.
        height: u64,
        /// Its age.
        age_s: u64,
        /// The longest age.
        period_s: u64,
    },
    /// Another chain.
    #[error("{provider} follows the chain {found}, not {expected}: take an endpoint of {expected}")]
    ChainId {
        /// Who sent it.
        provider: String,
        /// The chain that is meant.
        expected: String,
        /// The header's.
        found: String,
    },
    /// No honest node sends this: the provider lies or is broken.
    #[error(
        "what {provider} says about height {height} does not verify ({reason}): do not use this \
         endpoint"
    )]
    Lying {
        /// Who sent it.
        provider: String,
        /// About which height.
        height: u64,
        /// What is wrong.
        reason: String,
    },
    /// Two headers of one height, both signed by the validators: the chain itself is attacked.
    #[error(
        "{primary} has the header {primary_hash} at height {height} and {witness} has \
         {witness_hash}, and both are signed: somebody forks the chain; stop, ask the validators \
         which one is right, and begin with a trusted header after the fork"
    )]
    Diverged {
        /// The fork's height, or one after it.
        height: u64,
        /// Whose header was verified first.
        primary: String,
        /// Its hash.
        primary_hash: String,
        /// Who has another one.
        witness: String,
        /// Its hash.
        witness_hash: String,
    },
    /// The header that one was told to trust is not there.
    #[error(
        "at height {height} {provider} has the header {found}, and {expected} is to be trusted: \
         compare height and hash with their source; if they are right, do not use this endpoint"
    )]
    OtherHeader {
        /// Who sent it.
        provider: String,
        /// Which height.
        height: u64,
        /// What one was told.
        expected: String,
        /// What came.
        found: String,
    },
    /// The genesis file's validators did not sign the first block.
    #[error(
        "the first block of {provider} is not signed by the validators of the genesis file: take \
         the chain's own genesis file, or begin with a trusted height and hash"
    )]
    OtherGenesis {
        /// Who sent it.
        provider: String,
    },
    /// First use needs somebody to agree with.
    #[error(
        "nobody confirms the header of height {height} from {provider}: give a second endpoint, or a \
         trusted height and hash"
    )]
    Unconfirmed {
        /// Who sent it.
        provider: String,
        /// Which height.
        height: u64,
    },
    /// The provider's newest block is older than what is trusted.
    #[error(
        "{provider} is at height {height} and {trusted} is verified already: it is behind; wait for \
         it, or take another endpoint"
    )]
    Behind {
        /// Who.
        provider: String,
        /// Its newest height.
        height: u64,
        /// The newest trusted height.
        trusted: u64,
    },
    /// The validators changed more often than anybody would follow.
    #[error(
        "height {height} is more than {steps} steps of verification away: begin with a newer trusted \
         header"
    )]
    TooFar {
        /// The height that was wanted.
        height: u64,
        /// How many steps were made.
        steps: usize,
    },
    /// A provider has no answer now.
    #[error("{0}")]
    Unanswered(String),
}
