//! Streams: registration, prices and splits by version, and their end.
//!
//! One counter counts versions: a new price and a new split each make the next version of the
//! terms, in force after a notice, so that nobody who watches is surprised.

use std::collections::BTreeMap;

use chain_types::{
    AccountId, ChainEvent, Policy, Price, ResultCode, Split, SplitShares, StreamId, StreamMetadata,
    StreamTerms, records::TERMS_MAX,
};

use super::{
    form::CHAIN_EXT_PREFIX,
    state::{BlockState, StateError, Stop, reject},
};

/// Name in `ext` under which the chain notes the last sign of life, unix ms big-endian.
const ACTIVE_MS: &str = "chain.active_ms";

/// A sign of life is noted anew when the last one is older than this part of the idle time, so
/// that a redeem each ten minutes does not rewrite the stream each time.
const ACTIVE_PARTS: u64 = 24;

/// What `RegisterStream` says.
pub(super) struct NewStream {
    pub(super) title: String,
    pub(super) policy: Policy,
    pub(super) price: Price,
    pub(super) split: SplitShares,
    pub(super) origin_relay: Option<AccountId>,
    pub(super) issuers: Vec<AccountId>,
    pub(super) codecs: Vec<String>,
    pub(super) ext: BTreeMap<String, Vec<u8>>,
}

/// What `UpdateStream` changes.
pub(super) struct StreamChanges {
    pub(super) title: Option<String>,
    pub(super) policy: Option<Policy>,
    pub(super) origin_relay: Option<Option<AccountId>>,
    pub(super) codecs: Option<Vec<String>>,
    pub(super) ext: Option<BTreeMap<String, Vec<u8>>>,
}

impl BlockState {
    /// `RegisterStream`.
    pub(super) fn register_stream(
        &mut self,
        creator: &AccountId,
        nonce: u64,
        new: NewStream,
    ) -> Result<(), Stop> {
        let id = StreamId::of(creator, nonce);
        let terms = terms(1, new.price, self.height);
        let record = StreamMetadata {
            id,
            creator: *creator,
            title: new.title,
            policy: new.policy,
            terms: vec![terms],
            split: vec![split(1, new.split)],
            origin_relay: new.origin_relay,
            issuers: new.issuers,
            rev_epoch: 0,
            codecs: new.codecs,
            created: self.time_ms,
            ended: None,
            ext: new.ext,
        };
        self.put_stream(&record);
        self.event(ChainEvent::StreamRegistered { stream: id, creator: *creator });
        Ok(())
    }

    /// `UpdateStream`. One that changes nothing is a sign of life.
    pub(super) fn update_stream(
        &mut self,
        signer: &AccountId,
        stream: &StreamId,
        changes: StreamChanges,
    ) -> Result<(), Stop> {
        let mut record = self.own_stream(signer, stream)?;
        let StreamChanges { title, policy, origin_relay, codecs, ext } = changes;
        record.title = title.unwrap_or(record.title);
        record.policy = policy.unwrap_or(record.policy);
        record.origin_relay = origin_relay.unwrap_or(record.origin_relay);
        record.codecs = codecs.unwrap_or(record.codecs);
        if let Some(ext) = ext {
            record.ext.retain(|name, _| name.starts_with(CHAIN_EXT_PREFIX));
            record.ext.extend(ext);
        }
        self.update(record);
        Ok(())
    }

    /// `EndStream`.
    pub(super) fn end_stream(&mut self, signer: &AccountId, stream: &StreamId) -> Result<(), Stop> {
        let mut record = self.stream(stream)?;
        if record.ended.is_some() {
            return reject(ResultCode::Policy, "the stream has ended");
        }
        let idle_from = last_active_ms(&record).saturating_add(self.params.idle_stream_ms);
        if record.creator != *signer && self.time_ms < idle_from {
            return reject(
                ResultCode::NotOwner,
                format!("others than its creator may end the stream from {idle_from} ms on"),
            );
        }
        record.ended = Some(self.time_ms);
        self.put_stream(&record);
        self.event(ChainEvent::StreamClosed { stream: *stream });
        Ok(())
    }

    /// `SetPrice`.
    pub(super) fn set_price(
        &mut self,
        signer: &AccountId,
        stream: &StreamId,
        price: Price,
        from_height: u64,
    ) -> Result<(), Stop> {
        let mut record = self.own_stream(signer, stream)?;
        let (version, from_height) = self.next_version(&mut record, from_height)?;
        record.terms.push(terms(version, price, from_height));
        self.update(record);
        Ok(())
    }

    /// `SetSplit`: the price stays, under the next version.
    pub(super) fn set_split(
        &mut self,
        signer: &AccountId,
        stream: &StreamId,
        shares: SplitShares,
        from_height: u64,
    ) -> Result<(), Stop> {
        let mut record = self.own_stream(signer, stream)?;
        let (version, from_height) = self.next_version(&mut record, from_height)?;
        let newest = record.terms.last().expect("a stream has terms").clone();
        record.terms.push(StreamTerms { version, from_height, ..newest });
        record.split.push(split(version, shares));
        self.update(record);
        Ok(())
    }

    /// `SetIssuers`.
    pub(super) fn set_issuers(
        &mut self,
        signer: &AccountId,
        stream: &StreamId,
        issuers: Vec<AccountId>,
    ) -> Result<(), Stop> {
        let mut record = self.own_stream(signer, stream)?;
        record.issuers = issuers;
        self.update(record);
        Ok(())
    }

    /// A stream that has not ended, if `signer` is its creator.
    pub(super) fn own_stream(
        &self,
        signer: &AccountId,
        stream: &StreamId,
    ) -> Result<StreamMetadata, Stop> {
        let record = self.stream(stream)?;
        if record.creator != *signer {
            return reject(ResultCode::NotOwner, "only the stream's creator may change it");
        }
        if record.ended.is_some() {
            return reject(ResultCode::Policy, "the stream has ended");
        }
        Ok(record)
    }

    /// Notes that somebody paid for the stream.
    pub(super) fn stream_is_active(&mut self, record: &StreamMetadata) -> Result<(), StateError> {
        let since_ms = self.time_ms.saturating_sub(last_active_ms(record));
        if record.ended.is_none() && since_ms > self.params.idle_stream_ms / ACTIVE_PARTS {
            let mut record = record.clone();
            self.note_active(&mut record);
            self.put_stream(&record);
        }
        Ok(())
    }

    /// Number and first height of the next version; versions that cannot be redeemed any more go.
    fn next_version(
        &self,
        record: &mut StreamMetadata,
        from_height: u64,
    ) -> Result<(u32, u64), Stop> {
        let newest = record.terms.last().expect("a stream has terms");
        let least = self.height.saturating_add(self.params.notice_blocks).max(newest.from_height);
        let from_height = if from_height == 0 { least } else { from_height };
        if from_height < least {
            return reject(
                ResultCode::Policy,
                format!("new terms may hold from height {least} on, not from {from_height}"),
            );
        }
        let Some(version) = newest.version.checked_add(1) else {
            return reject(ResultCode::Policy, "the stream has no versions left");
        };
        self.drop_expired(record);
        if record.terms.len() >= TERMS_MAX {
            return reject(ResultCode::Policy, "wait until older terms have ceased to count");
        }
        Ok((version, from_height))
    }

    fn drop_expired(&self, record: &mut StreamMetadata) {
        let expired = record
            .terms
            .iter()
            .take_while(|terms| self.have_expired(record, terms.version))
            .count();
        record.terms.drain(..expired);
        let oldest = record.terms.first().map_or(0, |terms| terms.version);
        let unused = record.split.iter().filter(|split| split.version <= oldest).count();
        // The newest of those is in force for the oldest version kept.
        record.split.drain(..unused.saturating_sub(1));
    }

    /// Whether a version that the stream keeps was replaced too long ago to be paid.
    pub(super) fn have_expired(&self, record: &StreamMetadata, version: u32) -> bool {
        record.replaced_at(version).is_some_and(|height| {
            self.height > height.saturating_add(self.params.terms_grace_blocks)
        })
    }

    fn note_active(&self, record: &mut StreamMetadata) {
        record.ext.insert(ACTIVE_MS.to_owned(), self.time_ms.to_be_bytes().to_vec());
    }

    fn update(&mut self, mut record: StreamMetadata) {
        self.note_active(&mut record);
        self.put_stream(&record);
        self.event(ChainEvent::StreamUpdated { stream: record.id });
    }
}

/// When the stream last showed on the chain that it is used.
fn last_active_ms(record: &StreamMetadata) -> u64 {
    let noted = record.ext.get(ACTIVE_MS).and_then(|bytes| bytes.as_slice().try_into().ok());
    noted.map_or(record.created, u64::from_be_bytes)
}

fn terms(version: u32, price: Price, from_height: u64) -> StreamTerms {
    let Price { rate_per_second, tier_bps, ticket_price, ticket_ms } = price;
    StreamTerms { version, rate_per_second, tier_bps, from_height, ticket_price, ticket_ms }
}

fn split(version: u32, shares: SplitShares) -> Split {
    Split { version, creator_bps: shares.creator_bps, origin_bps: shares.origin_bps }
}
