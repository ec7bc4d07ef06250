//! Places where a test may kill the process, as CometBFT's `fail.Fail()` sites.

/// A moment between two durable steps of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailPoint {
    /// `InitChain` answered; the genesis state is not saved.
    AfterInitChain,
    /// The block exists in memory only.
    BeforeSign,
    /// The sign state says that this height was signed; the block is nowhere.
    AfterSign,
    /// Block and commit are durable; the application has not seen them.
    AfterBlockSaved,
    /// The application executed the block; nothing of it is durable.
    AfterFinalizeBlock,
    /// The application's answer is durable; the application's state is not.
    AfterResultsSaved,
    /// The application's state is durable; the engine's is not.
    AfterCommit,
    /// Everything is durable; nobody has been told.
    AfterStateSaved,
}

impl FailPoint {
    /// In the order in which a chain meets them.
    pub const ALL: [FailPoint; 8] = [
        FailPoint::AfterInitChain,
        FailPoint::BeforeSign,
        FailPoint::AfterSign,
        FailPoint::AfterBlockSaved,
        FailPoint::AfterFinalizeBlock,
        FailPoint::AfterResultsSaved,
        FailPoint::AfterCommit,
        FailPoint::AfterStateSaved,
    ];
}

/// Aborts the process when the block thread reaches `point` at `height`. For tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailAt {
    pub point: FailPoint,
    /// Height of the block being made; 0 for [`FailPoint::AfterInitChain`].
    pub height: u64,
}

pub(crate) fn fail_point(fail_at: Option<FailAt>, point: FailPoint, height: u64) {
    if fail_at == Some(FailAt { point, height }) {
        crate::fail::die();
    }
}
