//! What a simulation can find: each an answer to "what must never be so, and is".

use chain_types::AccountId;
use consensus_abci::app::Audit;

/// Something that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Finding {
    #[error("height {height}: the books do not balance: {audit:?}")]
    Books { height: u64, audit: Box<Audit> },
    #[error("height {height}: {replica} differs in its {what}")]
    Diverged { replica: &'static str, height: u64, what: &'static str },
    #[error("height {height}: {replica} answers {given} to a proposal that it must {expected}")]
    Proposal { replica: &'static str, height: u64, given: &'static str, expected: &'static str },
    #[error("height {height}: the decided block is another one after a restart")]
    OtherBlock { height: u64 },
    #[error("height {height}: executed again, the decided block gives another answer")]
    OtherAnswer { height: u64 },
    #[error("everybody has seen height {seen}; after a restart the chain ends at {height}")]
    Forgotten { seen: u64, height: u64 },
    #[error("height {height}: the chain and the written rules differ: {what}")]
    Rules { height: u64, what: String },
    #[error("the transaction {nonce} of {signer} was taken, and no block has it")]
    Lost { signer: AccountId, nonce: u64 },
    #[error("height {height}: a transaction is in a second block; the first has height {first}")]
    Twice { height: u64, first: u64 },
    #[error("the index does not find the transaction of height {height} and place {index}: {said}")]
    Index { height: u64, index: usize, said: String },
    #[error("a sound transaction is refused: {0}")]
    Refused(String),
    #[error("junk is taken: {0}")]
    JunkTaken(&'static str),
    #[error("height {height}: junk is in a block: {what}")]
    JunkIncluded { height: u64, what: &'static str },
    #[error("the node does not start: {0}")]
    Start(String),
    #[error("the chain halts: {0}")]
    Halt(String),
}
