//! `dev` and `start`: everything in order, the screen, the wait for the end, the drain.

use std::{
    env,
    net::{IpAddr, SocketAddr, TcpListener},
    process,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use anyhow::Context;
use axum::Router;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{
    banner::Banner,
    chain::Halted,
    config::{Config, Resolved, chain::Role, home::Home, stamp},
    coordination::{Network, Served},
    reload::{Reloader, Source},
    service::Notifier,
    tls,
};

mod chain;
mod coordinator;
mod knobs;
mod log;
mod media;
mod relay;
mod validator;
mod web;

use log::Log;
use web::Web;

/// Threads of the runtime: HTTP and timers only, media has threads of its own.
const RUNTIME_THREADS: usize = 2;
/// Exit code of a process that Ctrl-C ended (128 + SIGINT).
const INTERRUPTED: i32 = 130;

/// What is done where something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `dev`: make it, play money included.
    Development,
    /// `start`: say what to do.
    Service,
}

/// What a SIGHUP needs that every role has.
struct Hangup {
    source: Source,
    held: Resolved,
    log: Log,
}

/// What every role begins with.
struct Site {
    mode: Mode,
    service: Notifier,
    config: Config,
    home: Home,
    started: SystemTime,
    listener: TcpListener,
    http_at: SocketAddr,
    host: Vec<IpAddr>,
    web: Web,
    /// Where other machines find HTTP, without a slash at its end.
    base_url: String,
}

/// Runs a node until it is told to end.
pub fn run(resolved: Resolved, again: Source, mode: Mode) -> anyhow::Result<()> {
    let started = SystemTime::now();
    let config = resolved.config.clone();
    let log = Log::start(&config)?;
    if let Some(file) = &resolved.file {
        tracing::info!(file = %file.display(), "configuration file read");
    }
    let service = Notifier::from_env()?;
    let home = open_home(&config)?;
    stamp::open(home.dir())?;
    let listener = web::bind(config.http)?;
    let http_at = listener.local_addr().context("the HTTP listener has no address")?;
    let web = Web::prepare(&config, home.dir())?;
    let host = sfu::io::host_addresses();
    let shown = web::shown_authority(http_at, &host, web.authority.is_some());
    let base_url = format!("{}://{shown}", web.scheme());
    let role = config.on_chain.role;
    let site =
        Site { mode, service, config, home, started, listener, http_at, host, web, base_url };
    let hangup = Hangup { source: again, held: resolved, log };
    let ended = match role {
        Role::Relay | Role::ValidatorRelay => relay::run(site, hangup),
        Role::Validator => validator::run(site, hangup),
        Role::Coordinator => coordinator::run(site, hangup),
    };
    match ended {
        // It was reached at an earlier start already.
        Err(error) if error.is::<Halted>() => {
            tracing::info!("{error}");
            Ok(())
        }
        ended => ended,
    }
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

/// All that is served, and who is told.
struct Face {
    listener: TcpListener,
    web: Web,
    app: Router,
    /// The chain's RPC on an address of its own.
    rpc: Option<(TcpListener, Router)>,
    screen: Banner,
    service: Notifier,
    reloader: Reloader,
    /// Tells when a stop that was asked for has come.
    halting: Option<watch::Receiver<Option<Halted>>>,
    /// Rooms and signalling, whose peers are sent away at the end.
    served: Option<Served>,
    /// The network of the seeds, which is joined.
    network: Option<Network>,
}

impl Face {
    /// Serves until the process is told to end; then `drain`, which may block, and what is still
    /// being answered. A service manager that watches is told as long as `is_alive`.
    fn serve(
        self,
        is_alive: impl Fn() -> bool + Send + 'static,
        drain: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<()> {
        let Self { listener, web, app, rpc, screen, service, reloader, halting, served, network } =
            self;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("http")
            .enable_all()
            .build()
            .context("no threads for HTTP")?;
        let _watchdog = service.watchdog(is_alive).context("no thread for the watchdog")?;
        runtime.block_on(async {
            let listener =
                tokio::net::TcpListener::from_std(listener).context("the HTTP listener")?;
            // Before the screen: who reads it may press Ctrl-C at once.
            let ended = end_of_run()?;
            web.keep_fresh()?;
            let status = format!("serving {}", screen.base_url);
            read_again(reloader, service.clone(), status.clone())?;
            if let Some((listener, router)) = rpc {
                let listener =
                    tokio::net::TcpListener::from_std(listener).context("the RPC listener")?;
                tokio::spawn(async move { axum::serve(listener, router).await });
            }
            if let Some(network) = network {
                network.join();
            }
            log::show(&screen);
            service.ready(&status);
            tls::serve(listener, web.tls, app, async {
                let mut ended = Box::pin(ended);
                tokio::select! {
                    () = &mut ended => tracing::info!("draining; Ctrl-C again ends at once"),
                    Halted(why) = halted(halting) => {
                        tracing::info!("{why}");
                        // The first signal is then as good as a second.
                        tokio::spawn(async move {
                            ended.await;
                            process::exit(INTERRUPTED);
                        });
                    }
                }
                service.stopping("saying goodbye to every session");
                let farewell = async {
                    if let Some(served) = &served {
                        served.drain().await;
                    }
                };
                // Not on a thread of the runtime.
                let _ = tokio::join!(farewell, tokio::task::spawn_blocking(drain));
            })
            .await;
            Ok(())
        })
    }
}

/// Done when the stop that was asked for has come; never, where none was.
async fn halted(halting: Option<watch::Receiver<Option<Halted>>>) -> Halted {
    if let Some(mut halting) = halting
        && let Ok(come) = halting.wait_for(Option::is_some).await
        && let Some(halted) = come.clone()
    {
        return halted;
    }
    std::future::pending().await
}

/// Takes the configuration over again at each SIGHUP.
fn read_again(reloader: Reloader, service: Notifier, status: String) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    tokio::spawn(async move {
        let reloader = Arc::new(Mutex::new(reloader));
        while hangup.recv().await.is_some() {
            service.reloading();
            let turn = reloader.clone();
            // It reads a file, and may wait for the books.
            let reload = move || turn.lock().unwrap_or_else(PoisonError::into_inner).reload();
            let outcome = tokio::task::spawn_blocking(reload).await;
            service.ready(&status);
            match outcome {
                Ok(Ok(reloaded)) => tracing::info!("configuration read again: {reloaded}"),
                Ok(Err(error)) => {
                    service.status(&format!("{status}; a reload was refused: {error}"));
                    tracing::error!("the configuration in force stays: {error}");
                }
                Err(_) => return,
            }
        }
    });
    Ok(())
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
