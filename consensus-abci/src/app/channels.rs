//! Channels: a deposit, what of it is kept for whom, and how it ends.
//!
//! Deadlines are lazy: an expiry, the end of a reserve and the end of a window are functions of
//! height and block time, and no queue is worked off at the end of a block.

use chain_types::{
    AccountId, Balance, ChainEvent, Channel, ChannelId, CloseRequest, Reserve, ReserveRequest,
    ResultCode, StateKey, params::RESERVES_MAX,
};

use super::{
    accounts::sum_of,
    state::{BlockState, Stop, reject},
};

/// Lanes that one `Finalize` removes, so that a block's work stays in proportion to its fees. More
/// are removed by further ones; the money is returned by the first.
pub const LANES_PER_FINALIZE: usize = 1024;

impl BlockState {
    /// `OpenChannel`.
    pub(super) fn open_channel(
        &mut self,
        payer: &AccountId,
        nonce: u64,
        deposit: Balance,
        voucher_key: &AccountId,
        expires_height: u64,
        reserves: &[ReserveRequest],
    ) -> Result<(), Stop> {
        let least = self.params.deposit_min();
        if deposit < least {
            return reject(ResultCode::Funds, format!("a deposit is at least {least} units"));
        }
        if expires_height <= self.height {
            return reject(ResultCode::ChannelState, "the channel would have expired already");
        }
        self.debit(payer, deposit)?;
        let channel = ChannelId::of(payer, nonce);
        let mut record = Channel {
            payer: *payer,
            voucher_key: *voucher_key,
            deposits: deposit,
            redeemed: Balance::ZERO,
            reserves: Vec::new(),
            close_requested: None,
            closed: false,
            expires_height,
        };
        self.event(ChainEvent::ChannelOpened { channel, payer: *payer, deposit });
        for request in reserves {
            self.raise_reserve(&channel, &mut record, request)?;
        }
        self.put_channel(&channel, &record);
        Ok(())
    }

    /// `TopUp`.
    pub(super) fn top_up(
        &mut self,
        signer: &AccountId,
        channel: &ChannelId,
        amount: Balance,
        reserves: &[ReserveRequest],
    ) -> Result<(), Stop> {
        let mut record = self.open(channel)?;
        if !reserves.is_empty() && record.payer != *signer {
            return reject(ResultCode::NotOwner, "only the payer may reserve");
        }
        self.debit(signer, amount)?;
        // A sum of parts of the supply: what was redeemed went back into it, though.
        let Some(deposits) = record.deposits.checked_add(amount) else {
            return reject(ResultCode::Decode, "the deposits would be no amount");
        };
        record.deposits = deposits;
        self.event(ChainEvent::ChannelToppedUp { channel: *channel, amount });
        for request in reserves {
            self.raise_reserve(channel, &mut record, request)?;
        }
        self.put_channel(channel, &record);
        Ok(())
    }

    /// `Reserve`.
    pub(super) fn reserve(
        &mut self,
        signer: &AccountId,
        channel: &ChannelId,
        request: &ReserveRequest,
    ) -> Result<(), Stop> {
        let mut record = self.channel(channel)?;
        if record.closed {
            return reject(ResultCode::ChannelState, "the channel is closed");
        }
        let is_lower = self.lowers(&record, request);
        if record.payer == *signer && !(is_lower && request.payee == *signer) {
            if !record.is_open(self.height) {
                return reject(ResultCode::ChannelState, "the channel is closing or has expired");
            }
            self.raise_reserve(channel, &mut record, request)?;
        } else if request.payee == *signer {
            if !is_lower {
                return reject(ResultCode::Reserve, "a payee may only lower its reserve");
            }
            self.set_reserve(channel, &mut record, request);
        } else {
            return reject(ResultCode::NotOwner, "neither payer nor payee of the reserve");
        }
        self.put_channel(channel, &record);
        Ok(())
    }

    /// `RequestClose`.
    pub(super) fn request_close(
        &mut self,
        signer: &AccountId,
        channel: &ChannelId,
    ) -> Result<(), Stop> {
        let mut record = self.channel(channel)?;
        if record.closed || record.close_requested.is_some() {
            return reject(ResultCode::ChannelState, "the channel is closing or closed");
        }
        if record.payer != *signer && self.height < record.expires_height {
            return reject(
                ResultCode::NotOwner,
                format!("others than the payer may close from height {}", record.expires_height),
            );
        }
        record.close_requested = Some(CloseRequest { height: self.height, time_ms: self.time_ms });
        self.put_channel(channel, &record);
        self.event(ChainEvent::ChannelClosing { channel: *channel });
        Ok(())
    }

    /// `Finalize`: what is left goes to the payer, without any signature of it.
    pub(super) fn finalize(&mut self, channel: &ChannelId) -> Result<(), Stop> {
        let mut record = self.channel(channel)?;
        if record.closed {
            if self.delete_lanes(channel)? == 0 {
                return reject(ResultCode::ChannelState, "the channel is closed");
            }
            return Ok(());
        }
        let Some(requested) = record.close_requested else {
            return reject(ResultCode::ChannelState, "nobody has requested the close");
        };
        let from_height = requested.height.saturating_add(self.params.close_window_blocks);
        let from_ms = requested.time_ms.saturating_add(self.params.close_window_ms);
        if self.height < from_height || self.time_ms < from_ms {
            return reject(
                ResultCode::ChannelState,
                format!("the window ends at height {from_height}, not before {from_ms} ms"),
            );
        }
        let refund = left_in(&record);
        self.credit(&record.payer, refund)?;
        // What went back is no deposit any more: the channel holds nothing, `redeemed` tells on.
        record.deposits = record.redeemed;
        record.reserves.clear();
        record.closed = true;
        self.put_channel(channel, &record);
        self.delete_lanes(channel)?;
        self.event(ChainEvent::ChannelClosed { channel: *channel, payer: record.payer, refund });
        Ok(())
    }

    /// A channel that takes new money.
    fn open(&self, channel: &ChannelId) -> Result<Channel, Stop> {
        let record = self.channel(channel)?;
        if !record.is_open(self.height) {
            return reject(ResultCode::ChannelState, "the channel is closing, closed or expired");
        }
        Ok(record)
    }

    fn delete_lanes(&mut self, channel: &ChannelId) -> Result<usize, Stop> {
        let keys = self.keys(&StateKey::lanes_of(channel), LANES_PER_FINALIZE)?;
        for key in &keys {
            if let Some(key) = StateKey::parse(key) {
                self.delete(key);
            }
        }
        Ok(keys.len())
    }

    /// Whether a request leaves a payee less than its live reserve, and not for longer.
    fn lowers(&self, record: &Channel, request: &ReserveRequest) -> bool {
        live(record, self.height).any(|kept| {
            kept.payee == request.payee
                && request.amount <= kept.amount
                && request.until_height <= kept.until_height
        })
    }

    /// The payer's side: a new reserve, or more of one, or one for longer.
    fn raise_reserve(
        &mut self,
        channel: &ChannelId,
        record: &mut Channel,
        request: &ReserveRequest,
    ) -> Result<(), Stop> {
        if request.until_height <= self.height {
            return reject(ResultCode::Reserve, "the reserve would be over already");
        }
        record.reserves.retain(|kept| kept.until_height > self.height);
        let kept = record.reserves.iter().find(|kept| kept.payee == request.payee);
        let before = kept.map_or(Balance::ZERO, |kept| kept.amount);
        if kept.is_some_and(|kept| request.until_height < kept.until_height) {
            return reject(ResultCode::Reserve, "the payer may not shorten a reserve");
        }
        let Some(more) = request.amount.checked_sub(before) else {
            return reject(ResultCode::Reserve, "the payer may not lower a reserve");
        };
        if request.amount.is_zero() {
            return reject(ResultCode::Reserve, "the reserve is of nothing");
        }
        if kept.is_none() && record.reserves.len() >= RESERVES_MAX {
            return reject(ResultCode::Reserve, "a channel keeps at most 8 reserves");
        }
        let free = free(record, self.height);
        if more > free {
            return reject(
                ResultCode::Reserve,
                format!("{more} more units are to be reserved, {free} are free"),
            );
        }
        self.set_reserve(channel, record, request);
        Ok(())
    }

    fn set_reserve(&mut self, channel: &ChannelId, record: &mut Channel, request: &ReserveRequest) {
        let ReserveRequest { payee, amount, until_height } = *request;
        record.reserves.retain(|kept| kept.payee != payee && kept.until_height > self.height);
        if !amount.is_zero() && until_height > self.height {
            record.reserves.push(Reserve { payee, amount, until_height });
        }
        self.event(ChainEvent::ChannelReserved { channel: *channel, payee, amount, until_height });
    }
}

fn live(record: &Channel, height: u64) -> impl Iterator<Item = &Reserve> {
    record.reserves.iter().filter(move |kept| kept.until_height > height)
}

/// What is in the channel.
pub(super) fn left_in(record: &Channel) -> Balance {
    record.deposits.checked_sub(record.redeemed).expect("no more is redeemed than is there")
}

/// What is neither paid out nor reserved, and a proof that no more is reserved than is there.
pub(super) fn free(record: &Channel, height: u64) -> Balance {
    let reserved = sum_of(live(record, height).map(|kept| kept.amount))
        .expect("reserves are parts of a deposit");
    left_in(record).checked_sub(reserved).expect("no more is reserved than is there")
}
