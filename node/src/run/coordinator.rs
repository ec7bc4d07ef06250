//! A node without media and without a chain: rooms and signalling, pages, metrics.

use std::sync::Arc;

use anyhow::Context as _;

use super::{Face, Hangup, Site, knobs::NodeKnobs};
use crate::{
    banner::Banner,
    coordination::{self, Opened, Streams},
    doctor,
    http::rooms_only::{self, RoomsFace},
    metrics::{BuildInfo, Metrics},
    reload::Reloader,
};

/// Runs it until it is told to end.
pub(super) fn run(site: Site, hangup: Hangup) -> anyhow::Result<()> {
    let Site { service, config, mut home, started, listener, http_at, web, base_url, .. } = site;
    let streams = Streams { admission: None, paying: None };
    let Opened { served, network } =
        coordination::open(&config.coordinator, home.dir(), &base_url, streams)?;
    let served = served.context("a coordinator serves; drop --server=false")?;
    let version = env!("CARGO_PKG_VERSION");
    let metrics = Metrics::new(&BuildInfo { version, link: "none".to_owned(), started });
    metrics.watch_home(home.dir());
    let looked_at = served.clone();
    metrics.watch_rooms(move || looked_at.sight());
    let node_id = served.node_id.clone();
    let face = Arc::new(RoomsFace { metrics, version, started, node_id });
    let app = rooms_only::router(face).merge(served.router());
    home.announce(&format!("http://{}", super::web::reachable(http_at)))?;
    let screen = Banner {
        version: version.to_owned(),
        base_url,
        checks: vec![
            doctor::secure_context(http_at, web.tls.is_some()),
            doctor::coordinator(&served.node_id, &config.coordinator),
        ],
        is_relay: false,
        ..Banner::default()
    };
    let knobs = NodeKnobs { log: hangup.log, relay: None, money: None, known: None };
    let reloader = Reloader::new(hangup.source, hangup.held, Box::new(knobs));
    let served = Some(served);
    Face {
        listener,
        web,
        app,
        rpc: None,
        screen,
        service,
        reloader,
        halting: None,
        served,
        network,
    }
    .serve(|| true, || {})?;
    tracing::info!("stopped");
    Ok(())
}
