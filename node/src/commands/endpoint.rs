//! Which RPC of the chain a command asks.

use clap::Args;
use comet::rpc::Client;

use crate::config::{Config, home};

/// Where a chain's RPC is unless anything else is known.
const RPC_DEFAULT: &str = "http://127.0.0.1:26657";

/// `--rpc`.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct RpcArgs {
    /// CometBFT RPC of the chain, repeatable: the first answers, the others are witnesses against
    /// it [default: chain-rpc or rpc of the configuration, else the node that runs on the home]
    #[arg(long, global = true, value_name = "URL")]
    pub rpc: Vec<String>,
}

impl RpcArgs {
    /// The endpoints, at least one.
    ///
    /// # Errors
    /// An address that no RPC can have.
    pub fn clients(&self, config: &Config) -> anyhow::Result<Vec<Client>> {
        let client = |url: &String| Ok(Client::new(url)?);
        self.urls(config).iter().map(client).collect()
    }

    fn urls(&self, config: &Config) -> Vec<String> {
        let of_config = &config.on_chain.chain_rpc;
        match (self.rpc.as_slice(), of_config.as_slice()) {
            ([], []) => {}
            ([], configured) => return configured.to_vec(),
            (said, _) => return said.to_vec(),
        }
        if let Some(at) = config.rpc {
            return vec![format!("http://{at}")];
        }
        // Where port 26657 was taken, the node's RPC is under its pages alone.
        let announced = home::announced_url(&config.home).filter(|url| url.starts_with("http://"));
        vec![announced.map_or(RPC_DEFAULT.to_owned(), |url| format!("{url}/rpc"))]
    }
}
