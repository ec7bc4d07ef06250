//! The node whose chain it is: application and embedded engine, which die and start again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use chain_types::Params;
use consensus_abci::{
    app::{App, Options},
    engine::{EngineConfig, FailAt, FailPoint, Genesis, NodeKey, SteppedEngine, ValidatorKey},
    fail::{self, Died, Step},
};
use tendermint::Time;

use crate::{
    chance::Chance,
    finding::Finding,
    staked::{engine_key, staked_state},
    tap::{Notebook, Tap},
    world::{CHAIN_ID, Dir, GENESIS_MS, id},
};

/// Who stakes for the validator: a staked genesis of one.
pub const OPERATOR: &str = "operator";
/// What it stakes.
pub const STAKE: u64 = 100_000_000_000;

/// The application's own; the others are its socket server's.
const STEPS: [Step; 3] = [Step::Prepared, Step::BeforeBatch, Step::AfterBatch];

/// A moment at which the process is gone.
#[derive(Debug, Clone, Copy)]
pub enum Death {
    OfEngine(FailPoint),
    OfApplication(Step),
}

impl Death {
    /// One in a block, or in the start.
    pub fn any(chance: &mut Chance) -> Self {
        match chance.once_in(2) {
            true => Self::OfEngine(chance.one_of(&FailPoint::ALL)),
            false => Self::OfApplication(chance.one_of(&STEPS)),
        }
    }
}

/// What of it is wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Its proposals never have what this account sends.
    PassesOver(&'static str),
    /// The disk is empty after the first death from this height on.
    ForgetsAll(u64),
}

pub struct Node {
    dir: Dir,
    params: Params,
    options: Options,
    fault: Fault,
    life: Option<(SteppedEngine, Arc<Tap>)>,
    pub notebook: Notebook,
    /// Height of the block that was being made when it died; 0: of the genesis state.
    trying: u64,
    pub deaths: u32,
}

impl Node {
    pub fn new(params: Params, options: Options, fault: Fault) -> Self {
        let (dir, life, notebook) = (Dir::in_memory(), None, Notebook::default());
        Self { dir, params, options, fault, life, notebook, trying: 0, deaths: 0 }
    }

    fn config(&self) -> EngineConfig {
        let seed = engine_key(OPERATOR).to_bytes();
        let key = ValidatorKey::from_seed(seed);
        let time = at(GENESIS_MS);
        let state = staked_state(self.params.clone(), &[(OPERATOR, STAKE, 1_000)]);
        let state = serde_json::to_value(&state).expect("a genesis");
        let chain_id = CHAIN_ID.parse().expect("a chain id");
        let genesis = Genesis::single(chain_id, time, key.public_key(), state);
        EngineConfig::new(
            self.dir.path().join("blocks"),
            genesis,
            key,
            NodeKey::from_seed([8; 32]),
            self.dir.path().join("priv_validator_state.json"),
        )
    }

    /// Starts, whatever `deaths` it dies on the way.
    pub fn start(&mut self, deaths: impl IntoIterator<Item = Death>) -> Result<(), Finding> {
        let deaths = deaths.into_iter().map(Some).chain([None]);
        for death in deaths {
            // What a start does again is the block that was decided last, or none.
            let outcome = mortal(|| {
                let mut config = self.config();
                match death {
                    Some(Death::OfEngine(point)) => {
                        config.fail_at = Some(FailAt { point, height: self.trying });
                    }
                    Some(Death::OfApplication(step)) => {
                        fail::arm_here(Some((step, self.trying)));
                    }
                    None => {}
                }
                let app = App::open_with(&self.dir.path().join("state"), self.options)
                    .map_err(|error| Finding::Start(error.to_string()))?;
                let passes_over = match self.fault {
                    Fault::PassesOver(name) => Some(id(name)),
                    Fault::None | Fault::ForgetsAll(_) => None,
                };
                let tap = Arc::new(Tap { app, notebook: self.notebook.clone(), passes_over });
                let engine = SteppedEngine::start(config, tap.clone())
                    .map_err(|error| Finding::Start(error.to_string()))?;
                Ok((engine, tap))
            });
            match outcome {
                Some(life) => {
                    self.life = Some(life?);
                    return self.found();
                }
                None => self.deaths += 1,
            }
        }
        unreachable!("the last start has no death")
    }

    fn found(&self) -> Result<(), Finding> {
        self.notebook.open().found.take().map_or(Ok(()), Err)
    }

    pub fn engine(&self) -> &SteppedEngine {
        &self.life.as_ref().expect("it lives").0
    }

    pub fn app(&self) -> &App {
        &self.life.as_ref().expect("it lives").1.app
    }

    /// Makes a block at `now_ms`; `false`: it died at `death`, and must be started.
    pub fn block(&mut self, now_ms: u64, death: Option<Death>) -> Result<bool, Finding> {
        let (mut engine, tap) = self.life.take().expect("it lives");
        let height = engine.engine().height() + 1;
        let fail_at = match death {
            Some(Death::OfEngine(point)) => Some(point),
            Some(Death::OfApplication(step)) => {
                fail::arm_here(Some((step, height)));
                None
            }
            None => None,
        };
        let outcome = mortal(|| engine.step(at(now_ms), fail_at));
        let Some(outcome) = outcome else {
            drop((engine, tap));
            self.die(height);
            return Ok(false);
        };
        outcome.map_err(|reason| Finding::Halt(reason.to_string()))?;
        self.life = Some((engine, tap));
        self.found()?;
        Ok(true)
    }

    /// Dies between two blocks.
    pub fn kill(&mut self) {
        let height = self.engine().engine().height();
        self.life = None;
        self.die(height);
    }

    fn die(&mut self, height: u64) {
        self.deaths += 1;
        self.trying = height;
        if let Fault::ForgetsAll(from) = self.fault
            && height >= from
        {
            self.fault = Fault::None;
            std::fs::remove_dir_all(self.dir.path()).expect("its own directory");
            std::fs::create_dir(self.dir.path()).expect("its own directory");
        }
    }
}

/// What comes of `work`, `None` where it dies of it.
fn mortal<T>(work: impl FnOnce() -> T) -> Option<T> {
    fail::unwind_here();
    let outcome = catch_unwind(AssertUnwindSafe(work));
    fail::arm_here(None);
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(panic) if panic.is::<Died>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

fn at(unix_ms: u64) -> Time {
    let seconds = i64::try_from(unix_ms / 1000).expect("a time of our days");
    let nanos = u32::try_from(unix_ms % 1000).expect("below a thousand") * 1_000_000;
    Time::from_unix_timestamp(seconds, nanos).expect("a time of our days")
}
