//! From what happens to the order for a gate, through the threads that a node has; blocks on the way.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use chain_types::{
    Balance, ChannelId, Frame, Payload, PaymentStatus, Policy, Price, ReserveRequest, SplitShares,
    StreamId,
};
use sfu::ports::{Gate, SessionKey};

use super::{
    figures::{Row, Samples, threads_queued_ns},
    viewer::{CREATOR, DEPOSIT, GRACE_MS, RATE, RELAY, RESERVE, Viewer, account},
    world::{CHAIN_THREADS, MONEY_THREADS, World},
};

/// Sends transfers, and pays in the last part.
const PAYER: u64 = 1;
/// First of those on the list.
const LISTED: u64 = 100;
/// An hour, ms.
const HOUR_MS: u64 = 3_600_000;
/// Transactions of one account that may wait for a block.
const WAITING_MAX: usize = 32;

/// How many of each.
pub struct Counts {
    pub vouchers: u64,
    pub blocks: u64,
}

/// Blocks of the sequential transfers.
pub struct BlockRate {
    pub blocks: u64,
    pub span: Duration,
}

/// Measures all, on a new chain under `parent`.
pub fn run(
    parent: &Path,
    min_block_interval: Duration,
    counts: &Counts,
    rows: &mut Vec<Row>,
) -> anyhow::Result<BlockRate> {
    let mut world = World::start(parent, min_block_interval, &[RELAY, CREATOR, PAYER])?;
    let rate = transfers(&mut world, counts.blocks, rows)?;
    rows.push(vouchers(&mut world, counts.vouchers)?);
    grants_and_revokes(&mut world, counts.blocks, rows)?;
    Ok(rate)
}

/// Each after the one before it is in a block.
fn transfers(world: &mut World, count: u64, rows: &mut Vec<Row>) -> anyhow::Result<BlockRate> {
    let mut samples = Samples::default();
    let queued = Queued::of(&CHAIN_THREADS);
    let (first, begin) = (world.height(), Instant::now());
    for _ in 0..count {
        let amount = Balance::of(1_000);
        let done = world.transact(PAYER, Payload::Transfer { to: account(CREATOR), amount })?;
        samples.add(done.handed - done.submitted);
    }
    let blocks = world.height().saturating_sub(first);
    let what = "a transfer submitted -> in a committed block";
    rows.push(Row { what, clock: "wall", samples, queued_ns: queued.since() });
    Ok(BlockRate { blocks, span: begin.elapsed() })
}

/// Each raises what is paid by a second, and so moves the gate's deadline.
fn vouchers(world: &mut World, count: u64) -> anyhow::Result<Row> {
    let stream = register(world, Policy::Paid)?;
    let channel = ChannelId::of(&account(PAYER), world.sent(PAYER));
    let viewer = Viewer { channel, ..Viewer::new(PAYER) };
    let amount = Balance::of(RESERVE);
    let reserve = ReserveRequest { payee: account(RELAY), amount, until_height: 100_000 };
    let open = Payload::OpenChannel {
        deposit: Balance::of(DEPOSIT),
        voucher_key: viewer.account,
        expires_height: 1_000_000,
        reserves: vec![reserve],
    };
    world.transact(PAYER, open)?;
    world.followed()?;
    let terms = world.terms(stream)?;
    let session = SessionKey(PAYER);
    world.begin(viewer.paying(&terms)?, session)?;
    let mut samples = Samples::default();
    let queued = Queued::of(&MONEY_THREADS);
    for second in 1..=count {
        let cumulative = terms.min_prepay.units() + u128::from(second * RATE);
        let voucher = viewer.pay(&terms, cumulative)?;
        let bytes = Frame::Voucher(Box::new(voucher)).encode().into_boxed_slice();
        let sent = world.frame(session, bytes)?;
        // An order without this voucher gives a second less.
        let paid_ms = u64::try_from(cumulative * 1000 / u128::from(RATE))? + u64::from(GRACE_MS);
        let least = sent + Duration::from_millis(paid_ms - 500);
        let is_paid = |gate: &Gate| gate.open && gate.valid_until.is_some_and(|at| at >= least);
        samples.add(world.gate(session, is_paid)?.saturating_duration_since(sent));
    }
    let what = "a voucher in -> gate order out, through the threads";
    Ok(Row { what, clock: "wall", samples, queued_ns: queued.since() })
}

/// A longer right moves the deadline of an open gate; taking it back shuts it.
fn grants_and_revokes(world: &mut World, count: u64, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let stream = register(world, Policy::AllowList)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let now_ms = u64::try_from(now.as_millis())?;
    let grant = |who: u64, hours: u64| Payload::GrantAccess {
        stream,
        viewer: account(who),
        valid_until: now_ms + hours * HOUR_MS,
        payment_status: PaymentStatus::Free.code(),
        max_layer: u8::MAX,
    };
    let listed: Vec<u64> = (LISTED..LISTED + count).collect();
    for some in listed.chunks(WAITING_MAX) {
        let sent: Vec<_> = some
            .iter()
            .map(|who| world.submit(CREATOR, grant(*who, 1)))
            .collect::<Result<_, _>>()?;
        // They are in order: with the last all are there.
        world.included(*sent.last().context("a chunk has one at least")?)?;
    }
    let terms = world.terms(stream)?;
    world.followed()?;
    for who in &listed {
        world.begin(Viewer::new(*who).listed(&terms), SessionKey(*who))?;
    }
    let mut measure = |clause: [&'static str; 2],
                       fits: &dyn Fn(&Gate) -> bool,
                       payload: &dyn Fn(u64) -> Payload| {
        let (mut by_commit, mut by_submit) = (Samples::default(), Samples::default());
        let queued = [Queued::of(&MONEY_THREADS), Queued::of(&CHAIN_THREADS)];
        for who in &listed {
            let done = world.transact(CREATOR, payload(*who))?;
            let gate = world.gate(SessionKey(*who), fits)?;
            by_commit.add(gate.saturating_duration_since(done.handed));
            by_submit.add(gate.saturating_duration_since(done.submitted));
        }
        let queued_ns = queued.map(|queued| queued.since());
        let rows_of = clause.into_iter().zip([by_commit, by_submit]).zip(queued_ns);
        for ((what, samples), queued_ns) in rows_of {
            rows.push(Row { what, clock: "wall", samples, queued_ns });
        }
        anyhow::Ok(())
    };
    let what = ["a grant's Commit -> gate order out", "a grant submitted -> gate order out"];
    let later = Instant::now() + Duration::from_millis(HOUR_MS * 3 / 2);
    let is_longer = |gate: &Gate| gate.open && gate.valid_until.is_some_and(|at| at > later);
    measure(what, &is_longer, &|who| grant(who, 2))?;
    let what = ["a revoke's Commit -> gate order out", "a revoke submitted -> gate order out"];
    measure(what, &|gate| !gate.open, &|who| Payload::RevokeAccess { stream, viewer: account(who) })
}

fn register(world: &mut World, policy: Policy) -> anyhow::Result<StreamId> {
    let stream = StreamId::of(&account(CREATOR), world.sent(CREATOR));
    let price = Price {
        rate_per_second: RATE,
        tier_bps: [2_500, 5_000, 10_000],
        ticket_price: Balance::ZERO,
        ticket_ms: 0,
    };
    let payload = Payload::RegisterStream {
        title: "A stream".to_owned(),
        policy,
        price,
        split: SplitShares { creator_bps: 7_000, origin_bps: 0 },
        origin_relay: None,
        issuers: Vec::new(),
        codecs: Vec::new(),
        ext: BTreeMap::new(),
    };
    world.transact(CREATOR, payload)?;
    Ok(stream)
}

/// Run-queue delay of some threads since a moment.
struct Queued {
    threads: &'static [&'static str],
    before: Option<u64>,
}

impl Queued {
    fn of(threads: &'static [&'static str]) -> Self {
        Self { threads, before: threads_queued_ns(threads) }
    }

    fn since(&self) -> Option<u64> {
        Some(threads_queued_ns(self.threads)?.saturating_sub(self.before?))
    }
}
