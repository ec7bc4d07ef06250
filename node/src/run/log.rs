//! The log, and what is written to stdout for people.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use anyhow::Context;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    layer::{Layered, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

use crate::{
    banner,
    config::{Config, LogFormat},
};

type Filter = reload::Layer<EnvFilter, Registry>;
type Filtered = Layered<Filter, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// The running log, whose filter and form may change.
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    lines: reload::Handle<Lines, Filtered>,
}

impl Log {
    /// Lines to stderr, from here on. A process has one log.
    ///
    /// # Errors
    /// The filter is none.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        let (filter, filter_handle) = reload::Layer::new(EnvFilter::try_new(&config.log)?);
        let (lines, lines_handle) = reload::Layer::new(lines(config.log_format));
        tracing_subscriber::registry().with(filter).with(lines).init();
        Ok(Self { filter: filter_handle, lines: lines_handle })
    }

    /// Other lines, or in another form.
    ///
    /// # Errors
    /// The filter is none; then nothing changes.
    pub fn change(&self, config: &Config) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&config.log)?;
        self.filter.reload(filter).context("the log")?;
        self.lines.reload(lines(config.log_format)).context("the log")
    }
}

fn lines(format: LogFormat) -> Lines {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(colour(&io::stderr())).with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
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
