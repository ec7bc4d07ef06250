//! Questions to a person at a terminal: yes or no, and a passphrase that the screen does not show.

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Read, Write},
    os::fd::AsRawFd,
    path::Path,
};

use anyhow::{Context as _, bail};

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 4096;
/// Shortest passphrase: below it a guess is cheaper than the derivation makes it.
const PASSPHRASE_CHARS_MIN: usize = 8;

/// Asks; anything but `y` or `yes` is no.
///
/// # Errors
/// There is nobody to ask: `unasked` says what to do instead.
pub fn confirm(question: &str, unasked: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        bail!("{unasked}");
    }
    eprint!("{question} [y/N] ");
    match line()?.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("nothing was done"),
    }
}

/// The passphrase of a file's first line, or typed twice at a terminal.
pub fn new_passphrase(file: Option<&Path>) -> anyhow::Result<String> {
    let passphrase = match file {
        Some(file) => first_line(file)?,
        None => {
            let typed = hidden("passphrase for the backup: ")?;
            if hidden("the same once more: ")? != typed {
                bail!("the two passphrases differ; nothing was done");
            }
            typed
        }
    };
    if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
        bail!(
            "a passphrase has {PASSPHRASE_CHARS_MIN} characters or more: the file holds the keys to all money of this home"
        );
    }
    Ok(passphrase)
}

/// The passphrase of a file's first line, or typed at a terminal.
pub fn passphrase(file: Option<&Path>) -> anyhow::Result<String> {
    match file {
        Some(file) => first_line(file),
        None => hidden("passphrase of the backup: "),
    }
}

fn first_line(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("the passphrase file {}", file.display()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        bail!("the first line of {} is empty: write the passphrase there", file.display());
    }
    Ok(line.to_owned())
}

fn hidden(question: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        bail!("nobody is there to type a passphrase: give --passphrase-file FILE");
    }
    let _echo = EchoOff::new()?;
    eprint!("{question}");
    let typed = line()?;
    eprintln!();
    Ok(typed)
}

fn line() -> anyhow::Result<String> {
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut line).context("stdin")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal shows nothing of what is typed until this is dropped.
struct EchoOff(libc::termios);

impl EchoOff {
    fn new() -> anyhow::Result<Self> {
        let fd = io::stdin().as_raw_fd();
        // SAFETY: `termios` is plain integers; all zeros is a value of it.
        let mut before: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: `before` lives through the call, which writes one `termios` there.
        if unsafe { libc::tcgetattr(fd, &raw mut before) } != 0 {
            return Err(io::Error::last_os_error()).context("the terminal");
        }
        let mut silent = before;
        silent.c_lflag &= !libc::ECHO;
        // SAFETY: `silent` lives through the call, which only reads it.
        if unsafe { libc::tcsetattr(fd, libc::TCSAFLUSH, &raw const silent) } != 0 {
            return Err(io::Error::last_os_error()).context("the terminal");
        }
        Ok(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        // SAFETY: as above. A terminal that went away has nothing to be put back.
        unsafe { libc::tcsetattr(io::stdin().as_raw_fd(), libc::TCSAFLUSH, &raw const self.0) };
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_passphrase_of_a_file_is_its_first_line_and_not_short() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("passphrase");
        let check = |text: &str, new: Result<&str, &str>| {
            fs::write(&file, text).expect("ours");
            let found = new_passphrase(Some(&file)).map_err(|error| error.to_string());
            match (new, found) {
                (Ok(expected), Ok(found)) => assert_eq!(found, expected),
                (Err(part), Err(found)) => assert!(found.contains(part), "{found}"),
                (expected, found) => panic!("{text:?}: {found:?}, expected {expected:?}"),
            }
        };
        check("correct horse\nsecond line\n", Ok("correct horse"));
        check("correct horse\r\n", Ok("correct horse"));
        check(" blanks count ", Ok(" blanks count "));
        check("short\n", Err("8 characters"));
        check("\nsecond line\n", Err("empty"));
        check("", Err("empty"));
        let missing = passphrase(Some(&dir.path().join("none"))).expect_err("no such file");
        assert!(format!("{missing:#}").contains("passphrase file"));
    }
}
