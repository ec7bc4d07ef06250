//! A coordinator in this process, on a free port of loopback.

#![allow(dead_code)] // Each of the tests that share this file uses a part of it.

use std::net::{Ipv4Addr, SocketAddr};

use coordinator::{Coordinator, Limits, Mode, Options, Rate};

/// Serves until it is dropped.
pub struct Hosted {
    pub at: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Hosted {
    pub fn start(mode: Mode, change: impl Fn(&mut Limits)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads");
        let mut options = Options { mode, ..Options::new("bench-test") };
        change(&mut options.limits);
        let coordinator = Coordinator::new(options).expect("good options");
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a free port");
        let at = listener.local_addr().expect("bound");
        let service = coordinator.router().into_make_service_with_connect_info::<SocketAddr>();
        runtime.spawn(async move { axum::serve(listener, service).await });
        Self { at, _runtime: runtime }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }
}

/// So many that no test meets the bound.
pub const PLENTY: Rate = Rate { per_minute: 1_000_000, burst: 100_000 };
