//! ABCI `Query`: committed records as JSON, raw values with proofs.

use borsh::BorshDeserialize;
use bytes::Bytes;
use chain_types::{
    AccessRecord, Account, AccountId, Balance, CODESPACE, Channel, ChannelId, LaneKey, LaneRecord,
    Params, RelayRecord, ResultCode, StateKey, StreamId, StreamMetadata, Supply,
    follow::{FOLLOWED, LIST_KEYS_MAX, ListRequest, VALUES_MAX},
    staking::{DoneUpgrade, Rewards, Upgrade},
};
use serde::Serialize;
use tendermint_proto::v0_38::{
    abci::{RequestQuery, ResponseQuery},
    crypto::{ProofOp, ProofOps},
};

use super::{
    read::StateSnapshot,
    state::{StateError, decode},
};
use crate::store::{Proved, StoreError};

/// Records of one answer; `data` of the next request is the last id of this one (of a lane: payee,
/// stream and number, 68 bytes).
pub const LIST_MAX: usize = 500;
/// Type of the proof in an answer: an ICS-23 commitment proof over a Jellyfish Merkle tree.
pub const PROOF_TYPE: &str = "ics23:jmt";

/// For people who ask for another path.
const PATHS: &str = "/store/app/key, /store/app/list, /store/app/values, /account/{hex}, /stream/{id}, /streams, \
     /streams/by-creator/{hex}, /channel/{id}, /channels/by-payer/{hex}, \
     /channels/by-payee/{hex}, /lanes/{channel}, /access/{stream}/{viewer}, /relay/{account}, \
     /relays, /validators, /validator/{operator}, /delegations/{delegator}, \
     /delegators/{validator}, /proposals, /proposal/{number}, /upgrade, /upgrades, /params, \
     /supply";

mod stake;

/// Why a query has no value.
enum NoAnswer {
    /// The asker's fault.
    Refused(ResultCode, String),
    /// Ours.
    Failed(StateError),
}

impl From<StateError> for NoAnswer {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Store(StoreError::Height { .. }) | StateError::NoGenesis => {
                Self::Refused(ResultCode::NotFound, error.to_string())
            }
            _ => Self::Failed(error),
        }
    }
}

impl From<StoreError> for NoAnswer {
    fn from(error: StoreError) -> Self {
        StateError::from(error).into()
    }
}

/// A record and its id.
#[derive(Serialize)]
struct WithId<T> {
    id: ChannelId,
    #[serde(flatten)]
    record: T,
}

#[derive(Serialize)]
struct OfAccount<T> {
    account: AccountId,
    #[serde(flatten)]
    record: T,
}

#[derive(Serialize)]
struct OfViewer {
    stream: StreamId,
    viewer: AccountId,
    #[serde(flatten)]
    record: AccessRecord,
}

#[derive(Serialize)]
struct OfLane {
    #[serde(flatten)]
    key: LaneKey,
    #[serde(flatten)]
    record: LaneRecord,
}

#[derive(Serialize)]
struct Money {
    #[serde(flatten)]
    supply: Supply,
    /// What there is: genesis less burned.
    current: Balance,
    fee_pool: Balance,
    /// Staked with validators that vote.
    bonded: Balance,
    /// What validators and delegators can fetch.
    rewards_held: Balance,
}

/// Answers from `snapshot`, or from an older height that is kept.
///
/// # Errors
/// The disk's; whatever the asker did wrong is in the answer.
pub(super) fn answer(
    snapshot: &StateSnapshot,
    request: &RequestQuery,
) -> Result<ResponseQuery, StateError> {
    match Question::new(snapshot, request).and_then(|question| question.answer(request)) {
        Ok(response) => Ok(response),
        Err(NoAnswer::Refused(code, log)) => Ok(ResponseQuery {
            code: code.code(),
            log,
            height: number(snapshot.height()),
            codespace: CODESPACE.to_owned(),
            ..ResponseQuery::default()
        }),
        Err(NoAnswer::Failed(error)) => Err(error),
    }
}

struct Question<'a> {
    snapshot: &'a StateSnapshot,
    /// The newest, or the one asked for.
    height: u64,
}

impl<'a> Question<'a> {
    fn new(snapshot: &'a StateSnapshot, request: &RequestQuery) -> Result<Self, NoAnswer> {
        let newest = snapshot.head().ok_or(StateError::NoGenesis)?.height;
        let height = match request.height {
            0 => newest,
            height => u64::try_from(height).map_err(|_| {
                NoAnswer::Refused(ResultCode::Decode, "a height is not negative".to_owned())
            })?,
        };
        // Reading the root tells whether the height is kept.
        snapshot.0.root_at(height)?;
        Ok(Self { snapshot, height })
    }

    fn answer(&self, request: &RequestQuery) -> Result<ResponseQuery, NoAnswer> {
        let parts: Vec<&str> = request.path.split('/').skip(1).collect();
        let value = match parts.as_slice() {
            ["store", "app", "key"] => return self.raw(request),
            ["store", "app", "list"] => self.keys(&request.data)?,
            ["store", "app", "values"] => return self.values(request),
            ["account", account] => {
                let account: AccountId = id(account)?;
                let record = self.record::<Account>(StateKey::Account(account))?;
                json(&OfAccount { account, record })
            }
            ["stream", stream] => {
                json(&self.record::<StreamMetadata>(StateKey::Stream(id(stream)?))?)
            }
            ["channel", channel] => json(&self.channel(id(channel)?)?),
            ["access", stream, viewer] => {
                let (stream, viewer) = (id(stream)?, id(viewer)?);
                let record = self.record(StateKey::Access(stream, viewer))?;
                json(&OfViewer { stream, viewer, record })
            }
            ["relay", account] => {
                let account: AccountId = id(account)?;
                let record = self.record::<RelayRecord>(StateKey::Relay(account))?;
                json(&OfAccount { account, record })
            }
            ["params"] => json(&self.record::<Params>(StateKey::Params)?),
            ["supply"] => {
                let supply: Supply = self.record(StateKey::Supply)?;
                let fee_pool = self.record(StateKey::FeePool)?;
                let current = supply.genesis.saturating_sub(supply.burned);
                let rewards: Rewards = self.optional(StateKey::Rewards)?.unwrap_or_default();
                let (bonded, rewards_held) = (rewards.bonded, rewards.held);
                json(&Money { supply, current, fee_pool, bonded, rewards_held })
            }
            ["validator", operator] => json(&self.validator(id(operator)?)?),
            ["proposal", number] => json(&self.proposal(number)?),
            ["upgrade"] => json(&self.optional::<Upgrade>(StateKey::Upgrade)?),
            ["upgrades"] => json(
                &self.optional::<Vec<DoneUpgrade>>(StateKey::UpgradesDone)?.unwrap_or_default(),
            ),
            list => self.list(list, &request.data)?,
        };
        Ok(self.response(value))
    }

    fn list(&self, parts: &[&str], after: &[u8]) -> Result<Vec<u8>, NoAnswer> {
        if self.height != self.snapshot.height() {
            let log = "lists are of the newest height only: leave the height out".to_owned();
            return Err(NoAnswer::Refused(ResultCode::NotFound, log));
        }
        match parts {
            ["streams"] => {
                let all = self.snapshot.records::<StreamMetadata>(StateKey::STREAMS);
                let streams = all.map(|entry| entry.map(|(_, stream)| (stream.id.0, stream)));
                self.page(streams, after, Ok)
            }
            ["streams", "by-creator", creator] => {
                let ids = self.snapshot.streams_by_creator(&id(creator)?);
                self.page(ids.map(|id| id.map(|id| (id.0, id))), after, |id| {
                    self.record::<StreamMetadata>(StateKey::Stream(id))
                })
            }
            ["channels", "by-payer", payer] => {
                let ids = self.snapshot.channels_by_payer(&id(payer)?);
                self.page(ids.map(|id| id.map(|id| (id.0, id))), after, |id| self.channel(id))
            }
            ["channels", "by-payee", payee] => {
                let ids = self.snapshot.channels_by_payee(&id(payee)?);
                self.page(ids.map(|id| id.map(|id| (id.0, id))), after, |id| self.channel(id))
            }
            ["lanes", channel] => {
                let all = self.snapshot.records::<LaneRecord>(&StateKey::lanes_of(&id(channel)?));
                let lanes = all.filter_map(|entry| match entry {
                    Ok((StateKey::Lane(key), record)) => {
                        let parts = [&key.payee.0[..], &key.stream.0, &key.lane.to_be_bytes()];
                        Some(Ok((parts.concat(), OfLane { key, record })))
                    }
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                });
                self.page(lanes, after, Ok)
            }
            ["relays"] => {
                let all = self.snapshot.records::<RelayRecord>(StateKey::RELAYS);
                let relays = all.filter_map(|entry| match entry {
                    Ok((StateKey::Relay(account), record)) => {
                        Some(Ok((account.0, OfAccount { account, record })))
                    }
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                });
                self.page(relays, after, Ok)
            }
            ["validators"] => self.page(self.validators()?, after, Ok),
            ["delegations", delegator] => self.page(self.delegations(&id(delegator)?)?, after, Ok),
            ["delegators", validator] => self.page(self.delegators(&id(validator)?)?, after, Ok),
            ["proposals"] => self.page(self.proposals()?, after, Ok),
            _ => {
                let log = format!("there is no such path; known are: {PATHS}");
                Err(NoAnswer::Refused(ResultCode::NotFound, log))
            }
        }
    }

    /// At most [`LIST_MAX`] of a list that is in the order of its ids, from behind `after`.
    fn page<P: AsRef<[u8]>, T, R: Serialize>(
        &self,
        all: impl Iterator<Item = Result<(P, T), StateError>>,
        after: &[u8],
        record: impl Fn(T) -> Result<R, NoAnswer>,
    ) -> Result<Vec<u8>, NoAnswer> {
        let mut records = Vec::new();
        for entry in all {
            let (place, item) = entry?;
            if place.as_ref() <= after && !after.is_empty() {
                continue;
            }
            records.push(record(item)?);
            if records.len() == LIST_MAX {
                break;
            }
        }
        Ok(json(&records))
    }

    fn raw(&self, request: &RequestQuery) -> Result<ResponseQuery, NoAnswer> {
        let key = &request.data;
        let (value, proof_ops) = if request.prove {
            let Proved { value, proof } = self.snapshot.0.proof(key, self.height)?;
            let op = ProofOp { r#type: PROOF_TYPE.to_owned(), key: key.to_vec(), data: proof };
            (value, Some(ProofOps { ops: vec![op] }))
        } else {
            (self.value(key)?, None)
        };
        let response = self.response(value.unwrap_or_default());
        Ok(ResponseQuery { key: key.clone(), proof_ops, ..response })
    }

    /// Keys of followed records, for whoever asks for their values next.
    fn keys(&self, data: &[u8]) -> Result<Vec<u8>, NoAnswer> {
        let ListRequest { prefix, after, limit } = borsh_of(data)?;
        if !FOLLOWED.contains(&prefix.as_slice()) {
            let known = FOLLOWED.iter().map(|prefix| String::from_utf8_lossy(prefix));
            let log = format!("keys are listed of {}", known.collect::<Vec<_>>().join(", "));
            return Err(NoAnswer::Refused(ResultCode::NotFound, log));
        }
        let behind = after.unwrap_or_default();
        let limit = usize::from(limit.min(LIST_KEYS_MAX));
        let mut keys = Vec::new();
        for entry in self.snapshot.0.prefix_behind(&prefix, &behind).take(limit) {
            keys.push(entry?.0);
        }
        Ok(borsh::to_vec(&keys).expect("a vector takes every byte"))
    }

    /// Values of several keys at one height, each with its proof where they are asked for.
    fn values(&self, request: &RequestQuery) -> Result<ResponseQuery, NoAnswer> {
        let keys: Vec<Vec<u8>> = borsh_of(&request.data)?;
        if keys.len() > VALUES_MAX {
            let log = format!("{} keys in one question, {VALUES_MAX} at most", keys.len());
            return Err(NoAnswer::Refused(ResultCode::TooLarge, log));
        }
        let mut values = Vec::with_capacity(keys.len());
        let mut ops = Vec::with_capacity(keys.len());
        for key in keys {
            if !request.prove {
                values.push(self.value(&key)?);
                continue;
            }
            let Proved { value, proof } = self.snapshot.0.proof(&key, self.height)?;
            values.push(value);
            ops.push(ProofOp { r#type: PROOF_TYPE.to_owned(), key, data: proof });
        }
        let response = self.response(borsh::to_vec(&values).expect("a vector takes every byte"));
        let proof_ops = request.prove.then_some(ProofOps { ops });
        Ok(ResponseQuery { proof_ops, ..response })
    }

    fn channel(&self, id: ChannelId) -> Result<WithId<Channel>, NoAnswer> {
        Ok(WithId { id, record: self.record(StateKey::Channel(id))? })
    }

    fn optional<T: BorshDeserialize>(&self, key: StateKey) -> Result<Option<T>, NoAnswer> {
        Ok(self.value(&key.to_bytes())?.map(|bytes| decode(key, &bytes)).transpose()?)
    }

    fn record<T: BorshDeserialize>(&self, key: StateKey) -> Result<T, NoAnswer> {
        match self.optional(key)? {
            Some(record) => Ok(record),
            None => {
                let log = format!("at height {} there is no such record", self.height);
                Err(NoAnswer::Refused(ResultCode::NotFound, log))
            }
        }
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, NoAnswer> {
        if self.height == self.snapshot.height() {
            return Ok(self.snapshot.0.get(key)?);
        }
        Ok(self.snapshot.0.value_at(key, self.height)?)
    }

    fn response(&self, value: Vec<u8>) -> ResponseQuery {
        ResponseQuery {
            value: Bytes::from(value),
            height: number(self.height),
            ..ResponseQuery::default()
        }
    }
}

fn id<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, NoAnswer> {
    text.parse().map_err(|error| NoAnswer::Refused(ResultCode::Decode, format!("{text}: {error}")))
}

fn borsh_of<T: BorshDeserialize>(data: &[u8]) -> Result<T, NoAnswer> {
    borsh::from_slice(data)
        .map_err(|error| NoAnswer::Refused(ResultCode::Decode, format!("the data: {error}")))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have a JSON form: no map with other keys than text")
}

fn number(height: u64) -> i64 {
    i64::try_from(height).unwrap_or(i64::MAX)
}
