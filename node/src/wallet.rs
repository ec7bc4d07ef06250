//! `wallet …`: an account on the command line, its money, pools and streams, and a viewer that pays.

use std::path::Path;

use ::wallet::{Chain, Keystore, Pools, Rpc, Step, http::Url};
use anyhow::{Context as _, bail};
use chain_types::{AccountId, Balance, SigningKey, StreamId};

use crate::config::home;

mod account;
mod args;
mod pools;
mod stream;
mod watch;

pub use args::{PolicyName, PriceArgs, SplitArgs, WalletArgs, WalletCommand};

/// Where a chain's RPC is unless it is said.
const RPC_DEFAULT: &str = "http://127.0.0.1:26657";
/// Where a relay is unless it is said.
const RELAY_DEFAULT: &str = "http://127.0.0.1:8080";

/// Where the wallet lies and whom it asks.
pub struct Surroundings {
    keystore: Keystore,
    rpc: Url,
    relay: Url,
}

impl Surroundings {
    fn key(&self) -> anyhow::Result<SigningKey> {
        Ok(self.keystore.open()?)
    }

    fn account(&self) -> anyhow::Result<AccountId> {
        Ok(AccountId::from(&self.key()?))
    }

    fn chain(&self) -> anyhow::Result<Chain> {
        Ok(Chain::connect(Rpc::new(self.rpc.clone()))?)
    }

    fn pools(&self, chain: &Chain) -> anyhow::Result<Pools> {
        Ok(Pools::open(self.keystore.dir(), chain.id())?)
    }

    /// The id of a stream that is named by it, or by a name that the relay knows.
    fn stream_id(&self, name: &str) -> anyhow::Result<StreamId> {
        if let Ok(id) = name.parse() {
            return Ok(id);
        }
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_name {
            bail!("{name:?} is no stream: give 64 hex digits, or a name that the relay knows");
        }
        let url = self.relay.at(&format!("/api/streams/{name}"))?;
        let request = ::wallet::http::Request { method: "GET", headers: &[], body: &[] };
        let answer = url.send(request)?;
        if answer.status != 200 {
            bail!("{url}: status {}, {}", answer.status, said(&answer));
        }
        let json: serde_json::Value = serde_json::from_slice(&answer.body)
            .with_context(|| format!("{url} answers something else than JSON"))?;
        let id = json["stream_id"].as_str().and_then(|text| text.parse().ok());
        id.with_context(|| format!("{name} is no stream of a chain: there is nothing to pay"))
    }
}

/// What a relay says that answers with a problem: its sentence, else the body.
fn said(answer: &::wallet::http::Answer) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    let message = json.as_ref().and_then(|json| json["message"].as_str());
    message.map_or_else(|| answer.text().trim().to_owned(), str::to_owned)
}

/// For people.
fn sut(amount: Balance) -> String {
    format!("{} SUT", amount.in_sut())
}

/// Says on stderr how far a transaction is.
fn progress(step: Step) {
    match step {
        Step::Sent => eprintln!("sent, waiting for its block"),
        Step::InBlock => {}
    }
}

/// Carries out one command of the wallet in `home`.
///
/// # Errors
/// A sentence that says what to do next.
pub fn run(args: WalletArgs, home: &Path) -> anyhow::Result<()> {
    let WalletArgs { command, rpc, url } = args;
    let relay = url.or_else(|| home::announced_url(home));
    let around = Surroundings {
        keystore: Keystore::at(home.join("wallet")),
        rpc: rpc.as_deref().unwrap_or(RPC_DEFAULT).parse().context("--rpc")?,
        relay: relay.as_deref().unwrap_or(RELAY_DEFAULT).parse().context("--url")?,
    };
    match command {
        WalletCommand::Create => account::create(&around),
        WalletCommand::Words { yes } => account::words(&around, yes),
        WalletCommand::Import => account::import(&around),
        WalletCommand::Address => account::address(&around),
        WalletCommand::Balance { json } => account::balance(&around, json),
        WalletCommand::Faucet => account::faucet(&around),
        WalletCommand::Send { to, amount } => account::send(&around, to, amount),
        WalletCommand::Open { deposit, relay, reserve } => {
            pools::open(&around, deposit, relay, reserve)
        }
        WalletCommand::TopUp { amount, pool } => pools::top_up(&around, amount, pool),
        WalletCommand::Close { pool, wait } => pools::close(&around, pool, wait),
        WalletCommand::Pools { json } => pools::list(&around, json),
        WalletCommand::Caps { per_stream, per_day } => pools::caps(&around, per_stream, per_day),
        WalletCommand::Watch(args) => watch::watch(&around, &args),
        WalletCommand::Buy { stream, max_price } => stream::buy(&around, &stream, max_price),
        WalletCommand::Stream(command) => stream::run(&around, command),
    }
}
