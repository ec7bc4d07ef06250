//! A light client: one provider is followed, others are asked whether they see the same.

use std::sync::Arc;

use tendermint::{Hash, Time, block::Height};

use crate::{
    block::{LightBlock, PlainBlock},
    error::LightError,
    provider::Provider,
    skipping::{Skipping, Terms},
    trust::{self, Trust},
};

/// Verified blocks that are kept; the oldest goes.
pub const TRUSTED_MAX: usize = 8;
/// Headers that are followed back by their hashes, one by one, at most.
const BACK_MAX: u64 = 1024;

/// Follows a chain.
pub struct LightClient {
    terms: Terms,
    /// The first one is the primary, the others are witnesses.
    providers: Vec<Arc<dyn Provider>>,
    /// Verified and compared, oldest first; never empty.
    trusted: Vec<LightBlock>,
    /// Who could not be asked about the newest of them.
    unheard: Vec<String>,
}

impl LightClient {
    /// Begins with what is trusted.
    ///
    /// # Errors
    /// The primary has something else, or nobody confirms a first use.
    pub fn begin(
        terms: Terms,
        providers: Vec<Arc<dyn Provider>>,
        trust: &Trust,
        now: Time,
    ) -> Result<Self, LightError> {
        assert!(!providers.is_empty(), "a light client follows somebody");
        let first = trust::begin(&terms, trust, &*providers[0], now)?;
        let mut client = Self { terms, providers, trusted: vec![first], unheard: Vec::new() };
        let first = client.newest().clone();
        client.unheard = client.confirm(&first, trust, now)?;
        let heard = client.providers.len() - 1 - client.unheard.len();
        if matches!(trust, Trust::FirstUse) && heard == 0 {
            return Err(LightError::Unconfirmed {
                provider: client.primary().to_owned(),
                height: first.height().value(),
            });
        }
        Ok(client)
    }

    /// Goes on with blocks that [`LightClient::keep`] gave; `None`: there is none of this chain that
    /// can be read. Whether they are too old shows when something is verified.
    pub fn resume(
        terms: Terms,
        providers: Vec<Arc<dyn Provider>>,
        kept: Vec<PlainBlock>,
    ) -> Option<Self> {
        assert!(!providers.is_empty(), "a light client follows somebody");
        let blocks = kept.into_iter().filter_map(|plain| LightBlock::try_from(plain).ok());
        let is_ours = |block: &LightBlock| {
            let header = &block.signed_header.header;
            header.chain_id == terms.chain_id
                && header.next_validators_hash == block.next_validators.hash()
        };
        let mut trusted: Vec<LightBlock> = blocks.filter(is_ours).collect();
        trusted.sort_by_key(LightBlock::height);
        trusted.dedup_by_key(|block| block.height());
        (!trusted.is_empty()).then(|| Self { terms, providers, trusted, unheard: Vec::new() })
    }

    /// What is to be kept over a restart.
    pub fn keep(&self) -> Vec<PlainBlock> {
        self.trusted.iter().map(PlainBlock::from).collect()
    }

    /// The newest block that was verified.
    pub fn newest(&self) -> &LightBlock {
        self.trusted.last().expect("never empty")
    }

    /// The primary's name.
    pub fn primary(&self) -> &str {
        self.providers[0].name()
    }

    /// Witnesses that had no answer about the newest block. A later one confirms earlier ones too:
    /// each header names the one before.
    pub fn unheard(&self) -> &[String] {
        &self.unheard
    }

    /// Who is followed and asked, the primary first.
    pub fn providers(&self) -> &[Arc<dyn Provider>] {
        &self.providers
    }

    /// Follows others from here on.
    pub fn set_providers(&mut self, providers: Vec<Arc<dyn Provider>>) {
        assert!(!providers.is_empty(), "a light client follows somebody");
        self.providers = providers;
    }

    /// The block at `height`, the primary's newest without one: verified, and the same as the
    /// witnesses have.
    ///
    /// # Errors
    /// [`LightError`]; what was verified before is not lost.
    pub fn verify_to(
        &mut self,
        height: Option<Height>,
        now: Time,
    ) -> Result<LightBlock, LightError> {
        let newest = self.newest().height();
        let block = match height {
            Some(height) if height < newest => return self.before(height, now),
            height => trust::fetch(&*self.providers[0], height)?,
        };
        if block.height() < newest {
            return Err(LightError::Behind {
                provider: self.primary().to_owned(),
                height: block.height().value(),
                trusted: newest.value(),
            });
        }
        if block.height() == newest {
            if hash(&block) == hash(self.newest()) {
                return Ok(self.newest().clone());
            }
            let known = self.newest().clone();
            return Err(self.judge(&known, &block, "what was verified before", 0, now));
        }
        let block = self.skip(0, self.newest().clone(), block, now)?;
        self.unheard = self.compare(&block, now)?;
        self.trusted.push(block.clone());
        if self.trusted.len() > TRUSTED_MAX {
            self.trusted.remove(0);
        }
        Ok(block)
    }

    /// A block before the newest one that was verified.
    fn before(&self, height: Height, now: Time) -> Result<LightBlock, LightError> {
        if let Some(known) = self.trusted.iter().find(|block| block.height() == height) {
            return Ok(known.clone());
        }
        let primary = &*self.providers[0];
        if let Some(base) = self.trusted.iter().rev().find(|block| block.height() < height) {
            return self.skip(0, base.clone(), trust::fetch(primary, Some(height))?, now);
        }
        let mut later = self.trusted[0].clone();
        let distance = later.height().value() - height.value();
        if distance > BACK_MAX {
            let steps = usize::try_from(BACK_MAX).unwrap_or(usize::MAX);
            return Err(LightError::TooFar { height: height.value(), steps });
        }
        while later.height() > height {
            let before = Height::try_from(later.height().value() - 1)
                .expect("there is a lower height above zero");
            let block = trust::fetch(primary, Some(before))?;
            let named = later.signed_header.header.last_block_id.map(|id| id.hash);
            if named != Some(hash(&block)) {
                return Err(LightError::Lying {
                    provider: primary.name().to_owned(),
                    height: before.value(),
                    reason: "the header after it names another one".to_owned(),
                });
            }
            later = block;
        }
        Ok(later)
    }

    /// Verifies `target`, which the provider sent, from `trusted` on.
    fn skip(
        &self,
        provider: usize,
        trusted: LightBlock,
        target: LightBlock,
        now: Time,
    ) -> Result<LightBlock, LightError> {
        let provider = &*self.providers[provider];
        let mut skipping = Skipping::new(self.terms.clone(), trusted, target.height());
        let mut next = Some(target);
        while let Some(height) = skipping.needs() {
            let block = match next.take() {
                Some(target) => target,
                None => trust::fetch(provider, Some(height))?,
            };
            skipping.handle(block, provider.name(), now)?;
        }
        Ok(skipping.verified().clone())
    }

    /// Asks each witness what it has where trust begins; gives those without an answer.
    fn confirm(
        &self,
        first: &LightBlock,
        trust: &Trust,
        now: Time,
    ) -> Result<Vec<String>, LightError> {
        // Two may agree on what is newest only by its height.
        let height = first.height();
        let at = match trust {
            Trust::FirstUse => &Trust::Header { height, hash: hash(first) },
            Trust::Header { .. } | Trust::Genesis { .. } => trust,
        };
        let mut unheard = Vec::new();
        for witness in &self.providers[1..] {
            match trust::begin(&self.terms, at, &**witness, now) {
                Ok(other) if hash(&other) == hash(first) => {}
                Ok(other) => {
                    return Err(diverged(first, self.primary(), &other, witness.name()));
                }
                Err(LightError::Unanswered(_)) => unheard.push(witness.name().to_owned()),
                Err(error) => return Err(error),
            }
        }
        Ok(unheard)
    }

    /// Asks each witness for the same height; gives those without an answer.
    fn compare(&self, block: &LightBlock, now: Time) -> Result<Vec<String>, LightError> {
        let mut unheard = Vec::new();
        for (index, witness) in self.providers.iter().enumerate().skip(1) {
            match trust::fetch(&**witness, Some(block.height())) {
                Ok(other) if hash(&other) == hash(block) => {}
                Ok(other) => return Err(self.judge(block, &other, self.primary(), index, now)),
                Err(LightError::Unanswered(_)) => unheard.push(witness.name().to_owned()),
                Err(error) => return Err(error),
            }
        }
        Ok(unheard)
    }

    /// Two headers of one height, of which `block` is verified: does the other one verify too?
    fn judge(
        &self,
        block: &LightBlock,
        other: &LightBlock,
        who: &str,
        provider: usize,
        now: Time,
    ) -> LightError {
        let base = self.trusted.iter().rev().find(|base| base.height() < block.height());
        let verified = match base {
            Some(base) => self.skip(provider, base.clone(), other.clone(), now),
            // Only where trust began just now: there is nothing to judge by.
            None => Ok(other.clone()),
        };
        match verified {
            Ok(_) => diverged(block, who, other, self.providers[provider].name()),
            // It cannot show what is behind its header.
            Err(LightError::Unanswered(sentence)) => LightError::Lying {
                provider: self.providers[provider].name().to_owned(),
                height: block.height().value(),
                reason: format!(
                    "another header than {who} has, and nothing to prove it: {sentence}"
                ),
            },
            Err(error) => error,
        }
    }
}

fn hash(block: &LightBlock) -> Hash {
    block.signed_header.header.hash()
}

fn diverged(block: &LightBlock, who: &str, other: &LightBlock, witness: &str) -> LightError {
    LightError::Diverged {
        height: block.height().value(),
        primary: who.to_owned(),
        primary_hash: hash(block).to_string(),
        witness: witness.to_owned(),
        witness_hash: hash(other).to_string(),
    }
}
