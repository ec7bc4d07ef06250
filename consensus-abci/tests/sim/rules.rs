//! The rules of money as they are written down, with nothing clever: what each transaction of a
//! block must come to. What stake and tickets move is taken from the chain, and counted by its audit.

use std::collections::{BTreeMap, BTreeSet};

use chain_types::{
    Account, AccountId, ChannelId, Params, Payload, ReserveRequest, SignedVoucher, StreamId,
    Transaction, VOUCHER_SIGNED_BYTES, records::TERMS_MAX, split,
};
use consensus_abci::app::{EntryOutcome, StateSnapshot};
use tendermint_proto::v0_38::abci::ExecTxResult;

use crate::{finding::Finding, pool::Pool, tap::Decided, world::CHAIN_ID};

/// A version of a stream's terms.
#[derive(Debug, Clone, Copy)]
struct Version {
    from_height: u64,
    creator_bps: u16,
    origin_bps: u16,
}

#[derive(Debug, Clone)]
struct Stream {
    creator: AccountId,
    origin: AccountId,
    /// Version 1 first.
    versions: Vec<Version>,
}

/// Everything that the rules know.
#[derive(Debug, Clone)]
pub struct Rules {
    params: Params,
    accounts: BTreeMap<AccountId, (u128, u64)>,
    pools: BTreeMap<ChannelId, Pool>,
    streams: BTreeMap<StreamId, Stream>,
    /// Account of a relay: the key that may redeem for it.
    relays: BTreeMap<AccountId, AccountId>,
    height: u64,
    time_ms: u64,
    /// Whose balance the chain alone knows until [`Rules::state`] has read it.
    unknown: BTreeSet<AccountId>,
    /// Units that redeems have paid.
    pub redeemed: u128,
}

/// What must come of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Done,
    Refused,
    /// The rules here do not say.
    Either,
}

fn verdict(is_done: bool) -> Verdict {
    if is_done { Verdict::Done } else { Verdict::Refused }
}

impl Rules {
    /// Of a chain whose accounts are as they are now.
    pub fn of(snapshot: &StateSnapshot, names: &[AccountId]) -> Self {
        let account = |id: &AccountId| {
            let Account { balance, nonce } =
                snapshot.account(id).expect("a sound store").unwrap_or_default();
            (*id, (balance.units(), nonce))
        };
        Self {
            params: snapshot.params().expect("a sound store"),
            accounts: names.iter().map(account).collect(),
            pools: BTreeMap::new(),
            streams: BTreeMap::new(),
            relays: BTreeMap::new(),
            height: 0,
            time_ms: 0,
            unknown: BTreeSet::new(),
            redeemed: 0,
        }
    }

    pub fn nonce(&self, account: &AccountId) -> u64 {
        self.accounts.get(account).map_or(0, |(_, nonce)| *nonce)
    }

    /// Holds a block to the rules, each transaction by itself.
    pub fn block(&mut self, height: u64, decided: &Decided) -> Result<(), Finding> {
        self.height = height;
        let time = decided.request.time.as_ref().expect("a block has a time");
        self.time_ms = (time.seconds * 1000 + i64::from(time.nanos) / 1_000_000) as u64;
        for (bytes, result) in decided.request.txs.iter().zip(&decided.response.tx_results) {
            let wrong = |what: String| Finding::Rules { height, what };
            let tx = Transaction::decode(bytes).map_err(|error| wrong(error.to_string()))?;
            let name =
                format!("{} {} of {}", tx.body.payload.kind(), tx.body.nonce, tx.body.signer);
            let verdict =
                self.apply(&tx, result).map_err(|what| wrong(format!("{name}: {what}")))?;
            let said = if result.code == 0 { Verdict::Done } else { Verdict::Refused };
            if verdict != Verdict::Either && verdict != said {
                let log = &result.log;
                return Err(wrong(format!("{name} should be {verdict:?}, it is {said:?}: {log}")));
            }
        }
        Ok(())
    }

    /// Holds the newest state to the rules; to be called after [`Rules::block`] of its height.
    pub fn state(&mut self, snapshot: &StateSnapshot) -> Result<(), Finding> {
        let height = self.height;
        let wrong = |what: String| Err(Finding::Rules { height, what });
        for (id, (balance, nonce)) in &mut self.accounts {
            let account = snapshot.account(id).expect("a sound store").unwrap_or_default();
            if self.unknown.contains(id) {
                *balance = account.balance.units();
            }
            if (account.balance.units(), account.nonce) != (*balance, *nonce) {
                return wrong(format!("{id} is {account:?}, not {balance} and {nonce}"));
            }
        }
        for (id, pool) in &self.pools {
            let Some(channel) = snapshot.channel(id).expect("a sound store") else {
                return wrong(format!("the channel {id} is gone"));
            };
            let (free, paid) = (channel.free(height).units(), channel.redeemed.units());
            let expected = if pool.closed { 0 } else { pool.free(height) };
            if (free, paid, channel.closed) != (expected, pool.paid, pool.closed) {
                return wrong(format!("the channel {id} is {channel:?}, not {pool:?}"));
            }
        }
        self.unknown.clear();
        Ok(())
    }

    fn debit(&mut self, account: &AccountId, amount: u128) -> bool {
        let Some((balance, _)) = self.accounts.get_mut(account) else { return false };
        match balance.checked_sub(amount) {
            Some(left) => {
                *balance = left;
                true
            }
            None => false,
        }
    }

    fn credit(&mut self, account: AccountId, amount: u128) {
        self.accounts.entry(account).or_default().0 += amount;
    }

    fn apply(&mut self, tx: &Transaction, result: &ExecTxResult) -> Result<Verdict, String> {
        let body = &tx.body;
        let (signer, fee) = (body.signer, body.fee.units());
        let in_time = body.valid_until_height == 0 || body.valid_until_height >= self.height;
        if self.nonce(&signer) != body.nonce || !in_time || !self.debit(&tx.fee_payer(), fee) {
            return Ok(Verdict::Refused); // And not charged.
        }
        self.accounts.entry(signer).or_default().1 += 1;
        // A copy to go back to: done whole or not at all.
        let before = self.clone();
        let verdict = self.payload(&signer, body.nonce, &body.payload, result)?;
        if verdict == Verdict::Refused {
            *self = before;
        }
        Ok(verdict)
    }

    fn payload(
        &mut self,
        signer: &AccountId,
        nonce: u64,
        payload: &Payload,
        result: &ExecTxResult,
    ) -> Result<Verdict, String> {
        Ok(match payload {
            Payload::Transfer { to, amount } => {
                let amount = amount.units();
                let is_enough = amount >= self.params.new_account_min().units();
                let is_done =
                    (is_enough || self.accounts.contains_key(to)) && self.debit(signer, amount);
                if is_done {
                    self.credit(*to, amount);
                }
                verdict(is_done)
            }
            Payload::RegisterRelay { relay, .. } => {
                let is_new = !self.relays.contains_key(signer);
                self.relays.entry(*signer).or_insert(relay.relay_key);
                verdict(is_new)
            }
            Payload::RegisterStream { split, origin_relay, .. } => {
                let first = Version {
                    from_height: self.height,
                    creator_bps: split.creator_bps,
                    origin_bps: split.origin_bps,
                };
                let stream = Stream {
                    creator: *signer,
                    origin: origin_relay.unwrap_or(*signer),
                    versions: vec![first],
                };
                self.streams.insert(StreamId::of(signer, nonce), stream);
                Verdict::Done
            }
            Payload::SetPrice { stream, from_height: 0, .. } => {
                verdict(self.new_version(signer, stream, None))
            }
            Payload::SetSplit { stream, split, from_height: 0 } => {
                let shares = (split.creator_bps, split.origin_bps);
                verdict(self.new_version(signer, stream, Some(shares)))
            }
            Payload::OpenChannel { deposit, voucher_key, expires_height, reserves } => {
                let mut pool = Pool::new(*signer, *voucher_key, deposit.units(), *expires_height);
                let is_done = *deposit >= self.params.deposit_min()
                    && *expires_height > self.height
                    && self.debit(signer, deposit.units())
                    && reserves.iter().all(|request| pool.raise(request, self.height));
                self.pools.insert(ChannelId::of(signer, nonce), pool);
                verdict(is_done)
            }
            Payload::TopUp { channel, amount, reserves } => {
                let is_payer = self.pools.get(channel).is_some_and(|pool| pool.payer == *signer);
                if !(reserves.is_empty() || is_payer) || !self.debit(signer, amount.units()) {
                    return Ok(Verdict::Refused);
                }
                let height = self.height;
                let Some(pool) = self.pools.get_mut(channel) else { return Ok(Verdict::Refused) };
                let is_open = pool.is_open(height);
                pool.deposits += amount.units();
                verdict(is_open && reserves.iter().all(|request| pool.raise(request, height)))
            }
            Payload::Reserve { channel, reserve } => {
                verdict(self.reserve(signer, channel, reserve))
            }
            Payload::Redeem { entries, .. } => self.redeem(signer, entries, result)?,
            Payload::RequestClose { channel } => {
                let now = (self.height, self.time_ms);
                let Some(pool) = self.pools.get_mut(channel) else { return Ok(Verdict::Refused) };
                let may = pool.payer == *signer || now.0 >= pool.expires;
                let is_done = may && !pool.closed && pool.closing.is_none();
                pool.closing = pool.closing.or(Some(now));
                verdict(is_done)
            }
            Payload::Finalize { channel } => verdict(self.finalize(channel)),
            Payload::BuyAccess { stream, .. } => {
                self.unknown.insert(*signer);
                if let Some(stream) = self.streams.get(stream) {
                    self.unknown.extend([stream.creator, stream.origin]);
                }
                Verdict::Either
            }
            Payload::Delegate { .. }
            | Payload::Undelegate { .. }
            | Payload::WithdrawRewards { .. } => {
                self.unknown.insert(*signer);
                Verdict::Either
            }
            Payload::GrantAccess { stream, .. } | Payload::BumpRevocation { stream } => {
                verdict(self.streams.get(stream).is_some_and(|stream| stream.creator == *signer))
            }
            other => return Err(format!("nobody here sends a {}", other.kind())),
        })
    }

    /// Whether a version of a stream's terms can be paid now: made, and not replaced too long ago.
    fn is_payable(&self, stream: &Stream, version: u32) -> bool {
        let at = version as usize;
        if version == 0 || at > stream.versions.len() {
            return false;
        }
        let grace = self.params.terms_grace_blocks;
        stream.versions.get(at).is_none_or(|next| self.height <= next.from_height + grace)
    }

    fn new_version(
        &mut self,
        signer: &AccountId,
        stream: &StreamId,
        shares: Option<(u16, u16)>,
    ) -> bool {
        let Some(found) = self.streams.get(stream) else { return false };
        let kept = (1..=found.versions.len() as u32)
            .filter(|version| self.is_payable(found, *version))
            .count();
        if found.creator != *signer || kept >= TERMS_MAX {
            return false;
        }
        let newest = *found.versions.last().expect("a stream has terms");
        let (creator_bps, origin_bps) = shares.unwrap_or((newest.creator_bps, newest.origin_bps));
        let from_height = (self.height + self.params.notice_blocks).max(newest.from_height);
        let version = Version { from_height, creator_bps, origin_bps };
        self.streams.get_mut(stream).expect("found above").versions.push(version);
        true
    }

    fn reserve(
        &mut self,
        signer: &AccountId,
        channel: &ChannelId,
        request: &ReserveRequest,
    ) -> bool {
        let height = self.height;
        let Some(pool) = self.pools.get_mut(channel) else { return false };
        if pool.closed {
            return false;
        }
        if pool.payer == *signer && request.payee != *signer {
            return pool.is_open(height) && pool.raise(request, height);
        }
        // The payee may take less, for no longer.
        let lowers = |(left, until): (u128, u64)| {
            request.amount.units() <= left && request.until_height <= until
        };
        let is_done = request.payee == *signer && pool.own(signer, height).is_some_and(lowers);
        if is_done {
            pool.reserves.insert(*signer, (request.amount.units(), request.until_height));
        }
        is_done
    }

    fn finalize(&mut self, channel: &ChannelId) -> bool {
        let Some(pool) = self.pools.get_mut(channel) else { return false };
        let Some((height, time_ms)) = pool.closing.filter(|_| !pool.closed) else { return false };
        if self.height < height + self.params.close_window_blocks
            || self.time_ms < time_ms + self.params.close_window_ms
        {
            return false;
        }
        pool.closed = true;
        let (payer, refund) = (pool.payer, pool.deposits - pool.paid);
        self.credit(payer, refund);
        true
    }

    fn redeem(
        &mut self,
        signer: &AccountId,
        entries: &[[u8; VOUCHER_SIGNED_BYTES]],
        result: &ExecTxResult,
    ) -> Result<Verdict, String> {
        let outcomes = EntryOutcome::decode_all(&result.data).ok_or("its data is no outcomes")?;
        if outcomes.len() != entries.len() {
            return Err(format!("{} outcomes for {} entries", outcomes.len(), entries.len()));
        }
        let read = |entry: &[u8; VOUCHER_SIGNED_BYTES]| SignedVoucher::decode(entry).ok();
        let payee = entries.iter().find_map(read).map(|first| first.voucher.payee);
        let is_theirs =
            payee.is_some_and(|payee| payee == *signer || self.relays.get(&payee) == Some(signer));
        let mut is_any_paid = false;
        for (at, (entry, outcome)) in entries.iter().zip(outcomes).enumerate() {
            let paid = match read(entry) {
                Some(signed) if is_theirs && Some(signed.voucher.payee) == payee => {
                    self.pay(&signed)
                }
                _ => 0,
            };
            if outcome.paid.units() != paid || outcome.refused.is_none() != (paid > 0) {
                return Err(format!("entry {at} should pay {paid}: {outcome:?}"));
            }
            is_any_paid |= paid > 0;
        }
        Ok(verdict(is_any_paid))
    }

    /// What one voucher of the right payee pays, and who gets it.
    fn pay(&mut self, signed: &SignedVoucher) -> u128 {
        let voucher = &signed.voucher;
        let (height, payee) = (self.height, voucher.payee);
        let stream = self.streams.get(&voucher.stream).cloned();
        let Some(stream) = stream.filter(|one| self.is_payable(one, voucher.terms_version)) else {
            return 0;
        };
        let Some(pool) = self.pools.get_mut(&voucher.channel) else { return 0 };
        if pool.closed || signed.verify(&pool.key, CHAIN_ID).is_err() {
            return 0;
        }
        let lane = (payee, voucher.stream, voucher.lane);
        let (paid, version) = pool.lanes.get(&lane).copied().unwrap_or((0, voucher.terms_version));
        let asked = voucher.cumulative.units().saturating_sub(paid);
        let own = pool.own(&payee, height).map_or(0, |(left, _)| left);
        let pays = asked.min(own + pool.free(height));
        if version != voucher.terms_version || pays == 0 {
            return 0;
        }
        if let Some((left, _)) = pool.reserves.get_mut(&payee).filter(|_| own > 0) {
            *left -= pays.min(own);
        }
        pool.paid += pays;
        pool.lanes.insert(lane, (paid + pays, version));
        self.redeemed += pays;
        let shares = stream.versions[voucher.terms_version as usize - 1];
        let amount = chain_types::Balance::new(pays).expect("part of a deposit");
        let parts = split::shares(amount, shares.creator_bps, shares.origin_bps);
        self.credit(payee, parts.payee.units());
        self.credit(stream.creator, parts.creator.units());
        self.credit(stream.origin, parts.origin.units());
        pays
    }
}
