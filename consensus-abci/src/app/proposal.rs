//! PrepareProposal: which transactions, in which order.
//!
//! Redeems of closing channels go first: their window ends. Then by fee, and for each sender by
//! nonce; a transaction that others of its sender wait for takes the best class among them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, btree_map::Entry},
};

use bytes::Bytes;
use chain_types::{
    AccountId, Balance, Channel, Payload, SignedVoucher, StateKey, Transaction,
    params::REDEEM_ENTRIES_MAX,
};

use super::state::{StateError, decode};
use crate::store::Snapshot;

/// Work of one block at most: a transaction is one, about 30 to 60 µs, a voucher in it is two (`cargo
/// run --release -p consensus-abci --example finalize_cost`). Beyond it a block would take longer
/// than validators wait for a proposal, and a full mempool would stop the chain; what is left waits
/// for the next block.
const WORK_MAX: usize = 8_000;
/// Bytes of all transactions of one block, as protobuf; a proposal with more is refused.
pub(super) const BLOCK_BYTES_MAX: u64 = 4 << 20;
const _: () =
    assert!(WORK_MAX > 2 * REDEEM_ENTRIES_MAX, "every transaction fits into an empty block");

/// A transaction's rank among others; the greatest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Rest,
    Evidence,
    ClosingRedeem,
}

/// A transaction that may go into the block.
pub(super) struct Candidate {
    pub(super) bytes: Bytes,
    pub(super) transaction: Transaction,
    pub(super) class: Class,
}

/// The class of a transaction in a state.
pub(super) fn class_of(payload: &Payload, snapshot: &Snapshot) -> Result<Class, StateError> {
    let entries = match payload {
        Payload::Redeem { entries, .. } => entries,
        Payload::SubmitEvidence { .. } => return Ok(Class::Evidence),
        _ => return Ok(Class::Rest),
    };
    for entry in entries {
        let Ok(SignedVoucher { voucher, .. }) = SignedVoucher::decode(entry) else { continue };
        let key = StateKey::Channel(voucher.channel);
        let Some(bytes) = snapshot.get(&key.to_bytes())? else { continue };
        let channel: Channel = decode(key, &bytes)?;
        if channel.close_requested.is_some() && !channel.closed {
            return Ok(Class::ClosingRedeem);
        }
    }
    Ok(Class::Rest)
}

/// Orders candidates whose senders' next nonces are `next`, up to `bytes_max` of a block.
pub(super) fn order(
    candidates: Vec<Candidate>,
    next: &BTreeMap<AccountId, u64>,
    bytes_max: u64,
) -> Vec<Bytes> {
    let mut queues: BTreeMap<AccountId, BTreeMap<u64, (usize, Candidate)>> = BTreeMap::new();
    for (at, candidate) in candidates.into_iter().enumerate() {
        let body = &candidate.transaction.body;
        let queue = queues.entry(body.signer).or_default();
        if let Entry::Vacant(place) = queue.entry(body.nonce) {
            place.insert((at, candidate)); // A second one with this nonce came later.
        }
    }
    let mut senders = BTreeMap::new();
    let mut heads = BinaryHeap::new();
    for (sender, queue) in queues {
        let ready = without_gaps(queue, next.get(&sender).copied().unwrap_or(0));
        let mut ready = ready.into_iter();
        if let Some(first) = ready.next() {
            heads.push(head(&first, sender));
            senders.insert(sender, (first, ready));
        }
    }
    let (mut left_bytes, mut left_work) = (bytes_max, WORK_MAX);
    let mut chosen = Vec::new();
    while let Some((.., sender)) = heads.pop() {
        let Some((first, mut rest)) = senders.remove(&sender) else { continue };
        let left = left_bytes.checked_sub(proto_bytes(first.bytes.len()));
        let (Some(bytes), Some(work)) = (left, left_work.checked_sub(first.work)) else {
            continue; // What comes after it must wait with it.
        };
        (left_bytes, left_work) = (bytes, work);
        chosen.push(first.bytes);
        if let Some(second) = rest.next() {
            heads.push(head(&second, sender));
            senders.insert(sender, (second, rest));
        }
    }
    chosen
}

/// Whether these transactions are no more than a block may hold.
pub(super) fn fits(transactions: &[Bytes]) -> bool {
    let bytes = transactions.iter().map(|bytes| proto_bytes(bytes.len()));
    bytes.fold(0, u64::saturating_add) <= BLOCK_BYTES_MAX
}

fn work(payload: &Payload) -> usize {
    match payload {
        Payload::Redeem { entries, .. } => 1 + 2 * entries.len(),
        _ => 1,
    }
}

struct Ready {
    at: usize,
    bytes: Bytes,
    class: Class,
    fee: Balance,
    work: usize,
}

type Head = (Class, Balance, Reverse<usize>, AccountId);

fn head(ready: &Ready, sender: AccountId) -> Head {
    (ready.class, ready.fee, Reverse(ready.at), sender)
}

/// A sender's transactions from its next nonce on, each with the best class of those behind it.
fn without_gaps(queue: BTreeMap<u64, (usize, Candidate)>, next: u64) -> Vec<Ready> {
    let follows =
        |(offset, (nonce, _)): &(u64, (&u64, _))| next.checked_add(*offset) == Some(**nonce);
    let count = (0u64..).zip(queue.range(next..)).take_while(follows).count();
    let mut ready: Vec<Ready> = queue
        .into_iter()
        .skip_while(|(nonce, _)| *nonce < next)
        .take(count)
        .map(|(_, (at, Candidate { bytes, transaction, class }))| Ready {
            at,
            bytes,
            class,
            fee: transaction.body.fee,
            work: work(&transaction.body.payload),
        })
        .collect();
    let mut best = Class::Rest;
    for transaction in ready.iter_mut().rev() {
        best = best.max(transaction.class);
        transaction.class = best;
    }
    ready
}

/// Bytes of a transaction in a block's data: a tag, its length and itself.
fn proto_bytes(len_bytes: usize) -> u64 {
    let len_bits = usize::BITS - (len_bytes | 1).leading_zeros();
    1 + u64::from(len_bits.div_ceil(7)) + len_bytes as u64
}

#[cfg(test)]
mod tests {
    use chain_types::TransactionBody;

    use super::*;

    /// `"a0:5 b3:9! c1:2"`: sender, nonce, fee; `!` marks the redeem of a closing channel. All
    /// senders' next nonce is 0.
    fn candidates(text: &str) -> Vec<Candidate> {
        let one = |word: &str| {
            let is_closing = word.ends_with('!');
            let (who, fee) = word.trim_end_matches('!').split_once(':').unwrap();
            let signer = AccountId([who.as_bytes()[0]; 32]);
            let body = TransactionBody {
                signer,
                fee_payer: None,
                nonce: who[1..].parse().unwrap(),
                valid_until_height: 0,
                fee: Balance::of(fee.parse().unwrap()),
                payload: Payload::Transfer { to: signer, amount: Balance::ZERO },
            };
            Candidate {
                bytes: Bytes::copy_from_slice(who.as_bytes()),
                transaction: Transaction { body, signature: [0; 64], fee_payer_signature: None },
                class: if is_closing { Class::ClosingRedeem } else { Class::Rest },
            }
        };
        text.split_whitespace().map(one).collect()
    }

    #[track_caller]
    fn check(text: &str, bytes_max: u64, expected: &str) {
        let chosen = order(candidates(text), &BTreeMap::new(), bytes_max);
        let names: Vec<_> = chosen.iter().map(|tx| String::from_utf8_lossy(tx)).collect();
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn the_order_is_class_then_fee_then_arrival_and_each_senders_nonces() {
        check("a0:1 b0:3 c0:2", 1000, "b0 c0 a0");
        check("a0:1 b0:1 c0:1", 1000, "a0 b0 c0");
        check("a1:9 a0:1 b0:3", 1000, "b0 a0 a1");
        check("a0:9 b0:1!", 1000, "b0 a0");
        // What a closing redeem waits for goes before it.
        check("a0:9 b0:1 b1:1 b2:1! b3:50", 1000, "b0 b1 b2 b3 a0");
    }

    #[test]
    fn gaps_and_second_transactions_with_a_nonce_wait() {
        check("a1:9 b0:1", 1000, "b0");
        check("a0:1 a2:9 b0:1", 1000, "a0 b0");
        check("a0:1 a0:9", 1000, "a0");
    }

    #[test]
    fn a_full_mempool_makes_a_block_of_bounded_work_and_the_dearest_are_in_it() {
        let many: Vec<String> = (0..WORK_MAX + 50).map(|n| format!("a{n}:1")).collect();
        let text = format!("{} b0:9 c0:1", many.join(" "));
        let chosen = order(candidates(&text), &BTreeMap::new(), u64::MAX);
        assert_eq!(chosen.len(), WORK_MAX);
        assert_eq!(&chosen[0][..], b"b0");
        let entries = vec![[0; chain_types::VOUCHER_SIGNED_BYTES]; 3];
        let payload = Payload::Redeem { entries, watch_root: [0; 32], qos_root: [0; 32] };
        assert_eq!(work(&payload), 7);
    }

    #[test]
    fn a_proposal_above_the_limit_of_bytes_is_refused() {
        let one = Bytes::from(vec![0; 1 << 20]);
        assert!(fits(&[one.clone(), one.clone(), one.clone()]));
        // Four tags and lengths more than four mebibytes.
        assert!(!fits(&vec![one; 4]));
        assert!(fits(&[]));
    }

    #[test]
    fn the_byte_limit_counts_what_the_block_counts() {
        // Tag, length and two bytes.
        assert_eq!(proto_bytes(2), 4);
        assert_eq!(proto_bytes(127), 129);
        assert_eq!(proto_bytes(128), 131);
        check("a0:3 b0:2 c0:1", 8, "a0 b0");
        check("a0:3 b0:2 c0:1", 11, "a0 b0");
        check("a0:3 b0:2 c0:1", 12, "a0 b0 c0");
        check("a0:3", 3, "");
    }
}
