//! Counts of tests, taken from the closing lines that the runners print themselves.

/// How many tests passed and failed so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Those that failed, where the runner says each by a line of its own.
    pub names_failed: Vec<String>,
    /// Those of the passed that failed the first time.
    pub unsteady: Vec<String>,
}

impl Tally {
    /// Reads one line of a runner's output; any line that closes no run changes nothing.
    pub fn read_line(&mut self, line: &str) {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("test result: ") {
            // libtest: `test result: ok. 3 passed; 0 failed; 0 ignored; …`
            self.passed += number_before(rest, " passed").unwrap_or(0);
            self.failed += number_before(rest, " failed").unwrap_or(0);
        } else if let Some(count) = node_count(line, "pass") {
            self.passed += count;
        } else if let Some(count) = node_count(line, "fail") {
            self.failed += count;
        } else if let Some(name) = failed_name(line) {
            self.names_failed.push(name.to_owned());
        }
    }

    /// Takes over what another run counted.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.names_failed.extend(other.names_failed);
        self.unsteady.extend(other.unsteady);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match &self.unsteady[..] {
            [] => Ok(()),
            names => write!(f, "; passed only when run again: {}", names.join(", ")),
        }
    }
}

/// libtest: `test a::b ... FAILED`; the scenarios: `scenario money ... FAILED (8.2 s): why`.
fn failed_name(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("test ").or_else(|| line.strip_prefix("scenario "))?;
    let (name, verdict) = rest.split_once(" ... ")?;
    (verdict.split(' ').next() == Some("FAILED")).then_some(name)
}

fn number_before(text: &str, word: &str) -> Option<u64> {
    let head = &text[..text.find(word)?];
    head.rsplit(' ').next()?.parse().ok()
}

/// `node --test`: `# pass 3` as TAP, `ℹ pass 3` as prose.
fn node_count(line: &str, word: &str) -> Option<u64> {
    let rest = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ "))?;
    rest.strip_prefix(word)?.strip_prefix(' ')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &str, passed: u64, failed: u64) {
        let mut tally = Tally::default();
        lines.lines().for_each(|line| tally.read_line(line));
        assert_eq!((tally.passed, tally.failed), (passed, failed), "{lines}");
    }

    #[test]
    fn closing_lines_are_summed_over_runners() {
        check("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out", 12, 0);
        check("test result: FAILED. 1 passed; 2 failed; 0 ignored", 1, 2);
        check("# tests 5\n# suites 0\n# pass 4\n# fail 1\n# cancelled 0", 4, 1);
        check("ℹ tests 5\nℹ pass 5\nℹ fail 0", 5, 0);
        check("test result: ok. 2 passed; 0 failed\n# pass 3\n# fail 0", 5, 0);
    }

    #[test]
    fn other_lines_count_nothing() {
        check("test a_result_that_passed ... ok\n12 passed\n# passengers 9\n# pass many", 0, 0);
    }

    #[test]
    fn a_failed_test_and_a_failed_scenario_are_known_by_name() {
        let mut tally = Tally::default();
        let lines = [
            "test chain::a_block_is_taken ... ok",
            "test chain::two_agree ... FAILED",
            "test web/src/lib.rs - page (line 3) ... FAILED",
            "scenario money ... ok (3.0 s)",
            "scenario rooms-turn ... FAILED (8.2 s): no channel",
            "test of nothing FAILED",
        ];
        lines.iter().for_each(|line| tally.read_line(line));
        let names = ["chain::two_agree", "web/src/lib.rs - page (line 3)", "rooms-turn"];
        assert_eq!(tally.names_failed, names);
    }
}
