//! Accounts: moving money, and what a transaction costs.

use chain_types::{AccountId, Balance, ChainEvent, ResultCode};

use super::state::{BlockState, StateError, Stop, reject};

impl BlockState {
    /// Takes the fee and the nonce; from here on the transaction is charged whatever it does.
    ///
    /// `signer`'s nonce and `payer`'s balance were checked.
    pub(super) fn charge(
        &mut self,
        signer: &AccountId,
        payer: &AccountId,
        fee: Balance,
    ) -> Result<(), Stop> {
        let mut account = self.account(signer)?;
        account.nonce = account.nonce.checked_add(1).expect("2^64 transactions take ages");
        match account.balance.checked_sub(fee).filter(|_| payer == signer) {
            Some(rest) => account.balance = rest,
            None => self.debit(payer, fee)?,
        }
        self.put_account(signer, &account);
        let burned = self.collect_fee(fee)?;
        self.event(ChainEvent::Fee { payer: *payer, amount: fee, burned });
        Ok(())
    }

    /// `Transfer`.
    pub(super) fn transfer(
        &mut self,
        from: &AccountId,
        to: &AccountId,
        amount: Balance,
    ) -> Result<(), Stop> {
        let least = self.params.new_account_min();
        if amount < least && !self.has_account(to)? {
            return reject(
                ResultCode::Funds,
                format!("the transfer makes an account: it must carry {least} units at least"),
            );
        }
        self.debit(from, amount)?;
        self.credit(to, amount)?;
        self.event(ChainEvent::Transfer { from: *from, to: *to, amount });
        Ok(())
    }

    /// Pays a part of a price, noted as a transfer; nothing where it is nothing.
    pub(super) fn pay_part(
        &mut self,
        from: &AccountId,
        to: &AccountId,
        amount: Balance,
    ) -> Result<(), StateError> {
        if !amount.is_zero() {
            self.credit(to, amount)?;
            self.event(ChainEvent::Transfer { from: *from, to: *to, amount });
        }
        Ok(())
    }
}

/// Checked where a list of parts need not be of one supply: amounts that transactions name.
pub(super) fn sum_of(parts: impl IntoIterator<Item = Balance>) -> Option<Balance> {
    parts.into_iter().try_fold(Balance::ZERO, Balance::checked_add)
}
