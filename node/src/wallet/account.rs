//! The account: its words, its money, the faucet.

use std::io::{IsTerminal, Read};

use ::wallet::{Included, http::Request, seed_of, words_of};
use anyhow::{Context as _, bail};
use chain_types::{AccountId, Balance, Payload};
use rand::RngCore;
use serde_json::{Value, json};

use super::{Surroundings, progress, said, sut};

/// Longest text that is read as 24 words.
const WORDS_BYTES_MAX: u64 = 4096;

pub fn create(around: &Surroundings) -> anyhow::Result<()> {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let account = around.keystore.create(&seed)?;
    println!("{}\n", words_of(&seed));
    println!("Write these 24 words down, on paper, now: whoever has them has the money, and");
    println!("nobody can give them back to you. They work in the browser's wallet as well.\n");
    println!("account {account}");
    Ok(())
}

pub fn words(around: &Surroundings, yes: bool) -> anyhow::Result<()> {
    if !yes && !std::io::stdout().is_terminal() {
        bail!("the words would go to something else than a terminal: say --yes if they may");
    }
    println!("{}", words_of(&around.key()?.to_bytes()));
    Ok(())
}

pub fn import(around: &Surroundings) -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        eprintln!("Type or paste the 24 words, then Enter and Ctrl-D:");
    }
    let mut text = String::new();
    std::io::stdin().take(WORDS_BYTES_MAX).read_to_string(&mut text).context("stdin")?;
    let account = around.keystore.create(&seed_of(&text)?)?;
    println!("account {account}");
    Ok(())
}

pub fn address(around: &Surroundings) -> anyhow::Result<()> {
    println!("{}", around.account()?);
    Ok(())
}

pub fn balance(around: &Surroundings, json: bool) -> anyhow::Result<()> {
    let account = around.account()?;
    let chain = around.chain()?;
    let known = chain.account(&account)?;
    let channels = chain.channels_of(&account)?;
    let open = channels.iter().filter(|entry| !entry.channel.closed);
    let held: Balance =
        open.map(|entry| entry.channel.deposits.saturating_sub(entry.channel.redeemed)).sum();
    if json {
        let pools = held;
        let record = json!({
            "account": account,
            "chain_id": chain.id(),
            "balance": known.balance,
            "nonce": known.nonce,
            "in_pools": pools,
        });
        println!("{record}");
        return Ok(());
    }
    println!("{} in the account, {} in pools", sut(known.balance), sut(held));
    if known.nonce == 0 && known.balance.is_zero() {
        println!(
            "{} does not know this account yet: fund it, on a development chain with `sutantra-node wallet faucet`",
            chain.id()
        );
    }
    Ok(())
}

pub fn faucet(around: &Surroundings) -> anyhow::Result<()> {
    let account = around.account()?;
    let url = around.relay.at("/api/faucet")?;
    let body = json!({ "account": account }).to_string();
    let headers = [("Content-Type", "application/json")];
    let answer = url.send(Request { method: "POST", headers: &headers, body: body.as_bytes() })?;
    if answer.status != 200 {
        bail!("{url} gives nothing (status {}): {}", answer.status, said(&answer));
    }
    let given: Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{url} answers something else than JSON"))?;
    let hash = given["hash"].as_str().unwrap_or_default().to_ascii_lowercase();
    let amount = given["amount"].as_str().and_then(|text| text.parse::<Balance>().ok());
    let (hash, amount): (AccountId, Balance) = match (hash.parse(), amount) {
        (Ok(hash), Some(amount)) => (hash, amount),
        _ => bail!("{url} names no transaction and amount: is it a relay of this version?"),
    };
    around.chain()?.wait_for(&hash.0)?;
    println!("{} for {account}", sut(amount));
    Ok(())
}

pub fn send(around: &Surroundings, to: AccountId, amount: Balance) -> anyhow::Result<()> {
    let key = around.key()?;
    let done = around.chain()?.submit(&key, Payload::Transfer { to, amount }, progress)?;
    println!("{} sent to {to}", sut(amount));
    cost(&done);
    Ok(())
}

/// What a transaction cost, on stderr: it is not the answer.
pub fn cost(done: &Included) {
    let Included { hash, height, fee, .. } = done;
    eprintln!("block {height}, fee {}, transaction {hash}", sut(*fee));
}
