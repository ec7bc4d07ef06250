//! Skipping verification: from a trusted header to a later one over as few others as possible.
//!
//! A header is believed when those signed it who hold more than a third of the power that the trusted
//! header gives to its successors, and more than two thirds of its own: some honest validator is
//! among them. Where the validators changed too much, a height in between is verified first.

use std::time::Duration;

use tendermint::{Time, block::Height, chain, trust_threshold::TrustThresholdFraction};
use tendermint_light_client_verifier::{
    ProdVerifier, Verdict, Verifier, errors::VerificationErrorDetail as Detail, options::Options,
};

use crate::{
    block::{self, LightBlock},
    error::LightError,
};

/// Headers between the trusted and the wanted one; at one change of a third of the validators per
/// header that is as many changes. Beyond it a provider only wastes time.
const STEPS_MAX: usize = 2048;

/// What is required of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The chain.
    pub chain_id: chain::Id,
    /// How long a verified header is trusted: two thirds of the time for which a validator that
    /// leaves can still be punished.
    pub period: Duration,
    /// How far the chain's clock may be ahead of this machine's.
    pub drift: Duration,
}

impl Terms {
    /// 14 of 21 days, and 10 seconds.
    pub fn new(chain_id: chain::Id) -> Self {
        let period = Duration::from_secs(14 * 24 * 60 * 60);
        Self { chain_id, period, drift: Duration::from_secs(10) }
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            trust_threshold: TrustThresholdFraction::ONE_THIRD,
            trusting_period: self.period,
            clock_drift: self.drift,
        }
    }
}

/// One verification on its way. As long as [`Skipping::needs`] names a height, hand in that block.
#[derive(Debug, Clone)]
pub struct Skipping {
    terms: Terms,
    /// The newest block that is verified.
    trusted: LightBlock,
    /// Blocks that wait for one in between, the nearest last.
    waiting: Vec<LightBlock>,
    target: Height,
    steps: usize,
}

impl Skipping {
    /// From `trusted` to `target`, which is later.
    pub fn new(terms: Terms, trusted: LightBlock, target: Height) -> Self {
        Self { terms, trusted, waiting: Vec::new(), target, steps: 0 }
    }

    /// The height of the next block to hand in; `None`: the target is verified.
    pub fn needs(&self) -> Option<Height> {
        let low = self.trusted.height();
        match self.waiting.last() {
            _ if low >= self.target => None,
            None => Some(self.target),
            Some(high) => {
                let middle = low.value() + (high.height().value() - low.value()) / 2;
                Some(Height::try_from(middle).expect("it is below a height"))
            }
        }
    }

    /// The newest verified block: the target, when nothing is needed any more.
    pub fn verified(&self) -> &LightBlock {
        &self.trusted
    }

    /// Takes the block that is needed. Blocks that were verified stay so after an error.
    ///
    /// # Errors
    /// The block does not verify; `provider` is who sent it.
    pub fn handle(
        &mut self,
        block: LightBlock,
        provider: &str,
        now: Time,
    ) -> Result<(), LightError> {
        let Some(needed) = self.needs() else { return Ok(()) };
        let lying = |reason: String| LightError::Lying {
            provider: provider.to_owned(),
            height: needed.value(),
            reason,
        };
        block::check(&block).map_err(|error| lying(error.to_string()))?;
        if block.height() != needed {
            return Err(lying(format!("it sends height {}", block.height())));
        }
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(LightError::TooFar { height: self.target.value(), steps: STEPS_MAX });
        }
        self.waiting.push(block);
        while let Some(block) = self.waiting.last() {
            match verify(&self.terms, &self.trusted, block, provider, now)? {
                Verified::Yes => {
                    self.trusted = self.waiting.pop().expect("it was the last one");
                }
                Verified::NotYet => return Ok(()),
            }
        }
        Ok(())
    }
}

enum Verified {
    Yes,
    /// Too many other validators: something in between comes first.
    NotYet,
}

fn verify(
    terms: &Terms,
    trusted: &LightBlock,
    block: &LightBlock,
    provider: &str,
    now: Time,
) -> Result<Verified, LightError> {
    let verdict = ProdVerifier::default().verify_update_header(
        block.as_untrusted_state(),
        trusted.as_trusted_state(),
        &terms.options(),
        now,
    );
    match verdict {
        Verdict::Success => Ok(Verified::Yes),
        Verdict::NotEnoughTrust(tally) => {
            // Direct successors are held against the very set that the trusted header names.
            if block.height().value() == trusted.height().value() + 1 {
                let reason = format!("signed with {} of {} power", tally.tallied, tally.total);
                return Err(lying(block, provider, reason));
            }
            Ok(Verified::NotYet)
        }
        Verdict::Invalid(detail) => Err(refused(terms, trusted, block, provider, now, &detail)),
    }
}

fn lying(block: &LightBlock, provider: &str, reason: String) -> LightError {
    LightError::Lying { provider: provider.to_owned(), height: block.height().value(), reason }
}

fn refused(
    terms: &Terms,
    trusted: &LightBlock,
    block: &LightBlock,
    provider: &str,
    now: Time,
    detail: &Detail,
) -> LightError {
    let apart =
        |later: Time, earlier: Time| later.duration_since(earlier).unwrap_or_default().as_secs();
    match detail {
        Detail::HeaderFromTheFuture(_) => LightError::FromTheFuture {
            provider: provider.to_owned(),
            height: block.height().value(),
            ahead_s: apart(block.time(), now),
        },
        Detail::NotWithinTrustPeriod(_) => expired(terms, trusted, now),
        Detail::ChainIdMismatch(mismatch) => LightError::ChainId {
            provider: provider.to_owned(),
            expected: mismatch.expected.clone(),
            found: mismatch.got.clone(),
        },
        detail => lying(block, provider, words(detail)),
    }
}

pub(crate) fn expired(terms: &Terms, trusted: &LightBlock, now: Time) -> LightError {
    LightError::Expired {
        height: trusted.height().value(),
        age_s: now.duration_since(trusted.time()).unwrap_or_default().as_secs(),
        period_s: terms.period.as_secs(),
    }
}

/// The verifier's own words print keys and signatures byte by byte.
pub(crate) fn words(detail: &Detail) -> String {
    match detail {
        Detail::InvalidSignature(_) => "a signature is wrong".to_owned(),
        Detail::MissingSignature(_) | Detail::NoSignatureForCommit(_) => {
            "a signature is missing".to_owned()
        }
        Detail::InvalidCommitValue(_) => "the signatures are for another header".to_owned(),
        Detail::InvalidValidatorSet(_) => {
            "the validators are not those that the header names".to_owned()
        }
        Detail::InvalidNextValidatorSet(_) => {
            "the next validators are not those that the header names".to_owned()
        }
        Detail::InsufficientSignersOverlap(tally) => {
            let tally = tally.tally;
            format!("signed with {} of {} power", tally.tallied, tally.total)
        }
        Detail::FaultySigner(_) => "somebody signed who is no validator".to_owned(),
        Detail::NonMonotonicBftTime(_) => "it is not later than a header before it".to_owned(),
        other => other.to_string(),
    }
}
