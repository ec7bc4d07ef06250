//! Tells the service manager how the node does: sd_notify(3) over `$NOTIFY_SOCKET`, no library.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

/// Longest status that is sent; a longer one is cut.
const STATUS_BYTES_MAX: usize = 512;

/// The line to the service manager; without one every call does nothing. A clone speaks on the same
/// line.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Option<Arc<UnixDatagram>>);

/// Beats until it is dropped.
#[derive(Debug)]
pub struct Watchdog {
    _stop: Option<mpsc::Sender<()>>,
}

/// What a service manager put into the environment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Neither a path nor an abstract name.
    #[error(
        "NOTIFY_SOCKET is {0:?}: the service manager gives an absolute path, or an abstract name behind @"
    )]
    Address(String),
    /// The system refuses.
    #[error(
        "NOTIFY_SOCKET {address:?}: {error}; Type=notify needs NotifyAccess=main and this process as the main one"
    )]
    Socket {
        /// As given.
        address: String,
        /// What the system says.
        error: io::Error,
    },
}

impl Notifier {
    /// The line that this process was given, if any.
    ///
    /// # Errors
    /// There is one that cannot be used.
    pub fn from_env() -> Result<Self, ServiceError> {
        match env::var("NOTIFY_SOCKET") {
            Ok(address) if !address.is_empty() => Self::connect(&address),
            Ok(_) | Err(_) => Ok(Self(None)),
        }
    }

    /// A line to `address`: an absolute path, or `@` and an abstract name (unix(7)).
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn connect(address: &str) -> Result<Self, ServiceError> {
        let failed = |error| ServiceError::Socket { address: address.to_owned(), error };
        let at = match (address.strip_prefix('@'), address.starts_with('/')) {
            (Some(name), _) if !name.is_empty() => SocketAddr::from_abstract_name(name),
            (None, true) => SocketAddr::from_pathname(address),
            _ => return Err(ServiceError::Address(address.to_owned())),
        };
        let socket = UnixDatagram::unbound().map_err(failed)?;
        // A manager that does not read must not stop the node.
        socket.set_nonblocking(true).map_err(failed)?;
        socket.connect_addr(&at.map_err(failed)?).map_err(failed)?;
        Ok(Self(Some(Arc::new(socket))))
    }

    /// It serves: what waits for this unit may start.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// One line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.say(&format!("STATUS={}", one_line(status)));
    }

    /// It reads its configuration again; [`Notifier::ready`] follows.
    pub fn reloading(&self) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_us()));
    }

    /// It drains and then ends.
    pub fn stopping(&self, status: &str) {
        self.say(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// Beats at half the time that `$WATCHDOG_USEC` gives, for as long as `is_alive` says so: a node
    /// that is stuck is restarted by its manager. Without a watchdog no thread is started.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn watchdog(
        &self,
        is_alive: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Option<Watchdog>> {
        let text = |name| env::var(name).ok();
        match period(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref()) {
            Some(period) if self.0.is_some() => self.beat(period, is_alive).map(Some),
            _ => Ok(None),
        }
    }

    fn beat(
        &self,
        period: Duration,
        is_alive: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Watchdog> {
        let (stop, stopped) = mpsc::channel::<()>();
        let line = self.clone();
        thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            loop {
                if is_alive() {
                    line.say("WATCHDOG=1");
                }
                if stopped.recv_timeout(period) == Err(mpsc::RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        })?;
        Ok(Watchdog { _stop: Some(stop) })
    }

    fn say(&self, words: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(words.as_bytes())
        {
            tracing::warn!(%error, "the service manager was not told: {}", one_line(words));
        }
    }
}

/// Half of the manager's limit, where the limit is meant for this process.
fn period(limit_us: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
    let limit = limit_us?.parse().ok().filter(|us| *us > 0 && is_ours)?;
    Some(Duration::from_micros(limit) / 2)
}

/// A newline would begin another assignment.
fn one_line(text: &str) -> String {
    let mut line = text.replace(['\n', '\r'], " ");
    let cut = (0..=STATUS_BYTES_MAX.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
    line.truncate(cut.unwrap_or(0));
    line
}

/// `CLOCK_MONOTONIC` in µs, which `Type=notify-reload` compares with its own.
fn monotonic_us() -> u64 {
    sfu::io::monotonic_nanos() / 1_000
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    struct Manager(UnixDatagram);

    impl Manager {
        fn hears(&self) -> String {
            let mut buffer = [0; 2048];
            self.0.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
            let len = self.0.recv(&mut buffer).expect("a datagram");
            String::from_utf8(buffer[..len].to_vec()).expect("text")
        }
    }

    #[track_caller]
    fn check(manager: UnixDatagram, address: &str) {
        let manager = Manager(manager);
        let line = Notifier::connect(address).expect("it listens");
        line.ready("serving\nREADY=0");
        assert_eq!(manager.hears(), "READY=1\nSTATUS=serving READY=0");
        line.status(&"ä".repeat(400));
        assert_eq!(manager.hears(), format!("STATUS={}", "ä".repeat(256)));
        line.reloading();
        let said = manager.hears();
        let moment = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("its moment");
        assert!(moment.parse::<u64>().is_ok_and(|at| at > 0), "{said}");
        line.stopping("draining");
        assert_eq!(manager.hears(), "STOPPING=1\nSTATUS=draining");
    }

    /// R111
    #[test]
    fn a_service_manager_is_told_by_path_and_by_abstract_name() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("notify");
        check(UnixDatagram::bind(&path).expect("ours"), path.to_str().expect("text"));
        let name = format!("sutantra-test-{}", std::process::id());
        let at = SocketAddr::from_abstract_name(&name).expect("short");
        check(UnixDatagram::bind_addr(&at).expect("ours"), &format!("@{name}"));
    }

    #[test]
    fn the_watchdog_beats_while_the_node_lives_and_only_then() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("notify");
        let manager = Manager(UnixDatagram::bind(&path).expect("ours"));
        let line = Notifier::connect(path.to_str().expect("text")).expect("it listens");
        let watchdog = line.beat(Duration::from_millis(5), || true).expect("a thread");
        assert_eq!((manager.hears(), manager.hears()), ("WATCHDOG=1".into(), "WATCHDOG=1".into()));
        drop(watchdog);
        let (asked, heard) = mpsc::channel();
        let stuck = line.beat(Duration::from_millis(5), move || {
            let _ = asked.send(());
            false
        });
        // It was asked twice after the first one ended, and said nothing.
        heard.recv().expect("it beats");
        heard.recv().expect("it beats");
        drop(stuck);
        manager.0.set_nonblocking(true).expect("a socket");
        let mut rest = Vec::new();
        while let Ok(len) = manager.0.recv(&mut [0; 64]) {
            rest.push(len);
        }
        assert!(rest.len() <= 2, "the last beats of the first one at most: {rest:?}");
    }

    #[test]
    fn a_limit_for_another_process_or_none_starts_no_watchdog() {
        let own = std::process::id().to_string();
        assert_eq!(period(Some("30000000"), None), Some(Duration::from_secs(15)));
        assert_eq!(period(Some("30000000"), Some(&own)), Some(Duration::from_secs(15)));
        for (limit, pid) in
            [(None, None), (Some("0"), None), (Some("x"), None), (Some("9"), Some("1"))]
        {
            assert_eq!(period(limit, pid), None, "{limit:?} {pid:?}");
        }
    }

    #[test]
    fn an_address_that_no_manager_gives_is_refused_and_none_is_silence() {
        for bad in ["notify", "@", "vsock:2:1"] {
            assert!(matches!(Notifier::connect(bad), Err(ServiceError::Address(_))), "{bad}");
        }
        let nobody = Notifier::connect("/nonexistent/notify").expect_err("nobody listens");
        assert!(nobody.to_string().contains("Type=notify"), "{nobody}");
        Notifier::default().ready("nobody hears it");
    }
}
