//! Redeeming: vouchers become transactions, and stay at hand until the chain has them.

pub mod merkle;
mod submitter;
#[cfg(test)]
mod submitter_tests;
mod thread;
mod watch;

use chain_types::{LaneKey, SignedVoucher, VOUCHER_SIGNED_BYTES};

pub use submitter::{
    GaveUp, Input, Output, PENDING_MAX, RESIGN_MAX, RedeemCounters, RedeemEvent, Submitter,
    VALID_BLOCKS,
};
pub use thread::{SubmitterThread, spawn};
pub use watch::{REDEEM_WITHIN_BLOCKS, Urgency, Urgent, urgent};

/// A leaf under a Redeem's `watch_root`: the signed voucher, which says what the viewer received.
pub fn watch_leaf(voucher: &SignedVoucher) -> [u8; VOUCHER_SIGNED_BYTES] {
    voucher.encode()
}

/// A leaf under a Redeem's `qos_root`: channel ‖ payee ‖ stream ‖ lane u32 ‖ SHA-256 of the viewer's
/// last quality report. `None`: the viewer has reported nothing, and the lane has no leaf.
pub fn qos_leaf(voucher: &SignedVoucher) -> Option<[u8; 132]> {
    let LaneKey { channel, payee, stream, lane } = voucher.voucher.lane_key();
    let qos = voucher.voucher.qos;
    if qos == [0; 32] {
        return None;
    }
    let mut leaf = [0; 132];
    leaf[..32].copy_from_slice(&channel.0);
    leaf[32..64].copy_from_slice(&payee.0);
    leaf[64..96].copy_from_slice(&stream.0);
    leaf[96..100].copy_from_slice(&lane.to_be_bytes());
    leaf[100..].copy_from_slice(&qos);
    Some(leaf)
}
