//! Pools: opened with a file before a transaction, closed with a window.

use std::{thread, time::Duration};

use ::wallet::{Chain, ChannelEntry, Pool, PoolState, Pools, SubmitError};
use anyhow::{Context as _, bail};
use chain_types::{AccountId, Balance, Channel, ChannelId, Payload, ReserveRequest};
use rand::RngCore;
use serde_json::json;

use super::{Surroundings, account::cost, progress, sut};
use crate::now_ms;

/// A pool that was forgotten is closed by anybody after this many blocks, and its rest comes back.
const EXPIRES_BLOCKS: u64 = 86_400;
/// How long a relay can count on its reserve.
const RESERVE_BLOCKS: u64 = 1800;
/// Between two looks at a window that is not over.
const WINDOW_POLL: Duration = Duration::from_millis(500);

pub fn open(
    around: &Surroundings,
    deposit: Balance,
    relay: Option<AccountId>,
    reserve: Option<Balance>,
) -> anyhow::Result<()> {
    let key = around.key()?;
    let payer = AccountId::from(&key);
    let chain = around.chain()?;
    let pools = around.pools(&chain)?;
    let least = chain.params()?.deposit_min();
    if deposit < least {
        bail!("a pool holds at least {} on this chain", sut(least));
    }
    let height = chain.height()?;
    let reserves: Vec<ReserveRequest> = relay
        .map(|payee| {
            let until_height = height.saturating_add(RESERVE_BLOCKS);
            ReserveRequest { payee, amount: reserve.unwrap_or(deposit), until_height }
        })
        .into_iter()
        .collect();
    let nonce = chain.next_nonce(&payer)?;
    let expires_height = height.saturating_add(EXPIRES_BLOCKS);
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let draft = Pool::draft(payer, nonce, seed, deposit, expires_height);
    let channel = draft.channel;
    let mut pool = pools.create(&draft)?;
    let voucher_key = draft.voucher_key();
    let payload = Payload::OpenChannel { deposit, voucher_key, expires_height, reserves };
    let done = match chain.submit_with_nonce(&key, nonce, payload, progress) {
        Ok(done) => done,
        Err(error) => {
            // Only what can never be in a block is forgotten.
            match error {
                SubmitError::Funds { .. }
                | SubmitError::Refused { .. }
                | SubmitError::Failed { .. } => {
                    drop(pool);
                    pools.forget(&channel)?;
                }
                SubmitError::Lost(_) | SubmitError::Rpc(_) => {}
            }
            return Err(error.into());
        }
    };
    let record = chain.channel(&channel)?;
    pool.follow(&record.context("the chain does not show the pool that it opened")?)?;
    println!("pool {channel} holds {}", sut(deposit));
    cost(&done);
    Ok(())
}

pub fn top_up(
    around: &Surroundings,
    amount: Balance,
    channel: Option<ChannelId>,
) -> anyhow::Result<()> {
    let key = around.key()?;
    let chain = around.chain()?;
    let pools = around.pools(&chain)?;
    let entry = choose(&chain, &AccountId::from(&key), channel)?;
    if let Some(lost) = pools.lost([&entry.id])?.first() {
        bail!("the sums of {} are not on this disk: close it, and open another one", lost.0);
    }
    let payload = Payload::TopUp { channel: entry.id, amount, reserves: Vec::new() };
    let done = chain.submit(&key, payload, progress)?;
    let record = chain.channel(&entry.id)?.context("the chain has lost the pool")?;
    // Who watches from it now follows the chain itself.
    if let Ok(mut pool) = pools.pay_from(&entry.id) {
        pool.follow(&record)?;
    }
    println!("pool {} holds {}", entry.id, sut(record.deposits.saturating_sub(record.redeemed)));
    cost(&done);
    Ok(())
}

pub fn close(around: &Surroundings, channel: Option<ChannelId>, wait: bool) -> anyhow::Result<()> {
    let key = around.key()?;
    let chain = around.chain()?;
    let pools = around.pools(&chain)?;
    let ChannelEntry { id, channel } = choose(&chain, &AccountId::from(&key), channel)?;
    let record = match channel.close_requested {
        Some(_) => channel,
        None => {
            let done = chain.submit(&key, Payload::RequestClose { channel: id }, progress)?;
            cost(&done);
            chain.channel(&id)?.context("the chain has lost the pool")?
        }
    };
    if let Ok(mut pool) = pools.pay_from(&id) {
        pool.follow(&record)?;
    }
    let params = chain.params()?;
    let request = record.close_requested.context("the chain shows no request to close")?;
    let end_height = request.height.saturating_add(params.close_window_blocks);
    let end_ms = request.time_ms.saturating_add(params.close_window_ms);
    loop {
        let now = chain.rpc().status()?;
        if now.height >= end_height && now.time_ms >= end_ms {
            break;
        }
        let blocks = end_height.saturating_sub(now.height);
        let seconds = end_ms.saturating_sub(now.time_ms).div_ceil(1000);
        let left = format!("{blocks} blocks and {seconds} s until the window of relays ends");
        if !wait {
            println!("pool {id} closes: {left}; then `sutantra-node wallet close` again");
            return Ok(());
        }
        eprintln!("{left}");
        thread::sleep(WINDOW_POLL);
    }
    let record = chain.channel(&id)?.context("the chain has lost the pool")?;
    let rest = record.deposits.saturating_sub(record.redeemed);
    match record.closed {
        // Anybody may finalize: somebody was faster.
        true => eprintln!("finalized already"),
        false => cost(&chain.submit(&key, Payload::Finalize { channel: id }, progress)?),
    }
    pools.forget(&id)?;
    println!("pool {id} is closed, {} came back", sut(rest));
    Ok(())
}

/// The pool that is meant: by its id, or the only one that is not closed.
fn choose(
    chain: &Chain,
    payer: &AccountId,
    channel: Option<ChannelId>,
) -> anyhow::Result<ChannelEntry> {
    let mut open: Vec<ChannelEntry> = chain
        .channels_of(payer)?
        .into_iter()
        .filter(|entry| !entry.channel.closed && channel.is_none_or(|id| id == entry.id))
        .collect();
    match (open.pop(), open.len(), channel) {
        (Some(entry), 0, _) => Ok(entry),
        (None, _, Some(id)) => bail!("this account has no open pool {id} on {}", chain.id()),
        (None, _, None) => {
            bail!("there is no pool: open one with `sutantra-node wallet open --deposit SUT`")
        }
        (Some(_), more, _) => {
            bail!("there are {} pools: say which with --pool (`wallet pools` lists them)", more + 1)
        }
    }
}

pub fn list(around: &Surroundings, json: bool) -> anyhow::Result<()> {
    let account = around.account()?;
    let chain = around.chain()?;
    let height = chain.height()?;
    let known: Vec<Pool> = around.pools(&chain)?.list()?.into_iter().flatten().collect();
    let entries = chain.channels_of(&account)?;
    for ChannelEntry { id, channel } in entries.iter().filter(|entry| !entry.channel.closed) {
        let pool = known.iter().find(|pool| pool.channel == *id);
        let signed = pool.map(Pool::signed);
        let state = state_of(channel, height);
        if json {
            let line = json!({
                "channel": id,
                "state": state,
                "deposits": channel.deposits,
                "redeemed": channel.redeemed,
                "signed": signed,
                "left": signed.map(|signed| channel.deposits.saturating_sub(signed)),
                "expires_height": channel.expires_height,
                "reserves": channel.reserves,
                "sums_lost": pool.is_none(),
            });
            println!("{line}");
            continue;
        }
        print!("{id}  {state}, {} in, {} redeemed", sut(channel.deposits), sut(channel.redeemed));
        match signed {
            Some(signed) => {
                let left = channel.deposits.saturating_sub(signed);
                println!(", {} signed, {} left", sut(signed), sut(left));
            }
            None => {
                println!("; what was signed from it is not on this disk: it is not used, close it")
            }
        }
    }
    let is_unknown = |pool: &&Pool| entries.iter().all(|entry| entry.id != pool.channel);
    for pool in known.iter().filter(is_unknown) {
        if pool.state == PoolState::Opening && !json {
            println!("{}  opening: the chain has no block with it yet", pool.channel);
        }
    }
    if entries.iter().all(|entry| entry.channel.closed) && !json {
        println!("no pool: open one with `sutantra-node wallet open --deposit SUT`");
    }
    Ok(())
}

fn state_of(channel: &Channel, height: u64) -> &'static str {
    match (channel.closed, channel.close_requested, channel.is_open(height)) {
        (true, ..) => "closed",
        (false, Some(_), _) => "closing",
        (false, None, true) => "open",
        (false, None, false) => "expired",
    }
}

/// A pool to pay from: the one that is named, else one with money that nobody else pays from, best
/// one whose money is kept for `payee`. What the chain says of it is taken over.
pub fn to_pay_from(
    chain: &Chain,
    pools: &Pools,
    payer: &AccountId,
    payee: &AccountId,
    named: Option<ChannelId>,
) -> anyhow::Result<::wallet::OpenPool> {
    let height = chain.height()?;
    let mut entries = chain.channels_of(payer)?;
    entries.retain(|entry| match named {
        Some(id) => entry.id == id,
        None => entry.channel.is_open(height),
    });
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.channel.reserve_of(payee, height)));
    let mut why_not = None;
    for ChannelEntry { id, channel } in &entries {
        match pools.pay_from(id) {
            Ok(mut pool) => {
                pool.follow(channel)?;
                if !pool.pool().left().is_zero() || named.is_some() {
                    return Ok(pool);
                }
                why_not = Some(anyhow::anyhow!("the pool {id} is used up: top it up"));
            }
            Err(error) => why_not = Some(error.into()),
        }
    }
    Err(why_not.unwrap_or_else(|| {
        anyhow::anyhow!(
            "there is no open pool to pay from: open one with `sutantra-node wallet open --deposit SUT --for {payee}`"
        )
    }))
}

pub fn caps(
    around: &Surroundings,
    per_stream: Option<Balance>,
    per_day: Option<Balance>,
) -> anyhow::Result<()> {
    let chain = around.chain()?;
    let ledger = around.pools(&chain)?.ledger();
    let mut caps = ledger.caps()?;
    caps.per_stream = per_stream.unwrap_or(caps.per_stream);
    caps.per_day = per_day.unwrap_or(caps.per_day);
    if per_stream.is_some() || per_day.is_some() {
        ledger.set_caps(caps)?;
    }
    let today = ledger.spent_today(now_ms())?;
    println!("{} a stream and {} in all on one day (UTC)", sut(caps.per_stream), sut(caps.per_day));
    println!("{} signed today on {}", sut(today), chain.id());
    Ok(())
}
