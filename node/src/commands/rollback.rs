//! `rollback`: takes back the newest block of the state, for when it must be executed again.

use super::{say, state};
use crate::config::Config;

/// Carries it out.
///
/// # Errors
/// A sentence that says what to do next.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let app = state::open(config)?;
    let head = app.roll_back()?;
    say(&format!(
        "the state is at {}\nThe engine executes the block of height {} again when the node starts. \
         Where its own state counts on another app hash, `cometbft rollback` takes back that too.\n",
        state::show(&head),
        head.height + 1,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands::state::testing::config, config::testing::TempDir};

    #[test]
    fn a_block_is_taken_back_when_no_node_runs() {
        let home = TempDir::new();
        let config = config(home.path());
        let refused = |config: &Config| format!("{:#}", run(config).expect_err("refused"));
        assert!(refused(&config).contains("start the node once"));
        let app = state::testing::chain(&config, 3);
        assert!(refused(&config).contains("a node runs on"), "{}", refused(&config));
        drop(app);
        for height in [2, 1, 0] {
            run(&config).expect("a block");
            let app = state::open(&config).expect("a state");
            assert_eq!(app.snapshot().height(), height);
        }
        assert!(refused(&config).contains("the genesis state"), "{}", refused(&config));
    }
}
