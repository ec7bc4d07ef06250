//! Streams: what creators set and viewers buy.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use chain_types::{
    AccountId, Balance, Grants, Payload, PaymentStatus, Policy, Price, SplitShares, StreamId,
    Token, TokenId,
};

use super::{
    Surroundings,
    account::cost,
    args::{PriceArgs, SplitArgs, StreamCommand, TokenRole},
    progress, sut,
};
use crate::{grants::parse_ttl, now_ms};

/// What the pages publish.
const CODECS: [&str; 2] = ["VP8", "opus"];

pub fn run(around: &Surroundings, command: StreamCommand) -> anyhow::Result<()> {
    let payload = match command {
        StreamCommand::Register { title, policy, price, split, origin, issuers } => {
            let payload = Payload::RegisterStream {
                title,
                policy: policy.into(),
                price: price_of(price)?,
                split: shares(split),
                origin_relay: origin,
                issuers,
                codecs: CODECS.map(str::to_owned).to_vec(),
                ext: BTreeMap::new(),
            };
            let key = around.key()?;
            let done = around.chain()?.submit(&key, payload, progress)?;
            println!("{}", StreamId::of(&AccountId::from(&key), done.nonce));
            cost(&done);
            return Ok(());
        }
        StreamCommand::Token { stream, role, ttl, viewer } => {
            return token(around, stream, role, &ttl, viewer);
        }
        StreamCommand::Price { stream, price } => {
            Payload::SetPrice { stream, price: price_of(price)?, from_height: 0 }
        }
        StreamCommand::Split { stream, split } => {
            Payload::SetSplit { stream, split: shares(split), from_height: 0 }
        }
        StreamCommand::Policy { stream, policy } => {
            let policy = Some(Policy::from(policy));
            let (title, origin_relay, codecs, ext) = (None, None, None, None);
            Payload::UpdateStream { stream, title, policy, origin_relay, codecs, ext }
        }
        StreamCommand::End { stream } => Payload::EndStream { stream },
        StreamCommand::Grant { stream, viewer, ttl } => {
            let valid_until = now_ms().saturating_add(ttl_ms(&ttl)?);
            let payment_status = PaymentStatus::Free.code();
            let max_layer = u8::MAX;
            Payload::GrantAccess { stream, viewer, valid_until, payment_status, max_layer }
        }
        StreamCommand::Revoke { stream, viewer } => Payload::RevokeAccess { stream, viewer },
    };
    let kind = payload.kind();
    let chain = around.chain()?;
    let done = chain.submit(&around.key()?, payload, progress)?;
    println!("{} in block {}", kind.replace('_', " "), done.height);
    cost(&done);
    Ok(())
}

fn ttl_ms(text: &str) -> anyhow::Result<u64> {
    Ok(u64::try_from(parse_ttl(text)?.as_millis())?)
}

fn price_of(price: PriceArgs) -> anyhow::Result<Price> {
    let PriceArgs { rate, tier_bps, ticket_price, ticket_time } = price;
    let tier_bps = tier_bps.try_into().expect("clap takes three");
    let ticket_ms = ttl_ms(&ticket_time)?;
    Ok(Price { rate_per_second: rate, tier_bps, ticket_price, ticket_ms })
}

fn shares(split: SplitArgs) -> SplitShares {
    let SplitArgs { creator_bps, origin_bps } = split;
    SplitShares { creator_bps, origin_bps }
}

fn token(
    around: &Surroundings,
    stream: StreamId,
    role: TokenRole,
    ttl: &str,
    viewer: Option<AccountId>,
) -> anyhow::Result<()> {
    let key = around.key()?;
    let issuer_key = AccountId::from(&key);
    let chain = around.chain()?;
    let record = chain.stream(&stream)?.context("the chain knows no such stream: check the id")?;
    if !record.is_issuer(&issuer_key) {
        bail!(
            "the stream belongs to {}: tokens are signed with its key, or an issuer's",
            record.creator
        );
    }
    let viewer = viewer.unwrap_or(AccountId::ZERO);
    let token = Token {
        token_id: TokenId(rand::random()),
        stream,
        viewer,
        holder_key: viewer,
        issuer_key,
        grants: match role {
            TokenRole::Publish => Grants::PUBLISH,
            TokenRole::Subscribe => Grants::SUBSCRIBE,
        },
        max_layer: u8::MAX,
        payment_status: PaymentStatus::Free,
        rev_epoch: record.rev_epoch,
        not_before_ms: now_ms(),
        valid_until_ms: now_ms().saturating_add(ttl_ms(ttl)?),
    };
    println!("{}", token.sign(&key, chain.id())?.to_bearer());
    Ok(())
}

pub fn buy(around: &Surroundings, name: &str, max_price: Option<Balance>) -> anyhow::Result<()> {
    let key = around.key()?;
    let stream = around.stream_id(name)?;
    let chain = around.chain()?;
    let record = chain.stream(&stream)?.context("the chain knows no such stream: check the id")?;
    if record.policy != Policy::Ticketed {
        bail!("this stream sells no tickets: watch it with `sutantra-node wallet watch {name}`");
    }
    let terms = record.terms_at(chain.height()?).context("the stream has no price yet")?;
    let max_price = max_price.unwrap_or(terms.ticket_price);
    if terms.ticket_price > max_price {
        bail!("a ticket costs {}, more than {}", sut(terms.ticket_price), sut(max_price));
    }
    let terms_version = terms.version;
    let payload = Payload::BuyAccess { stream, terms_version, max_price };
    let done = chain.submit(&key, payload, progress)?;
    let minutes = terms.ticket_ms / 60_000;
    println!("a ticket for {minutes} minutes of {stream} for {}", sut(terms.ticket_price));
    cost(&done);
    Ok(())
}
