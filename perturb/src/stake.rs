//! The manifest's stake steps: sent when they are due, and the validator set held against what each
//! expects two blocks later.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use chain_types::{
    AccountId, Balance, Payload, SigningKey, hex,
    staking::{Commission, possession_preimage},
    transaction_hash,
};
use comet::rpc::Client;
use ed25519_dalek::Signer as _;

use crate::{
    homes::Homes,
    load::{nonce, signed},
    manifest::{Action, Stake},
    world::{Incident, POLL, World, lock},
};

/// How long a step may take until it is in a block.
const BLOCK_MAX: Duration = Duration::from_secs(60);
/// How long it may take until a validator that is to be jailed is.
const JAIL_MAX: Duration = Duration::from_secs(180);
/// Between two attempts to send it.
const AGAIN: Duration = Duration::from_secs(2);
/// Validators of the engine's set act two blocks after the one that changed them.
const EFFECT_BLOCKS: u64 = 2;

/// Carries out all steps in order; what goes wrong is a violation.
pub fn run(world: &World) {
    for (number, step) in world.manifest.stakes.iter().enumerate() {
        while !world.is_due(step.at) {
            if world.is_ending() {
                return;
            }
            thread::sleep(POLL);
        }
        if let Err(error) = carry_out(world, step)
            && !world.is_violated()
        {
            world.violate(format!("stake step {} ({}): {error:#}", number + 1, about(step)));
            return;
        }
    }
}

fn about(step: &Stake) -> String {
    let mut text = format!("{} by {}", word(step.action), step.from);
    if let Some(amount) = step.amount {
        text.push_str(&format!(", {} SUT", amount.0.in_sut()));
    }
    if let Some(to) = &step.to {
        text.push_str(&format!(", {to}"));
    }
    text
}

fn word(action: Action) -> &'static str {
    match action {
        Action::CreateValidator => "create-validator",
        Action::Delegate => "delegate",
        Action::Undelegate => "undelegate",
        Action::Redelegate => "redelegate",
        Action::Unjail => "unjail",
        Action::Withdraw => "withdraw",
    }
}

fn carry_out(world: &World, step: &Stake) -> anyhow::Result<()> {
    let begun = Instant::now();
    let what = about(step);
    world.say(&format!("stake: {what}"));
    let index = world.manifest.index(&step.from).context("the manifest was checked")?;
    let operator = &world.homes.nodes[index].operator;
    let payload = payload(&world.homes, &world.manifest, step, index)?;
    let (height, code) = match step.action {
        Action::Unjail => unjail(world, index, operator, &payload)?,
        _ => send(world, operator, payload)?,
    };
    ensure!(
        code == 0,
        "the chain refuses it at height {height} with code {code}{}",
        log_of(world, height, operator)
    );
    let acts = height + EFFECT_BLOCKS;
    let is_there = world.wait(BLOCK_MAX, || world.height() >= acts);
    ensure!(is_there, "height {acts}, at which it acts, does not come");
    let mut notes = vec![format!("in block {height}")];
    for (name, power) in &step.expect {
        let node = world.manifest.index(name).context("the manifest was checked")?;
        let address = &world.homes.nodes[node].address;
        let set = any(world, |client| Ok(client.validators(acts)?))?;
        let found = set
            .iter()
            .find(|validator| validator.address.to_string() == *address)
            .map_or(0, |validator| validator.power.value());
        ensure!(
            found == *power,
            "{name} has the power {found} at height {acts}, and the manifest expects {power}"
        );
        notes.push(format!("{name} has power {power} at height {acts}"));
    }
    lock(&world.incidents).push(Incident {
        node: step.from.clone(),
        what: what.clone(),
        height,
        at_seconds: world.elapsed().as_secs_f64(),
        recovered_seconds: Some(begun.elapsed().as_secs_f64()),
        notes: notes.clone(),
    });
    world.say(&format!("stake: {what}: {}", notes.join("; ")));
    Ok(())
}

/// Who is to be let out must be in first, which takes blocks, not seconds, and have sat its time by the
/// chain's clock; until then it is refused, and asks again.
fn unjail(
    world: &World,
    index: usize,
    operator: &SigningKey,
    payload: &Payload,
) -> anyhow::Result<(u64, u32)> {
    let is_in = world.wait(JAIL_MAX, || world.happened(index, "validator_jailed", 0).is_some());
    ensure!(is_in, "it is not jailed within {} s", JAIL_MAX.as_secs());
    let begun = Instant::now();
    loop {
        let (height, code) = send(world, operator, payload.clone())?;
        if code == 0 || begun.elapsed() > BLOCK_MAX {
            return Ok((height, code));
        }
        thread::sleep(AGAIN);
    }
}

/// What the first node that answers says.
fn any<T>(world: &World, ask: impl Fn(&Client) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let begun = Instant::now();
    let mut failure = None;
    while begun.elapsed() < BLOCK_MAX && !world.is_closing() {
        for node in world.live() {
            match ask(&world.clients[node]) {
                Ok(answer) => return Ok(answer),
                Err(error) => failure = Some(error),
            }
        }
        thread::sleep(POLL);
    }
    match failure {
        Some(error) => Err(error),
        None => bail!("no node answers"),
    }
}

/// Sends until it is in a block; height and code there.
fn send(world: &World, key: &SigningKey, payload: Payload) -> anyhow::Result<(u64, u32)> {
    let account = AccountId::from(key);
    let nonce = any(world, |client| nonce(client, &account))?;
    let bytes = signed(world, key, nonce, payload);
    let hash = transaction_hash(&bytes);
    let begun = Instant::now();
    let mut refused = String::new();
    let mut sent_at: Option<Instant> = None;
    let since = world.height();
    while begun.elapsed() < BLOCK_MAX {
        let seen = lock(&world.ledger).since(since).find_map(|block| {
            let tx = block.txs.iter().find(|(found, _)| *found == hash)?;
            Some((block.height, tx.1?.code))
        });
        if let Some(seen) = seen {
            return Ok(seen);
        }
        if sent_at.is_none_or(|at| at.elapsed() > AGAIN) {
            sent_at = Some(Instant::now());
            for node in world.live() {
                match world.clients[node].broadcast_tx_sync(&bytes) {
                    Ok(answer) if answer.code != 0 => {
                        refused = format!("; CheckTx says {} (code {})", answer.log, answer.code);
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        thread::sleep(POLL);
    }
    bail!(
        "transaction {} is in no block after {} s{refused}",
        hex::text(&hash),
        BLOCK_MAX.as_secs()
    )
}

/// The application's words about the refused transaction of an account.
fn log_of(world: &World, height: u64, key: &SigningKey) -> String {
    let account = AccountId::from(key);
    let at = lock(&world.ledger).block(height).and_then(|block| {
        block.txs.iter().position(|(_, seen)| seen.is_some_and(|seen| seen.signer == account))
    });
    let log = at.and_then(|at| {
        let results = any(world, |client| Ok(client.block_results(Some(height))?)).ok()?;
        results.tx_results.get(at).map(|result| format!(" ({})", result.log))
    });
    log.unwrap_or_default()
}

fn payload(
    homes: &Homes,
    manifest: &crate::manifest::Manifest,
    step: &Stake,
    from: usize,
) -> anyhow::Result<Payload> {
    let own = homes.nodes[from].account();
    let to = match &step.to {
        Some(name) => {
            let index = manifest.index(name).context("the manifest was checked")?;
            homes.nodes[index].account()
        }
        None => own,
    };
    let amount = step.amount.map_or(Balance::ZERO, |sut| sut.0);
    Ok(match step.action {
        Action::CreateValidator => {
            let home = &homes.nodes[from];
            Payload::CreateValidator {
                consensus_key: AccountId::from(&home.validator),
                possession: home
                    .validator
                    .sign(possession_preimage(&own, &homes.chain_id).as_slice())
                    .to_bytes(),
                moniker: home.name.clone(),
                website: String::new(),
                commission: Commission { bps: 500, max_bps: 2_000, step_bps: 100 },
                self_delegation: amount,
            }
        }
        Action::Delegate => Payload::Delegate { validator: to, amount },
        Action::Undelegate => Payload::Undelegate { validator: to, amount },
        Action::Redelegate => Payload::Redelegate { from: own, to, amount },
        Action::Unjail => Payload::Unjail,
        Action::Withdraw => Payload::WithdrawRewards { validator: to },
    })
}
