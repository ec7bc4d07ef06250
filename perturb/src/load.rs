//! The load: accounts that each have one transaction on its way, sent to whichever node answers, and
//! sent again, byte for byte, until it is seen in a block.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use chain_types::{
    AccountId, Balance, ChannelId, Payload, Policy, Price, SigningKey, SplitShares,
    TransactionBody, transaction_hash,
};
use comet::rpc::Client;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    history::Hash,
    manifest::{Kind, Load, Manifest},
    world::{World, lock, query},
};

/// Threads that send.
pub const SENDERS: u32 = 4;
/// Unseen for so long, it is sent again to another node: a pool may have died with its node.
const AGAIN: Duration = Duration::from_secs(8);
/// Refused so often, and not in a block: it is given up.
const REFUSALS_MAX: u32 = 5;
/// After the end of the run, what is on its way is waited for.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// Nothing can be sent now, or a slot has not come.
const PAUSE: Duration = Duration::from_millis(20);
/// Blocks that a channel of the load lives.
const CHANNEL_BLOCKS: u64 = 100_000;

/// What an account of the load stakes: 1 SUT, a unit of power.
const STAKE: Balance = Balance::of(1_000_000_000);

/// What was sent, all threads together.
#[derive(Debug, Default)]
pub struct Counters {
    /// Different transactions.
    pub sent: AtomicU64,
    /// The same bytes once more.
    pub sent_again: AtomicU64,
    /// Seen in a block.
    pub seen: AtomicU64,
    /// Of these, with a code other than 0.
    pub seen_refused: AtomicU64,
    /// Given up: CheckTx refused them.
    pub given_up: AtomicU64,
    /// On their way when waiting ended.
    pub unanswered: AtomicU64,
}

/// An account, and what it has on its way.
struct Sender {
    key: SigningKey,
    id: AccountId,
    nonce: u64,
    /// The chain has to be asked for the nonce.
    is_unsure: bool,
    channel: Option<ChannelId>,
    stakes: BTreeSet<AccountId>,
    on_its_way: Option<OnItsWay>,
}

struct OnItsWay {
    hash: Hash,
    bytes: Vec<u8>,
    payload: Payload,
    sent_at: Instant,
    refusals: u32,
}

/// Sends one thread's share until the run ends, then waits for what is on its way.
pub fn run(world: &World, load: &Load, thread: u32, counters: &Counters) {
    let mut rng = StdRng::seed_from_u64(world.manifest.chain.seed ^ (u64::from(thread) << 32));
    let mut senders: Vec<Sender> = world
        .homes
        .bank
        .iter()
        .skip(thread as usize)
        .step_by(SENDERS as usize)
        .map(|key| Sender {
            key: key.clone(),
            id: AccountId::from(key),
            nonce: 0,
            is_unsure: false,
            channel: None,
            stakes: BTreeSet::new(),
            on_its_way: None,
        })
        .collect();
    let targets = targets(&world.manifest, world);
    let pause = Duration::from_secs_f64(f64::from(SENDERS) / f64::from(load.tx_per_second));
    let (mut next_height, mut due) = (1, Instant::now());
    let mut ended: Option<Instant> = None;
    loop {
        settle(world, &mut senders, &mut next_height, counters);
        send_again(world, &mut senders, &mut rng, counters);
        if world.is_ending() {
            let since = *ended.get_or_insert_with(Instant::now);
            let left = senders.iter().filter(|sender| sender.on_its_way.is_some()).count();
            if left == 0 || since.elapsed() > DRAIN_MAX || world.is_violated() {
                counters.unanswered.fetch_add(left as u64, Ordering::Relaxed);
                return;
            }
            thread::sleep(PAUSE);
            continue;
        }
        let now = Instant::now();
        if now < due || world.height() < 2 {
            thread::sleep(
                PAUSE.min(due.saturating_duration_since(now)).max(Duration::from_millis(1)),
            );
            continue;
        }
        // What could not be sent while nobody answered is not made up for in a burst.
        due = (due + pause).max(now);
        let idle: Vec<usize> =
            (0..senders.len()).filter(|at| senders[*at].on_its_way.is_none()).collect();
        let (Some(at), Some(client)) = (idle.choose(&mut rng), random_live(world, &mut rng)) else {
            continue;
        };
        let peer = world.homes.bank.choose(&mut rng).map(AccountId::from);
        let kind = load.kinds.choose(&mut rng).copied().unwrap_or(Kind::Transfer);
        let sender = &mut senders[*at];
        if sender.is_unsure {
            let Ok(known) = nonce(client, &sender.id) else { continue };
            (sender.nonce, sender.is_unsure) = (known, false);
        }
        let payload =
            sender.payload(kind, peer.unwrap_or(sender.id), &targets, world.height(), &mut rng);
        let bytes = signed(world, &sender.key, sender.nonce, payload.clone());
        let hash = transaction_hash(&bytes);
        counters.sent.fetch_add(1, Ordering::Relaxed);
        sender.on_its_way =
            Some(OnItsWay { hash, bytes, payload, sent_at: Instant::now(), refusals: 0 });
        sender.offer(client, counters);
    }
}

/// Validators that the load may stake with: those whose power no step of the manifest expects.
fn targets(manifest: &Manifest, world: &World) -> Vec<AccountId> {
    let expected: BTreeSet<&String> =
        manifest.stakes.iter().flat_map(|step| step.expect.keys()).collect();
    let copied: BTreeSet<&String> =
        manifest.nodes.iter().filter_map(|node| node.key_of.as_ref()).collect();
    let nodes = manifest.nodes.iter().zip(&world.homes.nodes);
    nodes
        .filter(|(node, _)| Manifest::is_first(node))
        .filter(|(node, _)| !expected.contains(&node.name) && !copied.contains(&node.name))
        .map(|(_, home)| home.account())
        .collect()
}

fn random_live<'a>(world: &'a World, rng: &mut StdRng) -> Option<&'a Client> {
    world.live().choose(rng).map(|node| &world.clients[*node])
}

/// Signed, with the least fee.
pub fn signed(world: &World, key: &SigningKey, nonce: u64, payload: Payload) -> Vec<u8> {
    let mut body = TransactionBody {
        signer: AccountId::from(key),
        fee_payer: None,
        nonce,
        valid_until_height: 0,
        fee: Balance::ZERO,
        payload,
    };
    body.fee = world.homes.params.fee_min(&body.payload, body.signed_len_bytes());
    body.sign(key, &world.homes.chain_id).encode()
}

/// Takes what was seen in blocks since the last look.
fn settle(world: &World, senders: &mut [Sender], next: &mut u64, counters: &Counters) {
    let ledger = lock(&world.ledger);
    let mut seen: BTreeMap<Hash, u32> = BTreeMap::new();
    for block in ledger.since(*next) {
        // Blocks are read by several threads: a gap is filled in a moment.
        if block.height != *next {
            break;
        }
        *next += 1;
        for (hash, what) in &block.txs {
            if let Some(what) = what {
                seen.insert(*hash, what.code);
            }
        }
    }
    drop(ledger);
    if seen.is_empty() {
        return;
    }
    for sender in senders {
        let Some(code) = sender.on_its_way.as_ref().and_then(|sent| seen.get(&sent.hash)) else {
            continue;
        };
        let Some(sent) = sender.on_its_way.take() else { continue };
        counters.seen.fetch_add(1, Ordering::Relaxed);
        if *code != 0 {
            counters.seen_refused.fetch_add(1, Ordering::Relaxed);
        }
        sender.settled(sent.payload, *code);
    }
}

/// Offers to another node what was not seen for long.
fn send_again(world: &World, senders: &mut [Sender], rng: &mut StdRng, counters: &Counters) {
    for sender in senders {
        let is_old = sender.on_its_way.as_ref().is_some_and(|sent| sent.sent_at.elapsed() > AGAIN);
        if !is_old {
            continue;
        }
        let Some(client) = random_live(world, rng) else { return };
        counters.sent_again.fetch_add(1, Ordering::Relaxed);
        sender.offer(client, counters);
    }
}

impl Sender {
    fn offer(&mut self, client: &Client, counters: &Counters) {
        let Some(sent) = &mut self.on_its_way else { return };
        sent.sent_at = Instant::now();
        match client.broadcast_tx_sync(&sent.bytes) {
            Ok(answer) if answer.code != 0 => sent.refusals += 1,
            // Taken, known already, or nobody there: the blocks will tell, or it is sent again.
            Ok(_) | Err(_) => return,
        }
        if sent.refusals < REFUSALS_MAX {
            return;
        }
        // Refused by several nodes: either it is in a block that is not read yet, or it never will.
        let Ok(nonce) = nonce(client, &self.id) else { return };
        if nonce == self.nonce {
            counters.given_up.fetch_add(1, Ordering::Relaxed);
            self.on_its_way = None;
        }
    }

    /// What is known after a transaction was seen in a block.
    fn settled(&mut self, payload: Payload, code: u32) {
        let nonce = self.nonce;
        self.nonce += 1;
        if code != 0 {
            // What fails before it is charged for costs no nonce.
            self.is_unsure = true;
            self.channel = None;
            return;
        }
        match payload {
            Payload::OpenChannel { .. } => self.channel = Some(ChannelId::of(&self.id, nonce)),
            Payload::Delegate { validator, .. } => {
                self.stakes.insert(validator);
            }
            Payload::Undelegate { validator, .. } => {
                self.stakes.remove(&validator);
            }
            _ => {}
        }
    }

    fn payload(
        &self,
        kind: Kind,
        peer: AccountId,
        targets: &[AccountId],
        height: u64,
        rng: &mut StdRng,
    ) -> Payload {
        let transfer = |rng: &mut StdRng| Payload::Transfer {
            to: peer,
            amount: Balance::of(rng.random_range(1..1_000_000)),
        };
        match kind {
            Kind::Transfer => transfer(rng),
            Kind::Stream => Payload::RegisterStream {
                title: format!("stream {}", self.nonce),
                policy: Policy::Paid,
                price: Price {
                    rate_per_second: rng.random_range(1..1_000_000),
                    tier_bps: [2_500, 5_000, 10_000],
                    ticket_price: Balance::of(2_000_000_000),
                    ticket_ms: 3_600_000,
                },
                split: SplitShares { creator_bps: 7_000, origin_bps: 1_000 },
                origin_relay: None,
                issuers: Vec::new(),
                codecs: vec!["VP8".to_owned(), "opus".to_owned()],
                ext: BTreeMap::new(),
            },
            Kind::Channel => match self.channel {
                None => Payload::OpenChannel {
                    deposit: Balance::of(rng.random_range(10_000_000..1_000_000_000)),
                    voucher_key: self.id,
                    expires_height: height + CHANNEL_BLOCKS,
                    reserves: Vec::new(),
                },
                Some(channel) => Payload::TopUp {
                    channel,
                    amount: Balance::of(rng.random_range(1_000..1_000_000)),
                    reserves: Vec::new(),
                },
            },
            Kind::Stake => {
                let own: Vec<AccountId> = self.stakes.iter().copied().collect();
                match (own.choose(rng), targets.choose(rng)) {
                    (Some(validator), _) if rng.random_bool(0.5) => {
                        Payload::WithdrawRewards { validator: *validator }
                    }
                    (Some(validator), _) => {
                        Payload::Undelegate { validator: *validator, amount: STAKE }
                    }
                    // So little that nobody's absence is felt more than the manifest means.
                    (None, Some(validator)) => {
                        Payload::Delegate { validator: *validator, amount: STAKE }
                    }
                    (_, None) => transfer(rng),
                }
            }
        }
    }
}

/// The nonce of an account's next transaction.
///
/// # Errors
/// Nobody answers.
pub fn nonce(client: &Client, account: &AccountId) -> anyhow::Result<u64> {
    let record = query(client, &format!("/account/{account}"))?;
    let nonce = record["nonce"].as_u64();
    let nonce = nonce.or_else(|| record["nonce"].as_str().and_then(|text| text.parse().ok()));
    nonce.ok_or_else(|| anyhow::anyhow!("an account without a nonce: {record}"))
}
