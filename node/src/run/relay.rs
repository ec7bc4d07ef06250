//! A node that forwards media, with a chain or without one.

use std::{sync::Arc, thread};

use anyhow::{Context, anyhow};
use chain_types::AccountId;
use sfu::{RelayConfig, Started};

use super::{Face, Hangup, Site, chain::OwnChain, knobs::NodeKnobs, media, web};
use crate::{
    admission::{Admission, Grants, Open},
    banner::{self, Banner},
    config::{Link, endpoints, home},
    coordination::{self, Opened, Streams},
    demo::{self, Demo},
    doctor,
    http::{self, About, Access},
    lan,
    metrics::{self, BuildInfo, Metrics},
    paying::Announcer,
    relay_control::{Control, DecisionSource},
    reload::Reloader,
};

/// Runs it until it is told to end.
pub(super) fn run(site: Site, hangup: Hangup) -> anyhow::Result<()> {
    let Site { mode, service, config, mut home, started, listener, http_at, host, web, base_url } =
        site;
    let issuer = home::issuer_key(home.dir())?;
    let certificate = home::dtls_certificate(home.dir())?;
    let grants = match config.open {
        true => None,
        false => Some(Arc::new(Grants::open(home.dir(), vec![AccountId::from(&issuer)])?)),
    };
    let (link, no_uring) = media::choose_link(config.link)?;
    let relay_config = RelayConfig {
        shards: config.shards,
        link,
        endpoints: endpoints::plan(
            &config.media_ips,
            &host,
            http_at.ip().is_loopback(),
            config.udp_port,
        )?,
        pin: config.pin,
        gather: config.gather,
        runs: config.runs,
        certificate,
        sessions_max: config.sessions_max,
        side_channel: config.chain.then(super::chain::side_channel),
        usage: config.chain,
    };
    let Started { relay, events, gates, frames, usage } = media::start(relay_config)?;
    let relay = Arc::new(relay);
    let own = match config.chain {
        true => Some(Arc::new(OwnChain::open(mode, &config, home.dir())?)),
        false => None,
    };
    let version = env!("CARGO_PKG_VERSION");
    let metrics = Arc::new(Metrics::new(&BuildInfo { version, link: link.to_string(), started }));
    metrics.watch_home(home.dir());
    metrics.watch_buffers(relay.buffer_bytes());
    metrics::watch_quality(metrics.clone(), &relay).context("no thread for the metrics")?;
    if let Some(own) = &own {
        let chain = own.chain.clone();
        metrics.watch_engine(move || chain.engine_sight());
        let fee_wallet = AccountId::from(&own.keys.relay);
        metrics::watch_fee_wallet(metrics.clone(), &own.chain, fee_wallet)
            .context("no thread for the metrics")?;
    }
    let mut paying = None;
    let source: Box<dyn DecisionSource> = match (&own, config.decisions.as_deref()) {
        (Some(own), _) => {
            own.introduce(mode, &config, &base_url)?;
            let faucet = config.faucet_public || http_at.ip().is_loopback();
            let opened = own.open_books(&config, home.dir(), &relay, (frames, usage), faucet);
            let (books, source) = opened?;
            paying = Some(books);
            Box::new(source)
        }
        (None, socket) => media::decision_source(socket, gates.clock())?,
    };
    let announcer = paying.as_deref().map(Announcer::new);
    let (control, inputs) =
        Control::new(relay.clone(), events, gates, source, metrics.clone(), announcer);
    let decider = {
        let control = control.clone();
        let name = "control".to_owned();
        thread::Builder::new().name(name).spawn(move || control.run(inputs))
    };
    let decider = decider.context("no thread for the control side")?;
    let demo = match config.demo {
        true => Some(Demo::start(control.clone())?),
        false => None,
    };

    let endpoints = relay.endpoints().to_vec();
    let about = About {
        version,
        link: link.to_string(),
        shards: config.shards,
        udp_port: endpoints.first().map_or(0, |endpoint| endpoint.bind.port()),
        started,
        open: config.open,
        loopback: http_at.ip().is_loopback(),
        ca_pem: web.authority.as_ref().map(|authority| authority.pem().to_owned()),
    };
    let admission: Arc<dyn Admission> = match &grants {
        Some(grants) => grants.clone(),
        None => Arc::new(Open),
    };
    // On an open relay a page's token opens nothing, and must not open anything later either.
    let issuer = if config.open { home::passing_key() } else { issuer };
    let access = Access { admission, grants, issuer };
    let streams = Streams { admission: Some(access.admission.clone()), paying: paying.clone() };
    let Opened { served, network } =
        coordination::open(&config.coordinator, home.dir(), &base_url, streams)?;
    let mut app = http::router(control.clone(), access, metrics.clone(), about, paying.clone());
    if let Some(served) = &served {
        let looked_at = served.clone();
        metrics.watch_rooms(move || looked_at.sight());
        app = app.merge(served.router());
    }
    let rpc = own.as_ref().map(|own| own.bind_rpc(config.rpc)).transpose()?.flatten();

    // Plain HTTP, also where HTTPS is spoken: commands of this home send signed words only.
    home.announce(&format!("http://{}", web::reachable(http_at)))?;
    let bound: Vec<_> = endpoints.iter().map(|endpoint| endpoint.bind).collect();
    let advertised: Vec<_> = endpoints.iter().map(|endpoint| endpoint.advertise.ip()).collect();
    let asked_for = config.link == Link::Epoll;
    let bound_rpc = rpc.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
    let of_chain = |own: &Arc<OwnChain>| {
        let rpc_at = own.chain.rpc_at().or(bound_rpc);
        doctor::chain(own.chain.chain_id(), &own.chain.engine(), rpc_at)
    };
    let screen = Banner {
        version: version.to_owned(),
        is_relay: true,
        demo: demo.is_some().then(|| format!("{base_url}/watch/{}", demo::NAME)),
        checks: vec![
            match &web.authority {
                Some(_) => doctor::local_network(http_at, &host),
                None => doctor::secure_context(http_at, web.tls.is_some()),
            },
            doctor::access(config.open, http_at),
            doctor::link(link, asked_for, no_uring.as_deref(), config.shards),
            doctor::udp_port(&bound),
            doctor::buffers(relay.buffer_bytes()),
            doctor::candidates(&advertised),
        ]
        .into_iter()
        .chain(own.as_ref().map(of_chain))
        .chain(served.as_ref().map(|of| doctor::coordinator(&of.node_id, &config.coordinator)))
        .collect(),
        lan: web.authority.as_ref().map(|_| banner::Lan {
            guide: lan::trust_guide(&base_url),
            qr_code: lan::qr_code(&format!("{base_url}/")).unwrap_or_default(),
        }),
        token_hint: (!config.open && !http_at.ip().is_loopback()).then(|| {
            "A token for a viewer: sutantra-node grant --stream demo --role subscribe".to_owned()
        }),
        base_url,
    };
    let knobs = NodeKnobs {
        log: hangup.log,
        relay: Some(Arc::downgrade(&relay)),
        money: paying.as_ref().map(|paying| paying.money.clone()),
        known: own.as_ref().map(|own| (own.clone(), screen.base_url.clone())),
    };
    let reloader = Reloader::new(hangup.source, hangup.held, Box::new(knobs));
    let (draining, books) = (control.clone(), paying.clone());
    // Alive as long as the thread that decides answers.
    let is_alive = move || books.as_ref().is_none_or(|books| books.money.counters().is_some());
    // The drain waits for the shards.
    let halting = own.as_ref().and_then(|own| own.chain.halting());
    Face { listener, web, app, rpc, screen, service, reloader, halting, served, network }
        .serve(is_alive, move || draining.drain())?;
    drop(demo);
    drop((control, relay));
    decider.join().map_err(|_| anyhow!("the control side has panicked"))?;
    // MONEY last, when nothing is served any more; then the chain, which it may still hand to.
    if let Some(paying) = &paying {
        paying.money.stop();
        paying.chain.stop();
    }
    tracing::info!("stopped");
    Ok(())
}
