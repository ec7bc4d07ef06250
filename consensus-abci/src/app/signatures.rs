//! Signatures as consensus needs them: ZIP-215, one by one or in a batch with the same verdict.
//!
//! Wallets and relays verify strictly; whatever passes there passes here. The coefficients of a
//! batch are hashed from all that is in it: no randomness enters the state machine, and nobody can
//! choose signatures for coefficients that depend on them.

use std::{collections::HashSet, mem};

use chain_types::{AccountId, Transaction};
use ed25519_zebra::{Signature, VerificationKey, VerificationKeyBytes, batch};
use rand_core06::{CryptoRng, RngCore};
use sha2::{Digest, Sha256};

/// Transactions of one generation of [`SignatureCache`]; two are kept, then the older is forgotten
/// and its transactions are verified again in their block.
const GENERATION_MAX: usize = 32_768;
/// Below it a batch costs more than it saves.
const BATCH_MIN: usize = 3;

/// So few transactions, of which one is bad, are verified one by one.
const HALVED_MIN: usize = 16;

/// One signature to be verified.
pub(super) struct Claim {
    /// Under which key.
    pub(super) key: AccountId,
    /// What is signed.
    pub(super) message: Vec<u8>,
    /// By whom it may be.
    pub(super) signature: [u8; 64],
}

impl Claim {
    fn holds(&self) -> bool {
        VerificationKey::try_from(self.key.0)
            .and_then(|key| key.verify(&Signature::from(self.signature), &self.message))
            .is_ok()
    }
}

/// Whether one signature holds.
pub(super) fn holds(key: &AccountId, message: &[u8], signature: [u8; 64]) -> bool {
    Claim { key: *key, message: message.to_vec(), signature }.holds()
}

/// What a transaction's signatures claim.
pub(super) fn claims(transaction: &Transaction, chain_id: &str) -> Vec<Claim> {
    let message = transaction.body.preimage(chain_id).as_slice().to_vec();
    transaction
        .signed_parts()
        .map(|(key, signature)| Claim { key, signature, message: message.clone() })
        .collect()
}

/// Whether each of the claims holds.
pub(super) fn all_hold(claims: &[Claim]) -> bool {
    if claims.len() < BATCH_MIN {
        return claims.iter().all(Claim::holds);
    }
    batch_holds(claims) || claims.iter().all(Claim::holds)
}

/// Which of the groups hold in all their claims. A batch that does not hold is halved: a few bad
/// ones among many cost a few batches.
pub(super) fn verdicts(groups: &[Vec<Claim>]) -> Vec<bool> {
    let count: usize = groups.iter().map(Vec::len).sum();
    if count >= BATCH_MIN && batch_holds(groups.iter().flatten()) {
        return vec![true; groups.len()];
    }
    if groups.len() <= HALVED_MIN {
        return groups.iter().map(|claims| claims.iter().all(Claim::holds)).collect();
    }
    let (first, second) = groups.split_at(groups.len() / 2);
    [verdicts(first), verdicts(second)].concat()
}

fn batch_holds<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> bool {
    let mut verifier = batch::Verifier::new();
    let mut seed = Sha256::new();
    for Claim { key, message, signature } in claims {
        seed.update(key.0);
        seed.update(signature);
        seed.update(Sha256::digest(message));
        let key = VerificationKeyBytes::from(key.0);
        verifier.queue((key, Signature::from(*signature), message.as_slice()));
    }
    verifier.verify(Coefficients { seed: seed.finalize().into(), blocks: 0 }).is_ok()
}

/// SHA-256 in counter mode.
struct Coefficients {
    seed: [u8; 32],
    blocks: u64,
}

impl RngCore for Coefficients {
    fn next_u32(&mut self) -> u32 {
        rand_core06::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core06::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for part in dest.chunks_mut(32) {
            let mut hash = Sha256::new();
            hash.update(self.seed);
            hash.update(self.blocks.to_be_bytes());
            part.copy_from_slice(&hash.finalize()[..part.len()]);
            self.blocks += 1;
        }
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core06::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoRng for Coefficients {}

/// Hashes of transactions whose signatures were found right: a block need not verify them again.
#[derive(Default)]
pub(super) struct SignatureCache {
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
}

impl SignatureCache {
    /// Whether the transaction of this hash was verified.
    pub(super) fn contains(&self, hash: &[u8; 32]) -> bool {
        self.young.contains(hash) || self.old.contains(hash)
    }

    /// The transaction of this hash was verified.
    pub(super) fn insert(&mut self, hash: [u8; 32]) {
        if self.young.len() >= GENERATION_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(hash);
    }

    /// The transaction of this hash is in a block, and will not come again.
    pub(super) fn remove(&mut self, hash: &[u8; 32]) {
        self.young.remove(hash);
        self.old.remove(hash);
    }
}

#[cfg(test)]
mod tests {
    use chain_types::SigningKey;
    use ed25519_dalek::Signer;

    use super::*;

    fn claim(key: u8, message: &[u8]) -> Claim {
        let signing = SigningKey::from_bytes(&[key; 32]);
        Claim {
            key: AccountId::from(&signing),
            message: message.to_vec(),
            signature: signing.sign(message).to_bytes(),
        }
    }

    fn forged(key: u8, message: &[u8]) -> Claim {
        Claim { message: b"another".to_vec(), ..claim(key, message) }
    }

    #[test]
    fn a_batch_says_of_each_group_what_one_by_one_would() {
        let groups = |bad: Option<usize>| -> Vec<Vec<Claim>> {
            (0..50)
                .map(|at| {
                    let make = if bad == Some(at) { forged } else { claim };
                    vec![claim(at as u8, b"first"), make(at as u8 / 3, b"second")]
                })
                .collect()
        };
        assert_eq!(verdicts(&groups(None)), vec![true; 50]);
        for bad in [0, 7, 24, 25, 49] {
            let expected: Vec<bool> = (0..50).map(|at| at != bad).collect();
            assert_eq!(verdicts(&groups(Some(bad))), expected);
        }
        assert_eq!(verdicts(&[]), Vec::<bool>::new());
        assert!(all_hold(&[claim(1, b"a")]));
        assert!(!all_hold(&[claim(1, b"a"), claim(2, b"b"), forged(3, b"c")]));
    }

    /// A point of small order: strict verification refuses it, ZIP-215 accepts it, and batches
    /// must not differ from single verdicts (other implementations' do).
    #[test]
    fn a_key_of_small_order_gets_one_verdict_alone_and_in_a_batch() {
        // The neutral element as key and as R, s = 0: 0·B = R + k·A.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let odd = || Claim { key: AccountId(neutral), message: b"x".to_vec(), signature };
        assert!(odd().holds());
        assert!(batch_holds(&[odd(), claim(1, b"a"), claim(2, b"b")]));
        // Not canonical: the sign bit of zero.
        neutral[31] = 0x80;
        let odder = || Claim { key: AccountId(neutral), message: b"x".to_vec(), signature };
        assert_eq!(odder().holds(), batch_holds(&[odder(), claim(1, b"a"), claim(2, b"b")]));
    }

    #[test]
    fn the_cache_forgets_the_oldest_and_is_bounded() {
        let mut cache = SignatureCache::default();
        let hash = |at: usize| <[u8; 32]>::from(Sha256::digest(at.to_be_bytes()));
        for at in 0..3 * GENERATION_MAX {
            cache.insert(hash(at));
        }
        assert!(!cache.contains(&hash(0)));
        assert!(cache.contains(&hash(3 * GENERATION_MAX - 1)));
        assert!(cache.young.len() + cache.old.len() <= 2 * GENERATION_MAX);
        cache.remove(&hash(3 * GENERATION_MAX - 1));
        assert!(!cache.contains(&hash(3 * GENERATION_MAX - 1)));
    }
}
