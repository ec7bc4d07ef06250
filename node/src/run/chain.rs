//! The chain of a start: opened as the configuration says, and the relay's part in it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use axum::Router;
use chain_types::{AccountId, StreamId, frame::PAY_CHANNEL_LABEL};
use crossbeam_channel::Receiver;
use settlement::money::{Money, MoneyConfig};
use sfu::{
    Relay,
    ports::{Frame, SideChannelConfig, UsageReport},
};

use super::Mode;
use crate::{
    chain::{self, Begin, Introduction, Keys, LocalChain, NodeChain, RPC_PORT, RemoteChain, Till},
    config::{Config, chain::Role},
    demo,
    paying::{BySettlement, Paying, RelayOutlets},
};

/// How long a session waits for money, s.
const PAUSE_MAX_S: u32 = 60;
/// Between the first two attempts to make the relay known to a chain; then twice as long each time.
const INTRODUCE_AGAIN: Duration = Duration::from_secs(1);
/// The longest such time: the account has no money, and a person has to send some.
const INTRODUCE_AGAIN_MAX: Duration = Duration::from_secs(10);
/// How often a thread that waits looks whether the node ends.
const END_POLL: Duration = Duration::from_millis(200);

/// The side channel on which viewers pay.
pub(super) fn side_channel() -> SideChannelConfig {
    SideChannelConfig { label: PAY_CHANNEL_LABEL.into() }
}

/// The chain of this home and the node's keys on it.
pub(super) struct OwnChain {
    pub(super) keys: Arc<Keys>,
    pub(super) chain: Arc<dyn NodeChain>,
    is_ending: Arc<AtomicBool>,
}

impl OwnChain {
    /// Opens what the configuration asks for.
    pub(super) fn open(mode: Mode, config: &Config, home: &Path) -> anyhow::Result<Self> {
        let keys = Arc::new(Keys::open(home, mode == Mode::Development)?);
        let begin = match mode {
            Mode::Development => Begin::Development(&keys),
            Mode::Service => Begin::Refuse,
        };
        let on_chain = &config.on_chain;
        let chain: Arc<dyn NodeChain> = match on_chain.role {
            Role::Relay => Arc::new(
                RemoteChain::open(home, &on_chain.chain_rpc, on_chain.trust)
                    .map_err(chain::unusable)?,
            ),
            Role::Coordinator => bail!("a coordinator keeps no chain: drop --chain"),
            Role::Validator | Role::ValidatorRelay => {
                let opened = LocalChain::open(home, begin, on_chain, config.rpc);
                Arc::new(opened.map_err(chain::unusable)?)
            }
        };
        Ok(Self { keys, chain, is_ending: Arc::default() })
    }

    /// Starts MONEY beside the relay.
    pub(super) fn open_books(
        &self,
        config: &Config,
        home: &Path,
        relay: &Arc<Relay>,
        (frames, usage): (Receiver<Frame>, Receiver<UsageReport>),
        faucet: bool,
    ) -> anyhow::Result<(Arc<Paying>, BySettlement)> {
        let payee = AccountId::from(&self.keys.operator);
        let relay_key = AccountId::from(&self.keys.relay);
        let money = MoneyConfig {
            home: home.join("settlement"),
            payee,
            relay_key: self.keys.relay.clone(),
            relay_fingerprint: relay.fingerprint(),
            fee_wallet: self.keys.relay.clone(),
            cadence_ms: config.money.cadence_ms,
            grace_ms: config.money.grace_ms,
            pause_max_s: PAUSE_MAX_S,
            exposure_seconds: config.money.exposure_seconds,
            serve_free: config.money.serve_free.clone(),
            min_share_bps: config.money.min_share_bps,
        };
        let (outlets, gates) = RelayOutlets::new(relay.clone());
        let chain: Arc<dyn settlement::Chain> = self.chain.clone();
        let money = Money::start(money, chain, Box::new(outlets), frames, usage)
            .context("the books of this home cannot be used")?;
        let demo = || {
            let name = demo::NAME.parse().expect("a valid name, fixed there");
            (name, StreamId::of(&AccountId::from(&self.keys.creator), 0))
        };
        let till = self.keys.faucet.clone().filter(|_| faucet).map(Till::new);
        let paying = Paying {
            money: money.clone(),
            chain: self.chain.clone(),
            aliases: config.demo.then(demo).into_iter().collect(),
            payee,
            relay_key,
            faucet: till,
        };
        Ok((Arc::new(paying), BySettlement::new(money, gates)))
    }

    /// Makes relay and demo stream known to the chain. A development node that cannot is no use; a
    /// service waits for money on its accounts, and says which.
    pub(super) fn introduce(
        &self,
        mode: Mode,
        config: &Config,
        endpoint: &str,
    ) -> anyhow::Result<()> {
        let (keys, chain, is_ending) =
            (self.keys.clone(), self.chain.clone(), self.is_ending.clone());
        let (endpoint, demo) = (endpoint.to_owned(), config.demo);
        let (wholesale_per_gb, min_share_bps) =
            (config.money.wholesale_per_gb, config.money.min_share_bps);
        let attempt = move || {
            let introduction = Introduction {
                keys: &keys,
                endpoint: &endpoint,
                wholesale_per_gb,
                min_share_bps,
                demo,
            };
            introduction.make(&*chain)
        };
        if mode == Mode::Development {
            return attempt().map_err(chain::unusable);
        }
        let run = move || {
            let mut said = String::new();
            let mut pause = INTRODUCE_AGAIN;
            while !is_ending.load(Ordering::Relaxed) {
                match attempt() {
                    Ok(()) => {
                        tracing::info!("the chain knows this relay");
                        return;
                    }
                    Err(error) => {
                        let sentence = format!("{error:#}");
                        if sentence != said {
                            tracing::warn!(
                                "this relay is not on the chain yet: {sentence}; it tries again"
                            );
                            said = sentence;
                        }
                    }
                }
                let mut left = pause;
                pause = (pause * 2).min(INTRODUCE_AGAIN_MAX);
                while !left.is_zero() && !is_ending.load(Ordering::Relaxed) {
                    thread::sleep(END_POLL);
                    left = left.saturating_sub(END_POLL);
                }
            }
        };
        thread::Builder::new()
            .name("introduce".to_owned())
            .spawn(run)
            .context("no thread to register the relay")?;
        Ok(())
    }

    /// The chain's RPC on an address of its own, as people's tools expect it. Where nobody chose the
    /// address and it is taken, `/rpc` of HTTP has to do.
    pub(super) fn bind_rpc(
        &self,
        asked: Option<SocketAddr>,
    ) -> anyhow::Result<Option<(TcpListener, Router)>> {
        // A CometBFT serves its own.
        if self.chain.rpc_at().is_some() {
            return Ok(None);
        }
        let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, RPC_PORT));
        match TcpListener::bind(asked.unwrap_or(usual)) {
            Ok(listener) => {
                listener.set_nonblocking(true).context("the RPC listener")?;
                Ok(Some((listener, self.chain.rpc_router())))
            }
            Err(error) => match asked {
                None => Ok(None),
                Some(asked) => bail!("--rpc {asked}: {error}; choose another address"),
            },
        }
    }
}

impl Drop for OwnChain {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }
}
