//! Places where a test may kill the process, between the steps of a block of the application.
//!
//! They are in every build: what is tested is what runs. Each costs one relaxed load, a few times
//! a block.

use std::{
    cell::Cell,
    panic::resume_unwind,
    sync::atomic::{AtomicU64, Ordering},
};

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

thread_local! {
    /// As [`ARMED`], of one thread.
    static ARMED_HERE: Cell<u64> = const { Cell::new(0) };
    static UNWINDS: Cell<bool> = const { Cell::new(false) };
}

/// What a thread of a simulation unwinds with where a process would die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Died;

const fn code(step: Step, height: u64) -> u64 {
    ((step as u64 + 1) << 56) | height
}

/// From now on the process aborts when it reaches `step` of the block at `height` (the genesis
/// state: 0). For tests.
pub fn arm(step: Step, height: u64) {
    ARMED.store(code(step, height), Ordering::Relaxed);
}

/// As [`arm`], where this thread reaches it; `None`: nowhere.
pub fn arm_here(moment: Option<(Step, u64)>) {
    ARMED_HERE.set(moment.map_or(0, |(step, height)| code(step, height)));
}

/// From now on this thread unwinds with [`Died`] where it would abort the process, so that one
/// process can die a thousand times. Whoever catches it drops all that the dead process had.
pub fn unwind_here() {
    UNWINDS.set(true);
}

pub(crate) fn reach(step: Step, height: u64) {
    let code = code(step, height);
    if ARMED.load(Ordering::Relaxed) == code || ARMED_HERE.get() == code {
        die();
    }
}

/// No destructor runs and no buffer is flushed: what a `kill -9` leaves is what a restart finds.
/// Where the thread unwinds instead, without the hook of panics: that is no bug.
pub(crate) fn die() -> ! {
    if UNWINDS.get() {
        resume_unwind(Box::new(Died));
    }
    std::process::abort();
}
