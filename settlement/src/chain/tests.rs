use chain_types::{ChainEvent, CloseRequest, Policy, Reserve, Split};
use proptest::prelude::*;

use super::*;
use crate::event::SutantraEvent;

const STREAM: StreamId = StreamId([3; 32]);
const VIEWER: AccountId = AccountId([4; 32]);
const PAYEE: AccountId = AccountId([2; 32]);
const CHANNEL: ChannelId = ChannelId([1; 32]);

fn terms(version: u32, from_height: u64) -> StreamTerms {
    StreamTerms {
        version,
        rate_per_second: 1000 * u64::from(version),
        tier_bps: [2_500, 5_000, 10_000],
        from_height,
        ticket_price: Balance::ZERO,
        ticket_ms: 0,
    }
}

fn stream(terms: Vec<StreamTerms>) -> StreamMetadata {
    StreamMetadata {
        id: STREAM,
        creator: AccountId([9; 32]),
        title: String::new(),
        policy: Policy::Paid,
        terms,
        split: vec![Split { version: 1, creator_bps: 7_000, origin_bps: 0 }],
        origin_relay: None,
        issuers: Vec::new(),
        rev_epoch: 0,
        codecs: Vec::new(),
        created: 0,
        ended: None,
        ext: BTreeMap::new(),
    }
}

fn channel() -> Channel {
    Channel {
        payer: VIEWER,
        voucher_key: AccountId([5; 32]),
        deposits: Balance::of(1000),
        redeemed: Balance::of(100),
        reserves: vec![Reserve { payee: PAYEE, amount: Balance::of(300), until_height: 120 }],
        close_requested: None,
        closed: false,
        expires_height: 10_000,
    }
}

fn changed(stream: StreamMetadata) -> StateChange {
    StateChange::Stream(Box::new(stream))
}

fn at(height: u64, records: Vec<StateChange>) -> BlockchainState {
    let params = StateChange::Params(Box::new(Params::for_tests()));
    let records = std::iter::once(params).chain(records).collect();
    BlockchainState::new(&Snapshot { height, time_ms: height * 1000, records }).unwrap()
}

fn block(height: u64, changes: Vec<StateChange>) -> BlockDelta {
    BlockDelta { height, time_ms: height * 1000, changes, events: vec![], results: vec![] }
}

#[test]
fn blocks_come_one_by_one_and_a_gap_is_refused() {
    let mut state = at(10, vec![]);
    let before = state.clone();
    let channel = || vec![StateChange::Channel(CHANNEL, Box::new(channel()))];
    assert_eq!(state.apply(&block(12, channel())), Err(Gap { have: 10, got: 12 }));
    assert_eq!(state.apply(&block(10, channel())), Err(Gap { have: 10, got: 10 }));
    assert_eq!(state, before, "what is refused changes nothing");
    assert_eq!(state.apply(&block(11, channel())), Ok(vec![Affected::Channel(CHANNEL)]));
    assert_eq!((state.height(), state.time_ms()), (11, 11_000));
    assert!(state.has(11) && !state.has(12));
}

#[test]
fn a_snapshot_without_parameters_is_refused() {
    let snapshot = Snapshot { height: 1, time_ms: 1, records: vec![] };
    assert_eq!(BlockchainState::new(&snapshot), Err(SnapshotError::NoParams));
}

/// R32
#[test]
fn who_reads_sees_one_height_while_the_writer_goes_on() {
    let mut newest = Arc::new(at(10, vec![changed(stream(vec![terms(1, 1)]))]));
    let reader = Arc::clone(&newest);
    let ended = StreamMetadata { ended: Some(11_000), ..stream(vec![terms(1, 1)]) };
    Arc::make_mut(&mut newest).apply(&block(11, vec![changed(ended)])).unwrap();
    assert_eq!(reader.height(), 10);
    assert_eq!(reader.stream(&STREAM).unwrap().ended, None);
    assert_eq!(newest.stream(&STREAM).unwrap().ended, Some(11_000));
    // What the block did not touch is shared.
    assert!(Arc::ptr_eq(&reader.channels, &newest.channels));
}

#[test]
fn a_new_price_is_told_when_it_is_set_and_when_it_holds() {
    let mut state = at(10, vec![changed(stream(vec![terms(1, 1)]))]);
    let mut told = |height, changes| state.apply(&block(height, changes)).unwrap();
    let (stream_id, version, from_height) = (STREAM, 2, 13);
    let priced = || stream(vec![terms(1, 1), terms(2, 13)]);
    let scheduled = Affected::TermsScheduled { stream: stream_id, version, from_height };
    assert_eq!(told(11, vec![changed(priced())]), [Affected::Stream(STREAM), scheduled]);
    // Another change of the stream, the price not among it.
    let titled = StreamMetadata { title: "t".into(), ..priced() };
    assert_eq!(told(12, vec![changed(titled)]), [Affected::Stream(STREAM)]);
    let in_force = Affected::TermsInForce { stream: STREAM, version: 2 };
    assert_eq!(told(13, vec![]), [in_force]);
    assert_eq!(told(14, vec![]), []);
    assert_eq!(state.terms_at(&STREAM).unwrap().version, 2);
}

#[test]
fn a_stream_that_changes_in_the_block_of_its_new_price_still_tells_of_the_price() {
    let priced = || stream(vec![terms(1, 1), terms(2, 11)]);
    let mut state = at(10, vec![changed(priced())]);
    let titled = StreamMetadata { title: "t".into(), ..priced() };
    assert_eq!(
        state.apply(&block(11, vec![changed(titled)])).unwrap(),
        [Affected::Stream(STREAM), Affected::TermsInForce { stream: STREAM, version: 2 }]
    );
}

#[test]
fn a_price_that_held_at_the_snapshot_is_no_news() {
    let mut state = at(11, vec![changed(stream(vec![terms(1, 1), terms(2, 11)]))]);
    assert_eq!(state.apply(&block(12, vec![])).unwrap(), []);
}

#[test]
fn revocations_and_ends_are_told_once() {
    let mut state = at(10, vec![changed(stream(vec![terms(1, 1)]))]);
    let bumped = StreamMetadata { rev_epoch: 1, ..stream(vec![terms(1, 1)]) };
    let revoked = Affected::Revoked { stream: STREAM, rev_epoch: 1 };
    let told = state.apply(&block(11, vec![changed(bumped.clone())])).unwrap();
    assert_eq!(told, [Affected::Stream(STREAM), revoked]);
    let ended = StreamMetadata { ended: Some(12_000), ..bumped };
    let told = state.apply(&block(12, vec![changed(ended.clone())])).unwrap();
    assert_eq!(told, [Affected::Stream(STREAM), Affected::StreamEnded(STREAM)]);
    let told = state.apply(&block(13, vec![changed(ended)])).unwrap();
    assert_eq!(told, [Affected::Stream(STREAM)]);
}

/// R33: absence, expiry, epoch, the stream's end and each status.
#[test]
fn the_chains_word_about_a_viewer_counts_while_its_epoch_its_time_and_its_stream_last() {
    #[track_caller]
    fn check(record: Option<AccessRecord>, metadata: Option<StreamMetadata>, lets_in: bool) {
        let access = record.map(|record| {
            let record = Some(record);
            StateChange::Access { stream: STREAM, viewer: VIEWER, record }
        });
        let state = at(10, access.into_iter().chain(metadata.map(changed)).collect());
        let token = state.get_stream_access(&STREAM, &VIEWER);
        assert_eq!(token.is_some_and(|token| token.is_valid(5000)), lets_in);
    }
    let record =
        AccessRecord { valid_until: 5001, payment_status: 1, max_layer: 255, rev_epoch: 0 };
    let metadata = stream(vec![terms(1, 1)]);
    check(Some(record), Some(metadata.clone()), true);
    check(None, Some(metadata.clone()), false);
    check(Some(record), None, false);
    check(Some(AccessRecord { valid_until: 5000, ..record }), Some(metadata.clone()), false);
    check(Some(AccessRecord { payment_status: 7, ..record }), Some(metadata.clone()), false);
    let bumped = StreamMetadata { rev_epoch: 1, ..metadata.clone() };
    check(Some(record), Some(bumped.clone()), false);
    check(Some(AccessRecord { rev_epoch: 1, ..record }), Some(bumped), true);
    check(Some(record), Some(StreamMetadata { ended: Some(1), ..metadata.clone() }), false);
    for status in PaymentStatus::ALL {
        let record = AccessRecord { payment_status: status.code(), ..record };
        check(Some(record), Some(metadata.clone()), status.is_current());
    }
}

#[test]
fn an_access_record_that_is_deleted_is_gone() {
    let record = AccessRecord { valid_until: 1, payment_status: 1, max_layer: 0, rev_epoch: 0 };
    let access = |record| StateChange::Access { stream: STREAM, viewer: VIEWER, record };
    let mut state = at(10, vec![changed(stream(vec![terms(1, 1)])), access(Some(record))]);
    assert!(state.get_stream_access(&STREAM, &VIEWER).is_some());
    let told = state.apply(&block(11, vec![access(None)])).unwrap();
    assert_eq!(told, [Affected::Access { stream: STREAM, viewer: VIEWER }]);
    assert_eq!(state.get_stream_access(&STREAM, &VIEWER), None);
}

#[test]
fn a_channel_stands_as_its_record_and_the_height_say() {
    #[track_caller]
    fn check(height: u64, channel: Channel, payee: AccountId, expected: ChannelStanding) {
        let state = at(height, vec![StateChange::Channel(CHANNEL, Box::new(channel))]);
        assert_eq!(state.standing(&CHANNEL, &payee), expected);
    }
    let of = Balance::of;
    let open = |available, reserve| ChannelStanding::Open {
        available: of(available),
        reserve: of(reserve),
    };
    check(100, channel(), PAYEE, open(900, 300));
    check(100, channel(), AccountId([8; 32]), open(600, 0));
    check(120, channel(), PAYEE, open(900, 0)); // The reserve has ended: all is free.
    check(120, channel(), AccountId([8; 32]), open(900, 0));
    let expires = |expires_height| Channel { expires_height, ..channel() };
    check(100, expires(130), PAYEE, open(900, 300)); // channel_blocks_min is 30 here.
    check(100, expires(129), PAYEE, ChannelStanding::Expiring { available: of(900) });
    check(100, expires(100), PAYEE, ChannelStanding::Closing { available: of(900) });
    let request = Some(CloseRequest { height: 90, time_ms: 90_000 });
    let closing = Channel { close_requested: request, ..channel() };
    check(100, closing.clone(), PAYEE, ChannelStanding::Closing { available: of(900) });
    check(100, Channel { closed: true, ..closing }, PAYEE, ChannelStanding::Closed);
    assert_eq!(at(1, vec![]).standing(&CHANNEL, &PAYEE), ChannelStanding::Unknown);
}

#[test]
fn a_reserve_covers_nothing_in_its_last_blocks() {
    let cover = |height| {
        let state = at(height, vec![StateChange::Channel(CHANNEL, Box::new(channel()))]);
        state.cover(&CHANNEL, &PAYEE)
    };
    assert_eq!(cover(109), Balance::of(300)); // reserve_margin_blocks is 10 here.
    assert_eq!(cover(110), Balance::ZERO);
}

#[test]
fn a_closing_channel_and_a_redeemed_lane_are_told() {
    let mut state = at(10, vec![StateChange::Channel(CHANNEL, Box::new(channel()))]);
    let lane = LaneKey { channel: CHANNEL, payee: PAYEE, stream: STREAM, lane: 7 };
    let paid = LaneRecord { cum: Balance::of(50), paid: Balance::of(40), terms_version: 1 };
    assert_eq!(state.paid(&lane), Balance::ZERO);
    let request = Some(CloseRequest { height: 11, time_ms: 11_000 });
    let closing = Box::new(Channel { close_requested: request, ..channel() });
    let changes = || {
        vec![StateChange::Channel(CHANNEL, closing.clone()), StateChange::Lane(lane, Some(paid))]
    };
    let told = state.apply(&block(11, changes())).unwrap();
    let (of_channel, of_lane) = (Affected::Channel(CHANNEL), Affected::Lane(lane));
    assert_eq!(told, [of_channel, Affected::ChannelClosing(CHANNEL), of_lane]);
    assert_eq!(state.paid(&lane), Balance::of(40));
    assert_eq!(state.apply(&block(12, changes())).unwrap(), [of_channel, of_lane]);
    state.apply(&block(13, vec![StateChange::Lane(lane, None)])).unwrap();
    assert_eq!(state.lane(&lane), None);
}

/// R17, R18, R19: what the bus is told of a block.
#[test]
fn a_block_becomes_events_of_what_happened_and_of_nothing_else() {
    let (stream, viewer, creator) = (STREAM, VIEWER, AccountId([9; 32]));
    let redeemed = |payee| ChainEvent::ChannelRedeemed {
        lane: LaneKey { channel: CHANNEL, payee, stream, lane: 1 },
        paid: Balance::of(100),
        fee: Balance::of(1),
        creator: Balance::of(69),
        origin: Balance::ZERO,
        payee: Balance::of(30),
    };
    let mut delta = block(11, vec![]);
    delta.events = vec![
        ChainEvent::StreamRegistered { stream, creator },
        ChainEvent::Fee { payer: creator, amount: Balance::of(1), burned: Balance::of(1) },
        ChainEvent::AccessGranted { stream, viewer, valid_until: 1 },
        ChainEvent::AccessRevoked { stream, viewer },
        ChainEvent::RevocationBumped { stream, rev_epoch: 1 },
        ChainEvent::ChannelClosing { channel: CHANNEL },
        redeemed(PAYEE),
        redeemed(AccountId([8; 32])),
    ];
    let affected = [
        Affected::Stream(stream),
        Affected::TermsScheduled { stream, version: 2, from_height: 20 },
        Affected::TermsInForce { stream, version: 1 },
    ];
    let stream_id = stream;
    assert_eq!(
        SutantraEvent::of_block(&delta, &affected, &PAYEE),
        [
            SutantraEvent::StreamRegistered { stream_id, creator },
            SutantraEvent::AccessGranted { viewer, stream_id },
            SutantraEvent::AccessRevoked { viewer: Some(viewer), stream_id },
            SutantraEvent::AccessRevoked { viewer: None, stream_id },
            SutantraEvent::ChannelClosing { channel_id: CHANNEL },
            SutantraEvent::PaymentReceived { stream_id, amount: Balance::of(100), settled: true },
            SutantraEvent::TermsChanged { stream_id, terms_version: 2, from_height: 20 },
        ]
    );
    // A block whose transactions were rejected has results and fees, and no events of theirs.
    let mut rejected = block(12, vec![]);
    rejected.results = vec![([7; 32], 18)];
    assert_eq!(SutantraEvent::of_block(&rejected, &[], &PAYEE), []);
}

proptest! {
    /// Blocks one by one give the state that a snapshot of their end gives.
    #[test]
    fn following_equals_reading_anew(
        steps in prop::collection::vec((0u8..4, 0u8..4, any::<u8>()), 0..60),
    ) {
        let mut followed = at(10, vec![]);
        let mut last = BTreeMap::new();
        for (height, (kind, which, value)) in (11..).zip(&steps) {
            let id = [*which; 32];
            let change = match kind {
                0 => changed(StreamMetadata {
                    id: StreamId(id),
                    ..stream(vec![terms(1, 1), terms(2, height + u64::from(*value % 5))])
                }),
                1 => StateChange::Channel(
                    ChannelId(id),
                    Box::new(Channel { deposits: Balance::of(u64::from(*value)), ..channel() }),
                ),
                2 => StateChange::Access {
                    stream: StreamId(id),
                    viewer: VIEWER,
                    record: (*value > 100).then_some(AccessRecord {
                        valid_until: u64::from(*value),
                        payment_status: 1,
                        max_layer: 255,
                        rev_epoch: 0,
                    }),
                },
                _ => StateChange::Params(Box::new(Params {
                    notice_blocks: u64::from(*value),
                    ..Params::for_tests()
                })),
            };
            let kind = if *kind == 3 { (3, 0) } else { (*kind, *which) };
            last.insert(kind, change.clone());
            followed.apply(&block(height, vec![change])).unwrap();
        }
        let height = 10 + steps.len() as u64;
        let read = at(height, last.into_values().collect());
        prop_assert_eq!(followed, read);
    }
}
