//! Counts of tests, taken from the closing lines that the runners print themselves.

/// How many tests passed and failed so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
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
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
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
        assert_eq!(tally, Tally { passed, failed }, "{lines}");
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
}
