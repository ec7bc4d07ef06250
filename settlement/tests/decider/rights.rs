//! What the chain gives and takes: gates follow in the turn of the block.

use chain_types::{AccountId, ChannelId, Policy};
use proptest::prelude::*;
use settlement::{Admit, decide::Input, event::SutantraEvent};
use sfu::ports::SessionKey;

use crate::rig::{Rig, START_MS, Viewer, signed, stream_id, token};

const UNTIL: u64 = START_MS + 3_600_000;

/// A viewer on the list of stream 1, who watches.
fn listed(policy: Policy) -> (Rig, Viewer, SessionKey) {
    let mut rig = Rig::new(|stream| stream.policy = policy);
    let viewer = Viewer::new(10);
    rig.chain.grant(stream_id(1), viewer.account(), UNTIL);
    rig.block();
    let session = rig.join(&by_account(&rig, &viewer));
    (rig, viewer, session)
}

fn by_account(rig: &Rig, viewer: &Viewer) -> Admit {
    Admit {
        stream: stream_id(1),
        bind: Some(viewer.account_bind(&rig.terms())),
        voucher: None,
        token: None,
        client_fingerprint: viewer.fingerprint,
    }
}

/// R12, R19
#[test]
fn a_grant_opens_and_its_taking_back_shuts_in_the_turn_of_the_block() {
    let (mut rig, viewer, session) = listed(Policy::AllowList);
    let (stream_id, viewer_id) = (stream_id(1), viewer.account());
    assert!(rig.events.contains(&SutantraEvent::AccessGranted { viewer: viewer_id, stream_id }));
    assert!(rig.is_open(session));
    rig.chain.revoke(stream_id, viewer_id);
    assert!(rig.is_open(session), "nothing is done before the commit");
    rig.block();
    assert!(!rig.is_open(session));
    assert_eq!(rig.end_of(session), Some(4403));
    let revoked = SutantraEvent::AccessRevoked { viewer: Some(viewer_id), stream_id };
    assert!(rig.events.contains(&revoked));
    let request = by_account(&rig, &viewer);
    assert!(rig.admit(&request).is_err());
}

/// R12: each thing that the chain can take back shuts the gate in the same turn.
#[test]
fn what_ends_a_right_ends_the_session_with_4403() {
    #[track_caller]
    fn check(policy: Policy, change: impl FnOnce(&mut Rig, &Viewer), is_open: bool) {
        let (mut rig, viewer, session) = listed(policy);
        assert!(rig.is_open(session));
        change(&mut rig, &viewer);
        rig.block();
        assert_eq!(rig.is_open(session), is_open);
        assert_eq!(rig.end_of(session), (!is_open).then_some(4403));
    }
    let end = |rig: &mut Rig, _: &Viewer| rig.chain.stream(stream_id(1), |s| s.ended = Some(1));
    let bump = |rig: &mut Rig, _: &Viewer| rig.chain.stream(stream_id(1), |s| s.rev_epoch = 1);
    let to = |policy| {
        move |rig: &mut Rig, _: &Viewer| rig.chain.stream(stream_id(1), |s| s.policy = policy)
    };
    let revoke = |rig: &mut Rig, v: &Viewer| rig.chain.revoke(stream_id(1), v.account());
    let other = |rig: &mut Rig, _: &Viewer| rig.chain.revoke(stream_id(1), AccountId([9; 32]));
    let overdue = |rig: &mut Rig, v: &Viewer| rig.chain.record(stream_id(1), v.account(), UNTIL, 4);
    for policy in [Policy::Ticketed, Policy::AllowList] {
        check(policy, |_, _| {}, true);
        check(policy, other, true);
        check(policy, end, false);
        check(policy, bump, false);
        check(policy, revoke, false);
        check(policy, overdue, false);
        check(policy, to(Policy::Paid), false);
        check(policy, to(Policy::Free), true);
    }
    check(Policy::Free, revoke, true);
    check(Policy::Free, to(Policy::AllowList), true);
    check(Policy::Free, to(Policy::Paid), false);
}

#[test]
fn access_that_expires_shuts_the_gate_by_its_own_deadline_and_then_the_session() {
    let (mut rig, viewer, session) = listed(Policy::Ticketed);
    rig.chain.grant(stream_id(1), viewer.account(), START_MS + 10_000);
    rig.block();
    let until = rig.gate(session).valid_until_ns.expect("it expires");
    assert_eq!(until - rig.now.mono_ns, 10_000_000_000);
    rig.wait(9_950);
    assert!(rig.is_open(session));
    rig.after(50);
    assert!(!rig.is_open(session), "before anybody has decided anything");
    rig.input(Input::Tick);
    assert_eq!(rig.end_of(session), Some(4403));
}

#[test]
fn a_longer_ticket_moves_the_deadline_of_who_watches() {
    let (mut rig, viewer, session) = listed(Policy::Ticketed);
    rig.chain.grant(stream_id(1), viewer.account(), START_MS + 10_000);
    rig.block();
    rig.chain.grant(stream_id(1), viewer.account(), START_MS + 20_000);
    rig.block();
    rig.wait(15_000);
    assert!(rig.is_open(session));
}

/// The chain's record wins over any token, and a token over its silence.
#[test]
fn a_record_that_says_no_shuts_out_the_bearer_of_a_good_token() {
    let mut rig = Rig::new(|stream| stream.policy = Policy::AllowList);
    let viewer = Viewer::new(10);
    let token = token(stream_id(1), &viewer);
    let bind = chain_types::Bind {
        token_id: token.token_id,
        holder_key: viewer.account(),
        channel: ChannelId::ZERO,
        ..viewer.bind(&rig.terms())
    };
    let request = Admit {
        stream: stream_id(1),
        bind: Some(bind.sign(&viewer.key, None, crate::rig::CHAIN)),
        voucher: None,
        token: Some(signed(token)),
        client_fingerprint: viewer.fingerprint,
    };
    let session = rig.join(&request);
    assert!(rig.is_open(session));
    rig.chain.record(stream_id(1), viewer.account(), UNTIL, 0);
    rig.block();
    assert_eq!(rig.end_of(session), Some(4403));
    assert!(rig.admit(&request).is_err());
    // The record's time is over: it says nothing any more.
    rig.chain.record(stream_id(1), viewer.account(), START_MS, 0);
    rig.block();
    assert!(rig.admit(&request).is_ok());
    // An issuer who is one no longer has no say over running sessions either.
    let session = rig.join(&request);
    rig.chain.stream(stream_id(1), |stream| stream.creator = AccountId([9; 32]));
    rig.block();
    assert_eq!(rig.end_of(session), Some(4403));
}

#[test]
fn who_pays_keeps_watching_when_records_are_taken_back_but_not_its_own() {
    let mut rig = Rig::new(|_| {});
    let (viewer, session) = rig.watching(10);
    rig.chain.stream(stream_id(1), |stream| stream.rev_epoch = 1);
    rig.block();
    assert!(rig.is_open(session), "it stands on vouchers alone");
    rig.chain.revoke(stream_id(1), viewer.account());
    rig.block();
    assert_eq!(rig.end_of(session), Some(4403));
}

#[test]
fn a_channel_that_is_finalized_ends_its_sessions_and_leaves_the_books() {
    let mut rig = Rig::new(|_| {});
    let (viewer, session) = rig.watching(10);
    let lane = rig.lane(&viewer, &rig.terms());
    assert!(rig.decider.book().get(&lane).is_some());
    rig.chain.channel(viewer.channel, |channel| channel.closed = true);
    rig.block();
    assert_eq!(rig.end_of(session), Some(4402));
    assert!(rig.decider.book().get(&lane).is_none());
}

/// R34: what was true at admission is asked again when the transport is up.
#[test]
fn a_right_that_ends_before_the_transport_is_up_lets_nothing_through() {
    let mut rig = Rig::new(|stream| stream.policy = Policy::AllowList);
    let viewer = Viewer::new(10);
    rig.chain.grant(stream_id(1), viewer.account(), UNTIL);
    rig.block();
    let request = by_account(&rig, &viewer);
    let admission = rig.admit(&request).expect("it is listed");
    rig.chain.revoke(stream_id(1), viewer.account());
    rig.block();
    let session = rig.begin(&admission);
    rig.input(Input::Connected { session });
    assert!(!rig.is_open(session));
    assert!(matches!(rig.end_of(session), Some(4402 | 4403)));
    assert!(rig.gates.values().all(|gate| !gate.open), "not for a moment");
}

#[test]
fn no_gate_is_open_before_the_transport_is_up() {
    let mut rig = Rig::new(|_| {});
    let viewer = Viewer::new(10);
    rig.chain.open(&viewer, 1_000_000_000, 900_000_000);
    rig.block();
    let request = rig.request(&viewer, 2_000_000);
    let admission = rig.admit(&request).expect("it pays");
    let session = rig.begin(&admission);
    rig.wait(1_000);
    assert!(!rig.is_open(session));
    rig.input(Input::Connected { session });
    assert!(rig.is_open(session));
}

#[test]
fn a_session_of_no_admission_is_ended() {
    let mut rig = Rig::new(|stream| stream.policy = Policy::Free);
    let session = SessionKey(77);
    let admission = settlement::AdmissionId(99);
    rig.input(Input::Begun { admission, session, slot: crate::rig::slot(session) });
    assert_eq!(rig.end_of(session), Some(4408));
    rig.input(Input::Connected { session });
    assert!(!rig.is_open(session));
}

/// R26: after a gap the gates are what the new snapshot says, whatever was missed.
#[test]
fn a_snapshot_after_missed_blocks_sets_every_gate_right() {
    let (mut rig, viewer, session) = listed(Policy::AllowList);
    let second = Viewer::new(11);
    rig.chain.grant(stream_id(1), second.account(), UNTIL);
    rig.block();
    let other = rig.join(&by_account(&rig, &second));
    rig.chain.revoke(stream_id(1), viewer.account());
    let _missed = rig.chain.block(START_MS);
    rig.block();
    assert!(rig.is_open(session), "a block behind a gap decides nothing");
    rig.resync();
    assert_eq!((rig.is_open(session), rig.is_open(other)), (false, true));
    // What comes again changes nothing.
    let stale = rig.chain.snapshot();
    rig.block();
    rig.input(Input::Snapshot(Box::new(stale)));
    assert!(rig.is_open(other));
}

/// R26: as after a kill and a new start.
#[test]
fn a_restart_lets_in_whom_the_chain_lets_in() {
    let (mut rig, viewer, _) = listed(Policy::Ticketed);
    rig.crash(0);
    let request = by_account(&rig, &viewer);
    let session = rig.join(&request);
    assert!(rig.is_open(session));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// R21
    #[test]
    fn the_count_of_viewers_is_exact_over_a_thousand_joins_and_leaves(
        steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1000),
    ) {
        let mut rig = Rig::new(|stream| stream.policy = Policy::Free);
        let request = Admit {
            stream: stream_id(1),
            bind: None,
            voucher: None,
            token: None,
            client_fingerprint: [1; 32],
        };
        let mut here: Vec<SessionKey> = Vec::new();
        for (joins, which) in steps {
            rig.events.clear();
            let expected = if joins || here.is_empty() {
                here.push(rig.join(&request));
                let viewer_count = here.len() as u32;
                SutantraEvent::ViewerJoined { stream_id: stream_id(1), viewer_count }
            } else {
                let session = here.swap_remove(which.index(here.len()));
                rig.input(Input::Closed { session, usage: None });
                let viewer_count = here.len() as u32;
                SutantraEvent::ViewerLeft { stream_id: stream_id(1), viewer_count }
            };
            prop_assert_eq!(&rig.events[..], &[expected]);
        }
    }
}
