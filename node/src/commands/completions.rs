//! `completions`: the grammar, as a shell wants it.

use clap::Args;
use clap_complete::Shell;

/// `completions`.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::command(), "sutantra-node", &mut script);
    super::say(&String::from_utf8(script)?)
}
