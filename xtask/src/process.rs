//! Child processes: bounded in time, their output passed through while it is counted.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::tally::Tally;

/// Runs `command` to its end. Its output goes to ours; the closing lines of test runners go into
/// `tally`. After `limit` the command and everything it started are killed, which is an error.
pub fn run(command: &mut Command, limit: Duration, tally: &mut Tally) -> Result<()> {
    let shown = show(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{shown}` does not start"))?;
    let output = child.stdout.take().expect("stdout is piped");
    let pid = child.id();
    let (done, finished) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let expired = finished.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        if expired {
            kill_tree(pid);
        }
        expired
    });
    let read = pass_through(output, std::io::stdout(), tally);
    let status = child.wait().with_context(|| format!("`{shown}`"))?;
    drop(done);
    let expired = watchdog.join().expect("the watchdog does not panic");
    read.with_context(|| format!("reading what `{shown}` prints"))?;
    if expired {
        bail!("`{shown}` did not end within {} s and was killed", limit.as_secs());
    }
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

fn pass_through(output: impl Read, mut to: impl Write, tally: &mut Tally) -> std::io::Result<()> {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        tally.read_line(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(())
}

/// The command as one would type it.
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned());
    words.collect::<Vec<_>>().join(" ")
}

/// A child that does not outlive this value.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        kill_tree(self.0.id());
        let _ = self.0.wait(); // Reaped already if it had ended by itself.
    }
}

/// Kills `root` and its descendants, by number.
fn kill_tree(root: u32) {
    let mut doomed = vec![root];
    let parents = parents();
    let mut next = 0;
    while next < doomed.len() {
        let parent = doomed[next];
        doomed.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    let pids = doomed.iter().map(u32::to_string);
    let kill = Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status();
    if let Err(error) = kill {
        eprintln!("cannot kill {doomed:?}: {error}");
    }
}

/// (process, its parent) of every process.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // `pid (name) state ppid …`; the name may hold blanks and parentheses.
        let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, parent))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_passes_through_and_its_closing_lines_are_counted() {
        let output = "test a ... ok\ntest result: ok. 3 passed; 0 failed\nno newline at the end";
        let (mut seen, mut tally) = (Vec::new(), Tally::default());
        pass_through(output.as_bytes(), &mut seen, &mut tally).unwrap();
        assert_eq!((String::from_utf8(seen).unwrap().as_str(), tally.passed), (output, 3));
    }

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = run(&mut shell("exit 3"), Duration::from_secs(10), &mut Tally::default());
        let text = error.unwrap_err().to_string();
        assert!(text.contains("sh -c exit 3") && text.contains("3"), "{text}");
    }

    #[test]
    fn a_command_past_its_limit_is_killed_with_its_children() {
        let started = Instant::now();
        let mut command = shell("sleep 60 & sleep 60");
        let error = run(&mut command, Duration::from_millis(200), &mut Tally::default());
        assert!(error.unwrap_err().to_string().contains("was killed"));
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
