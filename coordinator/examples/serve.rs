//! A coordinator beside an application's own routes: `serve [PORT] [--load]`, in mode `open`.
//!
//! `--load` lifts the limits that one address or node has, for load generators.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt;
use coordinator::{Coordinator, Limits, Mode, Options, Rate};

const PORT_DEFAULT: u16 = 8888;

const UNLIMITED: Rate = Rate { per_minute: u32::MAX, burst: u32::MAX };

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut port = PORT_DEFAULT;
    let mut limits = Limits::default();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--load" => limits = for_load(),
            text => port = text.parse().map_err(|_| format!("{text:?} is no port"))?,
        }
    }
    let options = Options { mode: Mode::Open, limits, ..Options::new("serve-example") };
    let coordinator = Coordinator::new(options)?;
    // The application's own routes, as they were before.
    let application = Router::new().route("/chat", get(|| async { "hello\n" }));
    let router = application.merge(coordinator.router()).merge(coordinator.nodes_router());
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    // Signals are small and wanted at once: nothing is to wait for more to come.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

fn for_load() -> Limits {
    Limits {
        room_peers_max: 100_000,
        rooms_max: 1_000_000,
        signals: UNLIMITED,
        joins: UNLIMITED,
        address_connections_max: usize::MAX,
        address_opens: UNLIMITED,
        socket_messages: UNLIMITED,
        ..Limits::default()
    }
}
