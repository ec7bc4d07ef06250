//! A coordinator alone in this process, to measure without a relay beside it.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use coordinator::{Coordinator, Mode, Options};

/// Serves there, in mode `open` and with the bounds that the protocol documents, until the process
/// is ended.
///
/// # Errors
/// It cannot listen there.
pub fn host(at: SocketAddr) -> anyhow::Result<()> {
    // One thread: an offer is passed on where it arrived. With two, a third of the CPU time goes
    // into waking the other one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = Options { mode: Mode::Open, ..Options::new("sutantra-bench") };
        let service =
            Coordinator::new(options)?.router().into_make_service_with_connect_info::<SocketAddr>();
        let listener = tokio::net::TcpListener::bind(at).await.with_context(|| at.to_string())?;
        // An offer waits for no other. Where it cannot be set, the connection is gone already.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, service).await.context("serving")
    })
}
