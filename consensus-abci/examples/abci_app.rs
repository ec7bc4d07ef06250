//! The application alone, behind an ABCI socket, for a CometBFT beside it.
//!
//! `cargo run --release -p consensus-abci --example abci_app -- ADDRESS DIRECTORY`, with ADDRESS as
//! `unix://PATH` or `tcp://IP:PORT`, and the state in DIRECTORY; then
//! `cometbft start --proxy_app ADDRESS` with a genesis file whose `app_state` has accounts. It runs
//! until SIGINT, SIGTERM or an error of the application; at the end it prints what was asked.

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use consensus_abci::{
    app::App,
    application::Method,
    server::{Limits, ListenAddr, Server},
};
use tokio::signal::unix::{SignalKind, signal};

/// How often the application's health is looked at.
const LOOK: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, directory] = arguments.as_slice() else {
        return Err(
            "two arguments are needed: ADDRESS (unix://PATH, tcp://IP:PORT) DIRECTORY".into()
        );
    };
    let at: ListenAddr = address.parse()?;
    let app = Arc::new(App::open(&PathBuf::from(directory))?);
    let server = Server::start(app.clone(), &at, Limits::default())?;
    println!(
        "ABCI 2.0 at {}, the state is at height {}",
        server.local_addr(),
        app.snapshot().height()
    );
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut advice = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok::<(), std::io::Error>(()),
                _ = interrupt.recv() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            if server.failure().is_some() {
                return Ok(());
            }
            let now = server.advice();
            if advice != now {
                now.iter().for_each(|sentence| eprintln!("{sentence}"));
                advice = now;
            }
        }
    })?;
    server.stop();
    let counters = server.counters();
    println!("height {}", app.snapshot().height());
    for method in Method::ALL {
        let count = counters.method(method);
        if count.requests > 0 {
            let mean = count.seconds * 1e6 / count.requests as f64;
            println!("{method:<20}{:>10} requests{mean:>12.0} µs each", count.requests);
        }
    }
    server.failure().map_or(Ok(()), |sentence| Err(sentence.into()))
}
