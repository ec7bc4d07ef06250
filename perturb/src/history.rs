//! What was acknowledged, held against what is in the chain: nothing lost, nothing twice, nothing
//! at another place, nothing out of its sender's order.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use chain_types::{AccountId, hex};

/// SHA-256 of a transaction.
pub type Hash = [u8; 32];

/// A transaction that some node has shown in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// The block's height.
    pub height: u64,
    /// Who signed.
    pub signer: AccountId,
    /// Its nonce.
    pub nonce: u64,
    /// What the application made of it; 0: done.
    pub code: u32,
}

/// What the load was told.
#[derive(Debug, Default)]
pub struct History {
    acknowledged: BTreeMap<Hash, Acknowledged>,
}

/// The transactions of each height that a node has, ascending; gaps are heights that it lacks.
pub type Chain = BTreeMap<u64, Vec<Hash>>;

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// It is not in the block that it was seen in.
    Lost {
        /// Which.
        hash: Hash,
        /// Where it was.
        height: u64,
    },
    /// It is in more than one place.
    Doubled {
        /// Which.
        hash: Hash,
        /// Where it is.
        heights: Vec<u64>,
    },
    /// It is in another block than the one that it was seen in.
    Moved {
        /// Which.
        hash: Hash,
        /// Where it was.
        height: u64,
        /// Where it is.
        found: u64,
    },
    /// A later nonce of the same account was done before it.
    Reordered {
        /// Which.
        hash: Hash,
        /// Where it is.
        height: u64,
        /// Of this account.
        nonce: u64,
        /// What was done before.
        after: u64,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { hash, height } => {
                write!(f, "transaction {}, seen at height {height}, is gone", hex::text(hash))
            }
            Self::Doubled { hash, heights } => {
                write!(
                    f,
                    "transaction {} is in the chain {} times, at heights {heights:?}",
                    hex::text(hash),
                    heights.len()
                )
            }
            Self::Moved { hash, height, found } => write!(
                f,
                "transaction {}, seen at height {height}, is at height {found}",
                hex::text(hash)
            ),
            Self::Reordered { hash, height, nonce, after } => write!(
                f,
                "transaction {} with nonce {nonce} is at height {height}, behind nonce {after} of the same account",
                hex::text(hash)
            ),
        }
    }
}

impl History {
    /// Notes what a node has shown. The first word counts.
    pub fn acknowledge(&mut self, hash: Hash, what: Acknowledged) {
        self.acknowledged.entry(hash).or_insert(what);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// Whether nothing was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.acknowledged.is_empty()
    }

    /// Those that were done, of all.
    pub fn done(&self) -> usize {
        self.acknowledged.values().filter(|seen| seen.code == 0).count()
    }

    /// Holds it against one node's blocks. Heights below the node's first are not asked for: a node
    /// that joined from a snapshot has them not.
    pub fn check(&self, chain: &Chain) -> Vec<Breach> {
        let Some(first) = chain.keys().next().copied() else { return Vec::new() };
        let mut places: HashMap<&Hash, Vec<u64>> = HashMap::new();
        let mut done: HashMap<AccountId, u64> = HashMap::new();
        let mut breaches = Vec::new();
        for (height, hashes) in chain {
            for hash in hashes {
                places.entry(hash).or_default().push(*height);
                let Some(seen) = self.acknowledged.get(hash).filter(|seen| seen.code == 0) else {
                    continue;
                };
                if let Some(before) = done.get(&seen.signer).copied()
                    && before > seen.nonce
                {
                    let (nonce, after) = (seen.nonce, before);
                    let height = *height;
                    breaches.push(Breach::Reordered { hash: *hash, height, nonce, after });
                }
                let newest = done.entry(seen.signer).or_insert(seen.nonce);
                *newest = seen.nonce.max(*newest);
            }
        }
        for (hash, seen) in &self.acknowledged {
            match places.get(hash).map(Vec::as_slice) {
                None if seen.height < first => {}
                None | Some([]) => {
                    breaches.push(Breach::Lost { hash: *hash, height: seen.height });
                }
                Some([found]) if *found == seen.height => {}
                Some([found]) => {
                    let (height, found) = (seen.height, *found);
                    breaches.push(Breach::Moved { hash: *hash, height, found });
                }
                Some(heights) => {
                    breaches.push(Breach::Doubled { hash: *hash, heights: heights.to_vec() });
                }
            }
        }
        breaches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three transactions of one account, at heights 5, 6 and 7.
    fn history() -> History {
        let mut history = History::default();
        for nonce in 0..3 {
            let (height, signer) = (5 + nonce, AccountId([9; 32]));
            let seen = Acknowledged { height, signer, nonce, code: 0 };
            history.acknowledge([nonce as u8; 32], seen);
        }
        history
    }

    #[track_caller]
    fn check(blocks: &[(u64, &[u8])], expected: &[Breach]) {
        let hashes = |names: &[u8]| names.iter().map(|name| [*name; 32]).collect::<Vec<_>>();
        let chain = blocks.iter().map(|(height, names)| (*height, hashes(names))).collect();
        assert_eq!(history().check(&chain), expected);
    }

    #[test]
    fn a_chain_that_has_each_where_it_was_seen_is_in_order() {
        check(&[(5, &[0]), (6, &[1, 77]), (7, &[2])], &[]);
        // Others' transactions, and blocks without any, do not matter.
        check(&[(4, &[50]), (5, &[0]), (6, &[1]), (7, &[2]), (8, &[])], &[]);
        // One that joined from a snapshot lacks the heights before it.
        check(&[(6, &[1]), (7, &[2])], &[]);
        check(&[], &[]);
    }

    #[test]
    fn a_lost_transaction_is_found() {
        let hash = [1; 32];
        check(&[(5, &[0]), (6, &[]), (7, &[2])], &[Breach::Lost { hash, height: 6 }]);
        check(&[(5, &[0]), (6, &[1])], &[Breach::Lost { hash: [2; 32], height: 7 }]);
    }

    #[test]
    fn a_doubled_transaction_is_found() {
        let doubled =
            |heights: &[u64]| Breach::Doubled { hash: [0; 32], heights: heights.to_vec() };
        check(
            &[(5, &[0]), (6, &[1]), (7, &[2]), (8, &[0])],
            &[Breach::Reordered { hash: [0; 32], height: 8, nonce: 0, after: 2 }, doubled(&[5, 8])],
        );
        check(&[(5, &[0, 0]), (6, &[1]), (7, &[2])], &[doubled(&[5, 5])]);
    }

    #[test]
    fn a_transaction_at_another_place_is_found() {
        let moved = Breach::Moved { hash: [2; 32], height: 7, found: 8 };
        check(&[(5, &[0]), (6, &[1]), (7, &[]), (8, &[2])], &[moved]);
    }

    #[test]
    fn a_reordered_transaction_is_found() {
        check(
            &[(5, &[0]), (6, &[2, 1]), (7, &[])],
            &[
                Breach::Reordered { hash: [1; 32], height: 6, nonce: 1, after: 2 },
                Breach::Moved { hash: [2; 32], height: 7, found: 6 },
            ],
        );
    }
}
