//! Viewers that pay by the second, each from an account and a pool of its own on a real chain.

mod bank;
mod enter;
mod ledger;
mod seat;

pub use bank::{Bank, BankConfig, Funds};
pub use ledger::{PayAccount, Payments};
pub use seat::{Purse, Seat};

/// Unix time, ms.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
