//! A node without media: the chain, its RPC, its pages and metrics.

use std::sync::Arc;

use chain_types::AccountId;

use super::{Face, Hangup, Site, chain::OwnChain, knobs::NodeKnobs};
use crate::{
    banner::Banner,
    coordination::{self, Opened, Streams},
    doctor,
    http::chain_only::{self, ChainFace},
    metrics::{BuildInfo, Metrics},
    reload::Reloader,
};

/// Runs it until it is told to end.
pub(super) fn run(site: Site, hangup: Hangup) -> anyhow::Result<()> {
    let Site { mode, service, config, mut home, started, listener, http_at, web, base_url, .. } =
        site;
    let own = OwnChain::open(mode, &config, home.dir())?;
    let version = env!("CARGO_PKG_VERSION");
    let metrics = Metrics::new(&BuildInfo { version, link: "none".to_owned(), started });
    metrics.watch_home(home.dir());
    let chain = own.chain.clone();
    metrics.watch_engine(move || chain.engine_sight());
    let streams = Streams { admission: None, paying: None };
    let Opened { served, network } =
        coordination::open(&config.coordinator, home.dir(), &base_url, streams)?;
    if let Some(served) = &served {
        let looked_at = served.clone();
        metrics.watch_rooms(move || looked_at.sight());
    }
    let face = ChainFace {
        chain: own.chain.clone(),
        metrics,
        version,
        started,
        operator: AccountId::from(&own.keys.operator),
    };
    let mut app = chain_only::router(Arc::new(face));
    if let Some(served) = &served {
        app = app.merge(served.router());
    }
    let rpc = own.bind_rpc(config.rpc)?;
    let bound_rpc = rpc.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
    let rpc_at = own.chain.rpc_at().or(bound_rpc);
    home.announce(&format!("http://{}", super::web::reachable(http_at)))?;
    let screen = Banner {
        version: version.to_owned(),
        base_url,
        checks: [doctor::chain(own.chain.chain_id(), &own.chain.engine(), rpc_at)]
            .into_iter()
            .chain(served.as_ref().map(|of| doctor::coordinator(&of.node_id, &config.coordinator)))
            .collect(),
        is_relay: false,
        ..Banner::default()
    };
    let knobs = NodeKnobs { log: hangup.log, relay: None, money: None, known: None };
    let reloader = Reloader::new(hangup.source, hangup.held, Box::new(knobs));
    let chain = own.chain.clone();
    // Alive as long as the state can be read.
    let is_alive = move || chain.params().is_ok();
    let halting = own.chain.halting();
    Face { listener, web, app, rpc, screen, service, reloader, halting, served, network }
        .serve(is_alive, || {})?;
    own.chain.stop();
    tracing::info!("stopped");
    Ok(())
}
