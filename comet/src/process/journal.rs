//! What CometBFT prints: all of it to a file of bounded size, what matters to the log, the reasons of
//! an end remembered.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::refusal::{Refusal, Warning};

/// Below the home; older ones are `comet.log.1` to `comet.log.3`.
pub const LOG_FILE: &str = "log/comet.log";

/// The file is renamed when it is this long.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Renamed files that are kept; the oldest is removed.
const OLD_FILES_MAX: u32 = 3;
/// A longer line, such as a stack in one, is cut into several.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// What is remembered or logged of a line.
const WORDS_BYTES_MAX: usize = 400;
/// Lines that go to the log in a [`WINDOW`]; more are counted.
const LOGGED_PER_WINDOW_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Everyday.
    Ordinary,
    /// CometBFT calls it an error and goes on.
    Error,
    /// The program ends, or has stopped making blocks.
    Fatal,
    /// Not in the form of a log line.
    Odd,
}

/// Reads a line of either log format.
pub(super) fn weigh(line: &str) -> Weight {
    let is_fatal =
        ["panic: ", "fatal error: ", "ERROR: "].iter().any(|head| line.starts_with(head));
    if is_fatal || line.contains("CONSENSUS FAILURE!!!") {
        Weight::Fatal
    } else if line.starts_with("E[") || line.contains("\"level\":\"error\"") {
        Weight::Error
    } else if ["I[", "D[", "{"].iter().any(|head| line.starts_with(head)) {
        Weight::Ordinary
    } else {
        Weight::Odd
    }
}

/// What one run of the program has said about itself.
#[derive(Debug, Default, Clone)]
pub(super) struct Remembered {
    /// The first fatal line: later ones are consequences.
    fatal: Option<String>,
    /// The first line in no form, before any fatal one.
    odd: Option<String>,
    /// The newest error.
    error: Option<String>,
    /// Height of the application and of the block store, as the handshake found them.
    pub(super) heights: Option<(u64, u64)>,
}

impl Remembered {
    fn note(&mut self, line: &str, weight: Weight) {
        // `ERROR: 1 error(s) decoding:`, and what it is comes below.
        if let (Some(fatal), Weight::Odd) = (&mut self.fatal, weight)
            && fatal.ends_with(':')
            && !line.trim().is_empty()
        {
            fatal.push(' ');
            fatal.push_str(shortened(line));
            return;
        }
        let place = match weight {
            Weight::Ordinary => {
                self.heights = replay_heights(line).or(self.heights);
                return;
            }
            Weight::Fatal if self.fatal.is_none() => &mut self.fatal,
            Weight::Odd if self.fatal.is_none() && self.odd.is_none() => &mut self.odd,
            Weight::Error => &mut self.error,
            Weight::Fatal | Weight::Odd => return,
        };
        let words = shortened(line);
        if !words.is_empty() {
            *place = Some(words.to_owned());
        }
    }

    /// Why it ended, in its own words; the weightiest that there are.
    pub(super) fn last_words(&self) -> Option<&str> {
        self.fatal.as_ref().or(self.odd.as_ref()).or(self.error.as_ref()).map(String::as_str)
    }

    /// Whether it will make no further block though the process lives.
    pub(super) fn is_fatal(&self) -> bool {
        self.fatal.is_some()
    }
}

/// `ABCI Replay Blocks … appHeight=3 storeHeight=0 …`, or the same as JSON.
fn replay_heights(line: &str) -> Option<(u64, u64)> {
    if !line.contains("ABCI Replay Blocks") {
        return None;
    }
    let number = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        let rest = rest.trim_start_matches(['"', ':', '=', ' ']);
        rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
    };
    Some((number("appHeight")?, number("storeHeight")?))
}

fn shortened(line: &str) -> &str {
    let line = line.trim();
    &line[..line.floor_char_boundary(WORDS_BYTES_MAX)]
}

/// All that one child prints, over its restarts.
#[derive(Debug)]
pub(super) struct Journal {
    file: LogFile,
    budget: Budget,
    /// Of this run.
    pub(super) remembered: Remembered,
    /// The newest trouble that does not end it.
    pub(super) warning: Option<Warning>,
    /// It is being ended: what it complains of now is no news.
    pub(super) is_stopping: bool,
}

impl Journal {
    /// Appends to the file, which is made where it is missing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: LogFile::open(path)?,
            budget: Budget::new(Instant::now()),
            remembered: Remembered::default(),
            warning: None,
            is_stopping: false,
        })
    }

    /// A new run begins.
    pub(super) fn begin(&mut self) {
        self.remembered = Remembered::default();
        self.is_stopping = false;
    }

    /// A line, as it was printed at `now`.
    pub(super) fn take(&mut self, bytes: &[u8], now: Instant) {
        self.file.write(bytes);
        let text = String::from_utf8_lossy(bytes);
        let line = text.trim_end();
        let weight = weigh(line);
        self.remembered.note(line, weight);
        if self.is_stopping || weight == Weight::Ordinary || line.is_empty() {
            return;
        }
        // A trace of goroutines is for the file.
        if weight == Weight::Odd && self.remembered.is_fatal() {
            return;
        }
        let warning = Warning::of(line);
        if let Some(warning) = warning.filter(|warning| self.warning.as_ref() != Some(warning)) {
            tracing::warn!(target: "comet", "{}", warning.sentence());
            self.warning = Some(warning);
        }
        if let Some(left_out) = self.budget.take(now) {
            if left_out > 0 {
                tracing::warn!(target: "comet", "{left_out} more lines like the last are in {LOG_FILE}");
            }
            match weight {
                Weight::Fatal => tracing::error!(target: "comet", "{}", shortened(line)),
                _ => tracing::warn!(target: "comet", "{}", shortened(line)),
            }
        }
    }

    /// Why the run ended, if it said so in words that are known.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        Refusal::of(&self.remembered)
    }
}

/// Hands each line of `output` to `take` until the program has closed it.
pub(super) fn read_lines(output: impl Read, mut take: impl FnMut(&[u8])) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => take(&line),
        }
    }
}

/// How many lines may go to the log.
#[derive(Debug)]
struct Budget {
    since: Instant,
    used: u32,
    left_out: u32,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { since: now, used: 0, left_out: 0 }
    }

    /// `Some`: this line may go, and so many did not since the last that went.
    fn take(&mut self, now: Instant) -> Option<u32> {
        if now.duration_since(self.since) >= WINDOW {
            (self.since, self.used) = (now, 0);
        }
        if self.used >= LOGGED_PER_WINDOW_MAX {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// An append-only file that is renamed when it is long.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    len_bytes: u64,
    /// The disk is full or the directory is gone: said once, then lines are lost.
    is_failing: bool,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let len_bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, len_bytes, is_failing: false })
    }

    /// Never fails: a node does not stop because its log cannot be written.
    fn write(&mut self, line: &[u8]) {
        let done = self.try_write(line);
        if let (Err(error), false) = (&done, self.is_failing) {
            tracing::warn!(target: "comet", "{} cannot be written: {error}", self.path.display());
        }
        self.is_failing = done.is_err();
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.len_bytes >= FILE_BYTES_MAX {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.len_bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let old = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..OLD_FILES_MAX).rev() {
            match fs::rename(old(number), old(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, old(1))?;
        *self = Self::open(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_weight_that_cometbft_gives_it() {
        for (line, expected) in [
            ("I[2026-11-22|19:53:44.580] Closing statestore   module=main", Weight::Ordinary),
            ("E[2026-11-22|19:53:44.580] Error dialing peer   module=p2p", Weight::Error),
            ("E[2026-11-22|19:53:44.580] CONSENSUS FAILURE!!! module=consensus", Weight::Fatal),
            ("D[2026-11-22|19:53:44.580] Flush                module=p2p", Weight::Ordinary),
            (r#"{"_msg":"x","level":"info","module":"p2p"}"#, Weight::Ordinary),
            (r#"{"_msg":"x","level":"error","module":"p2p"}"#, Weight::Error),
            ("panic: state.AppHash does not match AppHash after replay. Got", Weight::Fatal),
            ("ERROR: failed to start node: listen tcp 127.0.0.1:1: bind", Weight::Fatal),
            ("open data/priv_validator_state.json: no such file", Weight::Odd),
            ("", Weight::Odd),
            ("é", Weight::Odd),
        ] {
            assert_eq!(weigh(line), expected, "{line}");
        }
    }

    #[test]
    fn the_first_fatal_line_is_the_reason_and_a_trace_is_none() {
        let mut remembered = Remembered::default();
        let mut note = |line: &str| {
            remembered.note(line, weigh(line));
            remembered.last_words().map(str::to_owned)
        };
        assert_eq!(note("I[…] Version info"), None);
        assert_eq!(note("E[…] one").as_deref(), Some("E[…] one"));
        assert_eq!(note("panic: two").as_deref(), Some("panic: two"));
        assert_eq!(note("goroutine 1 [running]:").as_deref(), Some("panic: two"));
        assert_eq!(note("ERROR: three").as_deref(), Some("panic: two"));

        let mut list = Remembered::default();
        for line in ["ERROR: 1 error(s) decoding:", "", "* cannot parse 'size' as int", "* more"] {
            list.note(line, weigh(line));
        }
        let expected = "ERROR: 1 error(s) decoding: * cannot parse 'size' as int";
        assert_eq!(list.last_words(), Some(expected));
    }

    #[test]
    fn the_heights_of_the_handshake_are_read_from_both_formats() {
        let text =
            "I[x] ABCI Replay Blocks   module=consensus appHeight=3 storeHeight=0 stateHeight=0";
        assert_eq!(replay_heights(text), Some((3, 0)));
        let json =
            r#"{"_msg":"ABCI Replay Blocks","appHeight":12,"storeHeight":10,"level":"info"}"#;
        assert_eq!(replay_heights(json), Some((12, 10)));
        assert_eq!(replay_heights("I[x] ABCI Replay Blocks appHeight=x"), None);
    }

    #[test]
    fn the_log_takes_a_bounded_number_of_lines_and_says_how_many_it_left_out() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let taken = (0..50).filter(|_| budget.take(start).is_some()).count();
        assert_eq!(taken, LOGGED_PER_WINDOW_MAX as usize);
        assert_eq!(budget.take(start + WINDOW), Some(50 - LOGGED_PER_WINDOW_MAX));
        assert_eq!(budget.take(start + WINDOW), Some(0));
    }

    #[test]
    fn a_long_file_is_renamed_and_the_oldest_is_removed() {
        let home = tempfile::tempdir().expect("a directory for the test");
        let dir = home.path().join("data");
        let path = dir.join("comet.log");
        let mut file = LogFile::open(&path).expect("a new directory");
        for round in 0..6 {
            file.write(format!("{round}\n").as_bytes());
            file.len_bytes = FILE_BYTES_MAX;
        }
        let text = |name: &str| fs::read_to_string(dir.join(name)).ok();
        assert_eq!(text("comet.log").as_deref(), Some("5\n"));
        assert_eq!(text("comet.log.1").as_deref(), Some("4\n"));
        assert_eq!(text("comet.log.3").as_deref(), Some("2\n"));
        assert_eq!(text("comet.log.4"), None);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut lines = Vec::new();
        let long = vec![b'x'; LINE_BYTES_MAX as usize + 3];
        read_lines(&[&long[..], b"\nlast"].concat()[..], |line| lines.push(line.len()));
        assert_eq!(lines, [LINE_BYTES_MAX as usize, 4, 4]);
    }
}
