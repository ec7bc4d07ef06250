//! Redeem: vouchers become money, entry by entry.
//!
//! An entry counts iff its payee presents it, or the key that the payee's relay record names, and
//! its total is above what its lane was paid. It is paid `min(total − paid, own reserve + free)`,
//! its own reserve first. Nothing is owed to later blocks: who is short presents the same voucher
//! again. Nobody else presents: the first entry binds its lane to a version, and each entry names
//! the stream that shares its money, so the order and the choice are the payee's.

use std::collections::BTreeMap;

use chain_types::{
    AccountId, Balance, ChainEvent, Channel, LaneKey, LaneRecord, ResultCode, SignedVoucher,
    StateKey, StreamMetadata, VOUCHER_SIGNED_BYTES, Voucher, split,
};

use super::{
    channels::{free, left_in},
    signatures::{Claim, verdicts},
    state::{BlockState, Stop, reject, sum},
};

/// What became of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryOutcome {
    /// Units paid out of the channel; zero where the entry was refused.
    pub paid: Balance,
    /// Why it was refused.
    pub refused: Option<ResultCode>,
}

/// Bytes of one entry in a redeem's `data`: code u8 ‖ paid u128 big-endian.
pub const ENTRY_OUTCOME_BYTES: usize = 17;

impl EntryOutcome {
    /// A redeem's `data`: its entries in their order.
    pub fn encode_all(outcomes: &[Self]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(outcomes.len() * ENTRY_OUTCOME_BYTES);
        for outcome in outcomes {
            bytes.push(outcome.refused.map_or(0, |code| code as u8));
            bytes.extend_from_slice(&outcome.paid.to_be_bytes());
        }
        bytes
    }

    /// Reads a redeem's `data`; `None`: it is none.
    pub fn decode_all(data: &[u8]) -> Option<Vec<Self>> {
        if !data.len().is_multiple_of(ENTRY_OUTCOME_BYTES) {
            return None;
        }
        let read = |entry: &[u8]| {
            let (code, paid) = entry.split_first()?;
            let paid = Balance::from_be_bytes(paid.try_into().ok()?).ok()?;
            let refused = match code {
                0 => None,
                code => Some(ResultCode::from_code(u32::from(*code))?),
            };
            Some(Self { paid, refused })
        };
        data.chunks_exact(ENTRY_OUTCOME_BYTES).map(read).collect()
    }
}

impl BlockState {
    /// `Redeem`. The outcomes are given also where the transaction fails because all entries do.
    pub(super) fn redeem(
        &mut self,
        signer: &AccountId,
        entries: &[[u8; VOUCHER_SIGNED_BYTES]],
        outcomes: &mut Vec<EntryOutcome>,
    ) -> Result<(), Stop> {
        let decoded: Vec<Option<SignedVoucher>> =
            entries.iter().map(|entry| SignedVoucher::decode(entry).ok()).collect();
        let payee = decoded.iter().flatten().next().map(|signed| signed.voucher.payee);
        let is_theirs = match &payee {
            Some(payee) => self.presents_for(signer, payee)?,
            None => false,
        };
        // Who may not present them is not worth the work of verifying them.
        let verified = match is_theirs {
            true => self.verify_vouchers(&decoded)?,
            false => vec![false; decoded.len()],
        };
        for (signed, is_verified) in decoded.iter().zip(verified) {
            let outcome = match signed {
                None => reject(ResultCode::Decode, ""),
                Some(signed) if Some(signed.voucher.payee) != payee => {
                    reject(ResultCode::WrongPayee, "")
                }
                Some(_) if !is_theirs => reject(ResultCode::NotOwner, ""),
                Some(signed) => self.redeem_entry(&signed.voucher, is_verified),
            };
            outcomes.push(match outcome {
                Ok(paid) => EntryOutcome { paid, refused: None },
                Err(Stop::Rejected(code, _)) => {
                    EntryOutcome { paid: Balance::ZERO, refused: Some(code) }
                }
                Err(fatal @ Stop::Fatal(_)) => return Err(fatal),
            });
        }
        match outcomes.first() {
            Some(EntryOutcome { refused: Some(first), .. })
                if outcomes.iter().all(|outcome| outcome.refused.is_some()) =>
            {
                reject(*first, "no entry could be paid; the first for this reason")
            }
            _ => Ok(()),
        }
    }

    /// Whether vouchers for `payee` may be presented by `signer`: the payee, or the key that its
    /// relay record names now.
    fn presents_for(&self, signer: &AccountId, payee: &AccountId) -> Result<bool, Stop> {
        Ok(signer == payee || self.relay(payee)?.is_some_and(|record| record.relay_key == *signer))
    }

    /// Whether each voucher is signed by its channel's key; `false` where there is no channel.
    fn verify_vouchers(&self, decoded: &[Option<SignedVoucher>]) -> Result<Vec<bool>, Stop> {
        let mut keys: BTreeMap<_, Option<AccountId>> = BTreeMap::new();
        let mut groups = Vec::with_capacity(decoded.len());
        for signed in decoded {
            let Some(SignedVoucher { voucher, signature }) = signed else {
                groups.push(None);
                continue;
            };
            let key = match keys.get(&voucher.channel) {
                Some(key) => *key,
                None => {
                    let channel = self.get::<Channel>(StateKey::Channel(voucher.channel))?;
                    let key = channel.map(|channel| channel.voucher_key);
                    keys.insert(voucher.channel, key);
                    key
                }
            };
            groups.push(key.map(|key| {
                let message = voucher.preimage(&self.chain_id).as_slice().to_vec();
                vec![Claim { key, message, signature: *signature }]
            }));
        }
        let are_claims: Vec<bool> = groups.iter().map(Option::is_some).collect();
        let claims: Vec<Vec<Claim>> = groups.into_iter().flatten().collect();
        let mut verdicts = verdicts(&claims).into_iter();
        Ok(are_claims.into_iter().map(|is| is && verdicts.next().unwrap_or(false)).collect())
    }

    /// Pays one voucher; returns how much left the channel. Changes nothing where it refuses.
    fn redeem_entry(&mut self, voucher: &Voucher, is_verified: bool) -> Result<Balance, Stop> {
        let mut channel = self.channel(&voucher.channel)?;
        if channel.closed {
            return reject(ResultCode::ChannelState, "the channel is closed");
        }
        if !is_verified {
            return reject(ResultCode::Signature, "not signed by the channel's voucher key");
        }
        let stream = match voucher.stream.is_zero() {
            true => None, // Transport between relays: no creator, no terms.
            false => Some(self.stream(&voucher.stream)?),
        };
        if let Some(stream) = &stream {
            self.check_version(stream, voucher.terms_version)?;
        }
        let lane_key = voucher.lane_key();
        let lane = self.lane(&lane_key)?;
        if lane.is_some_and(|lane| lane.terms_version != voucher.terms_version) {
            return reject(ResultCode::TermsUnknown, "the lane is of other terms");
        }
        let (shown, paid) = lane.map_or(Default::default(), |lane| (lane.cum, lane.paid));
        let Some(asked) = voucher.cumulative.checked_sub(paid).filter(|asked| !asked.is_zero())
        else {
            return reject(ResultCode::StaleVoucher, "the lane was paid that far");
        };
        let amount = self.take(&mut channel, &voucher.payee, asked);
        if amount.is_zero() {
            return reject(ResultCode::Funds, "nothing is left for this payee");
        }
        self.put_channel(&voucher.channel, &channel);
        let lane = LaneRecord {
            cum: voucher.cumulative.max(shown),
            paid: sum(paid, amount),
            terms_version: voucher.terms_version,
        };
        self.put(StateKey::Lane(lane_key), &lane);
        self.pay(&lane_key, voucher.terms_version, stream.as_ref(), amount)?;
        Ok(amount)
    }

    /// Whether a version of a stream's terms can still be paid.
    fn check_version(&self, stream: &StreamMetadata, version: u32) -> Result<(), Stop> {
        let oldest = stream.terms.first().map_or(0, |terms| terms.version);
        if (1..oldest).contains(&version) {
            return reject(ResultCode::TermsExpired, "these terms are not even kept any more");
        }
        if stream.terms_of(version).is_none() {
            return reject(ResultCode::TermsUnknown, "the stream has no such terms");
        }
        if self.have_expired(stream, version) {
            return reject(ResultCode::TermsExpired, "these terms were replaced too long ago");
        }
        Ok(())
    }

    /// Takes what there is of `asked` out of a channel: the payee's own reserve first, then what
    /// is free.
    fn take(&self, channel: &mut Channel, payee: &AccountId, asked: Balance) -> Balance {
        channel.reserves.retain(|kept| kept.until_height > self.height);
        let free = free(channel, self.height);
        let own = channel.reserves.iter_mut().find(|kept| kept.payee == *payee);
        let from_reserve = own.as_ref().map_or(Balance::ZERO, |kept| kept.amount).min(asked);
        if let Some(kept) = own {
            kept.amount = kept.amount.checked_sub(from_reserve).expect("the smaller of both");
        }
        channel.reserves.retain(|kept| !kept.amount.is_zero());
        let rest = asked.checked_sub(from_reserve).expect("the smaller of both");
        let amount = sum(from_reserve, rest.min(free));
        assert!(amount <= left_in(channel), "a channel pays what it holds, and no more");
        channel.redeemed = channel.redeemed.checked_add(amount).expect("not above the deposits");
        amount
    }

    /// Divides what left a channel: fee, creator, origin relay, payee.
    fn pay(
        &mut self,
        lane: &LaneKey,
        version: u32,
        stream: Option<&StreamMetadata>,
        amount: Balance,
    ) -> Result<(), Stop> {
        let in_force = stream.and_then(|stream| stream.split_of(version));
        let (creator_bps, origin_bps) =
            in_force.map_or((0, 0), |split| (split.creator_bps, split.origin_bps));
        let parts = split::shares(amount, creator_bps, origin_bps);
        self.collect_fee(parts.fee)?;
        self.credit(&lane.payee, parts.payee)?;
        if let Some(stream) = stream {
            self.credit(&stream.creator, parts.creator)?;
            self.credit(&stream.origin_relay.unwrap_or(stream.creator), parts.origin)?;
            self.stream_is_active(stream)?;
        }
        self.event(ChainEvent::ChannelRedeemed {
            lane: *lane,
            paid: amount,
            fee: parts.fee,
            creator: parts.creator,
            origin: parts.origin,
            payee: parts.payee,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcomes_of_a_redeem_round_trip_and_other_bytes_are_none() {
        let outcomes = [
            EntryOutcome { paid: Balance::of(7), refused: None },
            EntryOutcome { paid: Balance::ZERO, refused: Some(ResultCode::StaleVoucher) },
            EntryOutcome { paid: Balance::MAX, refused: None },
        ];
        let bytes = EntryOutcome::encode_all(&outcomes);
        assert_eq!(bytes.len(), 3 * ENTRY_OUTCOME_BYTES);
        assert_eq!(EntryOutcome::decode_all(&bytes).as_deref(), Some(&outcomes[..]));
        assert_eq!(EntryOutcome::decode_all(&bytes[1..]), None);
        assert_eq!(EntryOutcome::decode_all(&[99; 17]), None);
    }
}
