//! The grammar of what a transaction does: one command for each kind.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use chain_types::{
    AccountId, Balance, BalanceError, ChannelId, Params, Payload, PaymentStatus, Price, RelayFacts,
    ReserveRequest, SplitShares, StreamId,
};
use clap::{Args, Subcommand};

use super::staking::{EvidenceKind, Gov, RelayKind, Staking};
use crate::{
    commands::keys::{Store, Who},
    grants::parse_ttl,
    wallet::{PolicyName, PriceArgs, SplitArgs},
};

/// Reads SUT.
pub fn sut(text: &str) -> Result<Balance, BalanceError> {
    Balance::parse_sut(text)
}

/// What a kind's arguments are read against.
pub struct Around<'a> {
    /// Names of accounts.
    pub store: &'a Store<'a>,
    /// Who acts.
    pub signer: AccountId,
    /// Of the newest block; `None`: no chain is asked.
    pub height: Option<u64>,
    /// Unix ms.
    pub now_ms: u64,
    /// Which chain it is for.
    pub chain_id: &'a str,
    /// As the chain has them; `None`: no chain is asked.
    pub params: Option<&'a Params>,
    /// The node's name, where the configuration has one.
    pub moniker: Option<&'a str>,
}

/// One kind of transaction.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Kind {
    /// Sends money
    Transfer {
        /// Who gets it
        #[arg(long, value_name = "ACCOUNT")]
        to: Who,
        /// How much, such as 1.5
        #[arg(long, value_name = "SUT", value_parser = sut)]
        amount: Balance,
    },
    /// Registers a stream: its price, its policy, who gets what
    RegisterStream {
        /// For people
        #[arg(long)]
        title: String,
        /// Who may watch
        #[arg(long, value_enum, default_value_t = PolicyName::Paid)]
        policy: PolicyName,
        #[command(flatten)]
        price: PriceArgs,
        #[command(flatten)]
        split: SplitArgs,
        /// Relay that it is published to
        #[arg(long, value_name = "ACCOUNT")]
        origin: Option<Who>,
        /// Key that may sign tokens besides the creator's, repeatable
        #[arg(long = "issuer", value_name = "ACCOUNT")]
        issuers: Vec<Who>,
        /// As in SDP, repeatable
        #[arg(long = "codec", value_name = "NAME", default_values = ["VP8", "opus"])]
        codecs: Vec<String>,
    },
    /// Changes what is given of a stream
    UpdateStream {
        /// Which
        stream: StreamId,
        #[command(flatten)]
        change: StreamChange,
    },
    /// Ends a stream for good
    EndStream {
        /// Which
        stream: StreamId,
    },
    /// Sets a new price; it holds after the chain's notice
    SetPrice {
        /// Which stream
        stream: StreamId,
        #[command(flatten)]
        price: PriceArgs,
        /// First height at which it holds, 0: as soon as allowed
        #[arg(long, value_name = "HEIGHT", default_value_t = 0)]
        from_height: u64,
    },
    /// Sets a new split; it holds after the chain's notice
    SetSplit {
        /// Which stream
        stream: StreamId,
        #[command(flatten)]
        split: SplitArgs,
        /// First height at which it holds, 0: as soon as allowed
        #[arg(long, value_name = "HEIGHT", default_value_t = 0)]
        from_height: u64,
    },
    /// Sets the keys that may sign tokens besides the creator's, all of them
    SetIssuers {
        /// Which stream
        stream: StreamId,
        /// The keys; none takes all away
        #[arg(value_name = "ACCOUNT")]
        issuers: Vec<Who>,
    },
    /// Makes the signer's account a relay
    RegisterRelay {
        #[command(flatten)]
        facts: RelayArgs,
        /// What it puts in
        #[arg(long, value_name = "SUT", default_value = "0", value_parser = sut)]
        bond: Balance,
    },
    /// Sets new facts of the signer's relay, all of them
    UpdateRelay {
        #[command(flatten)]
        facts: RelayArgs,
    },
    /// Opens a channel: a deposit that pays relays by vouchers
    OpenChannel {
        /// What it holds
        #[arg(long, value_name = "SUT", value_parser = sut)]
        deposit: Balance,
        /// Signs its vouchers [default: the signer]
        #[arg(long, value_name = "ACCOUNT")]
        voucher_key: Option<Who>,
        #[command(flatten)]
        expires: Expires,
        /// A part kept for one payee, repeatable
        #[arg(long = "reserve", value_name = "ACCOUNT:SUT:HEIGHT")]
        reserves: Vec<ReserveArg>,
    },
    /// Puts more into a channel
    TopUp {
        /// Which
        channel: ChannelId,
        /// How much
        #[arg(long, value_name = "SUT", value_parser = sut)]
        amount: Balance,
        /// A part kept for one payee, repeatable; the payer's only
        #[arg(long = "reserve", value_name = "ACCOUNT:SUT:HEIGHT")]
        reserves: Vec<ReserveArg>,
    },
    /// Sets what a channel keeps for one payee from now on
    Reserve {
        /// Which
        channel: ChannelId,
        /// For whom, how much, and the first height at which it is free again
        #[arg(value_name = "ACCOUNT:SUT:HEIGHT")]
        reserve: ReserveArg,
    },
    /// Begins to close a channel
    RequestClose {
        /// Which
        channel: ChannelId,
    },
    /// Gives what is left in a channel to its payer, after the window
    Finalize {
        /// Which
        channel: ChannelId,
    },
    /// Buys a ticket for the signer
    BuyAccess {
        /// Which stream
        stream: StreamId,
        /// Version of the price that was seen (`query stream`)
        #[arg(long, value_name = "N")]
        terms_version: u32,
        /// At most this price
        #[arg(long, value_name = "SUT", value_parser = sut)]
        max_price: Balance,
    },
    /// Puts a viewer on a stream's list
    GrantAccess {
        /// Which stream
        stream: StreamId,
        /// Whom
        viewer: Who,
        /// How long: a number and s, m, h or d
        #[arg(long, value_name = "TIME", default_value = "1d")]
        ttl: String,
        /// Highest layer, 255: no cap
        #[arg(long, value_name = "N", default_value_t = u8::MAX)]
        max_layer: u8,
    },
    /// Takes a viewer off a stream's list, at once
    RevokeAccess {
        /// Which stream
        stream: StreamId,
        /// Whom
        viewer: Who,
    },
    /// Makes every token and access record of a stream given so far void
    BumpRevocation {
        /// Which
        stream: StreamId,
    },
    /// Stake: validators, and what is staked with them
    #[command(subcommand)]
    Staking(Staking),
    /// What validators decide together
    #[command(subcommand)]
    Gov(Gov),
    /// A relay's bond
    #[command(subcommand)]
    Relay(RelayKind),
    /// Faults that anybody can prove
    #[command(subcommand)]
    Evidence(EvidenceKind),
}

/// What changes of a stream; at least one of them.
#[derive(Debug, PartialEq, Eq, Args)]
#[group(required = true, multiple = true)]
pub struct StreamChange {
    /// New title
    #[arg(long)]
    pub title: Option<String>,
    /// New policy, in force at once
    #[arg(long, value_enum)]
    pub policy: Option<PolicyName>,
    /// New relay that it is published to
    #[arg(long, value_name = "ACCOUNT")]
    pub origin: Option<Who>,
    /// It is published to no relay in particular
    #[arg(long, conflicts_with = "origin")]
    pub no_origin: bool,
    /// New list of codecs, repeatable
    #[arg(long = "codec", value_name = "NAME")]
    pub codecs: Vec<String>,
}

/// What a relay says about itself.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct RelayArgs {
    /// Signs its answers and redeems its vouchers
    #[arg(long, value_name = "ACCOUNT", default_value = "relay")]
    pub relay_key: Who,
    /// Base URL of its HTTP face
    #[arg(long, value_name = "URL")]
    pub endpoint: String,
    /// ISO country code and geohash
    #[arg(long, default_value = "")]
    pub region: String,
    /// Price of transport between relays
    #[arg(long, value_name = "SUT", default_value = "0", value_parser = sut)]
    pub wholesale_per_gb: Balance,
    /// It serves no stream whose split leaves it less, in hundredths of a percent
    #[arg(long, value_name = "BPS", default_value_t = 0)]
    pub min_share_bps: u16,
}

/// When a channel ends.
#[derive(Debug, PartialEq, Eq, Args)]
#[group(required = true, multiple = false)]
pub struct Expires {
    /// From this height on it takes no new money
    #[arg(long, value_name = "HEIGHT")]
    pub expires_height: Option<u64>,
    /// The same, counted from the newest block
    #[arg(long, value_name = "N")]
    pub blocks: Option<u64>,
}

/// `ACCOUNT:SUT:HEIGHT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReserveArg {
    payee: Who,
    amount: Balance,
    until_height: u64,
}

impl std::str::FromStr for ReserveArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split(':').collect();
        let [payee, amount, until_height] = parts[..] else {
            return Err("write the payee's account, SUT and a height: ACCOUNT:SUT:HEIGHT".into());
        };
        Ok(Self {
            payee: payee.parse().map_err(|error| format!("{payee}: {error}"))?,
            amount: sut(amount).map_err(|_| format!("{amount}: write SUT, such as 1.5"))?,
            until_height: until_height.parse().map_err(|_| format!("{until_height}: a height"))?,
        })
    }
}

impl ReserveArg {
    fn request(&self, store: &Store) -> anyhow::Result<ReserveRequest> {
        let Self { payee, amount, until_height } = self;
        Ok(ReserveRequest {
            payee: payee.account(store)?,
            amount: *amount,
            until_height: *until_height,
        })
    }
}

impl RelayArgs {
    fn facts(&self, store: &Store) -> anyhow::Result<RelayFacts> {
        let Self { relay_key, endpoint, region, wholesale_per_gb, min_share_bps } = self;
        Ok(RelayFacts {
            relay_key: relay_key.account(store)?,
            endpoint: endpoint.clone(),
            region: region.clone(),
            wholesale_per_gb: *wholesale_per_gb,
            min_share_bps: *min_share_bps,
        })
    }
}

fn accounts(whos: &[Who], store: &Store) -> anyhow::Result<Vec<AccountId>> {
    whos.iter().map(|who| who.account(store)).collect()
}

fn reserves(args: &[ReserveArg], store: &Store) -> anyhow::Result<Vec<ReserveRequest>> {
    args.iter().map(|arg| arg.request(store)).collect()
}

fn ttl_ms(text: &str) -> anyhow::Result<u64> {
    Ok(u64::try_from(parse_ttl(text)?.as_millis())?)
}

fn price_of(price: &PriceArgs) -> anyhow::Result<Price> {
    let PriceArgs { rate, tier_bps, ticket_price, ticket_time } = price;
    let tier_bps = tier_bps.as_slice().try_into().expect("clap takes three");
    let (ticket_price, ticket_ms) = (*ticket_price, ttl_ms(ticket_time)?);
    Ok(Price { rate_per_second: *rate, tier_bps, ticket_price, ticket_ms })
}

fn shares(split: &SplitArgs) -> SplitShares {
    let SplitArgs { creator_bps, origin_bps } = *split;
    SplitShares { creator_bps, origin_bps }
}

impl Kind {
    /// The payload.
    ///
    /// # Errors
    /// A name that is no account here, or what only a chain can say when none is asked.
    pub fn payload(&self, around: &Around) -> anyhow::Result<Payload> {
        let store = around.store;
        Ok(match self {
            Self::Transfer { to, amount } => {
                Payload::Transfer { to: to.account(store)?, amount: *amount }
            }
            Self::RegisterStream { title, policy, price, split, origin, issuers, codecs } => {
                Payload::RegisterStream {
                    title: title.clone(),
                    policy: (*policy).into(),
                    price: price_of(price)?,
                    split: shares(split),
                    origin_relay: origin.as_ref().map(|who| who.account(store)).transpose()?,
                    issuers: accounts(issuers, store)?,
                    codecs: codecs.clone(),
                    ext: BTreeMap::new(),
                }
            }
            Self::UpdateStream { stream, change } => change.payload(*stream, store)?,
            Self::EndStream { stream } => Payload::EndStream { stream: *stream },
            Self::SetPrice { stream, price, from_height } => Payload::SetPrice {
                stream: *stream,
                price: price_of(price)?,
                from_height: *from_height,
            },
            Self::SetSplit { stream, split, from_height } => Payload::SetSplit {
                stream: *stream,
                split: shares(split),
                from_height: *from_height,
            },
            Self::SetIssuers { stream, issuers } => {
                Payload::SetIssuers { stream: *stream, issuers: accounts(issuers, store)? }
            }
            Self::RegisterRelay { facts, bond } => {
                Payload::RegisterRelay { relay: facts.facts(store)?, bond: *bond }
            }
            Self::UpdateRelay { facts } => Payload::UpdateRelay { relay: facts.facts(store)? },
            Self::OpenChannel { deposit, voucher_key, expires, reserves: kept } => {
                Payload::OpenChannel {
                    deposit: *deposit,
                    voucher_key: match voucher_key {
                        Some(who) => who.account(store)?,
                        None => around.signer,
                    },
                    expires_height: expires.height(around)?,
                    reserves: reserves(kept, store)?,
                }
            }
            Self::TopUp { channel, amount, reserves: kept } => Payload::TopUp {
                channel: *channel,
                amount: *amount,
                reserves: reserves(kept, store)?,
            },
            Self::Reserve { channel, reserve } => {
                Payload::Reserve { channel: *channel, reserve: reserve.request(store)? }
            }
            Self::RequestClose { channel } => Payload::RequestClose { channel: *channel },
            Self::Finalize { channel } => Payload::Finalize { channel: *channel },
            Self::BuyAccess { stream, terms_version, max_price } => Payload::BuyAccess {
                stream: *stream,
                terms_version: *terms_version,
                max_price: *max_price,
            },
            Self::GrantAccess { stream, viewer, ttl, max_layer } => Payload::GrantAccess {
                stream: *stream,
                viewer: viewer.account(store)?,
                valid_until: around.now_ms.saturating_add(ttl_ms(ttl)?),
                payment_status: PaymentStatus::Free.code(),
                max_layer: *max_layer,
            },
            Self::RevokeAccess { stream, viewer } => {
                Payload::RevokeAccess { stream: *stream, viewer: viewer.account(store)? }
            }
            Self::BumpRevocation { stream } => Payload::BumpRevocation { stream: *stream },
            Self::Staking(staking) => staking.payload(around)?,
            Self::Gov(gov) => gov.payload(around)?,
            Self::Relay(RelayKind::Unbond) => Payload::UnbondRelay,
            Self::Evidence(evidence) => evidence.payload()?,
        })
    }
}

impl StreamChange {
    fn payload(&self, stream: StreamId, store: &Store) -> anyhow::Result<Payload> {
        let Self { title, policy, origin, no_origin, codecs } = self;
        let origin_relay = match (origin, no_origin) {
            (Some(who), _) => Some(Some(who.account(store)?)),
            (None, true) => Some(None),
            (None, false) => None,
        };
        Ok(Payload::UpdateStream {
            stream,
            title: title.clone(),
            policy: policy.map(Into::into),
            origin_relay,
            codecs: Some(codecs.clone()).filter(|codecs| !codecs.is_empty()),
            ext: None,
        })
    }
}

impl Expires {
    fn height(&self, around: &Around) -> anyhow::Result<u64> {
        match (self.expires_height, self.blocks) {
            (Some(height), _) => Ok(height),
            (None, Some(blocks)) => {
                let newest = around.height.context("--blocks counts from the newest block")?;
                newest.checked_add(blocks).context("--blocks is beyond every height")
            }
            (None, None) => bail!("when does the channel end? Say --blocks or --expires-height"),
        }
    }
}
