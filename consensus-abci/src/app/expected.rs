//! Transactions that are checked next: each is read, hashed and held against the state once, when
//! they were announced, and not again when its turn comes.

use std::collections::VecDeque;

use bytes::Bytes;
use chain_types::{Balance, Transaction};

/// Announced transactions that may wait for their check; those beyond it are read again.
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

/// What was announced last, in its order.
#[derive(Debug, Default)]
pub(super) struct Expected(VecDeque<Offer>);

impl Expected {
    pub(super) fn announce(&mut self, offers: Vec<Offer>) {
        self.0 = offers.into();
        self.0.truncate(EXPECTED_MAX);
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
    fn what_was_announced_before_and_what_is_too_much_is_forgotten() {
        let mut expected = Expected::default();
        expected.announce(vec![offer("before", 7)]);
        expected.announce((0..=EXPECTED_MAX).map(|at| offer(&at.to_string(), 7)).collect());
        assert!(!is_there(&mut expected, "before", 7));
        assert!(!is_there(&mut expected, &EXPECTED_MAX.to_string(), 7));
        assert!(is_there(&mut expected, &(EXPECTED_MAX - 1).to_string(), 7));
    }
}
