//! Access: tickets, the creator's list, and taking either back.

use chain_types::{
    AccessRecord, AccountId, Balance, ChainEvent, PaymentStatus, Policy, ResultCode, StateKey,
    StreamId, split,
};

use super::state::{BlockState, Stop, reject};

/// `max_layer` that caps nothing.
const NO_CAP: u8 = 255;

/// What `GrantAccess` gives.
pub(super) struct NewAccess {
    pub(super) valid_until: u64,
    pub(super) payment_status: u8,
    pub(super) max_layer: u8,
}

impl BlockState {
    /// `BuyAccess`: the fee, the origin's share, the rest to the creator; the ticket in one go.
    pub(super) fn buy_access(
        &mut self,
        viewer: &AccountId,
        stream: &StreamId,
        terms_version: u32,
        max_price: Balance,
    ) -> Result<(), Stop> {
        let record = self.stream(stream)?;
        if record.ended.is_some() || record.policy != Policy::Ticketed {
            return reject(ResultCode::Policy, "the stream sells no tickets");
        }
        let in_force = record.terms_at(self.height);
        let terms = match in_force {
            Some(terms) if terms.version == terms_version => terms,
            Some(terms) if terms.version > terms_version => {
                return reject(ResultCode::TermsExpired, "the price has changed: look again");
            }
            _ => return reject(ResultCode::TermsUnknown, "these terms are not in force"),
        };
        let price = terms.ticket_price;
        if terms.ticket_ms == 0 {
            return reject(ResultCode::Policy, "these terms have no ticket");
        }
        if price > max_price {
            return reject(ResultCode::Policy, format!("the ticket costs {price} units"));
        }
        let shares_of = record.split_of(terms_version);
        let origin_bps = shares_of.map_or(0, |split| split.origin_bps);
        // No relay is paid by a ticket: all but the origin's share is the creator's.
        let parts = split::shares(price, split::BPS.saturating_sub(origin_bps), origin_bps);
        let origin = record.origin_relay.unwrap_or(record.creator);
        self.debit(viewer, price)?;
        self.collect_fee(parts.fee)?;
        self.pay_part(viewer, &origin, parts.origin)?;
        for part in [parts.creator, parts.payee] {
            // The second is what rounding left.
            self.pay_part(viewer, &record.creator, part)?;
        }
        let bought = self.access(stream, viewer)?.filter(|access| {
            access.rev_epoch == record.rev_epoch
                && PaymentStatus::from_code(access.payment_status)
                    .is_some_and(PaymentStatus::is_current)
        });
        let from_ms = bought.map_or(0, |access| access.valid_until).max(self.time_ms);
        let ticket = AccessRecord {
            valid_until: from_ms.saturating_add(terms.ticket_ms),
            payment_status: PaymentStatus::Current.code(),
            max_layer: NO_CAP,
            rev_epoch: record.rev_epoch,
        };
        self.stream_is_active(&record)?;
        self.give(stream, viewer, ticket);
        Ok(())
    }

    /// `GrantAccess`.
    pub(super) fn grant_access(
        &mut self,
        signer: &AccountId,
        stream: &StreamId,
        viewer: &AccountId,
        new: NewAccess,
    ) -> Result<(), Stop> {
        let record = self.own_stream(signer, stream)?;
        if new.valid_until <= self.time_ms {
            return reject(ResultCode::Policy, "the access would be over before it begins");
        }
        let NewAccess { valid_until, payment_status, max_layer } = new;
        let rev_epoch = record.rev_epoch;
        let access = AccessRecord { valid_until, payment_status, max_layer, rev_epoch };
        self.give(stream, viewer, access);
        Ok(())
    }

    /// `RevokeAccess`.
    pub(super) fn revoke_access(
        &mut self,
        signer: &AccountId,
        stream: &StreamId,
        viewer: &AccountId,
    ) -> Result<(), Stop> {
        self.own_stream(signer, stream)?;
        if self.access(stream, viewer)?.is_none() {
            return reject(ResultCode::NotFound, "the viewer has no access to take back");
        }
        self.delete(StateKey::Access(*stream, *viewer));
        self.event(ChainEvent::AccessRevoked { stream: *stream, viewer: *viewer });
        Ok(())
    }

    /// `BumpRevocation`.
    pub(super) fn bump_revocation(
        &mut self,
        signer: &AccountId,
        stream: &StreamId,
    ) -> Result<(), Stop> {
        let mut record = self.own_stream(signer, stream)?;
        let Some(rev_epoch) = record.rev_epoch.checked_add(1) else {
            return reject(ResultCode::Policy, "the stream has no epochs left");
        };
        record.rev_epoch = rev_epoch;
        self.put_stream(&record);
        self.event(ChainEvent::RevocationBumped { stream: *stream, rev_epoch });
        Ok(())
    }

    fn give(&mut self, stream: &StreamId, viewer: &AccountId, access: AccessRecord) {
        self.put(StateKey::Access(*stream, *viewer), &access);
        self.event(ChainEvent::AccessGranted {
            stream: *stream,
            viewer: *viewer,
            valid_until: access.valid_until,
        });
    }
}
