//! Records of the chain with a proof under a header that a light client verified.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use borsh::BorshDeserialize;
use chain_types::StateKey;
use comet::rpc::{Client, Genesis};
use light::{LightBlock, LightClient, LightError, PlainBlock, Provider, Terms, Trust};
use serde::{Deserialize, Serialize};
use tendermint::{Hash, Time, block::Height};

use crate::config::chain as config;

/// The path of one raw record.
const KEY_PATH: &str = "/store/app/key";
/// How long is waited for the block whose header proves the state asked for.
const NEXT_BLOCK: Duration = Duration::from_secs(15);
/// How long is waited so that the newest state is the one that is proved.
const FRESH_WAIT: Duration = Duration::from_secs(3);
/// Between two looks for a block.
const POLL: Duration = Duration::from_millis(200);

/// A record's bytes and what stands behind them.
pub struct Answer {
    /// The state after this block.
    pub height: u64,
    /// `None`: there is no such record.
    value: Option<Vec<u8>>,
    /// Why it may be believed.
    pub basis: Basis,
}

/// Why an answer may be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// A proof under a verified header.
    Proved {
        /// Where the trust in that header began.
        began: Began,
        /// Hash of the header.
        header: Hash,
    },
    /// The endpoint's word.
    Unproved(String),
}

/// Where trust began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Began {
    /// Headers that were verified by an earlier question.
    Kept,
    /// A height and hash that the operator gave.
    Given,
    /// The validators of the home's genesis file.
    Genesis,
    /// Several endpoints that agreed, seen for the first time.
    Agreed,
    /// One endpoint alone, seen for the first time.
    FirstUse(String),
}

impl Began {
    /// For people.
    fn words(&self) -> String {
        match self {
            Self::Kept => "verified from a header that was verified before".to_owned(),
            Self::Given => "verified from the given header".to_owned(),
            Self::Genesis => "verified from the genesis file".to_owned(),
            Self::Agreed => "trusted at first use, as all endpoints have the same".to_owned(),
            Self::FirstUse(who) => format!("trusted at first use, on the word of {who} alone"),
        }
    }
}

impl Basis {
    /// Whether a proof was checked.
    pub fn is_proved(&self) -> bool {
        matches!(self, Self::Proved { .. })
    }

    /// For people.
    pub fn words(&self) -> String {
        match self {
            Self::Unproved(who) => format!("unproved: the word of {who}"),
            Self::Proved { began, header } => {
                format!("proved under header {header}, {}", began.words())
            }
        }
    }
}

impl Answer {
    /// The record.
    ///
    /// # Errors
    /// It is of another version.
    pub fn decode<T: BorshDeserialize>(&self) -> anyhow::Result<Option<T>> {
        let record = self.value.as_deref().map(borsh::from_slice).transpose();
        record.context("the record has another form than this version knows: use a newer one")
    }
}

/// What is kept between two questions.
#[derive(Serialize, Deserialize)]
struct Kept {
    blocks: Vec<PlainBlock>,
}

/// Follows the chain of one or more endpoints.
pub struct Follower {
    clients: Vec<Client>,
    /// `config/genesis.json` of the home.
    genesis: PathBuf,
    /// Verified headers of earlier questions.
    kept: PathBuf,
    given: Option<config::Trust>,
    light: Option<(LightClient, Began)>,
}

impl Follower {
    /// Asks nobody yet. `clients` are at least one.
    pub fn new(clients: Vec<Client>, home: &Path, given: Option<config::Trust>) -> Self {
        let (genesis, kept) = (home.join("config/genesis.json"), home.join("light/query.json"));
        Self { clients, genesis, kept, given, light: None }
    }

    /// The endpoint that answers.
    pub fn primary(&self) -> &Client {
        &self.clients[0]
    }

    /// Why the headers verified so far may be believed.
    pub fn began_words(&self) -> String {
        let began = self.light.as_ref().map(|(_, began)| began.words());
        began.unwrap_or_else(|| "nothing is verified yet".to_owned())
    }

    /// The record as the endpoint has it.
    pub fn unproved(&self, key: StateKey, height: Option<u64>) -> anyhow::Result<Answer> {
        let client = self.primary();
        let answer =
            client.abci_query(KEY_PATH, &key.to_bytes(), height.unwrap_or_default(), false)?;
        if answer.code != 0 {
            bail!("{} does not tell: {} (code {})", client.name(), answer.log, answer.code);
        }
        let value = Some(answer.value).filter(|value| !value.is_empty());
        let basis = Basis::Unproved(client.name().to_owned());
        Ok(Answer { height: answer.height, value, basis })
    }

    /// The record at `height`, or at the newest height that can be proved, with its proof checked.
    pub fn proved(&mut self, key: StateKey, height: Option<u64>) -> anyhow::Result<Answer> {
        let header = match height {
            // The state after a block is named by the header of the next.
            Some(height) => self.header(Some(height.checked_add(1).context("no such height")?))?,
            None => {
                self.await_next()?;
                self.header(None)?
            }
        };
        let header = header.signed_header.header;
        let height = header.height.value() - 1;
        let client = self.primary();
        let key = key.to_bytes();
        let answer = client.abci_query(KEY_PATH, &key, height, true)?;
        if answer.code != 0 {
            bail!("{} does not tell: {} (code {})", client.name(), answer.log, answer.code);
        }
        let lies = |what: String| {
            anyhow::anyhow!(
                "what {} says about height {height} is not the chain's ({what}): do not use this \
                 endpoint",
                client.name()
            )
        };
        if answer.height != height {
            return Err(lies(format!("it answers for height {}", answer.height)));
        }
        let value = Some(answer.value).filter(|value| !value.is_empty());
        light::proof::verify(header.app_hash.as_bytes(), &key, value.as_deref(), &answer.proof_ops)
            .map_err(|error| lies(error.to_string()))?;
        let began = self.light.as_ref().map(|(_, began)| began.clone());
        let began = began.expect("a header was verified above");
        Ok(Answer { height, value, basis: Basis::Proved { began, header: header.hash() } })
    }

    /// Waits for the header that names the newest state, so that whoever asks sees what a block has
    /// just done. Where blocks are rarer than [`FRESH_WAIT`] the state before is good enough.
    fn await_next(&self) -> anyhow::Result<()> {
        let newest = self.primary().status()?.latest_height;
        let until = Instant::now() + FRESH_WAIT;
        while Instant::now() < until && self.primary().status()?.latest_height <= newest {
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// A verified block: the one at `height`, waited for where it is the next to come, or the
    /// newest. Its height is above 1, so that there is a state to be proved under it.
    pub fn header(&mut self, height: Option<u64>) -> anyhow::Result<LightBlock> {
        let until = Instant::now() + NEXT_BLOCK;
        loop {
            let newest = self.clients[0].status()?.latest_height;
            let need = height.unwrap_or(2).max(2);
            if newest >= need {
                break;
            }
            if need > newest + 2 {
                bail!(
                    "{} is at height {newest}, so that the state of height {} cannot be proved yet",
                    self.clients[0].name(),
                    need - 1
                );
            }
            if Instant::now() >= until {
                bail!("{} makes no block: it stays at height {newest}", self.clients[0].name());
            }
            thread::sleep(POLL);
        }
        let height = height.map(Height::try_from).transpose().context("no such height")?;
        if self.light.is_none() {
            self.light = Some(self.begin()?);
        }
        let (light, _) = self.light.as_mut().expect("begun above");
        let block = light.verify_to(height, Time::now())?;
        for unheard in light.unheard() {
            eprintln!("{unheard} did not answer as a witness");
        }
        self.keep();
        Ok(block)
    }

    fn begin(&self) -> anyhow::Result<(LightClient, Began)> {
        let id = self.clients[0].status()?.chain_id;
        let genesis = self.home_genesis()?.filter(|genesis| genesis.chain_id == id);
        let id = id.parse().with_context(|| {
            format!("{} names a chain with an impossible id", self.clients[0].name())
        })?;
        let terms = Terms::new(id);
        let providers = || -> Vec<Arc<dyn Provider>> {
            self.clients
                .iter()
                .map(|client| Arc::new(client.clone()) as Arc<dyn Provider>)
                .collect()
        };
        let now = Time::now();
        if self.given.is_none()
            && let Some(mut light) =
                LightClient::resume(terms.clone(), providers(), self.read_kept())
        {
            match light.verify_to(None, now) {
                // Too old to be of use: begin anew.
                Err(LightError::Expired { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok((light, Began::Kept)),
            }
        }
        let (trust, began) = if let Some(config::Trust { height, hash }) = self.given {
            let height = Height::try_from(height).context("--trust names no height")?;
            (Trust::Header { height, hash: Hash::Sha256(hash) }, Began::Given)
        } else if let Some(genesis) = genesis.filter(|genesis| !genesis.validators.is_empty()) {
            let initial_height = Height::try_from(genesis.initial_height)?;
            (Trust::Genesis { initial_height, validators: genesis.validators }, Began::Genesis)
        } else if self.clients.len() > 1 {
            (Trust::FirstUse, Began::Agreed)
        } else {
            let first = self.clients[0].commit(None)?.header;
            let who = self.clients[0].name().to_owned();
            (Trust::Header { height: first.height, hash: first.hash() }, Began::FirstUse(who))
        };
        Ok((LightClient::begin(terms, providers(), &trust, now)?, began))
    }

    /// The home's genesis; `None`: it has none.
    fn home_genesis(&self) -> anyhow::Result<Option<Genesis>> {
        let text = match fs::read(&self.genesis) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(self.genesis.display().to_string()),
        };
        let document = serde_json::from_slice(&text).and_then(Genesis::parse);
        document.map(Some).with_context(|| self.genesis.display().to_string())
    }

    fn read_kept(&self) -> Vec<PlainBlock> {
        // Damaged or absent: it saves a step, no more.
        let kept = fs::read(&self.kept).ok();
        let kept = kept.and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
        kept.map_or(Vec::new(), |kept| kept.blocks)
    }

    /// Keeps what was verified for the next question; a home that cannot be written forgets it.
    fn keep(&self) {
        let Some((light, _)) = &self.light else { return };
        let (Some(dir), Some(home)) = (self.kept.parent(), self.genesis.ancestors().nth(2)) else {
            return;
        };
        // A question makes no home.
        if !home.is_dir() {
            return;
        }
        let text = serde_json::to_string(&Kept { blocks: light.keep() });
        let temp = self.kept.with_extension(format!("new-{}", std::process::id()));
        let written = text.map_err(std::io::Error::other).and_then(|text| {
            fs::create_dir_all(dir)?;
            fs::write(&temp, text)?;
            fs::rename(&temp, &self.kept)
        });
        if written.is_err() {
            let _ = fs::remove_file(&temp);
        }
    }
}
