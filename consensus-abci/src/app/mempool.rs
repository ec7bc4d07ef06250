//! CheckTx: what waits for a block, as far as the state machine must know it.
//!
//! A sender may be [`NONCES_AHEAD`] transactions ahead of the committed state, in any order. The
//! book of who waits with which nonce and fee begins anew at each commit; what is left in the
//! mempool is checked again then, and enters itself.

use std::collections::{BTreeMap, HashMap};

use chain_types::{AccountId, Balance, ResultCode, Transaction};

use super::{
    accounts::sum_of,
    execute::{Refusal, cannot_pay},
};

/// Nonces that a sender may use from its next one on.
pub const NONCES_AHEAD: u64 = 64;
/// Transactions in the book. Beyond it new ones are refused until the next block.
pub const WAITING_MAX: usize = 65_536;

/// Who waits.
#[derive(Default)]
pub(super) struct Waiting {
    by_nonce: BTreeMap<(AccountId, u64), [u8; 32]>,
    /// All fees that an account is to pay for them.
    fees: HashMap<AccountId, Balance>,
}

impl Waiting {
    /// Checks a transaction against those that wait, and enters it.
    ///
    /// `balance` is what its fee payer has in the committed state.
    pub(super) fn enter(
        &mut self,
        hash: [u8; 32],
        transaction: &Transaction,
        balance: Balance,
    ) -> Result<(), Refusal> {
        let key = (transaction.body.signer, transaction.body.nonce);
        match self.by_nonce.get(&key) {
            Some(waiting) if *waiting == hash => return Ok(()),
            Some(_) => {
                let log = "another transaction with this nonce waits already".to_owned();
                return Err((ResultCode::Nonce, log));
            }
            None => {}
        }
        if self.by_nonce.len() >= WAITING_MAX {
            let log = "too many transactions wait: try again after the next block".to_owned();
            return Err((ResultCode::Policy, log));
        }
        let payer = transaction.fee_payer();
        let before = self.fees.get(&payer).copied().unwrap_or_default();
        let fees = sum_of([before, transaction.body.fee]).filter(|fees| *fees <= balance);
        let Some(fees) = fees else {
            return Err(cannot_pay(balance.saturating_sub(before), transaction.body.fee));
        };
        self.fees.insert(payer, fees);
        self.by_nonce.insert(key, hash);
        Ok(())
    }

    /// A block was committed.
    pub(super) fn clear(&mut self) {
        self.by_nonce.clear();
        self.fees.clear();
    }
}

/// Whether a nonce is one of those that a sender may use now.
pub(super) fn check_nonce(nonce: u64, next: u64) -> Result<(), Refusal> {
    if nonce < next {
        return Err((ResultCode::Nonce, format!("the nonce is {nonce}, the next is {next}")));
    }
    if nonce - next >= NONCES_AHEAD {
        let log = format!("the nonce is {nonce}, the next is {next}: at most 64 may wait");
        return Err((ResultCode::Nonce, log));
    }
    Ok(())
}
