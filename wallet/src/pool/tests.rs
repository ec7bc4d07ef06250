use chain_types::StreamId;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{file::stop_after, ledger::Caps};

const CHAIN: &str = "sutantra-test-1";
const NOW_MS: u64 = 1_700_000_000_000;
const DEPOSIT: u64 = 1_000;
const BASIS: Basis = Basis { served_ms: 65, rate: 1, forgiven_ms: 0, has_media: true };

fn pools(dir: &TempDir) -> Pools {
    Pools::open(dir.path(), CHAIN).expect("a directory")
}

fn draft() -> Pool {
    Pool::draft(AccountId([9; 32]), 3, [7; 32], Balance::of(DEPOSIT), 500)
}

fn voucher(pool: &Pool, lane: u32, nonce: u64, cumulative: u64) -> Voucher {
    Voucher {
        channel: pool.channel,
        payee: AccountId([2; 32]),
        stream: StreamId([3; 32]),
        lane,
        terms_version: 1,
        nonce,
        cumulative: Balance::of(cumulative),
        media_ms: cumulative,
        bytes: cumulative,
        qos: [0; 32],
    }
}

#[test]
fn sums_only_grow_and_stay_within_deposit_and_caps() {
    let dir = TempDir::new().unwrap();
    let pools = pools(&dir);
    let mut open = pools.create(&draft()).expect("new");
    let pool = open.pool().clone();
    let mut pay = |lane, nonce, cumulative| {
        open.pay(voucher(&pool, lane, nonce, cumulative), BASIS, NOW_MS)
            .map(|signed| signed.voucher.nonce)
    };
    assert!(matches!(pay(1, 1, 100), Ok(1)));
    // The same number again, even with the same sum: what was signed under it is unknown.
    assert!(matches!(pay(1, 1, 100), Err(PoolError::Behind { .. })));
    assert!(matches!(pay(1, 2, 99), Err(PoolError::Behind { .. })));
    assert!(matches!(pay(1, 2, 100), Ok(2)));
    assert!(matches!(pay(2, 1, 900), Ok(1)));
    assert!(matches!(pay(2, 2, 901), Err(PoolError::Room(RoomLimit::Pool))));
    let foreign = Voucher { stream: StreamId::ZERO, ..voucher(&pool, 3, 1, 0) };
    assert!(matches!(open.pay(foreign, BASIS, NOW_MS), Err(PoolError::Foreign)));
    let foreign = Voucher { channel: ChannelId::ZERO, ..voucher(&pool, 3, 1, 0) };
    assert!(matches!(open.pay(foreign, BASIS, NOW_MS), Err(PoolError::Foreign)));
    let version = Voucher { terms_version: 2, ..voucher(&pool, 1, 9, 100) };
    assert!(matches!(open.pay(version, BASIS, NOW_MS), Err(PoolError::Behind { .. })));

    let caps = Caps { per_stream: Balance::of(1_010), per_day: Balance::of(5_000) };
    pools.ledger().set_caps(caps).expect("written");
    let channel = Channel { deposits: Balance::of(5_000), ..on_chain(&pool, Balance::of(DEPOSIT)) };
    open.follow(&channel).expect("written");
    let room = open.room(NOW_MS, &StreamId([3; 32])).expect("read");
    assert_eq!(room, Room { amount: Balance::of(10), limit: RoomLimit::StreamCap });
    let beyond = open.pay(voucher(&pool, 1, 3, 111), BASIS, NOW_MS);
    assert!(matches!(beyond, Err(PoolError::Room(RoomLimit::StreamCap))));
    open.pay(voucher(&pool, 1, 3, 110), BASIS, NOW_MS).expect("within the cap");
}

fn on_chain(pool: &Pool, deposits: Balance) -> Channel {
    Channel {
        payer: pool.payer,
        voucher_key: pool.voucher_key(),
        deposits,
        redeemed: Balance::ZERO,
        reserves: Vec::new(),
        close_requested: None,
        closed: false,
        expires_height: 500,
    }
}

#[test]
fn a_pool_has_one_writer_and_keeps_its_sums() {
    let dir = TempDir::new().unwrap();
    let pools = pools(&dir);
    let mut open = pools.create(&draft()).expect("new");
    let pool = open.pool().clone();
    assert!(matches!(pools.pay_from(&pool.channel), Err(PoolError::Busy(_))));
    assert!(matches!(pools.forget(&pool.channel), Err(PoolError::Busy(_))));
    let signed = open.pay(voucher(&pool, 1, 7, 70), BASIS, NOW_MS).expect("within the deposit");
    assert!(signed.verify(&pool.voucher_key(), CHAIN).is_ok());
    drop(open);
    // A pool that was paid from is never made anew.
    assert!(matches!(pools.create(&draft()), Err(PoolError::Busy(_))));
    let mut again = pools.pay_from(&pool.channel).expect("free again");
    let lane = *again.pool().lane(&signed.voucher.lane_key()).expect("kept");
    assert_eq!((lane.nonce, lane.cumulative, lane.served_ms), (7, Balance::of(70), 65));
    assert!(lane.is_open, "nobody has ended that session");
    assert_eq!(again.pool().left(), Balance::of(DEPOSIT - 70));
    let received = LaneSums { media_ms: 90, served_ms: 80, ..lane };
    again.rest(&received, true).expect("written");
    let lane = again.pool().lane(&received.key).expect("kept");
    assert_eq!((lane.media_ms, lane.served_ms, lane.is_open, lane.nonce), (90, 80, false, 7));
    drop(again);
    pools.forget(&pool.channel).expect("free");
    assert_eq!(pools.list().expect("read").len(), 0);
}

#[test]
fn a_pool_whose_sums_are_lost_is_named_and_never_paid_from() {
    let dir = TempDir::new().unwrap();
    let pools = pools(&dir);
    let channel = pools.create(&draft()).expect("new").pool().channel;
    let path = pools.path(&channel);
    let text = fs::read_to_string(&path).expect("written");
    for damaged in ["", "{}", &text[..text.len() / 2], &text.replace("\"nonce\"", "\"nance\"")] {
        fs::write(&path, damaged).expect("ours");
        let is_damaged = damaged != text;
        if is_damaged {
            assert!(matches!(pools.pay_from(&channel), Err(PoolError::File(_))), "{damaged}");
            assert_eq!(pools.lost([&channel]).expect("read"), [SumsLost(channel)]);
        }
    }
    let other = ChannelId([5; 32]);
    fs::write(pools.path(&other), &text).expect("ours");
    assert!(matches!(pools.pay_from(&other), Err(PoolError::File(_))));
    assert!(matches!(Pools::open(dir.path(), "../x"), Err(PoolError::ChainId(_))));
    assert!(matches!(Pools::open(dir.path(), ""), Err(PoolError::ChainId(_))));
}

#[test]
fn a_voucher_that_only_the_relay_knows_raises_the_sums() {
    let dir = TempDir::new().unwrap();
    let pools = pools(&dir);
    let mut open = pools.create(&draft()).expect("new");
    let pool = open.pool().clone();
    let key = SigningKey::from_bytes(&[7; 32]);
    let known = voucher(&pool, 1, 40, 400).sign(&key, CHAIN);
    assert!(open.raise(&known).expect("written"));
    assert!(matches!(
        open.pay(voucher(&pool, 1, 40, 401), BASIS, NOW_MS),
        Err(PoolError::Behind { .. })
    ));
    open.pay(voucher(&pool, 1, 41, 401), BASIS, NOW_MS).expect("above it");
    let older = voucher(&pool, 1, 39, 390).sign(&key, CHAIN);
    assert!(open.raise(&older).expect("written"));
    assert_eq!(open.pool().signed(), Balance::of(401));
    let forged = voucher(&pool, 1, 99, 900).sign(&SigningKey::from_bytes(&[8; 32]), CHAIN);
    assert!(!open.raise(&forged).expect("nothing to write"));
    assert_eq!(open.pool().signed(), Balance::of(401));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is tried, and wherever the machine stops: what was signed never falls, no number is
    /// signed twice, deposit and caps hold, and what is on the disk covers what was signed.
    #[test]
    fn a_crash_at_any_point_signs_nothing_twice_and_nothing_too_much(
        steps in proptest::collection::vec((0_u32..3, 0_u64..200, proptest::option::of(0_u32..9)), 1..40)
    ) {
        let dir = TempDir::new().unwrap();
        let pools = pools(&dir);
        let cap = 700;
        let caps = Caps { per_stream: Balance::of(cap), per_day: Balance::of(DEPOSIT) };
        pools.ledger().set_caps(caps).expect("written");
        let channel = pools.create(&draft()).expect("new").pool().channel;
        let mut open = Some(pools.pay_from(&channel).expect("free"));
        let mut signed: Vec<Voucher> = Vec::new();
        for (lane, raise, crash_after) in steps {
            let mut pool = open.take().unwrap_or_else(|| pools.pay_from(&channel).expect("whole"));
            let sums = pool.pool().lanes.iter().find(|sums| sums.key.lane == lane).copied();
            let (nonce, cumulative) = sums.map_or((0, 0), |sums| (sums.nonce, sums.cumulative.units()));
            let next = voucher(pool.pool(), lane, nonce + 1, cumulative as u64 + raise);
            stop_after(crash_after);
            let result = pool.pay(next, BASIS, NOW_MS);
            stop_after(None);
            match result {
                Ok(voucher) => signed.push(voucher.voucher),
                Err(PoolError::Room(_)) => {}
                Err(PoolError::File(_)) => {
                    // Without a restart it signs nothing more.
                    let after = pool.pay(voucher(pool.pool(), lane, nonce + 9, 999), BASIS, NOW_MS);
                    prop_assert!(matches!(after, Err(PoolError::Poisoned)));
                    continue;
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
            open = Some(pool);
        }
        drop(open);
        let on_disk = pools.pay_from(&channel).expect("whole").pool().clone();
        for lane in 0..3 {
            let of_lane: Vec<&Voucher> = signed.iter().filter(|one| one.lane == lane).collect();
            for pair in of_lane.windows(2) {
                prop_assert!(pair[0].nonce < pair[1].nonce);
                prop_assert!(pair[0].cumulative <= pair[1].cumulative);
            }
            if let Some(last) = of_lane.last() {
                let kept = on_disk.lane(&last.lane_key()).expect("written before it was signed");
                prop_assert!(kept.nonce >= last.nonce && kept.cumulative >= last.cumulative);
            }
        }
        let highest = (0..3).filter_map(|lane| signed.iter().rfind(|one| one.lane == lane));
        let total: u128 = highest.map(|one| one.cumulative.units()).sum();
        prop_assert!(total <= u128::from(cap.min(DEPOSIT)), "{total}");
    }
}
