//! The account that pays the fees of redeems: without money on it nothing is earned.

use std::{
    io,
    sync::{Arc, PoisonError, Weak},
    thread,
    time::Duration,
};

use chain_types::{AccountId, Balance};
use prometheus::proto::{MetricFamily, MetricType};

use super::{Metrics, family};
use crate::chain::NodeChain;

/// Between two looks at the account.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often it is looked whether the node ends.
const END_POLL: Duration = Duration::from_millis(250);

/// Looks at `wallet` on a thread of its own, which may wait for a remote chain, until the chain is
/// gone.
///
/// # Errors
/// The system gives no thread.
pub fn watch(
    metrics: Arc<Metrics>,
    chain: &Arc<dyn NodeChain>,
    wallet: AccountId,
) -> io::Result<()> {
    let chain: Weak<dyn NodeChain> = Arc::downgrade(chain);
    let run = move || {
        while let Some(alive) = chain.upgrade() {
            let balance = alive.account(&wallet).ok().map(|account| account.balance);
            drop(alive);
            *metrics.fee_wallet.lock().unwrap_or_else(PoisonError::into_inner) = balance;
            let mut left = INTERVAL;
            while !left.is_zero() && chain.strong_count() > 0 {
                thread::sleep(END_POLL);
                left = left.saturating_sub(END_POLL);
            }
        }
    };
    thread::Builder::new().name("fee-wallet".to_owned()).spawn(run).map(drop)
}

/// Its balance.
#[expect(clippy::cast_precision_loss, reason = "Prometheus' values are f64")]
pub(super) fn family_of(balance: Balance) -> MetricFamily {
    family(
        "sutantra_fee_wallet_units",
        "What is on the account that pays the fees of redeems, in units of 10^-9 SUT",
        MetricType::GAUGE,
        "",
        &[("", balance.units() as f64)],
    )
}
