//! A channel as it is written down: a deposit, what of it is kept for whom, what was paid.

use std::collections::BTreeMap;

use chain_types::{AccountId, ReserveRequest, StreamId, params::RESERVES_MAX};

/// A deposit and what came of it.
#[derive(Debug, Clone)]
pub struct Pool {
    pub payer: AccountId,
    pub key: AccountId,
    pub deposits: u128,
    pub paid: u128,
    /// Payee: left, first height at which it is free again.
    pub reserves: BTreeMap<AccountId, (u128, u64)>,
    /// Payee, stream, lane: paid, version.
    pub lanes: BTreeMap<(AccountId, StreamId, u32), (u128, u32)>,
    pub expires: u64,
    /// Height and time of the request.
    pub closing: Option<(u64, u64)>,
    pub closed: bool,
}

impl Pool {
    pub fn new(payer: AccountId, key: AccountId, deposits: u128, expires: u64) -> Self {
        let (reserves, lanes) = (BTreeMap::new(), BTreeMap::new());
        let (paid, closing, closed) = (0, None, false);
        Self { payer, key, deposits, paid, reserves, lanes, expires, closing, closed }
    }

    pub fn own(&self, payee: &AccountId, height: u64) -> Option<(u128, u64)> {
        self.reserves.get(payee).copied().filter(|(left, until)| *until > height && *left > 0)
    }

    fn live(&self, height: u64) -> impl Iterator<Item = u128> {
        let live = move |(_, until): &&(u128, u64)| *until > height;
        self.reserves.values().filter(live).map(|(left, _)| *left)
    }

    pub fn free(&self, height: u64) -> u128 {
        self.deposits - self.paid - self.live(height).sum::<u128>()
    }

    pub fn is_open(&self, height: u64) -> bool {
        !self.closed && self.closing.is_none() && height < self.expires
    }

    /// The payer's side.
    pub fn raise(&mut self, request: &ReserveRequest, height: u64) -> bool {
        let ReserveRequest { payee, amount, until_height } = *request;
        let amount = amount.units();
        let own = self.own(&payee, height);
        let (left, until) = own.unwrap_or((0, 0));
        let has_room = own.is_some()
            || self.reserves.values().filter(|(left, until)| *until > height && *left > 0).count()
                < RESERVES_MAX;
        let is_good = until_height > height
            && until_height >= until
            && amount >= left
            && amount > 0
            && has_room
            && amount - left <= self.free(height);
        if is_good {
            self.reserves.insert(payee, (amount, until_height));
        }
        is_good
    }
}
