//! A child process that is signalled, watched and always ended.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use comet::process::{die_with_parent, terminate};

const POLL: Duration = Duration::from_millis(20);
/// So much of a log's end is searched for last words.
const TAIL_BYTES: u64 = 64 * 1024;
const WORDS_CHARS_MAX: usize = 600;

/// A process that writes into a log.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Where its words begin in the log.
    from: u64,
}

impl Process {
    /// Starts it. The kernel kills it with the thread that calls this.
    ///
    /// # Errors
    /// No log, no program.
    pub fn start(mut command: Command, log: &Path) -> io::Result<Self> {
        if let Some(dir) = log.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(log)?;
        let from = file.metadata()?.len();
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // A group of its own: Ctrl-C is for this program, which ends its nodes in order.
        command.process_group(0);
        let child = die_with_parent(&mut command).spawn()?;
        Ok(Self { child, log: log.to_owned(), from })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + within;
        loop {
            match self.ended() {
                None if Instant::now() < until => thread::sleep(POLL),
                ended => return ended,
            }
        }
    }

    /// Asks it to end, and kills it when it does not within `within`; whether it ended by itself.
    pub fn stop(mut self, within: Duration) -> bool {
        terminate(&mut self.child);
        self.wait(within).is_some()
    }

    /// What it said since it was started.
    pub fn words(&self) -> String {
        tail(&self.log, self.from).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It has ended.
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process of this run.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: a plain system call; the number is of a child that is not waited for yet, or of its
    // child, which dies with it.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// Processes that `pid` has started.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

/// The end of a log, from `from` on.
fn tail(log: &Path, from: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last line that looks like a reason, else the last line.
pub fn reason(words: &str) -> Option<String> {
    let lines = || words.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let is_reason = |line: &&str| {
        line.starts_with("error:")
            || line.starts_with("ERROR:")
            || line.starts_with("panic:")
            || line.contains(" panicked at ")
            || line.contains(" ERROR ")
    };
    let line = lines().find(is_reason).or_else(|| lines().next())?;
    Some(line.chars().take(WORDS_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_line_that_says_one() {
        let said = |words: &str| reason(words);
        assert_eq!(said("one\ntwo\n\n").as_deref(), Some("two"));
        assert_eq!(said("ERROR: no\nUsage:\n").as_deref(), Some("ERROR: no"));
        assert_eq!(said("error: a\nerror: b\nstack\n").as_deref(), Some("error: b"));
        assert_eq!(said(""), None);
    }

    #[test]
    fn a_process_is_heard_and_ends_with_its_owner() {
        let log = std::env::temp_dir().join(format!("perturb-process-{}.log", std::process::id()));
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo here; exec sleep 600"]);
        let process = Process::start(shell, &log).expect("a shell");
        let until = Instant::now() + Duration::from_secs(10);
        while process.words().trim() != "here" && Instant::now() < until {
            thread::sleep(POLL);
        }
        assert_eq!(process.words().trim(), "here");
        let pid = process.pid();
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it was waited for");
        fs::remove_file(&log).expect("ours");
    }
}
