//! What a SIGHUP turns in a running node.

use std::sync::{Arc, Weak};

use settlement::{decide::Limits, money::Money};
use sfu::Relay;

use super::{Mode, chain::OwnChain, log::Log};
use crate::{
    config::{Config, money::MoneyLimits},
    reload::Knobs,
};

/// Of a role; a part that it lacks takes everything.
pub(super) struct NodeKnobs {
    pub(super) log: Log,
    pub(super) relay: Option<Weak<Relay>>,
    pub(super) money: Option<Money>,
    /// The chain that knows this relay, and under which address.
    pub(super) known: Option<(Arc<OwnChain>, String)>,
}

impl Knobs for NodeKnobs {
    fn log(&mut self, config: &Config) -> anyhow::Result<()> {
        self.log.change(config)
    }

    fn limits(&mut self, limits: &MoneyLimits) -> anyhow::Result<()> {
        let Some(money) = &self.money else { return Ok(()) };
        let MoneyLimits {
            cadence_ms,
            grace_ms,
            exposure_seconds,
            min_share_bps,
            wholesale_per_gb: _, // Of the relay's facts on the chain.
            ref serve_free,
        } = *limits;
        let serve_free = serve_free.clone();
        let limits = Limits { cadence_ms, grace_ms, exposure_seconds, serve_free, min_share_bps };
        Ok(money.reconfigure(limits)?)
    }

    fn facts(&mut self, config: &Config) -> anyhow::Result<()> {
        match &self.known {
            // In its own time: it is a transaction, and the chain may not answer now.
            Some((own, base_url)) => own.introduce(Mode::Service, config, base_url),
            None => Ok(()),
        }
    }

    fn sessions_max(&mut self, sessions: usize) -> anyhow::Result<()> {
        if let Some(relay) = self.relay.as_ref().and_then(Weak::upgrade) {
            relay.set_sessions_max(sessions);
        }
        Ok(())
    }
}
