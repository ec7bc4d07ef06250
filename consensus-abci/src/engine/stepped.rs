//! The embedded engine without its thread: somebody else says when there is a block, and what time
//! it is.

use std::sync::Arc;

use tendermint::Time;

use super::execution::HaltReason;
use super::fail::FailPoint;
use super::producer::Producer;
use super::{Engine, EngineConfig, EngineError, FailAt};
use crate::application::Application;

/// A chain for simulations: the code of [`Engine`], one call a block, with no clock inside.
///
/// [`crate::fail::unwind_here`] makes its fail points survivable.
pub struct SteppedEngine {
    engine: Engine,
    producer: Producer,
}

impl SteppedEngine {
    /// As [`Engine::start`], but no block is made. `config.fail_at` holds for the start alone.
    ///
    /// # Errors
    /// Those of [`Engine::start`].
    pub fn start(config: EngineConfig, app: Arc<dyn Application>) -> Result<Self, EngineError> {
        let producer = Producer::open(config, app)?;
        Ok(Self { engine: Engine::without_thread(producer.core.clone()), producer })
    }

    /// The engine, to send transactions to and to read from.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Makes the next block from what waits; it is signed at `now`. Dies at `fail_at`, if any.
    ///
    /// # Errors
    /// Why the chain halts.
    pub fn step(&mut self, now: Time, fail_at: Option<FailPoint>) -> Result<(), HaltReason> {
        let height = self.engine.height() + 1;
        self.producer.fail_at = fail_at.map(|point| FailAt { point, height });
        self.producer.make_block(|| now)
    }
}
