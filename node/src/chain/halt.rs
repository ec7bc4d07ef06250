//! A stop that was asked for: with the block of a height, or with the first of a time.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use consensus_abci::{
    app::App,
    application::{Application, ApplicationError, Method, Wrapper},
};
use tendermint::Time;
use tendermint_proto::v0_38::abci::{RequestFinalizeBlock, ResponseCommit, ResponseFinalizeBlock};
use tokio::sync::watch;

use crate::config::chain::HaltAt;

/// The stop that was asked for has come; no failure. The sentence says what to do to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halted(pub String);

impl fmt::Display for Halted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Halted {}

/// Says of a block whether it is the last, in a sentence.
pub(super) fn reached(at: HaltAt, height: u64, block_time_ms: u64) -> Option<Halted> {
    let by_height = at.height.filter(|last| height >= *last);
    let by_time = at.time_ms.filter(|last| height > 0 && block_time_ms >= *last);
    let (name, value) = match (by_height, by_time) {
        (Some(last), _) => ("halt-height", last.to_string()),
        (None, Some(last)) => ("halt-time", rfc3339(last)),
        (None, None) => return None,
    };
    Some(Halted(format!(
        "the chain is at height {height}, and {name} {value} is reached: the node stops as it was \
         asked to. Take {name} out of the configuration to go on"
    )))
}

fn rfc3339(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    match Time::from_unix_timestamp(seconds, 0) {
        Ok(time) => time.to_rfc3339(),
        Err(_) => seconds.to_string(),
    }
}

/// The application of a node that is to stop. When the last block is durable its engine waits for
/// the answer until the node ends, so that it decides no other one meanwhile.
pub(super) struct Halting {
    app: Arc<App>,
    at: HaltAt,
    come: watch::Sender<Option<Halted>>,
    is_ending: Mutex<bool>,
    ending: Condvar,
}

impl Halting {
    pub(super) fn new(app: Arc<App>, at: HaltAt) -> Self {
        let come = watch::Sender::new(None);
        Self { app, at, come, is_ending: Mutex::new(false), ending: Condvar::new() }
    }

    /// Tells when it has come.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Halted>> {
        self.come.subscribe()
    }

    /// Lets the engine go, which is ended next.
    pub(super) fn release(&self) {
        *self.is_ending.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ending.notify_all();
    }

    fn await_release(&self) {
        let is_ending = self.is_ending.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ending.wait_while(is_ending, |is_ending| !*is_ending);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Wrapper for Halting {
    type Inner = App;

    fn inner(&self) -> &App {
        &self.app
    }

    fn finalize_block(
        &self,
        request: RequestFinalizeBlock,
    ) -> Result<ResponseFinalizeBlock, ApplicationError> {
        match &*self.come.borrow() {
            None => {}
            Some(Halted(why)) => {
                return Err(ApplicationError::new(Method::FinalizeBlock, why.clone()));
            }
        }
        self.app.finalize_block(request)
    }

    fn commit(&self) -> Result<ResponseCommit, ApplicationError> {
        let response = self.app.commit()?;
        let state = self.app.snapshot();
        if let Some(halted) = reached(self.at, state.height(), state.block_time_ms()) {
            self.come.send_replace(Some(halted));
            self.await_release();
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_comes_with_its_height_or_with_the_first_block_of_its_time() {
        #[track_caller]
        fn check(at: (Option<u64>, Option<u64>), height: u64, time_ms: u64, part: Option<&str>) {
            let at = HaltAt { height: at.0, time_ms: at.1 };
            match (reached(at, height, time_ms), part) {
                (None, None) => {}
                (Some(Halted(said)), Some(part)) => assert!(said.contains(part), "{said}"),
                (found, _) => panic!("{found:?}, expected {part:?}"),
            }
        }
        check((None, None), 7, 7, None);
        check((Some(7), None), 6, 9, None);
        check((Some(7), None), 7, 0, Some("height 7, and halt-height 7 is reached"));
        check((Some(7), None), 8, 0, Some("height 8, and halt-height 7 is reached"));
        let second = Some(1_700_000_000_000);
        check((None, second), 7, 1_699_999_999_999, None);
        check((None, second), 7, 1_700_000_000_000, Some("halt-time 2023-11-14T22:13:20Z"));
        // The genesis is no block.
        check((None, Some(0)), 0, 0, None);
        check((Some(9), second), 7, 1_700_000_000_001, Some("halt-time"));
    }
}
