//! What failed is run once more by itself, and is named at the end when it passes then.
//!
//! A test that fails in one of many runs is a race of the test or of the product, and has to be
//! mended; the change under test has rarely anything to do with it. More than a few failures, or the
//! same one twice, fail the step. The soak forgives nothing.

use anyhow::{Result, ensure};

use crate::tally::Tally;

/// More failures than this are no accident.
const NAMES_MAX: usize = 3;

/// Counts a run that ended with `outcome`, and has `run` try again what failed in it.
pub fn once(
    outcome: Result<()>,
    first: Tally,
    tally: &mut Tally,
    run: impl FnOnce(&[String], &mut Tally) -> Result<()>,
) -> Result<()> {
    let names = first.names_failed.clone();
    // A program that crashed or was killed has failures without a name.
    let is_all = !names.is_empty() && first.failed == names.len() as u64;
    if outcome.is_ok() || !is_all || names.len() > NAMES_MAX {
        tally.add(first);
        return outcome;
    }
    println!("failed, and now run once more by themselves: {}", names.join(", "));
    let mut second = Tally::default();
    let again = run(&names, &mut second).and_then(|()| {
        let count = names.len() as u64;
        ensure!(second.passed >= count, "{} of {count} were found again", second.passed);
        Ok(())
    });
    if again.is_err() {
        tally.add(first);
        return again;
    }
    let passed = first.passed + first.failed;
    tally.add(Tally { passed, unsteady: names, ..Tally::default() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    /// A run of ten of which some failed, and how many of those pass the second time; what is counted.
    #[track_caller]
    fn check(failed: &[&str], unnamed: u64, pass_again: u64, expected: Option<(u64, u64)>) {
        let first = Tally {
            passed: 10,
            failed: failed.len() as u64 + unnamed,
            names_failed: failed.iter().map(ToString::to_string).collect(),
            ..Tally::default()
        };
        let outcome = if first.failed == 0 { Ok(()) } else { Err(anyhow::anyhow!("failed")) };
        let mut tally = Tally::default();
        let result = once(outcome, first, &mut tally, |names, second| {
            assert_eq!(names, failed);
            second.passed = pass_again;
            if pass_again < names.len() as u64 { bail!("again") } else { Ok(()) }
        });
        assert_eq!(result.is_ok(), expected.is_some(), "{result:?}");
        let lost = 10 + failed.len() as u64;
        assert_eq!(tally.passed, expected.map_or(10, |(passed, _)| passed));
        assert_eq!(tally.passed + tally.failed, lost + unnamed);
        assert_eq!(tally.unsteady.len() as u64, expected.map_or(0, |(_, unsteady)| unsteady));
    }

    #[test]
    fn what_passes_the_second_time_passes_and_is_named() {
        check(&[], 0, 0, Some((10, 0)));
        check(&["a"], 0, 1, Some((11, 1)));
        check(&["a", "b", "c"], 0, 3, Some((13, 3)));
    }

    #[test]
    fn what_fails_twice_or_by_the_dozen_or_without_a_name_fails() {
        check(&["a"], 0, 0, None);
        check(&["a", "b"], 0, 1, None);
        check(&["a", "b", "c", "d"], 0, 4, None);
        check(&["a"], 1, 1, None);
        check(&[], 1, 0, None);
    }
}
