//! Where light blocks come from: a peer that need not be believed.

use tendermint::block::Height;

use crate::block::LightBlock;

/// A full node that may lie, be late or be gone.
pub trait Provider: Send + Sync {
    /// How people know it, such as its address.
    fn name(&self) -> &str;

    /// The block at `height`; the newest without one.
    ///
    /// # Errors
    /// [`ProviderError`].
    fn light_block(&self, height: Option<Height>) -> Result<LightBlock, ProviderError>;
}

/// A provider has no such block for us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer: another one may.
    #[error("{0}")]
    Unreachable(String),
    /// It answers, and does not have this height: too new for it, or pruned.
    #[error("{0}")]
    Missing(String),
    /// What it says is no block: it is broken, or lies.
    #[error("{0}")]
    Malformed(String),
}
