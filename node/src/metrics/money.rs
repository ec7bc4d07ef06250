//! What `/metrics` shows of chain and money; the counts are MONEY's own, taken when somebody scrapes.

use prometheus::proto::{MetricFamily, MetricType};
use settlement::{decide::Counters, redeem::RedeemCounters};

use super::family;

/// The chain and the books at one moment.
#[derive(Debug, Clone, Default)]
pub struct MoneySight {
    /// Of the books; none while they are stopping.
    pub books: Option<Counters>,
    /// Of the newest committed block.
    pub height: u64,
    /// Its time, unix ms.
    pub block_time_ms: u64,
    /// Why no further block is made.
    pub halted: Option<String>,
    /// The node is a relay that is paid.
    pub has_books: bool,
    /// How redeeming goes.
    pub redeems: Option<RedeemCounters>,
    /// Transactions that wait for a block, where this process knows.
    pub waiting: Option<usize>,
}

/// In the order of [`chain_types::LaneState`].
const STATES: [&str; 6] = ["pending", "active", "late", "paused", "disputed", "closed"];

/// The families of `sight`.
#[expect(clippy::cast_precision_loss, reason = "Prometheus' values are f64")]
pub fn families(sight: &MoneySight) -> Vec<MetricFamily> {
    let single = |name, help, value| family(name, help, MetricType::GAUGE, "", &[("", value)]);
    let mut families = vec![
        single(
            "sutantra_chain_height",
            "Height of the newest committed block",
            sight.height as f64,
        ),
        single(
            "sutantra_chain_block_time_seconds",
            "Time of the newest committed block, unix seconds",
            sight.block_time_ms as f64 / 1000.0,
        ),
        single(
            "sutantra_chain_halted",
            "1 when no further block is made",
            f64::from(u8::from(sight.halted.is_some())),
        ),
    ];
    families.extend(sight.waiting.map(|waiting| {
        let help = "Transactions that wait for a block";
        single("sutantra_mempool_transactions", help, waiting as f64)
    }));
    families.extend(sight.books.iter().flat_map(of_books));
    families.extend(sight.redeems.iter().flat_map(of_redeems));
    families
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' values are f64")]
fn of_redeems(redeems: &RedeemCounters) -> Vec<MetricFamily> {
    // No `..`: what is not shown does not compile.
    let RedeemCounters {
        signed,
        resigned,
        submitted,
        redeemed,
        vouchers_redeemed,
        failed,
        gave_up,
        vouchers_known,
        fees_units,
        pending,
        waiting,
    } = *redeems;
    let count = |name, help, label, values: &[(&str, u64)]| {
        let values: Vec<_> = values.iter().map(|&(value, count)| (value, count as f64)).collect();
        family(name, help, MetricType::COUNTER, label, &values)
    };
    let now =
        |name, help, value: u64| family(name, help, MetricType::GAUGE, "", &[("", value as f64)]);
    vec![
        count(
            "sutantra_redeem_transactions_total",
            "Transactions that redeem vouchers, by how far they came; resigned ones are signed too",
            "step",
            &[
                ("signed", signed),
                ("resigned", resigned),
                ("submitted", submitted),
                ("redeemed", redeemed),
                ("failed", failed),
                ("gave_up", gave_up),
            ],
        ),
        count(
            "sutantra_redeem_vouchers_total",
            "Vouchers that were redeemed, or that the chain had paid already",
            "result",
            &[("redeemed", vouchers_redeemed), ("known", vouchers_known)],
        ),
        family(
            "sutantra_redeem_fees_total",
            "Fees of redeems in blocks, in units of 10^-9 SUT",
            MetricType::COUNTER,
            "",
            &[("", fees_units as f64)],
        ),
        now("sutantra_redeem_pending_transactions", "Redeems on their way into a block", pending),
        now("sutantra_redeem_waiting_vouchers", "Vouchers that wait for a redeem", waiting),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus' values are f64")]
fn of_books(books: &Counters) -> Vec<MetricFamily> {
    // No `..`: what is not shown does not compile.
    let Counters {
        vouchers_accepted,
        vouchers_stale,
        vouchers_invalid,
        accepted_units,
        redeemed_units,
        redeems,
        payment_required,
        admitted,
        refused,
        gate_flips_chain,
        gate_flips_voucher,
        gate_flips_time,
        sessions_by_state,
        exposure_units,
        is_books_unsafe,
    } = *books;
    let states = STATES.into_iter().zip(sessions_by_state.map(|count| count as f64));
    let count = |name, help, label, values: &[(&str, u64)]| {
        let values: Vec<_> = values.iter().map(|&(value, count)| (value, count as f64)).collect();
        family(name, help, MetricType::COUNTER, label, &values)
    };
    let sum = |name, help, value: u128| {
        family(name, help, MetricType::COUNTER, "", &[("", value as f64)])
    };
    let single = |name, help, value| family(name, help, MetricType::GAUGE, "", &[("", value)]);
    vec![
        count(
            "sutantra_voucher_total",
            "Vouchers that came, by what became of them",
            "result",
            &[
                ("accepted", vouchers_accepted),
                ("stale", vouchers_stale),
                ("invalid", vouchers_invalid),
            ],
        ),
        sum(
            "sutantra_accepted_value_total",
            "Sum of accepted vouchers, in units of 10^-9 SUT",
            accepted_units,
        ),
        sum(
            "sutantra_redeem_value_total",
            "Sum paid out by the chain, in units of 10^-9 SUT",
            redeemed_units,
        ),
        count(
            "sutantra_redeem_batches_total",
            "Batches of vouchers handed over to be redeemed",
            "",
            &[("", redeems)],
        ),
        count(
            "sutantra_paywall_402_total",
            "Requests to watch that were answered 402",
            "",
            &[("", payment_required)],
        ),
        count(
            "sutantra_money_admissions_total",
            "Requests to watch a stream of the chain, by verdict",
            "verdict",
            &[("admitted", admitted), ("refused", refused)],
        ),
        count(
            "sutantra_gate_flips_total",
            "Gates that MONEY opened or closed, by what made it",
            "source",
            &[
                ("chain", gate_flips_chain),
                ("voucher", gate_flips_voucher),
                ("time", gate_flips_time),
            ],
        ),
        family(
            "sutantra_lane_state",
            "Sessions of streams of the chain, by state",
            MetricType::GAUGE,
            "state",
            &states.collect::<Vec<_>>(),
        ),
        single(
            "sutantra_exposure_units",
            "Owed and neither redeemed nor reserved, in units of 10^-9 SUT",
            exposure_units as f64,
        ),
        single(
            "sutantra_books_unsafe",
            "1 while vouchers cannot be logged: nobody is admitted, nothing is redeemed",
            f64::from(u8::from(is_books_unsafe)),
        ),
    ]
}
