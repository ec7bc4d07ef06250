//! `status`: how a node is, on one screen, from what it says on its HTTP address and its RPC.

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use super::{endpoint::RpcArgs, say, tx::Output};
use crate::{
    config::{Config, home},
    now_ms,
};

mod metrics;
mod sight;

use sight::Sight;

/// `status`.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// Address of the node's pages [default: the node that runs on the home]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    #[command(flatten)]
    pub rpc: RpcArgs,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Shows it.
///
/// # Errors
/// Something is wrong with the node: the exit code is 1, and a sentence for each fault was shown.
pub fn run(args: StatusArgs, config: &Config) -> anyhow::Result<()> {
    let url = args.url.clone().or_else(|| home::announced_url(&config.home));
    let mut sight = Sight::default();
    match &url {
        Some(url) => sight.ask_node(url),
        None if args.rpc.rpc.is_empty() => sight.wrong.push(format!(
            "no node runs on {}: `sutantra-node start --home {0}`, or name another one with --url or \
             --rpc",
            config.home.display()
        )),
        None => {}
    }
    if args.url.is_none() && url.is_some() {
        // The settings are of the home: they say nothing about a node elsewhere.
        sight.role.get_or_insert_with(|| config.on_chain.role.name().to_owned());
    }
    let mut rpc = args.rpc;
    if rpc.rpc.is_empty()
        && let Some(url) = url.as_ref().filter(|url| url.starts_with("http://"))
    {
        // Whoever has the pages has the RPC below them.
        rpc.rpc.push(format!("{}/rpc", url.trim_end_matches('/')));
    }
    if sight.has_chain() && (url.is_some() || !rpc.rpc.is_empty()) {
        sight.ask_rpc(&rpc.clients(config)?[0]);
    }
    sight.judge(now_ms());
    if args.json || args.output == Output::Json {
        say(&format!("{}\n", sight.to_json(now_ms())))?;
    } else {
        say(&sight.screen(now_ms()))?;
    }
    match sight.wrong.as_slice() {
        [] => Ok(()),
        [one] => bail!("{one}"),
        several => bail!("{} things are wrong, see above", several.len()),
    }
}

/// A number that JSON has as one, or as text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
