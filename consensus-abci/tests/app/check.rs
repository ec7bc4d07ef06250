//! CheckTx, PrepareProposal and ProcessProposal: what may wait, what goes first, what is voted for.

use bytes::Bytes;
use chain_types::{Payload, Policy, ResultCode};
use consensus_abci::{app::NONCES_AHEAD, application::Application};
use tendermint_proto::v0_38::abci::{
    CheckTxType, RequestCheckTx, RequestPrepareProposal, RequestProcessProposal,
    response_process_proposal::ProposalStatus,
};

use crate::world::*;

impl World {
    fn check(&self, bytes: &Bytes, kind: CheckTxType) -> Option<ResultCode> {
        let request = RequestCheckTx { tx: bytes.clone(), r#type: kind.into() };
        let response = self.app.check_tx(request).expect("a sound chain");
        assert_eq!(response.code == 0, response.log.is_empty());
        ResultCode::from_code(response.code)
    }

    fn enters(&self, bytes: &Bytes) -> Option<ResultCode> {
        self.check(bytes, CheckTxType::New)
    }

    fn prepare(&self, txs: Vec<Bytes>, max_tx_bytes: i64) -> Vec<Bytes> {
        let request = self.request(txs);
        let request = RequestPrepareProposal {
            txs: request.txs,
            max_tx_bytes,
            height: request.height,
            time: request.time,
            ..RequestPrepareProposal::default()
        };
        self.app.prepare_proposal(request).expect("a sound chain").txs
    }

    fn is_accepted(&self, txs: Vec<Bytes>) -> bool {
        let request = self.request(txs);
        let request = RequestProcessProposal {
            txs: request.txs,
            height: request.height,
            time: request.time,
            ..RequestProcessProposal::default()
        };
        let status = self.app.process_proposal(request).expect("a sound chain").status;
        status == i32::from(ProposalStatus::Accept)
    }

    fn transfer(&self, who: &str, nonce: u64, fee: u64) -> Bytes {
        let payload = Payload::Transfer { to: id("relay"), amount: sut(5) };
        let mut body = self.body(who, payload);
        body.nonce = nonce;
        body.fee = body.fee.checked_add(sut(fee)).expect("a sound chain");
        body.sign(&key(who), CHAIN_ID).encode().into()
    }
}

/// R4
#[test]
fn check_tx_leaves_committed_state_alone() {
    let mut world = World::new();
    let before = (content(&world.app.snapshot()), world.app.snapshot().head());
    for nonce in 0..5 {
        assert_eq!(world.enters(&world.transfer("viewer", nonce, 0)), None);
    }
    assert_eq!(world.enters(&world.transfer("viewer", 3, 99)), Some(ResultCode::Nonce));
    assert_eq!((content(&world.app.snapshot()), world.app.snapshot().head()), before);
    // Nor does what waits there enter a block by itself.
    world.skip(1);
    assert_eq!(content(&world.app.snapshot()), before.0);
}

/// R4
#[test]
fn check_tx_refuses_what_a_block_would_not_even_charge() {
    let mut world = World::new();
    let good = world.transfer("viewer", 0, 0);
    #[track_caller]
    fn is(world: &World, bytes: impl Into<Bytes>, code: ResultCode) {
        assert_eq!(world.enters(&bytes.into()), Some(code));
    }
    is(&world, b"garbage".as_slice(), ResultCode::Decode);
    is(&world, vec![0; 200_000], ResultCode::TooLarge);
    let mut forged = good.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    is(&world, forged, ResultCode::Signature);
    let body = decoded(&good).body;
    let on_other_chain = body.clone().sign(&key("viewer"), "sutantra-test-2");
    is(&world, on_other_chain.encode(), ResultCode::Signature);
    let mut cheap = body.clone();
    cheap.fee = sut(1);
    is(&world, cheap.sign(&key("viewer"), CHAIN_ID).encode(), ResultCode::Fee);
    let mut dear = body.clone();
    dear.fee = sut(BEGIN + 1);
    is(&world, dear.sign(&key("viewer"), CHAIN_ID).encode(), ResultCode::Funds);
    let mut late = body;
    late.valid_until_height = 1;
    let late: Bytes = late.sign(&key("viewer"), CHAIN_ID).encode().into();
    assert_eq!(world.enters(&late), None);
    world.block(vec![]);
    is(&world, late, ResultCode::Expired);
    is(&world, world.transfer("viewer", NONCES_AHEAD, 0), ResultCode::Nonce);
}

#[test]
fn a_sender_may_be_sixty_four_transactions_ahead_in_any_order() {
    let mut world = World::new();
    for nonce in (0..NONCES_AHEAD).rev() {
        assert_eq!(world.enters(&world.transfer("viewer", nonce, 0)), None);
    }
    assert_eq!(world.enters(&world.transfer("viewer", NONCES_AHEAD, 0)), Some(ResultCode::Nonce));
    // The same one again is no second one.
    assert_eq!(world.enters(&world.transfer("viewer", 7, 0)), None);
    assert_eq!(world.enters(&world.transfer("viewer", 7, 1)), Some(ResultCode::Nonce));
    let first = world.transfer("viewer", 0, 0);
    world.block(vec![first.clone()]);
    assert_eq!(world.check(&first, CheckTxType::Recheck), Some(ResultCode::Nonce), "stale");
    assert_eq!(world.enters(&world.transfer("viewer", NONCES_AHEAD, 0)), None);
}

#[test]
fn a_payer_of_many_waiting_transactions_can_pay_all_their_fees() {
    let mut world = World::new();
    let half = BEGIN / 2;
    assert_eq!(world.enters(&world.transfer("viewer", 0, half)), None);
    assert_eq!(world.enters(&world.transfer("viewer", 1, half)), Some(ResultCode::Funds));
    assert_eq!(world.enters(&world.transfer("viewer", 1, 0)), None);
    // A commit begins a new book; what is rechecked enters it.
    world.skip(1);
    assert_eq!(world.check(&world.transfer("viewer", 0, half), CheckTxType::Recheck), None);
    assert_eq!(world.enters(&world.transfer("viewer", 1, half)), Some(ResultCode::Funds));
}

#[test]
fn a_proposal_drops_what_cannot_be_and_is_accepted_by_its_own_kind() {
    let mut world = World::new();
    let good = world.transfer("viewer", 0, 0);
    let mut late = decoded(&world.transfer("other", 0, 0)).body;
    late.valid_until_height = world.height;
    world.skip(1);
    late.valid_until_height = world.height;
    let late: Bytes = late.sign(&key("other"), CHAIN_ID).encode().into();
    let mut forged = world.transfer("relay", 0, 0).to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Bytes::from(forged);
    let stale = world.transfer("origin", 0, 0);
    world.block(vec![stale.clone()]);
    let garbage = Bytes::from_static(b"garbage");
    let gap = world.transfer("creator", 1, 0);
    let all = vec![garbage.clone(), forged.clone(), late, stale.clone(), gap, good.clone()];
    let chosen = world.prepare(all, 1 << 20);
    assert!(chosen == [&good], "{} are chosen", chosen.len());
    assert!(world.is_accepted(chosen));
    assert!(!world.is_accepted(vec![good.clone(), garbage]));
    assert!(!world.is_accepted(vec![good.clone(), forged]));
    assert!(!world.is_accepted(vec![Bytes::from(vec![0; 200_000])]));
    // What only the state can tell is for execution to refuse.
    assert!(world.is_accepted(vec![good, stale]));
    assert!(world.is_accepted(vec![]));
}

#[test]
fn redeems_of_closing_channels_go_before_dearer_transactions() {
    let mut world = World::new();
    let stream = world.register(Policy::Paid);
    let channel = world.open(1_000_000_000, &[]);
    let entry = signed(voucher(channel, stream, 1_000));
    let redeem = world.sign("relay", redeem(vec![entry]));
    let dear = world.transfer("other", 0, 1_000_000);
    let all = vec![dear.clone(), redeem.clone()];
    assert_eq!(world.prepare(all.clone(), 1 << 20), [dear.clone(), redeem.clone()]);
    world.done("viewer", Payload::RequestClose { channel });
    assert_eq!(world.prepare(all, 1 << 20), [redeem, dear]);
}

#[test]
fn a_proposal_keeps_to_its_bytes_and_its_order_executes() {
    let mut world = World::new();
    let mut txs = Vec::new();
    for nonce in (0..20).rev() {
        for name in ["viewer", "other", "origin"] {
            txs.push(world.transfer(name, nonce, nonce * 1000));
        }
    }
    let len_bytes = txs[0].len() as i64 + 3;
    let some = world.prepare(txs.clone(), 10 * len_bytes);
    assert_eq!(some.len(), 10);
    let all = world.prepare(txs, 60 * len_bytes);
    assert_eq!(all.len(), 60);
    assert!(world.is_accepted(all.clone()));
    assert!(world.block(all).tx_results.iter().all(|result| result.code == 0));
}
