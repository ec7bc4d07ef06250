//! Light blocks whose shape cannot surprise the verifier.
//!
//! The verifier relies on facts that JSON from a stranger need not have: validators' addresses that
//! are those of their keys, powers whose sum fits, heights that have a successor.

use serde::{Deserialize, Serialize};
use tendermint::{
    account,
    block::{Commit, Header, signed_header::SignedHeader},
    node,
    validator::{Info, Set},
};
pub use tendermint_light_client_verifier::types::LightBlock;

/// Validators of one set; CometBFT has the same bound.
pub const VALIDATORS_MAX: usize = 10_000;

/// What was sent is no light block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBlock {
    /// Height zero, or one that nothing can follow.
    #[error("height {0} is none that a block can have")]
    Height(u64),
    /// The commit is for another block.
    #[error("the header is of height {header}, its commit of height {commit}")]
    CommitHeight {
        /// The header's.
        header: u64,
        /// The commit's.
        commit: u64,
    },
    /// Nobody, or too many.
    #[error("a set of {0} validators, 1 to {VALIDATORS_MAX} are possible")]
    ValidatorCount(usize),
    /// Their powers do not fit, or are zero.
    #[error("the voting power of a validator is zero, or the sum is beyond CometBFT's bound")]
    Power,
    /// An address that is not its key's.
    #[error("validator {0} does not have the address of its key")]
    Address(account::Id),
    /// The header names somebody else.
    #[error("the proposer {0} is none of the validators")]
    Proposer(account::Id),
}

/// A light block from its parts, in any order of the validators. Their addresses are made from their
/// keys, whatever was sent.
///
/// # Errors
/// [`MalformedBlock`]; nothing is verified here.
pub fn light_block(
    header: Header,
    commit: Commit,
    validators: Vec<Info>,
    next_validators: Vec<Info>,
) -> Result<LightBlock, MalformedBlock> {
    let (of_header, of_commit) = (header.height.value(), commit.height.value());
    let malformed = MalformedBlock::CommitHeight { header: of_header, commit: of_commit };
    let proposer = header.proposer_address;
    let signed_header = SignedHeader::new(header, commit).map_err(|_| malformed)?;
    let validators = with_addresses(validators)?;
    let next_validators = with_addresses(next_validators)?;
    let validators =
        Set::with_proposer(validators, proposer).map_err(|_| MalformedBlock::Proposer(proposer))?;
    let next_validators = Set::without_proposer(next_validators);
    // Nobody here asks who sent it by a peer id: providers have names.
    let provider = node::Id::new([0; 20]);
    let block = LightBlock::new(signed_header, validators, next_validators, provider);
    check(&block)?;
    Ok(block)
}

/// A light block as it is kept: whoever reads one back checks its shape again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlainBlock {
    /// Header and commit.
    pub signed_header: SignedHeader,
    /// Who signs it.
    pub validators: Vec<Info>,
    /// Who signs the next one.
    pub next_validators: Vec<Info>,
}

impl From<&LightBlock> for PlainBlock {
    fn from(block: &LightBlock) -> Self {
        Self {
            signed_header: block.signed_header.clone(),
            validators: block.validators.validators().clone(),
            next_validators: block.next_validators.validators().clone(),
        }
    }
}

impl TryFrom<PlainBlock> for LightBlock {
    type Error = MalformedBlock;

    fn try_from(plain: PlainBlock) -> Result<Self, MalformedBlock> {
        let signed = plain.signed_header;
        light_block(signed.header, signed.commit, plain.validators, plain.next_validators)
    }
}

fn with_addresses(validators: Vec<Info>) -> Result<Vec<Info>, MalformedBlock> {
    check_validators(&validators)?;
    let named = |info: Info| Info { address: account::Id::from(info.pub_key), ..info };
    Ok(validators.into_iter().map(named).collect())
}

/// Whether a light block that came whole, such as from a file, has a shape to be verified.
///
/// # Errors
/// [`MalformedBlock`].
pub fn check(block: &LightBlock) -> Result<(), MalformedBlock> {
    let header = &block.signed_header.header;
    let height = header.height.value();
    // Verification asks for the height after this one.
    if height == 0 || height >= i64::MAX as u64 {
        return Err(MalformedBlock::Height(height));
    }
    let commit = block.signed_header.commit.height.value();
    if commit != height {
        return Err(MalformedBlock::CommitHeight { header: height, commit });
    }
    for set in [&block.validators, &block.next_validators] {
        check_validators(set.validators())?;
        for info in set.validators() {
            if info.address != account::Id::from(info.pub_key) {
                return Err(MalformedBlock::Address(info.address));
            }
        }
    }
    Ok(())
}

/// Whether validators can be a set whose powers do not overflow.
///
/// # Errors
/// [`MalformedBlock`].
pub fn check_validators(validators: &[Info]) -> Result<(), MalformedBlock> {
    if validators.is_empty() || validators.len() > VALIDATORS_MAX {
        return Err(MalformedBlock::ValidatorCount(validators.len()));
    }
    let mut sum: u64 = 0;
    for info in validators {
        let power = info.power.value();
        sum = sum.checked_add(power).ok_or(MalformedBlock::Power)?;
        if power == 0 || sum > Set::MAX_TOTAL_VOTING_POWER {
            return Err(MalformedBlock::Power);
        }
    }
    Ok(())
}
