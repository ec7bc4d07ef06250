//! The faucet of a development chain: play money for whoever comes, within bounds.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chain_types::{AccountId, Balance, Payload, SigningKey};

use super::{NodeChain, genesis::FAUCET_BALANCE, transact};

/// One drop.
const DROP: Balance = Balance::of(100_000_000_000);
/// Time between two drops to one address.
const ADDRESS_INTERVAL: Duration = Duration::from_secs(60);
/// Drops to one address within [`ADDRESS_INTERVAL`] where it is this machine's own: a person opens
/// several browsers, and has nobody to take money from.
const LOCAL_DROPS_MAX: usize = 100;
/// Accounts and addresses remembered; the oldest is forgotten beyond it.
const REMEMBERED_MAX: usize = 65_536;

/// Why the faucet stays closed; each sentence says what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FaucetRefused {
    /// One drop for each account.
    #[error("this account has had its drop: pay with what it holds")]
    AccountServed,
    /// One drop for each address and minute.
    #[error("this address had a drop a moment ago: come back in a minute")]
    AddressServed,
    /// What is left is for those who have nothing at all.
    #[error("the faucet has run dry: start a fresh chain with another --home")]
    Dry,
}

/// The faucet's money, and who had of it.
pub struct Till {
    key: SigningKey,
    faucet: Mutex<Faucet>,
    /// Held while a transaction is made: one nonce, one transaction.
    turn: Mutex<()>,
}

impl Till {
    /// Gives from the account of `key`.
    pub fn new(key: SigningKey) -> Self {
        Self { key, faucet: Mutex::default(), turn: Mutex::default() }
    }

    /// Gives play money to an account. Blocks for a block's time.
    ///
    /// # Errors
    /// [`FaucetRefused`], or the chain does not take the transaction.
    pub fn drip(
        &self,
        chain: &dyn NodeChain,
        account: AccountId,
        from: IpAddr,
    ) -> anyhow::Result<([u8; 32], Balance)> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let faucet = || self.faucet.lock().unwrap_or_else(PoisonError::into_inner);
        let left = chain.account(&AccountId::from(&self.key))?.balance;
        faucet().take(account, from, left, FAUCET_BALANCE, Instant::now())?;
        match transact(chain, &self.key, Payload::Transfer { to: account, amount: DROP }) {
            Ok(hash) => Ok((hash, DROP)),
            Err(error) => {
                faucet().give_back(account);
                Err(error)
            }
        }
    }
}

/// Who got a drop, and when.
#[derive(Debug, Default)]
struct Faucet {
    accounts: HashSet<AccountId>,
    order: VecDeque<AccountId>,
    addresses: HashMap<IpAddr, VecDeque<Instant>>,
}

impl Faucet {
    /// Whether `account` may have a drop now; it is counted as given. `left` is what the faucet's
    /// account holds of the `filled` that it began with: it stops at 1 %.
    fn take(
        &mut self,
        account: AccountId,
        from: IpAddr,
        left: Balance,
        filled: Balance,
        now: Instant,
    ) -> Result<(), FaucetRefused> {
        if self.accounts.contains(&account) {
            return Err(FaucetRefused::AccountServed);
        }
        let keep = filled.units() / 100;
        if left.units() < keep + DROP.units() {
            return Err(FaucetRefused::Dry);
        }
        let drops_max = if from.is_loopback() { LOCAL_DROPS_MAX } else { 1 };
        if self.addresses.len() >= REMEMBERED_MAX {
            self.addresses.retain(|_, drops| {
                drops.back().is_some_and(|last| now.duration_since(*last) < ADDRESS_INTERVAL)
            });
        }
        let drops = self.addresses.entry(from).or_default();
        while drops.front().is_some_and(|first| now.duration_since(*first) >= ADDRESS_INTERVAL) {
            drops.pop_front();
        }
        if drops.len() >= drops_max {
            return Err(FaucetRefused::AddressServed);
        }
        drops.push_back(now);
        self.accounts.insert(account);
        self.order.push_back(account);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.accounts.remove(&oldest);
        }
        Ok(())
    }

    /// The drop was not delivered: the account may ask again.
    fn give_back(&mut self, account: AccountId) {
        self.accounts.remove(&account);
        self.order.retain(|known| *known != account);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const FILLED: Balance = Balance::of(1_000_000_000_000_000);

    fn account(number: u8) -> AccountId {
        AccountId([number; 32])
    }

    #[test]
    fn an_account_gets_one_drop_and_an_address_one_a_minute() {
        let mut faucet = Faucet::default();
        let start = Instant::now();
        let far = IpAddr::from([192, 0, 2, 1]);
        let mut take = |number, from, at| faucet.take(account(number), from, FILLED, FILLED, at);
        assert_eq!(take(1, far, start), Ok(()));
        assert_eq!(take(1, far, start), Err(FaucetRefused::AccountServed));
        assert_eq!(take(2, far, start), Err(FaucetRefused::AddressServed));
        assert_eq!(take(2, IpAddr::from([192, 0, 2, 2]), start), Ok(()));
        assert_eq!(take(3, far, start + ADDRESS_INTERVAL), Ok(()));
    }

    #[test]
    fn several_browsers_of_this_machine_are_served_at_once() {
        let mut faucet = Faucet::default();
        let (start, here) = (Instant::now(), IpAddr::from(Ipv4Addr::LOCALHOST));
        for number in 0..LOCAL_DROPS_MAX {
            let number = u8::try_from(number).unwrap();
            assert_eq!(faucet.take(account(number), here, FILLED, FILLED, start), Ok(()));
        }
        let next = faucet.take(account(255), here, FILLED, FILLED, start);
        assert_eq!(next, Err(FaucetRefused::AddressServed));
    }

    #[test]
    fn the_last_hundredth_stays_in() {
        let mut faucet = Faucet::default();
        let (start, here) = (Instant::now(), IpAddr::from(Ipv4Addr::LOCALHOST));
        let low = Balance::new(FILLED.units() / 100 + DROP.units() - 1).unwrap();
        assert_eq!(faucet.take(account(1), here, low, FILLED, start), Err(FaucetRefused::Dry));
        let enough = Balance::new(FILLED.units() / 100 + DROP.units()).unwrap();
        assert_eq!(faucet.take(account(1), here, enough, FILLED, start), Ok(()));
        faucet.give_back(account(1));
        assert_eq!(faucet.take(account(1), here, enough, FILLED, start), Ok(()));
    }
}
