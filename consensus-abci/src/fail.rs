//! Places where a test may kill the process, between the steps of a block of the application.
//!
//! They are in every build: what is tested is what runs. Each costs one relaxed load, a few times
//! a block.

use std::sync::atomic::{AtomicU64, Ordering};

/// A moment of the application, in the order in which a chain meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `InitChain` arrived; the directory is empty.
    BeforeInitChain,
    /// The genesis state is durable; nobody has been told.
    AfterInitChain,
    /// `FinalizeBlock` arrived.
    BeforeFinalizeBlock,
    /// The transactions are executed and the new root is computed, in memory.
    Prepared,
    /// The block is executed; the engine has no answer.
    AfterFinalizeBlock,
    /// `Commit` arrived; nothing of the block is durable.
    BeforeCommit,
    /// The batch is made and not written.
    BeforeBatch,
    /// The batch is durable; nothing in memory says so.
    AfterBatch,
    /// The block is visible to readers; the engine has no answer.
    AfterCommit,
    /// The chunk of this number (in the place of the height) of a snapshot is in the tables.
    RestoredChunk,
    /// A restored state is complete; nothing says so.
    BeforeSwitch,
    /// A restored state is durable; nothing in memory says so.
    AfterSwitch,
}

impl Step {
    /// Those of blocks, in the order in which a chain meets them.
    pub const ALL: [Step; 9] = [
        Step::BeforeInitChain,
        Step::AfterInitChain,
        Step::BeforeFinalizeBlock,
        Step::Prepared,
        Step::AfterFinalizeBlock,
        Step::BeforeCommit,
        Step::BeforeBatch,
        Step::AfterBatch,
        Step::AfterCommit,
    ];
}

/// Step + 1 in the upper byte, height below; 0: none.
static ARMED: AtomicU64 = AtomicU64::new(0);

const fn code(step: Step, height: u64) -> u64 {
    ((step as u64 + 1) << 56) | height
}

/// From now on the process aborts when it reaches `step` of the block at `height` (the genesis
/// state: 0). For tests.
pub fn arm(step: Step, height: u64) {
    ARMED.store(code(step, height), Ordering::Relaxed);
}

pub(crate) fn reach(step: Step, height: u64) {
    if ARMED.load(Ordering::Relaxed) == code(step, height) {
        // No destructor runs and no buffer is flushed: what a `kill -9` leaves is what a restart
        // finds.
        std::process::abort();
    }
}
