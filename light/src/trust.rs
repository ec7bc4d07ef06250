//! Where trust begins: something that came from elsewhere than from the providers.

use tendermint::{
    Hash, Time,
    block::Height,
    validator::{Info, Set},
};
use tendermint_light_client_verifier::{ProdVerifier, Verdict};

use crate::{
    block::{self, LightBlock},
    error::LightError,
    provider::{Provider, ProviderError},
    skipping::{Terms, expired, words},
};

/// What is believed at the start.
#[derive(Debug, Clone)]
pub enum Trust {
    /// A header that somebody trusted told about.
    Header {
        /// Its height.
        height: Height,
        /// Its hash.
        hash: Hash,
    },
    /// The validators of a genesis file.
    Genesis {
        /// Height of the first block.
        initial_height: Height,
        /// Who signs it.
        validators: Vec<Info>,
    },
    /// The newest header that two providers agree on: good against a liar, not against two.
    FirstUse,
}

/// The first trusted block.
pub(crate) fn begin(
    terms: &Terms,
    trust: &Trust,
    primary: &dyn Provider,
    now: Time,
) -> Result<LightBlock, LightError> {
    let height = match trust {
        Trust::Header { height, .. } => Some(*height),
        Trust::Genesis { initial_height, .. } => Some(*initial_height),
        Trust::FirstUse => None,
    };
    let block = fetch(primary, height)?;
    let header = &block.signed_header.header;
    if header.chain_id != terms.chain_id {
        return Err(LightError::ChainId {
            provider: primary.name().to_owned(),
            expected: terms.chain_id.to_string(),
            found: header.chain_id.to_string(),
        });
    }
    match trust {
        Trust::Header { height, hash } if header.hash() != *hash => {
            return Err(LightError::OtherHeader {
                provider: primary.name().to_owned(),
                height: height.value(),
                expected: hash.to_string(),
                found: header.hash().to_string(),
            });
        }
        Trust::Genesis { validators, .. } if !is_genesis(&block, validators) => {
            return Err(LightError::OtherGenesis { provider: primary.name().to_owned() });
        }
        Trust::Header { .. } | Trust::Genesis { .. } | Trust::FirstUse => {}
    }
    verify_alone(&block, primary.name())?;
    let expires = header.time.checked_add(terms.period);
    if expires.is_none_or(|expires| expires <= now) {
        return Err(expired(terms, &block, now));
    }
    Ok(block)
}

fn is_genesis(block: &LightBlock, validators: &[Info]) -> bool {
    let power = |info: &Info| info.power.value();
    let sum = validators.iter().try_fold(0_u64, |sum, info| sum.checked_add(power(info)));
    sum.is_some_and(|sum| sum <= Set::MAX_TOTAL_VOTING_POWER)
        && Set::without_proposer(validators.to_vec()).hash()
            == block.signed_header.header.validators_hash
}

/// Header, validators and signatures fit each other, whoever the validators are.
fn verify_alone(block: &LightBlock, provider: &str) -> Result<(), LightError> {
    let verifier = ProdVerifier::default();
    let untrusted = block.as_untrusted_state();
    for verdict in [verifier.verify_validator_sets(&untrusted), verifier.verify_commit(&untrusted)]
    {
        let reason = match verdict {
            Verdict::Success => continue,
            Verdict::NotEnoughTrust(tally) => {
                format!("signed with {} of {} power", tally.tallied, tally.total)
            }
            Verdict::Invalid(detail) => words(&detail),
        };
        let (provider, height) = (provider.to_owned(), block.height().value());
        return Err(LightError::Lying { provider, height, reason });
    }
    Ok(())
}

/// A block in sound shape, of the height that was asked for.
pub(crate) fn fetch(
    provider: &dyn Provider,
    height: Option<Height>,
) -> Result<LightBlock, LightError> {
    let lying = |height: u64, reason: String| LightError::Lying {
        provider: provider.name().to_owned(),
        height,
        reason,
    };
    let block = provider.light_block(height).map_err(|error| match error {
        ProviderError::Unreachable(sentence) | ProviderError::Missing(sentence) => {
            LightError::Unanswered(sentence)
        }
        // Of the newest one nothing is known, not even its height.
        ProviderError::Malformed(sentence) => {
            lying(height.map_or(0, |height| height.value()), sentence)
        }
    })?;
    let found = block.height();
    block::check(&block).map_err(|error| lying(found.value(), error.to_string()))?;
    match height {
        Some(asked) if found != asked => {
            Err(lying(asked.value(), format!("it sends height {found}")))
        }
        _ => Ok(block),
    }
}
