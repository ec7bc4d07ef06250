//! The thread that owns the child: starts it, notices its end, ends it.

use std::{
    io::{self, PipeReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Binary, FilesError, Settings, child,
    config::go_duration,
    files,
    journal::{self, Journal, LOG_FILE},
    restart::{Next, QUICK_DEATHS_MAX, Restarts},
};

/// Between two looks at the child.
const POLL: Duration = Duration::from_millis(25);
/// How long it may take to end after SIGTERM: it closes its databases in tens of ms.
const TERM_MAX: Duration = Duration::from_secs(10);
/// After a failure of consensus the process lives on and does nothing; a moment for its words.
const FAILURE_GRACE: Duration = Duration::from_secs(1);
/// One attempt to reach the RPC of a child that is starting.
const PROBE_MAX: Duration = Duration::from_millis(100);
/// How long the last lines may take to be read after the end.
const LINES_MAX: Duration = Duration::from_secs(1);

/// How the child is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is started, and its RPC does not answer yet: it opens its data, replays blocks.
    Starting,
    /// Its RPC answers.
    Running,
    /// It died and will be started again in a moment.
    Restarting {
        /// Its last words.
        why: String,
    },
    /// It is not started any more: a sentence with the remedy.
    Failed(String),
    /// It was stopped.
    Stopped,
}

/// Why there is no child.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The home does not allow it.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The log or the thread cannot be made.
    #[error("CometBFT cannot be supervised: {0}")]
    Io(#[from] io::Error),
}

/// A CometBFT that is started again when it dies. It is stopped when this is dropped, and killed by
/// the kernel when this process dies.
#[derive(Debug)]
pub struct Comet {
    shared: Arc<Shared>,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    journal: Mutex<Journal>,
}

#[derive(Debug)]
struct Seen {
    state: State,
    pid: Option<u32>,
    restarts: u64,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Comet {
    /// Makes the missing files of the home, then starts the child and its supervisor. The application
    /// should listen already: CometBFT looks for it each 3 s.
    ///
    /// # Errors
    /// What about the home is in the way. What the child itself refuses is [`State::Failed`].
    pub fn spawn(binary: Binary, settings: Settings) -> Result<Self, SpawnError> {
        // The child's own directory may be another one.
        let settings = Settings { home: std::path::absolute(&settings.home)?, ..settings };
        files::prepare(&binary, &settings)?;
        let shared = Arc::new(Shared {
            seen: Mutex::new(Seen { state: State::Starting, pid: None, restarts: 0 }),
            changed: Condvar::new(),
            journal: Mutex::new(Journal::open(&settings.path(LOG_FILE))?),
        });
        let (stop, stopped) = mpsc::channel();
        let of_thread = shared.clone();
        // The child dies with the thread that started it: this one lives as long as the child.
        let thread = thread::Builder::new()
            .name("comet".to_owned())
            .spawn(move || Supervisor { binary, settings, shared: of_thread, stopped }.run())?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// How it is now.
    pub fn state(&self) -> State {
        lock(&self.shared.seen).state.clone()
    }

    /// Its process id while there is one.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.shared.seen).pid
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u64 {
        lock(&self.shared.seen).restarts
    }

    /// The newest trouble that does not end it, in a sentence.
    pub fn warning(&self) -> Option<String> {
        lock(&self.shared.journal).warning.map(super::refusal::Warning::sentence)
    }

    /// Waits until it runs.
    ///
    /// # Errors
    /// The sentence of [`State::Failed`], or that `within` is over.
    pub fn wait_running(&self, within: Duration) -> Result<(), String> {
        match self.wait_until(within, |state| {
            matches!(state, State::Running | State::Failed(_) | State::Stopped)
        }) {
            State::Running => Ok(()),
            State::Failed(sentence) => Err(sentence),
            state => Err(format!(
                "CometBFT does not answer after {} s ({state:?}): see {LOG_FILE} in the home",
                within.as_secs()
            )),
        }
    }

    /// Waits until `wanted` holds or `within` is over; gives the state then.
    pub fn wait_until(&self, within: Duration, wanted: impl Fn(&State) -> bool) -> State {
        let seen = lock(&self.shared.seen);
        let waited =
            self.shared.changed.wait_timeout_while(seen, within, |seen| !wanted(&seen.state));
        waited.unwrap_or_else(PoisonError::into_inner).0.state.clone()
    }

    /// Ends it: SIGTERM, and SIGKILL after ten seconds. Blocks until it is gone; idempotent.
    pub fn stop(&mut self) {
        let _ = self.stop.send(()); // Nobody listens: it has ended already.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(target: "comet", "the supervisor has panicked; the child died with it");
        }
    }
}

impl Drop for Comet {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Supervisor {
    binary: Binary,
    settings: Settings,
    shared: Arc<Shared>,
    stopped: mpsc::Receiver<()>,
}

/// How a run ended.
enum Ended {
    /// As it was told.
    Asked,
    /// By itself.
    Died(String),
}

impl Supervisor {
    fn run(self) {
        let mut restarts = Restarts::default();
        loop {
            let started = Instant::now();
            let ended = match self.launch() {
                Ok((child, output)) => self.attend(child, output),
                Err(error) => {
                    Ended::Died(format!("{} does not start: {error}", self.binary.path.display()))
                }
            };
            let why = match ended {
                Ended::Asked => return self.tell(State::Stopped),
                Ended::Died(why) => why,
            };
            let refusal = lock(&self.shared.journal).refusal();
            let is_final = refusal.as_ref().is_some_and(|refusal| refusal.is_final());
            let pause = match restarts.died(started.elapsed(), is_final) {
                Next::After(pause) => pause,
                Next::GiveUp => {
                    let sentence = match refusal {
                        Some(refusal) => format!("CometBFT does not start: {refusal}"),
                        None => format!(
                            "CometBFT ended {QUICK_DEATHS_MAX} times in a row, at last with: {why}; \
                             all that it said is in {}",
                            self.settings.path(LOG_FILE).display()
                        ),
                    };
                    tracing::error!(target: "comet", "{sentence}");
                    return self.tell(State::Failed(sentence));
                }
            };
            tracing::warn!(
                target: "comet",
                "CometBFT ended ({why}); it starts again in {} ms", pause.as_millis()
            );
            self.tell(State::Restarting { why });
            if self.is_stopped_within(pause) {
                return self.tell(State::Stopped);
            }
            lock(&self.shared.seen).restarts += 1;
            self.tell(State::Starting);
        }
    }

    fn tell(&self, state: State) {
        lock(&self.shared.seen).state = state;
        self.shared.changed.notify_all();
    }

    /// Whether somebody said stop, or is gone, within `time`.
    fn is_stopped_within(&self, time: Duration) -> bool {
        self.stopped.recv_timeout(time) != Err(mpsc::RecvTimeoutError::Timeout)
    }

    /// Both outputs in one pipe, so that their lines keep their order.
    fn launch(&self) -> io::Result<(Child, PipeReader)> {
        let (output, into) = io::pipe()?;
        let mut command = Command::new(&self.binary.path);
        // No `..`: a setting that does not reach the child does not compile.
        let Settings {
            home,
            app,
            rpc,
            p2p,
            persistent_peers,
            moniker,
            timeout_commit,
            metrics,
            env,
        } = &self.settings;
        command.arg("start").arg("--home").arg(home).args(["--proxy_app", app]).args([
            "--rpc.laddr",
            &format!("tcp://{rpc}"),
            "--p2p.laddr",
            &format!("tcp://{p2p}"),
        ]);
        if !persistent_peers.is_empty() {
            command.args(["--p2p.persistent_peers", &persistent_peers.join(",")]);
        }
        if let Some(moniker) = moniker {
            command.args(["--moniker", moniker]);
        }
        if let Some(pause) = timeout_commit {
            command.env("CMT_CONSENSUS_TIMEOUT_COMMIT", go_duration(*pause));
        }
        if let Some(at) = metrics {
            command
                .env("CMT_INSTRUMENTATION_PROMETHEUS", "true")
                .env("CMT_INSTRUMENTATION_PROMETHEUS_LISTEN_ADDR", at.to_string());
        }
        command
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(into.try_clone()?)
            .stderr(into);
        // Ctrl-C in a terminal is for the node, which ends its child after the last commit.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        child::die_with_parent(&mut command);
        lock(&self.shared.journal).begin();
        let child = command.spawn()?;
        lock(&self.shared.seen).pid = Some(child.id());
        Ok((child, output))
    }

    /// Stays with the child until it is gone.
    fn attend(&self, mut child: Child, output: PipeReader) -> Ended {
        let (read, all_read) = mpsc::channel();
        let journal = self.shared.clone();
        let reader = thread::Builder::new().name("comet-log".to_owned()).spawn(move || {
            journal::read_lines(output, |line| lock(&journal.journal).take(line, Instant::now()));
            let _ = read.send(());
        });
        if let Err(error) = reader {
            let _ = child.kill();
            let _ = child.wait();
            return Ended::Died(format!("its output cannot be read: {error}"));
        }
        let ended = self.watch(&mut child);
        lock(&self.shared.seen).pid = None;
        let _ = all_read.recv_timeout(LINES_MAX);
        match ended {
            None => Ended::Asked,
            Some(status) => {
                let journal = lock(&self.shared.journal);
                Ended::Died(match (journal.remembered.last_words(), status) {
                    (Some(words), _) => words.to_owned(),
                    (None, Ok(status)) => status.to_string(),
                    (None, Err(error)) => error.to_string(),
                })
            }
        }
    }

    /// `None`: it was ended as asked. `Some`: it ended by itself, or hangs and was killed.
    fn watch(&self, child: &mut Child) -> Option<io::Result<ExitStatus>> {
        let mut failed_since = None;
        let mut is_running = false;
        loop {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Some(Ok(status)),
                Err(error) => return Some(Err(error)),
            }
            if self.is_stopped_within(POLL) {
                self.end(child);
                return None;
            }
            if !is_running && answers(self.settings.rpc) {
                is_running = true;
                self.tell(State::Running);
            }
            if lock(&self.shared.journal).remembered.is_fatal() {
                let since = *failed_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= FAILURE_GRACE {
                    self.end(child);
                    return Some(child.wait());
                }
            }
        }
    }

    fn end(&self, child: &mut Child) {
        lock(&self.shared.journal).is_stopping = true;
        child::terminate(child);
        let until = Instant::now() + TERM_MAX;
        while Instant::now() < until {
            match child.try_wait() {
                Ok(None) => thread::sleep(POLL),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        tracing::warn!(target: "comet", "CometBFT does not end by itself within {} s; it is killed", TERM_MAX.as_secs());
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn answers(rpc: SocketAddr) -> bool {
    let ip = match rpc.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    TcpStream::connect_timeout(&SocketAddr::new(ip, rpc.port()), PROBE_MAX).is_ok()
}
