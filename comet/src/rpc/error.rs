//! Why a call has no answer, by what a caller can do about it.

/// Each sentence names the endpoint and the method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// Nobody there, or not in time. Another endpoint may answer; this one may, later.
    #[error(
        "{url} does not answer {method}: {reason}; is the node running, and does its RPC listen there?"
    )]
    Unreachable {
        /// The endpoint.
        url: String,
        /// What was called.
        method: String,
        /// What went wrong.
        reason: String,
    },
    /// Something answers that is no CometBFT RPC, or a broken or lying one.
    #[error("{url} answers {method} as no CometBFT would: {reason}; check the address")]
    Malformed {
        /// The endpoint.
        url: String,
        /// What was called.
        method: String,
        /// What is wrong about it.
        reason: String,
    },
    /// More than anybody would need.
    #[error("{url} answers {method} with more than {limit_bytes} bytes: take another endpoint")]
    TooLarge {
        /// The endpoint.
        url: String,
        /// What was called.
        method: String,
        /// What would have been read.
        limit_bytes: u64,
    },
    /// The node understood and says no, in its own words.
    #[error("{url} refuses {method}: {message} (code {code})")]
    Refused {
        /// The endpoint.
        url: String,
        /// What was called.
        method: String,
        /// JSON-RPC's code.
        code: i64,
        /// The node's sentence.
        message: String,
    },
}

impl RpcError {
    /// Whether the node has this transaction already.
    pub fn is_known_tx(&self) -> bool {
        self.says("tx already exists in cache")
    }

    /// Whether the node has no block of this height, not yet or no longer.
    pub fn is_missing_height(&self) -> bool {
        self.says("must be less than or equal to")
            || self.says("is not available")
            || self.says("could not find")
            || self.says("there is no ")
    }

    /// Whether there is no such transaction in a block.
    pub(super) fn is_missing_tx(&self) -> bool {
        self.says("not found")
    }

    /// Whether the node's pool of waiting transactions is full: the same bytes may be taken later.
    pub fn is_mempool_full(&self) -> bool {
        self.says("mempool is full")
    }

    fn says(&self, words: &str) -> bool {
        match self {
            Self::Refused { message, .. } => message.contains(words),
            Self::Unreachable { .. } | Self::Malformed { .. } | Self::TooLarge { .. } => false,
        }
    }
}
