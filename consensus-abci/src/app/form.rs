//! What can be wrong with a transaction whatever the state: texts, lists, shares and counts.

use std::collections::{BTreeMap, BTreeSet};

use chain_types::{
    AccountId, Payload, PaymentStatus, Price, RelayFacts, ReserveRequest, ResultCode, SplitShares,
    params::{REDEEM_ENTRIES_MAX, RESERVES_MAX},
    records::{
        CODECS_MAX, ENDPOINT_BYTES_MAX, EXT_MAX, EXT_VALUE_BYTES_MAX, ISSUERS_MAX, NAME_BYTES_MAX,
        TITLE_BYTES_MAX,
    },
    split::BPS,
    staking::{
        MONIKER_BYTES_MAX, PROPOSAL_TEXT_BYTES_MAX, PROPOSAL_TITLE_BYTES_MAX, WEBSITE_BYTES_MAX,
    },
};

/// A code and a sentence.
pub(super) type Fault = (ResultCode, &'static str);

/// What the chain itself notes in a stream's `ext` begins so; no transaction writes such names.
pub(super) const CHAIN_EXT_PREFIX: &str = "chain.";

/// Checks a payload as such; costs nothing but time in proportion to its bytes.
pub(super) fn check(payload: &Payload) -> Result<(), Fault> {
    match payload {
        Payload::RegisterStream { title, price: terms, split, issuers, codecs, ext, .. } => {
            title_of(title)?;
            price(terms)?;
            shares(split)?;
            keys(issuers)?;
            names(codecs)?;
            extensions(ext)
        }
        Payload::UpdateStream { title, codecs, ext, .. } => {
            title.as_deref().map_or(Ok(()), title_of)?;
            codecs.as_deref().map_or(Ok(()), names)?;
            ext.as_ref().map_or(Ok(()), extensions)
        }
        Payload::SetPrice { price: terms, .. } => price(terms),
        Payload::SetSplit { split, .. } => shares(split),
        Payload::SetIssuers { issuers, .. } => keys(issuers),
        Payload::RegisterRelay { relay, .. } | Payload::UpdateRelay { relay } => facts(relay),
        Payload::OpenChannel { reserves, .. } | Payload::TopUp { reserves, .. } => {
            several(reserves)
        }
        Payload::Redeem { entries, .. } => match entries.len() {
            0 => Err((ResultCode::Decode, "a redeem needs an entry")),
            1..=REDEEM_ENTRIES_MAX => Ok(()),
            _ => Err((ResultCode::TooLarge, "a redeem has at most 256 entries")),
        },
        Payload::GrantAccess { payment_status, .. } => {
            match PaymentStatus::from_code(*payment_status) {
                Some(status) if status.is_allowed_in_token() => Ok(()),
                _ => Err((ResultCode::Decode, "access is granted as free, current or sponsored")),
            }
        }
        Payload::CreateValidator { moniker, website, .. } => {
            about_validator(Some(moniker), Some(website))
        }
        Payload::EditValidator { moniker, website, .. } => {
            about_validator(moniker.as_deref(), website.as_deref())
        }
        Payload::Propose { title, text, .. } => proposal(title, text),
        Payload::ScheduleUpgrade { upgrade } => {
            limit(!upgrade.name.is_empty(), ResultCode::Decode, "an upgrade has a name")?;
            name(&upgrade.name)?;
            proposal("", &upgrade.info)
        }
        Payload::UnbondRelay
        | Payload::Delegate { .. }
        | Payload::Undelegate { .. }
        | Payload::Redelegate { .. }
        | Payload::WithdrawRewards { .. }
        | Payload::Unjail
        | Payload::SubmitEvidence { .. }
        | Payload::Vote { .. }
        | Payload::Transfer { .. }
        | Payload::EndStream { .. }
        | Payload::Reserve { .. }
        | Payload::RequestClose { .. }
        | Payload::Finalize { .. }
        | Payload::BuyAccess { .. }
        | Payload::RevokeAccess { .. }
        | Payload::BumpRevocation { .. } => Ok(()),
    }
}

fn limit(is_within: bool, code: ResultCode, sentence: &'static str) -> Result<(), Fault> {
    if is_within { Ok(()) } else { Err((code, sentence)) }
}

fn about_validator(moniker: Option<&str>, website: Option<&str>) -> Result<(), Fault> {
    if let Some(moniker) = moniker {
        let is_right = (1..=MONIKER_BYTES_MAX).contains(&moniker.len());
        limit(is_right, ResultCode::TooLarge, "a validator's name has 1 to 64 bytes")?;
    }
    let is_short = website.is_none_or(|website| website.len() <= WEBSITE_BYTES_MAX);
    limit(is_short, ResultCode::TooLarge, "a validator's web address has at most 128 bytes")
}

fn proposal(title: &str, text: &str) -> Result<(), Fault> {
    let is_short = title.len() <= PROPOSAL_TITLE_BYTES_MAX;
    limit(is_short, ResultCode::TooLarge, "a proposal's title has at most 128 bytes")?;
    let is_short = text.len() <= PROPOSAL_TEXT_BYTES_MAX;
    limit(is_short, ResultCode::TooLarge, "a proposal's text has at most 2048 bytes")
}

fn title_of(title: &str) -> Result<(), Fault> {
    limit(title.len() <= TITLE_BYTES_MAX, ResultCode::TooLarge, "a title has at most 128 bytes")
}

fn price(price: &Price) -> Result<(), Fault> {
    let is_share = price.tier_bps.iter().all(|bps| *bps <= BPS);
    limit(is_share, ResultCode::Decode, "a tier's share is at most 10000 basis points")
}

fn shares(split: &SplitShares) -> Result<(), Fault> {
    let sum = u32::from(split.creator_bps) + u32::from(split.origin_bps);
    limit(sum <= u32::from(BPS), ResultCode::Decode, "the shares are more than 10000 basis points")
}

fn keys(keys: &[AccountId]) -> Result<(), Fault> {
    limit(keys.len() <= ISSUERS_MAX, ResultCode::TooLarge, "a stream has at most 16 issuers")?;
    let different: BTreeSet<_> = keys.iter().collect();
    limit(different.len() == keys.len(), ResultCode::Decode, "an issuer is named twice")
}

fn name(name: &str) -> Result<(), Fault> {
    limit(name.len() <= NAME_BYTES_MAX, ResultCode::TooLarge, "a name has at most 32 bytes")
}

fn names(codecs: &[String]) -> Result<(), Fault> {
    limit(codecs.len() <= CODECS_MAX, ResultCode::TooLarge, "a stream names at most 8 codecs")?;
    codecs.iter().try_for_each(|codec| name(codec))
}

fn extensions(ext: &BTreeMap<String, Vec<u8>>) -> Result<(), Fault> {
    limit(ext.len() <= EXT_MAX, ResultCode::TooLarge, "there are at most 8 extensions")?;
    ext.iter().try_for_each(|(key, value)| {
        name(key)?;
        let is_short = value.len() <= EXT_VALUE_BYTES_MAX;
        limit(is_short, ResultCode::TooLarge, "an extension has at most 256 bytes")?;
        let is_free = !key.starts_with(CHAIN_EXT_PREFIX);
        limit(is_free, ResultCode::Decode, "names that begin with `chain.` are the chain's")
    })
}

fn facts(relay: &RelayFacts) -> Result<(), Fault> {
    let is_short = relay.endpoint.len() <= ENDPOINT_BYTES_MAX;
    limit(is_short, ResultCode::TooLarge, "an endpoint has at most 256 bytes")?;
    name(&relay.region)?;
    let is_share = relay.min_share_bps <= BPS;
    limit(is_share, ResultCode::Decode, "a relay's share is at most 10000 basis points")
}

fn several(reserves: &[ReserveRequest]) -> Result<(), Fault> {
    let is_few = reserves.len() <= RESERVES_MAX;
    limit(is_few, ResultCode::TooLarge, "a transaction names at most 8 reserves")?;
    let payees: BTreeSet<_> = reserves.iter().map(|reserve| reserve.payee).collect();
    let are_different = payees.len() == reserves.len();
    limit(are_different, ResultCode::Decode, "a payee has one reserve in a channel")
}
