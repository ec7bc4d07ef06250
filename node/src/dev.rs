//! `dev`: starts everything in order, shows the screen, waits for the end, drains.

use std::{
    env,
    future::Future,
    io::{self, IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process,
    sync::Arc,
    thread,
    time::SystemTime,
};

use anyhow::{Context, anyhow, bail};
use chain_types::{AccountId, StreamId, frame::PAY_CHANNEL_LABEL};
use crossbeam_channel::Receiver;
use settlement::money::{Money, MoneyConfig};
use sfu::{
    Relay, RelayConfig, StartError, Started,
    io::{BindError, LinkKind},
    limits::SESSIONS_PER_SHARD_MAX,
    ports::{
        Frame, SideChannelConfig, UsageReport, foreign::ForeignDecisions, gate::MonotonicClock,
    },
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    admission::{Admission, Grants, Open},
    banner::{self, Banner},
    chain::{self, EmbeddedChain, Keys},
    config::{
        Config, Link, LogFormat, TlsChoice, endpoints,
        home::{self, Home},
    },
    demo::{self, Demo},
    doctor,
    http::{self, About, Access},
    lan::{self, Authority},
    metrics::{BuildInfo, Metrics},
    paying::{Announcer, BySettlement, Paying, RelayOutlets},
    relay_control::{ByAdmission, ByForeign, Control, DecisionSource},
    tls::{self, Tls},
};

/// Threads of the runtime: HTTP and timers only, media has threads of its own.
const RUNTIME_THREADS: usize = 2;
/// What the log says unless told otherwise. str0m warns about what peers do wrong, which any peer
/// could fill a disk with; it is counted in the metrics instead.
const LOG_DEFAULT: &str =
    "info,str0m=error,str0m_proto=error,is=error,dimpl=error,sctp_proto=error";
/// Where CometBFT's RPC is by custom.
const RPC_PORT: u16 = 26657;
/// Time between two vouchers, ms.
const CADENCE_MS: u32 = 1000;
/// How far behind a viewer may be before media stops, ms.
const GRACE_MS: u32 = 3000;
/// How long a session waits for money, s.
const PAUSE_MAX_S: u32 = 60;
/// Unreserved money that the relay bears for a channel, in time of its rate, s.
const EXPOSURE_S: u32 = 10;
/// Exit code of a process that Ctrl-C ended (128 + SIGINT).
const INTERRUPTED: i32 = 130;

/// Runs a node until it is told to end.
pub fn run(config: Config, file: Option<PathBuf>) -> anyhow::Result<()> {
    let started = SystemTime::now();
    start_log(config.log_format);
    if let Some(file) = file {
        tracing::info!(file = %file.display(), "configuration file read");
    }
    let mut home = open_home(&config)?;
    let issuer = home::issuer_key(home.dir())?;
    let certificate = home::dtls_certificate(home.dir())?;
    let grants = match config.open {
        true => None,
        false => Some(Arc::new(Grants::open(home.dir(), vec![AccountId::from(&issuer)])?)),
    };
    let listener = bind_http(config.http)?;
    let http_at = listener.local_addr().context("the HTTP listener has no address")?;
    let web = Web::prepare(&config, home.dir())?;

    let host = sfu::io::host_addresses();
    let (link, no_uring) = choose_link(config.link)?;
    let base_url =
        format!("{}://{}", web.scheme(), shown_authority(http_at, &host, web.authority.is_some()));
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
        certificate,
        sessions_max: config.shards * SESSIONS_PER_SHARD_MAX,
        side_channel: config.chain.then(|| SideChannelConfig { label: PAY_CHANNEL_LABEL.into() }),
        usage: config.chain,
    };
    let Started { relay, events, gates, frames, usage } = start_relay(relay_config)?;
    let relay = Arc::new(relay);
    let chain = match config.chain {
        true => Some(OwnChain::start(&config, home.dir(), &base_url)?),
        false => None,
    };
    let version = env!("CARGO_PKG_VERSION");
    let metrics = Arc::new(Metrics::new(&BuildInfo { version, link: link.to_string(), started }));
    let mut paying = None;
    let source: Box<dyn DecisionSource> = match (&chain, config.decisions.as_deref()) {
        (Some(chain), _) => {
            let faucet = config.faucet_public || http_at.ip().is_loopback();
            let opened = chain.open_till(home.dir(), &relay, (frames, usage), faucet);
            let (till, source) = opened?;
            paying = Some(till);
            Box::new(source)
        }
        (None, socket) => decision_source(socket, gates.clock())?,
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
    let app = http::router(control.clone(), access, metrics, about, paying.clone());
    let rpc = chain.as_ref().map(|chain| bind_rpc(&config, chain)).transpose()?.flatten();

    // Plain HTTP, also where HTTPS is spoken: commands of this home send signed words only.
    home.announce(&format!("http://{}", reachable(http_at)))?;
    let bound: Vec<_> = endpoints.iter().map(|endpoint| endpoint.bind).collect();
    let advertised: Vec<_> = endpoints.iter().map(|endpoint| endpoint.advertise.ip()).collect();
    let asked_for = config.link == Link::Epoll;
    let rpc_at = rpc.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
    let screen = Banner {
        version: version.to_owned(),
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
        .chain(chain.as_ref().map(|chain| doctor::chain(chain.id(), rpc_at)))
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("http")
        .enable_all()
        .build()
        .context("no threads for HTTP")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).context("the HTTP listener")?;
        // Before the screen: who reads it may press Ctrl-C at once.
        let ended = end_of_run()?;
        web.keep_fresh()?;
        if let Some((listener, router)) = rpc {
            let listener =
                tokio::net::TcpListener::from_std(listener).context("the RPC listener")?;
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        show(&screen);
        tls::serve(listener, web.tls, app, async {
            ended.await;
            tracing::info!("draining; Ctrl-C again ends at once");
            let control = control.clone();
            // Waits for the shards, so not on a thread of the runtime.
            let _ = tokio::task::spawn_blocking(move || control.drain()).await;
        })
        .await;
        anyhow::Ok(())
    })?;
    drop(runtime);
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

/// The chain of this home, with the node's relay and demo stream known to it.
struct OwnChain {
    keys: Keys,
    chain: Arc<EmbeddedChain>,
    demo: Option<StreamId>,
}

impl OwnChain {
    fn start(config: &Config, home: &Path, base_url: &str) -> anyhow::Result<Self> {
        let keys = Keys::open(home)?;
        let chain = EmbeddedChain::start(home, &keys).map_err(chain::unusable)?;
        let demo = chain.introduce(&keys, base_url, config.demo).map_err(chain::unusable)?;
        Ok(Self { keys, chain, demo: config.demo.then_some(demo) })
    }

    fn id(&self) -> &str {
        settlement::Chain::chain_id(&*self.chain)
    }

    /// Starts MONEY beside the relay.
    fn open_till(
        &self,
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
            cadence_ms: CADENCE_MS,
            grace_ms: GRACE_MS,
            pause_max_s: PAUSE_MAX_S,
            exposure_seconds: EXPOSURE_S,
            serve_free: Vec::new(),
            min_share_bps: 0,
        };
        let (outlets, gates) = RelayOutlets::new(relay.clone());
        let chain: Arc<dyn settlement::Chain> = self.chain.clone();
        let money = Money::start(money, chain, Box::new(outlets), frames, usage)
            .context("the books of this home cannot be used")?;
        let alias = |stream| (demo::NAME.parse().expect("a valid name, fixed there"), stream);
        let paying = Paying {
            money: money.clone(),
            chain: self.chain.clone(),
            aliases: self.demo.map(alias).into_iter().collect(),
            payee,
            relay_key,
            faucet,
        };
        Ok((Arc::new(paying), BySettlement::new(money, gates)))
    }
}

/// The chain's RPC on an address of its own, as people's tools expect it. Where nobody chose the
/// address and it is taken, `/rpc` of HTTP has to do.
fn bind_rpc(
    config: &Config,
    chain: &OwnChain,
) -> anyhow::Result<Option<(TcpListener, axum::Router)>> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, RPC_PORT));
    match TcpListener::bind(config.rpc.unwrap_or(usual)) {
        Ok(listener) => {
            listener.set_nonblocking(true).context("the RPC listener")?;
            Ok(Some((listener, chain.chain.engine().rpc_router())))
        }
        Err(error) => match config.rpc {
            None => Ok(None),
            Some(asked) => bail!("--rpc {asked}: {error}; choose another address"),
        },
    }
}

/// Who opens gates: another process at `socket`, else admission's own word.
fn decision_source(
    socket: Option<&Path>,
    clock: MonotonicClock,
) -> anyhow::Result<Box<dyn DecisionSource>> {
    let Some(socket) = socket else { return Ok(Box::new(ByAdmission)) };
    let decisions = ForeignDecisions::listen(socket, clock)
        .with_context(|| format!("--decisions unix:{}", socket.display()))?;
    tracing::info!(socket = %socket.display(), "gates are opened by another process only");
    Ok(Box::new(ByForeign(decisions)))
}

fn start_log(format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("SUTANTRA_LOG").unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(colour(&io::stderr())).with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn colour(stream: &impl IsTerminal) -> bool {
    banner::wants_colour(stream.is_terminal(), env::var("NO_COLOR").ok().as_deref())
}

fn show(screen: &Banner) {
    let text = banner::render(screen, colour(&io::stdout()));
    // A closed stdout (a service without one) is no reason not to run.
    let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
}

fn open_home(config: &Config) -> anyhow::Result<Home> {
    if !config.home_is_default {
        return Ok(Home::open(&config.home)?);
    }
    let (home, warning) = Home::open_default(&config.home, &env::temp_dir())?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    Ok(home)
}

fn bind_http(at: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(at).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "TCP port {} on {} is taken by another process; choose another with --http",
            at.port(),
            at.ip()
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow!("not allowed to bind TCP port {}; choose one above 1023 with --http", at.port())
        }
        io::ErrorKind::AddrNotAvailable => {
            anyhow!("this host has no address {}; choose another with --http", at.ip())
        }
        _ => anyhow!("cannot listen on {at}: {error}"),
    })?;
    listener.set_nonblocking(true).context("the HTTP listener")?;
    Ok(listener)
}

/// The link, and why it is not io_uring where nobody asked for another.
fn choose_link(link: Link) -> anyhow::Result<(LinkKind, Option<String>)> {
    match (link, sfu::io::available()) {
        (Link::Epoll, _) => Ok((LinkKind::Epoll, None)),
        (Link::IoUring | Link::Auto, Ok(())) => Ok((LinkKind::IoUring, None)),
        (Link::Auto, Err(reason)) => Ok((LinkKind::Epoll, Some(reason.to_string()))),
        (Link::IoUring, Err(reason)) => bail!("--link io_uring: {reason}; drop it to use epoll"),
    }
}

/// Starts the shards; passes over host addresses that are going away or not ready yet.
fn start_relay(mut config: RelayConfig) -> anyhow::Result<Started> {
    loop {
        match Relay::start(config.clone()) {
            Err(StartError::Bind(BindError::NoSuchAddress { address, .. }))
                if config.endpoints.len() > 1 =>
            {
                tracing::warn!(%address, "address passed over: it cannot be bound");
                config.endpoints.retain(|endpoint| endpoint.bind.ip() != address);
            }
            other => return Ok(other?),
        }
    }
}

/// What HTTPS needs, if it is spoken.
struct Web {
    tls: Option<Tls>,
    files: Option<(PathBuf, PathBuf)>,
    authority: Option<Arc<Authority>>,
}

impl Web {
    fn prepare(config: &Config, home: &Path) -> anyhow::Result<Self> {
        let plain = Self { tls: None, files: None, authority: None };
        Ok(match &config.tls {
            TlsChoice::Plain => plain,
            TlsChoice::Files { cert, key } => {
                let tls = Some(Tls::new(tls::read_files(cert, key)?));
                Self { tls, files: Some((cert.clone(), key.clone())), ..plain }
            }
            TlsChoice::Lan => {
                let now = SystemTime::now();
                let authority = Authority::open(home, now)?;
                let leaf = authority.issue(&sfu::io::host_addresses(), now)?;
                Self { tls: Some(Tls::new(leaf)), authority: Some(Arc::new(authority)), ..plain }
            }
        })
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Exchanges the certificate when SIGHUP says so, or the host's addresses do.
    fn keep_fresh(&self) -> anyhow::Result<()> {
        // Always taken: unhandled, a closed terminal would end the process without a goodbye.
        let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
        let files = self.tls.clone().zip(self.files.clone());
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                match &files {
                    None => tracing::info!("SIGHUP: there is no certificate file to read again"),
                    Some((tls, (cert, key))) => match tls.reload(cert, key) {
                        Ok(()) => tracing::info!("certificate read again"),
                        Err(error) => tracing::error!(%error, "the old certificate stays in use"),
                    },
                }
            }
        });
        if let Some(tls) = self.tls.clone()
            && let Some(authority) = self.authority.clone()
        {
            tokio::spawn(lan::keep_fresh(authority, tls));
        }
        Ok(())
    }
}

/// Done at the first SIGINT or SIGTERM; from then on another one ends the process at once.
fn end_of_run() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    Ok(async move {
        either(&mut interrupt, &mut terminate).await;
        tokio::spawn(async move {
            either(&mut interrupt, &mut terminate).await;
            process::exit(INTERRUPTED);
        });
    })
}

/// An address at which this host reaches itself.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// Host and port for other machines, where HTTP is bound to all addresses; with `authority` one
/// that its certificate names.
fn shown_authority(bound: SocketAddr, host: &[IpAddr], authority: bool) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let listens = |ip: &&IpAddr| ip.is_ipv4() || bound.is_ipv6();
    let named = |ip: &&IpAddr| !authority || lan::is_local(**ip);
    match host.iter().filter(listens).filter(named).find(|ip| !ip.is_loopback()) {
        Some(ip) => SocketAddr::new(*ip, bound.port()),
        None => reachable(bound),
    }
}
