//! The submitter's core: vouchers, blocks and answers of the chain in, transactions out.
//!
//! Pure. After each input, take [`Submitter::poll`] until it gives nothing. The same bytes go out
//! until the chain has an answer for them; new bytes for the same vouchers are signed only when the
//! old ones cannot be in a block any more, or were never let in.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use chain_types::{
    Account, AccountId, Balance, BlockDelta, LaneKey, Payload, ResultCode, SignedVoucher,
    SigningKey, TransactionBody, params::REDEEM_ENTRIES_MAX, transaction_hash,
};

use super::{merkle, qos_leaf, urgent, watch_leaf};
use crate::{
    chain::BlockchainState,
    ports::{ChainError, SubmitError},
};

/// Transactions that are under way at once; later vouchers wait, the newest of each lane.
pub const PENDING_MAX: usize = 8;
/// A transaction may be in one of so many blocks after it was signed.
pub const VALID_BLOCKS: u64 = 30;
/// The same vouchers are signed into at most so many transactions; then they are given back.
pub const RESIGN_MAX: u32 = 5;
/// While the chain takes nothing, the time between two attempts, ms.
pub const RETRY_MS: u64 = 500;
/// Where a transaction failed whose block was the first to look at its entries.
const IN_BLOCK: &str = "none of its entries could be paid";
/// Bytes of a Redeem besides its entries, rounded up.
const ENVELOPE_BYTES: usize = 512;

/// What happens to the submitter.
#[derive(Debug, Clone)]
pub enum Input {
    /// Vouchers to be redeemed, on the disk, all of one payee.
    Redeem(Vec<SignedVoucher>),
    /// A block, and the state behind it.
    Block(Arc<BlockDelta>, Arc<BlockchainState>),
    /// The state after a gap.
    Resynchronised(Arc<BlockchainState>),
    /// The chain's answer to [`Output::Submit`].
    Submitted {
        /// Which transaction.
        hash: [u8; 32],
        /// What it said.
        answer: Result<(), SubmitError>,
    },
    /// The chain's answer to [`Output::ReadAccount`].
    Account(Result<Account, ChainError>),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Hand over these bytes, then tell [`Input::Submitted`].
    Submit {
        /// Their hash.
        hash: [u8; 32],
        /// A signed transaction.
        bytes: Vec<u8>,
    },
    /// Read the wallet's account, then tell [`Input::Account`].
    ReadAccount,
    /// Tell who follows.
    Event(RedeemEvent),
}

/// How redeeming goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedeemEvent {
    /// A transaction was signed and leaves.
    Signed {
        /// Of the transaction.
        hash: [u8; 32],
        /// Vouchers in it.
        entries: usize,
    },
    /// It is in a block.
    Redeemed {
        /// Of the transaction.
        hash: [u8; 32],
        /// Of the block.
        height: u64,
        /// Lanes of which the chain has its voucher or a newer one.
        taken: Vec<LaneKey>,
        /// Lanes whose entry the chain skipped.
        skipped: Vec<LaneKey>,
    },
    /// It cannot be done now; whoever still wants it asks again.
    GaveUp {
        /// Given back.
        vouchers: Vec<SignedVoucher>,
        /// Why.
        error: GaveUp,
    },
}

/// Why vouchers were given back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GaveUp {
    /// The fee wallet is empty.
    #[error("fund account {account}: redeeming {entries} vouchers costs it {fee} units")]
    Funds {
        /// The fee wallet's.
        account: AccountId,
        /// Vouchers in the transaction.
        entries: usize,
        /// The transaction's fee.
        fee: Balance,
    },
    /// The chain says no, and will again.
    #[error("the chain refuses the redeem with code {code}: {reason}")]
    Refused {
        /// A [`ResultCode`].
        code: u32,
        /// The chain's sentence, or ours for the code.
        reason: String,
    },
    /// Signed [`RESIGN_MAX`] times, never in a block.
    #[error("the redeem was signed {RESIGN_MAX} times and came into no block")]
    TooOften,
    /// The vouchers of one batch name several payees.
    #[error("a redeem has one payee, these vouchers have several")]
    SeveralPayees,
}

/// Counts for operators, from the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RedeemCounters {
    /// Transactions signed.
    pub signed: u64,
    /// Of these, for vouchers that had been signed before.
    pub resigned: u64,
    /// Handed to the chain, repetitions included.
    pub submitted: u64,
    /// In a block, with success.
    pub redeemed: u64,
    /// Vouchers in them that the chain took.
    pub vouchers_redeemed: u64,
    /// In a block, with another code than success.
    pub failed: u64,
    /// Batches given back.
    pub gave_up: u64,
    /// Vouchers dropped since the chain had paid them already.
    pub vouchers_known: u64,
    /// Sum of the fees of transactions in blocks, units.
    pub fees_units: u128,
    /// Transactions under way now.
    pub pending: u64,
    /// Vouchers that wait for a transaction now.
    pub waiting: u64,
}

/// See the module.
pub struct Submitter {
    chain_id: String,
    wallet: SigningKey,
    state: Option<Arc<BlockchainState>>,
    /// The wallet's, as far as is known; `None`: to be read.
    nonce: Option<u64>,
    is_reading: bool,
    /// No attempt before it, ms.
    retry_at_ms: u64,
    /// Newest of each lane, and how often it was signed into a transaction.
    waiting: BTreeMap<LaneKey, Waiting>,
    /// By nonce.
    pending: BTreeMap<u64, Pending>,
    events: VecDeque<Output>,
    counters: RedeemCounters,
}

struct Waiting {
    voucher: SignedVoucher,
    signed: u32,
}

struct Pending {
    hash: [u8; 32],
    bytes: Vec<u8>,
    entries: Vec<Waiting>,
    fee: Balance,
    valid_until_height: u64,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// To be handed over, also again.
    Ready,
    /// Handed over; the answer is to come.
    Asked,
    /// In the mempool, as far as is known.
    Taken,
    /// Its nonce is used, by itself or by another: the blocks up to this height say by which.
    Doubtful { until_height: u64 },
}

/// Whether a transaction that came into no block says anything about its vouchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// The chain had it.
    Failed,
    /// It did not: it could not be reached, or was further than known here.
    Void,
}

impl Submitter {
    /// A submitter that knows nothing of the chain yet. `wallet` signs and pays the fees: the payee's
    /// key or its relay's, since the chain takes vouchers from nobody else.
    pub fn new(chain_id: &str, wallet: SigningKey) -> Self {
        Self {
            chain_id: chain_id.to_owned(),
            wallet,
            state: None,
            nonce: None,
            is_reading: false,
            retry_at_ms: 0,
            waiting: BTreeMap::new(),
            pending: BTreeMap::new(),
            events: VecDeque::new(),
            counters: RedeemCounters::default(),
        }
    }

    /// The account that signs and pays the fees.
    pub fn account(&self) -> AccountId {
        AccountId::from(&self.wallet)
    }

    /// Counts so far.
    pub fn counters(&self) -> RedeemCounters {
        let (pending, waiting) = (self.pending.len() as u64, self.waiting.len() as u64);
        RedeemCounters { pending, waiting, ..self.counters }
    }

    /// Whether everything that was asked for is done or given back.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.waiting.is_empty() && self.events.is_empty()
    }

    /// Takes an input at a time of the monotonic clock, ms.
    pub fn handle(&mut self, now_ms: u64, input: Input) {
        match input {
            Input::Redeem(vouchers) => self.take(vouchers),
            Input::Block(delta, state) => {
                self.state = Some(state);
                for (hash, code) in &delta.results {
                    self.decided(hash, *code, delta.height);
                }
                self.grow_old(delta.height);
            }
            Input::Resynchronised(state) => {
                let height = state.height();
                self.state = Some(state);
                // Results may have been missed: the account says which nonces are used.
                self.nonce = None;
                self.grow_old(height);
            }
            Input::Submitted { hash, answer } => self.answered(now_ms, &hash, answer),
            Input::Account(answer) => self.account_read(now_ms, answer),
            Input::Tick => {}
        }
    }

    /// The next thing to do; `None`: nothing before the next input.
    pub fn poll(&mut self, now_ms: u64) -> Option<Output> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if now_ms < self.retry_at_ms || self.state.is_none() {
            return None;
        }
        if self.nonce.is_none() {
            let is_needed = !self.waiting.is_empty() || !self.pending.is_empty();
            if self.is_reading || !is_needed {
                return None;
            }
            self.is_reading = true;
            return Some(Output::ReadAccount);
        }
        if let Some(pending) = self.pending.values_mut().find(|one| one.step == Step::Ready) {
            pending.step = Step::Asked;
            self.counters.submitted += 1;
            return Some(Output::Submit { hash: pending.hash, bytes: pending.bytes.clone() });
        }
        self.sign_next()
    }

    /// Vouchers to be redeemed; of each lane the newest counts.
    fn take(&mut self, vouchers: Vec<SignedVoucher>) {
        let payee = vouchers.first().map(|first| first.voucher.payee);
        if vouchers.iter().any(|one| Some(one.voucher.payee) != payee) {
            self.give_up(vouchers, GaveUp::SeveralPayees);
            return;
        }
        for voucher in vouchers {
            self.wait(Waiting { voucher, signed: 0 });
        }
    }

    fn wait(&mut self, new: Waiting) {
        let (lane, cumulative) = (new.voucher.voucher.lane_key(), new.voucher.voucher.cumulative);
        let is_under_way =
            self.pending.values().flat_map(|pending| &pending.entries).any(|entry| {
                let entry = &entry.voucher.voucher;
                entry.lane_key() == lane && entry.cumulative >= cumulative
            });
        if is_under_way {
            return;
        }
        match self.waiting.get(&lane) {
            Some(old) if old.voucher.voucher.cumulative >= cumulative => {}
            Some(_) | None => {
                self.waiting.insert(lane, new);
            }
        }
    }

    /// Signs what waits into a transaction: one payee's, the urgent first.
    fn sign_next(&mut self) -> Option<Output> {
        let state = Arc::clone(self.state.as_ref()?);
        let known = self.nonce?;
        if self.pending.len() >= PENDING_MAX {
            return None;
        }
        self.drop_paid(&state);
        let entries = self.choose(&state);
        let payload = redeem_of(entries.iter().map(|entry| &entry.voucher))?;
        let nonce = (known..).find(|nonce| !self.pending.contains_key(nonce))?;
        let valid_until_height = state.height().saturating_add(VALID_BLOCKS);
        let mut body = TransactionBody {
            signer: self.account(),
            fee_payer: None,
            nonce,
            valid_until_height,
            fee: Balance::ZERO, // Of a fixed size: the length does not depend on it.
            payload,
        };
        let fee = state.params().fee_min(&body.payload, body.signed_len_bytes());
        body.fee = fee;
        let bytes = body.sign(&self.wallet, &self.chain_id).encode();
        let hash = transaction_hash(&bytes);
        self.counters.signed += 1;
        self.counters.resigned += u64::from(entries.iter().any(|entry| entry.signed > 0));
        let count = entries.len();
        let entries = entries
            .into_iter()
            .map(|Waiting { voucher, signed }| Waiting { voucher, signed: signed + 1 })
            .collect();
        let step = Step::Ready;
        let pending = Pending { hash, bytes, entries, fee, valid_until_height, step };
        self.pending.insert(nonce, pending);
        Some(Output::Event(RedeemEvent::Signed { hash, entries: count }))
    }

    /// The chain pays nothing for them: never twice what it has.
    fn drop_paid(&mut self, state: &BlockchainState) {
        let before = self.waiting.len();
        self.waiting.retain(|lane, one| {
            let cumulative = one.voucher.voucher.cumulative;
            cumulative > state.paid(lane)
        });
        self.counters.vouchers_known += (before - self.waiting.len()) as u64;
    }

    fn choose(&mut self, state: &BlockchainState) -> Vec<Waiting> {
        let vouchers = self.waiting.values().map(|one| &one.voucher);
        let first = urgent(state, vouchers).first().map(|urgent| urgent.voucher.voucher.payee);
        let Some(payee) = first.or_else(|| self.waiting.keys().next().map(|lane| lane.payee))
        else {
            return Vec::new();
        };
        let of_payee = self.waiting.values().filter(|one| one.voucher.voucher.payee == payee);
        let vouchers: Vec<&SignedVoucher> = of_payee.map(|one| &one.voucher).collect();
        let mut lanes: Vec<LaneKey> = urgent(state, vouchers.iter().copied())
            .iter()
            .map(|urgent| urgent.voucher.voucher.lane_key())
            .collect();
        // The others in the order of their keys.
        let first: BTreeSet<LaneKey> = lanes.iter().copied().collect();
        let others = vouchers.iter().map(|voucher| voucher.voucher.lane_key());
        lanes.extend(others.filter(|lane| !first.contains(lane)));
        lanes.truncate(entries_max(state));
        lanes.iter().filter_map(|lane| self.waiting.remove(lane)).collect()
    }

    fn answered(&mut self, now_ms: u64, hash: &[u8; 32], answer: Result<(), SubmitError>) {
        let height = self.state.as_ref().map_or(0, |state| state.height());
        let Some((nonce, pending)) = self.pending.iter_mut().find(|(_, one)| one.hash == *hash)
        else {
            return; // A block was quicker than the answer.
        };
        let nonce = *nonce;
        match answer {
            Ok(()) | Err(SubmitError::Known) => pending.step = Step::Taken,
            Err(SubmitError::Unavailable(_)) => {
                pending.step = Step::Ready;
                self.retry_at_ms = now_ms.saturating_add(RETRY_MS);
            }
            Err(SubmitError::Refused { code, log }) => match ResultCode::from_code(code) {
                Some(ResultCode::Nonce) => {
                    // These bytes, let in by an earlier attempt, or another transaction?
                    pending.step = Step::Doubtful { until_height: height.saturating_add(2) };
                    self.nonce = None;
                }
                // The chain is ahead of what is known of it here, as after an outage: a moment later
                // it is not.
                Some(ResultCode::Expired) => {
                    self.retry_at_ms = now_ms.saturating_add(RETRY_MS);
                    self.sign_again(nonce, Attempt::Void);
                }
                Some(ResultCode::Fee) => self.sign_again(nonce, Attempt::Failed),
                _ => self.refused(nonce, code, log),
            },
        }
    }

    fn decided(&mut self, hash: &[u8; 32], code: u32, height: u64) {
        let Some(nonce) = self.pending.iter().find(|(_, one)| one.hash == *hash).map(|(at, _)| *at)
        else {
            return;
        };
        match ResultCode::from_code(code) {
            None if code == 0 => self.redeemed(nonce, height),
            // They change nothing: the nonce is not used, or by another.
            Some(ResultCode::Nonce) => {
                self.nonce = None;
                self.sign_again(nonce, Attempt::Failed);
            }
            Some(ResultCode::Expired | ResultCode::Fee) => {
                self.sign_again(nonce, Attempt::Failed);
            }
            // Of the whole, uncharged, or of its first entry when all are bad, charged: the account
            // knows.
            Some(
                ResultCode::Decode
                | ResultCode::Signature
                | ResultCode::TooLarge
                | ResultCode::Funds,
            ) => {
                self.counters.failed += 1;
                self.nonce = None;
                self.refused(nonce, code, IN_BLOCK.to_owned());
            }
            // All entries are bad; the fee is gone and the nonce used.
            Some(_) | None => {
                self.counters.failed += 1;
                self.charged(nonce);
                self.refused(nonce, code, IN_BLOCK.to_owned());
            }
        }
    }

    fn charged(&mut self, nonce: u64) {
        if let Some(pending) = self.pending.get(&nonce) {
            self.counters.fees_units += pending.fee.units();
        }
        self.nonce = self.nonce.map(|known| known.max(nonce.saturating_add(1)));
    }

    fn redeemed(&mut self, nonce: u64, height: u64) {
        self.charged(nonce);
        let (Some(pending), Some(state)) = (self.pending.remove(&nonce), &self.state) else {
            return;
        };
        // Of a lane that is gone the channel was finalized since: it was paid before that.
        let is_taken = |entry: &Waiting| {
            let lane = entry.voucher.voucher.lane_key();
            state.lane(&lane).is_none_or(|record| record.cum >= entry.voucher.voucher.cumulative)
        };
        let (taken, skipped): (Vec<&Waiting>, Vec<&Waiting>) =
            pending.entries.iter().partition(|entry| is_taken(entry));
        self.counters.redeemed += 1;
        self.counters.vouchers_redeemed += taken.len() as u64;
        let lanes = |entries: Vec<&Waiting>| {
            entries.iter().map(|entry| entry.voucher.voucher.lane_key()).collect()
        };
        let (taken, skipped) = (lanes(taken), lanes(skipped));
        let event = RedeemEvent::Redeemed { hash: pending.hash, height, taken, skipped };
        self.events.push_back(Output::Event(event));
    }

    /// What no block can hold any more is signed again.
    fn grow_old(&mut self, height: u64) {
        let is_over = |pending: &Pending| match pending.step {
            Step::Doubtful { until_height } => height >= until_height,
            Step::Ready | Step::Asked | Step::Taken => height > pending.valid_until_height,
        };
        let attempt = |pending: &Pending| match pending.step {
            Step::Taken | Step::Doubtful { .. } => Attempt::Failed,
            // Nobody could be reached while it was good.
            Step::Ready | Step::Asked => Attempt::Void,
        };
        let over: Vec<(u64, Attempt)> = self
            .pending
            .iter()
            .filter(|(_, pending)| is_over(pending))
            .map(|(nonce, pending)| (*nonce, attempt(pending)))
            .collect();
        for (nonce, attempt) in over {
            self.sign_again(nonce, attempt);
        }
    }

    fn sign_again(&mut self, nonce: u64, attempt: Attempt) {
        let Some(mut pending) = self.pending.remove(&nonce) else { return };
        if attempt == Attempt::Void {
            for entry in &mut pending.entries {
                entry.signed = entry.signed.saturating_sub(1);
            }
        }
        let (again, too_often): (Vec<Waiting>, Vec<Waiting>) =
            pending.entries.into_iter().partition(|entry| entry.signed < RESIGN_MAX);
        for entry in again {
            self.wait(entry);
        }
        if !too_often.is_empty() {
            let vouchers = too_often.into_iter().map(|entry| entry.voucher).collect();
            self.give_up(vouchers, GaveUp::TooOften);
        }
    }

    fn refused(&mut self, nonce: u64, code: u32, log: String) {
        let Some(pending) = self.pending.remove(&nonce) else { return };
        let (entries, fee) = (pending.entries.len(), pending.fee);
        let known = ResultCode::from_code(code);
        let error = if known == Some(ResultCode::Funds) && log != IN_BLOCK {
            GaveUp::Funds { account: self.account(), entries, fee }
        } else {
            let advice = known.map_or("this program does not know it", ResultCode::advice);
            GaveUp::Refused { code, reason: format!("{log}: {advice}") }
        };
        self.give_up(pending.entries.into_iter().map(|entry| entry.voucher).collect(), error);
    }

    fn give_up(&mut self, vouchers: Vec<SignedVoucher>, error: GaveUp) {
        self.counters.gave_up += 1;
        self.events.push_back(Output::Event(RedeemEvent::GaveUp { vouchers, error }));
    }

    fn account_read(&mut self, now_ms: u64, answer: Result<Account, ChainError>) {
        self.is_reading = false;
        let Ok(account) = answer else {
            self.retry_at_ms = now_ms.saturating_add(RETRY_MS);
            return;
        };
        self.nonce = Some(account.nonce);
        let height = self.state.as_ref().map_or(0, |state| state.height());
        for (_, pending) in self.pending.range_mut(..account.nonce) {
            // Used, by itself or by another: two more blocks, and it would have been told.
            if !matches!(pending.step, Step::Doubtful { .. }) {
                pending.step = Step::Doubtful { until_height: height.saturating_add(2) };
            }
        }
        for (_, pending) in self.pending.range_mut(account.nonce..) {
            // Not used yet, and let in before: the same bytes again do no harm. What was refused is
            // not tried again at once, or the two of us would never stop.
            if pending.step == Step::Taken {
                pending.step = Step::Ready;
            }
        }
    }
}

/// A Redeem of these, with both roots; `None`: of nothing.
fn redeem_of<'a>(vouchers: impl Iterator<Item = &'a SignedVoucher> + Clone) -> Option<Payload> {
    let entries: Vec<_> = vouchers.clone().map(SignedVoucher::encode).collect();
    if entries.is_empty() {
        return None;
    }
    let watched: Vec<_> = vouchers.clone().map(watch_leaf).collect();
    let reported: Vec<_> = vouchers.filter_map(qos_leaf).collect();
    let (watch_root, qos_root) = (merkle::root(&watched), merkle::root(&reported));
    Some(Payload::Redeem { entries, watch_root, qos_root })
}

/// Vouchers that fit into one transaction of this chain, at least one.
fn entries_max(state: &BlockchainState) -> usize {
    let bytes = usize::try_from(state.params().transaction_bytes_max).unwrap_or(usize::MAX);
    let fit = bytes.saturating_sub(ENVELOPE_BYTES) / chain_types::VOUCHER_SIGNED_BYTES;
    fit.clamp(1, REDEEM_ENTRIES_MAX)
}
