//! `version`: what this binary is, and which others it speaks to.

use std::{env, fmt::Write as _};

use comet::process::Binary;
use consensus_abci::app::APP_VERSION;

use crate::config;

/// Version of ABCI that application and engines speak (`version/version.go` of CometBFT 0.38).
const ABCI_VERSION: &str = "2.0";
/// Version of CometBFT's block format.
const BLOCK_PROTOCOL: u64 = 11;

/// One line, or all that is known.
pub fn version(long: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if !long {
        return format!("sutantra-node {version}\n");
    }
    let io_uring = match sfu::io::available() {
        Ok(()) => "available".to_owned(),
        Err(reason) => reason.to_string(),
    };
    let commit = option_env!("SUTANTRA_COMMIT").filter(|commit| !commit.is_empty());
    let cometbft = match Binary::find(None) {
        Ok(Binary { path, version, .. }) => format!("{version}, {}", path.display()),
        Err(error) => format!("none: {error}"),
    };
    let rows = [
        ("commit", commit.unwrap_or("unknown: built without SUTANTRA_COMMIT").to_owned()),
        ("rustc", env!("SUTANTRA_RUSTC").to_owned()),
        ("target", format!("{}-{}", env::consts::ARCH, env::consts::OS)),
        ("allocator", "mimalloc".to_owned()),
        ("crypto", "aws-lc-rs".to_owned()),
        ("io_uring", io_uring),
        ("shards", format!("at most {}", config::SHARDS_MAX)),
        ("ABCI", ABCI_VERSION.to_owned()),
        ("block", BLOCK_PROTOCOL.to_string()),
        ("app", APP_VERSION.to_string()),
        ("CometBFT", cometbft),
    ];
    let mut text = format!("sutantra-node {version}\n");
    for (name, value) in rows {
        writeln!(text, "{name:<10} {value}").expect("a String takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_form_names_compiler_and_protocols() {
        assert_eq!(version(false), format!("sutantra-node {}\n", env!("CARGO_PKG_VERSION")));
        let long = version(true);
        for row in ["rustc      rustc 1.", "ABCI       2.0\n", "block      11\n", "app        1\n"]
        {
            assert!(long.contains(row), "{row} is not in {long}");
        }
    }
}
