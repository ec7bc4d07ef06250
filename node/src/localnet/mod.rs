//! `localnet`: a network of validators and a relay on this machine, each a process of this program.
//!
//! ```text
//! localnet ─┬─ start --role validator --comet spawn (node0) ── cometbft
//!           ├─ … node1, node2, node3
//!           └─ start --role relay --chain-rpc … (relay)
//! ```
//!
//! The directory holds `localnet.json` and a home for each. Ended, it goes on where it was.

mod args;
mod conduct;
mod homes;
mod member;
mod net;
mod ports;
mod screen;
mod sight;
mod terminal;

use std::{ffi::OsString, path::Path, time::Instant};

use anyhow::Context;
use comet::process::Binary;

pub use args::LocalnetArgs;
use conduct::Conductor;
use homes::Homes;
use member::Member;
use net::{Dir, Net, Wish};
use ports::Ports;

use crate::config::chain::CHAIN_RPC_MAX;

/// Runs the network until it is told to end. `home` is where it lies unless `--dir` is given.
///
/// # Errors
/// A sentence that says what is in the way; what was started has ended then.
pub fn run(args: &LocalnetArgs, home: &Path) -> anyhow::Result<()> {
    // First what a person has to install: nothing is written before.
    let binary = Binary::find(args.comet_bin.as_deref())?;
    let comet_bin = std::path::absolute(&binary.path).context("CometBFT's program")?;
    let dir = Dir::open(&args.dir.clone().unwrap_or_else(|| home.join("localnet")))?;
    let wish = Wish {
        validators: args.validators.map(usize::from),
        base_port: args.base_port,
        http: args.http,
        no_relay: args.no_relay,
        fresh: args.fresh,
    };
    let net = dir.net(wish, &mut Ports::of_machine())?;
    let homes = homes::prepare(&dir, &net, &args.params)?;
    let nodes = (0..net.nodes.len()).map(|number| {
        let words = validator(&net, &homes, number, args, comet_bin.as_os_str());
        Member::new(format!("node{number}"), dir.node(number), words)
    });
    let nodes = nodes.collect();
    let relay = (!args.no_relay).then(|| Member::new("relay".to_owned(), dir.relay(), relay(&net)));
    let about = format!("CometBFT {}", binary.version);
    Conductor::new(dir, net, nodes, relay, &about, Instant::now())?.run()
}

/// Arguments of a validator, after its home.
fn validator(
    net: &Net,
    homes: &Homes,
    number: usize,
    args: &LocalnetArgs,
    comet_bin: &std::ffi::OsStr,
) -> Vec<OsString> {
    let own = net.nodes[number];
    let at = |port| format!("127.0.0.1:{port}");
    let mut words = Words::default();
    words.pair("--role", "validator").pair("--moniker", format!("node{number}"));
    words.pair("--comet", "spawn").pair("--comet-bin", comet_bin);
    words.pair("--http", at(own.http)).pair("--rpc", at(own.rpc)).pair("--p2p", at(own.p2p));
    words.pair("--timeout-commit-ms", args.timeout_commit.as_millis().to_string());
    for (other, (ports, id)) in net.nodes.iter().zip(&homes.node_ids).enumerate() {
        if other != number {
            words.pair("--peers", format!("{id}@{}", at(ports.p2p)));
        }
    }
    words.0
}

/// Arguments of the relay, after its home.
fn relay(net: &Net) -> Vec<OsString> {
    let mut words = Words::default();
    words.pair("--role", "relay").pair("--http", net.relay.http.to_string());
    words.pair("--rpc", format!("127.0.0.1:{}", net.relay.rpc));
    words.pair("--udp-port", net.relay.udp.to_string());
    let mut endpoints: Vec<String> =
        net.nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.rpc)).collect();
    if let [node] = net.nodes.as_slice() {
        // A relay asks two; the only validator has a second door.
        endpoints.push(format!("http://127.0.0.1:{}/rpc", node.http));
    }
    for endpoint in endpoints.iter().take(CHAIN_RPC_MAX) {
        words.pair("--chain-rpc", endpoint);
    }
    words.0.push("--no-demo=false".into());
    words.0
}

#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn pair(&mut self, flag: &str, value: impl AsRef<std::ffi::OsStr>) -> &mut Self {
        self.0.extend([flag.into(), value.as_ref().to_owned()]);
        self
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tempfile::TempDir;

    use super::*;
    use crate::cli::{self, Action};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: LocalnetArgs,
    }

    fn network(validators: usize) -> (Net, Homes) {
        let temp = TempDir::new().unwrap();
        let dir = Dir::open(temp.path()).expect("free");
        let wish = Wish { validators: Some(validators), ..Wish::default() };
        let net = dir.net(wish, &mut Ports::of(|_| true)).expect("a network");
        let node_ids = (0..validators).map(|number| format!("{number:040}")).collect();
        (net, Homes { node_ids })
    }

    fn text(words: &[OsString]) -> String {
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// What `start` makes of the words; each must be a flag that it knows.
    #[track_caller]
    fn parsed(words: &[OsString]) -> cli::ConfigArgs {
        let line = ["sutantra-node", "start"].map(OsString::from).into_iter();
        match cli::parse(line.chain(words.iter().cloned())) {
            Ok(Action::Start(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_validator_knows_all_the_others_and_not_itself() {
        let (net, homes) = network(4);
        let args = Cli::parse_from(["localnet"]).args;
        let words = validator(&net, &homes, 2, &args, "/bin/cometbft".as_ref());
        let flags = parsed(&words).flags;
        let peers = ["0", "1", "3"].map(|id| {
            format!("{id:0>40}@127.0.0.1:{}", 26656 + 10 * id.parse::<u16>().expect("a digit"))
        });
        assert_eq!(flags["peers"], peers);
        assert_eq!(flags["p2p"], ["127.0.0.1:26676"]);
        assert_eq!(flags["rpc"], ["127.0.0.1:26677"]);
        assert_eq!(flags["timeout-commit-ms"], ["200"]);
    }

    #[test]
    fn the_relay_follows_the_chain_by_two_endpoints_at_least() {
        for validators in [1, 2, 4, 10] {
            let words = relay(&network(validators).0);
            let endpoints = &parsed(&words).flags["chain-rpc"];
            assert!((2..=CHAIN_RPC_MAX).contains(&endpoints.len()), "{}", text(&words));
        }
    }

    #[test]
    fn a_network_has_one_to_ten_validators() {
        let parse = |words: &str| {
            Cli::try_parse_from(std::iter::once("localnet").chain(words.split_whitespace()))
        };
        assert_eq!(parse("--validators 10").expect("ten").args.validators, Some(10));
        assert!(parse("--validators 0").is_err() && parse("--validators 11").is_err());
        assert!(parse("--base-port 80").is_err() && parse("--timeout-commit 200").is_err());
        assert!(parse("--no-relay --http 127.0.0.1:80").is_err());
    }
}
