//! One node: its application and its engine as processes, started and ended apart or together.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    net::SocketAddr,
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use comet::process::{self as engine, Settings};

use crate::{
    manifest::Run,
    process::{self, Process},
    tools::{self, Tools},
};

/// Where the processes write, below the home.
pub const APP_LOG: &str = "log/node.log";
/// The engine's, the same as when a node starts it itself.
pub const ENGINE_LOG: &str = "log/comet.log";
/// More than what is written about one block.
const LOG_END_BYTES: u64 = 16 << 10;
/// Below the home: what the application has on disk.
pub const APP_STATE: &str = "chain/state";
/// Below the home: what the engine has on disk.
pub const ENGINE_DATA: &str = "data";
/// Below the home: the mount of a disk that can be filled.
pub const APP_DISK: &str = "chain";
/// How long an application may take until it listens: it opens its store.
const LISTEN_MAX: Duration = Duration::from_secs(60);
/// How long a process may take to end when it is asked.
const END_MAX: Duration = Duration::from_secs(20);
/// An engine that lost its application ends by itself, or hangs and is killed.
const ORPHAN_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// A path to a socket has 107 bytes at most.
const SOCKET_BYTES_MAX: usize = 100;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its home.
    pub home: PathBuf,
    /// Its processes.
    pub run: Run,
    /// Its programs.
    pub tools: Tools,
    /// Where its RPC listens.
    pub rpc: SocketAddr,
    /// Where its peers come in, all of them through the proxy.
    pub p2p: SocketAddr,
    /// Where the application serves HTTP.
    pub http: SocketAddr,
    /// `id@host:port` of each peer, at the proxy.
    pub peers: Vec<String>,
    /// Pause after a block.
    pub timeout_commit: Duration,
    /// Further flags of the application.
    pub flags: Vec<String>,
    /// Further variables of the engine.
    pub env: Vec<(String, String)>,
}

/// What stands for a full disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// The machine's own, that nobody fills.
    Own,
    /// A small file system in memory, mounted below the home.
    Mount(PathBuf),
    /// A bound on the length of the application's files (`RLIMIT_FSIZE`).
    Limit,
}

/// A node that runs, or not.
#[derive(Debug)]
pub struct Node {
    /// As it is started.
    pub plan: Plan,
    /// What can be filled.
    pub disk: Disk,
    app: Option<Process>,
    engine: Option<Process>,
}

impl Node {
    /// Not started yet.
    ///
    /// # Errors
    /// No path to its socket fits.
    pub fn new(plan: Plan, disk: Disk) -> anyhow::Result<Self> {
        let node = Self { plan, disk, app: None, engine: None };
        if node.socket().as_os_str().len() > SOCKET_BYTES_MAX {
            bail!(
                "{} is too long for a socket: keep the run in another DIR",
                node.socket().display()
            );
        }
        Ok(node)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Below its home.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.plan.home.join(below)
    }

    fn socket(&self) -> PathBuf {
        self.path("abci.sock")
    }

    /// Starts what does not run.
    ///
    /// # Errors
    /// It ends before it is up, with its last words.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.start_app()?;
        match self.plan.run {
            Run::Apart => self.start_engine(),
            Run::Together => Ok(()),
        }
    }

    /// Starts the application, and waits until it listens for an engine.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_app(&mut self) -> anyhow::Result<()> {
        if self.app.is_some() {
            return Ok(());
        }
        let _ = fs::remove_file(self.socket()); // There is none.
        let plan = &self.plan;
        let mut command = Command::new(&plan.tools.node);
        tools::clean(&mut command);
        command.arg("start").arg("--home").arg(&plan.home).args(["--role", "validator"]);
        command.args(["--http", &plan.http.to_string(), "--rpc", &plan.rpc.to_string()]);
        command.arg("--abci").arg(format!("unix://{}", self.socket().display()));
        match plan.run {
            Run::Apart => {
                command.args(["--comet", "external"]);
            }
            Run::Together => {
                command.args(["--comet", "spawn", "--p2p", &plan.p2p.to_string()]);
                command.arg("--comet-bin").arg(&plan.tools.comet.path);
                command.args(["--moniker", &plan.name]);
                command.args(["--timeout-commit-ms", &plan.timeout_commit.as_millis().to_string()]);
                for peer in &plan.peers {
                    command.args(["--peers", peer]);
                }
                command.envs(self.engine_env());
            }
        }
        command.args(&plan.flags);
        if self.disk == Disk::Limit {
            // A write beyond the bound is then an error instead of the process' end.
            // SAFETY: one system call that is async-signal-safe, between fork and exec.
            unsafe {
                command.pre_exec(|| {
                    libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                    Ok(())
                });
            }
        }
        let process = Process::start(command, &self.path(APP_LOG))
            .with_context(|| plan.tools.node.display().to_string())?;
        self.app = Some(process);
        let until = Instant::now() + LISTEN_MAX;
        while UnixStream::connect(self.socket()).is_err() {
            let app = self.app.as_mut().expect("put there above");
            if let Some(status) = app.ended() {
                let words = process::reason(&app.words());
                self.app = None;
                let words = words.unwrap_or_else(|| status.to_string());
                bail!("the application of {} ends at its start: {words}", self.plan.name);
            }
            if Instant::now() > until {
                bail!(
                    "the application of {} does not listen within {} s",
                    self.plan.name,
                    LISTEN_MAX.as_secs()
                );
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// What both ways of starting an engine tell it besides its flags.
    fn engine_env(&self) -> Vec<(String, String)> {
        // Peers are named one by one and reached through the proxy: none may be told another way.
        let mut env = vec![("CMT_P2P_PEX".to_owned(), "false".to_owned())];
        env.extend(self.plan.env.iter().cloned());
        env
    }

    /// Starts an engine apart from its application.
    ///
    /// # Errors
    /// Its files cannot be made, or its program is not there.
    pub fn start_engine(&mut self) -> anyhow::Result<()> {
        if self.engine.is_some() || self.plan.run == Run::Together {
            return Ok(());
        }
        let plan = &self.plan;
        let app = format!("unix://{}", self.socket().display());
        let settings = Settings {
            rpc: plan.rpc,
            p2p: plan.p2p,
            persistent_peers: plan.peers.clone(),
            moniker: Some(plan.name.clone()),
            timeout_commit: Some(plan.timeout_commit),
            ..Settings::new(&plan.home, app)
        };
        engine::prepare(&plan.tools.comet, &settings)?;
        let mut command = Command::new(&plan.tools.comet.path);
        tools::clean(&mut command);
        command.arg("start").arg("--home").arg(&settings.home);
        command.args(["--proxy_app", &settings.app]);
        command.args(["--rpc.laddr", &format!("tcp://{}", settings.rpc)]);
        command.args(["--p2p.laddr", &format!("tcp://{}", settings.p2p)]);
        command.args(["--p2p.persistent_peers", &settings.persistent_peers.join(",")]);
        command.args(["--moniker", &plan.name]);
        let pause = format!("{}ms", plan.timeout_commit.as_millis());
        command.env("CMT_CONSENSUS_TIMEOUT_COMMIT", pause).envs(self.engine_env());
        let process = Process::start(command, &self.path(ENGINE_LOG))
            .with_context(|| plan.tools.comet.path.display().to_string())?;
        self.engine = Some(process);
        Ok(())
    }

    /// Whether it should be up: something of it was started and not ended here.
    pub fn is_started(&self) -> bool {
        self.app.is_some()
    }

    /// Notices that a process has ended by itself; its last words.
    pub fn fallen(&mut self) -> Option<String> {
        for (what, process) in [("application", &mut self.app), ("engine", &mut self.engine)] {
            if let Some(running) = process
                && let Some(status) = running.ended()
            {
                let words = process::reason(&running.words());
                *process = None;
                let words = words.map_or(String::new(), |words| format!(": {words}"));
                return Some(format!("its {what} ended by itself ({status}){words}"));
            }
        }
        None
    }

    /// What its processes said since they were started.
    pub fn words(&self) -> String {
        let words =
            |process: &Option<Process>| process.as_ref().map_or_else(String::new, Process::words);
        format!("{}\n{}", words(&self.app), words(&self.engine))
    }

    /// The last block that its engine executed, by the end of its log: it has no RPC while it
    /// replays.
    pub fn executed(&self) -> Option<u64> {
        let mut log = File::open(self.path(ENGINE_LOG)).ok()?;
        let length = log.metadata().ok()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(LOG_END_BYTES))).ok()?;
        let mut end = Vec::new();
        log.read_to_end(&mut end).ok()?;
        let end = String::from_utf8_lossy(&end);
        let line = end.lines().rfind(|line| line.contains("executed block"))?;
        let height = line.split_whitespace().find_map(|word| word.strip_prefix("height="))?;
        height.parse().ok()
    }

    /// Its engine's process, whoever started it.
    fn engine_pid(&self) -> Option<u32> {
        match (&self.engine, &self.app) {
            (Some(engine), _) => Some(engine.pid()),
            (None, Some(app)) => process::children(app.pid()).first().copied(),
            (None, None) => None,
        }
    }

    /// Kills both at once.
    pub fn kill(&mut self) {
        // Each is waited for when it is dropped; the engine of one application dies with it.
        let orphan = match self.plan.run {
            Run::Together => self.engine_pid(),
            Run::Apart => None,
        };
        self.app = None;
        self.engine = None;
        if let Some(pid) = orphan {
            await_gone(pid);
        }
    }

    /// Kills the application, and waits for its engine to notice; whether that ended by itself.
    pub fn kill_app(&mut self) -> bool {
        if self.plan.run == Run::Together {
            self.kill();
            return true;
        }
        self.app = None;
        let ended = self.engine.as_mut().is_none_or(|engine| engine.wait(ORPHAN_MAX).is_some());
        self.engine = None;
        ended
    }

    /// Kills the engine alone.
    ///
    /// # Errors
    /// There is none.
    pub fn kill_engine(&mut self) -> anyhow::Result<()> {
        match self.plan.run {
            Run::Apart => self.engine = None,
            Run::Together => {
                let pid = self.engine_pid().ok_or_else(|| anyhow!("it has no engine now"))?;
                process::signal(pid, libc::SIGKILL);
            }
        }
        Ok(())
    }

    /// Lets both stand still, or go on.
    pub fn pause(&self, is_paused: bool) {
        let signal = if is_paused { libc::SIGSTOP } else { libc::SIGCONT };
        let engine = self.engine_pid();
        for pid in self.app.as_ref().map(Process::pid).into_iter().chain(engine) {
            process::signal(pid, signal);
        }
    }

    /// Asks both to end: the engine first, which ends its commit and needs the application for that.
    /// Whether both did by themselves.
    pub fn stop(&mut self) -> bool {
        let engine = self.engine.take().is_none_or(|engine| engine.stop(END_MAX));
        let app = self.app.take().is_none_or(|app| app.stop(END_MAX));
        engine && app
    }

    /// The application's process.
    pub fn app_pid(&self) -> Option<u32> {
        self.app.as_ref().map(Process::pid)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if let Disk::Mount(at) = &self.disk {
            unmount(at);
        }
    }
}

fn await_gone(pid: u32) {
    let until = Instant::now() + ORPHAN_MAX;
    while Path::new(&format!("/proc/{pid}")).exists() && Instant::now() < until {
        thread::sleep(POLL);
    }
}

fn unmount(at: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(path) = std::ffi::CString::new(at.as_os_str().as_bytes()) else { return };
    // SAFETY: a plain system call with a text that ends in zero and lives through it.
    unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
}

/// Makes a disk that can be filled: mounted where the system allows it, else a bound on files.
pub fn disk(home: &Path) -> Disk {
    use std::os::unix::ffi::OsStrExt as _;
    let at = home.join(APP_DISK);
    if fs::create_dir_all(&at).is_err() {
        return Disk::Limit;
    }
    let Ok(path) = std::ffi::CString::new(at.as_os_str().as_bytes()) else { return Disk::Limit };
    // Root alone may; the store begins with files of some ten megabytes.
    // SAFETY: a plain system call with texts that end in zero and live through it.
    let mounted = unsafe {
        libc::mount(
            c"sutantra-perturb".as_ptr(),
            path.as_ptr(),
            c"tmpfs".as_ptr(),
            libc::MS_NODEV | libc::MS_NOSUID,
            c"size=512m,mode=700".as_ptr().cast(),
        )
    };
    if mounted == 0 { Disk::Mount(at) } else { Disk::Limit }
}
