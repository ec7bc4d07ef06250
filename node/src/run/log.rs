//! The log, and what is written to stdout for people.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use tracing_subscriber::EnvFilter;

use crate::{banner, config::LogFormat};

/// What the log says unless told otherwise. str0m warns about what peers do wrong, which any peer
/// could fill a disk with; it is counted in the metrics instead.
const LOG_DEFAULT: &str =
    "info,str0m=error,str0m_proto=error,is=error,dimpl=error,sctp_proto=error";

/// Lines to stderr, from here on.
pub fn start(format: LogFormat) {
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

/// Shows the screen of a start.
pub fn show(screen: &banner::Banner) {
    let text = banner::render(screen, colour(&io::stdout()));
    // A closed stdout (a service without one) is no reason not to run.
    let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
}
