//! The relay's start: its link, its sockets, who opens its gates.

use std::path::Path;

use anyhow::{Context, bail};
use sfu::{
    Relay, RelayConfig, StartError, Started,
    io::{BindError, LinkKind},
    ports::{foreign::ForeignDecisions, gate::MonotonicClock},
};

use crate::{
    config::Link,
    relay_control::{ByAdmission, ByForeign, DecisionSource},
};

/// The link, and why it is not io_uring where nobody asked for another.
pub fn choose_link(link: Link) -> anyhow::Result<(LinkKind, Option<String>)> {
    match (link, sfu::io::available()) {
        (Link::Epoll, _) => Ok((LinkKind::Epoll, None)),
        (Link::IoUring | Link::Auto, Ok(())) => Ok((LinkKind::IoUring, None)),
        (Link::Auto, Err(reason)) => Ok((LinkKind::Epoll, Some(reason.to_string()))),
        (Link::IoUring, Err(reason)) => bail!("--link io_uring: {reason}; drop it to use epoll"),
    }
}

/// Starts the shards; passes over host addresses that are going away or not ready yet.
pub fn start(mut config: RelayConfig) -> anyhow::Result<Started> {
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

/// Who opens gates: another process at `socket`, else admission's own word.
pub fn decision_source(
    socket: Option<&Path>,
    clock: MonotonicClock,
) -> anyhow::Result<Box<dyn DecisionSource>> {
    let Some(socket) = socket else { return Ok(Box::new(ByAdmission)) };
    let decisions = ForeignDecisions::listen(socket, clock)
        .with_context(|| format!("--decisions unix:{}", socket.display()))?;
    tracing::info!(socket = %socket.display(), "gates are opened by another process only");
    Ok(Box::new(ByForeign(decisions)))
}
