use chain_types::{AccessRecord, Balance, Params, PaymentStatus, Split, StateChange, StreamTerms};

use super::*;
use crate::ports::Snapshot;

const STREAM: StreamId = StreamId([1; 32]);
const VIEWER: AccountId = AccountId([2; 32]);
const NOW_MS: u64 = 1_000_000;

fn control(policy: Policy, record: Option<AccessRecord>, epoch: u32) -> StreamAccessControl {
    let stream = StreamMetadata {
        id: STREAM,
        creator: AccountId([3; 32]),
        title: String::new(),
        policy,
        terms: vec![StreamTerms {
            version: 1,
            rate_per_second: 1,
            tier_bps: [10_000; 3],
            from_height: 0,
            ticket_price: Balance::ZERO,
            ticket_ms: 0,
        }],
        split: vec![Split { version: 1, creator_bps: 0, origin_bps: 0 }],
        origin_relay: None,
        issuers: Vec::new(),
        rev_epoch: epoch,
        codecs: Vec::new(),
        created: 0,
        ended: None,
        ext: BTreeMap::new(),
    };
    let records = vec![
        StateChange::Params(Box::new(Params::for_tests())),
        StateChange::Stream(Box::new(stream)),
        StateChange::Access { stream: STREAM, viewer: VIEWER, record },
    ];
    let snapshot = Snapshot { height: 1, time_ms: NOW_MS, records };
    let state = BlockchainState::new(&snapshot).expect("it has parameters");
    StreamAccessControl::new(Arc::new(state))
}

fn record(status: PaymentStatus, valid_until: u64) -> AccessRecord {
    AccessRecord { valid_until, payment_status: status.code(), max_layer: 255, rev_epoch: 0 }
}

/// R33: 7 statuses × before, at and after the end × absence.
#[test]
fn a_viewer_is_authorized_by_a_record_that_is_current_and_not_over() {
    for status in PaymentStatus::ALL {
        for (valid_until, is_over) in
            [(NOW_MS - 1, true), (NOW_MS, true), (NOW_MS + 1, false), (u64::MAX, false)]
        {
            let control = control(Policy::AllowList, Some(record(status, valid_until)), 0);
            let current = matches!(
                status,
                PaymentStatus::Free
                    | PaymentStatus::Current
                    | PaymentStatus::Grace
                    | PaymentStatus::Sponsored
            );
            assert_eq!(
                control.authorize_viewer(&STREAM, &VIEWER, NOW_MS),
                current && !is_over,
                "{status:?} until {valid_until}"
            );
            let other = AccountId([9; 32]);
            assert!(!control.authorize_viewer(&STREAM, &other, NOW_MS), "absence is false");
            let elsewhere = StreamId([9; 32]);
            assert!(!control.authorize_viewer(&elsewhere, &VIEWER, NOW_MS), "absence is false");
        }
    }
    let absent = control(Policy::AllowList, None, 0);
    assert!(!absent.authorize_viewer(&STREAM, &VIEWER, NOW_MS));
    let unknown = AccessRecord { payment_status: 7, ..record(PaymentStatus::Free, u64::MAX) };
    let unknown = control(Policy::AllowList, Some(unknown), 0);
    assert!(!unknown.authorize_viewer(&STREAM, &VIEWER, NOW_MS), "a status of the future");
    let void = control(Policy::AllowList, Some(record(PaymentStatus::Free, u64::MAX)), 1);
    assert!(!void.authorize_viewer(&STREAM, &VIEWER, NOW_MS), "of an earlier epoch");
}

/// R32: the type has these two fields, readers see one height, and a stream's session its viewers,
/// lanes and terms.
#[test]
fn readers_see_one_height_and_a_session_holds_viewers_lanes_and_terms() {
    let mut control = control(Policy::Paid, None, 0);
    let before = Arc::clone(&control.blockchain_state);
    let delta = chain_types::BlockDelta {
        height: 2,
        time_ms: NOW_MS,
        changes: vec![StateChange::Access {
            stream: STREAM,
            viewer: VIEWER,
            record: Some(record(PaymentStatus::Free, u64::MAX)),
        }],
        events: Vec::new(),
        results: Vec::new(),
    };
    Arc::make_mut(&mut control.blockchain_state).apply(&delta).expect("the next block");
    assert!(control.authorize_viewer(&STREAM, &VIEWER, NOW_MS));
    assert_eq!(before.height(), 1);
    assert_eq!(before.get_stream_access(&STREAM, &VIEWER), None, "the old height is as it was");

    let lane = LaneKey {
        channel: chain_types::ChannelId([4; 32]),
        payee: AccountId([5; 32]),
        stream: STREAM,
        lane: 6,
    };
    control.join(STREAM, SessionKey(1), VIEWER);
    control.pays(lane, None);
    let StreamSession { viewers, connected, lanes, terms } = &control.active_streams[&STREAM];
    assert_eq!(viewers.get(&SessionKey(1)), Some(&VIEWER));
    assert_eq!((*connected, lanes.get(&lane), terms), (0, Some(&1), &None));
    assert_eq!(control.resolve_peer_to_account(SessionKey(1)), Some(VIEWER));
    assert_eq!(control.resolve_peer_to_account(SessionKey(2)), None);
    control.leave(&STREAM, SessionKey(1), false);
    control.pays_no_more(&lane);
    assert!(control.active_streams.is_empty(), "nobody is left");
}

/// R34
#[test]
fn whoever_connects_without_a_right_is_rejected_with_this_text() {
    let connect = |policy, record, has_lane, is_paid_up| {
        let mut control = control(policy, record, 0);
        control.join(STREAM, SessionKey(1), VIEWER);
        let claim = Claim { has_lane, ..Claim::default() };
        let mut out = Vec::new();
        let peer = SessionKey(1);
        let is_in = control.on_webrtc_connect(peer, &STREAM, claim, is_paid_up, NOW_MS, &mut out);
        if is_in {
            assert_eq!(out, []);
        } else {
            let [Output::Close { session, last_frame }] = &out[..] else { panic!("{out:?}") };
            let message = "Payment required".to_owned();
            assert_eq!(*session, peer);
            assert_eq!(Frame::decode(last_frame), Ok(Frame::Error { code: 4402, message }));
        }
        is_in
    };
    let granted = Some(record(PaymentStatus::Free, u64::MAX));
    assert!(connect(Policy::Free, None, false, false));
    assert!(connect(Policy::AllowList, granted, false, false));
    assert!(!connect(Policy::AllowList, None, false, false));
    assert!(!connect(Policy::Ticketed, None, true, true));
    assert!(connect(Policy::Paid, None, true, true));
    assert!(!connect(Policy::Paid, None, true, false));
    assert!(!connect(Policy::Paid, granted, false, true), "a record does not pay");
}
