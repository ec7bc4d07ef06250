//! Transactions that are checked next: each is read, hashed and held against the state once, when
//! they were announced, and not again when its turn comes.

use std::collections::VecDeque;

use bytes::Bytes;
use chain_types::{Balance, Transaction};

/// Announced transactions that may wait for their check; beyond it the oldest are forgotten, and
/// read again.
const EXPECTED_MAX: usize = 1024;

/// A transaction that is worth its check, at the height for which that was found.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) bytes: Bytes,
    pub(super) hash: [u8; 32],
    pub(super) transaction: Transaction,
    /// What its fee payer has.
    pub(super) balance: Balance,
    /// Of the committed state.
    pub(super) height: u64,
}

/// In the order in which they were announced.
#[derive(Debug, Default)]
pub(super) struct Expected(VecDeque<Offer>);

impl Expected {
    pub(super) fn announce(&mut self, offers: Vec<Offer>) {
        self.0.extend(offers);
        let forgotten = self.0.len().saturating_sub(EXPECTED_MAX);
        self.0.drain(..forgotten);
    }

    /// What was announced of these bytes in a state of `height`. What stood before it is not asked
    /// for any more.
    pub(super) fn take(&mut self, bytes: &[u8], height: u64) -> Option<Offer> {
        let at = self.0.iter().position(|offer| offer.bytes == bytes)?;
        let found = self.0.drain(..=at).next_back();
        found.filter(|offer| offer.height == height)
    }
}

#[cfg(test)]
mod tests {
    use chain_types::{AccountId, Payload, TransactionBody};

    use super::*;

    fn offer(name: &str, height: u64) -> Offer {
        let signer = AccountId([1; 32]);
        let body = TransactionBody {
            signer,
            fee_payer: None,
            nonce: 0,
            valid_until_height: 0,
            fee: Balance::ZERO,
            payload: Payload::Transfer { to: signer, amount: Balance::ZERO },
        };
        let transaction = Transaction { body, signature: [0; 64], fee_payer_signature: None };
        let bytes = Bytes::copy_from_slice(name.as_bytes());
        Offer { bytes, hash: [0; 32], transaction, balance: Balance::ZERO, height }
    }

    fn is_there(expected: &mut Expected, name: &str, height: u64) -> bool {
        expected.take(name.as_bytes(), height).is_some()
    }

    #[test]
    fn an_announced_transaction_is_found_once_in_the_state_that_it_was_held_against() {
        let mut expected = Expected::default();
        expected.announce(["a", "b", "c", "d"].map(|name| offer(name, 7)).into());
        assert!(is_there(&mut expected, "a", 7));
        assert!(!is_there(&mut expected, "a", 7), "once");
        assert!(!is_there(&mut expected, "x", 7), "never announced");
        assert!(!is_there(&mut expected, "b", 8), "the state is another one");
        assert!(is_there(&mut expected, "d", 7));
        assert!(!is_there(&mut expected, "c", 7), "its turn is over");
    }

    #[test]
    fn the_oldest_announcements_are_forgotten() {
        let mut expected = Expected::default();
        let many = |from: usize| {
            (from..from + EXPECTED_MAX).map(|at| offer(&at.to_string(), 7)).collect::<Vec<_>>()
        };
        expected.announce(many(0));
        expected.announce(many(EXPECTED_MAX));
        assert_eq!(expected.0.len(), EXPECTED_MAX);
        assert!(!is_there(&mut expected, "5", 7));
        assert!(is_there(&mut expected, &EXPECTED_MAX.to_string(), 7));
    }
}
