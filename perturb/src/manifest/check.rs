//! The sense of a manifest: everything that its grammar allows and that cannot be.

use super::{Action, At, Manifest, Mode, NODES_MAX, Word};

/// Accounts that send the load.
const ACCOUNTS_MAX: u32 = 2_000;

impl Manifest {
    /// All that cannot be, each in a sentence.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=NODES_MAX).contains(&self.nodes.len()) {
            faults.push(format!("{} nodes: there are 1 to {NODES_MAX}", self.nodes.len()));
        }
        if let Some(engine) = &self.chain.engine
            && !["0.38", "0.39"].contains(&engine.as_str())
        {
            faults.push(format!("chain.engine is {engine:?}: say \"0.38\" or \"0.39\""));
        }
        if let Err(wrong) = self.params() {
            faults.extend(wrong);
        }
        if let Some(load) = &self.load {
            if !(1..=1_000).contains(&load.tx_per_second) {
                faults.push("load.tx_per_second is 1 to 1000".to_owned());
            }
            if !(2..=ACCOUNTS_MAX).contains(&load.accounts) {
                faults.push(format!("load.accounts is 2 to {ACCOUNTS_MAX}"));
            }
            if load.kinds.is_empty() {
                faults
                    .push("load.kinds is empty: say transfer, stream, channel or stake".to_owned());
            }
        }
        if !self.nodes.iter().any(Self::is_first) {
            faults.push(
                "no node is a validator from the beginning: nobody would make the first block"
                    .to_owned(),
            );
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let name = &node.name;
            let mut fault = |text: &str| faults.push(format!("node {name:?}: {text}"));
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if name.is_empty() || name.len() > 24 || !name.bytes().all(is_plain) {
                fault("a name has 1 to 24 letters, digits and dashes");
            }
            if self.index(name) != Some(at) {
                fault("there are two of this name");
            }
            if node.state_sync && node.start_at.is_none() {
                fault("state_sync is for a node that joins later: say start_at");
            }
            if node.state_sync && self.chain.snapshot_interval == 0 {
                fault("state_sync needs snapshots: say chain.snapshot_interval");
            }
            if node.mode == Mode::Full && node.stake.is_some() {
                fault("stake is for a validator of the genesis: drop it, or drop mode = \"full\"");
            }
            if node.mode == Mode::Validator && node.start_at.is_some() && node.key_of.is_none() {
                fault(
                    "a validator of the genesis is there from the beginning: say mode = \"full\", and create-validator later",
                );
            }
            if let Some(other) = &node.key_of {
                match self.index(other).map(|other| &self.nodes[other]) {
                    Some(other) if other.mode == Mode::Validator && other.key_of.is_none() => {}
                    _ => fault("key_of must name a validator of the genesis"),
                }
                if node.start_at.is_none() || node.mode == Mode::Validator {
                    fault("a copy of a key joins later: say mode = \"full\" and start_at");
                }
            }
            for perturbation in &node.perturb {
                let word = perturbation.fault.word();
                let own_history =
                    matches!(word, Word::TruncateStore | Word::AppBehind | Word::AppAhead);
                if own_history && node.state_sync {
                    fault(&format!(
                        "{} needs all blocks, which a node that joined by state sync has not",
                        word.text()
                    ));
                }
                let is_early = match (perturbation.at, node.start_at) {
                    (At::Height(at), Some(At::Height(start))) => at <= start,
                    (At::After(at), Some(At::After(start))) => at <= start,
                    _ => false,
                };
                if is_early {
                    fault(&format!("{} {}, before its start", word.text(), perturbation.at));
                }
            }
        }
        self.stake_faults(&mut faults);
        faults
    }

    fn stake_faults(&self, faults: &mut Vec<String>) {
        for (number, step) in self.stakes.iter().enumerate() {
            let mut fault =
                |text: String| faults.push(format!("stake step {}: {text}", number + 1));
            let named = std::iter::once(&step.from).chain(&step.to).chain(step.expect.keys());
            for name in named {
                if self.index(name).is_none() {
                    fault(format!("there is no node {name:?}"));
                }
            }
            let needs_amount = matches!(
                step.action,
                Action::CreateValidator
                    | Action::Delegate
                    | Action::Undelegate
                    | Action::Redelegate
            );
            if needs_amount != step.amount.is_some() {
                let text = if needs_amount { "it needs an amount" } else { "it takes no amount" };
                fault(text.to_owned());
            }
            if step.action == Action::Redelegate
                && step.to.as_ref().is_none_or(|to| *to == step.from)
            {
                fault("redelegate needs `to`, another node".to_owned());
            }
        }
    }
}
