//! One node of a network as a process: its command, its log, its end.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use comet::process::{Next, Restarts, die_with_parent, terminate};

/// Where the node writes, below its home.
pub const LOG: &str = "log/node.log";
/// A log that is longer is put aside before the next start.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// So much of its end is searched for last words.
const TAIL_BYTES: u64 = 8 * 1024;
const WORDS_CHARS_MAX: usize = 300;

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It was not started yet.
    Waiting,
    /// Its process runs.
    Up {
        /// Of the process.
        pid: u32,
    },
    /// Its process died and is started again in a moment.
    Restarting,
    /// The person has ended it.
    Held,
    /// It died too often; its last words.
    Failed(String),
    /// It ended when the network did.
    Ended,
}

/// What has happened to it, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its process runs.
    Started {
        /// Of the process.
        pid: u32,
    },
    /// Its process died, and is started again after this pause.
    Died {
        /// How it ended, in the system's words.
        how: String,
        /// Until the next start.
        pause: Duration,
    },
    /// It is not started any more; its last words.
    GivenUp(String),
}

/// A node: validator or relay.
#[derive(Debug)]
pub struct Member {
    /// `node0`, `relay`.
    pub name: String,
    home: PathBuf,
    args: Vec<OsString>,
    process: Option<(Child, Instant)>,
    restarts: Restarts,
    restart_at: Option<Instant>,
    life: Life,
}

impl Member {
    /// Not started yet. `args` follow `start --home HOME`.
    pub fn new(name: String, home: PathBuf, args: Vec<OsString>) -> Self {
        let restarts = Restarts::default();
        Self { name, home, args, process: None, restarts, restart_at: None, life: Life::Waiting }
    }

    /// How it is.
    pub fn life(&self) -> &Life {
        &self.life
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.home.join(LOG)
    }

    /// Starts the process. The kernel ends it with the thread that calls this.
    pub fn start(&mut self, now: Instant) -> Event {
        self.restart_at = None;
        match self.launch() {
            Ok(child) => {
                let pid = child.id();
                self.process = Some((child, now));
                self.life = Life::Up { pid };
                Event::Started { pid }
            }
            Err(error) => self.give_up(format!("it cannot be started: {error}")),
        }
    }

    fn launch(&self) -> io::Result<Child> {
        let log = open_log(&self.log())?;
        // A program that was built again meanwhile has no path any more; it still runs.
        let own = env::current_exe().ok().filter(|path| path.exists());
        let mut command = Command::new(own.unwrap_or_else(|| "/proc/self/exe".into()));
        command.arg("start").arg("--home").arg(&self.home).args(&self.args);
        // What is said here is meant for this process, not for ten nodes alike.
        for (name, _) in env::vars_os() {
            let is_ours = name.to_string_lossy().starts_with("SUTANTRA_");
            if is_ours && name != "SUTANTRA_LOG" {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C is for the network, which ends its nodes in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        die_with_parent(&mut command).spawn()
    }

    /// Notices its end, and starts it again when it is time. To be called often.
    pub fn tend(&mut self, now: Instant) -> Option<Event> {
        if self.restart_at.is_some_and(|at| at <= now) {
            return Some(self.start(now));
        }
        let (child, since) = self.process.as_mut()?;
        let how = match child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let ran = now.duration_since(*since);
        self.process = None;
        Some(match self.restarts.died(ran, false) {
            Next::After(pause) => {
                self.restart_at = Some(now + pause);
                self.life = Life::Restarting;
                Event::Died { how, pause }
            }
            Next::GiveUp => {
                let words = last_words(&self.log()).unwrap_or(how);
                self.give_up(words)
            }
        })
    }

    fn give_up(&mut self, words: String) -> Event {
        self.life = Life::Failed(words.clone());
        Event::GivenUp(words)
    }

    /// Kills it, and does not start it again by itself.
    pub fn hold(&mut self) {
        self.kill();
        self.restart_at = None;
        self.life = Life::Held;
    }

    /// Asks it to end.
    pub fn ask_to_end(&mut self) {
        self.restart_at = None;
        if let Some((child, _)) = &mut self.process {
            terminate(child);
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        let ended = match &mut self.process {
            Some((child, _)) => child.try_wait().map(|status| status.is_some()).unwrap_or(true),
            None => true,
        };
        if ended {
            self.process = None;
            self.life = Life::Ended;
        }
        ended
    }

    /// Kills it; what it started dies with it.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        let (mut child, _) = self.process.take()?;
        let _ = child.kill(); // It has ended by itself.
        child.wait().ok()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

/// The last line that is an error, else the last line.
fn last_words(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| line.starts_with("error:")).or_else(|| lines().next())?;
    let line = line.strip_prefix("error:").unwrap_or(line).trim();
    Some(line.chars().take(WORDS_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_last_words_are_an_error_or_the_last_line() {
        let temp = TempDir::new().unwrap();
        let log = temp.path().join("node.log");
        let words = |text: &str| {
            fs::write(&log, text).expect("ours");
            last_words(&log)
        };
        assert_eq!(words(""), None);
        assert_eq!(words("one\ntwo\n\n").as_deref(), Some("two"));
        assert_eq!(words("error: no port\nstack\n").as_deref(), Some("no port"));
        let long = format!("error: old\n{}error: new\n", "x\n".repeat(8_000));
        assert_eq!(words(&long).as_deref(), Some("new"));
        assert_eq!(last_words(&temp.path().join("nowhere")), None);
    }

    #[test]
    fn a_long_log_is_put_aside() {
        let temp = TempDir::new().unwrap();
        let log = temp.path().join("log/node.log");
        open_log(&log).expect("made").set_len(LOG_BYTES_MAX + 1).expect("ours");
        assert_eq!(open_log(&log).expect("made").metadata().expect("there").len(), 0);
        assert!(log.with_extension("log.1").exists());
    }
}
