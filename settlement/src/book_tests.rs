use chain_types::{SigningKey, Voucher};

use super::*;

fn voucher(lane: u32, cumulative: u64) -> SignedVoucher {
    Voucher {
        channel: ChannelId([1; 32]),
        payee: AccountId([2; 32]),
        stream: StreamId([3; 32]),
        lane,
        terms_version: 1,
        nonce: cumulative,
        cumulative: Balance::of(cumulative),
        media_ms: 0,
        bytes: 0,
        qos: [0; 32],
    }
    .sign(&SigningKey::from_bytes(&[7; 32]), "a")
}

fn key(lane: u32) -> LaneKey {
    voucher(lane, 0).voucher.lane_key()
}

#[test]
fn a_lane_knows_its_highest_voucher_and_what_it_was_raised_by() {
    let mut book = Book::default();
    assert_eq!(book.take(voucher(1, 5), 0), Taken::More(Balance::of(5)));
    assert_eq!(book.take(voucher(1, 9), 0), Taken::More(Balance::of(4)));
    assert_eq!(book.take(voucher(1, 9), 0), Taken::Known);
    assert_eq!(book.take(voucher(1, 7), 0), Taken::Older);
    assert_eq!(book.get(&key(1)).map(Lane::paid), Some(Balance::of(9)));
}

#[test]
fn what_is_owed_is_the_rate_for_the_time_served_and_parts_of_a_unit_are_the_viewers() {
    let mut lane = Lane::new(1, Some(3));
    lane.served_ms = 333;
    assert_eq!(lane.owed(), Balance::ZERO);
    lane.served_ms = 1_000_334;
    assert_eq!(lane.owed(), Balance::of(3001));
    assert_eq!(lane.arrears(), Balance::of(3001));
    lane.rate = None;
    assert_eq!(lane.owed(), Balance::ZERO, "a price that the chain has forgotten");
}

#[test]
fn a_voucher_is_safe_once_its_record_is_synced_and_not_before() {
    let mut book = Book::default();
    let synced = |book: &Book| book.get(&key(1)).and_then(|lane| lane.synced);
    book.take(voucher(1, 5), 0);
    let (first, record) = book.hand_over(&key(1)).expect("it is new");
    assert_eq!((record.voucher, record.served_ms), (voucher(1, 5), 0));
    assert_eq!(book.hand_over(&key(1)), None, "nothing has changed");
    book.take(voucher(1, 6), 0);
    let (second, _) = book.hand_over(&key(1)).expect("it is new");
    assert!(second > first);
    assert_eq!(synced(&book), None);
    book.synced(first);
    assert_eq!(synced(&book), Some(voucher(1, 5)));
    book.synced(second);
    assert_eq!(synced(&book), Some(voucher(1, 6)));
    // Served time alone is worth a record too.
    book.get_mut(&key(1)).expect("it is there").served_ms = 500;
    assert_eq!(book.hand_over(&key(1)).map(|(_, record)| record.served_ms), Some(500));
}

#[test]
fn a_log_that_failed_is_given_everything_again_that_it_did_not_sync() {
    let mut book = Book::default();
    for lane in 1..=3 {
        book.take(voucher(lane, 5), 0);
    }
    let first = book.hand_over(&key(1)).expect("it is new").0;
    book.synced(first);
    book.hand_over(&key(2)).expect("it is new");
    book.hold_back(key(3));
    book.distrust_log();
    assert_eq!(book.get(&key(1)).map(|lane| lane.handed), Some(Balance::of(5)));
    assert_eq!(book.get(&key(2)).map(|lane| lane.handed), Some(Balance::ZERO));
    assert_eq!(book.unlogged(), [key(2), key(3)]);
    for lane in book.unlogged() {
        assert!(book.hand_over(&lane).is_some());
    }
    assert_eq!(book.unlogged(), []);
}

#[test]
fn restored_books_are_those_that_were_written() {
    let records = [(1, 9, 700), (1, 4, 900), (2, 3, 0)].map(|(lane, cumulative, served_ms)| {
        LogRecord { voucher: voucher(lane, cumulative), served_ms }
    });
    let book = Book::restore(records);
    let lane = book.get(&key(1)).expect("it was written");
    assert_eq!((lane.paid(), lane.served_ms, lane.rate), (Balance::of(9), 900, None));
    assert_eq!(lane.synced, Some(voucher(1, 9)));
    assert_eq!(book.iter().count(), 2);
}

#[test]
fn a_channels_debts_are_those_of_its_lanes_and_of_no_other() {
    let mut book = Book::default();
    let other = LaneKey { channel: ChannelId([9; 32]), ..key(1) };
    for (key, served_ms) in [(key(1), 1_000), (key(u32::MAX), 2_000), (other, 4_000)] {
        book.lane(key, 1, 1_000).served_ms = served_ms;
    }
    assert_eq!(book.arrears(&ChannelId([1; 32])), Balance::of(3_000));
    book.take(voucher(1, 5_000), 0);
    assert_eq!(book.arrears(&ChannelId([1; 32])), Balance::of(2_000), "one lane pays no other");
    book.lane(key(1), 1, 1_000).sessions.insert(SessionKey(1));
    book.forget(&ChannelId([1; 32]));
    let left: Vec<LaneKey> = book.iter().map(|(key, _)| *key).collect();
    assert_eq!(left, [key(1), other], "a lane in use stays until its session ends");
}
