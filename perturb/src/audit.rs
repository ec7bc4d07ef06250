//! What is looked at when the load has ended: every height of every node anew, every acknowledged
//! transaction, every unit of money, the validators of application and engine.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chain_types::hex;
use comet::rpc::Client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    history::Chain,
    ledger::Ledger,
    watch,
    world::{World, lock, query},
};

/// Breaches of one node that are told one by one.
const BREACHES_MAX: usize = 5;
/// Heights at which the engine's set is held against the application's changes, at most.
const SETS_MAX: usize = 400;
/// A height that was listed a moment ago is executed within this time.
const READ_MAX: Duration = Duration::from_secs(10);

/// What was looked at.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Audited {
    /// Up to this height.
    pub height: u64,
    /// Heights of each node that were read.
    pub heights_by_node: BTreeMap<String, u64>,
    /// Answers that were the same as another node's.
    pub answers_compared: u64,
    /// Transactions that were looked for on each node.
    pub acknowledged: usize,
    /// Of these, done.
    pub acknowledged_done: usize,
    /// Changes of the validator set that were held against the set two heights later.
    pub sets_compared: u64,
    /// Units that the chain began with, found again in full on each node.
    pub supply_units: String,
    /// Where they are, on the first node.
    pub supply: BTreeMap<String, String>,
}

/// Looks at everything on the nodes given; what is wrong is a violation.
pub fn run(world: &World, nodes: &[usize]) -> Audited {
    let height = world.height();
    let since = Instant::now();
    let mut audited = Audited { height, ..Audited::default() };
    let within = world.manifest.chain.recover_within.0;
    for node in nodes {
        if !world.wait(within, || world.is_at(*node, height, since)) {
            let at = world
                .sight(*node)
                .map_or("nobody knows which".to_owned(), |s| s.height.to_string());
            world.violate(format!(
                "{} is at height {at} at the end, and the others are at {height}",
                world.names[*node]
            ));
        }
    }
    let ledger = Mutex::new(Ledger::default());
    let chains: Vec<(usize, anyhow::Result<Chain>)> = thread::scope(|scope| {
        let readers: Vec<_> = nodes
            .iter()
            .map(|node| (*node, scope.spawn(|| read_all(world, *node, height, &ledger))))
            .collect();
        let join = |reader: thread::ScopedJoinHandle<'_, _>| {
            reader.join().unwrap_or_else(|_| Err(anyhow::anyhow!("its reader panicked")))
        };
        readers.into_iter().map(|(node, reader)| (node, join(reader))).collect()
    });
    let history = lock(&world.history);
    (audited.acknowledged, audited.acknowledged_done) = (history.len(), history.done());
    for (node, chain) in chains {
        let name = &world.names[node];
        match chain {
            Ok(chain) => {
                audited.heights_by_node.insert(name.clone(), chain.len() as u64);
                let breaches = history.check(&chain);
                for breach in breaches.iter().take(BREACHES_MAX) {
                    world.violate(format!("on {name}, {breach}"));
                }
                if breaches.len() > BREACHES_MAX {
                    world.violate(format!("on {name}, {} breaches in all", breaches.len()));
                }
            }
            Err(error) => world.violate(format!("{name} does not show all its blocks: {error:#}")),
        }
    }
    drop(history);
    audited.answers_compared = lock(&ledger).compared;
    for (at, node) in nodes.iter().enumerate() {
        match supply(world, *node) {
            Ok((genesis, parts)) => {
                if at == 0 {
                    audited.supply_units = genesis.to_string();
                    let text = |(name, units): (&str, u128)| (name.to_owned(), units.to_string());
                    audited.supply = parts.into_iter().map(text).collect();
                }
            }
            Err(error) => world.violate(format!("supply on {}: {error:#}", world.names[*node])),
        }
    }
    // Who has all blocks shows every change of the set.
    let full =
        nodes.iter().find(|node| world.sight(**node).is_some_and(|sight| sight.earliest <= 1));
    if let Some(node) = full {
        match sets(world, *node, height) {
            Ok(compared) => audited.sets_compared = compared,
            Err(error) => world.violate(format!("validators on {}: {error:#}", world.names[*node])),
        }
    }
    for node in nodes {
        if let Err(error) = same_validators(world, *node) {
            world.violate(format!("validators on {}: {error:#}", world.names[*node]));
        }
    }
    audited
}

fn read_all(world: &World, node: usize, to: u64, ledger: &Mutex<Ledger>) -> anyhow::Result<Chain> {
    let client = &world.clients[node];
    let from = client.status()?.earliest_height.max(1);
    let mut chain = Chain::new();
    for height in from..=to {
        let mut block = None;
        let is_read = world.wait(READ_MAX, || {
            block = watch::read(client, height);
            block.is_some()
        });
        let block = block.filter(|_| is_read).with_context(|| format!("height {height}"))?;
        chain.insert(height, block.txs.iter().map(|(hash, _)| *hash).collect());
        lock(ledger).note(node, block, &world.names).map_err(anyhow::Error::msg)?;
    }
    Ok(chain)
}

/// Units: a decimal text.
fn units(value: &Value) -> anyhow::Result<u128> {
    let text = value.as_str().with_context(|| format!("{value} is no amount"))?;
    text.parse().with_context(|| format!("{text} is no amount"))
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What the chain began with, and where all of it is; both are equal.
fn supply(world: &World, node: usize) -> anyhow::Result<(u128, Vec<(&'static str, u128)>)> {
    let client = &world.clients[node];
    let money = query(client, "/supply")?;
    let (genesis, burned) = (units(&money["genesis"])?, units(&money["burned"])?);
    let current = units(&money["current"])?;
    ensure!(
        current.checked_add(burned) == Some(genesis),
        "current {current} and burned {burned} are not the {genesis} of the genesis"
    );
    let [mut accounts, mut channels, mut leaving] = [0u128; 3];
    for account in &world.homes.accounts {
        accounts += units(&query(client, &format!("/account/{account}"))?["balance"])?;
        for channel in each(&query(client, &format!("/channels/by-payer/{account}"))?) {
            if channel["closed"] != true {
                channels += units(&channel["deposits"])? - units(&channel["redeemed"])?;
            }
        }
        for delegation in each(&query(client, &format!("/delegations/{account}"))?) {
            let to_account = each(&delegation["leaving"]).filter(|left| left["to"].is_null());
            for left in to_account {
                leaving += units(&left["amount"])?;
            }
        }
    }
    let sum = |list: &Value, field: &str| {
        each(list).map(|entry| units(&entry[field])).sum::<anyhow::Result<u128>>()
    };
    let staked = sum(&query(client, "/validators")?, "tokens")?;
    let bonds = sum(&query(client, "/relays")?, "bond")?;
    let rewards = units(&money["rewards_held"])?;
    let fees = units(&money["fee_pool"])?;
    let parts = vec![
        ("accounts", accounts),
        ("channels", channels),
        ("relay bonds", bonds),
        ("staked", staked),
        ("leaving", leaving),
        ("rewards", rewards),
        ("fee pool", fees),
        ("burned", burned),
    ];
    let all: u128 = parts.iter().map(|(_, units)| units).sum();
    if query(client, "/supply")? != money {
        bail!("it changes while nothing is sent");
    }
    ensure!(
        all == genesis,
        "{all} units are there, and the chain began with {genesis}: {}",
        parts.iter().map(|(name, units)| format!("{name} {units}")).collect::<Vec<_>>().join(", ")
    );
    Ok((genesis, parts))
}

/// Address to power.
type Set = BTreeMap<String, u64>;

fn engine_set(client: &Client, height: u64) -> anyhow::Result<Set> {
    let set = client.validators(height)?;
    Ok(set.iter().map(|one| (one.address.to_string(), one.power.value())).collect())
}

/// Each change that the application returned at H acts at H + 2 and not before; how many there were.
fn sets(world: &World, node: usize, to: u64) -> anyhow::Result<u64> {
    let client = &world.clients[node];
    let mut expected = engine_set(client, 1)?;
    let mut changes = Vec::new();
    for height in 1..to.saturating_sub(2) {
        let results: Value = client.call("block_results", json!({"height": height.to_string()}))?;
        let updates: Vec<(String, u64)> =
            each(&results["validator_updates"]).map(update).collect::<anyhow::Result<_>>()?;
        if !updates.is_empty() {
            changes.push((height, updates));
        }
    }
    let step = changes.len().div_ceil(SETS_MAX).max(1);
    let mut compared = 0;
    for (at, (height, updates)) in changes.iter().enumerate() {
        let is_sampled = at % step == 0 || at + 1 == changes.len();
        let is_alone = at == 0 || changes[at - 1].0 + 1 < *height;
        if is_sampled && is_alone {
            let before = engine_set(client, height + 1)?;
            ensure!(
                before == expected,
                "at height {} the engine's set is {before:?} and the application's {expected:?}",
                height + 1
            );
        }
        for (address, power) in updates {
            match power {
                0 => expected.remove(address),
                power => expected.insert(address.clone(), *power),
            };
        }
        if is_sampled {
            let after = engine_set(client, height + 2)?;
            ensure!(
                after == expected,
                "at height {} the engine's set is {after:?}, and the application's changes until \
                 height {height} make it {expected:?}",
                height + 2
            );
            compared += 1;
        }
    }
    Ok(compared)
}

/// A `ValidatorUpdate` as CometBFT's JSON has it.
fn update(value: &Value) -> anyhow::Result<(String, u64)> {
    let key = value["pub_key"]["Sum"]["value"]["ed25519"].as_str();
    let key = key.and_then(|text| BASE64.decode(text).ok());
    let key = key.with_context(|| format!("{value} names no ed25519 key"))?;
    let address = hex::text(&Sha256::digest(key)[..20]).to_uppercase();
    let power = match &value["power"] {
        Value::Null => 0,
        power => power.as_str().and_then(|text| text.parse().ok()).context("a power")?,
    };
    Ok((address, power))
}

/// The application's validators that vote are the engine's, with the same powers.
fn same_validators(world: &World, node: usize) -> anyhow::Result<()> {
    let client = &world.clients[node];
    let mut difference = String::new();
    let is_same = world.wait(READ_MAX, || {
        let attempt = || -> anyhow::Result<(Set, Set)> {
            let own = query(client, "/validators")?;
            let voting = each(&own).filter(|one| one["status"] == "voting");
            let own = voting.map(|one| {
                let address = one["address"].as_str().context("an address")?.to_owned();
                let power = one["power"].as_str().context("a power")?.parse()?;
                Ok((address, power))
            });
            let own = own.collect::<anyhow::Result<Set>>()?;
            let newest = client.status()?.latest_height;
            Ok((own, engine_set(client, newest)?))
        };
        match attempt() {
            Ok((own, engine)) if own == engine => true,
            Ok((own, engine)) => {
                difference = format!("the application says {own:?}, the engine {engine:?}");
                false
            }
            Err(error) => {
                difference = format!("{error:#}");
                false
            }
        }
    });
    ensure!(is_same, "{difference}");
    Ok(())
}
