//! Coordinators as the tests want them.

use coordinator::{Mode, Options, Rate};

/// What joins are signed for.
pub const NETWORK: &str = "test-network";

/// Everybody may come, and as often as a test wants.
pub fn open() -> Options {
    let mut options = Options { mode: Mode::Open, ..Options::new("coordinator-xyz") };
    generous(&mut options);
    options
}

/// The same, which knows another node.
pub fn with_seed() -> Options {
    Options { seeds: vec!["http://127.0.0.1:9".to_owned()], ..open() }
}

/// Joins are signed.
pub fn signed() -> Options {
    Options { mode: Mode::Signed, network_id: Some(NETWORK.to_owned()), ..open() }
}

/// Offers and answers too.
pub fn required() -> Options {
    Options { mode: Mode::Required, ..signed() }
}

fn generous(options: &mut Options) {
    let often = Rate { per_minute: 60_000_000, burst: 1_000_000 };
    options.limits.joins = often;
    options.limits.signals = often;
    options.limits.address_opens = often;
    options.limits.address_connections_max = 1_000;
}
