//! A server's process in a home of its own: its log is there, and both end with the value.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;

/// How long it may take to end after SIGTERM; then it is killed.
const STOP_MAX: Duration = Duration::from_secs(8);
/// Lines of its log shown when it fails.
const LOG_LINES: usize = 8;

/// Homes made by this process.
static HOMES: AtomicU32 = AtomicU32::new(0);

/// A folder that is removed with the value.
pub struct Home(PathBuf);

impl Home {
    /// A new one, empty.
    ///
    /// # Errors
    /// The system's.
    pub fn new(prefix: &str) -> io::Result<Self> {
        let number = HOMES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{prefix}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

/// The process.
pub struct Process {
    child: Child,
    home: Home,
}

impl Process {
    /// Starts it; what it says goes to a log in its home.
    ///
    /// # Errors
    /// The system's.
    pub fn start(mut command: Command, home: Home) -> io::Result<Self> {
        let log = File::create(home.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        end_with_parent(&mut command);
        Ok(Self { child: command.spawn()?, home })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last lines that it said.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(self.home.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Waits until it is ready, for at most `span`; `else_why` says what it has not done by then.
    ///
    /// # Errors
    /// It ends, or is not ready in time: told with the end of its log.
    pub fn wait(
        &mut self,
        span: Duration,
        else_why: &str,
        is_ready: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + span;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}:\n{}", self.log_tail());
            }
            if is_ready() {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("{else_why}:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: no memory is involved; the process is our child and not yet waited for, so its id
        // is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let until = Instant::now() + STOP_MAX;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // After an end in time both are without effect.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Has the child be killed when the thread that starts it ends, however that happens: a comparison
/// that is killed leaves no server behind.
fn end_with_parent(command: &mut Command) {
    let die_with_us = || {
        // SAFETY: takes two integers, no memory; it may be called between fork and exec.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(die_with_us) };
}
