//! The grammar of `localnet`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, value_parser};

use super::net::VALIDATORS_MAX;
use crate::chain::genesis::ParamChange;

/// `localnet`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct LocalnetArgs {
    /// How many validators, 1 to 10 [default: 4, or as many as the network has]
    #[arg(long, value_name = "N", value_parser = value_parser!(u8).range(1..=VALIDATORS_MAX as i64))]
    pub validators: Option<u8>,
    /// Directory of the network [default: localnet in the home]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Throw away the network in the directory, keys and money and all, and begin another
    #[arg(long)]
    pub fresh: bool,
    /// Validators alone
    #[arg(long)]
    pub no_relay: bool,
    /// Another value of a parameter of a new network's chain, repeatable; amounts in SUT
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub params: Vec<ParamChange>,
    /// First port; each node has ten from there on [default: 26656, where it is free]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1024..))]
    pub base_port: Option<u16>,
    /// Pause after each block, such as 200ms or 1s
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = pause)]
    pub timeout_commit: Duration,
    /// Where the relay serves pages, WHIP, WHEP and API [default: 127.0.0.1:8080, where it is free]
    #[arg(long, value_name = "ADDR", conflicts_with = "no_relay")]
    pub http: Option<SocketAddr>,
    /// CometBFT's program, version 0.38 or 0.39 [default: the first in .tools, PATH or Go's bin]
    #[arg(long, value_name = "FILE")]
    pub comet_bin: Option<PathBuf>,
}

fn pause(text: &str) -> Result<Duration, String> {
    const PAUSE_MS_MAX: u64 = 60_000;
    let (digits, unit_ms) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1000),
        (None, None) => return Err("write a number and ms or s, such as 200ms".to_owned()),
    };
    let ms = digits.parse().ok().and_then(|number: u64| number.checked_mul(unit_ms));
    match ms.filter(|ms| *ms <= PAUSE_MS_MAX) {
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err("write a whole number and ms or s, at most 60s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_has_a_unit_and_a_bound() {
        let ms = |ms| Ok(Duration::from_millis(ms));
        assert_eq!((pause("200ms"), pause("1s"), pause("0ms")), (ms(200), ms(1_000), ms(0)));
        for wrong in ["", "200", "ms", "1.5s", "-1s", "61s", "18446744073709551615s", "1m"] {
            assert!(pause(wrong).is_err(), "{wrong}");
        }
    }
}
